package translate

import (
	"context"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// The dirty log holds one bit for each smallest page, per mapping, in chunks
// that appear when something in them is first written: starting the log costs
// nothing, however much is mapped. Writers set bits with one atomic OR, after
// the write; whoever reads the log takes whole words with one atomic swap. So
// a bit is either in the answer or there for the next one.
//
// Memory is bounded. A mapping of more than 8 TiB (of 4 KiB pages) logs in
// coarser granules, and when all logs of a store together pass
// dirtyBudgetBytes, a mapping that needs another chunk is dirty as a whole.
// Both report too much, never too little.
const (
	maxDirtyBitmap   = 1 << 28 // DIRTY_BITMAP_SIZE_MAX of vfio_iommu_type1.c, bytes
	dirtyBudgetBytes = 256 << 20

	dirtyChunkShift = 15 // bits in a chunk, log2: 4 KiB
	dirtyChunkWords = 1 << dirtyChunkShift / 64
	dirtyMaxChunks  = 1 << 16
)

// dirtyBudget counts the bytes of all logs of a store.
type dirtyBudget struct{ bytes atomic.Int64 }

func (b *dirtyBudget) take(n int) bool {
	if b.bytes.Add(int64(n)) <= dirtyBudgetBytes {
		return true
	}
	b.bytes.Add(-int64(n))
	return false
}

// dirtyLog is the log of one mapping; empty until something is written.
type dirtyLog struct{ top atomic.Pointer[dirtyTop] }

type dirtyTop struct {
	shift  int                          // log2 of the bytes that a bit stands for
	chunks []atomic.Pointer[dirtyChunk] // nil: no memory even for this
	all    atomic.Bool                  // everything is dirty: no memory for bits
	bytes  atomic.Int64
}

type dirtyChunk struct{ words []uint64 } // atomic

// drop forgets a log that nobody writes to any more.
func (b *dirtyBudget) drop(l *dirtyLog) {
	t := l.top.Load()
	if t == nil {
		return // the common case costs no store
	}
	l.top.Store(nil)
	b.bytes.Add(-t.bytes.Load())
}

// mark notes a write of [from, to], offsets in a mapping whose last byte has
// offset last.
func (b *dirtyBudget) mark(l *dirtyLog, pageShift int, last, from, to uint64) {
	t := l.top.Load()
	if t == nil {
		t = b.newTop(l, pageShift, last)
	}
	// As in setBits, a load alone would not order the write against whoever
	// takes the flag.
	if t.all.Load() && t.all.CompareAndSwap(true, true) {
		return
	}
	first, end := from>>t.shift, to>>t.shift
	for first <= end {
		stop := min(end, first|(1<<dirtyChunkShift-1))
		var c *dirtyChunk
		if t.chunks != nil {
			if c = t.chunks[first>>dirtyChunkShift].Load(); c == nil {
				c = b.newChunk(t, first>>dirtyChunkShift, last)
			}
		}
		if c == nil {
			t.all.Store(true)
			return
		}
		setBits(c.words, first&(1<<dirtyChunkShift-1), stop&(1<<dirtyChunkShift-1))
		first = stop + 1
	}
}

// setBits sets bits [from, to] of words that others set and take too. The OR
// is done even where the bit is set: it orders the write before it against
// the swap that takes the bit.
func setBits(words []uint64, from, to uint64) {
	for from <= to {
		end := min(to, from|63)
		m := ^uint64(0) >> (63 - (end - from)) << (from & 63)
		atomic.OrUint64(&words[from>>6], m)
		from = end + 1
	}
}

func (b *dirtyBudget) newTop(l *dirtyLog, pageShift int, last uint64) *dirtyTop {
	t := &dirtyTop{shift: pageShift}
	for last>>t.shift>>dirtyChunkShift >= dirtyMaxChunks {
		t.shift++
	}
	n := int(last>>t.shift>>dirtyChunkShift) + 1
	size := n * int(pointerBits/8)
	if b.take(size) {
		t.bytes.Store(int64(size))
		t.chunks = make([]atomic.Pointer[dirtyChunk], n)
	} else {
		t.all.Store(true)
	}
	if !l.top.CompareAndSwap(nil, t) {
		b.bytes.Add(-t.bytes.Load())
		return l.top.Load()
	}
	return t
}

// newChunk is chunk i of t, or nil when the budget is spent.
func (b *dirtyBudget) newChunk(t *dirtyTop, i, last uint64) *dirtyChunk {
	words := dirtyChunkWords
	if rest := last>>t.shift - i<<dirtyChunkShift; rest < 1<<dirtyChunkShift {
		words = int(rest>>6) + 1
	}
	if !b.take(8 * words) {
		return nil
	}
	c := &dirtyChunk{make([]uint64, words)}
	if !t.chunks[i].CompareAndSwap(nil, c) {
		b.bytes.Add(-int64(8 * words))
		return t.chunks[i].Load()
	}
	t.bytes.Add(int64(8 * words))
	return c
}

// markReader notes that a section wrote [a, b], which lies in the mapping of
// that ID. The mapping may be unpublished by now; its entry lives as long as
// the section.
func (s *Store) markReader(id uint32, a, b uint64) {
	e := s.entry(id)
	s.dirty.mark(&e.dirty, s.pageShift, e.last, a-e.start, b-e.start)
}

// MarkDirty notes that [iova, iova+n) was written by other means than a
// Reader: by hardware, through a pin. Only what is mapped counts; a range past
// 2^64 ends there. It does nothing while the log is off.
//
// Call it after the write. It may be called from holders and inside sections.
func (s *Store) MarkDirty(iova addr.IOVA, n addr.Len) {
	if s.Tracking() {
		s.markDirty(iova, n)
	}
}

// Tracking reports whether the dirty log is on: whether MarkDirty would do
// anything. It is for those who would have to look for what to mark; like
// MarkDirty it must be called after the write.
func (s *Store) Tracking() bool { return s.hot.tracking.Load() }

func (s *Store) markDirty(iova addr.IOVA, n addr.Len) {
	if n == 0 {
		return
	}
	b := uint64(iova) + uint64(n) - 1
	if b < uint64(iova) {
		b = ^uint64(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markLocked(uint64(iova), b)
}

func (s *Store) markLocked(a, b uint64) {
	if !s.hot.tracking.Load() {
		return
	}
	for _, r := range s.records(a, b) {
		l := &s.entry(metaAttr(r.meta).ID).dirty
		s.dirty.mark(l, s.pageShift, r.last, max(a, r.start)-r.start, min(b, r.end())-r.start)
	}
}

// DirtyStart starts the dirty log, empty. It also covers mappings made later.
// When it returns, every write that a section may have missed to log is
// visible to whoever copies the memory from then on. Starting twice does
// nothing. It fails with errs.ErrNotV2 on a v1 store, and with errs.ErrBusy
// when a section outlasts the store's deadline; the log is then not started.
func (s *Store) DirtyStart() error {
	if s.v1 {
		return errs.ErrNotV2
	}
	s.lockOp()
	defer s.unlockOp()
	if s.hot.tracking.Load() {
		return nil
	}
	// A section that was open when the log was last stopped may have logged
	// since.
	if err := s.quiesce(context.Background()); err != nil {
		return err
	}
	s.dropLogs()
	s.hot.tracking.Store(true)
	if err := s.quiesce(context.Background()); err != nil {
		s.hot.tracking.Store(false)
		return err
	}
	return nil
}

// DirtyStop stops the log and forgets it. Stopping twice does nothing. It
// fails with errs.ErrNotV2 on a v1 store.
func (s *Store) DirtyStop() error {
	if s.v1 {
		return errs.ErrNotV2
	}
	s.lockOp()
	defer s.unlockOp()
	s.hot.tracking.Store(false)
	if s.quiesce(context.Background()) == nil {
		s.dropLogs()
	} // otherwise a section is still logging, and DirtyStart drops them
	return nil
}

// dropLogs forgets all logs. Preconditions: s.mu is held, and no section logs.
func (s *Store) dropLogs() {
	for _, r := range s.records(0, ^uint64(0)) {
		s.dirty.drop(&s.entry(metaAttr(r.meta).ID).dirty)
	}
}

// bitmap is where a report of dirty pages goes.
type bitmap struct {
	start, last uint64 // IOVA, inclusive
	shift       int    // log2 of the bytes that a bit stands for
	words       []uint64
}

// newBitmap checks the arguments of a report in the kernel's order.
func (s *Store) newBitmap(iova addr.IOVA, n, pageSize addr.Len, words []uint64) (*bitmap, error) {
	if n == 0 {
		return nil, errs.ErrInvalid
	}
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		return nil, errs.ErrOverflow
	}
	if bits.OnesCount64(uint64(pageSize)) != 1 || uint64(pageSize) < 1<<s.pageShift {
		return nil, errs.ErrInvalid
	}
	if (uint64(iova)|uint64(n))&uint64(pageSize-1) != 0 {
		return nil, errs.ErrMisaligned
	}
	pages := uint64(n) / uint64(pageSize)
	if pages > maxDirtyBitmap*8 || uint64(len(words)) < (pages+63)/64 {
		return nil, errs.ErrInvalid
	}
	return &bitmap{uint64(iova), uint64(r.Last()), bits.TrailingZeros64(uint64(pageSize)), words[:(pages+63)/64]}, nil
}

// DirtyGet reports which pages of [iova, iova+n) were written since the log
// was started, or since they were last cleared. Bit i of bitmap, lowest first,
// stands for the pageSize bytes at iova + i*pageSize; the words that hold a
// bit of the range are overwritten whole, later ones are left alone. pageSize
// is a power of two, at least the smallest page of the store (a smaller one
// would ask for what is not known); iova and n are multiples of it. A page is
// reported when any byte of it was written. With clear the reported pages are
// clean afterwards; a write at the same time is reported now or next time.
//
// Errors: errs.ErrNotV2 on a v1 store, ErrInvalid when the log is off, n is 0,
// pageSize is none, bitmap is too short or has more than 2^31 bits;
// ErrOverflow, ErrMisaligned; ErrBisects when the range cuts a mapping.
//
// type1 knows only the smallest page size, and always clears.
func (s *Store) DirtyGet(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64, clear bool) error {
	if err := s.dirtyGet(iova, n, pageSize, bitmap, clear); err != nil {
		return iovaError(uint64(iova), err)
	}
	return nil
}

func (s *Store) dirtyGet(iova addr.IOVA, n, pageSize addr.Len, words []uint64, take bool) error {
	if s.v1 {
		return errs.ErrNotV2
	}
	b, err := s.newBitmap(iova, n, pageSize, words)
	if err != nil {
		return err
	}
	held := s.heldForWriting()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hot.tracking.Load() {
		return errs.ErrInvalid
	}
	for _, r := range s.records(b.start, b.last) {
		if r.start < b.start || r.end() > b.last {
			return errs.ErrBisects
		}
	}
	s.markRanges(held)
	clear(b.words)
	for _, r := range s.records(b.start, b.last) {
		s.collect(&s.entry(metaAttr(r.meta).ID).dirty, r.start, r.end(), b, take)
	}
	if take {
		s.markRanges(held) // still being written
	}
	return nil
}

// heldForWriting is what the holders say hardware may be writing. No lock is
// held: a hold that ends meanwhile marks its memory itself, one that begins
// has written nothing that the report must have.
func (s *Store) heldForWriting() []addr.Range[addr.IOVA] {
	s.mu.Lock()
	holders := s.holders
	s.mu.Unlock()
	var held []addr.Range[addr.IOVA]
	for _, x := range holders {
		if h, ok := x.h.(DirtyHolder); ok {
			h.Writable(func(r addr.Range[addr.IOVA]) { held = append(held, r) })
		}
	}
	return slices.Clip(held)
}

func (s *Store) markRanges(rs []addr.Range[addr.IOVA]) {
	for _, r := range rs {
		s.markLocked(uint64(r.Start()), uint64(r.Last()))
	}
}

// collect adds the log of the mapping [start, end] to b, and takes it if so
// asked.
func (s *Store) collect(l *dirtyLog, start, end uint64, b *bitmap, take bool) {
	t := l.top.Load()
	if t == nil {
		return
	}
	if t.all.Load() {
		if take {
			t.all.Store(false)
		}
		b.set(start, end)
	}
	for i := range t.chunks {
		c := t.chunks[i].Load()
		if c == nil {
			continue
		}
		for j := range c.words {
			w := atomic.LoadUint64(&c.words[j])
			if w == 0 {
				continue
			}
			if take {
				w = atomic.SwapUint64(&c.words[j], 0)
			}
			at := start + (uint64(i)<<dirtyChunkShift+uint64(j)*64)<<t.shift
			b.or(at, end, w, t.shift)
		}
	}
}

// or adds 64 bits of a log, of which the first stands for the 1<<shift bytes
// at a. Nothing beyond end is set.
func (b *bitmap) or(a, end, w uint64, shift int) {
	if shift == b.shift && (a-b.start)&(1<<shift-1) == 0 {
		i := (a - b.start) >> shift
		b.words[i>>6] |= w << (i & 63)
		if hi := w >> 1 >> (63 - i&63); hi != 0 {
			b.words[i>>6+1] |= hi
		}
		return
	}
	for w != 0 {
		from := bits.TrailingZeros64(w)
		n := bits.TrailingZeros64(^(w >> from)) // ones in a row
		first := a + uint64(from)<<shift
		b.set(first, first+min(end-first, uint64(n)<<shift-1)) // a granule may pass 2^64
		w &^= (^uint64(0) >> (64 - n)) << from
	}
}

// set sets the bits of every page that shares a byte with [a, end].
func (b *bitmap) set(a, end uint64) {
	from, to := (a-b.start)>>b.shift, (end-b.start)>>b.shift
	for from <= to {
		stop := min(to, from|63)
		b.words[from>>6] |= ^uint64(0) >> (63 - (stop - from)) << (from & 63)
		from = stop + 1
	}
}
