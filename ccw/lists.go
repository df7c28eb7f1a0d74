package ccw

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// data finds the memory that element i names when its data moves in direction
// d, and fetches its list, if it has one. Only words that the count can reach
// are fetched.
func (w *walker) data(i int, d way) error {
	p := &w.p
	e := &p.elems[i]
	c := e.ccw
	e.first, e.n = int32(len(p.pieces)), 0
	if e.kind != noData {
		return nil
	}
	mida := c.Flags&cio.Modified != 0
	switch {
	case p.format1 && c.Addr&cio.Limit1 != 0,
		mida && (!p.orb.MIDAW() || c.Flags&(cio.Indirect|cio.Skip) != 0):
		e.kind = asIs
		return nil
	case d == 0 || c.Count == 0 || d != dataOut && c.Flags&cio.Skip != 0:
		return nil
	}
	var err error
	switch {
	case mida:
		err = w.midal(i, d)
	case c.Flags&cio.Indirect != 0:
		err = w.idal(i, d)
	default:
		err = w.direct(i, d)
	}
	e = &p.elems[i]
	e.n = int32(len(p.pieces)) - e.first
	if err != nil {
		return errs.At("ccw", i, uint64(e.at), err)
	}
	return nil
}

// direct cuts the range of direct data into the blocks that a list of IDAWs
// would have for it.
func (w *walker) direct(i int, d way) error {
	p := &w.p
	e := &p.elems[i]
	at, n := uint64(e.ccw.Addr), uint64(e.ccw.Count)
	low, last := at, at+n-1
	if d == dataBack {
		low, last = at-n+1, at // wraps below zero: then low > last
	}
	if low > last || last >= p.limit() {
		e.kind, e.hole = badDirect, absent
		p.fault(i, -1, errs.Addr("iova", at, fmt.Errorf("%d bytes of direct data: %w", n, errs.ErrOutsideRange)))
		return nil
	}
	e.kind = direct
	block := uint64(p.orb.Block())
	for n > 0 {
		m := block - at&(block-1)
		if d == dataBack {
			m = at&(block-1) + 1
		}
		m = min(m, n)
		p.pieces = append(p.pieces, piece{at: addr.IOVA(at), n: uint32(m)})
		n -= m
		if d == dataBack {
			at -= m
		} else {
			at += m
		}
	}
	return w.job.Element(len(p.pieces) - int(e.first))
}

// list checks the address of a list whose words have size bytes and must lie
// on a multiple of it, and makes the element a badList if it cannot be used.
func (w *walker) list(i int, size uint32) (ok bool) {
	p := &w.p
	e := &p.elems[i]
	a := e.ccw.Addr
	switch {
	case !addr.Aligned(addr.GPA(a), cio.IDAW1Size), size == cio.MIDAWSize && !addr.Aligned(addr.GPA(a), cio.MIDAWSize):
		e.kind = badList
		p.fault(i, -1, errs.Addr("iova", uint64(a), fmt.Errorf("list: %w", errs.ErrMisaligned)))
		return false
	case uint64(a)+uint64(size) > p.limit():
		e.kind, e.hole = badList, absent
		p.fault(i, -1, errs.Addr("iova", uint64(a), fmt.Errorf("list: %w", errs.ErrOutsideRange)))
		return false
	case !addr.Aligned(addr.GPA(a), addr.Len(size)):
		// A list of doublewords on a word boundary: hardware sees it when it
		// fetches the first, with other consequences.
		e.kind = badList
		p.fault(i, -1, errs.Addr("iova", uint64(a), fmt.Errorf("list: %w", errs.ErrMisaligned)))
		return false
	}
	return true
}

// words fetches n list words of size bytes from the list of element i,
// beginning with word k. Fewer come back when the rest cannot be fetched; err
// then says why, and fatal whether the request is to be refused for it.
func (w *walker) words(i, k, n int, size uint32) (b []byte, hole hole, err error) {
	a := uint64(w.p.elems[i].ccw.Addr) + uint64(k)*uint64(size)
	have := n
	if limit := w.p.limit(); a+uint64(n)*uint64(size) > limit {
		have = 0
		if a < limit {
			have = int((limit - a) / uint64(size))
		}
		err = errs.Addr("iova", a+uint64(have)*uint64(size), fmt.Errorf("list: %w", errs.ErrOutsideRange))
		hole = absent
	}
	if have == 0 {
		return nil, hole, err
	}
	b, ferr := w.job.Fetch(addr.IOVA(a), have*int(size))
	if ferr == nil {
		w.count.Words += uint64(have)
		return b, hole, err
	}
	h, known := holeOf(ferr)
	if !known {
		return nil, noHole, ferr
	}
	// Some page of the list is missing. What lies before it counts.
	toPage := int(uint64(addr.PageSize)-uint64(addr.PageOffset(addr.IOVA(a)))) / int(size)
	if toPage < have && toPage > 0 {
		if b, perr := w.job.Fetch(addr.IOVA(a), toPage*int(size)); perr == nil {
			w.count.Words += uint64(toPage)
			return b, h, ferr
		}
	}
	return nil, h, ferr
}

// idal fetches the IDAWs of element i, as many as its count needs.
//
// Specification: SA22-7832, "Indirect-Data-Address Word".
func (w *walker) idal(i int, d way) error {
	p := &w.p
	size := uint32(cio.IDAW1Size)
	if p.orb.IDAW2() {
		size = cio.IDAW2Size
	}
	if !w.list(i, size) {
		return nil
	}
	b, h, err := w.words(i, 0, 1, size)
	if b == nil {
		if h == noHole {
			return err
		}
		p.elems[i].kind, p.elems[i].hole = badList, h
		p.fault(i, -1, fmt.Errorf("list: %w", err))
		return nil
	}
	p.elems[i].kind = indirect
	count, block := p.elems[i].ccw.Count, p.orb.Block()
	first := w.idaw(b)
	n := cio.IDAWs(first, count, block)
	if d == dataBack {
		n = cio.IDAWsBackward(first, count, block)
	}
	if err := w.job.Element(n); err != nil {
		return err
	}
	left := w.block(i, first, uint32(count), d)
	if n == 1 || left == 0 {
		return nil
	}
	b, h, err = w.words(i, 1, n-1, size)
	if err != nil && h == noHole {
		return err
	}
	for k := 1; left > 0; k++ {
		if len(b) < int(size) {
			p.fault(i, k, err)
			missing := piece{n: left, hole: h}
			if d == dataBack { // on the boundary that hardware expects
				missing.at = addr.IOVA(block - 1)
			}
			p.pieces = append(p.pieces, missing)
			return nil
		}
		left = w.block(i, w.idaw(b), left, d)
		b = b[size:]
	}
	return nil
}

// idaw is the address in the first word of b. The reserved bit of a format-1
// word is left in: no storage is there.
func (w *walker) idaw(b []byte) uint64 {
	if w.p.orb.IDAW2() {
		return uint64(cio.DecodeIDAW2((*[cio.IDAW2Size]byte)(b)))
	}
	return uint64(cio.DecodeIDAW1((*[cio.IDAW1Size]byte)(b)))
}

// block appends the piece of the next word of element i, which names address
// at, with left bytes still to cover, and returns how many are left after it.
// It returns 0 as well when execution cannot get past this word.
func (w *walker) block(i int, at uint64, left uint32, d way) uint32 {
	p := &w.p
	e := &p.elems[i]
	k := len(p.pieces) - int(e.first)
	mask := uint64(p.orb.Block() - 1)
	in := at & mask
	pc := piece{at: addr.IOVA(at), n: uint32(mask+1) - uint32(in)}
	boundary := uint64(0)
	if d == dataBack {
		pc.n, boundary = uint32(in)+1, mask
	}
	pc.n = min(pc.n, left)
	switch {
	case k > 0 && in != boundary:
		pc.hole = absent
		p.fault(i, k, errs.Addr("iova", at, fmt.Errorf("not on a block boundary: %w", errs.ErrMisaligned)))
	case !p.orb.IDAW2() && at >= cio.Limit1:
		pc.hole = absent
		if k == 0 {
			e.kind = badWord // found before the command counts as accepted
		}
		p.fault(i, k, errs.Addr("iova", at, fmt.Errorf("reserved bit: %w", errs.ErrOutsideRange)))
	}
	p.pieces = append(p.pieces, pc)
	if pc.hole != noHole {
		return 0
	}
	return left - pc.n
}

// midal fetches the MIDAWs of element i until the last, or until the one that
// stops execution.
//
// Specification: SA22-7832, "Modified-CCW-Indirect-Data-Addressing Facility".
func (w *walker) midal(i int, d way) error {
	p := &w.p
	if !w.list(i, cio.MIDAWSize) {
		return nil
	}
	list, count := uint64(p.elems[i].ccw.Addr), uint32(p.elems[i].ccw.Count)
	var sum uint32
	for k := 0; ; k++ {
		var h hole
		var b []byte
		var err error
		if k > 0 && (list+uint64(k)*cio.MIDAWSize)&addr.PageMask == 0 {
			h, err = absent, fmt.Errorf("list crosses a 4 KiB boundary: %w", errs.ErrInvalid)
		} else if b, h, err = w.words(i, k, 1, cio.MIDAWSize); err != nil && h == noHole {
			return err
		}
		if err := w.job.Element(1); err != nil {
			return err
		}
		if b == nil {
			if k == 0 {
				p.elems[i].kind, p.elems[i].hole = badList, h
				p.fault(i, -1, fmt.Errorf("list: %w", err))
				return nil
			}
			// A word with no count: hardware stops at it.
			p.fault(i, k, err)
			p.pieces = append(p.pieces, piece{hole: h})
			break
		}
		m := cio.DecodeMIDAW((*[cio.MIDAWSize]byte)(b))
		pc := piece{at: addr.IOVA(m.Addr), n: uint32(m.Count), flags: m.Flags, count: m.Count, zero: m.Zero}
		sum += uint32(m.Count)
		wrong := w.checkMIDAW(m, sum, count, d)
		if wrong != nil {
			pc.hole = absent
			p.fault(i, k, wrong)
		}
		p.pieces = append(p.pieces, pc)
		if wrong != nil || m.Flags&cio.MIDAWLast != 0 || sum == count {
			break
		}
	}
	p.elems[i].kind = modified
	return nil
}

// checkMIDAW finds what hardware will find in m, so that nothing is pinned
// for a word that moves no data.
func (w *walker) checkMIDAW(m cio.MIDAW, sum, count uint32, d way) error {
	switch {
	case m.Reserved():
		return fmt.Errorf("reserved bits: %w", errs.ErrInvalid)
	case m.Flags&cio.MIDAWInterrupt != 0:
		return fmt.Errorf("data-transfer interruption: %w", errs.ErrNotSupported)
	case m.Count == 0:
		return fmt.Errorf("count 0: %w", errs.ErrInvalid)
	case !skips(m.Flags, d) && crosses(m, d):
		return errs.Addr("iova", m.Addr, fmt.Errorf("%d bytes cross a 4 KiB boundary: %w", m.Count, errs.ErrInvalid))
	case sum > count:
		return fmt.Errorf("counts add up to more than %d: %w", count, errs.ErrInvalid)
	}
	return nil
}

// skips reports whether a MIDAW with flags f names no storage.
func skips(f cio.MIDAWFlags, d way) bool { return d != dataOut && f&cio.MIDAWSkip != 0 }

func crosses(m cio.MIDAW, d way) bool {
	off := m.Addr & addr.PageMask
	if d == dataBack {
		return off+1 < uint64(m.Count)
	}
	return off+uint64(m.Count) > uint64(addr.PageSize)
}
