package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// ErrNoDifference says that there is nothing to minimise.
var ErrNoDifference = errors.New("the record shows no difference")

// Minimized is what Minimize found.
type Minimized struct {
	// Records are the smallest recording that still shows the difference,
	// the record at fault last.
	Records []*recording.Record
	Result  *Result // of the record at fault, as it is now
	Trials  int
	// Images are the initial images that the records need, by device number.
	Images map[string]string
	// After is the scenario from whose final state they start, or "".
	After string
	// Stopped says that the search ended at its limit of trials.
	Stopped bool
}

// maxTrials bounds the search.
const maxTrials = 20000

// Minimize looks for the smallest recording in which record seq still differs
// as it does now: fewer programs before it, fewer CCWs, less memory, fewer
// bytes. progress, if not nil, is told of each trial.
//
// "Still differs" is strict, so that the search does not slip from one fault
// to another: bytes that differed in the original differ in the same way, and
// no other byte does.
func (s *Scenario) Minimize(ctx context.Context, seq int, progress func(trials, size int)) (*Minimized, error) {
	i := s.index(seq)
	if i < 0 {
		return nil, fmt.Errorf("no record with seq %d", seq)
	}
	r := &reducer{ctx: ctx, s: s, progress: progress}
	r.best = append([]*recording.Record(nil), s.recs[:i+1]...)
	res, failed, err := r.run(r.best)
	if err != nil {
		return nil, err
	}
	if r.failed = failed; res == nil || res.Outcome != Fail {
		return nil, ErrNoDifference
	}
	r.goal = signatureOf(res)
	for before := -1; before != r.size() && r.trials < maxTrials; {
		before = r.size()
		r.programs()
		for r.at = len(r.best) - 1; r.at >= 0 && r.err == nil; r.at-- {
			for _, step := range []func(){r.truncate, r.skipFront, r.ccws, r.segments, r.bytes} {
				step()
			}
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	out := &Minimized{Records: r.best, Trials: r.trials, Stopped: r.trials >= maxTrials}
	if out.Result, _, err = r.run(r.best); err != nil {
		return nil, err
	}
	out.Images = make(map[string]string)
	for _, rec := range r.best {
		if m := s.models[rec.Device.Key()]; m != nil && m.emulated && m.image != "" {
			out.Images[rec.Device.Key()] = m.image
		}
	}
	if s.from != nil {
		out.After, out.Images = s.from.Name, nil
	}
	return out, nil
}

// signature is the bytes in which a result differs, by element and offset
// (memory: address).
type signature map[mark]bool

type mark struct {
	element   string
	at        uint64
	want, got byte
}

func signatureOf(r *Result) signature {
	sig := make(signature)
	for _, d := range r.Diffs {
		if len(d.Got) == 0 {
			sig[mark{element: d.Element}] = true
		}
		for i := range d.Got {
			if d.Want[i] != d.Got[i] {
				sig[mark{d.Element, uint64(d.GPA) + uint64(i), d.Want[i], d.Got[i]}] = true
			}
		}
	}
	return sig
}

// stillShows reports whether now differs as goal does: in at least one of its
// bytes, and in no other.
func (goal signature) stillShows(now signature) bool {
	for m := range now {
		if !goal[m] {
			return false
		}
	}
	return len(now) > 0
}

// reducer holds the best recording so far.
type reducer struct {
	ctx      context.Context
	s        *Scenario
	progress func(trials, size int)
	best     []*recording.Record
	at       int // index in best of the record that is being reduced
	goal     signature
	failed   int // records before the one at fault that differ as well
	trials   int
	err      error
}

// target is the record that is being reduced.
func (r *reducer) target() *recording.Record { return r.best[r.at] }

// size measures what is to become small.
func (r *reducer) size() int {
	n := 0
	for _, rec := range r.best {
		n += 64 + 16*len(rec.Trace) + 16*len(rec.Memory)
		for i := range rec.Memory {
			n += int(rec.Memory[i].Len())
		}
		if rec.Expect != nil {
			n += 16 * len(rec.Expect.Memory)
			for i := range rec.Expect.Memory {
				n += int(rec.Expect.Memory[i].Len())
			}
		}
	}
	return n
}

// run replays recs and returns the result of the last, and how many before it
// differ.
func (r *reducer) run(recs []*recording.Record) (last *Result, failed int, err error) {
	c := *r.s
	opt := *r.s.opt
	opt.Only, opt.FailFast = nil, false
	c.opt, c.recs = &opt, recs
	c.lines = make([]int, len(recs))
	for i := range c.lines {
		c.lines[i] = i + 1
	}
	if err := c.reset(); err != nil {
		return nil, 0, err
	}
	_, _, err = c.run(r.ctx, pass{each: func(x *Result) {
		if last != nil && last.Outcome == Fail {
			failed++
		}
		last = x
	}})
	return last, failed, err
}

// try takes recs if they still show the difference.
func (r *reducer) try(recs []*recording.Record) bool {
	if r.err != nil || r.trials >= maxTrials {
		return false
	}
	r.trials++
	res, failed, err := r.run(recs)
	if err != nil {
		r.err = err
		return false
	}
	if res == nil || failed > r.failed || res.Outcome != Fail || !r.goal.stillShows(signatureOf(res)) {
		return false
	}
	r.best = recs
	if r.progress != nil {
		r.progress(r.trials, r.size())
	}
	return true
}

// tryTarget is try with another record in the place of the target.
func (r *reducer) tryTarget(rec *recording.Record) bool {
	recs := append([]*recording.Record(nil), r.best...)
	recs[r.at] = rec
	return r.try(recs)
}

// ddmin removes as much of n items as it can: first halves, then quarters and
// so on down to single ones [Zeller and Hildebrandt, "Simplifying and Isolating
// Failure-Inducing Input"]. without(from, to) tries without items [from, to) and
// says whether they are gone.
func ddmin(n int, without func(from, to int) bool) {
	for size := (n + 1) / 2; size > 0; size /= 2 {
		for from := 0; from < n; {
			to := min(from+size, n)
			if without(from, to) {
				n -= to - from
			} else {
				from = to
			}
		}
	}
}

// programs removes programs before the one at fault.
func (r *reducer) programs() {
	ddmin(len(r.best)-1, func(from, to int) bool {
		return r.try(slices.Delete(slices.Clone(r.best), from, to))
	})
}

// clone copies a record as deep as reductions change it.
func clone(rec *recording.Record) *recording.Record {
	c := *rec
	c.Memory, c.Trace = slices.Clone(rec.Memory), slices.Clone(rec.Trace)
	if rec.Expect != nil {
		e := *rec.Expect
		e.Memory = slices.Clone(e.Memory)
		c.Expect = &e
	}
	return &c
}

// poke writes b into the segments of memory.
func poke(segs []recording.Segment, a addr.GPA, b []byte) {
	for i := range segs {
		s := &segs[i]
		for k, v := range b {
			if at := a + addr.GPA(k); s.Range().Contains(at) {
				if s.Data == nil {
					s.Data = bytes.Repeat([]byte{s.Fill}, int(s.N))
					s.Fill, s.N = 0, 0
				} else {
					s.Data = bytes.Clone(s.Data)
				}
				s.Data[at-s.GPA] = v
			}
		}
	}
}

// putCCW changes a CCW of the record in memory and trace.
func putCCW(rec *recording.Record, f1 bool, at addr.GPA, c cio.CCW) {
	b := c.Encode(f1)
	poke(rec.Memory, at, b[:])
}

func stepCCW(s *recording.Step) cio.CCW {
	return cio.CCW{Command: cio.Command(s.Cmd), Flags: cio.Flags(s.Flags), Count: s.Count, Addr: s.CDA}
}

// truncate ends the program after an earlier operation. What is then expected
// follows from the trace, which has the status of each.
func (r *reducer) truncate() {
	for k := 0; ; k++ {
		p := newProgram(r.target())
		if k >= len(p.ops)-1 {
			return
		}
		op := &p.ops[k]
		if !op.ended || !op.device || !r.hasStatus() {
			continue
		}
		rec := clone(r.target())
		s := &rec.Trace[op.last]
		c := stepCCW(s)
		c.Flags &^= cio.ChainCommand | cio.ChainData
		putCCW(rec, p.f1, s.At, c)
		s.Flags = byte(c.Flags)
		rec.Trace = rec.Trace[:op.last+1]
		expectEnd(rec, s)
		r.dropStores(rec)
		if r.tryTarget(rec) {
			return
		}
	}
}

// hasStatus reports whether the status expected can be made up from the trace.
func (r *reducer) hasStatus() bool {
	rec := r.target()
	return rec.Expect != nil && rec.Expect.SCSW != nil && rec.End == recording.Ended
}

// expectEnd makes the status of step s the one expected at the end.
func expectEnd(rec *recording.Record, s *recording.Step) {
	w := cio.SCSW(*rec.Expect.SCSW)
	w.SetControl(normalEnd)
	if s.DStat != byte(cio.Ended) && s.DStat != byte(cio.Ended|cio.StatusModifier) || s.CStat != 0 {
		w.SetControl(unusualEnd)
	}
	w.SetCCWAddr(uint32(s.At) + cio.CCWSize)
	w.SetDevice(cio.DeviceStatus(s.DStat))
	w.SetSubchannel(cio.SubchannelStatus(s.CStat))
	w.SetCount(s.Resid)
	raw := [12]byte(w)
	rec.Expect.SCSW = &raw
	if rec.Expect.IRB != nil {
		rec.Expect.IRB = append(bytes.Clone(raw[:]), rec.Expect.IRB[12:]...)
	}
}

// dropStores cuts expected stores to the data areas of the steps that are
// left.
func (r *reducer) dropStores(rec *recording.Record) {
	p := newProgram(rec)
	var areas []area
	for k := range p.ops {
		if op := &p.ops[k]; op.cmd.Class(p.f1).Input() {
			list, _ := p.opAreas(op)
			areas = append(areas, list...)
		}
	}
	var left []recording.Segment
	for i := range rec.Expect.Memory {
		seg := &rec.Expect.Memory[i]
		for _, x := range areas {
			span, ok := addr.RangeOf(x.a, x.n)
			if !ok || x.skip {
				continue
			}
			if both, ok := span.Intersect(seg.Range()); ok {
				n, _ := both.Len()
				if part := seg.Sub(addr.Len(both.Start()-seg.GPA), n); !overlaps(left, &part) {
					left = append(left, part)
				}
			}
		}
	}
	rec.Expect.Memory = left
}

func overlaps(segs []recording.Segment, s *recording.Segment) bool {
	for i := range segs {
		if segs[i].Range().Overlaps(s.Range()) {
			return true
		}
	}
	return false
}

// skipFront starts the program at a later CCW.
func (r *reducer) skipFront() {
	p := newProgram(r.target())
	for k := len(p.ops) - 1; k > 0; k-- {
		op := &p.ops[k]
		if r.target().Op != recording.StartSubchannel {
			return
		}
		rec := clone(r.target())
		orb := cio.ORB{Raw: rec.ORB}
		orb.SetProgram(uint32(rec.Trace[op.first].At))
		rec.ORB = orb.Raw
		rec.Trace = rec.Trace[op.first:]
		if rec.Expect != nil {
			r.dropStores(rec)
		}
		if r.tryTarget(rec) {
			return
		}
	}
}

// ccws turns operations into no-operations that chain on. In a loop that is
// not possible; the trial then fails.
func (r *reducer) ccws() {
	for k := 0; ; k++ {
		p := newProgram(r.target())
		if k >= len(p.ops)-1 {
			return
		}
		op := &p.ops[k]
		if op.cmd == cio.NOP || op.first != op.last || !op.ended {
			continue
		}
		rec := clone(r.target())
		s := &rec.Trace[op.first]
		nop := cio.CCW{Command: cio.NOP, Flags: cio.ChainCommand | cio.SuppressLength, Count: 1}
		putCCW(rec, p.f1, s.At, nop)
		*s = recording.Step{At: s.At, Cmd: byte(nop.Command), Flags: byte(nop.Flags), Count: 1, Ended: true, DStat: byte(cio.Ended), Resid: 1}
		if rec.Expect != nil {
			r.dropStores(rec)
		}
		r.tryTarget(rec)
	}
}

// lists calls f for each list of segments of the target.
func (r *reducer) lists(f func(get func(*recording.Record) *[]recording.Segment)) {
	f(func(rec *recording.Record) *[]recording.Segment { return &rec.Memory })
	if r.target().Expect != nil {
		f(func(rec *recording.Record) *[]recording.Segment { return &rec.Expect.Memory })
	}
}

// segments removes whole segments of memory.
func (r *reducer) segments() {
	r.lists(func(get func(*recording.Record) *[]recording.Segment) {
		ddmin(len(*get(r.target())), func(from, to int) bool {
			rec := clone(r.target())
			list := get(rec)
			*list = slices.Delete(*list, from, to)
			return r.tryTarget(rec)
		})
	})
}

// bytes shortens segments from both ends, and cuts the middle out of them.
func (r *reducer) bytes() {
	r.lists(func(get func(*recording.Record) *[]recording.Segment) {
		for i := 0; i < len(*get(r.target())); i++ {
			for cut := (*get(r.target()))[i].Len() / 2; cut > 0; {
				s := (*get(r.target()))[i]
				n := s.Len()
				if cut >= n {
					cut = n / 2
					continue
				}
				if !r.replace(get, i, s.Sub(cut, n-cut)) && !r.replace(get, i, s.Sub(0, n-cut)) &&
					(n < 3*cut || !r.replace(get, i, s.Sub(0, cut), s.Sub(2*cut, n-2*cut))) {
					cut /= 2
				}
			}
		}
	})
}

// replace puts other segments in place of segment i.
func (r *reducer) replace(get func(*recording.Record) *[]recording.Segment, i int, with ...recording.Segment) bool {
	rec := clone(r.target())
	list := get(rec)
	*list = slices.Replace(*list, i, i+1, with...)
	return r.tryTarget(rec)
}
