package iommu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A tally is 64 counters.
func TestTallyIsCounters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tl tally
		var model [64]uint64
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			m := rapid.OneOf(rapid.Uint64(), rapid.Just(^uint64(0)), rapid.Just(uint64(1))).Draw(t, "mask")
			var held uint64
			if add := rapid.IntRange(0, 2).Draw(t, "add") > 0; add {
				tl.add(m)
				for i := range model {
					model[i] += m >> i & 1
				}
			} else {
				for i := range model {
					if model[i] == 0 {
						m &^= 1 << i
					}
					model[i] -= m >> i & 1
					if model[i] != 0 {
						held |= 1 << i
					}
				}
				tl.sub(m)
				require.Equal(t, held, tl.held(), "mask %#x", m)
			}
			for i := range model {
				require.Equal(t, model[i], tl.count(uint(i)), "bit %d", i)
			}
		}
	})
}

func TestTallyUnderflowIsOurBug(t *testing.T) {
	var tl tally
	tl.add(1)
	require.Panics(t, func() { tl.sub(2) })
}

func FuzzOrder(f *testing.F) {
	// Oracle: a scattered layout is a permutation, undone by its inverse, with
	// no two consecutive pages in consecutive frames.
	f.Add(uint64(1), uint16(1))
	f.Add(uint64(0), uint16(2))
	f.Add(^uint64(0), uint16(512))
	f.Fuzz(func(t *testing.T, rnd uint64, blocks uint16) {
		n := uint64(blocks)%600 + 1
		s := newScatter(rnd, n)
		seen := make(map[uint64]bool)
		last := ^uint64(1)
		for i := range n {
			place := s.place(i, n)
			require.Less(t, place, n)
			for j := range uint64(BlockPages) {
				frame := s.pages.frame(j)
				require.Equal(t, j, s.pages.page(frame))
				at := place*BlockPages + frame
				require.False(t, seen[at])
				require.NotEqual(t, last+1, at, "pages %d and before are neighbours", i*BlockPages+j)
				seen[at], last = true, at
			}
		}
	})
}
