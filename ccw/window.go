package ccw

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// A window is host address space in which a channel program is translated
// while it executes. Hardware fetches a CCW there as from any storage; the
// fetch is answered by translating the guest's CCW at that moment. So a
// program that changes itself (prefetch not allowed, ORB P=0), or that was
// changed while it was suspended (S=1), runs as it stands when execution
// reaches each CCW, and what a whole translation could not foresee is
// translated if it happens.
//
// The window is cut into runs of slots. A run stands for guest addresses from
// some CCW on: slot i is the CCW at guest+8*i. A transfer leads to the run
// that holds its target, or to a new one; old runs are used again in turn,
// which loses nothing, since only the run that executes and the one it came
// from matter.
type window struct {
	step walker // of single elements, on the job of the program
	out  *rewriter

	place  *iommu.Reserved // host addresses of the slots
	base   uint32          // the first of them
	lists  [2][]byte       // where the lists of the CCW at work and the one before stand
	listAt [2]uint32
	turn   int

	perRun int
	runs   [windowRuns]run
	inUse  int // runs that were used since the reset
	nextIn int // run to be used next
	first  int32

	// refetch says that every CCW is read anew each time it executes.
	refetch bool
	// data says that data chaining leads to the CCW that is fetched next, and
	// way is then the one in which its data move. Hardware sets both before the
	// fetch, on the goroutine that fetches.
	data bool
	way  way

	elems []element // by slot, as last handed out
	given []uint64  // by slot, the host CCW that hardware got
	err   []error   // by slot
	hosts []addr.HPA
}

const windowRuns = 32

type run struct {
	guest   uint32 // address of slot 0
	origin  uint32 // what guest was at first; see fetch
	used    bool
	entered bool  // at slot 0 by a transfer of ours, after which no other may follow
	index   int32 // of its first element in messages
	reached int32 // slots handed out
}

func (w *window) init(out *rewriter, step walker, space *iommu.Space) error {
	w.step, w.out = step, out
	w.step.maxSegments = 2       // the CCW at hand, and where it leads
	w.perRun = step.maxChain + 2 // one too many, and one that status modifier skips to
	n := windowRuns * w.perRun * cio.CCWSize
	f, err := space.Reserve(addr.Len(n), cio.Limit1)
	if err != nil {
		return fmt.Errorf("window: %w", err)
	}
	w.place = f
	w.base = uint32(f.Start())
	w.elems = make([]element, windowRuns*w.perRun)
	w.given = make([]uint64, windowRuns*w.perRun)
	w.err = make([]error, windowRuns*w.perRun)
	return nil
}

// forget makes the window stand for nothing.
func (w *window) forget() {
	for i := range w.runs[:w.inUse] {
		w.drop(i)
	}
	w.inUse = 0
}

// drop makes run i stand for nothing: what its slots held says nothing of the
// program that uses them next.
func (w *window) drop(i int) {
	first := i * w.perRun
	last := first + int(w.runs[i].reached)
	clear(w.elems[first:last])
	clear(w.err[first:last])
	w.runs[i] = run{}
}

func (w *window) free() {
	if w.place != nil {
		w.place.Free()
		w.place = nil
	}
}

// reset empties the window for the program of orb. Its lists stand in the
// arena, whose reset comes first.
func (w *window) reset(orb *cio.ORB, refetch bool) error {
	w.step.p.reset(orb)
	w.forget()
	w.nextIn, w.first, w.turn = 0, 0, 0
	w.refetch = refetch
	for i := range w.lists {
		var err error
		if w.lists[i], w.listAt[i], err = w.out.alloc(int(addr.PageSize), int(addr.PageSize), true); err != nil {
			return err
		}
	}
	return nil
}

// exit makes a place where execution goes on at guest address at.
func (w *window) exit(at uint32) uint32 {
	host := w.enter(at)
	w.runs[w.slotOf(host)/w.perRun].entered = true
	return host
}

// enter is the host address that stands for the CCW at guest address at.
func (w *window) enter(at uint32) uint32 {
	for i := range w.runs[:w.inUse] {
		r := &w.runs[i]
		if r.used && !r.entered && at >= r.guest && at-r.guest < uint32(w.perRun-2)*cio.CCWSize {
			return w.hostOf(i*w.perRun + int((at-r.guest)/cio.CCWSize))
		}
	}
	i := w.victim()
	w.drop(i)
	w.inUse = max(w.inUse, i+1)
	w.runs[i] = run{guest: at, origin: at, used: true, index: w.first}
	return w.hostOf(i * w.perRun)
}

// victim is the run to be used next. Runs that chains of a whole program lead
// into are left alone, as their addresses stand in that program.
func (w *window) victim() int {
	i := w.nextIn
	for range windowRuns {
		i = w.nextIn
		w.nextIn = (w.nextIn + 1) % windowRuns
		if !w.runs[i].entered {
			break
		}
	}
	return i
}

func (w *window) hostOf(slot int) uint32 { return w.base + uint32(slot)*cio.CCWSize }

// slotOf is the slot at host address a, or -1 outside the window.
func (w *window) slotOf(a uint32) int {
	off := a - w.base
	if slot := int(off / cio.CCWSize); slot < windowRuns*w.perRun {
		return slot
	}
	return -1
}

// guest is the guest address that slot stands for.
func (w *window) guest(slot int) (uint32, bool) {
	r := &w.runs[slot/w.perRun]
	return r.guest + uint32(slot%w.perRun)*cio.CCWSize, r.used
}

// read answers hardware's fetch of a CCW.
func (w *window) read(hpa addr.HPA, p []byte) error {
	slot := w.slotOf(uint32(hpa))
	if len(p) != cio.CCWSize || !addr.Aligned(hpa, cio.CCWSize) || slot < 0 || !w.runs[slot/w.perRun].used {
		return errs.Addr("hpa", uint64(hpa), errs.ErrReach)
	}
	w.translate(slot, p)
	w.given[slot] = binary.BigEndian.Uint64(p)
	return nil
}

// translate writes the host CCW for slot into b.
func (w *window) translate(slot int, b []byte) {
	r := &w.runs[slot/w.perRun]
	pos := slot % w.perRun
	r.reached = max(r.reached, int32(pos)+1)
	w.first = max(w.first, r.index+r.reached)
	w.err[slot] = nil

	err := w.fetch(slot, r, pos, b)
	if err == nil {
		return
	}
	e := &w.elems[slot]
	e.kind = stop
	if errors.Is(err, errs.ErrBudget) || errors.Is(err, errs.ErrChainTooLong) {
		e.hole = absent
	} else {
		e.hole = refused
	}
	w.err[slot] = err
	putStop(b)
}

// fetch fetches and translates the CCW of slot. An error means that the
// program cannot go on, for a reason that is not in the CCW.
func (w *window) fetch(slot int, r *run, pos int, b []byte) error {
	s := &w.step
	p := &s.p
	if w.refetch {
		s.job.Refetch()
	}
	p.elems, p.segs, p.pieces, p.faults = p.elems[:0], p.segs[:0], p.pieces[:0], p.faults[:0]
	e := &w.elems[slot]
	at, _ := w.guest(slot)
	*e = element{at: at}
	index := int(r.index) + pos
	if pos >= s.maxChain {
		return errs.At("ccw", index, uint64(at), fmt.Errorf("more than %d CCWs: %w", s.maxChain, errs.ErrChainTooLong))
	}

	s.job.Enter()
	defer s.job.Exit()
	entered := r.entered && pos == 0
	if entered {
		r.guest, at = r.origin, r.origin
	}
	c, err := w.one(at)
	if err == nil && entered && c.kind == transfer {
		// Hardware came here by a transfer of ours and would refuse another.
		// It gets what the guest's transfer leads to.
		r.guest = c.ccw.Addr
		if c, err = w.one(r.guest); err == nil && c.kind == transfer {
			c.kind, c.hole = stop, absent
			p.fault(0, -1, fmt.Errorf("transfer to a transfer: %w", errs.ErrInvalid))
		}
	}
	if err != nil {
		return errs.At("ccw", index, uint64(at), err)
	}
	if c.kind == transfer {
		// What it leads to is reached in the way that it was.
		err := s.job.Mapped(addr.IdentityIOVA(addr.GPA(c.ccw.Addr)), cio.CCWSize)
		if err == nil && uint64(c.ccw.Addr)+cio.CCWSize > p.limit() {
			err = errs.ErrOutsideRange
		}
		if err == nil {
			*e = *c
			putCCW(b, cio.TIC, 0, 0, w.enter(c.ccw.Addr))
			return nil
		}
		h, known := holeOf(err)
		if !known {
			return errs.At("ccw", index, uint64(at), err)
		}
		c.hole = h
		*e = *c
		w.err[slot] = errs.At("ccw", index, uint64(at), fmt.Errorf("transfer to %#x: %w", c.ccw.Addr, err))
		putCCW(b, cio.TIC, 0, 0, w.out.in(h, 0))
		return nil
	}
	if err := w.take(c); err != nil {
		return w.renumber(err, index)
	}
	c = &p.elems[0]
	if err := w.write(b, c); err != nil {
		return errs.At("ccw", index, uint64(at), err)
	}
	if len(p.faults) > 0 {
		w.err[slot] = w.renumber(p.errAt(0), index)
	}
	*e = *c
	return nil
}

// fetching is told by hardware how the CCW is reached that it fetches next.
func (w *window) fetching(dataChaining bool) { w.data = dataChaining }

// take fetches the list of c, the only element of the step, and pins what
// it names for the way in which its data can move.
func (w *window) take(c *element) error {
	s := &w.step
	c.way = w.way
	if !w.data {
		c.way, w.way = asCommand, directionOf(c.ccw.Command.Class(s.p.format1))
	}
	if err := s.data(0, w.way); err != nil {
		return err
	}
	w.hosts = w.hosts[:0]
	for range s.p.pieces {
		w.hosts = append(w.hosts, 0)
	}
	if err := s.pin(0, w.way, w.way.access(), w.hosts); err != nil {
		return errs.At("ccw", 0, uint64(c.at), err)
	}
	return nil
}

// one fetches the CCW at guest address at as the only element of the step.
func (w *window) one(at uint32) (*element, error) {
	p := &w.step.p
	p.elems, p.segs, p.faults = p.elems[:0], p.segs[:0], p.faults[:0]
	p.segs = append(p.segs, segment{guest: at})
	if _, err := w.step.element(0, at); err != nil {
		return nil, err // there may be no element
	}
	return &p.elems[0], nil
}

// renumber puts the index of the element in the whole program in place of 0,
// its index in the step.
func (w *window) renumber(err error, index int) error {
	var pe *errs.ProgramError
	if errors.As(err, &pe) && pe.Elem == "ccw" {
		pe.Index = index
	}
	return err
}

// write writes the host CCW of c and its list, in the place of the list
// before the last, which execution has left.
func (w *window) write(b []byte, c *element) error {
	w.turn ^= 1
	w.out.only(w.lists[w.turn], w.listAt[w.turn])
	defer w.out.only(nil, 0)
	pieces := w.step.p.pieces[c.first : c.first+c.n]
	return w.out.ccw(b, c, pieces, w.hosts[c.first:c.first+c.n])
}
