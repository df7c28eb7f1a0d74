package demo

import (
	"context"
	"fmt"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Config says what a device is like. A nil *Config is the zero Config.
type Config struct {
	// Mmap makes BAR 2 a region that a VMM may map.
	Mmap bool
}

// Set sets the attribute of that name: "mmap" to "on" or "off".
func (c *Config) Set(name, value string) error {
	if name != "mmap" || value != "on" && value != "off" {
		return fmt.Errorf("attribute %s=%s: %w", name, value, errs.ErrInvalid)
	}
	c.Mmap = value == "on"
	return nil
}

// Device is a demo device.
type Device struct{ info mdev.Info }

// New returns a device. Destroy frees what it holds while it is not open.
func New(cfg *Config) (*Device, error) { return &Device{}, nil }

// Destroy frees the device, which is closed.
func (d *Device) Destroy() {}

// Info implements mdev.Device.
func (d *Device) Info() *mdev.Info { return &d.info }

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
