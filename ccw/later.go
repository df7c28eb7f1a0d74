package ccw

import (
	"errors"
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// errWithdrawn says that a program was cleared or halted before the device
// took it.
var errWithdrawn = fmt.Errorf("withdrawn before it was taken: %w", errs.ErrAgain)

// Defer has programs taken after the write that asks for them has returned,
// as long as when says so: a front end whose user has memory that is reached
// through the user itself cannot have it fetched while that waits for the
// write. queue gets the work, must not run it before it returns, and runs one at
// a time, in order, or never.
//
// A program that is deferred is pending at once, with return code 0. One that
// is then refused ends with an interrupt like any other: in deferred condition
// code 1 or 3 where START SUBCHANNEL would have had the code, in a program
// check where it was too long or too large, else in a channel-control check.
// A halt or a clear that comes first withdraws it.
//
// Defer is called before Open.
func (r *Regions) Defer(when func() bool, queue func(work func())) { r.when, r.queue = when, queue }

// deferred is a program that is to be taken later.
type deferred struct {
	orb    cio.ORB
	claim  uint64 // it is withdrawn when this is not Regions.claim any more
	queued bool   // work to take it, or one that came before it, is in the queue
}

// takeLater has the program of orb, which is pending, taken later. However often
// a user asks and withdraws, one piece of work waits. The caller holds mu, which
// is released.
func (r *Regions) takeLater(orb cio.ORB) {
	queued := r.later.queued
	r.later = deferred{orb, r.claim.Load(), true}
	r.mu.Unlock()
	if !queued {
		r.queue(r.takeNow)
	}
}

// takeNow takes the program that was deferred last, if it is still wanted.
func (r *Regions) takeNow() {
	r.mu.Lock()
	r.later.queued = false
	orb, claim := r.later.orb, r.later.claim
	r.mu.Unlock()
	cc, err := r.dev.start(&orb, func() bool { return r.claim.Load() == claim })
	reason := err
	if err == nil {
		reason = r.startError(cc, &orb)
	}
	if reason == nil {
		return
	}
	irb := refusalStatus(&orb, cc, err)
	r.mu.Lock()
	if r.state != StatePending || r.claim.Load() != claim {
		r.mu.Unlock()
		return // somebody else's status has answered it
	}
	r.claim.Add(1)
	r.state = StateIdle
	b := irb.Encode()
	copy(r.io[ioIRB:], b[:])
	r.unread = true
	r.result(r.io[ioRet:], reason)
	r.mu.Unlock()
	r.notify(IRQIO)
}

// withdraw keeps a program that is deferred, if there is one, from being
// started.
func (r *Regions) withdraw() {
	if r.queue != nil {
		r.claim.Add(1)
		r.dev.withdraw()
	}
}

// refusalStatus is the status of a program that was not started, for condition code
// cc or, where that is zero, for err.
func refusalStatus(orb *cio.ORB, cc cio.CC, err error) cio.IRB {
	var irb cio.IRB
	s := &irb.SCSW
	s.SetKey(orb.Key())
	flags := controlsOf(orb)
	for _, c := range [...]struct {
		on   bool
		flag cio.SCSWFlags
	}{
		{orb.Suspend(), cio.SCSWSuspend}, {orb.Prefetch(), cio.SCSWPrefetch}, {orb.InitialStatus(), cio.SCSWInitialStatus},
		{orb.SuppressSuspend(), cio.SCSWSuppressSuspend},
	} {
		if c.on {
			flags |= c.flag
		}
	}
	s.SetFlags(flags)
	control := cio.StartFunction | cio.AlertStatus | cio.StatusPending
	switch {
	case err != nil:
		control |= cio.PrimaryStatus | cio.SecondaryStatus
		s.SetCCWAddr((orb.Program() + cio.CCWSize) & (cio.Limit1 - 1))
		check := cio.ControlCheck
		for _, its := range []error{errs.ErrInvalid, errs.ErrChainTooLong, errs.ErrBudget, errs.ErrNotSupported} {
			if errors.Is(err, its) {
				check = cio.ProgramCheck
			}
		}
		s.SetSubchannel(check)
	case cc == cio.CC3:
		s.SetDeferredCC(cio.CC3)
	default:
		s.SetDeferredCC(cio.CC1)
	}
	s.SetControl(control)
	return irb
}

// withdraw keeps a program that is being taken from being started.
func (d *Device) withdraw() {
	d.mu.Lock()
	d.withdrawn = true
	d.mu.Unlock()
}
