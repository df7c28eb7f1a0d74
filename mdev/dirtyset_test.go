package mdev

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

// A dirtySet against a bitmap, at both ends of the address space.
func TestDirtySetAgainstABitmap(t *testing.T) {
	for _, base := range []addr.IOVA{0, 1<<64 - 256} {
		var d dirtySet
		var model [256]bool
		rng := rand.New(rand.NewPCG(1, 2))
		for step := range 5_000 {
			from := rng.IntN(256)
			n := 1 + rng.IntN(min(256-from, 40))
			r := addr.MustRange(base+addr.IOVA(from), addr.Len(n))
			if rng.IntN(3) > 0 {
				d.add(r)
				for i := from; i < from+n; i++ {
					model[i] = true
				}
			} else {
				var got [256]bool
				d.take(r, func(p addr.Range[addr.IOVA]) {
					require.True(t, r.Covers(p))
					for a := p.Start() - base; ; a++ {
						require.False(t, got[a], "told twice")
						got[a] = true
						if a == p.Last()-base {
							break
						}
					}
				})
				for i := range model {
					inside := i >= from && i < from+n
					require.Equal(t, model[i] && inside, got[i], "step %d, address %d", step, i)
					model[i] = model[i] && !inside
				}
			}
			for i, x := range d.rs { // ascending, with gaps
				require.True(t, i == 0 || d.rs[i-1].Last()+1 < x.Start(), "step %d: %v", step, d.rs)
			}
		}
		d.clear()
		d.take(addr.Whole[addr.IOVA](), func(addr.Range[addr.IOVA]) { t.Error("not empty") })
	}
}

// It is bounded, and what it does to stay so reports too much, never too
// little.
func TestDirtySetIsBounded(t *testing.T) {
	var d dirtySet
	const n = 3 * maxDirtyRanges
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(n) {
		d.add(addr.MustRange(addr.IOVA(i)*4, 1))
		require.LessOrEqual(t, len(d.rs), maxDirtyRanges)
	}
	for i := range n {
		found := false
		d.take(addr.MustRange(addr.IOVA(i)*4, 1), func(addr.Range[addr.IOVA]) { found = true })
		require.True(t, found, "%d is lost", i)
	}
}
