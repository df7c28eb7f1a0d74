package pinning

import (
	"iter"
	"sort"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// Pin is a range that a lease holds: where its bytes are for the hardware. It
// is good for as long as the lease; one that is used later names frames that
// the device cannot reach, never those of another program. Copies are cheap.
// Its methods may be called from any goroutine that knows the lease is held.
type Pin struct {
	iova addr.IOVA
	n    addr.Len
	hpa  addr.HPA // of the first byte
	// w has the whole range, or else parts says where it lies.
	w     *window
	parts *[]part
}

// part is a stretch of a pin in one window.
type part struct {
	start addr.IOVA
	w     *window
}

// newPin is the pin of holds, which are those of the range [iova, iova+n). A
// slot's holds are used again when the lease ends, so a Pin must not refer to
// them. A range over several mappings costs an allocation; any other none.
func newPin(iova addr.IOVA, n addr.Len, holds []hold) Pin {
	h := &holds[0]
	p := Pin{
		iova: iova, n: n, w: h.c.w,
		hpa: h.c.HPA(h.page%iommu.BlockPages) + addr.HPA(addr.PageOffset(iova)),
	}
	if last := &holds[len(holds)-1]; last.c.w != p.w {
		var parts []part
		for i := range holds {
			if h := &holds[i]; i == 0 || h.c.w != holds[i-1].c.w {
				parts = append(parts, part{addr.IOVA(h.page << addr.PageShift), h.c.w})
			}
		}
		p.parts = &parts
	}
	return p
}

// IOVA is the first address of the range.
func (p Pin) IOVA() addr.IOVA { return p.iova }

// Len is the length of the range.
func (p Pin) Len() addr.Len { return p.n }

// HPA is the host address of the first byte.
func (p Pin) HPA() addr.HPA { return p.hpa }

// At is the host address of the byte at offset off, which must lie in the
// range. Consecutive bytes of a page are consecutive; pages may be anywhere.
func (p Pin) At(off addr.Len) addr.HPA {
	if off >= p.n {
		panic("pinning: offset beyond the pin")
	}
	if off < addr.PageSize-addr.PageOffset(p.iova) {
		return p.hpa + addr.HPA(off)
	}
	at := p.iova + addr.IOVA(off)
	w := p.w
	if p.parts != nil {
		parts := *p.parts
		i := sort.Search(len(parts), func(i int) bool { return parts[i].start > at })
		w = parts[i-1].w
	}
	return w.hpa(at)
}

// hpa is the host address of a byte of the window.
func (w *window) hpa(at addr.IOVA) addr.HPA {
	page := uint64(at)>>addr.PageShift - w.block0()*iommu.BlockPages
	return w.frames.HPA(page) + addr.HPA(addr.PageOffset(at))
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
		run := Run{HPA: p.hpa}
		for off := addr.Len(0); off < p.n; {
			at := p.At(off)
			n := min(p.n-off, addr.PageSize-addr.Len(addr.PageOffset(at)))
			off += n
			if run.HPA+addr.HPA(run.Len) == at {
				run.Len += n
				continue
			}
			if !yield(run) {
				return
			}
			run = Run{at, n}
		}
		if run.Len != 0 {
			yield(run)
		}
	}
}
