package ccwdev

import (
	"context"
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/mdev"
)

// Config says what a device is.
type Config struct {
	Unit  channel.Device
	DevNo uint16
	Order binary.ByteOrder
}

// Device is a channel-attached device.
type Device struct {
	cfg Config
}

var _ mdev.Device = (*Device)(nil)

// New makes a device.
func New(cfg Config) (*Device, error) { return &Device{cfg: cfg}, nil }

// Info implements [mdev.Device].
func (d *Device) Info() *mdev.Info { return &mdev.Info{API: mdev.APICCW} }

// Open implements [mdev.Device].
func (d *Device) Open(ctx context.Context, at *mdev.Attachment) error { return nil }

// Close implements [mdev.Device].
func (d *Device) Close() {}

// Read implements [mdev.Device].
func (d *Device) Read(ctx context.Context, region int, off uint64, p []byte) error { return nil }

// Write implements [mdev.Device].
func (d *Device) Write(ctx context.Context, region int, off uint64, p []byte) error { return nil }

// Reset implements [mdev.Device].
func (d *Device) Reset(ctx context.Context, kind mdev.ResetKind) error { return nil }
