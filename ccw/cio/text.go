package cio

import (
	"math/bits"
	"strconv"
	"strings"
)

// bitNames are the names of single bits, most significant first, as the
// Principles of Operation abbreviates them.
type bitNames []struct {
	bit  uint64
	name string
}

// text prints v as A|B|0x40: named bits by name, the others as one number, and
// no bit at all as 0, so that an unknown bit never disappears from a log.
func (n bitNames) text(v uint64) string {
	if v == 0 {
		return "0"
	}
	var b strings.Builder
	put := func(s string) {
		if b.Len() > 0 {
			b.WriteByte('|')
		}
		b.WriteString(s)
	}
	for _, e := range n {
		if v&e.bit != 0 {
			put(e.name)
			v &^= e.bit
		}
	}
	if v != 0 {
		put("0x" + strconv.FormatUint(v, 16))
	}
	return b.String()
}

// field is the value of the bits mask in w, moved down to bit 0.
func field(w, mask uint32) uint32 { return w & mask >> bits.TrailingZeros32(mask) }

// withField is w with v in the bits of mask. Bits of v that do not fit are
// dropped: the callers' parameter types are as wide as the field or say so.
func withField(w, mask, v uint32) uint32 {
	return w&^mask | v<<bits.TrailingZeros32(mask)&mask
}

// withBit is w with the bits of mask all on or all off.
func withBit(w, mask uint32, on bool) uint32 {
	if on {
		return w | mask
	}
	return w &^ mask
}
