package mdevtest

import (
	"context"

	"github.com/softmdev/softmdev/mdev"
)

// Device is a scriptable fake device.
type Device struct{ info *mdev.Info }

// NewDevice returns a fake device of that description; nil is that of [Info].
func NewDevice(info *mdev.Info) *Device { return &Device{info: info} }

// Info implements mdev.Device.
func (d *Device) Info() *mdev.Info { return d.info }

// Open implements mdev.Device.
func (d *Device) Open(ctx context.Context, at *mdev.Attachment) error { return nil }

// Close implements mdev.Device.
func (d *Device) Close() {}

// Read implements mdev.Device.
func (d *Device) Read(ctx context.Context, region int, off uint64, p []byte) error { return nil }

// Write implements mdev.Device.
func (d *Device) Write(ctx context.Context, region int, off uint64, p []byte) error { return nil }

// Reset implements mdev.Device.
func (d *Device) Reset(ctx context.Context, kind mdev.ResetKind) error { return nil }
