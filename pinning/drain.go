package pinning

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// refusal is ranges in which no pin is given: from the start of their drain
// until the store is done with them.
type refusal struct {
	rs  []addr.Range[addr.IOVA] // as the store gave them, in its order
	set rangeSet                // the same, for searches: a batch may have 65,535
}

// rangeSet is ranges in ascending order, no two of which overlap or touch.
type rangeSet []addr.Range[addr.IOVA]

// first is what r shares with the first range of the set that it touches.
func (set rangeSet) first(r addr.Range[addr.IOVA]) (addr.Range[addr.IOVA], bool) {
	i := sort.Search(len(set), func(i int) bool { return set[i].Last() >= r.Start() })
	if i == len(set) {
		return addr.Range[addr.IOVA]{}, false
	}
	return set[i].Intersect(r)
}

func (set rangeSet) overlaps(r addr.Range[addr.IOVA]) bool {
	_, yes := set.first(r)
	return yes
}

// drain is one unmap that waits for leases to end.
type drain struct {
	wake chan struct{} // capacity 1: a lease ended, look again
}

// HeldError is the error of an unmap that waited in vain: who holds what it
// wanted to remove. It is errs.ErrBusy, and also what ended the wait
// (context.DeadlineExceeded, context.Canceled).
type HeldError struct {
	// Holdings are the holdings in the range, by owner, program and address;
	// at least one.
	Holdings []Holding
	Cause    error
}

func (e *HeldError) Error() string {
	var b strings.Builder
	h := e.Holdings[0]
	fmt.Fprintf(&b, "%s %s held by %s program %d", h.Range, h.Access, h.Owner, h.Program)
	if n := len(e.Holdings) - 1; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	fmt.Fprintf(&b, ": %v", errs.ErrBusy)
	return b.String()
}

// Unwrap yields errs.ErrBusy first, whose errno is the answer to the client.
func (e *HeldError) Unwrap() []error { return []error{errs.ErrBusy, e.Cause} }

// refusedLocked is the first refused address in r.
func (p *Pinner) refusedLocked(r addr.Range[addr.IOVA]) (at addr.IOVA, yes bool) {
	for _, f := range p.refused {
		if i, ok := f.set.first(r); ok && (!yes || i.Start() < at) {
			at, yes = i.Start(), true
		}
	}
	return at, yes
}

// Drain is called by the store before it removes or suspends rs. It refuses
// new pins there, tells the owners of leases that reach into rs, and waits
// until those leases have ended and no hardware is inside, or until ctx is
// done (or Config.Deadline has passed): then it fails with a *[HeldError] and
// nothing stays refused. After success pins in rs are refused until
// [Pinner.Done].
//
// The whole of each range counts: a lease that holds only the last page of a
// mapping is waited for like one that holds the first.
func (p *Pinner) Drain(ctx context.Context, rs []addr.Range[addr.IOVA]) error {
	p.mu.Lock()
	f := p.refuseLocked(rs)
	if !p.heldInLocked(f.set) {
		p.leaveLocked(f.set)
		return nil
	}
	d := &drain{wake: make(chan struct{}, 1)}
	p.drains = append(p.drains, d)
	p.tellLocked(f.set)
	p.mu.Unlock()

	wait := p.deadline
	if _, ok := ctx.Deadline(); !ok && wait == 0 {
		wait = defaultDeadline
	}
	if wait != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	for {
		p.mu.Lock()
		held := p.heldInLocked(f.set)
		// Who ends in the last moment has ended: the state decides, not
		// which channel was ready first.
		if !held || ctx.Err() != nil {
			p.drains = slices.DeleteFunc(p.drains, func(x *drain) bool { return x == d })
			if held {
				err := &HeldError{p.holdingsInLocked(f.set), context.Cause(ctx)}
				p.permitLocked(f.rs)
				p.mu.Unlock()
				return err
			}
			p.leaveLocked(f.set)
			return nil
		}
		p.mu.Unlock()
		select {
		case <-d.wake:
		case <-ctx.Done():
		}
	}
}

// leaveLocked drops the windows in set, unlocks p.mu and waits until hardware is
// out of everything that was revoked there: the lease of a page that is being
// unmapped may have ended a moment ago, with its Release still waiting for the
// same.
//
// Where no window was, no page was held since hardware was waited for last.
// Then it is not waited for: it may be at a message to the client, which cannot
// answer while it waits for us.
func (p *Pinner) leaveLocked(set rangeSet) {
	used := p.swept
	for _, r := range set {
		used = used || p.overlapsLocked(r)
	}
	if !used {
		p.mu.Unlock()
		return
	}
	p.dropLocked(set)
	var inside []*iommu.Domain
	for _, o := range p.owners {
		// Whoever revoked has unlocked p.mu before we locked it.
		if !o.domain.Idle() {
			inside = append(inside, o.domain)
		}
	}
	p.mu.Unlock()
	for _, d := range inside {
		d.Quiesce()
	}
}

// Done ends what a successful Drain of the same rs began.
func (p *Pinner) Done(rs []addr.Range[addr.IOVA]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.permitLocked(rs)
}

// Writable calls mark for each range that is held with write access: the
// store marks them dirty whenever it has cleared its dirty log, since the
// hardware may be writing them now.
func (p *Pinner) Writable(mark func(addr.Range[addr.IOVA])) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eachHoldLocked(func(_ *slot, h *hold) bool {
		if h.access&addr.Write != 0 {
			mark(h.rng())
		}
		return true
	})
}

// refuseLocked refuses pins in rs, which is copied: the store's slice is its
// own. The copies are used again, so that an unmap of what nobody holds costs
// no allocation.
func (p *Pinner) refuseLocked(rs []addr.Range[addr.IOVA]) refusal {
	n := len(p.refused)
	if n < cap(p.refused) {
		p.refused = p.refused[:n+1]
	} else {
		p.refused = append(p.refused, refusal{})
	}
	f := &p.refused[n]
	f.rs = append(f.rs[:0], rs...)
	f.set = union(append(f.set[:0], rs...))
	return *f
}

func (p *Pinner) permitLocked(rs []addr.Range[addr.IOVA]) {
	for i := range p.refused {
		if slices.Equal(p.refused[i].rs, rs) {
			n := len(p.refused) - 1
			p.refused[i], p.refused[n] = p.refused[n], p.refused[i]
			if cap(p.refused[n].rs) > maxKept {
				p.refused[n] = refusal{}
			}
			p.refused = p.refused[:n]
			return
		}
	}
}

// wakeLocked makes every waiting unmap look again.
func (p *Pinner) wakeLocked() {
	for _, d := range p.drains {
		select {
		case d.wake <- struct{}{}:
		default: // told already, has not looked yet
		}
	}
}

// tellLocked tells each owner with leases in rs, on a goroutine of its own so
// that one who is slow to answer delays neither the others nor the deadline.
func (p *Pinner) tellLocked(set rangeSet) {
	type notice struct {
		program uint64
		r       addr.Range[addr.IOVA]
	}
	for _, o := range p.owners {
		if o.cancel == nil {
			continue
		}
		var list []notice
		for _, h := range p.holdingsOfLocked(o) {
			for rest := h.Range; ; {
				i, ok := set.first(rest)
				if !ok {
					break
				}
				list = append(list, notice{h.Program, i})
				if i.Last() == rest.Last() {
					break
				}
				rest, _ = addr.RangeLast(i.Last()+1, rest.Last())
			}
		}
		if len(list) == 0 {
			continue
		}
		p.tellers.Go(func() {
			for _, n := range list {
				o.cancel(n.program, n.r)
			}
		})
	}
}
