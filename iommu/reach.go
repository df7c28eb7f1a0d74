package iommu

import (
	"math/bits"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Reach is what one holder lets one device do with one block of a window:
// counts of grants for each page and access, and for the hardware one word
// that says which pages it may read (low half) and write (high half).
//
// All methods but those of the hardware are called under the lock that
// serialises the window. Two holders of one domain have a Reach each; the
// device may do what either allows.
type Reach struct {
	// What the hardware reads; all but may immutable.
	place   uint64        // number of the block in the host's address space
	may     atomic.Uint64 // what the device may do now
	hva     addr.HVA      // of page 0
	remote  Remote        // in place of hva
	order   order
	guarded bool

	// What the holder reads.
	block  *block
	count  tally // of grants: reading in the low half, writing in the high
	domain *Domain
	window *Window // keeps memory of our own alive for the hardware
	index  uint64  // of the block in its window
}

// NewReach makes a reach of the device on block i of w that allows nothing
// yet. It fails with errs.ErrGone when d is closed. The holder removes it with
// [Reach.Remove] before the window is closed.
func (d *Domain) NewReach(w *Window, i uint64) (*Reach, error) {
	r := new(Reach)
	return r, d.InitReach(r, w, i)
}

// InitReach is [Domain.NewReach] in memory of the caller's, which must be
// zero and must not move.
func (d *Domain) InitReach(r *Reach, w *Window, i uint64) error {
	r.place = w.place(i)
	r.hva = w.hva + addr.HVA(i<<BlockShift)
	r.remote, r.order, r.guarded = w.remote, w.order, w.guarded
	r.block, r.domain, r.window, r.index = w.block(i), d, w, i
	if !d.insert(r) {
		return errs.ErrGone
	}
	return nil
}

// Remove takes r, which grants nothing any more, out of its domain.
func (r *Reach) Remove() {
	if r.may.Load() != 0 {
		panic("iommu: a reach is removed while it grants pages")
	}
	r.domain.remove(r)
}

// both spreads a set of pages over the halves that access names.
func both(pages uint32, access addr.Access) uint64 {
	// Read is bit 0 and Write bit 1: no branch, for a branch on the
	// access of each pin is one that the processor guesses wrong.
	return uint64(pages) * (uint64(access&addr.Read) | uint64(access&addr.Write)<<31)
}

// pagesIn is the set of pages in either half.
func pagesIn(may uint64) uint32 { return uint32(may | may>>32) }

// Missing is the set of those pages that this holder does not hold yet, and of
// those that nobody holds: what a [Reach.Grant] would add.
func (r *Reach) Missing(pages uint32) (own, all uint32) {
	return pages &^ pagesIn(r.count.held()), pages &^ r.block.held()
}

// Grant lets the device do access with pages, once more for each page. It
// returns which of them this holder did not hold before, and which nobody
// held.
func (r *Reach) Grant(pages uint32, access addr.Access) (own, all uint32) {
	m := both(pages, access)
	was := r.count.held()
	r.count.add(m)
	if is := was | m; is != was {
		if r.block.real.Load() != nil {
			r.domain.addReal(r, pagesIn(is)&^pagesIn(was))
		}
		release(&r.may, is)
		if own = pages &^ pagesIn(was); own != 0 {
			all = own &^ r.block.held()
			r.block.count.add(uint64(own))
		}
	}
	return own, all
}

// Revoke undoes one Grant of the same pages and access. It returns the pages
// that this holder does not hold any more, and which nobody does. New accesses
// to what is gone are refused from now on; one that began before may still be
// under way until [Domain.Quiesce] returns, or [Domain.Idle] says otherwise.
func (r *Reach) Revoke(pages uint32, access addr.Access) (own, all uint32) {
	was := r.count.held()
	r.count.sub(both(pages, access))
	if is := r.count.held(); is != was {
		release(&r.may, is)
		if r.block.real.Load() != nil {
			r.domain.removeReal(r, pagesIn(was)&^pagesIn(is))
		}
		if own = pages &^ pagesIn(is); own != 0 {
			r.block.count.sub(uint64(own))
			all = own &^ r.block.held()
		}
	}
	return own, all
}

// HPA is the host address of a page (below 32) of the block. It may be called
// from any goroutine.
func (r *Reach) HPA(page uint64) addr.HPA {
	if hpa := r.block.realAt(page); hpa != 0 {
		return hpa
	}
	return r.synthetic(page)
}

func (r *Reach) synthetic(page uint64) addr.HPA {
	return addr.HPA(r.place<<BlockShift | r.order.frame(page)<<addr.PageShift)
}

// Count is the number of pages in a set.
func Count(pages uint32) int { return bits.OnesCount32(pages) }
