package translate

import (
	"context"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Suspend takes the memory from the mappings in [iova, iova+n), chosen as by
// Unmap, and returns how many bytes they have. They stay in the table with
// their access, ID and dirty log, but look-ups find nothing and accesses fail
// with errs.ErrSuspended until Resume gives them new memory. When one of them
// is suspended already, it fails with errs.ErrInvalid and nothing has changed.
//
// type1 refuses this with EBUSY as soon as a mediator is present. Here holders
// are drained as for Unmap, and only one that does not let go is EBUSY.
func (s *Store) Suspend(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	if err := s.checkUnmap(iova, n); err != nil {
		return 0, iovaError(uint64(iova), err)
	}
	return s.suspendRange(ctx, uint64(iova), uint64(iova)+uint64(n)-1, false)
}

// SuspendAll is Suspend of every mapping.
func (s *Store) SuspendAll(ctx context.Context) (addr.Len, error) {
	return s.suspendRange(ctx, 0, ^uint64(0), true)
}

func (s *Store) suspendRange(ctx context.Context, a, b uint64, all bool) (addr.Len, error) {
	s.lockOp()
	defer s.unlockOp()
	e, b, err := s.choose(s.tree.w, a, b, all)
	if err != nil {
		return 0, iovaError(a, err)
	}
	if e == 0 {
		return 0, nil
	}
	x, err := s.begin(ctx)
	if err != nil {
		return 0, iovaError(a, err)
	}
	var n addr.Len
	for e != 0 {
		r := &s.tree.w.recs[e]
		if r.meta&metaSuspended != 0 {
			x.abort()
			return 0, iovaError(r.start, errs.ErrInvalid)
		}
		n += addr.Len(r.last) + 1
		end := r.end()
		x.swap(e, 0, r.meta&^metaLive|metaSuspended)
		if end >= b {
			break
		}
		e = s.tree.w.first(end+1, b)
	}
	rs := []addr.Range[addr.IOVA]{}
	if r, ok := addr.RangeLast(addr.IOVA(a), addr.IOVA(b)); ok && len(s.holders) != 0 {
		rs = append(rs, r)
		if err := s.drain(ctx, rs); err != nil {
			x.abort()
			return 0, iovaError(a, err)
		}
		defer s.done(rs)
	}
	if err := x.commit(ctx, nil); err != nil {
		return 0, iovaError(a, err)
	}
	for _, w := range x.swaps {
		e := s.entry(metaAttr(s.tree.w.recs[w.new].meta).ID)
		s.release(&e.hold)
		e.remote = nil
	}
	return n, nil
}

// Resume gives new memory to the suspended mapping of exactly [iova, iova+n)
// (VFIO_DMA_MAP_FLAG_VADDR): errs.ErrNotFound when no mapping is there,
// errs.ErrInvalid when it has another extent or is not suspended. The memory
// may be of another kind than before.
func (s *Store) Resume(iova addr.IOVA, n addr.Len, m Memory) error {
	err := checkRange(iova, n, &m)
	if err == nil {
		err = s.checkMemory(iova, n, &m)
	}
	if err == nil {
		err = s.resume(uint64(iova), uint64(iova)+uint64(n)-1, &m)
	}
	if err != nil {
		return iovaError(uint64(iova), err)
	}
	return nil
}

func (s *Store) resume(a, b uint64, m *Memory) error {
	var look fileLook
	if m.kind == KindFile {
		s.files.look(m, &look)
	}
	s.lockOp()
	defer s.unlockOp()
	e := s.tree.w.first(a, b)
	if e == 0 {
		return errs.ErrNotFound
	}
	r := &s.tree.w.recs[e]
	if r.start != a || r.end() != b || r.meta&metaSuspended == 0 {
		return errs.ErrInvalid
	}
	attr := metaAttr(r.meta)
	x, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	base, hold, err := s.open(m, addr.Len(r.last)+1, attr.Access, &look)
	if err != nil {
		x.abort()
		return err
	}
	// No reader touches the entry of a suspended mapping.
	entry := s.entry(attr.ID)
	entry.hold, entry.remote = hold, m.remote
	x.swap(e, base, metaOf(attr.ID, attr.Access, m.kind)|metaLive)
	// Nothing vanishes, so nobody is waited for; readers may still be at the
	// old record until the next quiesce.
	s.tree.publish()
	s.tree.end()
	s.limboTables()
	s.limbo.recs = append(s.limbo.recs, e)
	return nil
}
