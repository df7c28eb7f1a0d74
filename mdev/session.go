package mdev

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// SessionConfig configures a [Session]. A nil one is the zero value.
type SessionConfig struct {
	Name      string
	Log       *slog.Logger      // nil: silent
	Space     *iommu.Space      // nil: a space of its own
	Store     *translate.Store  // nil: a store of its own; else it is shared and not closed
	Pinner    *pinning.Pinner   // given if and only if Store is
	Translate *translate.Config // for a store of its own
	Pinning   *pinning.Config   // for a pinner of its own
	Drain     time.Duration     // bound of a wait for the device; 0: 5 s
	Record    Recorder          // may be nil
	Closed    func()            // called once, when the session has closed and nothing of it is left; may be nil
	Fault     *fault.Points     // fails steps in tests
}

// Session is one VMM's hold on a device.
type Session struct {
	dev    Device
	info   *Info
	store  *translate.Store
	pinner *pinning.Pinner
	irqs   *IRQs

	closed   sync.Once
	onClosed func()
}

// Open opens dev for a VMM.
func Open(ctx context.Context, dev Device, cfg *SessionConfig) (*Session, error) {
	s := &Session{dev: dev, info: dev.Info()}
	if cfg != nil {
		s.onClosed = cfg.Closed
	}
	return s, nil
}

// Info describes the device.
func (s *Session) Info() *Info { return s.info }

// Store is the session's store.
func (s *Session) Store() *translate.Store { return s.store }

// Pinner is the session's pinner.
func (s *Session) Pinner() *pinning.Pinner { return s.pinner }

// IRQs are the session's interrupts.
func (s *Session) IRQs() *IRQs { return s.irqs }

// State is what the session is at.
func (s *Session) State() State { return StateClosed }

// Map maps memory for the device's DMA.
func (s *Session) Map(iova addr.IOVA, n addr.Len, mem translate.Memory, access addr.Access) error {
	return nil
}

// Unmap removes mappings.
func (s *Session) Unmap(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	return 0, nil
}

// UnmapDirty is Unmap that reports what was written.
func (s *Session) UnmapDirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Len, error) {
	return 0, nil
}

// UnmapAll removes all mappings.
func (s *Session) UnmapAll(ctx context.Context) (addr.Len, error) { return 0, nil }

// Read reads from a region.
func (s *Session) Read(ctx context.Context, region int, off uint64, p []byte) error { return nil }

// Write writes to a region.
func (s *Session) Write(ctx context.Context, region int, off uint64, p []byte) error { return nil }

// SetIRQs does a SET_IRQS request.
func (s *Session) SetIRQs(req IRQRequest) error { return nil }

// Reset resets the device.
func (s *Session) Reset(ctx context.Context) error { return nil }

// Quiesce stops the device's DMA and interrupts.
func (s *Session) Quiesce(ctx context.Context) error { return nil }

// Unquiesce lets the device go on.
func (s *Session) Unquiesce() {}

// MigrationState is the migration state.
func (s *Session) MigrationState() MigState { return MigRunning }

// SetMigrationState moves the device to another migration state.
func (s *Session) SetMigrationState(ctx context.Context, to MigState) error { return nil }

// ReadMigration reads the device's state.
func (s *Session) ReadMigration(p []byte) (int, error) { return 0, nil }

// WriteMigration writes the device's state.
func (s *Session) WriteMigration(p []byte) error { return nil }

// LogStart starts the dirty log.
func (s *Session) LogStart(pageSize addr.Len, ranges []addr.Range[addr.IOVA]) error { return nil }

// LogStop stops the dirty log.
func (s *Session) LogStop() error { return nil }

// LogReport reports and clears what was written.
func (s *Session) LogReport(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error { return nil }

// IOEventFD is an eventfd whose signal stands for a write to a region.
type IOEventFD struct {
	IOEvent
	FD int // belongs to the session
}

// IOEventFDs are the eventfds of a region, made on demand.
func (s *Session) IOEventFDs(region int) ([]IOEventFD, error) { return nil, nil }

// AddIOEvent has each signal of the eventfd fd, which is taken over, stand for
// a write of the low size bytes of data at off (VFIO_DEVICE_IOEVENTFD).
func (s *Session) AddIOEvent(fd, region int, off uint64, size uint32, data uint64) error { return nil }

// Close ends the session.
func (s *Session) Close(ctx context.Context) error {
	s.closed.Do(func() {
		if s.onClosed != nil {
			s.onClosed()
		}
	})
	return nil
}

// Stats are numbers about a session.
func (s *Session) Stats() SessionStats { return SessionStats{} }
