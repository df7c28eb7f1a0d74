package iommu

import "github.com/softmdev/softmdev/translate/addr"

// Hole makes r a part of the device's space where there is nothing: every
// access to it, read or write, in whole or in part, fails with
// errs.Addr("hpa", a, err). It is the mediator's way to let hardware itself
// find that a guest address has no translation (errs.ErrNotMapped), refuses
// the access (errs.ErrPermission) or is gone (errs.ErrFault), when execution
// reaches it. Because the mediator put it there, such an access is no escape:
// it is counted by HoleCount and neither logged nor counted as a fault. r must
// not overlap frames; remove takes the hole away.
//
// (Owner of iommu: please implement with the trap mechanism; package ccw
// depends on it.)
func (d *Domain) Hole(r addr.Range[addr.HPA], err error) (remove func()) { return func() {} }
