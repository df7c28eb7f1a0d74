package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/translate/addr"
)

// Summary adds up a scenario.
type Summary struct {
	Scenario string
	File     string
	Memory   addr.Len
	Devices  map[string]string // key -> "emulated ECKD DASD"
	Programs int
	Outcomes [4]int // by Outcome
	Rules    map[string]int
	Work
	// Stopped says that FailFast or the context ended the scenario early.
	Stopped bool
}

// Run replays s from its initial state and reports each record as it is done.
// It stops early when ctx is done; then it returns ctx's error. Other errors
// are ours, not the recording's.
func (s *Scenario) Run(ctx context.Context, each func(*Result)) (*Summary, error) {
	sum, stray, err := s.run(ctx, pass{each: each})
	if err != nil || len(stray) == 0 {
		return sum, err
	}
	// Something stored into a page that no program of the recording names.
	// Finding out which one did takes a look at all memory after each.
	if err := s.reset(); err != nil {
		return sum, err
	}
	var culprit *Result
	_, _, err = s.run(ctx, pass{careful: true, each: func(r *Result) {
		if culprit == nil && r.stray {
			culprit = r
		}
	}})
	if err != nil {
		return sum, err
	}
	if culprit == nil {
		culprit = &Result{File: s.File, Scenario: s.Name, Seq: -1, Outcome: Fail}
		for _, a := range stray {
			culprit.Diffs = append(culprit.Diffs, Difference{Element: "memory", GPA: a, Text: "a page that no program names was changed"})
		}
	}
	sum.Outcomes[Fail]++
	each(culprit)
	return sum, nil
}

// pass says what to do on the way through a scenario.
type pass struct {
	each func(*Result)
	look func(*Inspection)
	// careful looks for stray stores after each record and makes them a
	// failure of that record.
	careful bool
}

// run is one pass. It returns the pages that were changed by no program's
// right.
func (s *Scenario) run(ctx context.Context, do pass) (sum *Summary, stray []addr.GPA, err error) {
	if s.from != nil {
		if _, _, err := s.from.runAll(ctx); err != nil {
			return nil, nil, err
		}
		if err := s.inherit(); err != nil {
			return nil, nil, err
		}
	}
	sum = &Summary{Scenario: s.Name, File: s.File, Memory: s.Memory, Devices: make(map[string]string), Rules: make(map[string]int)}
	emulated := false
	for key, m := range s.models {
		how := "scripted "
		if m.emulated {
			how, emulated = "emulated ", true
		}
		if m.socket != "" {
			how = "served "
		}
		sum.Devices[key] = how + m.kind.String()
	}
	m, err := newMachine(s.Memory, s.models, s.opt)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if cerr := m.Close(); err == nil && cerr != nil {
			err = cerr
		}
	}()
	first, last := 0, len(s.recs)-1
	if s.opt.Only != nil {
		last = s.index(*s.opt.Only)
		if first = last; emulated {
			first = 0
		}
	}
	for i := first; i <= last; i++ {
		if err := ctx.Err(); err != nil {
			sum.Stopped = true
			return sum, nil, err
		}
		silent := s.opt.Only != nil && i != last
		look := do.look
		if silent {
			look = nil
		}
		r, err := m.replay(s, i, do.careful, look)
		if err != nil {
			return sum, nil, err
		}
		if silent {
			continue
		}
		sum.Programs++
		sum.Outcomes[r.Outcome]++
		sum.Work.add(r.Work)
		for _, x := range r.Rules {
			sum.Rules[x.Name]++
		}
		if do.each != nil {
			do.each(r)
		}
		if r.Outcome == Fail && s.opt.FailFast {
			sum.Stopped = true
			break
		}
	}
	return sum, m.ram.Sweep(), nil
}

// runAll runs all of s, whatever the options select, for the state it leaves.
func (s *Scenario) runAll(ctx context.Context) (*Summary, []addr.GPA, error) {
	all := *s.opt
	all.Only, all.FailFast, all.Record = nil, false, nil
	s.opt = &all
	return s.run(ctx, pass{})
}

// replay runs record i and compares. The memory is poison before and after.
func (m *machine) replay(s *Scenario, i int, careful bool, look func(*Inspection)) (*Result, error) {
	r := s.prepare(i)
	rec := r.rec
	res := &Result{
		File: s.File, Line: r.line, Scenario: s.Name, Seq: rec.Seq, Name: rec.Name, Device: rec.Device.Key(),
		Emulated: m.models[rec.Device.Key()].emulated,
	}
	if s.observe != nil {
		m.observe = func(key string, x *ccw.Submission) { s.observe(rec.Seq, key, x) }
	}
	sub, err := m.sub(rec)
	if err != nil {
		return nil, fmt.Errorf("%s %d: %w", s.Name, rec.Seq, err)
	}
	m.ram.prepare(r.im.pages)
	m.ram.prepare(r.further)
	start := time.Now()
	m.ram.load(r.im.load)
	out := m.run(r, sub)
	if s.hook != nil {
		s.hook(m, rec.Seq)
	}
	clean := r.im.equal(m.ram, r.further)
	if clean {
		r.im.restore(m.ram)
	}
	out.work.AllNS = time.Since(start).Nanoseconds()
	res.Work, res.Err, res.Note = out.work, out.err, out.note

	var runs []Run
	if !clean {
		if rec.Expect == nil || rec.Expect.HasMemory {
			runs = r.im.differences(m.ram, r.further)
		}
		if err := m.ram.discard(); err != nil {
			return nil, err
		}
	}
	if rec.Expect == nil {
		// What it stores is not known, so what it stored is no difference.
		runs = nil
	}
	near := s.recs[max(0, i-nearby):min(len(s.recs), i+nearby+1)]
	res.judge(observe(r.p, near, &out.irb, runs), &out, s.known[rec.Seq])
	if look != nil {
		look(m.inspect(s, r, sub, res, &out.irb))
	}
	if careful {
		for _, a := range m.ram.Sweep() {
			res.stray, res.Outcome = true, Fail
			res.Diffs = append(res.Diffs, Difference{Element: "memory", GPA: a, Want: []byte{m.ram.poison}, Got: []byte{m.ram.mem[a]},
				Text: "stored into a page that the program does not name"})
		}
		if res.stray {
			if err := m.ram.discard(); err != nil {
				return nil, err
			}
		}
	}
	return res, nil
}

// nearby is how many records before and after one a rule may look at.
const nearby = 8

// judge draws the verdict.
func (r *Result) judge(o *observed, out *ran, known Known) {
	if out.fail != "" {
		r.Outcome = Fail
		r.Diffs = append(r.Diffs, Difference{Element: "start", Text: out.fail})
		return
	}
	if out.reach != "" {
		// The mediator let a program out of its memory: nothing
		// excuses that.
		r.Outcome = Fail
		r.Diffs = append(r.Diffs, Difference{Element: "reach", Text: out.reach})
	}
	switch {
	case !o.equal():
		r.explain(o, known)
	case unchecked(o.p.rec) && r.Outcome != Fail:
		r.Outcome = Unchecked
	}
}

func (r *Result) explain(o *observed, known Known) {
	before := o.differences()
	rules, all := explain(o)
	if !all && known.Reason != "" && known.covers(o.differences()) {
		all = true
		rules = append(rules, Rule{Name: KnownFile, Reason: known.Reason})
	}
	r.Rules = rules
	switch {
	case !all:
		r.Outcome = Fail
		r.Diffs = append(r.Diffs, o.differences()...)
	case r.Outcome != Fail:
		r.Outcome = Expected
		r.Diffs = append(r.Diffs, before...)
	}
}

// Again replays all of s from its initial state and reports only the sums.
func (s *Scenario) Again(ctx context.Context) (*Summary, error) {
	if err := s.reset(); err != nil {
		return nil, err
	}
	return s.Run(ctx, nil)
}
