package unit

// attribute is the field attribute of a 3270.
//
//	bit 0-1  2          3        4-5              6  7
//	         protected  numeric  display, select     modified
//	                             11 not displayed
type attribute byte

const (
	attrProtected attribute = 0x20
	attrHidden    attribute = 0x0C
	attrModified  attribute = 0x01
)

// cell is a position of the screen: a character, or the attribute byte of the
// field that starts behind it.
type cell struct {
	value byte // EBCDIC, 0 for nothing; or the attribute
	field bool
}

// screen is the character buffer. Addresses count from 0, row by row, and
// wrap.
type screen struct {
	rows, cols int
	cells      []cell // rows*cols
	cursor     int
}

func (s *screen) size() int { return len(s.cells) }

// reset makes the screen empty, of the given size, without fields.
func (s *screen) reset(rows, cols int) {
	s.rows, s.cols = rows, cols
	if n := rows * cols; n <= cap(s.cells) {
		s.cells = s.cells[:n]
		clear(s.cells)
	} else {
		s.cells = make([]cell, n)
	}
	s.cursor = 0
}

func (s *screen) next(at int) int {
	if at++; at == len(s.cells) {
		return 0
	}
	return at
}

// fieldOf finds the attribute position of the field that at lies in, at
// included. It reports false if the screen has no field.
func (s *screen) fieldOf(at int) (int, bool) {
	for range s.cells {
		if s.cells[at].field {
			return at, true
		}
		if at--; at < 0 {
			at = len(s.cells) - 1
		}
	}
	return 0, false
}

// protected reports whether the operator cannot type at a position.
func (s *screen) protected(at int) bool {
	f, ok := s.fieldOf(at)
	return ok && (f == at || attribute(s.cells[f].value)&attrProtected != 0)
}

// nextInput is the first position that an operator can type in behind at: the
// one behind the next attribute of an unprotected field with a position. It
// reports false if there is none.
func (s *screen) nextInput(at int) (int, bool) {
	for range s.cells {
		c := s.cells[at]
		at = s.next(at)
		if c.field && attribute(c.value)&attrProtected == 0 && !s.cells[at].field {
			return at, true
		}
	}
	return 0, false
}

// eraseUnprotected clears what an operator can type in, from position from to
// before to, all of it if they are the same. With modified it also resets the
// modified bits of those fields.
func (s *screen) eraseUnprotected(from, to int, modified bool) {
	f, formatted := s.fieldOf(from)
	open := !formatted || attribute(s.cells[f].value)&attrProtected == 0
	for at := from; ; {
		c := &s.cells[at]
		switch {
		case c.field:
			if open = attribute(c.value)&attrProtected == 0; open && modified {
				c.value &^= byte(attrModified)
			}
		case open:
			c.value = 0
		}
		if at = s.next(at); at == to {
			return
		}
	}
}

// resetModified resets the modified bits of all fields.
func (s *screen) resetModified() {
	for i := range s.cells {
		if s.cells[i].field {
			s.cells[i].value &^= byte(attrModified)
		}
	}
}

// text is what an operator sees: rows without the blanks at their end. Hidden
// fields and attribute positions are blank.
func (s *screen) text() string {
	out := make([]byte, 0, len(s.cells)+s.rows)
	f, formatted := s.fieldOf(len(s.cells) - 1)
	hidden := formatted && attribute(s.cells[f].value)&attrHidden == attrHidden
	for row := range s.rows {
		start := len(out)
		end := start
		for _, c := range s.cells[row*s.cols : (row+1)*s.cols] {
			show := byte(ebcdicSpace)
			switch {
			case c.field:
				hidden = attribute(c.value)&attrHidden == attrHidden
			case c.value > ebcdicSpace && !hidden:
				show = c.value
			}
			out = appendText(out, []byte{show})
			if show != ebcdicSpace {
				end = len(out)
			}
		}
		out = append(out[:end], '\n')
	}
	return string(out)
}

// Buffer addresses are two bytes. With 6 bits in each, as characters that can
// be printed, they reach 4,096 positions; with bits 0-1 zero they are a number
// of 14 bits.
const maxShortAddress = 4096

// addressCode are the 64 characters for 6 bits.
var addressCode = func() (t [64]byte) {
	for i := range t {
		switch low := i & 15; {
		case i == 0x21:
			t[i] = 0x61
		case i >= 0x30 && low <= 9, i < 0x30 && i > 0 && low >= 1 && low <= 9:
			t[i] = 0xC0 | byte(i)
		default:
			t[i] = 0x40 | byte(i)
		}
	}
	return t
}()

// encodeAddress is a buffer address as a display sends it.
func encodeAddress(at int) [2]byte {
	if at < maxShortAddress {
		return [2]byte{addressCode[at>>6], addressCode[at&0x3F]}
	}
	return [2]byte{byte(at >> 8), byte(at)}
}

// decodeAddress reads a buffer address that must lie below size.
func decodeAddress(a, b byte, size int) (int, bool) {
	var at int
	switch a >> 6 {
	case 0:
		at = int(a)<<8 | int(b)
	case 2:
		return 0, false
	default:
		at = int(a&0x3F)<<6 | int(b&0x3F)
	}
	return at, at < size
}
