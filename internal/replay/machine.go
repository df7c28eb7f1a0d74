package replay

import (
	"context"
	"errors"
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

// machine is a guest with its devices.
type machine struct {
	opt    *Options
	ram    *RAM
	host   *host // of devices in this process; nil where they are served
	subs   map[string]*sub
	models map[string]*model
	// observe, if not nil, is told of each program by the device that ran it.
	observe func(key string, x *ccw.Submission)

	recorded recorded
}

// host is what devices in this process share.
type host struct {
	space  *iommu.Space
	store  *translate.Store
	pinner *pinning.Pinner
}

// sub is a subchannel with its device.
type sub struct {
	way       way
	gate      *gate
	pmcw      cio.PMCW
	faults    uint64
	suspended bool
}

// way is how a guest reaches a subchannel.
type way interface {
	// start has the program of orb started, or the one that is suspended
	// resumed, and returns when it has ended. The guest takes interruptions at
	// once: an intermediate one (PCI, initial status) is gone by then.
	start(orb *cio.ORB, resume bool) (answer, error)
	// resumes reports whether there is a way to resume a program.
	resumes() bool
	// stop halts, or clears, what runs. It is called by the device, and done by
	// the guest.
	stop(clear bool)
	// abandon clears what is suspended.
	abandon()
	// modify makes pmcw that of the subchannel, which had was before. It
	// reports false when that takes another subchannel.
	modify(pmcw, was *cio.PMCW) bool
	// device is the mediator, to be looked at; nil if it is out of sight.
	device() *ccw.Device
	close() error
}

// answer is what a guest is told of a program.
type answer struct {
	cc     cio.CC
	irb    cio.IRB
	tested bool // there was status
}

// newMachine makes a guest of size bytes whose memory is mapped one to one.
func newMachine(size addr.Len, models map[string]*model, opt *Options) (*machine, error) {
	m := &machine{opt: opt, subs: make(map[string]*sub), models: models}
	make := NewRAM
	if opt.shared() {
		make = NewSharedRAM
	}
	var err error
	if m.ram, err = make(size, opt.Poison); err != nil {
		return nil, err
	}
	if opt.Via == Direct && len(opt.Sockets) == 0 {
		if m.host, err = newHost(m.ram, opt); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

func newHost(ram *RAM, opt *Options) (*host, error) {
	h := &host{space: newSpace(opt)}
	var err error
	if h.store, err = translate.New(nil); err != nil {
		return nil, err
	}
	if h.pinner, err = pinning.New(h.store, h.space, noLimit()); err == nil {
		err = h.store.Map(addr.IdentityIOVA(0), ram.Size(), translate.Process(ram.HVA()), addr.ReadWrite)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map guest memory: %w", err), h.close())
	}
	return h, nil
}

func newSpace(opt *Options) *iommu.Space {
	return iommu.NewSpace(&iommu.Config{Layout: opt.Layout, Seed: opt.Seed})
}

// noLimit is the configuration of a pinner: the limit of this process is not
// the guest's, and the same recording has to give the same result everywhere.
func noLimit() *pinning.Config { return &pinning.Config{Limit: pinning.Unlimited} }

func (h *host) close() error {
	var err error
	if h.pinner != nil {
		if n := h.pinner.Charged(); n != 0 {
			err = fmt.Errorf("%d bytes stay pinned after the last program", uint64(n))
		}
	}
	_, uerr := h.store.UnmapAll(context.Background())
	err = errors.Join(err, uerr)
	if h.pinner != nil {
		err = errors.Join(err, h.pinner.Close())
	}
	return errors.Join(err, h.store.Close())
}

// Close ends the machine. The models stay.
func (m *machine) Close() error {
	var err error
	for _, s := range m.subs {
		err = errors.Join(err, s.way.close())
	}
	if m.host != nil {
		err = errors.Join(err, m.host.close())
	}
	m.ram.Close()
	return errors.Join(err, m.recorded.failed())
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
	if s != nil && (s.pmcw == pmcw || s.way.modify(&pmcw, &s.pmcw)) {
		s.pmcw = pmcw
		return s, nil
	}
	if s != nil {
		delete(m.subs, key)
		if err := s.way.close(); err != nil {
			return nil, err
		}
	}
	s = &sub{gate: &gate{dev: m.models[key].dev}, pmcw: pmcw}
	var err error
	switch path := m.models[key].socket; {
	case path != "":
		s.way, err = m.dial(path)
	case m.host != nil:
		s.way, err = m.direct(s.gate, rec, &pmcw)
	default:
		s.way, err = m.serve(s.gate, rec, &pmcw)
	}
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", key, err)
	}
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
	before := s.counts()
	s.gate.arm(r, m.models[r.rec.Device.Key()].before, func() { s.way.stop(r.rec.End == recording.Cleared) })
	resume := r.rec.Op == recording.ResumeSubchannel
	if s.suspended && (!resume || !s.way.resumes()) {
		// The record that resumed it is not in the file, or cannot be told.
		s.way.abandon()
		s.suspended = false
	}
	start := time.Now()
	got, err := s.way.start(&r.orb, resume && s.suspended)
	out.work.RunNS = time.Since(start).Nanoseconds()
	out.irb = got.irb
	switch {
	case resume && !s.suspended:
		out.note = "nothing is suspended: started at the resumed CCW by START SUBCHANNEL"
	case r.ipl:
		out.note = "initial program load: no ORB, all paths"
	}
	switch {
	case err != nil:
		out.fail = fmt.Sprintf("refused: %v", err)
	case got.cc != 0:
		out.fail = fmt.Sprintf("condition code %d", uint8(got.cc))
	case !got.tested:
		out.fail = "no status after the program"
	}
	s.suspended = out.irb.SCSW.AC()&cio.Suspended != 0
	out.work.CCWs = len(r.rec.Trace)
	d := s.way.device()
	if d == nil {
		return out
	}
	out.err = d.Err()
	out.work.IDAWs = int(d.Counts().Words - before.Words)
	out.work.Pins = int(d.Usage().Pins)
	if n := d.Domain().FaultCount(); n != s.faults {
		out.reach = fmt.Sprintf("hardware was refused %d accesses", n-s.faults)
		if f := d.Domain().Faults(); len(f) > 0 {
			out.reach += fmt.Sprintf(", the last: %v", f[len(f)-1])
		}
		s.faults = n
	}
	return out
}

// counts is how much of the guest's programs the device has examined.
func (s *sub) counts() ccw.Counts {
	if d := s.way.device(); d != nil {
		return d.Counts()
	}
	return ccw.Counts{}
}
