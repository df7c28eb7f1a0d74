package translate

import (
	"context"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Op is one operation of a batch; see [Store.Apply].
type Op struct {
	unmap  bool
	iova   addr.IOVA
	n      addr.Len
	mem    Memory
	access addr.Access
}

// MapOp is [Store.Map] in a batch.
func MapOp(iova addr.IOVA, n addr.Len, m Memory, access addr.Access) Op {
	return Op{iova: iova, n: n, mem: m, access: access}
}

// UnmapOp is [Store.Unmap] in a batch.
func UnmapOp(iova addr.IOVA, n addr.Len) Op { return Op{unmap: true, iova: iova, n: n} }

// Apply does all operations, in order, or none. Each is checked against what
// the ones before it leave. Readers see the state before or the state after,
// never one between; the memory of what is unmapped is free of readers and
// holders when Apply returns. An error names the operation ("op 3: ...").
//
// All holders are drained before anything changes, with the one deadline of
// ctx.
func (s *Store) Apply(ctx context.Context, ops ...Op) error {
	if len(ops) == 0 {
		return nil
	}
	looks := s.lookAll(ops)
	s.lockOp()
	defer s.unlockOp()
	x, err := s.begin(ctx)
	if err != nil {
		return err
	}
	var rs []addr.Range[addr.IOVA]
	for i := range ops {
		var look *fileLook
		if looks != nil {
			look = &looks[i]
		}
		r, err := x.apply(&ops[i], look)
		if err != nil {
			x.abort()
			return errs.In("op", i, iovaError(uint64(ops[i].iova), err))
		}
		rs = append(rs, r...)
	}
	if len(rs) != 0 && len(s.holders) != 0 {
		if err := s.drain(ctx, rs); err != nil {
			x.abort()
			return err
		}
		defer s.done(rs)
	}
	return x.commit(ctx, nil)
}

// lookAll is files.look for each operation, nil if no file is among them.
func (s *Store) lookAll(ops []Op) []fileLook {
	var looks []fileLook
	for i := range ops {
		if op := &ops[i]; !op.unmap && op.mem.kind == KindFile {
			if looks == nil {
				looks = make([]fileLook, len(ops))
			}
			s.files.look(&op.mem, &looks[i])
		}
	}
	return looks
}

// apply does one operation and returns the range to drain for it.
func (x *txn) apply(op *Op, look *fileLook) ([]addr.Range[addr.IOVA], error) {
	s := x.s
	if !op.unmap {
		if err := s.checkMap(op.iova, op.n, &op.mem, op.access); err != nil {
			return nil, err
		}
		e, err := s.mapLocked(op.iova, op.n, &op.mem, op.access, look, metaLive|metaNew)
		if err != nil {
			return nil, err
		}
		x.add(e)
		return nil, nil
	}
	if err := s.checkUnmap(op.iova, op.n); err != nil {
		return nil, err
	}
	a, b := uint64(op.iova), uint64(op.iova)+uint64(op.n)-1
	e, b, err := s.choose(s.tree.w, a, b, false)
	if e == 0 {
		return nil, err
	}
	var rs []addr.Range[addr.IOVA]
	for e != 0 {
		r := &s.tree.w.recs[e]
		start, end := r.start, r.end()
		if atomic.LoadUint64(&r.meta)&metaNew == 0 {
			g, _ := addr.RangeLast(addr.IOVA(start), addr.IOVA(end))
			rs = append(rs, g)
		}
		x.remove(e)
		if end >= b {
			break
		}
		e = s.tree.w.first(end+1, b)
	}
	return rs, nil
}
