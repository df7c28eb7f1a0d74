package translate

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

// tree is the writer's side of the index. All of it is guarded by Store.mu.
//
// Outside a transaction it changes tables in place, slot by slot: that is
// enough for one mapping, which a reader sees by its live bit and not by its
// slots. Between begin and commit it copies each table it touches, once, and
// the new roots become visible in one store.
type tree struct {
	pub *atomic.Pointer[view] // what readers see
	w   *view                 // what the writer works on; *pub outside a transaction

	used       []uint16 // per table: slots in use; only the high root may be reachable and empty
	stamp      []uint64 // per table: transaction that created it
	freeTables []uint32
	freeRecs   []uint32

	cow     bool   // in a transaction
	id      uint64 // of the transaction, or of the last one
	oldLow  []uint32
	oldHigh uint32
	fresh   []uint32 // tables made by the transaction
	dropped []uint32 // tables of the old version that the new one lacks
}

func (t *tree) init(pub *atomic.Pointer[view]) {
	t.pub = pub
	t.w = &view{
		low:    make([]uint32, lowMinSlots),
		tables: make([]uint32, fanout), // table 0 is never used: 0 means none
		recs:   make([]record, 16),
	}
	t.w.recs[0] = noRecord
	t.used, t.stamp = make([]uint16, 1), make([]uint64, 1)
	for i := len(t.w.recs) - 1; i > 0; i-- {
		t.freeRecs = append(t.freeRecs, uint32(i))
	}
	pub.Store(t.w)
}

// grow publishes the same index in larger arenas. low, tables and recs are the
// lengths needed; what is long enough stays.
//
// A look-up that holds an older view finishes on it, and nobody waits for it
// when something is mapped. Slots of that view must therefore never name what
// its arenas do not hold: what names things in an arena that grows is copied,
// and only the copies are written to from here on.
func (t *tree) grow(low, tables, recs int) {
	n := *t.w
	haveTables, haveRecs := len(n.tables)>>levelBits, len(n.recs)
	low, tables, recs = max(low, len(n.low)), max(tables, haveTables), max(recs, haveRecs)
	if tables > maxTables {
		panic("translate: more tables than maxMappings mappings can need")
	}
	arenas := tables > haveTables || recs > haveRecs
	if arenas || low > len(n.low) {
		n.low = enlarged(n.low, low)
	}
	if arenas {
		n.tables = enlarged(n.tables, tables<<levelBits)
	}
	if recs > haveRecs {
		n.recs = enlarged(n.recs, recs)
	}
	t.used = append(t.used, make([]uint16, tables-haveTables)...)
	t.stamp = append(t.stamp, make([]uint64, tables-haveTables)...)
	t.freeTables = slices.Grow(t.freeTables, tables-haveTables)
	for i := tables - 1; i >= haveTables; i-- {
		t.freeTables = append(t.freeTables, uint32(i))
	}
	t.freeRecs = slices.Grow(t.freeRecs, recs-haveRecs)
	for i := recs - 1; i >= haveRecs; i-- {
		t.freeRecs = append(t.freeRecs, uint32(i))
	}
	t.w = &n
	if !t.cow {
		t.pub.Store(t.w)
		return
	}
	p := *t.pub.Load()
	if arenas {
		p.tables, p.recs = n.tables, n.recs
		p.low = slices.Clone(p.low) // what abort and revert return to
		t.oldLow = p.low
	}
	t.pub.Store(&p)
}

// enlarged is a copy of s with zeroes behind it, n long.
func enlarged[T any](s []T, n int) []T {
	return append(make([]T, 0, n), s...)[:n]
}

// reserve makes room for one insertion or removal, so that neither fails or
// moves an arena half-way.
func (t *tree) reserve(a, b uint64) {
	low, tables, recs := 0, 0, 0
	if isLow(a, b) {
		if need := b>>lowShift + 1; need > uint64(len(t.w.low)) {
			low = 1 << bits.Len64(need-1)
		}
	}
	if len(t.freeTables) < maxNewTables {
		have := len(t.w.tables) >> levelBits
		tables = have + max(maxNewTables, min(have, maxTables/8))
	}
	if len(t.freeRecs) == 0 {
		recs = 2 * len(t.w.recs)
	}
	if low|tables|recs != 0 {
		t.grow(low, tables, recs)
	}
}

// insert adds a record for [a, b], which must overlap nothing. It becomes
// visible with its meta word: pass metaLive in a transaction, set it later
// outside.
func (t *tree) insert(a, b, base, meta uint64) uint32 {
	t.reserve(a, b)
	e := t.freeRecs[len(t.freeRecs)-1]
	t.freeRecs = t.freeRecs[:len(t.freeRecs)-1]
	r := &t.w.recs[e]
	r.start, r.last, r.base = a, b-a, base
	release64(&r.meta, meta)
	if !isLow(a, b) {
		t.putTable(t.highRoot(), highShift, a, b, e)
		return e
	}
	for i := a >> lowShift; i <= b>>lowShift; i++ {
		t.put(&t.w.low[i], lowShift, i<<lowShift, a, b, e)
	}
	return e
}

// put enters e into the part of [a, b] that lies in slot p, whose window
// starts at w.
func (t *tree) put(p *uint32, shift int, w, a, b uint64, e uint32) {
	old := *p
	switch {
	case old == 0:
		release32(p, e)
		return
	case old >= isTable:
		t.putTable(t.own(p), shift-levelBits, max(a, w), min(b, w+(1<<shift-1)), e)
		return
	}
	// Another mapping lies in this window: both go into a table, which is
	// complete before it is published.
	n := t.newTable()
	last := w + (1<<shift - 1)
	o := &t.w.recs[old]
	t.putTable(n, shift-levelBits, max(o.start, w), min(o.end(), last), old)
	t.putTable(n, shift-levelBits, max(a, w), min(b, last), e)
	release32(p, n|isTable)
}

// putTable enters e into the slots of [a, b] in table n, whose window contains
// that range.
func (t *tree) putTable(n uint32, shift int, a, b uint64, e uint32) {
	slots := t.slots(n)
	from, to := a>>shift&(fanout-1), b>>shift&(fanout-1)
	w := a &^ (1<<shift - 1)
	for i := from; i <= to; i++ {
		if slots[i] == 0 {
			t.used[n]++
			release32(&slots[i], e)
		} else {
			t.put(&slots[i], shift, w+(i-from)<<shift, a, b, e)
		}
	}
}

// remove takes record e out of the index. The record itself stays until
// freeRec.
func (t *tree) remove(e uint32) {
	r := &t.w.recs[e]
	a, b := r.start, r.end()
	if t.cow {
		t.reserve(a, b) // for the copies
	}
	if !isLow(a, b) {
		// The root stays when it is empty: a view is immutable, and an
		// unmap allocates nothing.
		t.cutTable(t.highRoot(), highShift, a, b)
		return
	}
	for i := a >> lowShift; i <= b>>lowShift; i++ {
		t.cut(&t.w.low[i], lowShift, i<<lowShift, a, b)
	}
}

// cut clears the part of [a, b] that lies in slot p and reports whether the
// slot is empty now.
func (t *tree) cut(p *uint32, shift int, w, a, b uint64) bool {
	if *p >= isTable {
		n := t.own(p)
		if !t.cutTable(n, shift-levelBits, max(a, w), min(b, w+(1<<shift-1))) {
			return false
		}
		release32(p, 0)
		t.freeTable(n)
		return true
	}
	release32(p, 0)
	return true
}

func (t *tree) cutTable(n uint32, shift int, a, b uint64) (empty bool) {
	slots := t.slots(n)
	from, to := a>>shift&(fanout-1), b>>shift&(fanout-1)
	w := a &^ (1<<shift - 1)
	for i := from; i <= to; i++ {
		if t.cut(&slots[i], shift, w+(i-from)<<shift, a, b) {
			t.used[n]--
		}
	}
	return t.used[n] == 0
}

func (t *tree) slots(n uint32) []uint32 { return t.w.tables[int(n)<<levelBits:][:fanout] }

func (t *tree) newTable() uint32 {
	n := t.freeTables[len(t.freeTables)-1]
	t.freeTables = t.freeTables[:len(t.freeTables)-1]
	t.used[n] = 0
	if t.cow {
		t.stamp[n] = t.id
		t.fresh = append(t.fresh, n)
	}
	return n
}

// own is the table that slot p names, copied first if readers can see it and a
// transaction is under way.
func (t *tree) own(p *uint32) uint32 {
	n := *p &^ isTable
	if !t.cow || t.stamp[n] == t.id {
		return n
	}
	c := t.clone(n)
	release32(p, c|isTable)
	return c
}

func (t *tree) clone(n uint32) uint32 {
	c := t.newTable()
	copy(t.slots(c), t.slots(n))
	t.used[c] = t.used[n]
	t.dropped = append(t.dropped, n)
	return c
}

func (t *tree) highRoot() uint32 {
	switch n := t.w.high; {
	case n != 0 && t.cow && t.stamp[n] != t.id:
		t.w.high = t.clone(n)
	case n == 0 && t.cow:
		t.w.high = t.newTable()
	case n == 0:
		v := *t.w // a view is immutable
		v.high = t.newTable()
		t.w = &v
		t.pub.Store(t.w)
	}
	return t.w.high
}

// freeTable takes table n, which the working version no longer reaches. Its
// slots are all zero, but a reader of an older version may still be in it.
func (t *tree) freeTable(n uint32) {
	if t.cow && t.stamp[n] == t.id {
		t.stamp[n] = 0
		t.freeTables = append(t.freeTables, n)
		return
	}
	t.dropped = append(t.dropped, n)
}

// begin starts a transaction.
func (t *tree) begin() {
	t.id++
	t.cow = true
	t.oldLow, t.oldHigh = t.w.low, t.w.high
	n := *t.w
	n.low = slices.Clone(n.low)
	t.w = &n
}

// abort ends a transaction that was never published.
func (t *tree) abort() {
	t.cow = false
	t.w = t.pub.Load()
	for _, n := range t.fresh {
		if t.stamp[n] == t.id {
			t.stamp[n] = 0
			clear(t.slots(n))
			t.freeTables = append(t.freeTables, n)
		}
	}
	t.fresh, t.dropped = t.fresh[:0], t.dropped[:0]
	t.oldLow = nil
}

// publish makes the transaction visible. It ends with end or revert.
func (t *tree) publish() { t.pub.Store(t.w) }

// end closes a published transaction; t.dropped is what readers of the old
// version may still be in.
func (t *tree) end() {
	t.cow = false
	t.fresh = t.fresh[:0]
	t.oldLow = nil
}

// revert takes a published transaction back; t.dropped is then what readers of
// the withdrawn version may still be in.
func (t *tree) revert() {
	t.cow = false
	n := *t.w
	n.low, n.high = t.oldLow, t.oldHigh
	t.w = &n
	t.pub.Store(t.w)
	t.dropped = t.dropped[:0]
	for _, n := range t.fresh {
		if t.stamp[n] == t.id {
			t.stamp[n] = 0
			t.dropped = append(t.dropped, n)
		}
	}
	t.fresh = t.fresh[:0]
	t.oldLow = nil
}
