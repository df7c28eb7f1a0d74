package wire

import (
	"strconv"
	"strings"
)

// bitNames are the names of single bits, in the order they are printed.
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
