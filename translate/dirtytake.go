package translate

import (
	"math/bits"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// DirtyTake is a clearing DirtyGet by the rules of a device's dirty log
// (VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT), which knows addresses and no
// mappings: the range may cut them, and only pages in within count, or all if
// that is nil. Pages outside stay as they are, in the log and, when they share
// a bit with others, out of the answer.
//
// Where the log is coarser than the pages (a mapping above 8 TiB, or one that
// is dirty as a whole for want of memory), what a range cuts is reported with
// it and with the next one.
//
// The errors are those of DirtyGet, but for errs.ErrBisects.
func (s *Store) DirtyTake(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64, within []addr.Range[addr.IOVA]) error {
	if s.v1 {
		return iovaError(uint64(iova), errs.ErrNotV2)
	}
	b, err := s.newBitmap(iova, n, pageSize, bitmap)
	if err != nil {
		return iovaError(uint64(iova), err)
	}
	held := s.heldForWriting()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hot.tracking.Load() {
		return iovaError(uint64(iova), errs.ErrInvalid)
	}
	s.markRanges(held)
	clear(b.words)
	if within == nil {
		within = []addr.Range[addr.IOVA]{addr.Whole[addr.IOVA]()}
	}
	asked, _ := addr.RangeLast(addr.IOVA(b.start), addr.IOVA(b.last))
	for _, w := range within {
		if p, ok := w.Intersect(asked); ok {
			s.takePiece(uint64(p.Start()), uint64(p.Last()), b)
		}
	}
	s.markRanges(held) // still being written
	return nil
}

// takePiece moves the dirty bits of [from, to] into b.
func (s *Store) takePiece(from, to uint64, b *bitmap) {
	for _, r := range s.records(from, to) {
		x := taking{start: r.start, from: max(from, r.start) - r.start, to: min(to, r.end()) - r.start, last: r.last}
		x.take(&s.entry(metaAttr(r.meta).ID).dirty, func(a, z uint64) { b.set(a, z) })
	}
}

// taking takes the bits of a part of one mapping; all but start are offsets in
// the mapping.
type taking struct{ start, from, to, last uint64 }

// take calls dirty with ranges that cover what is dirty, addresses inclusive.
func (x taking) take(l *dirtyLog, dirty func(a, z uint64)) {
	t := l.top.Load()
	if t == nil {
		return
	}
	if t.all.Load() {
		if x.from == 0 && x.to == x.last {
			t.all.Store(false)
		}
		dirty(x.start+x.from, x.start+x.to)
	}
	// Bits [first, end] are asked for, [whole, until) lie wholly in the range.
	first, end := x.from>>t.shift, x.to>>t.shift
	whole, until := first, end+1
	if x.from&(1<<t.shift-1) != 0 {
		whole++
	}
	if x.to != x.last && x.to&(1<<t.shift-1) != 1<<t.shift-1 {
		until--
	}
	for i := first >> dirtyChunkShift; t.chunks != nil && i <= end>>dirtyChunkShift; i++ {
		c := t.chunks[i].Load()
		if c == nil {
			continue
		}
		at := i << dirtyChunkShift
		for g := max(first, at) &^ 63; g <= min(end, at|(1<<dirtyChunkShift-1)); g += 64 {
			word := &c.words[(g-at)>>6]
			if atomic.LoadUint64(word)&wordMask(g, first, end+1) == 0 {
				continue
			}
			w := atomic.AndUint64(word, ^wordMask(g, whole, until)) & wordMask(g, first, end+1)
			for w != 0 {
				lo := uint64(bits.TrailingZeros64(w))
				n := uint64(bits.TrailingZeros64(^(w >> lo)))
				w &^= wordMask(g, g+lo, g+lo+n)
				a, z := max(x.from, (g+lo)<<t.shift), min(x.to, (g+lo+n)<<t.shift-1)
				dirty(x.start+a, x.start+z)
			}
		}
	}
}

// wordMask is the bits [from, end) of a log that lie in the word whose first bit
// is g.
func wordMask(g, from, end uint64) uint64 {
	from, end = max(from, g), min(end, g+64)
	if from >= end {
		return 0
	}
	return ^uint64(0) >> (64 - (end - from)) << (from - g)
}

// DirtyVanished has f told what is dirty in a mapping that vanishes while the
// log is on, unless UnmapDirty reports it: a device's dirty log outlives the
// mappings. f is called in the middle of an operation, with locks held, for
// ranges that cover what is dirty; it must not call the store. nil undoes it.
func (s *Store) DirtyVanished(f func(addr.Range[addr.IOVA])) {
	s.lockOp()
	s.vanish = f
	s.unlockOp()
}

func (s *Store) tellVanished(id uint32, a, z uint64) {
	if s.vanish == nil || !s.hot.tracking.Load() {
		return
	}
	x := taking{start: a, to: z - a, last: z - a}
	x.take(&s.entry(id).dirty, func(a, z uint64) {
		r, _ := addr.RangeLast(addr.IOVA(a), addr.IOVA(z))
		s.vanish(r)
	})
}
