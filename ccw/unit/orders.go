package unit

// Orders of the 3270 data stream.
//
// Specification: GA23-0059, IBM 3270 Data Stream Programmer's Reference,
// "Orders".
const (
	orderPT  = 0x05 // program tab
	orderGE  = 0x08 // graphic escape
	orderSBA = 0x11 // set buffer address
	orderEUA = 0x12 // erase unprotected to address
	orderIC  = 0x13 // insert cursor
	orderSF  = 0x1D // start field
	orderSA  = 0x28 // set attribute
	orderSFE = 0x29 // start field extended
	orderMF  = 0x2C // modify field
	orderRA  = 0x3C // repeat to address
)

// attributeType of a pair in an extended order: the field attribute. Pairs of
// other types, colour and highlighting, are taken and change nothing.
const attributeType = 0xC0

// fillScreens bounds the work of one write: the orders that fill or search the
// screen may together pass over this many screens. No program that draws a
// screen comes near.
const fillScreens = 64

// writer puts a data stream on a screen, byte by byte.
type writer struct {
	s      *screen
	at     int // buffer address
	order  byte
	want   int // bytes of the order that are to come
	pairs  int // attribute pairs behind those
	got    [4]byte
	have   int
	budget int // positions that orders may still pass over
}

func newWriter(s *screen, at int) writer {
	return writer{s: s, at: at, budget: fillScreens * s.size()}
}

// put takes the next bytes. It reports false when they are no data stream.
func (w *writer) put(p []byte) bool {
	for _, b := range p {
		if !w.one(b) {
			return false
		}
	}
	return true
}

// done reports whether the stream may end here: not inside an order.
func (w *writer) done() bool { return w.want == 0 && w.pairs == 0 }

func (w *writer) one(b byte) bool {
	switch {
	case w.want > 0:
		w.got[w.have] = b
		w.have++
		if w.want--; w.want > 0 {
			return true
		}
		return w.operands()
	case w.pairs > 0: // between two pairs
		w.got[0], w.have, w.want = b, 1, 1
		return true
	}
	switch b {
	case orderPT:
		return w.tab()
	case orderIC:
		w.s.cursor = w.at
		return true
	case orderGE, orderSF, orderSFE, orderMF:
		w.begin(b, 1)
		return true
	case orderSBA, orderEUA, orderSA:
		w.begin(b, 2)
		return true
	case orderRA:
		w.begin(b, 3)
		return true
	}
	if b < ebcdicSpace && !displayed(b) {
		return false
	}
	w.char(b)
	return true
}

// displayed reports whether a code below the space is a character: the format
// controls that a program prints on a screen.
func displayed(b byte) bool {
	switch b {
	case 0x00, 0x0C, 0x0D, 0x0E, 0x0F, 0x15, 0x19, 0x1C, 0x1E, 0x3F:
		return true
	}
	return false
}

func (w *writer) begin(order byte, want int) { w.order, w.want, w.have = order, want, 0 }

// operands acts on an order whose bytes have come.
func (w *writer) operands() bool {
	if w.pairs > 0 {
		w.pairs--
		w.pair(w.got[0], w.got[1])
		if w.pairs == 0 && w.order == orderSFE {
			w.at = w.s.next(w.at)
		}
		return true
	}
	switch w.order {
	case orderGE:
		w.char(w.got[0])
	case orderSF:
		w.s.cells[w.at] = cell{w.got[0], true}
		w.at = w.s.next(w.at)
	case orderSA: // of characters: none is kept
	case orderSFE:
		w.s.cells[w.at] = cell{0, true}
		if w.pairs = int(w.got[0]); w.pairs == 0 {
			w.at = w.s.next(w.at)
		}
	case orderMF:
		w.pairs = int(w.got[0])
	case orderSBA, orderEUA:
		to, ok := decodeAddress(w.got[0], w.got[1], w.s.size())
		if !ok {
			return false
		}
		if w.order == orderEUA {
			if !w.spend(to) {
				return false
			}
			w.s.eraseUnprotected(w.at, to, false)
		}
		w.at = to
	case orderRA:
		if w.got[2] == orderGE && w.have == 3 {
			w.want = 1 // the character comes behind
			return true
		}
		to, ok := decodeAddress(w.got[0], w.got[1], w.s.size())
		if !ok || !w.spend(to) {
			return false
		}
		b := w.got[w.have-1]
		for {
			w.char(b)
			if w.at == to {
				break
			}
		}
	}
	return true
}

// spend takes the way from here to an address off the budget.
func (w *writer) spend(to int) bool {
	n := to - w.at
	if n <= 0 {
		n += w.s.size()
	}
	w.budget -= n
	return w.budget >= 0
}

// pair is an attribute pair of the order that runs, at the position of the
// field. A modify field elsewhere than at a field changes nothing.
func (w *writer) pair(kind, value byte) {
	if c := &w.s.cells[w.at]; kind == attributeType && c.field {
		c.value = value
	}
}

// char puts a character and moves on.
func (w *writer) char(b byte) {
	w.s.cells[w.at] = cell{b, false}
	w.at = w.s.next(w.at)
}

// tab moves to the next field that can be typed in, to the first position if
// there is none.
func (w *writer) tab() bool {
	if w.budget -= w.s.size(); w.budget < 0 {
		return false
	}
	w.at, _ = w.s.nextInput(w.at)
	return true
}
