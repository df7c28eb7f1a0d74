package replay

import (
	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
)

// direct is the way to a mediator in this process, by its I/O instructions.
type direct struct {
	dev    *ccw.Device
	gate   *gate
	held   func() // the run of a program that is to be stopped before it
	irb    cio.IRB
	tested bool
}

// direct makes a mediated device in front of g.
func (m *machine) direct(g *gate, rec *recording.Record, pmcw *cio.PMCW) (way, error) {
	d := &direct{gate: g}
	cfg := ccw.Config{
		Name: rec.Device.Key(), Store: m.host.store, Pinner: m.host.pinner, Space: m.host.space,
		PMCW: pmcw, Interrupt: d.interrupt, Dispatch: d.dispatch,
	}
	cfg.Observe = m.watch(rec)
	var err error
	d.dev, err = ccw.New(g, cfg)
	return d, err
}

// dispatch runs a program, unless it is to be stopped before.
func (d *direct) dispatch(run func()) {
	if d.gate.pending() {
		d.held = run
		return
	}
	run()
}

// interrupt is the guest's handler of I/O interruptions.
func (d *direct) interrupt() {
	var irb cio.IRB
	if d.dev.Test(&irb) == 0 {
		d.irb, d.tested = irb, true
	}
}

func (d *direct) start(orb *cio.ORB, resume bool) (answer, error) {
	d.irb, d.tested = cio.IRB{}, false
	var cc cio.CC
	var err error
	if resume {
		cc, err = d.dev.Resume()
	} else {
		cc, err = d.dev.Start(orb)
	}
	if run := d.held; run != nil {
		d.held = nil
		d.gate.halt()
		run()
	}
	if err == nil && cc == 0 && !d.tested {
		// Suspension without an interruption (ORB U bit) leaves a status all
		// the same.
		d.dev.Test(&d.irb)
		d.tested = d.irb.SCSW.AC()&cio.Suspended != 0
	}
	return answer{cc, d.irb, d.tested}, err
}

func (d *direct) resumes() bool { return true }

func (d *direct) stop(clear bool) {
	if clear {
		d.dev.Clear()
	} else {
		d.dev.Halt()
	}
}

func (d *direct) abandon() { d.dev.Clear() }

func (d *direct) modify(pmcw, was *cio.PMCW) bool {
	if !sameSubchannel(*was, *pmcw) {
		return false
	}
	var b cio.SCHIB
	if d.dev.Store(&b) != 0 {
		return false
	}
	b.PMCW = *pmcw
	return d.dev.Modify(&b) == 0
}

func (d *direct) device() *ccw.Device { return d.dev }

func (d *direct) close() error { return d.dev.Close() }
