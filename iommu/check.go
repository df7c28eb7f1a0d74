package iommu

import (
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Check looks whether the device may do want with all n bytes at hpa, without
// touching one and without a trace in the fault log; want 0 asks only whether
// something is there. The error is that of [Domain.Read] for the first byte at
// fault. The answer may be out of date when it comes: an access decides for
// itself.
func (d *Domain) Check(hpa addr.HPA, n addr.Len, want addr.Access) error {
	if n == 0 {
		return nil
	}
	r, ok := addr.RangeOf(hpa, n)
	if !ok {
		return errs.Addr("hpa", uint64(hpa), errs.ErrReach)
	}
	for at := r.Start(); ; {
		last := addr.HPA(uint64(at) | addr.PageMask)
		page, _ := addr.RangeLast(at, min(last, r.Last()))
		if s := d.specialIn(page); s != nil {
			switch {
			case s.read == nil:
				return errs.Addr("hpa", uint64(max(at, s.r.Start())), s.err)
			case want.Allows(addr.Write):
				return errs.Addr("hpa", uint64(at), errs.ErrPermission)
			}
		} else if err := d.may(at, want); err != nil {
			return errs.Addr("hpa", uint64(at), err)
		}
		if last >= r.Last() {
			return nil
		}
		at = last + 1
	}
}

// may is Check for one page of frames.
func (d *Domain) may(at addr.HPA, want addr.Access) error {
	in := d.access.enter()
	defer d.access.exit(in)
	r, _ := d.find(at, reading)
	w, _ := d.find(at, writing)
	switch {
	case r == nil && w == nil:
		return errs.ErrReach
	case want.Allows(addr.Read) && r == nil, want.Allows(addr.Write) && w == nil:
		return errs.ErrPermission
	}
	return nil
}
