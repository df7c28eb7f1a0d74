package ccw

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate/addr"
)

// Bounds of one program beyond its budget.
const (
	// MaxChain is how many CCWs a chain may have, a transfer in channel
	// included: CCWCHAIN_LEN_MAX of vfio_ccw_cp.c. One more is never fetched.
	MaxChain = 256
	// MaxSegments is how many chains a program may transfer between; the
	// limit that vfio-ccw got in 2026, where it recursed without one before.
	MaxSegments = 16
)

// walker fetches programs. It is reused from one request to the next.
type walker struct {
	job         *job.Job
	maxChain    int
	maxSegments int

	p     program
	stack []visit // of ways
	count Counts
}

// Counts says how much of guest programs was examined.
type Counts struct {
	CCWs  uint64 // CCWs fetched, transfers included
	Words uint64 // IDAWs and MIDAWs fetched
}

type visit struct {
	elem int32
	way  way
}

// walk fetches the program that orb names, whole, in one reader section. It
// returns an error only when the request must be refused; what is wrong with
// single elements is kept with them, to be found when execution gets there.
//
// whole is false when the way of the data of some element depends on how
// execution reaches it. Such a program is translated as it executes.
func (w *walker) walk(orb *cio.ORB) (whole bool, err error) {
	p := &w.p
	p.reset(orb)
	w.job.Enter()
	defer w.job.Exit()

	p.segs = append(p.segs, segment{guest: orb.Program()})
	for i := 0; i < len(p.segs); i++ { // transfers append to it
		if err := w.segment(int32(i)); err != nil {
			return false, err
		}
	}
	w.settleTransfers()
	w.spread()
	for i := range p.elems {
		d, one := p.elems[i].direction(p.format1)
		if !one {
			return false, nil
		}
		if err := w.data(i, d); err != nil {
			return false, err
		}
	}
	return true, nil
}

// segment fetches the chain of segment si.
func (w *walker) segment(si int32) error {
	p := &w.p
	base, first := p.segs[si].guest, int32(len(p.elems))
	p.segs[si].first = first
	for n := 0; ; n++ {
		i, at := len(p.elems), base+uint32(n)*cio.CCWSize
		if n == w.maxChain {
			return errs.At("ccw", i, uint64(at), fmt.Errorf("more than %d CCWs: %w", w.maxChain, errs.ErrChainTooLong))
		}
		more, err := w.element(si, at)
		p.segs[si].n = int32(n + 1)
		if err != nil {
			return errs.At("ccw", i, uint64(at), err)
		}
		if !more {
			break
		}
	}
	s := &p.segs[si]
	s.exit = s.n >= 2 && mayChainCommand(p.elems[s.first+s.n-2].ccw, p.format1)
	return nil
}

// chainsCommand reports whether c chains to a command of its own.
func chainsCommand(c cio.CCW, format1 bool) bool {
	return c.Flags&(cio.ChainData|cio.ChainCommand) == cio.ChainCommand && !c.Command.IsTIC(format1)
}

// mayChainCommand reports whether c chains to a command, if only when it ends
// at once, which leaves data chaining out.
func mayChainCommand(c cio.CCW, format1 bool) bool {
	return c.Flags&cio.ChainCommand != 0 && !c.Command.IsTIC(format1)
}

// element fetches the CCW at guest address at, the next of segment si, and
// reports whether execution can go on to the one after it.
func (w *walker) element(si int32, at uint32) (more bool, err error) {
	p := &w.p
	if err := w.job.Element(1); err != nil {
		p.elems = append(p.elems, element{at: at, kind: stop, hole: refused})
		return false, err
	}
	w.count.CCWs++
	e := element{at: at}
	i := len(p.elems)
	e.ccw, err = w.fetchCCW(at)
	if err != nil {
		e.kind, e.unfetched = stop, true
		var known bool
		if e.hole, known = holeOf(err); !known {
			return false, err
		}
		p.fault(i, -1, err)
		p.elems = append(p.elems, e)
		return false, nil
	}
	c := e.ccw
	if !c.Command.IsTIC(p.format1) {
		e.kind = noData
		if c.Count == 0 && !p.format1 {
			e.kind, e.hole = stop, absent
			p.fault(i, -1, fmt.Errorf("count 0 in format 0: %w", errs.ErrInvalid))
		}
		p.elems = append(p.elems, e)
		return e.kind != stop && c.Chains(), nil
	}

	e.kind = transfer
	if err := checkTransfer(c, p.format1); err != nil {
		e.kind, e.hole = stop, absent
		p.fault(i, -1, err)
		p.elems = append(p.elems, e)
		return false, nil
	}
	p.elems = append(p.elems, e)
	seg, pos, ok := w.target(si, c.Addr, at)
	if !ok {
		return false, fmt.Errorf("transfer to %#x: more than %d chains: %w", c.Addr, w.maxSegments, errs.ErrBudget)
	}
	p.elems[i].target.seg, p.elems[i].target.pos = seg, pos
	// SEARCH, TIC back to it, READ: a search that succeeds skips the transfer.
	// The searches of every device are of the write class, so only there is
	// it worth to fetch ahead; whatever else skips goes through the window.
	before := i - 1
	return seg == si && before >= int(p.segs[si].first) &&
		chainsCommand(p.elems[before].ccw, p.format1) &&
		p.elems[before].ccw.Command.Class(p.format1) == cio.ClassWrite, nil
}

// checkTransfer checks what a transfer in channel says of itself.
//
// Specification: SA22-7832, "Transfer in Channel".
func checkTransfer(c cio.CCW, format1 bool) error {
	switch {
	case format1 && (c.Flags != 0 || c.Count != 0):
		return fmt.Errorf("transfer in channel with flags %v, count %d: %w", c.Flags, c.Count, errs.ErrInvalid)
	case format1 && c.Addr&cio.Limit1 != 0:
		return fmt.Errorf("transfer to %#x: %w", c.Addr, errs.ErrOutsideRange)
	case !addr.Aligned(addr.GPA(c.Addr), cio.CCWSize):
		return fmt.Errorf("transfer to %#x: %w", c.Addr, errs.ErrMisaligned)
	}
	return nil
}

// target is the place of guest address to, which the transfer at from, in
// segment si, leads to. A new segment is begun where there is none.
func (w *walker) target(si int32, to, from uint32) (seg, pos int32, ok bool) {
	p := &w.p
	for i := range p.segs {
		s := &p.segs[i]
		n := uint32(s.n) * cio.CCWSize
		if int32(i) == si {
			n = from - s.guest + cio.CCWSize
		}
		if to == s.guest || to > s.guest && to-s.guest < n {
			return int32(i), int32((to - s.guest) / cio.CCWSize), true
		}
	}
	if len(p.segs) == w.maxSegments {
		return 0, 0, false
	}
	p.segs = append(p.segs, segment{guest: to})
	return int32(len(p.segs) - 1), 0, true
}

func (w *walker) fetchCCW(at uint32) (cio.CCW, error) {
	switch {
	case !addr.Aligned(addr.GPA(at), cio.CCWSize):
		return cio.CCW{}, fmt.Errorf("ccw address: %w", errs.ErrMisaligned)
	case uint64(at) >= w.p.limit():
		return cio.CCW{}, fmt.Errorf("ccw address: %w", errs.ErrOutsideRange)
	}
	b, err := w.job.Fetch(addr.IdentityIOVA(addr.GPA(at)), cio.CCWSize)
	if err != nil {
		return cio.CCW{}, err
	}
	return cio.DecodeCCW((*[cio.CCWSize]byte)(b), w.p.format1), nil
}

// settleTransfers leads the transfers whose target cannot be fetched into a
// hole: the check belongs to the transfer, not to the CCW that is not there.
func (w *walker) settleTransfers() {
	p := &w.p
	for i := range p.elems {
		e := &p.elems[i]
		if e.kind != transfer {
			continue
		}
		t := p.elemAt(e.target.seg, e.target.pos)
		if t == nil || !t.unfetched {
			continue
		}
		for _, f := range p.faults {
			if &p.elems[f.elem] == t {
				e.hole = t.hole
				p.fault(i, -1, fmt.Errorf("transfer to %#x: %w", t.at, f.err))
				break
			}
		}
	}
}

// spread finds the ways in which execution can reach each element.
func (w *walker) spread() {
	p := &w.p
	w.stack = append(w.stack[:0], visit{p.segs[0].first, asCommand})
	for len(w.stack) > 0 {
		v := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		e := &p.elems[v.elem]
		if e.way&v.way != 0 || e.kind == stop {
			continue
		}
		e.way |= v.way
		if e.kind == transfer {
			if e.hole != noHole {
				continue
			}
			if s := &p.segs[e.target.seg]; e.target.pos < s.n {
				w.stack = append(w.stack, visit{s.first + e.target.pos, v.way})
			}
			continue
		}
		class := e.ccw.Command.Class(p.format1)
		d := v.way
		if d == asCommand {
			d = directionOf(class)
		}
		command := chainsCommand(e.ccw, p.format1)
		if e.ccw.Flags&cio.ChainData != 0 {
			if d != 0 {
				w.next(v.elem, 1, d)
			}
			// A command that ends at once leaves data chaining out, and goes
			// by the other flag.
			command = v.way == asCommand && e.ccw.Flags&cio.ChainCommand != 0
		}
		if command {
			w.next(v.elem, 1, asCommand)
			w.next(v.elem, 2, asCommand) // status modifier
		}
	}
}

// next visits the element n places behind e, if it is in the same segment.
func (w *walker) next(e, n int32, by way) {
	p := &w.p
	if int(e+n) < len(p.elems) && p.elems[e+n].at == p.elems[e].at+uint32(n)*cio.CCWSize && w.sameSegment(e, e+n) {
		w.stack = append(w.stack, visit{e + n, by})
	}
}

func (w *walker) sameSegment(a, b int32) bool {
	for i := range w.p.segs {
		s := &w.p.segs[i]
		if a >= s.first && a < s.first+s.n {
			return b < s.first+s.n
		}
	}
	return false
}
