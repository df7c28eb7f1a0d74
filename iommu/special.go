package iommu

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// special is a range of the device's space that is no memory: reads of it are
// answered (a trap), or every access to it fails in a foreseen way (a hole).
type special struct {
	r    addr.Range[addr.HPA]
	read func(hpa addr.HPA, p []byte) error // of a trap
	err  error                              // of a hole
}

// Trap makes a range of the device's space where reads are answered by read,
// as a page request answers them: a channel program that must be translated
// while it executes is fetched through one. An error of read is what the
// hardware gets, and is not logged: the owner knows it. Writes, and accesses
// that leave r, are refused.
//
// read runs on the hardware's goroutine with no lock held; it may pin, release
// and grant. r must not overlap granted frames, which would win. remove takes
// the trap away; it does not wait for an answer under way.
func (d *Domain) Trap(r addr.Range[addr.HPA], read func(hpa addr.HPA, p []byte) error) (remove func()) {
	return d.addSpecial(&special{r: r, read: read})
}

// Hole makes r a part of the device's space where there is nothing: every
// access to it, read or write, in whole or in part, fails with
// errs.Addr("hpa", a, err). It is the mediator's way to let hardware itself
// find that a guest address has no translation (errs.ErrNotMapped), refuses
// the access (errs.ErrPermission) or is gone (errs.ErrFault), when execution
// reaches it. Because the mediator put it there, such an access is no escape:
// it is counted by HoleCount and neither logged nor counted as a fault. r must
// not overlap granted frames, which would win; remove takes the hole away.
func (d *Domain) Hole(r addr.Range[addr.HPA], err error) (remove func()) {
	return d.addSpecial(&special{r: r, err: err})
}

// HoleCount is the number of accesses that ended in a hole.
func (d *Domain) HoleCount() uint64 { return d.holes.Load() }

func (d *Domain) addSpecial(s *special) (remove func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return func() {}
	}
	var list []*special
	if old := d.special.Load(); old != nil {
		list = append(list, *old...)
	}
	list = append(list, s)
	d.special.Store(&list)
	return func() { d.removeSpecial(s) }
}

func (d *Domain) removeSpecial(s *special) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.special.Load()
	if old == nil {
		return
	}
	var list []*special
	for _, o := range *old {
		if o != s {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		d.special.Store(nil)
	} else {
		d.special.Store(&list)
	}
}

// specialIn is the special range that r touches first, nil if none.
func (d *Domain) specialIn(r addr.Range[addr.HPA]) (first *special) {
	list := d.special.Load()
	if list == nil {
		return nil
	}
	for _, s := range *list {
		if s.r.Overlaps(r) && (first == nil || s.r.Start() < first.r.Start()) {
			first = s
		}
	}
	return first
}

func (s *special) access(d *Domain, r addr.Range[addr.HPA], p []byte, access addr.Access) error {
	bad := max(s.r.Start(), r.Start())
	switch {
	case s.read == nil:
		d.holes.Add(1)
		return errs.Addr("hpa", uint64(bad), s.err)
	case access == addr.Write:
		return d.fail(r.Start(), p, access, bad, fmt.Errorf("write to a trap: %w", errs.ErrPermission))
	case !s.r.Covers(r):
		return d.fail(r.Start(), p, access, bad, fmt.Errorf("read across the edge of a trap: %w", errs.ErrReach))
	}
	return s.read(r.Start(), p)
}
