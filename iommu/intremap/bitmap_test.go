package intremap

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestBitmap: find against the search by hand.
func TestBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 200).Draw(t, "size")
		b := newBitmap(size)
		taken := make([]bool, size)
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, size-1), 0, size/2).Draw(t, "taken") {
			b.set(i, true)
			taken[i] = true
		}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, size-1), 0, size/4).Draw(t, "freed") {
			b.set(i, false)
			taken[i] = false
		}
		n := rapid.IntRange(1, size).Draw(t, "n")
		align := 1 << rapid.IntRange(0, 5).Draw(t, "align")
		from := rapid.IntRange(0, size-1).Draw(t, "from")
		want := -1
		for k := range 2 * size {
			i := from + k
			if i >= size {
				i -= size
			}
			free := i%align == 0 && i+n <= size
			for j := i; free && j < i+n; j++ {
				free = !taken[j]
			}
			if free {
				want = i
				break
			}
			if k >= size {
				break
			}
		}
		require.Equal(t, want, b.find(from, n, align))
	})
}
