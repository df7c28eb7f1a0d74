package translate

import (
	"context"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Unmap removes the mappings in [iova, iova+n) and returns how many bytes they
// had. By the v2 rules the range may cover many mappings and none, but must
// not cut one in two (errs.ErrBisects). By the v1 rules a range that starts
// inside a mapping does nothing, and every mapping that starts in the range
// goes whole.
//
// Holders in the range are told to let go first, and waited for until ctx is
// done or the store's deadline has passed. Then the mappings vanish for all
// readers at once, and Unmap waits for the sections that were open. When it
// returns without an error nobody touches the memory any more. When a holder
// or a section stays, it fails with errs.ErrBusy, naming it, and the mappings
// are as they were.
func (s *Store) Unmap(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	if err := s.checkUnmap(iova, n); err != nil {
		return 0, iovaError(uint64(iova), err)
	}
	s.lockOp()
	return s.unmapRange(ctx, uint64(iova), uint64(iova)+uint64(n)-1, false, nil)
}

// UnmapAll is Unmap of every mapping (VFIO_DMA_UNMAP_FLAG_ALL). Of the size,
// which may be 2^64, it returns the low 64 bits, as the kernel does.
func (s *Store) UnmapAll(ctx context.Context) (addr.Len, error) {
	s.lockOp()
	return s.unmapRange(ctx, 0, ^uint64(0), true, nil)
}

// UnmapDirty is Unmap that also reports, as DirtyGet does, the pages of the
// range that were written up to the moment it was gone
// (VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP). On an error bitmap is undefined.
func (s *Store) UnmapDirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Len, error) {
	if err := s.checkUnmap(iova, n); err != nil {
		return 0, iovaError(uint64(iova), err)
	}
	b, err := s.newBitmap(iova, n, pageSize, bitmap)
	if err != nil {
		return 0, iovaError(uint64(iova), err)
	}
	s.lockOp()
	if !s.hot.tracking.Load() {
		s.unlockOp()
		return 0, iovaError(uint64(iova), errs.ErrInvalid)
	}
	clear(b.words)
	return s.unmapRange(ctx, uint64(iova), uint64(iova)+uint64(n)-1, false, b)
}

func (s *Store) checkUnmap(iova addr.IOVA, n addr.Len) error {
	switch {
	case !s.aligned(uint64(iova)):
		return errs.ErrMisaligned
	case n == 0:
		return errs.ErrInvalid
	case !s.aligned(uint64(n)):
		return errs.ErrMisaligned
	case uint64(iova)+uint64(n)-1 < uint64(iova):
		return errs.ErrOverflow
	}
	return nil
}

// choose is the first record that an unmap of [a, b] is about and the last
// address of the last one. e is 0 when there is none.
//
// Precondition: s.mu is held.
func (s *Store) choose(v *view, a, b uint64, all bool) (e uint32, last uint64, err error) {
	e = v.first(a, b)
	if e == 0 {
		return 0, 0, nil
	}
	r := &v.recs[e]
	if r.start < a {
		if s.v1 {
			return 0, 0, nil
		}
		return 0, 0, errs.ErrBisects
	}
	if all || r.end() == b {
		return e, b, nil
	}
	if r.end() < b {
		r = v.find(b) // record 0 ends before b
	}
	if r.start <= b && r.end() > b {
		if !s.v1 {
			return 0, 0, errs.ErrBisects
		}
		return e, r.end(), nil
	}
	return e, b, nil
}

// unmapRange takes the lock over and releases it.
func (s *Store) unmapRange(ctx context.Context, a, b uint64, all bool, dirty *bitmap) (addr.Len, error) {
	e, b, err := s.choose(s.tree.w, a, b, all)
	if e == 0 {
		s.unlockOp()
		if err != nil {
			err = iovaError(a, err)
		}
		return 0, err
	}
	var rs []addr.Range[addr.IOVA]
	if len(s.holders) != 0 {
		s.rs[0], _ = addr.RangeLast(addr.IOVA(a), addr.IOVA(b))
		rs = s.rs[:]
		if err := s.drain(ctx, rs); err != nil {
			s.unlockOp()
			return 0, iovaError(a, err)
		}
	}
	var n addr.Len
	if r := &s.tree.w.recs[e]; r.end() == b || s.tree.w.first(r.end()+1, b) == 0 {
		n, err = s.unmapOne(ctx, e, dirty)
	} else {
		n, err = s.unmapMany(ctx, e, b, dirty)
	}
	if rs != nil {
		s.done(rs)
	}
	s.unlockOp()
	if err != nil {
		return 0, iovaError(a, err)
	}
	return n, nil
}

// unmapOne removes record e in place: its live bit goes first, its slots when
// no reader can be at it.
func (s *Store) unmapOne(ctx context.Context, e uint32, dirty *bitmap) (addr.Len, error) {
	r := &s.tree.w.recs[e]
	meta := r.meta
	s.vanishing()
	release64(&r.meta, meta&^(metaLive|metaSuspended))
	s.vanished()
	if err := s.quiesce(ctx); err != nil {
		atomic.StoreUint64(&s.tree.w.recs[e].meta, meta)
		return 0, err
	}
	s.reap()
	s.tree.remove(e)
	// New readers may still be looking at the slots: the record and the
	// tables wait for the next quiesce. The memory does not.
	s.limbo.recs = append(s.limbo.recs, e)
	s.limboTables()
	s.finish(r.start, r.end(), meta, dirty)
	return addr.Len(r.last) + 1, nil
}

// vanishing begins the moment in which something is unpublished: hints are off
// while the generation is odd, so that no reader sees by its hint what another
// has seen gone.
func (s *Store) vanishing() { release64(&s.hot.gen, s.hot.gen+1) }

// vanished ends it. It is a full barrier: what was unpublished is gone for
// every reader whose section is found open after it.
func (s *Store) vanished() { atomic.AddUint64(&s.hot.gen, 1) }

// finish ends the life of a mapping that no reader can touch any more.
func (s *Store) finish(a, b, meta uint64, dirty *bitmap) {
	id := metaAttr(meta).ID
	if dirty != nil {
		s.collect(&s.entry(id).dirty, a, b, dirty, true)
	} else {
		s.tellVanished(id, a, b)
	}
	s.freeEntry(id)
	s.count--
}

// unmapMany removes record e and all after it up to b in a transaction, so
// that they vanish in one moment.
func (s *Store) unmapMany(ctx context.Context, e uint32, b uint64, dirty *bitmap) (addr.Len, error) {
	x, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	var n addr.Len
	for e != 0 {
		r := &s.tree.w.recs[e]
		n += addr.Len(r.last) + 1
		end := r.end()
		x.remove(e)
		if end >= b {
			break
		}
		e = s.tree.w.first(end+1, b)
	}
	return n, x.commit(ctx, dirty)
}
