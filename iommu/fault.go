package iommu

import (
	"fmt"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Fault is one access that was refused.
type Fault struct {
	Seq    uint64 // counts the faults of the domain from 1
	Domain string
	HPA    addr.HPA // first byte of the access
	Len    addr.Len
	Access addr.Access // addr.Read or addr.Write
	// Err is what the hardware got: errs.Addr("hpa", a, err) for the first
	// byte a that was refused.
	Err error
}

func (f Fault) String() string {
	return fmt.Sprintf("%s: fault %d: %s of %d bytes at %#x: %v", f.Domain, f.Seq, f.Access, uint64(f.Len), uint64(f.HPA), f.Err)
}

// faultLog keeps the last faults, and counts all.
type faultLog struct {
	size int // immutable

	mu    sync.Mutex
	count uint64  // guarded by mu
	ring  []Fault // fault n at (n-1) % size; guarded by mu
}

// fail logs and counts a refused access, and makes its error.
func (d *Domain) fail(hpa addr.HPA, p []byte, access addr.Access, bad addr.HPA, err error) error {
	err = errs.Addr("hpa", uint64(bad), err)
	l := &d.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Fault{Seq: l.count + 1, Domain: d.name, HPA: hpa, Len: addr.Len(len(p)), Access: access, Err: err}
	if len(l.ring) < l.size {
		l.ring = append(l.ring, f)
	} else {
		l.ring[l.count%uint64(l.size)] = f
	}
	l.count++
	return err
}

// Faults are the last refused accesses, oldest first, as many as
// Config.Faults.
func (d *Domain) Faults() []Fault {
	l := &d.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Fault, 0, len(l.ring))
	for i := range l.ring {
		list = append(list, l.ring[(l.count+uint64(i))%uint64(len(l.ring))])
	}
	return list
}

// FaultCount is the number of accesses refused so far.
func (d *Domain) FaultCount() uint64 {
	l := &d.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}
