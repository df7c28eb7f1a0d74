package iommu

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Domain is what one device may reach: nothing, until frames are granted to
// it. Hardware calls Read and Write, from any number of goroutines; package
// pinning and the mediators grant and revoke, at the same time.
type Domain struct {
	space *Space // immutable
	name  string // immutable

	// The hardware's path: no lock, nothing allocated.
	table  atomic.Pointer[table]
	access gate // around each copy
	remote gate // around each message to remote memory, which may take long
	_      [64]byte

	special atomic.Pointer[[]*special] // traps and holes, replaced as a whole
	real    sync.Map                   // addr.HPA of a real page -> *realPage
	reals   atomic.Int64               // entries of real

	faults faultLog
	holes  atomic.Uint64 // accesses that ended in a hole

	mu     sync.Mutex
	live   int  // reaches in table; guarded by mu
	filled int  // slots of table that are not empty; guarded by mu
	closed bool // guarded by mu
}

// realPage is where the number of a real frame leads: to the synthetic address
// that its window gave the page, which decides.
type realPage struct {
	synthetic addr.HPA // immutable
	holders   int      // reaches of the domain that hold it; guarded by Domain.mu
}

// NewDomain makes the reach of one device: nothing yet. name is for people.
func (s *Space) NewDomain(name string) *Domain {
	d := &Domain{space: s, name: name}
	d.table.Store(newTable(0))
	d.faults.size = s.cfg.Faults
	return d
}

// Name is the name that NewDomain was given.
func (d *Domain) Name() string { return d.name }

// Close takes everything from the device. When it returns no hardware is in
// any frame, and every later access is refused. What was granted may still be
// revoked, which does nothing more.
func (d *Domain) Close() {
	d.mu.Lock()
	d.closed = true
	d.table.Store(newTable(0))
	d.live, d.filled = 0, 0
	d.real.Clear()
	d.reals.Store(0)
	d.special.Store(nil)
	d.mu.Unlock()
	d.Quiesce()
}

// Idle reports whether no hardware access is under way that began before the
// caller last unlocked a mutex: what it had revoked before that is out of
// reach for good. It is what makes [Domain.Quiesce] needless nearly always,
// and costs two loads. A caller that has unlocked none calls Quiesce.
func (d *Domain) Idle() bool { return d.access.idle() && d.remote.idle() }

// Quiesce returns when every hardware access that began before the call has
// ended. It does not wait for later ones, nor for answers of a trap.
func (d *Domain) Quiesce() {
	d.access.wait()
	d.remote.wait()
}

const (
	reading uint64 = 0
	writing uint64 = 32 // shift to the half of Reach.may
)

// Read copies len(p) bytes at host address hpa to p, as a device that fetches
// from memory. All of them lie in frames that the device may read, or none is
// copied: then the error is errs.Addr("hpa", a, err) for the first byte a at
// fault, with err one of errs.ErrReach (not granted), errs.ErrPermission
// (granted, but not for reading) or errs.ErrFault (the memory behind the frame
// is gone), and the access is logged and counted. With errs.ErrFault, p may be
// written in part.
func (d *Domain) Read(hpa addr.HPA, p []byte) error {
	// The common access, inside a page of memory of this process. Anything
	// else, a failure included, is taken again from the start.
	off := uint64(hpa) & addr.PageMask
	if uint64(len(p)) <= uint64(addr.PageSize)-off {
		in := d.access.enter()
		r, page := d.table.Load().find(uint64(hpa)>>BlockShift, uint64(hpa)>>addr.PageShift&pageInBlock, reading)
		if r != nil && r.remote == nil {
			ok := copyIn(p, r.hva+addr.HVA(page<<addr.PageShift|off), r.guarded)
			d.access.exit(in)
			if ok {
				return nil
			}
			return d.fail(hpa, p, addr.Read, hpa, errs.ErrFault)
		}
		d.access.exit(in)
	}
	return d.slow(hpa, p, addr.Read)
}

// Write copies p to host address hpa, as a device that stores to memory, under
// the rules of [Domain.Read]. With errs.ErrFault, memory may be written in
// part.
func (d *Domain) Write(hpa addr.HPA, p []byte) error {
	off := uint64(hpa) & addr.PageMask
	if uint64(len(p)) <= uint64(addr.PageSize)-off {
		in := d.access.enter()
		r, page := d.table.Load().find(uint64(hpa)>>BlockShift, uint64(hpa)>>addr.PageShift&pageInBlock, writing)
		if r != nil && r.remote == nil {
			ok := copyOut(r.hva+addr.HVA(page<<addr.PageShift|off), p, r.guarded)
			d.access.exit(in)
			if ok {
				return nil
			}
			return d.fail(hpa, p, addr.Write, hpa, errs.ErrFault)
		}
		d.access.exit(in)
	}
	return d.slow(hpa, p, addr.Write)
}

// find is the reach that lets the device do access with the page at hpa, under
// whichever of its two numbers.
func (d *Domain) find(hpa addr.HPA, half uint64) (*Reach, uint64) {
	r, page := d.table.Load().find(uint64(hpa)>>BlockShift, uint64(hpa)>>addr.PageShift&pageInBlock, half)
	if r == nil && d.reals.Load() != 0 {
		if v, ok := d.real.Load(addr.PageOf(hpa)); ok {
			hpa = v.(*realPage).synthetic
			r, page = d.table.Load().find(uint64(hpa)>>BlockShift, uint64(hpa)>>addr.PageShift&pageInBlock, half)
		}
	}
	return r, page
}

// slow is an access that crosses pages, goes to remote memory, a trap or a
// hole, or fails.
func (d *Domain) slow(hpa addr.HPA, p []byte, access addr.Access) error {
	if len(p) == 0 {
		return nil
	}
	r, ok := addr.RangeOf(hpa, addr.Len(len(p)))
	if !ok {
		return d.fail(hpa, p, access, hpa, errs.ErrReach)
	}
	if s := d.specialIn(r); s != nil {
		return s.access(d, r, p, access)
	}
	half := reading
	if access == addr.Write {
		half = writing
	}
	in := d.access.enter()
	bad, err, remote := d.check(r, half)
	if err == nil && !remote {
		bad, err = d.copyPages(r, p, half)
	}
	if err != nil || !remote {
		d.access.exit(in)
		if err != nil {
			return d.fail(hpa, p, access, bad, err)
		}
		return nil
	}
	// Messages take long: those who revoke other frames do not wait.
	far := d.remote.enter()
	d.access.exit(in)
	bad, err = d.copyPages(r, p, half)
	d.remote.exit(far)
	if err != nil {
		return d.fail(hpa, p, access, bad, err)
	}
	return nil
}

// check looks at every page of r before a byte is moved.
func (d *Domain) check(r addr.Range[addr.HPA], half uint64) (bad addr.HPA, err error, remote bool) {
	for at := r.Start(); ; {
		reach, _ := d.find(at, half)
		if reach == nil {
			err = errs.ErrReach
			if other, _ := d.find(at, half^writing); other != nil {
				err = errs.ErrPermission
			}
			return at, err, false
		}
		remote = remote || reach.remote != nil
		last := addr.HPA(uint64(at) | addr.PageMask)
		if last >= r.Last() {
			return 0, nil, remote
		}
		at = last + 1
	}
}

// copyPages moves the bytes of r page by page. Every page was checked; a page
// that was revoked since, while messages were under way, ends it.
func (d *Domain) copyPages(r addr.Range[addr.HPA], p []byte, half uint64) (bad addr.HPA, err error) {
	for at := r.Start(); len(p) > 0; {
		reach, page := d.find(at, half)
		if reach == nil {
			return at, errs.ErrReach
		}
		off := uint64(at) & addr.PageMask
		part := p[:min(len(p), int(uint64(addr.PageSize)-off))]
		if !reach.move(page, off, part, half == writing) {
			return at, errs.ErrFault
		}
		p = p[len(part):]
		at += addr.HPA(len(part))
	}
	return 0, nil
}

func (r *Reach) move(page, off uint64, p []byte, write bool) bool {
	switch {
	case r.remote != nil:
		at := int64(r.index<<BlockShift | page<<addr.PageShift | off)
		move := r.remote.ReadAt
		if write {
			move = r.remote.WriteAt
		}
		n, _ := move(p, at)
		return n == len(p) // io.ReaderAt may return io.EOF with all the bytes
	case write:
		return copyOut(r.hva+addr.HVA(page<<addr.PageShift|off), p, r.guarded)
	default:
		return copyIn(p, r.hva+addr.HVA(page<<addr.PageShift|off), r.guarded)
	}
}

// addReal makes pages of r known by the numbers of their real frames.
func (d *Domain) addReal(r *Reach, pages uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	for ; pages != 0; pages &= pages - 1 {
		page := uint64(bits.TrailingZeros32(pages))
		hpa := r.block.realAt(page)
		if hpa == 0 {
			continue
		}
		if v, ok := d.real.Load(hpa); ok {
			v.(*realPage).holders++
			continue
		}
		d.real.Store(hpa, &realPage{r.synthetic(page), 1})
		d.reals.Add(1)
	}
}

// removeReal forgets pages that r does not hold any more, if no other reach
// of the domain does.
func (d *Domain) removeReal(r *Reach, pages uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; pages != 0; pages &= pages - 1 {
		hpa := r.block.realAt(uint64(bits.TrailingZeros32(pages)))
		v, ok := d.real.Load(hpa)
		if !ok {
			continue
		}
		if v.(*realPage).holders--; v.(*realPage).holders == 0 {
			d.real.Delete(hpa)
			d.reals.Add(-1)
		}
	}
}
