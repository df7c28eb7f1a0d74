package translate

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

// wholeView fails when a slot that a look-up on v can come by names a table or
// a record beyond v's arenas: look-ups do not check.
func wholeView(v *view) (err error) {
	var visit func(slots []uint32, shift int)
	visit = func(slots []uint32, shift int) {
		for i, e := range slots {
			switch {
			case err != nil || e == 0:
			case e < isTable && int(e) >= len(v.recs):
				err = fmt.Errorf("slot %d, shift %d, names record %d of %d", i, shift, e, len(v.recs))
			case e < isTable:
			case int(e&^isTable) >= len(v.tables)>>levelBits:
				err = fmt.Errorf("slot %d, shift %d, names table %d of %d", i, shift, e&^isTable, len(v.tables)>>levelBits)
			default:
				visit(v.tables[int(e&^isTable)<<levelBits:][:fanout], shift-levelBits)
			}
		}
	}
	visit(v.low, lowShift)
	if v.high != 0 {
		visit([]uint32{v.high | isTable}, highShift+levelBits)
	}
	return err
}

// A look-up may be held up for as long as its section lasts, and maps wait for
// no section: the view it took must stay whole while the store grows.
func TestOldViewsStayWhole(t *testing.T) {
	ctx := context.Background()
	short := &Config{Deadline: 1}
	step := func(i int) addr.IOVA { return addr.IOVA(i) << 13 }
	one := func(s *Store, i int, at addr.IOVA) error { return s.Map(at, pg, Process(0x1000), rw) }
	for name, tt := range map[string]struct {
		at  func(i int) addr.IOVA
		add func(s *Store, i int, at addr.IOVA) error
	}{
		"records":      {step, one},
		"tables":       {func(i int) addr.IOVA { return addr.IOVA(i/2)<<30 | step(i%2) }, one},
		"high":         {func(i int) addr.IOVA { return 1<<63 | addr.IOVA(i/2)<<48 | step(i%2) }, one},
		"the low root": {func(i int) addr.IOVA { return addr.IOVA(i) << 40 }, one},
		"in a batch":   {step, func(s *Store, _ int, at addr.IOVA) error { return s.Apply(ctx, MapOp(at, pg, Process(0x1000), rw)) }},
		"taken back": {step, func(s *Store, i int, at addr.IOVA) error {
			ops := []Op{MapOp(at, pg, Process(0x1000), rw)}
			for j := range 8 {
				ops = append(ops, MapOp(step(1<<20+9*i+j), pg, Process(0x1000), rw))
			}
			if err := s.Apply(ctx, append(ops, UnmapOp(1, pg))...); err == nil {
				return fmt.Errorf("misaligned unmap succeeded")
			}
			return one(s, i, at)
		}},
		"withdrawn": {step, func(s *Store, i int, at addr.IOVA) error {
			if i%8 == 1 {
				r := s.NewReader()
				defer r.Close()
				r.Enter()
				defer r.Exit()
				ops := []Op{UnmapOp(step(0), pg)}
				for j := range 20 {
					ops = append(ops, MapOp(step(1<<20+j), pg, Process(0x1000), rw))
				}
				if err := s.Apply(ctx, ops...); err == nil {
					return fmt.Errorf("a section is open")
				}
			}
			return one(s, i, at)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestStore(t, short)
			views := []*view{s.hot.view.Load()}
			for i := range 100 {
				require.NoError(t, tt.add(s, i, tt.at(i)))
				if v := s.hot.view.Load(); v != views[len(views)-1] {
					views = append(views, v)
				}
				for j, v := range views {
					require.NoError(t, wholeView(v), "view %d of %d after mapping %d", j, len(views), i)
				}
			}
			require.Greater(t, len(views), 1)
		})
	}
}
