package pinning

import (
	"fmt"
	"slices"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Lease is what one program holds: the pages of every Pin, until Release.
//
// It is a small value, to be copied at will: a handle to a pooled slot and the
// generation of its use. A Release that comes late, when the slot serves
// another program already, therefore does nothing. The zero Lease holds
// nothing and pins nothing.
//
// Pin and PinEach are called by one goroutine at a time; Release by any, at
// any time, also while a Pin is under way, which then fails or is released.
type Lease struct {
	s   *slot
	gen uint64
}

// slot is a lease's place. Guarded by Pinner.mu once it is listed; before that
// it is its Begin's.
type slot struct {
	owner   *Owner // immutable
	program uint64
	gen     uint64 // of the current use, or of the next
	holds   []hold
	trace   []uintptr

	listed bool // in owner.active: it has pinned

	prev, next *slot
}

// hold is one grant: pages of one block, consecutive.
type hold struct {
	c      *cell
	page   uint64 // number of the first page in IOVA space
	pages  uint32 // the pages as a set of the block's
	access addr.Access
}

// hold is room for one more hold.
func (s *slot) hold() *hold {
	i := len(s.holds)
	if i == cap(s.holds) {
		s.holds = slices.Grow(s.holds, 1)
	}
	s.holds = s.holds[:i+1]
	return &s.holds[i]
}

// n is the number of pages of h.
func (h *hold) n() uint64 { return uint64(iommu.Count(h.pages)) }

// pageSet is the pages [from, to] of IOVA space, which lie in one block.
func pageSet(from, to uint64) uint32 {
	return iommu.Pages(from%iommu.BlockPages, to%iommu.BlockPages+1)
}

// Request names a range to pin.
type Request struct {
	IOVA   addr.IOVA
	Len    addr.Len
	Access addr.Access
}

// Valid reports whether l is a lease that was not released.
func (l Lease) Valid() bool {
	if l.s == nil {
		return false
	}
	p := l.s.owner.p
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.validLocked()
}

func (l Lease) validLocked() bool { return l.s.gen == l.gen }

var errReleased = fmt.Errorf("lease is released: %w", errs.ErrGone)

// maxPin is how many pages one Pin may name where no limit is set: 64 GiB,
// whose books take 16 MiB. The store may have mappings of nearly 2^64 bytes.
const maxPin = 1 << 24

// Pin holds the pages of [iova, iova+n) for the lease and puts them in reach
// of the owner's domain with that access: all of them, or none and an error.
// Each page not held before is charged.
//
// Errors, with the position of the first address at fault: errs.ErrNotMapped,
// errs.ErrPermission (the mapping allows less), errs.ErrSuspended,
// errs.ErrBusy (being unmapped), errs.ErrMemlock, errs.ErrFault (locking
// memory that is gone), errs.ErrNotSupported (locking remote memory);
// errs.ErrInvalid for no bytes or no access, errs.ErrOverflow past 2^64,
// errs.ErrGone when lease, owner or domain are.
func (l Lease) Pin(iova addr.IOVA, n addr.Len, access addr.Access) (pin Pin, err error) {
	s := l.s
	if s == nil {
		return Pin{}, errReleased
	}
	p := s.owner.p
	p.mu.Lock()
	if !l.validLocked() {
		p.mu.Unlock()
		return Pin{}, errReleased
	}
	err = p.pinLocked(&pin, s, iova, n, access)
	p.mu.Unlock()
	return pin, err
}

// PinEach pins each request, all or none, under one lock: cheaper than as
// many Pins. pins[i] receives the pin of reqs[i]; pins must not be shorter
// than reqs. On error it returns the index of the request at fault.
func (l Lease) PinEach(reqs []Request, pins []Pin) (int, error) {
	s := l.s
	if s == nil {
		return 0, errReleased
	}
	pins = pins[:len(reqs)]
	o := s.owner
	p := o.p
	p.mu.Lock()
	if !l.validLocked() {
		p.mu.Unlock()
		return 0, errReleased
	}
	before := len(s.holds)
	for i := range reqs {
		q := &reqs[i]
		if err := p.pinLocked(&pins[i], s, q.IOVA, q.Len, q.Access); err != nil {
			late := append([]hold(nil), s.holds[before:]...)
			p.revokeLocked(s, before)
			s.holds = s.holds[:before]
			if len(p.drains) != 0 {
				p.wakeLocked()
			}
			p.mu.Unlock()
			o.leave(late)
			return i, err
		}
	}
	p.mu.Unlock()
	return 0, nil
}

// Release gives back all that the lease holds: the charge, the reach, the
// pages. It cannot fail, and may be called more than once. When it returns no
// hardware is in a frame that only this lease held.
func (l Lease) Release() {
	s := l.s
	if s == nil {
		return
	}
	o := s.owner
	p := o.p
	p.mu.Lock()
	if s.gen != l.gen {
		p.mu.Unlock()
		if !o.domain.Idle() {
			o.domain.Quiesce() // the first Release may be waiting still
		}
		return
	}
	s.gen++ // handles are stale from now on; the slot is ours until Put
	if s.listed {
		p.revokeLocked(s, 0)
		o.unlistLocked(s)
		if len(p.drains) != 0 {
			p.wakeLocked()
		}
	}
	p.mu.Unlock()
	if !o.domain.Idle() || p.store.Tracking() { // else leave does nothing
		o.leave(s.holds)
	}
	s.reset()
	o.free.Put(s)
}

// revokeLocked ends the holds from first on: reach, charge and lock. Hardware
// may still be inside; whoever needs it gone calls leave after unlocking.
//
// Pages held for writing are marked dirty. Marking them when they are pinned
// is what type1 does; marking them again when they are released closes a gap
// it has: a dirty log that was read and cleared just after the pin would miss
// all that the hardware stored since.
func (p *Pinner) revokeLocked(s *slot, first int) {
	o := s.owner
	for i := len(s.holds) - 1; i >= first; i-- {
		h := &s.holds[i]
		own, all := h.c.Revoke(h.pages, h.access)
		o.charged -= uint64(iommu.Count(own))
		p.charged -= uint64(iommu.Count(all))
		p.mark(h)
		if p.locker != nil {
			p.unlockLocked(h.c.w, h.page, all)
		}
	}
}

// leave waits until hardware is out of holds that were revoked. What it stored
// in its last moment may have come after the mark, and the mark may have been
// taken before, so the pages are marked once more, also when hardware has left
// by now: that it was never inside is not known. The holds are nobody else's,
// and no lock is held.
func (o *Owner) leave(holds []hold) {
	if !o.domain.Idle() {
		o.domain.Quiesce()
	}
	for i := range holds {
		o.p.mark(&holds[i])
	}
}

// mark marks the pages of h dirty, if they are held for writing and the store
// keeps a log. To find out costs a load.
func (p *Pinner) mark(h *hold) {
	if p.store.Tracking() {
		p.markTracked(h)
	}
}

func (p *Pinner) markTracked(h *hold) {
	if h.access&addr.Write != 0 {
		p.store.MarkDirty(addr.IOVA(h.page<<addr.PageShift), addr.Len(h.n())<<addr.PageShift)
	}
}

// pinLocked pins one range for s: what most programs need, pages within one
// block that the owner has held before.
//
// Pin and hold are written where they belong, field by field: to return or to
// append one whole moves it through the stack in pieces of 16 bytes that were
// stored in pieces of 8, which stalls the processor for 5 ns each time.
func (p *Pinner) pinLocked(out *Pin, s *slot, iova addr.IOVA, n addr.Len, access addr.Access) error {
	o := s.owner
	last := iova + addr.IOVA(n) - 1
	if n-1 >= iommu.BlockSize || iova>>iommu.BlockShift != last>>iommu.BlockShift || last < iova ||
		access-1 >= addr.ReadWrite || !p.plain || len(p.refused) != 0 {
		return p.pinSlowLocked(out, s, iova, n, access)
	}
	// The answer holds until p.mu is unlocked, in a section or not: nothing is
	// refused, so no unmap has asked us yet, and it has to.
	run, ok := p.reader.Hit(iova)
	if !ok {
		run, ok = p.lookup(iova)
	}
	if !ok || run.Len < n || !run.Access.Allows(access) {
		return p.pinSlowLocked(out, s, iova, n, access)
	}
	c := o.cells.find(uint64(iova)>>iommu.BlockShift, run.ID)
	if c == nil {
		return p.pinSlowLocked(out, s, iova, n, access)
	}
	from, to := uint64(iova)>>addr.PageShift, uint64(last)>>addr.PageShift
	// Were none of the pages held, would the limits allow them? If so there
	// is no need to ask which are.
	if most := to - from + 1; o.charged+most > p.perOwner || p.charged+most > p.limit {
		return p.pinSlowLocked(out, s, iova, n, access)
	}
	pages := pageSet(from, to)
	if own, all := c.Grant(pages, access); own != 0 {
		o.charged += uint64(iommu.Count(own))
		p.charged += uint64(iommu.Count(all))
	}
	h := s.hold()
	h.c, h.page, h.pages, h.access = c, from, pages, access
	p.mark(h)
	if !s.listed {
		o.listLocked(s)
	}
	out.iova, out.n, out.w, out.parts = iova, n, c.w, nil
	out.hpa = c.HPA(from%iommu.BlockPages) + addr.HPA(addr.PageOffset(iova))
	return nil
}

// lookup is kept out of line: what pins is in few mappings, or in many.
//
//go:noinline
func (p *Pinner) lookup(iova addr.IOVA) (translate.Run, bool) {
	p.reader.Enter()
	defer p.reader.Exit()
	return p.reader.Lookup(iova)
}

// pinSlowLocked pins any range, step by step: find, charge and lock every
// page first, and only then, when nothing can fail any more, grant.
func (p *Pinner) pinSlowLocked(out *Pin, s *slot, iova addr.IOVA, n addr.Len, access addr.Access) error {
	r, ok := addr.RangeOf(iova, n)
	switch {
	case n == 0 || access == 0 || access > addr.ReadWrite:
		return errs.Addr("iova", uint64(iova), fmt.Errorf("pin of %d bytes %s: %w", uint64(n), access, errs.ErrInvalid))
	case !ok:
		return errs.Addr("iova", uint64(iova), errs.ErrOverflow)
	case s.owner.closed.Load() || p.closed:
		return fmt.Errorf("%s: %w", s.owner.name, errs.ErrGone)
	}
	if at, by := p.refusedLocked(r.Pages()); by {
		return errs.Addr("iova", uint64(max(at, iova)), fmt.Errorf("being unmapped: %w", errs.ErrBusy))
	}
	if n>>addr.PageShift > addr.Len(min(p.limit, maxPin)) {
		// More than could ever be pinned. Said before any page is looked
		// at, so that the work of a pin is bounded by the limit. Errors of
		// the first address come first, as they would for fewer bytes.
		if _, err := p.lookupLocked(iova, iova, access); err != nil {
			return err
		}
		return errs.Addr("iova", uint64(iova), fmt.Errorf("%#x bytes at once, limit %s: %w", uint64(n), p.Limit(), errs.ErrMemlock))
	}

	if p.books >= p.sweepAt {
		p.sweepLocked()
	}
	before := len(s.holds)
	for at := iova; ; {
		run, err := p.lookupLocked(at, r.Last(), access)
		if err == nil {
			err = p.holdRunLocked(s, run, at, r.Last(), access)
		}
		if err != nil {
			p.dropHoldsLocked(s, before)
			return err
		}
		if addr.Len(r.Last()-at) < run.Len {
			break
		}
		at += addr.IOVA(run.Len)
	}
	for i := before; i < len(s.holds); i++ {
		h := &s.holds[i]
		h.c.Grant(h.pages, access)
		p.mark(h)
	}
	if !s.listed {
		s.owner.listLocked(s)
	}
	*out = newPin(iova, n, s.holds[before:])
	return nil
}

// lookupLocked finds the mapping at one address of a pin that goes on to last.
func (p *Pinner) lookupLocked(at, last addr.IOVA, access addr.Access) (translate.Run, error) {
	if err := p.fault.Hit("lookup"); err != nil {
		return translate.Run{}, errs.Addr("iova", uint64(at), err)
	}
	p.reader.Enter()
	defer p.reader.Exit()
	run, ok := p.reader.Lookup(at)
	switch {
	case !ok || run.Kind == translate.KindNone:
		// Not mapped or suspended; the store knows which.
		if err := p.reader.Check(at, 1, access); err != nil {
			return run, err
		}
		return run, errs.Addr("iova", uint64(at), errs.ErrNotMapped)
	case !run.Access.Allows(access):
		return run, errs.Addr("iova", uint64(at), errs.ErrPermission)
	}
	return run, nil
}

// holdRunLocked finds, charges and locks the pages of [at, last] that lie in
// run, block by block, and notes the holds, which are not granted yet.
func (p *Pinner) holdRunLocked(s *slot, run translate.Run, at, last addr.IOVA, access addr.Access) error {
	o := s.owner
	end := last
	if addr.Len(last-at) >= run.Len {
		end = at + addr.IOVA(run.Len-1)
	}
	for {
		c, err := p.cellLocked(o, run, at)
		if err != nil {
			return err
		}
		stop := min(end, at|addr.IOVA(iommu.BlockSize-1))
		from := uint64(at) >> addr.PageShift
		pages := pageSet(from, uint64(stop)>>addr.PageShift)
		own, all := c.Missing(pages)
		if err := p.chargeLocked(o, own, all); err != nil {
			return errs.Addr("iova", uint64(at), err)
		}
		if p.locker != nil {
			if err := p.lockLocked(c.w, from, all); err != nil {
				p.unchargeLocked(o, own, all)
				return errs.Addr("iova", uint64(at), err)
			}
		}
		h := s.hold()
		h.c, h.page, h.pages, h.access = c, from, pages, access
		if stop == end {
			return nil
		}
		run.HVA += addr.HVA(stop + 1 - at)
		run.Len -= addr.Len(stop + 1 - at)
		at = stop + 1
	}
}

// dropHoldsLocked takes back holds that were charged and locked and not
// granted. What Missing says is what it said then: one pin holds no page
// twice.
func (p *Pinner) dropHoldsLocked(s *slot, first int) {
	for i := len(s.holds) - 1; i >= first; i-- {
		h := &s.holds[i]
		own, all := h.c.Missing(h.pages)
		if p.locker != nil {
			p.unlockLocked(h.c.w, h.page, all)
		}
		p.unchargeLocked(s.owner, own, all)
	}
	s.holds = s.holds[:first]
}
