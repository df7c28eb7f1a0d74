package iommu

import (
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Reserve takes n bytes of host address space (rounded up to whole pages,
// wholly below the given address as for Alloc) in which there is no memory:
// for a trap or a hole, which then no frame can overlap. Mem of the result is
// nil; Free gives the addresses back.
//
// (Owner of iommu: please implement; package ccw uses Reserve + Trap and
// Reserve + Hole with Frames.Range.)
func (s *Space) Reserve(n addr.Len, below addr.HPA) (*Frames, error) {
	return nil, errs.ErrNotSupported
}

// Range is the addresses of f.
func (f *Frames) Range() addr.Range[addr.HPA] { return addr.Range[addr.HPA]{} }
