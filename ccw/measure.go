package ccw

import (
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Measure gives benchmarks the steps of one translation, each by itself. No
// program runs: what Rewrite writes is not given to hardware.
type Measure struct{ d *Device }

// Measure is for a device that nothing else uses.
func (d *Device) Measure() Measure { return Measure{d} }

// Walk fetches the program of orb, with prefetch whatever orb says.
func (m Measure) Walk(orb *cio.ORB) error {
	d := m.d
	d.prog.Lock()
	defer d.prog.Unlock()
	d.program++
	d.job.Begin(d.program, d.cfg.Limits)
	d.t.orb = *orb
	whole, err := d.walk.walk(orb)
	if err == nil && !whole {
		err = errs.ErrNotSupported
	}
	return err
}

// Pin pins what the walked program names.
func (m Measure) Pin() (err error) {
	m.d.prog.Lock()
	defer m.d.prog.Unlock()
	m.d.hosts, err = m.d.walk.pinAll(m.d.hosts)
	return err
}

// Rewrite writes the host program of what was walked and pinned. It may be
// repeated.
func (m Measure) Rewrite() error {
	d := m.d
	d.prog.Lock()
	defer d.prog.Unlock()
	d.out.reset()
	if err := d.win.reset(&d.t.orb, false); err != nil {
		return err
	}
	_, err := d.out.rewrite(&d.walk.p, d.hosts, &d.win)
	return err
}

// End drops the pins.
func (m Measure) End() { m.d.job.End() }
