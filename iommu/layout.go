package iommu

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Layout says how the frames behind consecutive pages lie in the host's
// address space.
type Layout uint8

// The layouts. A real host gives either, depending on its huge pages; code
// that is correct is correct under both.
const (
	// Contiguous puts consecutive pages of a window into consecutive frames.
	Contiguous Layout = iota
	// Scattered permutes them by the seed of the [Space]: no two consecutive
	// pages lie in consecutive frames.
	Scattered
)

// String is the word that ParseLayout reads.
func (l Layout) String() string {
	switch l {
	case Contiguous:
		return "contiguous"
	case Scattered:
		return "scattered"
	}
	return fmt.Sprintf("Layout(%d)", uint8(l))
}

// UnmarshalText reads the word that String prints, so that a Layout can be a
// command-line flag.
func (l *Layout) UnmarshalText(text []byte) error {
	switch string(text) {
	case "contiguous":
		*l = Contiguous
	case "scattered":
		*l = Scattered
	default:
		return fmt.Errorf("layout %q is neither contiguous nor scattered: %w", text, errs.ErrInvalid)
	}
	return nil
}

// A block is the unit in which reach is kept: 32 pages, so that the pages a
// device may read and those it may write are two halves of one 64-bit word
// and change together.
const (
	// BlockPages is the number of pages in a block.
	BlockPages = 32
	// BlockShift turns an address into the number of its block.
	BlockShift = addr.PageShift + 5
	// BlockSize is the size of a block in bytes.
	BlockSize addr.Len = BlockPages * addr.PageSize

	pageInBlock = BlockPages - 1
)

// order places the pages of one block in the frames of one block: page i lies
// in frame i*mul+add mod 32. mul is odd, which makes it a permutation; inv
// undoes it.
type order struct{ mul, inv, add uint8 }

var inOrder = order{mul: 1, inv: 1}

func (o order) frame(page uint64) uint64 {
	return (page*uint64(o.mul) + uint64(o.add)) & pageInBlock
}

func (o order) page(frame uint64) uint64 {
	return (frame - uint64(o.add)) * uint64(o.inv) & pageInBlock
}

// scatter is the permutation of one window: of its blocks, block i at place
// i*mul+add mod the number of blocks, and of the pages within each block.
type scatter struct {
	mul, add uint64
	pages    order
}

// newScatter draws the permutation of a window of n blocks from a random word.
//
// The stride within a block is never 1 (nor -1), so no two neighbours stay
// neighbours within a block; between the last page of a block and the first of
// the next they could only with stride 1 as well.
func newScatter(rnd, n uint64) scatter {
	mul := uint8(3 + 2*(rnd%14)) // odd, 3..29
	s := scatter{mul: 1, pages: order{mul: mul, inv: inverse(mul), add: uint8(rnd >> 8 & pageInBlock)}}
	if n > 1 {
		s.add = (rnd >> 16) % n
		// Any multiplier prime to n permutes; search upwards from a random
		// one. 1 is prime to everything, so the search ends.
		for s.mul = 1 + (rnd>>32)%(n-1); gcd(s.mul, n) != 1; s.mul = 1 + s.mul%(n-1) {
		}
	}
	return s
}

// place is where block i of n lies. n is at most 2^20 (see maxWindow), so the
// product does not wrap.
func (s scatter) place(i, n uint64) uint64 { return (i*s.mul + s.add) % n }

// inverse of an odd number mod 32: the square of an odd number is 1 mod 8, and
// one Newton step doubles the number of right bits.
func inverse(m uint8) uint8 { return m * (2 - m*m) & pageInBlock }

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// mix is the finaliser of splitmix64: every bit of the result depends on every
// bit of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
