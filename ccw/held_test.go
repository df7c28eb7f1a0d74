package ccw_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
)

// Limits.Pins counts pages held at a time: a loop with prefetch forbidden,
// which is translated anew in each round, pins what it names once. Steps end
// it.
func TestLoopPinsOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   uint32
		want uint64
	}{
		{"data in a page", dataAt, 1},
		{"data across a page boundary", dataAt + 0xff8, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t, func(s *setup) {
				s.mem.ccws(codeAt, f1p, c(0x02, cc|sli, 16, tt.at), tic(codeAt))
				s.ccw.Limits = job.Limits{Steps: 10_000, Pins: 8}
			})
			g.run(f1p)
			require.ErrorIs(t, g.d.Err(), errs.ErrBudget)
			require.ErrorContains(t, g.d.Err(), "steps")
			require.Equal(t, tt.want, g.d.Usage().Pins)
			g.nothingHeld()
		})
	}
}

// MaxSegments bounds the chains of a whole program. One that is translated
// as it executes may transfer as often as it likes.
func TestOneSegmentWithoutPrefetch(t *testing.T) {
	g := newRig(t, func(s *setup) {
		s.mem.ccws(codeAt, f1p, c(0x43, cc|sli, 1, 0), tic(0x2000))
		s.mem.ccws(0x2000, f1p, c(0x43, sli, 1, 0))
		s.ccw.MaxSegments = 1
	})
	require.Equal(t, status{at: 0x2008, dev: ok, count: 1}, statusOf(g.run(f1p)))
	_, err := g.d.Start(ptr(orbOf(f1)))
	require.ErrorIs(t, err, errs.ErrBudget)
}

func ptr[T any](v T) *T { return &v }
