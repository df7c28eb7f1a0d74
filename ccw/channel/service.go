package channel

import (
	"math/bits"

	"github.com/softmdev/softmdev/ccw/cio"
)

// kick gets the pending functions served: by the goroutine that serves the
// subchannel now, if there is one, else by Dispatch for a start or resume, else
// by the caller. Preconditions: s.mu is held. It is released.
func (s *Subchannel) kick(dispatch bool) {
	if s.queued || s.serving {
		s.mu.Unlock()
		return
	}
	s.queued = true
	s.mu.Unlock()
	if dispatch && s.cfg.Dispatch != nil {
		s.cfg.Dispatch(s.serve)
		return
	}
	s.service()
}

// service runs the pending functions until none is left. Functions that come
// while it runs, from Interrupt or another goroutine, are left to it, so that
// a program started from Interrupt does not nest.
func (s *Subchannel) service() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = false
	if s.serving { // Dispatch ran it twice
		return
	}
	s.serving = true
	for !s.closed {
		switch c := s.st.control; {
		case c&cio.ClearPending != 0:
			s.doClear()
		case c&cio.HaltPending != 0:
			s.doHalt()
		case c&(cio.StartPending|cio.ResumePending) != 0:
			s.doStart(c&cio.ResumePending != 0)
		default:
			s.serving = false
			if s.present() {
				s.serving = true
				s.raise()
				continue
			}
			s.idle.Broadcast()
			return
		}
	}
	s.serving = false
	s.idle.Broadcast()
}

// raise tells that status is pending. Preconditions: s.mu is held; it is
// released meanwhile.
func (s *Subchannel) raise() {
	s.mu.Unlock()
	defer s.mu.Lock()
	s.interrupt()
}

func (s *Subchannel) interrupt() {
	if s.cfg.Interrupt != nil {
		s.cfg.Interrupt()
	}
}

// present makes the status that the device holds back pending, if the
// subchannel can take it, and reports whether it did: the caller then calls
// interrupt. Preconditions: s.mu is held.
func (s *Subchannel) present() bool {
	c := &s.st.control
	if s.attention == 0 || !s.operational() || s.serving {
		return false
	}
	owed := *c&cio.DeviceActive != 0 && s.attention&cio.DeviceEnd != 0
	switch {
	case owed && *c&cio.PrimaryStatus != 0:
		*c |= cio.SecondaryStatus // merges with the primary status nobody took yet
	case owed && *c&cio.StatusPending == 0 && *c&(cio.StartPending|cio.HaltPending|cio.ClearPending) == 0:
		*c |= cio.SecondaryStatus | cio.StatusPending
	case *c&(cio.StatusPending|cio.FunctionMask|cio.ActivityMask) == 0:
		*c |= cio.StatusPending | cio.AlertStatus
	default:
		return false
	}
	if owed {
		*c &^= cio.DeviceActive
	}
	if s.attention&^cio.DeviceEnd != 0 {
		*c |= cio.AlertStatus
	}
	s.st.device |= s.attention
	s.attention = 0
	return true
}

// doClear performs the clear function. Preconditions: s.mu is held; it is
// released meanwhile.
func (s *Subchannel) doClear() {
	s.mu.Unlock()
	s.dev.Reset()
	s.stopped(Stop{})
	s.mu.Lock()
	if s.closed {
		return
	}
	s.stop.Store(false)
	s.attention = 0
	s.pmcw.SetPNOM(0)
	s.pmcw.SetLPUM(0)
	s.pmcw.SetPOM(0xFF)
	s.st = status{control: cio.ClearFunction | cio.StatusPending}
	s.raise()
}

// doHalt performs the halt function when no program runs: the subchannel was
// idle, suspended or start-pending. Preconditions: s.mu is held; it is released
// meanwhile.
func (s *Subchannel) doHalt() {
	s.stop.Store(false)
	c := &s.st.control
	if *c&cio.Suspended != 0 {
		s.st.ccwAddr = nextCCW(s.prog.at)
	}
	s.mu.Unlock()
	s.stopped(Stop{})
	s.mu.Lock()
	if s.closed || *c&cio.ClearPending != 0 {
		return
	}
	*c = *c&cio.FunctionMask | cio.StatusPending
	s.raise()
}

// doStart runs the program from its beginning or from where it was suspended,
// or lets the device refuse it. Preconditions: s.mu is held; it is released
// meanwhile.
func (s *Subchannel) doStart(resume bool) {
	var o outcome
	var sense []byte
	if s.attention != 0 && !resume {
		// The device has something to tell and takes no command before.
		o = outcome{kind: refused, device: s.attention}
		s.attention = 0
		s.st.control &^= cio.StartPending
		s.prog.err = nil
		s.mu.Unlock()
	} else {
		s.activate(resume)
		concurrent := s.pmcw.Flags()&cio.PMCWConcurrentSense != 0
		s.mu.Unlock()
		o = s.run()
		if o.kind == ended && o.device&cio.UnitCheck != 0 && concurrent {
			sense = s.dev.Sense()
		}
	}
	s.stopped(Stop{Suspended: o.kind == suspended, Subchannel: o.channel, CCWAddr: o.ccwAddr, Err: s.prog.err})

	s.mu.Lock()
	s.err = s.prog.err
	c := &s.st.control
	switch {
	case s.closed, *c&cio.ClearPending != 0:
		return // service goes on with the clear; a closed subchannel tells nothing
	case o.kind == suspended:
		*c &^= cio.SubchannelActive | cio.DeviceActive
		*c |= cio.Suspended
		if *c&cio.HaltPending != 0 || s.st.flags&cio.SCSWSuppressSuspend != 0 {
			return // service goes on with the halt
		}
		s.st.intermediate(s.prog.at, o.count)
	default:
		// A program that a halt ended, or that ended before the halt could,
		// shows both functions.
		if *c&cio.HaltPending != 0 {
			s.stop.Store(false)
		}
		s.st.finish(&o)
		s.st.setSense(sense)
	}
	s.raise()
}

// activate makes the subchannel active with the program of the ORB, or with
// the one that was suspended. Preconditions: s.mu is held.
func (s *Subchannel) activate(resume bool) {
	if resume {
		s.st.control &^= cio.ResumePending | cio.Suspended
	} else {
		path := s.paths(s.orb.LPM())
		path = 0x80 >> bits.LeadingZeros8(path)
		s.st.control &^= cio.StartPending
		s.st.lpum = path
		s.pmcw.SetLPUM(path)
		s.prog.load(&s.orb, &s.pmcw)
	}
	s.st.control |= cio.SubchannelActive | cio.DeviceActive
}

// intermediate tells intermediate status of the CCW in control: a
// program-controlled interruption, or that the device accepted the first
// command.
func (s *Subchannel) intermediate(flag cio.SCSWFlags, channel cio.SubchannelStatus, at uint32, count uint16) {
	s.mu.Lock()
	if s.closed || s.st.control&(cio.ClearPending|cio.HaltPending) != 0 {
		s.mu.Unlock()
		return
	}
	s.st.intermediate(at, count)
	s.st.flags |= flag
	s.st.channel |= channel
	s.mu.Unlock()
	s.interrupt()
}
