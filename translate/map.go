package translate

import (
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Map adds the mapping of n bytes of m at iova, allowing access. Readers see
// all of it or nothing. Errors, in the order of the kernel's checks: see the
// package comment; besides them the errno of fstat(2) and mmap(2) for [File],
// and errs.ErrGone after Close.
//
// The cost is that of the slots it touches: some ten nanoseconds for a few
// pages, at most a few thousand slots for any size.
func (s *Store) Map(iova addr.IOVA, n addr.Len, m Memory, access addr.Access) error {
	if err := s.checkMap(iova, n, &m, access); err != nil {
		return iovaError(uint64(iova), err)
	}
	var look fileLook
	if m.kind == KindFile {
		s.files.look(&m, &look)
	}
	s.lockOp()
	defer s.unlockOp()
	e, err := s.mapLocked(iova, n, &m, access, &look, 0)
	if err != nil {
		return iovaError(uint64(iova), err)
	}
	meta := &s.tree.w.recs[e].meta
	release64(meta, *meta|metaLive)
	s.count++
	return nil
}

// checkMap is the part of the checks that needs no lock: type1's order.
func (s *Store) checkMap(iova addr.IOVA, n addr.Len, m *Memory, access addr.Access) error {
	if err := checkRange(iova, n, m); err != nil {
		return err
	}
	if access == 0 || access&^addr.ReadWrite != 0 {
		return errs.ErrInvalid
	}
	return s.checkMemory(iova, n, m)
}

// checkRange refuses no bytes and bytes beyond 2^64. Map looks at the wrap
// before the alignment, unmap the other way round, as the kernel does.
func checkRange(iova addr.IOVA, n addr.Len, m *Memory) error {
	if n == 0 {
		return errs.ErrInvalid
	}
	if _, ok := addr.RangeOf(iova, n); !ok || m.wraps(n) {
		return errs.ErrOverflow
	}
	return nil
}

func (s *Store) checkMemory(iova addr.IOVA, n addr.Len, m *Memory) error {
	if !s.aligned(uint64(iova) | uint64(n) | m.alignment()) {
		return errs.ErrMisaligned
	}
	return m.check(n)
}

// aligned reports whether v is a multiple of the smallest page.
func (s *Store) aligned(v uint64) bool { return v&(1<<s.pageShift-1) == 0 }

// mapLocked adds a mapping whose meta word also has the given flags. Inside a
// transaction pass metaLive; outside the caller sets it. look is what files.look
// said of m.
//
// Preconditions: s.mu is held, no other operation is under way, checkMap has
// passed.
func (s *Store) mapLocked(iova addr.IOVA, n addr.Len, m *Memory, access addr.Access, look *fileLook, flags uint64) (uint32, error) {
	a, b := uint64(iova), uint64(iova)+uint64(n)-1
	switch {
	case s.closed:
		return 0, errs.ErrGone
	case s.tree.w.first(a, b) != 0:
		return 0, errs.ErrExists
	case s.count+s.delta >= s.max:
		return 0, errs.ErrNoSpace
	case !s.valid(a, b):
		return 0, errs.ErrOutsideRange
	}
	id, err := s.newEntry()
	if err != nil {
		return 0, err
	}
	base, hold, err := s.open(m, n, access, look)
	if err != nil {
		s.freeIDs = append(s.freeIDs, id)
		return 0, err
	}
	e := s.entry(id)
	e.start, e.last = a, b-a
	if m.kind != KindProcess { // which leaves the rest as freeEntry left it
		e.hold = hold
		e.remote = m.remote
	}
	return s.tree.insert(a, b, base, metaOf(id, access, m.kind)|flags), nil
}

// valid reports whether [a, b] lies wholly in one of the ranges
// (vfio_iommu_iova_dma_valid).
func (s *Store) valid(a, b uint64) bool {
	for _, r := range s.ranges {
		if uint64(r.Start()) <= a && b <= uint64(r.Last()) {
			return true
		}
	}
	return len(s.ranges) == 0
}
