package translate

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

// place is a mapping of a random test.
type place struct{ a, last uint64 }

// The index against a list: mappings of every size at every height of the
// space, edges on and off the windows of the levels, both trees, roots that
// grow. After each change the ends and neighbours of every mapping are looked
// up, and the structure is checked.
func TestTreeGeometry(t *testing.T) {
	steps := 1500
	if testing.Short() || raceEnabled {
		steps = 300
	}
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(7, seed))
		s := newTestStore(t, nil)
		r := s.NewReader()
		defer r.Close()
		live := map[uint32]place{}
		for range steps {
			if len(live) > 0 && rng.IntN(5) < 2 {
				for _, id := range slices.Sorted(maps.Keys(live))[:1] { // IDs come back in no order
					p := live[id]
					n, err := s.Unmap(context.Background(), addr.IOVA(p.a), addr.Len(p.last-p.a)+1)
					require.NoError(t, err)
					require.Equal(t, addr.Len(p.last-p.a)+1, n)
					delete(live, id)
				}
			} else {
				shift := 12 + rng.IntN(52)
				a := rng.Uint64() >> rng.IntN(52) &^ (1<<(12+rng.IntN(shift-11)) - 1)
				n := uint64(1) << shift
				if rng.IntN(2) == 0 {
					n += uint64(rng.IntN(9)-4) << 12
				}
				n &^= 0xfff
				if n == 0 || a+n-1 < a {
					continue
				}
				clash := false
				for _, p := range live {
					clash = clash || p.a <= a+n-1 && a <= p.last
				}
				err := s.Map(addr.IOVA(a), addr.Len(n), Remote(nil8{}), rw)
				require.Equal(t, clash, err != nil, "[%#x, %#x]: %v", a, a+n-1, err)
				if err == nil {
					run, ok := r.Lookup(addr.IOVA(a))
					require.True(t, ok)
					live[run.ID] = place{a, a + n - 1}
				}
			}
			for id, p := range live {
				for _, a := range []uint64{p.a, p.last, p.a + (p.last-p.a)/2} {
					run, ok := r.Lookup(addr.IOVA(a))
					require.True(t, ok, "%#x of [%#x, %#x]", a, p.a, p.last)
					require.Equal(t, id, run.ID)
					require.Equal(t, addr.Len(p.last-a)+1, run.Len)
				}
			}
		}
		require.NoError(t, s.Check())
		_, err := s.UnmapAll(context.Background())
		require.NoError(t, err)
		require.NoError(t, s.Check())
		require.Zero(t, s.tree.w.first(0, ^uint64(0)))
	}
}

// No size of range makes work: the largest mappings there can be, and ranges
// over nothing, are done in well under what a loop over windows would take.
func TestLargeRangesAreCheap(t *testing.T) {
	s := newTestStore(t, nil)
	ctx := context.Background()
	all := ^addr.Len(0) &^ (pg - 1)
	// A high mapping below 2^48 makes the low root as large as it gets.
	require.NoError(t, s.Map(1<<48-0x1000, pg, Remote(nil8{}), rw))
	_, err := s.UnmapAll(ctx)
	require.NoError(t, err)
	start := time.Now()
	for range 10 {
		require.NoError(t, s.Map(0, all, Remote(nil8{}), rw))
		require.Error(t, s.Map(0x7000, pg, Remote(nil8{}), rw))
		n, err := s.Unmap(ctx, 0, all)
		require.NoError(t, err)
		require.Equal(t, all, n)
		_, err = s.Unmap(ctx, 0, all)
		require.NoError(t, err)
		require.NoError(t, s.Map(0x1000, 1<<47, Remote(nil8{}), rw))
		_, err = s.Suspend(ctx, 0x1000, 1<<47)
		require.NoError(t, err)
		_, err = s.UnmapAll(ctx)
		require.NoError(t, err)
	}
	// It takes some 10 ms; a loop over 2^48 bytes of windows takes hours.
	require.Less(t, time.Since(start), time.Minute)
}

// Memory is bounded by the mappings, wherever a client puts them: pairs that
// share the smallest window but no larger one with others cost most.
func TestIndexMemoryIsBounded(t *testing.T) {
	const n = 4096
	for name, at := range map[string]func(i uint64) uint64{
		"dense":             func(i uint64) uint64 { return i << 12 },
		"one a window":      func(i uint64) uint64 { return i << 21 },
		"pairs, 1 GiB":      func(i uint64) uint64 { return i/2<<30 | i%2<<12 },
		"pairs, high":       func(i uint64) uint64 { return 1<<63 | i/2<<48 | i%2<<12 },
		"scattered, high":   func(i uint64) uint64 { return i * 0x9e37_79b9_7f4a_7c15 &^ 0xfff },
		"scattered, 48 bit": func(i uint64) uint64 { return i * 0x9e37_79b9_7f4a_7c15 >> 16 &^ 0xfff },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestStore(t, nil)
			for i := range uint64(n) {
				require.NoError(t, s.Map(addr.IOVA(at(i)), pg, Process(0x1000), rw))
			}
			v := s.tree.w
			bytes := 4*len(v.low) + 4*len(v.tables) + 32*len(v.recs)
			// Two tables a mapping, five where the tree is deeper, and the
			// slack of arenas that double.
			limit := 2 * n * (2*2048 + 64)
			if v.high != 0 {
				limit = 2 * n * (5*2048 + 64)
			}
			require.Less(t, bytes, limit+4<<18+1<<16)
			t.Logf("%d bytes a mapping", bytes/n)
			_, err := s.UnmapAll(context.Background())
			require.NoError(t, err)
		})
	}
}
