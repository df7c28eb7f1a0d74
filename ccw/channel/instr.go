package channel

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// CheckORB is the part of START SUBCHANNEL that ends in a program exception
// rather than a condition code: ErrInvalid where the instruction gives an
// operand exception, ErrNotSupported for a transport-mode program.
func CheckORB(orb *cio.ORB) error {
	if orb.Transport() {
		return fmt.Errorf("orb: transport mode: %w", errs.ErrNotSupported)
	}
	if orb.Reserved() {
		return fmt.Errorf("orb: reserved bit on: %w", errs.ErrInvalid)
	}
	return nil
}

// CheckPMCW is the same of MODIFY SUBCHANNEL.
func CheckPMCW(p *cio.PMCW) error {
	if p.Reserved() {
		return fmt.Errorf("pmcw: reserved bit on: %w", errs.ErrInvalid)
	}
	if p.LimitMode() == 3 {
		return fmt.Errorf("pmcw: limit mode 3: %w", errs.ErrInvalid)
	}
	return nil
}

// operational reports whether the subchannel takes instructions that need an
// enabled, valid one. Preconditions: s.mu is held.
func (s *Subchannel) operational() bool {
	const need = cio.PMCWEnabled | cio.PMCWValid
	return !s.closed && s.pmcw.Flags()&need == need
}

// paths are the paths that a program with the ORB's mask may use.
// Preconditions: s.mu is held.
func (s *Subchannel) paths(lpm uint8) uint8 { return lpm & s.pmcw.PAM() & s.pmcw.PIM() }

// Start is START SUBCHANNEL. It copies orb.
//
//	cc 0   the start function is accepted; its end comes by interruption
//	cc 1   status is pending
//	cc 2   a function is in progress
//	cc 3   not operational, disabled, closed, or no path in the ORB's mask
//
// An ORB that [CheckORB] refuses suppresses the instruction, whose exception
// is the caller's to give: nothing changes, and the code is 3.
func (s *Subchannel) Start(orb *cio.ORB) cio.CC {
	s.mu.Lock()
	switch {
	case !s.operational() || CheckORB(orb) != nil:
		s.mu.Unlock()
		return cio.CC3
	case s.st.control&cio.StatusPending != 0:
		s.mu.Unlock()
		return cio.CC1
	case s.st.control&cio.FunctionMask != 0:
		s.mu.Unlock()
		return cio.CC2
	case s.paths(orb.LPM()) == 0:
		s.mu.Unlock()
		return cio.CC3
	}
	s.orb = *orb
	s.err = nil
	s.pmcw.SetParam(orb.Param())
	s.pmcw.SetLPM(orb.LPM())
	s.st.start(orb)
	s.kick(true)
	return cio.CC0
}

// Resume is RESUME SUBCHANNEL.
//
//	cc 0   the resume function is accepted: the CCW at which the program was
//	       suspended is fetched again
//	cc 1   status is pending
//	cc 2   not suspended, or resume is pending already
//	cc 3   not operational, disabled or closed
func (s *Subchannel) Resume() cio.CC {
	s.mu.Lock()
	c := s.st.control
	switch {
	case !s.operational():
		s.mu.Unlock()
		return cio.CC3
	case c&cio.StatusPending != 0:
		s.mu.Unlock()
		return cio.CC1
	case c&cio.FunctionMask != cio.StartFunction || c&cio.Suspended == 0 || c&cio.ResumePending != 0:
		s.mu.Unlock()
		return cio.CC2
	}
	s.st.control |= cio.ResumePending
	s.kick(true)
	return cio.CC0
}

// Halt is HALT SUBCHANNEL. A running program ends at its next element, with
// the status of the device and start and halt in the function control.
//
//	cc 0   the halt function is accepted; its end comes by interruption
//	cc 1   status is pending, alone or with alert, primary or secondary
//	cc 2   a halt or clear is in progress
//	cc 3   not operational, disabled or closed
func (s *Subchannel) Halt() cio.CC {
	s.mu.Lock()
	c := s.st.control
	switch {
	case !s.operational():
		s.mu.Unlock()
		return cio.CC3
	case c&cio.StatusPending != 0 && c&cio.StatusMask != cio.IntermediateStatus|cio.StatusPending:
		s.mu.Unlock()
		return cio.CC1
	case c&(cio.HaltFunction|cio.ClearFunction) != 0:
		s.mu.Unlock()
		return cio.CC2
	}
	// An intermediate status that nobody took is gone: the halt's own status
	// tells the end of the start function.
	s.st.clearIntermediate()
	s.st.control |= cio.HaltFunction | cio.HaltPending
	s.stop.Store(true)
	s.kick(false)
	return cio.CC0
}

// Clear is CLEAR SUBCHANNEL. A running program ends at its next element
// without a status of its own, pending status is discarded, the device is
// reset.
//
//	cc 0   the clear function is accepted; its end comes by interruption
//	cc 3   not operational, disabled or closed
func (s *Subchannel) Clear() cio.CC {
	s.mu.Lock()
	if !s.operational() {
		s.mu.Unlock()
		return cio.CC3
	}
	s.st.control = cio.ClearFunction | cio.ClearPending
	s.stop.Store(true)
	s.kick(false)
	return cio.CC0
}

// Cancel is CANCEL SUBCHANNEL: it takes back a start function that has not
// reached the device, or a suspended program. No interruption follows.
//
//	cc 0   cancelled
//	cc 1   status is pending
//	cc 2   nothing that could be cancelled
//	cc 3   not operational, disabled or closed
func (s *Subchannel) Cancel() cio.CC {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.st.control
	switch {
	case !s.operational():
		return cio.CC3
	case c&cio.StatusPending != 0:
		return cio.CC1
	case c&cio.FunctionMask != cio.StartFunction,
		c&(cio.StartPending|cio.ResumePending|cio.Suspended) == 0,
		c&(cio.SubchannelActive|cio.DeviceActive) != 0:
		return cio.CC2
	}
	// A service that is queued for the start finds nothing to do.
	s.st = status{}
	return cio.CC0
}

// Test is TEST SUBCHANNEL. It fills irb whenever the subchannel is
// operational, and takes the status that is pending.
//
//	cc 0   status was pending and is cleared
//	cc 1   none is pending
//	cc 3   not operational, disabled or closed; irb is unchanged
func (s *Subchannel) Test(irb *cio.IRB) cio.CC {
	s.mu.Lock()
	if !s.operational() {
		s.mu.Unlock()
		return cio.CC3
	}
	s.st.store(irb)
	if s.st.control&cio.StatusPending == 0 {
		s.mu.Unlock()
		return cio.CC1
	}
	s.st.take()
	told := s.present()
	s.mu.Unlock()
	if told {
		s.interrupt()
	}
	return cio.CC0
}

// Store is STORE SUBCHANNEL.
//
//	cc 0   stored, also for a subchannel that is not valid or not enabled
//	cc 3   closed; schib is unchanged
func (s *Subchannel) Store(schib *cio.SCHIB) cio.CC {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return cio.CC3
	}
	var irb cio.IRB
	s.st.store(&irb)
	*schib = cio.SCHIB{PMCW: s.pmcw, SCSW: irb.SCSW, MBA: s.mba}
	return cio.CC0
}

// Modify is MODIFY SUBCHANNEL. Only what a program may set changes.
//
//	cc 0   done; a subchannel without a valid device number stays as it is
//	cc 1   status is pending
//	cc 2   a function is in progress
//	cc 3   closed
//
// An operand that [CheckPMCW] refuses suppresses the instruction, whose
// exception is the caller's to give: nothing changes, and the code is 3.
func (s *Subchannel) Modify(schib *cio.SCHIB) cio.CC {
	s.mu.Lock()
	switch {
	case s.closed || CheckPMCW(&schib.PMCW) != nil:
		s.mu.Unlock()
		return cio.CC3
	case s.pmcw.Flags()&cio.PMCWValid == 0:
		s.mu.Unlock()
		return cio.CC0
	case s.st.control&cio.StatusPending != 0:
		s.mu.Unlock()
		return cio.CC1
	case s.st.control&cio.FunctionMask != 0:
		s.mu.Unlock()
		return cio.CC2
	}
	const settable = cio.PMCWEnabled | cio.PMCWMultipath |
		cio.PMCWMeasureFormat | cio.PMCWMeasureExtended | cio.PMCWConcurrentSense
	from := &schib.PMCW
	s.pmcw.SetFlags(s.pmcw.Flags()&^settable | from.Flags()&settable)
	s.pmcw.SetParam(from.Param())
	s.pmcw.SetISC(from.ISC())
	s.pmcw.SetLimitMode(from.LimitMode())
	s.pmcw.SetMeasureMode(from.MeasureMode())
	s.pmcw.SetLPM(from.LPM())
	s.pmcw.SetPOM(from.POM())
	s.pmcw.SetMBI(from.MBI())
	s.mba = schib.MBA
	told := s.present() // enabled now, perhaps, with the device waiting to tell
	s.mu.Unlock()
	if told {
		s.interrupt()
	}
	return cio.CC0
}

// Attention presents status that belongs to no operation under way: attention
// from a console, device end when a volume becomes ready, or the device end
// that an operation with channel end alone still owes. The subchannel becomes
// status-pending with it as soon as it is idle and the program has taken what
// was pending. A start that comes first is refused with it: deferred condition
// code 1. Status that comes while other status waits is merged with that.
func (s *Subchannel) Attention(d cio.DeviceStatus) {
	s.mu.Lock()
	if s.closed || d == 0 {
		s.mu.Unlock()
		return
	}
	s.attention |= d
	told := s.present()
	s.mu.Unlock()
	if told {
		s.interrupt()
	}
}
