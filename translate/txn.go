package translate

import (
	"context"
	"sync/atomic"
)

// txn is a change of many mappings that readers see at once. It is built on
// copies of the tables it touches, so that taking it back is forgetting it.
//
// All methods need s.mu, with no other operation under way.
type txn struct {
	s       *Store
	added   []uint32 // records of new mappings, those removed again included
	removed []uint32 // records of mappings that go
	swaps   []swap   // mappings that get another record and keep their ID
}

type swap struct{ old, new uint32 }

// Marks of records that no reader has seen yet.
const (
	metaNew  = 1 << 18 // made by the transaction under way
	metaGone = 1 << 19 // and removed by it again
)

// Limbo is recycled when something is unmapped. What does not pass there - maps
// in batches, and withdrawn transactions while a section stays open - is
// looked after here: above tidyAt it is recycled if no section is open, above
// maxLimbo those that are open are waited for. There may always be one where
// many readers are busy, but each of them ends.
const (
	tidyAt   = 256
	maxLimbo = 4096
)

func (s *Store) begin(ctx context.Context) (*txn, error) {
	if n := len(s.limbo.tables) + len(s.limbo.recs); n > tidyAt {
		tidy := s.quiet()
		if !tidy && n > maxLimbo {
			if err := s.quiesce(ctx); err != nil {
				return nil, err
			}
			tidy = true
		}
		if tidy {
			s.reap()
		}
	}
	s.tree.begin()
	return &txn{s: s}, nil
}

func (x *txn) add(e uint32) {
	x.added = append(x.added, e)
	x.s.delta++
	x.s.taken++
}

func (x *txn) remove(e uint32) {
	s := x.s
	s.tree.remove(e)
	s.delta--
	if m := &s.tree.w.recs[e].meta; *m&metaNew != 0 {
		s.freeEntry(metaAttr(*m).ID)
		atomic.StoreUint64(m, metaGone)
		s.taken--
		return
	}
	x.removed = append(x.removed, e)
}

// swap replaces record e by one of the same range and ID.
func (x *txn) swap(e uint32, base, meta uint64) {
	s := x.s
	r := &s.tree.w.recs[e]
	a, b := r.start, r.end()
	s.tree.remove(e)
	x.swaps = append(x.swaps, swap{e, s.tree.insert(a, b, base, meta)})
}

// abort leaves the store as it was at begin. The transaction must not have
// been published.
func (x *txn) abort() {
	s := x.s
	s.tree.abort()
	s.delta, s.taken = 0, 0
	for _, e := range x.added {
		if m := s.tree.w.recs[e].meta; m&metaGone == 0 {
			s.freeEntry(metaAttr(m).ID)
		}
		s.tree.freeRecs = append(s.tree.freeRecs, e)
	}
	for _, w := range x.swaps {
		s.tree.freeRecs = append(s.tree.freeRecs, w.new)
	}
}

// commit makes the transaction visible in one moment and waits until no reader
// holds what it took away. On error the store is as it was at begin.
func (x *txn) commit(ctx context.Context, dirty *bitmap) error {
	s := x.s
	if len(x.removed)+len(x.swaps) == 0 {
		// Nothing goes: nobody need be waited for. Readers may be in the old
		// tables until the next quiesce.
		s.tree.publish()
		s.tree.end()
		s.limboTables()
	} else {
		s.vanishing()
		s.tree.publish()
		s.vanished()
		if err := s.quiesce(ctx); err != nil {
			x.withdraw()
			return err
		}
		s.reap()
		s.tree.end()
		for _, t := range s.tree.dropped {
			s.recycleTable(t)
		}
		s.tree.dropped = s.tree.dropped[:0]
	}
	for _, e := range x.removed {
		r := &s.tree.w.recs[e]
		s.finish(r.start, r.end(), r.meta, dirty)
		s.tree.freeRecs = append(s.tree.freeRecs, e)
	}
	for _, w := range x.swaps {
		s.tree.freeRecs = append(s.tree.freeRecs, w.old)
	}
	for _, e := range x.added {
		m := &s.tree.w.recs[e].meta
		if *m&metaGone != 0 {
			s.tree.freeRecs = append(s.tree.freeRecs, e)
			continue
		}
		release64(m, *m&^metaNew)
		s.count++
	}
	s.delta, s.taken = 0, 0
	return nil
}

// limboTables puts what the tree dropped into limbo.
func (s *Store) limboTables() {
	s.limbo.tables = append(s.limbo.tables, s.tree.dropped...)
	s.tree.dropped = s.tree.dropped[:0]
}

// withdraw takes a published transaction back because a reader stays in its
// section. That reader, or another, may have seen what was new: it waits in
// limbo for the next quiesce.
func (x *txn) withdraw() {
	s := x.s
	s.vanishing()
	s.tree.revert()
	s.vanished()
	s.delta, s.taken = 0, 0
	s.limboTables()
	for _, e := range x.added {
		m := &s.tree.w.recs[e].meta
		if *m&metaGone == 0 {
			s.limbo.ids = append(s.limbo.ids, metaAttr(*m).ID)
		}
		s.limbo.recs = append(s.limbo.recs, e)
		atomic.StoreUint64(m, 0)
	}
	for _, w := range x.swaps {
		s.limbo.recs = append(s.limbo.recs, w.new)
	}
}
