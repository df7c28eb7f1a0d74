package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// prepared is a record with everything that can be worked out before it runs.
type prepared struct {
	rec  *recording.Record
	line int
	p    *program
	im   *image
	// further are pages that the program may store into, beside those of
	// the image; they should stay poison.
	further []addr.GPA
	orb     cio.ORB
	ipl     bool

	script []scripted.Op
}

// ops is the recorded device side, made when first asked for.
func (r *prepared) ops() []scripted.Op {
	if r.script == nil {
		r.script = r.p.script()
	}
	return r.script
}

// prepare works out what record i needs.
func (s *Scenario) prepare(i int) *prepared {
	rec := s.recs[i]
	r := &prepared{rec: rec, line: s.lines[i], p: newProgram(rec), im: newImage(rec, behind(rec, s.Memory)...), orb: cio.ORB{Raw: rec.ORB}}
	for k := range r.p.ops {
		op := &r.p.ops[k]
		if !op.cmd.Class(r.p.f1).Input() {
			continue
		}
		list, _ := r.p.opAreas(op)
		for _, x := range list {
			if span, ok := addr.RangeOf(x.a, x.n); ok && !x.skip && addr.Len(span.Last()) < s.Memory {
				for a := addr.PageOf(x.a); a <= span.Last(); a += addr.GPA(addr.PageSize) {
					r.further = append(r.further, a)
				}
			}
		}
	}
	if r.ipl = rec.ORB == [32]byte{}; r.ipl {
		// Initial program load has no ORB, and so no path mask.
		r.orb.SetLPM(0xff)
	}
	return r
}

// machine is a guest with the mediators of its devices.
type machine struct {
	ram    *RAM
	space  *iommu.Space
	store  *translate.Store
	pinner *pinning.Pinner
	subs   map[string]*sub
	models map[string]*model
	// observe, if not nil, is told of each program by the device that ran it.
	observe func(key string, x *ccw.Submission)
}

// sub is one mediated subchannel.
type sub struct {
	dev       *ccw.Device
	gate      *gate
	pmcw      cio.PMCW
	faults    uint64
	suspended bool
	// What TEST SUBCHANNEL gave when an interruption asked for it. The guest
	// takes interruptions at once: an intermediate one (PCI, initial
	// status) is gone when the program ends.
	irb    cio.IRB
	tested bool
	held   func() // the run of a program that is to be stopped before it
}

// dispatch runs a program, unless it is to be stopped before.
func (s *sub) dispatch(run func()) {
	if s.gate.where == stopPending {
		s.held = run
		return
	}
	run()
}

// interrupt is the guest's handler of I/O interruptions.
func (s *sub) interrupt() {
	var irb cio.IRB
	if s.dev.Test(&irb) == 0 {
		s.irb, s.tested = irb, true
	}
}

// newMachine makes a guest of size bytes whose memory is mapped one to one.
func newMachine(size addr.Len, models map[string]*model, opt *Options) (*machine, error) {
	m := &machine{subs: make(map[string]*sub), models: models}
	var err error
	if m.ram, err = NewRAM(size, opt.Poison); err != nil {
		return nil, err
	}
	m.space = iommu.NewSpace(&iommu.Config{Layout: opt.Layout, Seed: opt.Seed})
	if m.store, err = translate.New(nil); err != nil {
		m.Close()
		return nil, err
	}
	// The limit of this process is not the guest's: the same recording has to
	// give the same result everywhere.
	if m.pinner, err = pinning.New(m.store, m.space, &pinning.Config{Limit: ^addr.Len(0)}); err != nil {
		m.Close()
		return nil, err
	}
	if err = m.store.Map(addr.IdentityIOVA(0), size, translate.Process(m.ram.HVA()), addr.ReadWrite); err != nil {
		m.Close()
		return nil, fmt.Errorf("map guest memory: %w", err)
	}
	return m, nil
}

// Close ends the machine. The models stay.
func (m *machine) Close() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, s := range m.subs {
		keep(s.dev.Close())
	}
	if m.pinner != nil {
		if n := m.pinner.Charged(); n != 0 {
			keep(fmt.Errorf("%d bytes stay pinned after the last program", uint64(n)))
		}
	}
	if m.store != nil {
		_, err := m.store.UnmapAll(context.Background())
		keep(err)
	}
	if m.pinner != nil {
		keep(m.pinner.Close())
	}
	if m.store != nil {
		keep(m.store.Close())
	}
	m.ram.Close()
	return first
}

// sub is the subchannel of rec's device, set up as its PMCW says.
func (m *machine) sub(rec *recording.Record) (*sub, error) {
	key := rec.Device.Key()
	pmcw := cio.DefaultPMCW()
	if rec.PMCW != nil {
		pmcw = cio.PMCW(*rec.PMCW)
	} else if rec.Device.HasDevNo {
		pmcw.SetDeviceNumber(rec.Device.DevNo)
	}
	s := m.subs[key]
	if s != nil && s.pmcw == pmcw {
		return s, nil
	}
	if s != nil && sameSubchannel(s.pmcw, pmcw) {
		var b cio.SCHIB
		if cc := s.dev.Store(&b); cc == 0 {
			mba, model, scsw := b.MBA, b.Model, b.SCSW
			b = cio.SCHIB{PMCW: pmcw, SCSW: scsw, MBA: mba, Model: model}
			if cc := s.dev.Modify(&b); cc == 0 {
				s.pmcw = pmcw
				return s, nil
			}
		}
	}
	if s != nil {
		delete(m.subs, key)
		if err := s.dev.Close(); err != nil {
			return nil, err
		}
	}
	s = &sub{gate: &gate{Device: m.models[key].dev}, pmcw: pmcw}
	cfg := ccw.Config{
		Name: key, Store: m.store, Pinner: m.pinner, Space: m.space, PMCW: &pmcw, Interrupt: s.interrupt, Dispatch: s.dispatch,
	}
	if m.observe != nil {
		cfg.Observe = func(x *ccw.Submission) { m.observe(key, x) }
	}
	dev, err := ccw.New(s.gate, cfg)
	if err != nil {
		return nil, err
	}
	s.dev = dev
	m.subs[key] = s
	return s, nil
}

// sameSubchannel reports whether two PMCWs differ in nothing but what MODIFY
// SUBCHANNEL can change and the machine changes itself.
func sameSubchannel(a, b cio.PMCW) bool {
	for _, p := range []*cio.PMCW{&a, &b} {
		p.SetParam(0)
		p.SetISC(0)
		p.SetLimitMode(0)
		p.SetMeasureMode(0)
		p.SetLPM(0)
		p.SetLPUM(0)
		p.SetPNOM(0)
		p.SetPOM(0)
		p.SetMBI(0)
		p.SetFlags(p.Flags() &^ (cio.PMCWEnabled | cio.PMCWMultipath | cio.PMCWMeasureFormat | cio.PMCWMeasureExtended | cio.PMCWConcurrentSense))
	}
	return a == b
}

// ran is what came of running one record.
type ran struct {
	irb   cio.IRB
	fail  string // why the program could not be run, or ""
	note  string
	err   error // what the mediator found wrong with the program
	reach string
	work  Work
}

// run runs r on s, whose memory holds the start image.
func (m *machine) run(r *prepared, s *sub) (out ran) {
	if b := m.models[r.rec.Device.Key()].before; b != nil {
		b(r)
	}
	before := s.dev.Counts()
	s.gate.arm(r, func() {
		if r.rec.End == recording.Halted {
			s.dev.Halt()
		} else {
			s.dev.Clear()
		}
	})
	resume := r.rec.Op == recording.ResumeSubchannel
	if !resume && s.suspended {
		// The record that resumed it is not in the file.
		s.dev.Clear()
		s.dev.Test(&out.irb)
		s.suspended = false
	}
	var cc cio.CC
	var err error
	s.irb, s.tested = cio.IRB{}, false
	start := time.Now()
	if resume && s.suspended {
		cc, err = s.dev.Resume()
	} else {
		cc, err = s.dev.Start(&r.orb)
	}
	if run := s.held; run != nil {
		s.held = nil
		s.gate.halt()
		run()
	}
	if err == nil && cc == 0 && !s.tested {
		// Suspension without an interruption (ORB U bit) leaves a status all
		// the same.
		s.dev.Test(&s.irb)
		s.tested = r.rec.End == recording.Suspended
	}
	out.work.RunNS = time.Since(start).Nanoseconds()
	out.irb = s.irb
	switch {
	case resume && !s.suspended:
		out.note = "nothing is suspended: started at the resumed CCW by START SUBCHANNEL"
	case r.ipl:
		out.note = "initial program load: no ORB, all paths"
	}
	switch {
	case err != nil:
		out.fail = fmt.Sprintf("refused: %v", err)
	case cc != 0:
		out.fail = fmt.Sprintf("condition code %d", uint8(cc))
	case !s.tested:
		out.fail = "no status after the program"
	}
	s.suspended = out.irb.SCSW.AC()&cio.Suspended != 0
	out.err = s.dev.Err()
	after := s.dev.Counts()
	out.work.CCWs = len(r.rec.Trace)
	out.work.IDAWs = int(after.Words - before.Words)
	out.work.Pins = int(s.dev.Usage().Pins)
	if n := s.dev.Domain().FaultCount(); n != s.faults {
		out.reach = fmt.Sprintf("hardware was refused %d accesses", n-s.faults)
		if f := s.dev.Domain().Faults(); len(f) > 0 {
			out.reach += fmt.Sprintf(", the last: %v", f[len(f)-1])
		}
		s.faults = n
	}
	return out
}
