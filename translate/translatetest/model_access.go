package translatetest

import (
	"context"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// find is the mapping that holds iova, or nil.
func (s *modelState) find(iova addr.IOVA) *modelMapping {
	for i := range s.maps {
		if s.maps[i].r.Contains(iova) {
			return &s.maps[i]
		}
	}
	return nil
}

// Lookup implements [Store]. Suspended memory has no address, so that there is
// nothing to find.
func (m *Model) Lookup(iova addr.IOVA) (Run, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.state.find(iova)
	if old == nil || old.suspended {
		return Run{}, false
	}
	run := Run{Access: old.access, Kind: old.mem.Kind, Len: addr.Len(old.r.Last()-iova) + 1}
	if old.mem.HVA != 0 {
		run.HVA = old.mem.HVA + addr.HVA(iova-old.r.Start())
	}
	return run, true
}

// CheckAccess: every byte is mapped, not suspended, and allows want; the error
// is at the first byte that is not so.
func (m *Model) CheckAccess(iova addr.IOVA, n addr.Len, want addr.Access) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.check(iova, n, want)
}

func (s *modelState) check(iova addr.IOVA, n addr.Len, want addr.Access) error {
	if n == 0 {
		return nil // no byte, nothing to refuse
	}
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		return errs.Addr("iova", uint64(iova), errs.ErrOverflow)
	}
	for at := r.Start(); ; {
		old := s.find(at)
		switch {
		case old == nil:
			return errs.Addr("iova", uint64(at), errs.ErrNotMapped)
		case !old.access.Allows(want):
			return errs.Addr("iova", uint64(at), errs.ErrPermission)
		case old.suspended:
			return errs.Addr("iova", uint64(at), errs.ErrSuspended)
		}
		if old.r.Last() >= r.Last() {
			return nil
		}
		at = old.r.Last() + 1
	}
}

// Read implements [Store].
func (m *Model) Read(iova addr.IOVA, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.state.check(iova, addr.Len(len(p)), addr.Read); err != nil {
		return err
	}
	for i := range p {
		old := m.state.find(iova + addr.IOVA(i))
		if _, err := old.mem.Shadow.ReadAt(p[i:i+1], int64(iova-old.r.Start())+int64(i)); err != nil {
			return errs.Addr("iova", uint64(iova)+uint64(i), errs.ErrFault)
		}
	}
	return nil
}

// Write implements [Store].
func (m *Model) Write(iova addr.IOVA, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.state.check(iova, addr.Len(len(p)), addr.Write); err != nil {
		return err
	}
	for i := range p {
		old := m.state.find(iova + addr.IOVA(i))
		if _, err := old.mem.Shadow.WriteAt(p[i:i+1], int64(iova-old.r.Start())+int64(i)); err != nil {
			return errs.Addr("iova", uint64(iova)+uint64(i), errs.ErrFault)
		}
	}
	if r, ok := addr.RangeOf(iova, addr.Len(len(p))); ok {
		m.state.mark(r)
	}
	return nil
}

// DirtyStart is DIRTY_PAGES START (A4): idempotent, and a second start clears
// nothing.
func (m *Model) DirtyStart() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.v1 {
		return errs.ErrNotV2
	}
	m.state.tracking = true
	return nil
}

// DirtyStop is DIRTY_PAGES STOP: idempotent, drops the log.
func (m *Model) DirtyStop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.v1 {
		return errs.ErrNotV2
	}
	m.state.tracking = false
	m.state.dirty = nil
	return nil
}

// MarkDirty notes a write of [iova, iova+n) by other means; only bytes that
// are mapped count. A range past 2^64 ends there.
func (m *Model) MarkDirty(iova addr.IOVA, n addr.Len) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n == 0 {
		return
	}
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		r, _ = addr.RangeLast(iova, ^addr.IOVA(0))
	}
	m.state.mark(r)
}

func (s *modelState) mark(r addr.Range[addr.IOVA]) {
	if !s.tracking {
		return
	}
	for _, old := range s.maps {
		if hit, ok := old.r.Intersect(r); ok {
			s.dirty = append(s.dirty, hit)
		}
	}
}

// forget drops what the log says about r, which is whole mappings.
func (s *modelState) forget(r addr.Range[addr.IOVA]) {
	var keep []addr.Range[addr.IOVA]
	for _, d := range s.dirty {
		if !d.Overlaps(r) {
			keep = append(keep, d)
		}
	}
	s.dirty = keep
}

// DirtyGet is DIRTY_PAGES GET_BITMAP (A4), for any page size from the smallest
// up and with a choice to clear. Bit i stands for page i of the range and is
// set when a byte of that page is in the log. The log is byte-exact here; the
// store's page granularity must not show.
func (m *Model) DirtyGet(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64, clearIt bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.state
	if m.v1 {
		return errs.ErrNotV2
	}
	r, err := s.dirtyArgs(m, iova, n, pageSize, bitmap)
	if err != nil {
		return err
	}
	for _, old := range s.maps {
		if old.r.Overlaps(r) && !r.Covers(old.r) {
			return errs.ErrBisects
		}
	}
	s.bits(r, pageSize, bitmap)
	if clearIt {
		s.forget(r)
	}
	return nil
}

// dirtyArgs is the part of GET_BITMAP and of an unmap with the flag
// GET_DIRTY_BITMAP that does not depend on the mappings.
func (s *modelState) dirtyArgs(m *Model, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Range[addr.IOVA], error) {
	if n == 0 {
		return addr.Range[addr.IOVA]{}, errs.ErrInvalid
	}
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		return r, errs.ErrOverflow
	}
	if pageSize == 0 || pageSize&(pageSize-1) != 0 || pageSize < m.page {
		return r, errs.ErrInvalid
	}
	if uint64(iova)&uint64(pageSize-1) != 0 || uint64(n)&uint64(pageSize-1) != 0 {
		return r, errs.ErrMisaligned
	}
	pages := uint64(n) / uint64(pageSize)
	if pages > maxBitmap*8 || uint64(len(bitmap)) < (pages+63)/64 {
		return r, errs.ErrInvalid
	}
	if !s.tracking {
		return r, errs.ErrInvalid
	}
	return r, nil
}

// bits writes the bitmap of r: bit i is page i, set when the log has a byte of
// it.
func (s *modelState) bits(r addr.Range[addr.IOVA], pageSize addr.Len, bitmap []uint64) {
	n, _ := r.Len()
	clear(bitmap[:(uint64(n)/uint64(pageSize)+63)/64])
	for _, d := range s.dirty {
		hit, ok := d.Intersect(r)
		if !ok {
			continue
		}
		first, last := uint64(hit.Start()-r.Start())/uint64(pageSize), uint64(hit.Last()-r.Start())/uint64(pageSize)
		for i := first; i <= last; i++ {
			bitmap[i/64] |= 1 << (i % 64)
		}
	}
}

// UnmapDirty is the flag GET_DIRTY_BITMAP of A3: unmap, and the last word of
// the log about what goes.
func (m *Model) UnmapDirty(_ context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Len, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.state
	if _, err := m.unmapArgs(iova, n); err != nil {
		return 0, err
	}
	r, err := s.dirtyArgs(m, iova, n, pageSize, bitmap)
	if err != nil {
		return 0, err
	}
	from, to, err := s.choose(m, iova, n)
	if err != nil {
		return 0, err
	}
	s.bits(r, pageSize, bitmap)
	return s.remove(from, to), nil
}
