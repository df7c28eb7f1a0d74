package mdev

import (
	"context"
	"io"
	"log/slog"
	"strconv"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
)

// Device is what a mediator or an emulation implements. A [Session] drives it:
// it has checked every request, and calls
//
//	Open and Close       once each, in turn, and nothing between Close and Open
//	Read, Write          from any number of goroutines at a time
//	Reset, Quiesce,      one at a time, with no Read or Write under way
//	Unquiesce
//	Save, Load, PreCopy  one at a time on a goroutine of its own; Read and
//	                     Write at the same time as PreCopy only
//
// A context that ends means: stop waiting and fail. What a device cannot stop
// it must bound.
type Device interface {
	// Info describes the device; the same each time. It may be called at
	// any time.
	Info() *Info
	// Open gives the device to a VMM: registers are as after a reset, what
	// persists (a disk) is as it was left. On an error nothing of the
	// attachment is used afterwards.
	Open(ctx context.Context, at *Attachment) error
	// Close ends what Open began, in whatever state it finds the device,
	// also quiesced or half-way through a migration. It drains: afterwards
	// nothing of the attachment is used and no lease is left. A
	// Reset(ResetLost) comes before it. It must return in bounded time; a
	// session cannot close before.
	Close()
	// Read fills p from the region. Region, bounds and flags were checked,
	// and p is not empty. It must not wait for DMA: see Write.
	Read(ctx context.Context, region int, off uint64, p []byte) error
	// Write stores p, which is not kept, in the region. It must not wait
	// for DMA that it starts, but accept, queue and return: a VMM serves
	// DMA by messages on the thread that waits for this access
	// (specification: vfio-user, DMA_READ; QEMU's main loop).
	Write(ctx context.Context, region int, off uint64, p []byte) error
	// Reset brings the device to its initial state. When it returns no DMA
	// of what was begun before it is under way, or will be. A quiesced
	// device stays quiesced.
	//
	// ResetDevice: the VMM asked (VFIO_DEVICE_RESET). ResetLost: the VMM is
	// gone, Close follows; work in flight should end at once.
	//
	// A function-level reset is not this but a write to configuration space,
	// which the device handles itself.
	Reset(ctx context.Context, kind ResetKind) error
}

// ResetKind says why a device is reset.
type ResetKind uint8

// The kinds of reset.
const (
	ResetDevice ResetKind = iota // the VMM asked
	ResetLost                    // the VMM is gone
)

// String names the kind.
func (k ResetKind) String() string {
	switch k {
	case ResetDevice:
		return "device"
	case ResetLost:
		return "lost"
	}
	return "ResetKind(" + strconv.Itoa(int(k)) + ")"
}

// Quiescer is a device that can stop.
type Quiescer interface {
	// Quiesce returns when no DMA is under way, and from then on the device
	// does none and raises no interrupt until Unquiesce. It may finish what
	// it was doing, or put it off. Accesses are still answered; what they
	// start waits. On an error the device goes on as before.
	Quiesce(ctx context.Context) error
	// Unquiesce lets the device go on. It does not wait.
	Unquiesce()
}

// Migrator is a device whose state can be saved and loaded. It is quiesced for
// both.
//
// Save and Load must notice that they are at their end by themselves (lengths
// in the data), and Load must trust nothing: its data comes from a VMM.
type Migrator interface {
	Quiescer
	// Save writes the device's state. Writes block until the VMM reads, and
	// fail when it has given up.
	Save(ctx context.Context, w io.Writer) error
	// Load replaces the device's state with what Save wrote, preceded by
	// what PreCopy did if the device was saved that way; the two come as one
	// stream, cut anywhere. It reads up to io.EOF or to its end, bounds what
	// it allocates, and leaves the device usable by Reset when it fails.
	Load(ctx context.Context, r io.Reader) error
}

// PreCopier is a Migrator that has something to send while it still runs.
type PreCopier interface {
	// PreCopy writes a first, maybe stale, state of a running device, once
	// in a stream. Save follows it, or the migration is given up.
	PreCopy(ctx context.Context, w io.Writer) error
}

// Reporter is a device that has something to tell about itself, for metrics,
// people and tests.
type Reporter interface {
	// Report is called at any time while the device is open, from any
	// goroutine.
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

// Attachment is what a device gets to work with while it is open. It must not
// be used after Close.
type Attachment struct {
	Name   string // for the owner of its leases and for its domain
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
