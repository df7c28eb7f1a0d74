package pinning

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// Owner is who holds pages: a device, with its reach and its leases.
type Owner struct {
	p      *Pinner
	name   string
	domain *iommu.Domain
	cancel func(program uint64, r addr.Range[addr.IOVA])

	free   sync.Pool // of *slot
	closed atomic.Bool

	// Guarded by p.mu.
	cells   index
	active  *slot // leases that have pinned, newest first
	charged uint64
}

// NewOwner names a holder of pages, whose leases put them in reach of d. The
// name is what an unmap that waits in vain reports.
//
// cancel, if not nil, is told of each range that a program still holds and
// that is being unmapped: it should make the program end, and its lease with
// it, before the unmap's deadline. It is called for one program after the
// other on a goroutine of its own, with no lock held, and may release leases
// itself; Pinner.Close waits for it, so it must return some time.
func (p *Pinner) NewOwner(name string, d *iommu.Domain, cancel func(program uint64, r addr.Range[addr.IOVA])) *Owner {
	o := &Owner{p: p, name: name, domain: d, cancel: cancel}
	o.cells.init()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		o.closed.Store(true)
		return o
	}
	p.owners = append(p.owners, o)
	return o
}

// Name is the name that NewOwner was given.
func (o *Owner) Name() string { return o.name }

// Charged is the number of bytes that o holds.
func (o *Owner) Charged() addr.Len {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return addr.Len(o.charged) << addr.PageShift
}

// Close releases every lease of o. Its leases begun later hold nothing and
// pin nothing. When it returns no hardware is in a frame that o held.
func (o *Owner) Close() {
	p := o.p
	p.mu.Lock()
	o.closed.Store(true)
	o.cells.init() // a pin that comes now finds no cell, and then that o is closed
	var left []Lease
	for s := o.active; s != nil; s = s.next {
		left = append(left, Lease{s, s.gen})
	}
	p.mu.Unlock()
	for _, l := range left {
		l.Release()
	}
	// A lease that another goroutine is releasing has lost its pages, and
	// its Release waits for hardware as we do.
	o.domain.Quiesce()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropCellsLocked(o)
	p.owners = slices.DeleteFunc(p.owners, func(other *Owner) bool { return other == o })
}

// Begin begins a lease for the program of that number; the number is for the
// ledger and for cancel, and need not be unique. A lease holds nothing, and is
// in no list, until it pins. In the steady state Begin allocates nothing.
func (o *Owner) Begin(program uint64) Lease {
	if o.closed.Load() {
		return Lease{}
	}
	s, _ := o.free.Get().(*slot)
	if s == nil {
		s = &slot{owner: o, gen: 1}
	}
	s.program = program
	if o.p.trace {
		s.trace = s.trace[:cap(s.trace)]
		if len(s.trace) == 0 {
			s.trace = make([]uintptr, 16)
		}
		s.trace = s.trace[:runtime.Callers(2, s.trace)]
	}
	return Lease{s, s.gen}
}

func (o *Owner) listLocked(s *slot) {
	s.listed = true
	s.next = o.active
	if o.active != nil {
		o.active.prev = s
	}
	o.active = s
}

func (o *Owner) unlistLocked(s *slot) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		o.active = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	s.listed = false
}

// reset makes s ready for the next Begin.
func (s *slot) reset() {
	if cap(s.holds) > maxKept {
		s.holds = nil
	} else {
		s.holds = s.holds[:0]
	}
}

// maxKept is how many holds a slot keeps room for between programs: 128 MiB
// in one piece, or 1024 single pages.
const maxKept = 1024
