package pinning

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// Holding is a line of the ledger: a range of pages that a program holds with
// one access.
type Holding struct {
	Owner   string
	Program uint64
	Range   addr.Range[addr.IOVA] // whole pages
	Access  addr.Access
	HPA     addr.HPA // of the first byte of Range
}

// String prints the line: "dasd0 program 7 holds [0x1000, 0x1fff] rw".
func (h Holding) String() string {
	return fmt.Sprintf("%s program %d holds %s %s", h.Owner, h.Program, h.Range, h.Access)
}

// LeaseInfo describes a lease that was not released.
type LeaseInfo struct {
	Owner    string
	Program  uint64
	Holdings []Holding
	// Began is the call stack of its Begin, if Config.Trace is set.
	Began string
}

// Who lists who holds the page at iova, by owner and program.
func (p *Pinner) Who(iova addr.IOVA) []Holding {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, _ := addr.RangeOf(iova, 1)
	return p.holdingsInLocked(rangeSet{r})
}

// Holdings lists all that is held, by owner, program and address. The ledger
// costs the pinning path nothing but a linked list: lines are made here.
func (p *Pinner) Holdings() []Holding {
	return p.HoldingsIn(addr.Whole[addr.IOVA]())
}

// HoldingsIn lists who holds pages of r, by owner, program and address.
func (p *Pinner) HoldingsIn(r addr.Range[addr.IOVA]) []Holding {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holdingsInLocked(rangeSet{r})
}

// Leases lists the leases that have pinned and were not released, by owner and
// program.
func (p *Pinner) Leases() []LeaseInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []LeaseInfo
	for _, o := range p.owners {
		for s := o.active; s != nil; s = s.next {
			list = append(list, LeaseInfo{o.name, s.program, s.holdings(), stack(s.trace)})
		}
	}
	slices.SortStableFunc(list, func(a, b LeaseInfo) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Program, b.Program))
	})
	return list
}

// Forecast is how many bytes a program that pins reqs would add to
// [Pinner.Charged] if it did so now: its pages, each once, but for those held
// already. Empty and wrapping requests, which cannot be pinned, add nothing.
func (p *Pinner) Forecast(reqs []Request) addr.Len {
	rs := make([]addr.Range[addr.IOVA], 0, len(reqs))
	for _, q := range reqs {
		if r, ok := addr.RangeOf(q.IOVA, q.Len); ok {
			rs = append(rs, r.Pages())
		}
	}
	rs = union(rs)
	p.mu.Lock()
	defer p.mu.Unlock()
	var pages uint64 // at most 2^52
	for _, r := range rs {
		pages += uint64(r.Last()-r.Start())>>addr.PageShift + 1
		p.windowsIn(r, func(w *window) bool {
			pages -= w.heldIn(r)
			return true
		})
	}
	if pages >= 1<<(64-addr.PageShift) {
		return ^addr.Len(0)
	}
	return addr.Len(pages) << addr.PageShift
}

// union is rs, sorted, with those that overlap or touch merged.
func union(rs []addr.Range[addr.IOVA]) []addr.Range[addr.IOVA] {
	slices.SortFunc(rs, func(a, b addr.Range[addr.IOVA]) int { return cmp.Compare(a.Start(), b.Start()) })
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && (out[n-1].Last() >= r.Start() || out[n-1].Last()+1 == r.Start()) {
			out[n-1], _ = addr.RangeLast(out[n-1].Start(), max(out[n-1].Last(), r.Last()))
			continue
		}
		out = append(out, r)
	}
	return out
}

// heldIn is the number of pages of r that are held in w.
func (w *window) heldIn(r addr.Range[addr.IOVA]) (n uint64) {
	i, ok := w.r.Intersect(r)
	if !ok {
		return 0
	}
	for b := uint64(i.Start()) >> iommu.BlockShift; b <= uint64(i.Last())>>iommu.BlockShift; b++ {
		held := w.frames.Held(b - w.block0())
		if held == 0 {
			continue
		}
		from, to := uint64(0), uint64(iommu.BlockPages)
		if b == uint64(i.Start())>>iommu.BlockShift {
			from = uint64(i.Start()) >> addr.PageShift % iommu.BlockPages
		}
		if b == uint64(i.Last())>>iommu.BlockShift {
			to = uint64(i.Last())>>addr.PageShift%iommu.BlockPages + 1
		}
		n += uint64(iommu.Count(held & iommu.Pages(from, to)))
	}
	return n
}

// rng is the pages of h.
func (h *hold) rng() addr.Range[addr.IOVA] {
	r, _ := addr.RangeLast(addr.IOVA(h.page<<addr.PageShift), addr.IOVA((h.page+h.n())<<addr.PageShift-1))
	return r
}

// eachHoldLocked calls f for every hold, until f says false.
func (p *Pinner) eachHoldLocked(f func(s *slot, h *hold) bool) {
	for _, o := range p.owners {
		for s := o.active; s != nil; s = s.next {
			for i := range s.holds {
				if !f(s, &s.holds[i]) {
					return
				}
			}
		}
	}
}

// heldInLocked reports whether a lease holds a page of set. It asks the windows
// there and not the leases: most unmaps are of what nobody holds, however much
// is held elsewhere.
func (p *Pinner) heldInLocked(set rangeSet) (yes bool) {
	if p.windows.Len() == 0 {
		return false
	}
	for _, r := range set {
		p.windowsIn(r, func(w *window) bool {
			yes = w.heldIn(r) != 0
			return !yes
		})
		if yes {
			break
		}
	}
	return yes
}

// holdings are the lines of s: the holds of consecutive blocks are one.
func (s *slot) holdings() []Holding {
	var list []Holding
	for i := range s.holds {
		h := &s.holds[i]
		r := h.rng()
		if n := len(list) - 1; n >= 0 && list[n].Access == h.access &&
			list[n].Range.Last()+1 == r.Start() && s.holds[i-1].c.w == h.c.w {
			list[n].Range, _ = addr.RangeLast(list[n].Range.Start(), r.Last())
			continue
		}
		list = append(list, Holding{s.owner.name, s.program, r, h.access, h.c.HPA(h.page % iommu.BlockPages)})
	}
	return list
}

func (p *Pinner) holdingsOfLocked(o *Owner) (list []Holding) {
	for s := o.active; s != nil; s = s.next {
		list = append(list, s.holdings()...)
	}
	return list
}

// holdingsInLocked are the holdings that touch set, sorted.
func (p *Pinner) holdingsInLocked(set rangeSet) []Holding {
	var list []Holding
	for _, o := range p.owners {
		for _, h := range p.holdingsOfLocked(o) {
			if set.overlaps(h.Range) {
				list = append(list, h)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Program, b.Program),
			cmp.Compare(a.Range.Start(), b.Range.Start()))
	})
	return list
}

// stack prints a call stack, innermost first.
func stack(pcs []uintptr) string {
	if len(pcs) == 0 {
		return ""
	}
	var b strings.Builder
	for frames := runtime.CallersFrames(pcs); ; {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		if !more {
			return b.String()
		}
	}
}
