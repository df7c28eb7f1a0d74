package intremap

import "math/bits"

// bitmap has a bit for each index, set while the index is taken.
type bitmap struct {
	n     int
	words []uint64
}

func newBitmap(n int) bitmap { return bitmap{n: n, words: make([]uint64, (n+63)/64)} }

func (b bitmap) set(i int, taken bool) {
	if taken {
		b.words[i/64] |= 1 << (i % 64)
	} else {
		b.words[i/64] &^= 1 << (i % 64)
	}
}

// last is the last taken index in [i, i+n), or -1.
func (b bitmap) last(i, n int) int {
	for j := i + n - 1; j >= i; {
		if w := b.words[j/64] << (63 - j%64); w != 0 {
			return max(j-bits.LeadingZeros64(w), i-1) // below i: none
		}
		j = j/64*64 - 1
	}
	return -1
}

// find is the first run of n free indices at a multiple of align, searched
// from a given index on and around once, or -1.
func (b bitmap) find(from, n, align int) int {
	if i := b.findIn(from, b.n, n, align); i >= 0 {
		return i
	}
	return b.findIn(0, min(from+n-1, b.n), n, align)
}

func (b bitmap) findIn(i, end, n, align int) int {
	for {
		i = (i + align - 1) / align * align
		if i+n > end {
			return -1
		}
		last := b.last(i, n)
		if last < i {
			return i
		}
		i = last + 1
	}
}
