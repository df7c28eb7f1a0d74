package translate

import (
	"fmt"
	"slices"
)

// Check verifies the whole store and reports the first thing that is not as it
// should be: every slot names the mapping that lies there, every mapping has
// all its slots, no two overlap, and records, tables and IDs are each either
// in use, free, or in limbo, once. It is for tests, and costs as much as the
// store is large. It waits for the operation under way.
func (s *Store) Check() error {
	s.lockOp()
	defer s.unlockOp()
	c := checker{s: s, v: s.tree.w, tables: map[uint32]string{}, recs: map[uint32]string{}, ids: map[uint32]string{}}
	return c.run()
}

type checker struct {
	s                 *Store
	v                 *view
	tables, recs, ids map[uint32]string // who has it
	err               error
}

func (c *checker) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("translate: "+format, args...)
	}
}

func (c *checker) take(m map[uint32]string, what string, n uint32, who string) {
	if old, ok := m[n]; ok {
		c.fail("%s %d is %s and %s", what, n, old, who)
	}
	m[n] = who
}

func (c *checker) run() error {
	s, v := c.s, c.v
	if s.hot.view.Load() != v || s.tree.cow || s.busy || s.delta != 0 || len(s.tree.dropped)+len(s.tree.fresh) != 0 {
		c.fail("a transaction is left over")
	}
	if s.hot.gen&1 != 0 {
		c.fail("generation %d is odd at rest", s.hot.gen)
	}
	for i, e := range v.low {
		c.slot(e, lowShift, uint64(i)<<lowShift, true)
	}
	if v.high != 0 {
		c.table(v.high, highShift, 0, false)
		if v.high == 0 || s.tree.used[v.high] != 0 && v.firstIn(v.high, highShift, 0, ^uint64(0)) == 0 {
			c.fail("the high root counts slots but leads nowhere")
		}
	}
	c.walkMappings()
	for _, n := range s.tree.freeTables {
		c.take(c.tables, "table", n, "free")
		if !zero(s.tree.slots(n)) {
			c.fail("free table %d is not zero", n)
		}
	}
	for _, n := range s.limbo.tables {
		c.take(c.tables, "table", n, "in limbo")
	}
	for _, e := range s.tree.freeRecs {
		c.take(c.recs, "record", e, "free")
	}
	for _, e := range s.limbo.recs {
		c.take(c.recs, "record", e, "in limbo")
	}
	for _, id := range s.freeIDs {
		c.take(c.ids, "ID", id, "free")
		if e := s.entry(id); e.hold.window != nil || e.remote != nil || e.dirty.top.Load() != nil {
			c.fail("free ID %d holds memory", id)
		}
	}
	for _, id := range s.limbo.ids {
		c.take(c.ids, "ID", id, "in limbo")
	}
	if got, want := len(c.tables), len(v.tables)>>levelBits-1; got != want {
		c.fail("%d tables known of %d", got, want)
	}
	if got, want := len(c.recs), len(v.recs)-1; got != want {
		c.fail("%d records known of %d", got, want)
	}
	chunks := 0
	for i := range s.entries {
		if s.entries[i].Load() != nil {
			chunks++
		}
	}
	if got, want := len(c.ids), chunks*entryChunkLen; got != want {
		c.fail("%d IDs known of %d", got, want)
	}
	c.fileWindows()
	if v.recs[0] != noRecord {
		c.fail("record 0 was written: %+v", v.recs[0])
	}
	return c.err
}

// slot checks slot e of a level, whose window starts at w.
func (c *checker) slot(e uint32, shift int, w uint64, low bool) {
	switch {
	case e == 0:
	case e >= isTable:
		if shift == leafShift {
			c.fail("a table below the leaf at %#x", w)
			return
		}
		c.table(e&^isTable, shift-levelBits, w, low)
	default:
		r := &c.v.recs[e]
		if r.start > w+(1<<shift-1) || r.end() < w {
			c.fail("slot of %#x, 2^%d bytes, names [%#x, %#x]", w, shift, r.start, r.end())
		}
		if isLow(r.start, r.end()) != low {
			c.fail("[%#x, %#x] is in the wrong tree", r.start, r.end())
		}
	}
}

func (c *checker) table(t uint32, shift int, w uint64, low bool) {
	c.take(c.tables, "table", t, "in use")
	used := 0
	for i, e := range c.s.tree.slots(t) {
		if e != 0 {
			used++
			c.slot(e, shift, w+uint64(i)<<shift, low)
		}
	}
	if got := int(c.s.tree.used[t]); got != used || used == 0 && t != c.v.high {
		c.fail("table %d counts %d slots, has %d", t, got, used)
	}
}

// walkMappings checks every mapping against the rules and against its slots.
func (c *checker) walkMappings() {
	s, n := c.s, 0
	var last uint64
	for e, r := range s.records(0, ^uint64(0)) {
		c.take(c.recs, "record", e, "in use")
		attr := metaAttr(r.meta)
		c.take(c.ids, "ID", attr.ID, "in use")
		if n > 0 && r.start <= last || r.end() < r.start {
			c.fail("[%#x, %#x] follows %#x", r.start, r.end(), last)
		}
		if !s.aligned(r.start|(r.last+1)) || !s.valid(r.start, r.end()) {
			c.fail("[%#x, %#x] breaks a rule of Map", r.start, r.end())
		}
		if live := r.meta&metaLive != 0; live == (r.meta&metaSuspended != 0) || r.meta&(metaNew|metaGone) != 0 {
			c.fail("[%#x, %#x] has meta word %#x", r.start, r.end(), r.meta)
		}
		mid := r.start + r.last/2
		for _, a := range []uint64{r.start, r.end(), mid} {
			if c.v.find(a) != r {
				c.fail("%#x does not lead to [%#x, %#x]", a, r.start, r.end())
			}
		}
		last = r.end()
		n++
		if n > s.count {
			break
		}
	}
	if n != s.count || n > s.max {
		c.fail("%d mappings, counted %d, limit %d", n, s.count, s.max)
	}
}

// fileWindows checks that every window of a file is there for the mappings that
// use it, and for nothing else.
func (c *checker) fileWindows() {
	f := &c.s.files
	refs := map[*fileWindow]int{}
	for i := range c.s.entries {
		chunk := c.s.entries[i].Load()
		if chunk == nil {
			continue
		}
		for j := range chunk {
			if w := chunk[j].hold.window; w != nil {
				refs[w]++
			}
		}
	}
	space, shared := uint64(0), 0
	for w, n := range refs {
		space += uint64(len(w.mem))
		if w.refs != n {
			c.fail("a file window counts %d mappings, has %d", w.refs, n)
		}
		if w.file != nil {
			shared++
			if f.known[w.file.key] != w.file || !slices.Contains(w.file.windows, w) {
				c.fail("a window of file %+v cannot be found", w.file.key)
			}
		}
	}
	for key, known := range f.known {
		if shared -= len(known.windows); len(known.windows) == 0 {
			c.fail("file %+v is known and has no window", key)
		}
	}
	if shared != 0 || f.windows != len(refs) || f.space != space {
		c.fail("%d file windows of %#x bytes, counted %d of %#x; %d of known files are used by nobody", len(refs), space, f.windows, f.space, -shared)
	}
}

func zero(slots []uint32) bool {
	for _, e := range slots {
		if e != 0 {
			return false
		}
	}
	return true
}
