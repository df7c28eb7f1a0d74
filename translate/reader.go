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
	attr  Attr
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
	if off := uint64(iova) - r.hint.start; off <= r.hint.last && r.hint.gen == r.s.hot.gen.Load() {
		return Run{addr.HVA(r.hint.base + off), addr.Len(r.hint.last-off) + 1, r.hint.attr}, true
	}
	return r.lookup(uint64(iova))
}

// lookup is Lookup past the hint. It is find, written out: the call and the
// pointer between the two are a third of the cost.
//
//go:noinline
func (r *Reader) lookup(a uint64) (Run, bool) {
	if !r.inside() {
		return r.lookupOutside(a)
	}
	h := &r.s.hot
	// The generation is loaded before anything else: if the mapping vanishes
	// from here on, the hint made below is already stale.
	gen := h.gen.Load()
	v := h.view.Load()
	var rec *record
	if i := a >> lowShift; i < uint64(len(v.low)) {
		e := atomic.LoadUint32(&v.low[i])
		if e >= isTable {
			e = atomic.LoadUint32(&v.tables[uint64(e&^isTable)<<levelBits|a>>midShift&(fanout-1)])
			if e >= isTable {
				e = atomic.LoadUint32(&v.tables[uint64(e&^isTable)<<levelBits|a>>leafShift&(fanout-1)])
			}
		}
		rec = &v.recs[e]
		if a-rec.start <= rec.last {
			goto found
		}
	}
	if v.high == 0 {
		return Run{}, false
	}
	rec = v.findHigh(a)
found:
	meta := atomic.LoadUint64(&rec.meta)
	if meta&metaLive == 0 {
		return Run{}, false
	}
	start, last, base := rec.start, rec.last, rec.base
	if Kind(meta>>metaKindShift) == KindRemote {
		return Run{0, addr.Len(last-(a-start)) + 1, metaAttr(meta)}, true
	}
	if gen&1 == 0 {
		t := &r.hint
		t.gen, t.start, t.last, t.base, t.attr = gen, start, last, base, metaAttr(meta)
	}
	return Run{addr.HVA(base + (a - start)), addr.Len(last-(a-start)) + 1, metaAttr(meta)}, true
}

//go:noinline
func (r *Reader) lookupOutside(a uint64) (Run, bool) {
	r.Enter()
	defer r.Exit()
	return r.lookup(a)
}
