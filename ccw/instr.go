package ccw

import (
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// The I/O instructions beside START SUBCHANNEL. Hardware decides their
// condition codes; what they add is that addresses in status become the
// guest's, and that pins come and go with what hardware runs.

// Resume is RESUME SUBCHANNEL. What the guest changed in its program since it
// was suspended counts: the suspended CCW and all after it are fetched anew.
func (d *Device) Resume() (cio.CC, error) {
	d.report(d.suspended())
	d.mu.Lock()
	switch d.phase {
	case suspended:
	case closed:
		d.mu.Unlock()
		return cio.CC3, errs.ErrGone
	default:
		defer d.mu.Unlock()
		return d.notSuspended(), nil
	}
	d.program++
	d.prog.Lock()
	d.job.Begin(d.program, d.cfg.Limits)
	d.err = nil
	d.watchResumed()
	d.prog.Unlock()
	cc := d.hw.Resume()
	if cc == 0 {
		d.phase = running
	} else {
		d.end()
	}
	d.dispatch() // unlocks mu
	return cc, nil
}

// notSuspended is the condition code of RESUME SUBCHANNEL when there is
// nothing to resume. Hardware is not asked: it could be at the point where
// there is, without a lease to run under. The caller holds mu.
func (d *Device) notSuspended() cio.CC {
	var s cio.SCHIB
	const need = cio.PMCWEnabled | cio.PMCWValid
	switch cc := d.hw.Store(&s); {
	case cc != 0 || s.PMCW.Flags()&need != need:
		return cio.CC3
	case s.SCSW.Control()&cio.StatusPending != 0:
		return cio.CC1
	}
	return cio.CC2
}

// Halt is HALT SUBCHANNEL: the running program ends after the block of data
// it is at, and the device is signalled.
func (d *Device) Halt() cio.CC {
	d.report(d.suspended())
	return d.hw.Halt()
}

// Clear is CLEAR SUBCHANNEL: whatever the subchannel does ends.
func (d *Device) Clear() cio.CC {
	d.report(d.suspended())
	return d.hw.Clear()
}

// Cancel is CANCEL SUBCHANNEL: a start that has not begun, or that is
// suspended, is withdrawn.
func (d *Device) Cancel() cio.CC {
	d.report(d.suspended())
	d.mu.Lock()
	defer d.mu.Unlock()
	cc := d.hw.Cancel()
	if cc == 0 {
		d.end() // no hardware runs it, so none will say that it ended
		d.phase = idle
	}
	return cc
}

// Test is TEST SUBCHANNEL: it takes the pending status into irb, with
// addresses of the guest.
func (d *Device) Test(irb *cio.IRB) cio.CC {
	before := d.taken()
	cc := d.hw.Test(irb)
	if cc == cio.CC3 {
		return cc // nothing was stored
	}
	if d.addressless(&irb.SCSW, before) {
		return cc
	}
	d.prog.Lock()
	d.t.scsw(&irb.SCSW)
	d.t.esw(&irb.ESW)
	var s *Submission
	if cc == 0 && d.watch != nil {
		s = d.watch.tested(irb)
	}
	d.prog.Unlock()
	d.report(s)
	return cc
}

// taken is the number of the program that is being taken, 0 if none is.
func (d *Device) taken() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != taking {
		return 0
	}
	return d.program
}

// addressless makes s, which hardware has just stored, the guest's without a
// look at the program in hand, if it has no address that means something. The
// look could wait for the guest's memory, which may be further away than the
// guest that asks. before is what taken said before hardware stored s.
//
// While a program is being taken hardware has none, and what status there is
// belongs to none. Of one that is executed no address is told until status is
// pending.
func (d *Device) addressless(s *cio.SCSW, before uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := s.Control()
	switch {
	case d.phase == taking && d.program == before:
	case d.phase == running && c&cio.SubchannelActive != 0 && c&cio.StatusPending == 0:
	default:
		return false
	}
	s.SetCCWAddr(0)
	controls(s, d.controls)
	return true
}

// Store is STORE SUBCHANNEL.
func (d *Device) Store(schib *cio.SCHIB) cio.CC {
	before := d.taken()
	cc := d.hw.Store(schib)
	if cc != 0 || d.addressless(&schib.SCSW, before) {
		return cc
	}
	d.prog.Lock()
	d.t.scsw(&schib.SCSW)
	d.prog.Unlock()
	return cc
}

// Modify is MODIFY SUBCHANNEL.
func (d *Device) Modify(schib *cio.SCHIB) cio.CC { return d.hw.Modify(schib) }

// Attention is the device asking for service: unsolicited status.
func (d *Device) Attention(s cio.DeviceStatus) { d.hw.Attention(s) }
