package channel

import (
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// cursor is where the data of the CCW in control go next. A piece is a run of
// bytes within one page, one block of an IDAW or one MIDAW.
type cursor struct {
	addr   uint64 // of the next byte
	piece  uint64 // bytes left in the piece; 0 = locate the next
	behind uint64 // bytes counted by Skip and not yet walked over
	left   uint64 // bytes left in the element: all of a direct CCW, or the list word's
	list   uint64 // address of the next list word
	begun  bool   // the CCW's address was looked at
	skip   bool   // counts but is not stored
	last   bool   // this is the last MIDAW
}

func (k *cursor) advance(n uint64, backward bool) {
	k.piece -= n
	k.left -= n
	if backward {
		k.addr -= n
	} else {
		k.addr += n
	}
}

// locate finds the piece that the next byte belongs to. It reports false, with
// the check set, when there is none. Preconditions: x.count is not 0.
func (x *Transfer) locate() bool {
	k := &x.cursor
	backward := x.class == cio.ClassReadBackward
	for {
		if k.piece == 0 {
			if k.left == 0 && !x.element() {
				return false
			}
			k.piece = k.left
			if !k.skip {
				k.piece = min(k.left, inPage(k.addr, backward))
			}
		}
		n := min(k.behind, k.piece)
		k.advance(n, backward)
		if k.behind -= n; k.piece != 0 {
			return true
		}
	}
}

// inPage is the number of bytes from a to the end of its page, or, backward,
// down to its start.
func inPage(a uint64, backward bool) uint64 {
	in := a & addr.PageMask
	if backward {
		return in + 1
	}
	return uint64(addr.PageSize) - in
}

// element begins the next element: the CCW's own data, or the next list word.
func (x *Transfer) element() bool {
	k := &x.cursor
	rest := uint64(x.count) + k.behind
	switch {
	case x.flags&cio.Skip != 0 && x.class.Input():
		// Nothing is stored, so that neither address nor list is looked at.
		k.skip = true
		k.left = rest
		return true
	case x.flags&cio.Modified != 0:
		return x.midaw(rest)
	case x.flags&cio.Indirect != 0:
		return x.idaw(rest)
	}
	return x.direct(rest)
}

// direct begins the data of a CCW that names them itself. The whole range must
// be within reach before the first byte moves.
func (x *Transfer) direct(rest uint64) bool {
	k, p := &x.cursor, &x.s.prog
	first, end := uint64(x.addr), uint64(x.addr)+rest
	if x.class == cio.ClassReadBackward {
		first, end = uint64(x.addr)+1-rest, uint64(x.addr)+1
	}
	// Below 0 first is near 2^64, beyond every end.
	ok := first < end && end <= p.limit && x.withinLimit(first, end-1)
	if ok && x.s.check != nil {
		err := x.s.check.Check(addr.HPA(first), addr.Len(rest), 0)
		ok = err == nil || checkOf(err) != cio.ProgramCheck
	}
	if !ok {
		x.fail(cio.ProgramCheck, !x.dataNext)
		return false
	}
	k.addr, k.left = uint64(x.addr), rest
	return true
}

// word fetches the next list word of size bytes into x.s.prog.word. The list
// itself must be in reach: for its first word that is a matter of the CCW.
func (x *Transfer) word(size uint64) bool {
	k, p := &x.cursor, &x.s.prog
	first := !k.begun
	if first {
		k.begun = true
		k.list = uint64(x.addr)
		// A doubleword list on a word boundary is found when its first
		// word is fetched [recordings], a list on no word boundary before.
		if k.list%min(size, cio.IDAW1Size) != 0 || size == cio.MIDAWSize && k.list%size != 0 {
			x.fail(cio.ProgramCheck, true)
			return false
		}
	}
	if x.s.stop.Load() {
		x.stopped = true
		return false
	}
	if k.list+size > p.limit {
		x.fail(cio.ProgramCheck, first)
		return false
	}
	if k.list%size != 0 {
		x.fail(cio.ProgramCheck, false)
		return false
	}
	if err := x.s.mem.Read(addr.HPA(k.list), p.word[:size]); err != nil {
		x.fail(checkOf(err), first)
		return false
	}
	k.list += size
	return true
}

// idaw begins the block of the next IDAW.
//
// Specification: SA22-7832, "CCW Indirect Data Addressing".
func (x *Transfer) idaw(rest uint64) bool {
	k, p := &x.cursor, &x.s.prog
	first := !k.begun
	var a uint64
	if p.mayIDAW2 {
		if !x.word(cio.IDAW2Size) {
			return false
		}
		a = uint64(cio.DecodeIDAW2((*[cio.IDAW2Size]byte)(p.word[:])))
	} else {
		if !x.word(cio.IDAW1Size) {
			return false
		}
		w := cio.DecodeIDAW1((*[cio.IDAW1Size]byte)(p.word[:]))
		if w.Reserved() {
			x.fail(cio.ProgramCheck, false)
			return false
		}
		a = uint64(w)
	}
	in := a & (p.block - 1)
	if x.class == cio.ClassReadBackward {
		in = p.block - 1 - in
	}
	if !first && in != 0 {
		x.fail(cio.ProgramCheck, false)
		return false
	}
	k.addr, k.left = a, min(p.block-in, rest)
	return x.limited()
}

// midaw begins the data of the next MIDAW.
//
// Specification: SA22-7832, "Modified-CCW-Indirect-Data-Addressing Facility".
func (x *Transfer) midaw(rest uint64) bool {
	k, p := &x.cursor, &x.s.prog
	if k.begun && (k.last || addr.Aligned(addr.HPA(k.list), addr.PageSize)) {
		x.fail(cio.ProgramCheck, false) // the list is used up, or would cross a page
		return false
	}
	if !x.word(cio.MIDAWSize) {
		return false
	}
	w := cio.DecodeMIDAW((*[cio.MIDAWSize]byte)(p.word[:]))
	n := uint64(w.Count)
	k.skip = w.Flags&cio.MIDAWSkip != 0 && x.class.Input()
	k.last = w.Flags&cio.MIDAWLast != 0
	ok := !w.Reserved() && w.Flags&cio.MIDAWInterrupt == 0 && n != 0 && n <= rest &&
		(k.skip || n <= inPage(w.Addr, x.class == cio.ClassReadBackward))
	if !ok {
		x.fail(cio.ProgramCheck, false)
		return false
	}
	k.addr, k.left = w.Addr, n
	return k.skip || x.limited()
}

// limited reports whether the element at the cursor, a list word's, is where
// address-limit checking lets data be; the check is set if it is not.
func (x *Transfer) limited() bool {
	k := &x.cursor
	low, high := k.addr, k.addr+(k.left-1)
	if x.class == cio.ClassReadBackward {
		low, high = k.addr-(k.left-1), k.addr
	}
	if !x.withinLimit(low, high) {
		x.fail(cio.ProgramCheck, false)
		return false
	}
	return true
}

// withinLimit reports whether address-limit checking lets data be from low to
// high, both inclusive.
//
// Specification: SA22-7832, "Address-Limit Checking".
func (x *Transfer) withinLimit(low, high uint64) bool {
	limit := uint64(x.s.cfg.AddressLimit)
	switch x.s.prog.limitMode {
	case 1:
		return low >= limit
	case 2:
		return high < limit
	}
	return true
}
