package channel

import (
	"errors"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// program is a channel program under way.
type program struct {
	// What the ORB says; immutable while the program runs.
	format1    bool
	mayIDAW2   bool
	mayMIDAW   bool
	maySuspend bool
	suppressIL bool   // L
	block      uint64 // bytes that an IDAW covers
	limit      uint64 // first address that CCWs, lists and direct data cannot reach
	limitMode  uint8  // of address-limit checking; 0 = none

	at       uint32 // of the next CCW to fetch
	started  bool   // a CCW that is no transfer was fetched
	initial  bool   // an initial-status interruption is still owed
	backward int    // transfers backward since data moved last
	err      error  // of the work meter
	word     [16]byte
}

// load makes p the program of an ORB.
func (p *program) load(orb *cio.ORB, pmcw *cio.PMCW) {
	*p = program{
		format1:    orb.Format1(),
		mayIDAW2:   orb.IDAW2(),
		mayMIDAW:   orb.MIDAW(),
		maySuspend: orb.Suspend(),
		suppressIL: orb.SuppressIL(),
		block:      uint64(orb.Block()),
		limit:      cio.Limit0,
		at:         orb.Program(),
		initial:    orb.InitialStatus(),
	}
	if p.format1 {
		p.limit = cio.Limit1
	}
	if orb.AddressLimit() {
		p.limitMode = pmcw.LimitMode()
	}
}

// fault is a check found in a CCW: what it is, and the CCW address it leaves.
type fault struct {
	channel cio.SubchannelStatus
	ccwAddr uint32
	stopped bool // no check: halt, clear or close
}

// run interprets the program until it ends, suspends itself or is stopped.
func (s *Subchannel) run() outcome {
	p, x := &s.prog, &s.x
	s.dev.Begin()
	for chained := false; ; chained = true {
		var c cio.CCW
		at, f := s.fetch(&c, false)
		if f != (fault{}) {
			o := f.outcome(chained)
			if !f.stopped {
				s.concluded(&o)
			}
			return o
		}
		if c.Flags&cio.Suspend != 0 {
			p.at = at
			return outcome{kind: suspended, ccwAddr: nextCCW(at), count: c.Count}
		}
		if c.Flags&cio.ProgramControlled != 0 {
			s.intermediate(0, cio.PCI, at, c.Count)
		}
		x.begin(&c, at, p.format1, chained)
		o, more := s.conclude(s.dev.Execute(c.Command, x))
		s.concluded(&o)
		if !more {
			return o
		}
	}
}

// concluded tells how an operation ended.
func (s *Subchannel) concluded(o *outcome) {
	if s.cfg.Concluded != nil {
		s.cfg.Concluded(Conclusion{
			Device: o.device, Subchannel: o.channel, CCWAddr: o.ccwAddr, Count: o.count, Stopped: o.kind == stopped,
		})
	}
}

// outcome is how f ends a program before an operation is begun.
func (f fault) outcome(chained bool) outcome {
	o := outcome{channel: f.channel, ccwAddr: f.ccwAddr}
	if f.stopped {
		o.kind = stopped
		if chained {
			o.device = cio.Ended // of the operation before
		}
	}
	return o
}

// conclude draws the conclusion from the status d with which the device ended
// the operation of s.x: how the program ends, or that the next CCW follows.
//
// Specification: SA22-7832, "Conclusion of I/O Operations" (Basic I/O
// Functions).
func (s *Subchannel) conclude(d cio.DeviceStatus) (o outcome, more bool) {
	p, x := &s.prog, &s.x
	o = outcome{device: d, ccwAddr: nextCCW(x.at), count: uint16(x.count)}
	if x.moved && x.class != cio.ClassControl {
		p.backward = 0
	}
	switch {
	case x.stopped:
		o.kind = stopped
		return o, false
	case x.check != 0:
		o.channel = x.check
		o.ccwAddr = x.checkAddr
		if x.check&cio.ProgramCheck != 0 {
			o.count = 0
		}
		if x.inCCW {
			o.device = 0
		}
		return o, false
	case d == 0:
		o.channel = cio.InterfaceCheck // the device did not end
		return o, false
	case !x.accepted && !x.chained && d&cio.Busy != 0:
		o.kind = refused
		return o, false
	}
	flags := x.flags
	il := false
	if x.accepted {
		last := flags&cio.ChainData == 0
		il = !last || (x.count != 0 || x.more) && flags&cio.SuppressLength == 0
	} else {
		// Immediate: no data, so that data chaining means nothing.
		flags &^= cio.ChainData
		il = p.format1 && !p.suppressIL && x.count != 0 && flags&cio.SuppressLength == 0
	}
	if il {
		o.channel = cio.IncorrectLength
	}
	if il || flags&(cio.ChainData|cio.ChainCommand) != cio.ChainCommand || d&^cio.StatusModifier != cio.Ended {
		return o, false
	}
	if d&cio.StatusModifier != 0 {
		p.at += cio.CCWSize
	}
	if p.initial { // the first operation was immediate
		p.initial = false
		s.intermediate(cio.SCSWZero, 0, x.at, o.count)
	}
	return o, true
}

// fetch fetches and checks the next CCW that is no transfer in channel, and
// returns its address. data says that it is reached by data chaining.
//
// The CCW address of a check is 8 beyond the CCW that is wrong. Where a
// transfer names a place at which there can be no CCW, that is the transfer.
func (s *Subchannel) fetch(c *cio.CCW, data bool) (at uint32, f fault) {
	p := &s.prog
	ccw := (*[cio.CCWSize]byte)(p.word[:])
	if s.cfg.Fetching != nil {
		s.cfg.Fetching(data)
	}
	for tic, reached := false, uint32(0); ; {
		at = p.at
		here := nextCCW(at)
		if !tic {
			reached = here
		}
		if s.stop.Load() {
			// The CCW at at is not used: its address is that of the last one + 8.
			return at, fault{ccwAddr: at & (cio.Limit1 - 1), stopped: true}
		}
		if at%cio.CCWSize != 0 || uint64(at)+cio.CCWSize > p.limit {
			return at, fault{channel: cio.ProgramCheck, ccwAddr: reached}
		}
		if s.cfg.Steps != nil {
			if p.err = s.cfg.Steps(1); p.err != nil {
				return at, fault{channel: cio.ProgramCheck, ccwAddr: here}
			}
		}
		if err := s.mem.Read(addr.HPA(at), ccw[:]); err != nil {
			return at, fault{channel: checkOf(err), ccwAddr: reached}
		}
		*c = cio.DecodeCCW(ccw, p.format1)
		if !c.Command.IsTIC(p.format1) {
			if !p.valid(c, data) {
				return at, fault{channel: cio.ProgramCheck, ccwAddr: here}
			}
			p.started = true
			p.at = at + cio.CCWSize
			return at, fault{}
		}
		// Bits 32-63 of a format-0 transfer mean nothing; in format 1 all
		// but the address must be zero.
		bad := tic || !p.started || p.format1 && (c.Flags != 0 || c.Count != 0 || c.Addr&cio.Limit1 != 0)
		if c.Addr <= at {
			p.backward++
			bad = bad || p.backward > s.cfg.MaxBackwardTIC
		}
		if bad {
			return at, fault{channel: cio.ProgramCheck, ccwAddr: here}
		}
		tic, reached = true, here
		p.at = c.Addr
	}
}

// valid reports whether c, no transfer, can be executed in p. data says that
// it is reached by data chaining, where its command code means nothing.
//
// Specification: SA22-7832, "Program Check" (I/O Interruptions).
func (p *program) valid(c *cio.CCW, data bool) bool {
	if !data && c.Command.Class(p.format1) == cio.ClassInvalid {
		return false
	}
	if p.format1 && c.Addr&cio.Limit1 != 0 {
		return false
	}
	if c.Count == 0 && (!p.format1 || data || c.Flags&cio.ChainData != 0) {
		return false
	}
	if c.Flags&cio.Suspend != 0 && (!p.maySuspend || data || c.Flags&cio.ChainData != 0) {
		return false
	}
	if c.Flags&cio.Modified != 0 && (!p.mayMIDAW || c.Flags&(cio.Indirect|cio.Skip) != 0) {
		return false
	}
	return true
}

// checkOf is the check that an error of the memory becomes.
func checkOf(err error) cio.SubchannelStatus {
	switch {
	case errors.Is(err, errs.ErrPermission):
		return cio.ProtectionCheck
	case errors.Is(err, errs.ErrReach), errors.Is(err, errs.ErrNotMapped),
		errors.Is(err, errs.ErrOutsideRange), errors.Is(err, errs.ErrOverflow):
		return cio.ProgramCheck
	}
	return cio.DataCheck
}
