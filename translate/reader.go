package translate

import (
	"slices"
	"sync/atomic"

	"github.com/softmdev/softmdev/translate/addr"
)

// Attr is the part of a [Run] that is the same for a whole mapping.
type Attr struct {
	ID     uint32      // of the mapping, stable while it is mapped
	Access addr.Access // what the mapping allows
	Kind   Kind        // what stands behind it
}

// Run is the rest of a mapping from a looked-up address on.
type Run struct {
	HVA  addr.HVA // of the address asked for; 0 for KindRemote
	Len  addr.Len // bytes to the end of the mapping, at least 1
	Attr          // of the mapping
}

// Reader looks addresses up without a lock and without allocating. It belongs
// to one goroutine at a time, typically one per worker; it lies on cache lines
// of its own, so that workers do not slow each other.
//
// Use it in sections: [Reader.Enter], look-ups and accesses, [Reader.Exit].
// What a look-up returned is valid until Exit and not after. Read, Write and
// Check open a section of their own when called outside one.
type Reader struct {
	_     [64]byte
	state uint64 // see section.go; written by the owner, read by writers
	fast  bool   // written by the owner
	hint  hint
	s     *Store
	runs  []Run // scratch of Write
	_     [64]byte
}

// hint remembers one mapping.
type hint struct {
	gen   uint64 // generation before the look-up; odd: never valid
	start uint64
	last  uint64 // offset of the last byte
	base  uint64
	meta  uint64
}

// NewReader returns a reader of s. Close it when its worker ends.
func (s *Store) NewReader() *Reader {
	r := &Reader{s: s, hint: hint{gen: 1}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers = append(slices.Clip(s.readers), r)
	return r
}

// Close takes r out of the store; r must be in no section and not be used
// again. A second Close does nothing.
func (r *Reader) Close() {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.readers, r)
	if i < 0 {
		return
	}
	s.readers = slices.Delete(slices.Clone(s.readers), i, i+1)
	if r.fast {
		r.fast = false
		s.fast.Add(-1)
	}
}

// Lookup finds the mapping of iova. It returns false when there is none and
// when its memory is suspended; Check says which.
//
// The Run may be used until the section ends. Outside a section the answer is
// only what was true at some moment of the call, and its HVA must not be
// touched.
//
// A repeated hit of one mapping is answered from the reader's hint.
func (r *Reader) Lookup(iova addr.IOVA) (Run, bool) {
	a := uint64(iova)
	h := &r.s.hot
	// The generation is loaded before anything else: if the mapping vanishes
	// from here on, the hint made below is already stale.
	gen := atomic.LoadUint64(&h.gen)
	t := &r.hint
	if off := a - t.start; off <= t.last && t.gen == gen {
		return Run{addr.HVA(t.base + off), addr.Len(t.last-off) + 1, metaAttr(t.meta)}, true
	}
	if !r.inside() {
		return r.lookupOutside(iova)
	}
	// This is find, written out: the call and the pointer between the two are
	// a third of the cost. The shift of a slot drops isTable (maxTables). The indexes need no check: tables and records are
	// named only by slots that the writer filled, and a view's arenas hold
	// everything its slots name (Check proves both).
	v := h.view.Load()
	i := a >> lowShift
	if i >= uint64(len(v.low)) {
		return r.lookupElse(a)
	}
	e := loadSlot(v.low, uint32(i))
	if e >= isTable {
		e = loadSlot(v.tables, e<<levelBits|uint32(a>>midShift)&(fanout-1))
		if e >= isTable {
			e = loadSlot(v.tables, e<<levelBits|uint32(a>>leafShift)&(fanout-1))
		}
	}
	rec := recordAt(v.recs, e)
	start, last := rec.start, rec.last
	off := a - start
	meta := atomic.LoadUint64(&rec.meta)
	if off > last || meta&(metaLive|metaRemote) != metaLive || gen&1 != 0 {
		return r.lookupElse(a)
	}
	base := rec.base
	t.gen, t.start, t.last, t.base, t.meta = gen, start, last, base, meta
	return Run{addr.HVA(base + off), addr.Len(last-off) + 1, metaAttr(meta)}, true
}

// Hit is Lookup from the reader's hint alone, the mapping that the last
// Lookup found: false says nothing but that Lookup must be asked. It is small
// enough to be inlined, which halves the cost where addresses follow each
// other:
//
//	run, ok := r.Hit(iova)
//	if !ok {
//		run, ok = r.Lookup(iova)
//	}
func (r *Reader) Hit(iova addr.IOVA) (run Run, ok bool) {
	h := &r.hint
	off := uint64(iova) - h.start
	if off <= h.last && h.gen == atomic.LoadUint64(&r.s.hot.gen) {
		run = Run{addr.HVA(h.base + off), addr.Len(h.last-off) + 1, metaAttr(h.meta)}
		ok = true
	}
	return
}

// lookupElse is Lookup where it is not the common case: the high tree, remote
// memory, nothing there, a moment in which something vanishes.
//
//go:noinline
func (r *Reader) lookupElse(a uint64) (Run, bool) {
	h := &r.s.hot
	gen := atomic.LoadUint64(&h.gen)
	rec := h.view.Load().find(a)
	meta := atomic.LoadUint64(&rec.meta)
	if meta&metaLive == 0 {
		return Run{}, false
	}
	off := a - rec.start
	run := Run{addr.HVA(rec.base + off), addr.Len(rec.last-off) + 1, metaAttr(meta)}
	switch {
	case meta&metaRemote != 0:
		run.HVA = 0
	case gen&1 == 0:
		r.hint = hint{gen, rec.start, rec.last, rec.base, meta}
	}
	return run, true
}

//go:noinline
func (r *Reader) lookupOutside(iova addr.IOVA) (Run, bool) {
	r.Enter()
	defer r.Exit()
	return r.Lookup(iova)
}
