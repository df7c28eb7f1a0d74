package iommu

import "github.com/softmdev/softmdev/translate/addr"

// Reserved is host address space in which there is no memory. A trap or a
// hole can be made there that no frame overlaps.
type Reserved struct {
	addr.Range[addr.HPA]
	space *Space
}

// Reserve takes n bytes of host address space, rounded up to whole pages, with
// the bounds and the errors of [Space.Alloc]. It costs no memory.
func (s *Space) Reserve(n addr.Len, below addr.HPA) (*Reserved, error) {
	at, size, err := s.takeOwn(n, below)
	if err != nil {
		return nil, err
	}
	return &Reserved{addr.MustRange(at, size), s}, nil
}

// Free gives the addresses back. The caller has removed what it made there. A
// second Free does nothing.
func (r *Reserved) Free() {
	if r.space != nil {
		r.space.giveBack(r.Start())
		r.space = nil
	}
}
