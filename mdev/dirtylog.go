package mdev

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// maxLogRanges is LOG_MAX_RANGES of drivers/vfio/vfio_main.c with pages of
// 4 KiB.
const maxLogRanges = 256

// deviceLog is a session's dirty log: the store's, and what was dirty in
// mappings that are gone, since a device's log knows addresses and no mappings.
type deviceLog struct {
	mu     sync.Mutex              // held across the store's log calls; above the store's locks
	on     bool                    // guarded by mu
	ranges []addr.Range[addr.IOVA] // guarded by mu; ascending, whole pages; nil means all
	gone   dirtySet                // has a lock of its own, below the store's
}

// LogStart is VFIO_DEVICE_FEATURE_DMA_LOGGING_START: from now on LogReport
// tells what the device wrote in the ranges, or anywhere if there are none.
// pageSize is a hint that is not needed here; the ranges are multiples of it.
//
// Errors: errs.ErrInvalid when pageSize is no power of two, ranges overlap or
// the log is on; errs.ErrMisaligned; errs.ErrBudget (E2BIG) above 256 ranges;
// errs.ErrNotSupported when the container is shared, whose log is not this
// device's alone; those of [translate.Store.DirtyStart].
func (s *Session) LogStart(pageSize addr.Len, ranges []addr.Range[addr.IOVA]) error {
	if err := s.alive("dirty log"); err != nil {
		return err
	}
	whole, err := checkLogRanges(pageSize, ranges)
	if err != nil {
		return fmt.Errorf("dirty log: %w", err)
	}
	if s.shared {
		return fmt.Errorf("dirty log of one device of a container: %w", errs.ErrNotSupported)
	}
	d := &s.dirty
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.on {
		return fmt.Errorf("dirty log is on: %w", errs.ErrInvalid)
	}
	s.store.DirtyVanished(d.gone.add)
	if err := s.store.DirtyStart(); err != nil {
		s.store.DirtyVanished(nil)
		return err
	}
	d.on, d.ranges = true, whole
	return nil
}

func checkLogRanges(pageSize addr.Len, ranges []addr.Range[addr.IOVA]) ([]addr.Range[addr.IOVA], error) {
	if bits.OnesCount64(uint64(pageSize)) != 1 {
		return nil, fmt.Errorf("pages of %v: %w", pageSize, errs.ErrInvalid)
	}
	if len(ranges) > maxLogRanges {
		return nil, fmt.Errorf("%d ranges of at most %d: %w", len(ranges), maxLogRanges, errs.ErrBudget)
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	whole := slices.Clone(ranges)
	slices.SortFunc(whole, func(a, b addr.Range[addr.IOVA]) int { return cmp.Compare(a.Start(), b.Start()) })
	for i, r := range whole {
		if (uint64(r.Start())|(uint64(r.Last())+1))&uint64(pageSize-1) != 0 {
			return nil, fmt.Errorf("range %v in pages of %v: %w", r, pageSize, errs.ErrMisaligned)
		}
		if i > 0 && whole[i-1].Overlaps(r) {
			return nil, fmt.Errorf("ranges %v and %v overlap: %w", whole[i-1], r, errs.ErrInvalid)
		}
	}
	// The log's pages may be larger; two ranges may share one then, and it is
	// reported with either.
	for i := range whole {
		whole[i] = whole[i].Pages()
	}
	return whole, nil
}

// LogStop is VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: it stops and forgets the
// log. Stopping twice does nothing.
func (s *Session) LogStop() error {
	if err := s.alive("dirty log"); err != nil {
		return err
	}
	s.dirty.mu.Lock()
	defer s.dirty.mu.Unlock()
	return s.dirty.stopLocked(s.store)
}

// LogReport is VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: bit i of bitmap, lowest
// first, says whether the device wrote any of the pageSize bytes at
// iova + i*pageSize since the log was started or they were last reported.
// What it reports it clears; a write at the same time is reported now or next
// time, and memory that the device holds for writing each time. Unmapping
// loses nothing. Outside the ranges of LogStart nothing is reported.
//
// Errors: errs.ErrInvalid when the log is off, and those of
// [translate.Store.DirtyTake].
func (s *Session) LogReport(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error {
	if err := s.alive("dirty log"); err != nil {
		return err
	}
	d := &s.dirty
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on {
		return fmt.Errorf("dirty log is off: %w", errs.ErrInvalid)
	}
	if err := s.store.DirtyTake(iova, n, pageSize, bitmap, d.ranges); err != nil {
		return err
	}
	// Afterwards: what vanishes in between is in this report already.
	asked := addr.MustRange(iova, n) // DirtyTake has checked it
	set := func(r addr.Range[addr.IOVA]) {
		shift := bits.TrailingZeros64(uint64(pageSize))
		for i := uint64(r.Start()-iova) >> shift; i <= uint64(r.Last()-iova)>>shift; i++ {
			bitmap[i>>6] |= 1 << (i & 63)
		}
	}
	if d.ranges == nil {
		d.gone.take(asked, set)
	}
	for _, r := range d.ranges {
		if part, ok := r.Intersect(asked); ok {
			d.gone.take(part, set)
		}
	}
	return nil
}

func (d *deviceLog) stopLocked(st *translate.Store) error {
	if !d.on {
		return nil
	}
	err := st.DirtyStop()
	st.DirtyVanished(nil)
	d.on, d.ranges = false, nil
	d.gone.clear()
	return err
}

func (d *deviceLog) close(st *translate.Store) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.stopLocked(st)
}
