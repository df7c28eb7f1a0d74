package mdev

import (
	"context"
	"io"
	"log/slog"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
)

// Device is what a mediator or an emulation implements. It is driven through
// a [Session], which checks every request first.
type Device interface {
	// Info describes the device; the same each time.
	Info() *Info
	// Open gives the device to a VMM: registers are as after a reset, what
	// persists (a disk) is as it was left.
	Open(ctx context.Context, at *Attachment) error
	// Close ends what Open began. It drains: afterwards nothing of the
	// attachment is used and no lease is left.
	Close()
	// Read fills p from the region. Region, bounds and flags were checked.
	Read(ctx context.Context, region int, off uint64, p []byte) error
	// Write stores p in the region. Region, bounds and flags were checked.
	// It must not wait for DMA that it starts.
	Write(ctx context.Context, region int, off uint64, p []byte) error
	// Reset brings the device to its initial state.
	Reset(ctx context.Context, kind ResetKind) error
}

// ResetKind says why a device is reset.
type ResetKind uint8

// The kinds of reset.
const (
	ResetDevice ResetKind = iota // the VMM asked (VFIO_DEVICE_RESET)
	ResetLost                    // the client is gone
)

// Quiescer is a device that can stop: after Quiesce it does no DMA and raises
// no interrupt until Unquiesce.
type Quiescer interface {
	Quiesce(ctx context.Context) error
	Unquiesce()
}

// Migrator is a device whose state can be saved and loaded.
type Migrator interface {
	Quiescer
	Save(ctx context.Context, w io.Writer) error
	Load(ctx context.Context, r io.Reader) error
}

// PreCopier is a Migrator that has something to send while it still runs.
type PreCopier interface {
	PreCopy(ctx context.Context, w io.Writer) error
}

// Reporter is a device that has something to tell about itself.
type Reporter interface {
	Report() []Metric
}

// Metric is a number that a device reports.
type Metric struct {
	Name   string
	Labels []Label
	Value  float64
}

// Label qualifies a [Metric].
type Label struct{ Name, Value string }

// Attachment is what a device gets to work with while it is open.
type Attachment struct {
	Name   string
	Store  *translate.Store
	Pinner *pinning.Pinner
	Space  *iommu.Space
	IRQs   *IRQs
	Log    *slog.Logger // never nil
	Record Recorder     // may be nil
}

// Recorder takes what a device was asked to do, to be replayed later. What a
// program is, is between the device and the recorder.
type Recorder interface {
	Record(program any) error
}
