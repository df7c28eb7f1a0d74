package pinning

import (
	"iter"
	"sort"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// Pin is a range that a lease holds: where its bytes are for the hardware. It
// is good for as long as the lease; after that it names nothing that the
// device may reach. Copies are cheap. Its methods may be called from any
// goroutine that knows the lease is held.
type Pin struct {
	iova  addr.IOVA
	n     addr.Len
	holds []hold
}

// IOVA is the first address of the range.
func (p Pin) IOVA() addr.IOVA { return p.iova }

// Len is the length of the range.
func (p Pin) Len() addr.Len { return p.n }

// HPA is the host address of the first byte.
func (p Pin) HPA() addr.HPA {
	h := &p.holds[0]
	return h.c.HPA(h.page%iommu.BlockPages) + addr.HPA(addr.PageOffset(p.iova))
}

// At is the host address of the byte at offset off, which must lie in the
// range. Consecutive bytes of a page are consecutive; pages may be anywhere.
func (p Pin) At(off addr.Len) addr.HPA {
	if off >= p.n {
		panic("pinning: offset beyond the pin")
	}
	at := p.iova + addr.IOVA(off)
	page := uint64(at) >> addr.PageShift
	h := &p.holds[0]
	if page >= h.page+uint64(h.n) {
		i := sort.Search(len(p.holds), func(i int) bool { return p.holds[i].page > page })
		h = &p.holds[i-1]
	}
	return h.c.HPA(page%iommu.BlockPages) + addr.HPA(addr.PageOffset(at))
}

// Run is a stretch of consecutive host addresses.
type Run struct {
	HPA addr.HPA
	Len addr.Len
}

// Runs yields the range as stretches of consecutive host addresses, in order,
// each as long as it can be.
func (p Pin) Runs() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		var run Run
		left, skip := p.n, addr.PageOffset(p.iova)
		for i := range p.holds {
			h := &p.holds[i]
			for page := h.page; page < h.page+uint64(h.n); page++ {
				at := h.c.HPA(page%iommu.BlockPages) + addr.HPA(skip)
				n := min(left, addr.PageSize-skip)
				left, skip = left-n, 0
				if run.Len != 0 && run.HPA+addr.HPA(run.Len) == at {
					run.Len += n
					continue
				}
				if run.Len != 0 && !yield(run) {
					return
				}
				run = Run{at, n}
			}
		}
		if run.Len != 0 {
			yield(run)
		}
	}
}
