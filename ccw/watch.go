package ccw

import (
	"fmt"
	"slices"
	"time"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Bounds of what is kept of one program for a [Submission].
const (
	// DefaultObserveBytes is the default of Config.ObserveBytes.
	DefaultObserveBytes = addr.Len(16 << 20)
	// maxTrace is how many steps of a program are kept.
	maxTrace = 1 << 17
	// keptWatchPages and keptTrace are what stays with the device from one
	// program to the next.
	keptWatchPages = 64
	keptTrace      = 1 << 12
)

// watch is what an observed device remembers of the program in hand. All of it
// is guarded by Device.prog.
//
//	begin --> live --> over --> tested: a Submission
//	            |
//	            +--> drop     refused, or not taken by hardware
type watch struct {
	maxPages int
	pages    map[addr.IOVA]*watchPage
	last     *watchPage
	spare    []*watchPage

	live    bool // a program is in hand
	over    bool // hardware has stopped; the guest has not been told
	started time.Time
	sub     Submission

	// The CCW in control, and the operation that it is part of.
	begun   bool      // the operation has a CCW
	class   cio.Class // of its command
	cur     *element
	at      uint32 // its guest address
	inWin   bool   // cur is in the window
	lastHit int    // index of the piece found last
}

func newWatch(limit addr.Len) *watch {
	if limit == 0 {
		limit = DefaultObserveBytes
	}
	return &watch{maxPages: int(max(limit>>addr.PageShift, 1)), pages: make(map[addr.IOVA]*watchPage)}
}

// begin starts watching a program.
func (w *watch) begin(program uint64, orb *cio.ORB, pmcw *cio.PMCW, resumed bool) {
	w.drop()
	w.live, w.over = true, false
	w.begun, w.cur = false, nil
	w.started = time.Now()
	w.sub = Submission{Program: program, ORB: *orb, PMCW: *pmcw, Resumed: resumed, Trace: w.sub.Trace[:0], Fetched: w.sub.Fetched[:0], Stored: w.sub.Stored[:0]}
}

// drop forgets the program in hand.
func (w *watch) drop() {
	w.live = false
	w.keep(w.pages)
	clear(w.pages)
	w.last, w.cur = nil, nil
}

// keep puts pages where the next program finds them.
func (w *watch) keep(pages map[addr.IOVA]*watchPage) {
	for _, g := range pages {
		if len(w.spare) == keptWatchPages {
			return
		}
		w.spare = append(w.spare, g)
	}
}

// page is the page at base, nil when there are too many.
func (w *watch) page(base addr.IOVA) *watchPage {
	if g := w.last; g != nil && g.at == base {
		return g
	}
	g := w.pages[base]
	if g == nil {
		if len(w.pages) == w.maxPages {
			w.overflow(fmt.Errorf("more than %d pages of memory: %w", w.maxPages, errs.ErrBudget))
			return nil
		}
		if n := len(w.spare); n > 0 {
			g, w.spare = w.spare[n-1], w.spare[:n-1]
			g.fetched, g.stored = pageBits{}, pageBits{}
		} else {
			g = new(watchPage)
		}
		g.at = base
		w.pages[base] = g
	}
	w.last = g
	return g
}

// overflow gives the submission up; the program goes on.
func (w *watch) overflow(err error) {
	if w.sub.Err == nil {
		w.sub.Err = err
	}
}

// program notes guest bytes that the mediator fetched as program.
func (w *watch) program(iova addr.IOVA, p []byte) {
	if w.live {
		w.fetched(iova, p, true)
	}
}

// fetched notes guest bytes that were fetched; kept as of [watchPage.fetch].
func (w *watch) fetched(iova addr.IOVA, p []byte, kept bool) {
	if w.sub.Err != nil {
		return
	}
	for len(p) > 0 {
		off := int(addr.PageOffset(iova))
		n := min(len(p), int(addr.PageSize)-off)
		g := w.page(addr.PageOf(iova))
		if g == nil {
			return
		}
		if !g.fetch(off, p[:n], kept) {
			w.sub.Changed = true
		}
		iova, p = iova+addr.IOVA(n), p[n:]
	}
}

// stored notes guest bytes that hardware stored.
func (w *watch) stored(iova addr.IOVA, p []byte) {
	if w.sub.Err != nil {
		return
	}
	// Hardware moves data within one page at a time.
	if g := w.page(addr.PageOf(iova)); g != nil {
		g.store(int(addr.PageOffset(iova)), p)
	}
}

// step notes that hardware fetched the CCW c at guest address at.
func (w *watch) step(at uint32, c cio.CCW, format1 bool) {
	if !c.Command.IsTIC(format1) && !w.begun {
		w.begun, w.class = true, c.Command.Class(format1)
	}
	w.at = at
	if len(w.sub.Trace) == maxTrace {
		w.overflow(fmt.Errorf("more than %d CCWs: %w", maxTrace, errs.ErrBudget))
	}
	if w.sub.Err == nil {
		w.sub.Trace = append(w.sub.Trace, Step{At: at, CCW: c})
	}
}

// watchResumed starts watching a program that is resumed. The caller holds
// prog.
func (d *Device) watchResumed() {
	w := d.watch
	if w == nil {
		return
	}
	var s cio.SCHIB
	_ = d.hw.Store(&s) // it would say that the device is closed
	orb := d.t.orb
	orb.SetProgram(w.at)
	w.begin(d.program, &orb, &s.PMCW, true)
}

// stopped notes that hardware has stopped.
func (w *watch) stopped() {
	w.over = true
	w.sub.Took = time.Since(w.started)
}

// tap is the memory of an observed device's hardware: its domain, and a look
// at what moves.
type tap struct{ d *Device }

var (
	_ channel.Memory  = tap{}
	_ channel.Checker = tap{}
)

// Read implements [channel.Memory].
func (t tap) Read(a addr.HPA, p []byte) error {
	err := t.d.domain.Read(a, p)
	if err == nil {
		t.d.moved(a, p, false)
	}
	return err
}

// Write implements [channel.Memory].
func (t tap) Write(a addr.HPA, p []byte) error {
	err := t.d.domain.Write(a, p)
	if err == nil {
		t.d.moved(a, p, true)
	}
	return err
}

// Check implements [channel.Checker].
func (t tap) Check(a addr.HPA, n addr.Len, want addr.Access) error {
	return t.d.domain.Check(a, n, want)
}

// moved notes that hardware read or stored p at host address a: a CCW, a word
// of a list of ours, or data.
func (d *Device) moved(a addr.HPA, p []byte, store bool) {
	d.prog.Lock()
	defer d.prog.Unlock()
	w := d.watch
	if !w.live {
		return
	}
	if !store && len(p) == cio.CCWSize && a < cio.Limit1 {
		if pl, ok := d.t.at(uint32(a)); ok {
			d.executes(uint32(a), &pl)
			return
		}
	}
	iova, ok := d.data(a)
	switch {
	case !ok: // a list in our memory
	case store:
		w.stored(iova, p)
	default:
		w.fetched(iova, p, false)
	}
}

// executes notes that hardware fetched the CCW of pl. The caller holds prog.
func (d *Device) executes(host uint32, pl *place) {
	w := d.watch
	slot := d.win.slotOf(host)
	w.cur, w.inWin, w.lastHit = pl.e, slot >= 0, 0
	if slot >= 0 && slot%d.win.perRun == 0 {
		// A transfer of the guest that the window followed for hardware.
		if r := &d.win.runs[slot/d.win.perRun]; r.entered && r.guest != r.origin {
			if g := w.pages[addr.PageOf(addr.IOVA(r.origin))]; g != nil {
				off := addr.PageOffset(addr.IOVA(r.origin))
				w.step(r.origin, cio.DecodeCCW((*[cio.CCWSize]byte)(g.first[off:]), d.t.orb.Format1()), d.t.orb.Format1())
			}
		}
	}
	w.step(pl.at, pl.e.ccw, d.t.orb.Format1())
}

// data is the guest address behind host address a of data that the CCW in
// control moves. The caller holds prog.
func (d *Device) data(a addr.HPA) (addr.IOVA, bool) {
	w := d.watch
	if w.cur == nil {
		return 0, false
	}
	pieces, hosts := d.win.step.p.pieces, d.win.hosts
	if !w.inWin {
		e := w.cur
		pieces, hosts = d.walk.p.pieces[e.first:e.first+e.n], d.hosts[e.first:e.first+e.n]
	}
	n := min(len(pieces), len(hosts))
	for i := range n {
		k := (w.lastHit + i) % n // data go on where they were
		pc := &pieces[k]
		if pc.hole != noHole || pc.n == 0 {
			continue
		}
		back := uint64(0) // from the lowest byte of the piece to the one it names
		if w.class == cio.ClassReadBackward {
			back = uint64(pc.n) - 1
		}
		if off := uint64(a) - (uint64(hosts[k]) - back); off < uint64(pc.n) {
			w.lastHit = k
			return pc.at - addr.IOVA(back) + addr.IOVA(off), true
		}
	}
	return 0, false
}

// concluded is called by hardware when an operation is over.
func (d *Device) concluded(c channel.Conclusion) {
	d.prog.Lock()
	defer d.prog.Unlock()
	w := d.watch
	if !w.live {
		return
	}
	begun := w.begun
	w.begun, w.cur = false, nil
	if c.Stopped || w.sub.Err != nil {
		return
	}
	n := len(w.sub.Trace)
	if n == 0 || !begun && w.sub.Trace[n-1].Ended {
		// A check in a place where there is no CCW.
		w.step(d.t.behind(c.CCWAddr)-cio.CCWSize, cio.CCW{}, d.t.orb.Format1())
		w.begun = false
		n = len(w.sub.Trace)
	}
	if n == 0 {
		return // there were too many
	}
	s := &w.sub.Trace[n-1]
	s.Ended, s.Device, s.Subchannel, s.Count = true, c.Device, c.Subchannel, c.Count
	if p, ok := d.t.at(c.CCWAddr - cio.CCWSize); ok {
		s.Subchannel = p.status(s.Subchannel)
	}
}

// tested is called with status that the guest took. It returns the submission
// that is complete with it, or nil. The caller holds prog, and hands the
// submission to reported when it has reported it.
func (w *watch) tested(irb *cio.IRB) *Submission {
	const active = cio.StartPending | cio.ResumePending | cio.SubchannelActive
	if !w.live || !w.over || irb.SCSW.Control()&active != 0 {
		return nil
	}
	if irb.SCSW.DeferredCC() != 0 { // the device never got it
		w.drop()
		return nil
	}
	s := w.finish(&irb.SCSW)
	told := *irb
	s.IRB = &told
	return s
}

// finish takes the submission out of the watch. The caller holds prog.
func (w *watch) finish(scsw *cio.SCSW) *Submission {
	w.live = false
	s := w.sub
	s.SCSW, s.End = *scsw, endOf(scsw)
	bases := make([]addr.IOVA, 0, len(w.pages))
	for a := range w.pages {
		bases = append(bases, a)
	}
	slices.Sort(bases)
	for _, a := range bases {
		g := w.pages[a]
		s.Fetched = appendRuns(s.Fetched, a, &g.fetched, &g.first)
		s.Stored = appendRuns(s.Stored, a, &g.stored, &g.last)
	}
	// What s refers to is its own now: the next program may begin before it
	// has been reported.
	s.pages, w.pages = w.pages, make(map[addr.IOVA]*watchPage)
	w.sub, w.last, w.cur = Submission{}, nil, nil
	return &s
}

// report hands a submission to the observer and takes its memory back.
func (d *Device) report(s *Submission) {
	if s == nil {
		return
	}
	d.cfg.Observe(s)
	d.prog.Lock()
	defer d.prog.Unlock()
	w := d.watch
	w.keep(s.pages)
	if !w.live && cap(s.Trace) <= keptTrace { // else it has lists of its own
		w.sub.Trace, w.sub.Fetched, w.sub.Stored = s.Trace[:0], s.Fetched[:0], s.Stored[:0]
	}
}

// suspended is the submission of a program that was suspended and of which
// the guest has not been told, and perhaps never would be. It is called before
// an instruction that ends the suspension.
func (d *Device) suspended() *Submission {
	if d.watch == nil {
		return nil
	}
	var s cio.SCHIB
	if d.hw.Store(&s) != 0 || s.SCSW.Control()&cio.Suspended == 0 {
		return nil
	}
	d.prog.Lock()
	defer d.prog.Unlock()
	if w := d.watch; !w.live || !w.over {
		return nil
	}
	d.t.scsw(&s.SCSW)
	return d.watch.finish(&s.SCSW)
}
