package vfiouser

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// ClientConfig says what a [Client] asks for and offers. The zero value, or
// nil, is the default.
type ClientConfig struct {
	// Timeout bounds each call whose context has no deadline; 0 means 5 s,
	// what QEMU waits.
	Timeout time.Duration
	// MaxDataXfer is the largest DMA_READ or DMA_WRITE that is served, in
	// bytes; 0 means 1 MiB.
	MaxDataXfer int
	// MaxFDs is how many files are taken in one message; 0 means 16.
	MaxFDs int
	// MaxMaps is how many mappings the server is asked to allow; 0 means
	// 65535.
	MaxMaps int
	// TwinSocket asks for a second socket for the server's commands.
	TwinSocket bool
	// Memory is what DMA_READ and DMA_WRITE are served from. nil means a
	// store of the client's own, which MapDMA and UnmapDMA keep; a store that
	// is given is left as it is, and may be shared by many clients.
	Memory *translate.Store
	// Log gets what goes wrong without a caller to tell; nil means nowhere.
	Log *slog.Logger
}

// Client is a connection to a vfio-user server.
type Client struct{}

// Dial connects to the server that listens at path.
func Dial(ctx context.Context, path string, cfg *ClientConfig) (*Client, error) {
	return nil, errs.ErrNotSupported
}

// NewClient makes a client of the connected socket fd, which it takes over,
// also when it fails.
func NewClient(ctx context.Context, fd int, cfg *ClientConfig) (*Client, error) {
	return nil, errs.ErrNotSupported
}

// ServerCaps are what the server said of itself, with the defaults of the
// specification for what it did not say.
type ServerCaps struct {
	Major, Minor  uint16
	MaxFDs        int    // files that the server takes in a message
	MaxDataXfer   int    // bytes of one region access
	PageSizes     uint64 // of mappings, one bit each
	MaxMaps       int
	WriteMultiple bool // WriteMulti is understood
	TwinSocket    bool // the server's commands have a socket of their own
}

// Server says what the server offered.
func (c *Client) Server() ServerCaps { return ServerCaps{} }

// Close ends the connection.
func (c *Client) Close() error { return nil }

// Done is closed when the connection is lost.
func (c *Client) Done() <-chan struct{} { return nil }

// Err says why the connection was lost.
func (c *Client) Err() error { return nil }

// DeviceInfo is what a device says of itself.
type DeviceInfo struct {
	Flags   wire.DeviceFlags
	Regions int
	IRQs    int
}

// DeviceInfo asks what the device is.
func (c *Client) DeviceInfo(ctx context.Context) (DeviceInfo, error) {
	return DeviceInfo{}, errs.ErrNotSupported
}

// RegionInfo asks for a region. The file in it, if any, is the caller's.
func (c *Client) RegionInfo(ctx context.Context, region int) (*mdev.RegionInfo, error) {
	return nil, errs.ErrNotSupported
}

// IOFD is a place in a region where a file may be used instead of a write.
type IOFD struct {
	mdev.IOEvent
	Type wire.IOFDType
	File *os.File // the caller's
}

// RegionIOFDs asks for the files of a region.
func (c *Client) RegionIOFDs(ctx context.Context, region int) ([]IOFD, error) {
	return nil, errs.ErrNotSupported
}

// IRQInfo asks for an interrupt index.
func (c *Client) IRQInfo(ctx context.Context, index int) (mdev.IRQInfo, error) {
	return mdev.IRQInfo{}, errs.ErrNotSupported
}

// SetIRQs sets interrupts up. The descriptors in req stay the caller's.
func (c *Client) SetIRQs(ctx context.Context, req mdev.IRQRequest) error { return errs.ErrNotSupported }

// Read reads from a region.
func (c *Client) Read(ctx context.Context, region int, off uint64, p []byte) error {
	return errs.ErrNotSupported
}

// Write writes to a region.
func (c *Client) Write(ctx context.Context, region int, off uint64, p []byte) error {
	return errs.ErrNotSupported
}

// PostWrite writes to a region and does not wait for it.
func (c *Client) PostWrite(ctx context.Context, region int, off uint64, p []byte) error {
	return errs.ErrNotSupported
}

// WriteMulti does several writes of 1 to 8 bytes in one message. It returns
// how many were done.
func (c *Client) WriteMulti(ctx context.Context, w []wire.MultiEntry) (int, error) {
	return 0, errs.ErrNotSupported
}

// PostWriteMulti is WriteMulti that does not wait.
func (c *Client) PostWriteMulti(ctx context.Context, w []wire.MultiEntry) error {
	return errs.ErrNotSupported
}

// MapDMA lets the device reach mem, by messages.
func (c *Client) MapDMA(ctx context.Context, iova addr.IOVA, n addr.Len, access addr.Access, mem translate.Memory) error {
	return errs.ErrNotSupported
}

// MapDMAFD lets the device reach the file fd from off on. fd stays the
// caller's, who may close it when the call returns.
func (c *Client) MapDMAFD(ctx context.Context, iova addr.IOVA, n addr.Len, access addr.Access, fd int, off int64) error {
	return errs.ErrNotSupported
}

// UnmapDMA takes one mapping back.
func (c *Client) UnmapDMA(ctx context.Context, iova addr.IOVA, n addr.Len) error {
	return errs.ErrNotSupported
}

// UnmapDMADirty is UnmapDMA that reports what the device wrote: bit n of
// bitmap is set for page n.
func (c *Client) UnmapDMADirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error {
	return errs.ErrNotSupported
}

// UnmapAllDMA takes all mappings back.
func (c *Client) UnmapAllDMA(ctx context.Context) error { return errs.ErrNotSupported }

// Reset resets the device.
func (c *Client) Reset(ctx context.Context) error { return errs.ErrNotSupported }

// ProbeFeature asks whether the device has a feature, and the operations in
// ops (wire.FeatureGet, wire.FeatureSet) on it.
func (c *Client) ProbeFeature(ctx context.Context, f wire.Feature, ops wire.FeatureFlags) error {
	return errs.ErrNotSupported
}

// GetFeature gets a feature: n bytes, asked for with req.
func (c *Client) GetFeature(ctx context.Context, f wire.Feature, req []byte, n int) ([]byte, error) {
	return nil, errs.ErrNotSupported
}

// SetFeature sets a feature to data.
func (c *Client) SetFeature(ctx context.Context, f wire.Feature, data []byte) error {
	return errs.ErrNotSupported
}

// Migration asks which kinds of migration the device can do.
func (c *Client) Migration(ctx context.Context) (mdev.MigrationFlags, error) {
	return 0, errs.ErrNotSupported
}

// MigrationState asks for the migration state.
func (c *Client) MigrationState(ctx context.Context) (mdev.MigState, error) {
	return 0, errs.ErrNotSupported
}

// SetMigrationState moves the device to another migration state.
func (c *Client) SetMigrationState(ctx context.Context, to mdev.MigState) error {
	return errs.ErrNotSupported
}

// ReadMigration reads the state of the device; io.EOF ends it.
func (c *Client) ReadMigration(ctx context.Context, p []byte) (int, error) {
	return 0, errs.ErrNotSupported
}

// WriteMigration writes the state of the device.
func (c *Client) WriteMigration(ctx context.Context, p []byte) error { return errs.ErrNotSupported }

// LogStart starts the log of what the device writes.
func (c *Client) LogStart(ctx context.Context, pageSize addr.Len, ranges []addr.Range[addr.IOVA]) error {
	return errs.ErrNotSupported
}

// LogStop stops the log.
func (c *Client) LogStop(ctx context.Context) error { return errs.ErrNotSupported }

// LogReport reports and clears what the device wrote.
func (c *Client) LogReport(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error {
	return errs.ErrNotSupported
}
