// Package pinbench has the benchmarks of pinning and of the hardware's memory
// path, for `go test -bench` and for `mdev bench`.
package pinbench

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Benchmarks lists the package's benchmarks.
func Benchmarks() []bench.Benchmark {
	list := []bench.Benchmark{
		{Name: "pin/1/map", Run: baseline(1, 1, 1)},
		{Name: "pin/1/lease", Baseline: "pin/1/map", Run: lease(1, 1, iommu.Contiguous)},
		{Name: "pin/1/lease-scattered", Baseline: "pin/1/map", Run: lease(1, 1, iommu.Scattered)},
		{Name: "pin/4096-mappings/map", Run: baseline(4096, 1, 1)},
		{Name: "pin/4096-mappings/lease", Baseline: "pin/4096-mappings/map", Run: lease(4096, 1, iommu.Contiguous)},
		{Name: "pin/run-512/map", Per: 512, Run: baseline(1, 512, 1)},
		{Name: "pin/run-512/lease", Per: 512, Baseline: "pin/run-512/map", Run: lease(1, 512, iommu.Contiguous)},
		{Name: "pin/run-512/lease-scattered", Per: 512, Baseline: "pin/run-512/map", Run: lease(1, 512, iommu.Scattered)},
		{Name: "pin/list-16/map", Per: 16, Run: baseline(1, 1, 16)},
		{Name: "pin/list-16/lease", Per: 16, Baseline: "pin/list-16/map", Run: list(16)},
	}
	for _, n := range []int{8, 4096} {
		name := fmt.Sprintf("iommu/read-%d", n)
		list = append(list,
			bench.Benchmark{Name: name + "/mutex", Run: mutexRead(n)},
			bench.Benchmark{Name: name + "/domain", Baseline: name + "/mutex", Run: domainRead(n)})
	}
	return list
}

const base = addr.IOVA(1 << 30)

// rig is a guest of n mappings, of pages pages each, and a device.
type rig struct {
	store *translate.Store
	p     *pinning.Pinner
	d     *iommu.Domain
	o     *pinning.Owner
}

func newRig(b *testing.B, n, pages int, layout iommu.Layout) *rig {
	st, err := translate.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	size := addr.Len(pages) << addr.PageShift
	mem := make([]byte, size)
	for i := range n {
		// One piece of memory behind all: what is measured is the books.
		if err := st.Map(base+addr.IOVA(i)*addr.IOVA(size)*2, size, translate.Bytes(mem), addr.ReadWrite); err != nil {
			b.Fatal(err)
		}
	}
	space := iommu.NewSpace(&iommu.Config{Layout: layout, Seed: 1})
	p, err := pinning.New(st, space, &pinning.Config{Limit: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	r := &rig{store: st, p: p, d: space.NewDomain("bench")}
	r.o = p.NewOwner("bench", r.d, nil)
	return r
}

func (r *rig) close(b *testing.B) {
	if r.p.Charged() != 0 || r.d.FaultCount() != 0 {
		b.Error("the benchmark left pins or faults behind")
	}
	_ = r.p.Close()
	_ = r.store.Close()
}

// order is a random order in which to visit n mappings.
func order(n int, step addr.IOVA) []addr.IOVA {
	list := make([]addr.IOVA, n)
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		list[i] = base + addr.IOVA(j)*step
	}
	return list
}

// lease is Begin, Pin and Release of pages pages in one of n mappings.
func lease(n, pages int, layout iommu.Layout) func(b *testing.B) {
	return func(b *testing.B) {
		r := newRig(b, n, pages, layout)
		defer r.close(b)
		size := addr.Len(pages) << addr.PageShift
		at := order(n, 2*addr.IOVA(size))
		pin := func(iova addr.IOVA) {
			l := r.o.Begin(1)
			if _, err := l.Pin(iova, size, addr.ReadWrite); err != nil {
				b.Fatal(err)
			}
			l.Release()
		}
		for _, iova := range at {
			pin(iova)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if i == n {
				i = 0
			}
			pin(at[i])
		}
	}
}

// list is one lease on n single pages, as an indirect data address list names
// them.
func list(n int) func(b *testing.B) {
	return func(b *testing.B) {
		r := newRig(b, 1, 512, iommu.Contiguous)
		defer r.close(b)
		reqs, pins := make([]pinning.Request, n), make([]pinning.Pin, n)
		for i := range reqs {
			reqs[i] = pinning.Request{IOVA: base + addr.IOVA(i*17%512)<<addr.PageShift, Len: addr.PageSize, Access: addr.Write}
		}
		b.ReportAllocs()
		for b.Loop() {
			l := r.o.Begin(1)
			if _, err := l.PinEach(reqs, pins); err != nil {
				b.Fatal(err)
			}
			l.Release()
		}
	}
}

// baseline is what one would write first: a count for each page in a map, and
// the charge, under a mutex. It knows no mapping, no access, no reach and no
// owner.
func baseline(n, pages, times int) func(b *testing.B) {
	return func(b *testing.B) {
		var mu sync.Mutex
		counts := make(map[addr.IOVA]int)
		charged, limit := 0, 1<<18
		at := order(n, addr.IOVA(pages)*2<<addr.PageShift)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i == n {
				i = 0
			}
			for t := range times {
				mu.Lock()
				for j := range pages {
					iova := at[i] + addr.IOVA(j+17*t)<<addr.PageShift
					if counts[iova]++; counts[iova] == 1 {
						if charged++; charged > limit {
							b.Fatal("limit")
						}
					}
				}
				mu.Unlock()
			}
			for t := range times {
				mu.Lock()
				for j := range pages {
					iova := at[i] + addr.IOVA(j+17*t)<<addr.PageShift
					if counts[iova]--; counts[iova] == 0 {
						delete(counts, iova)
						charged--
					}
				}
				mu.Unlock()
			}
		}
	}
}

// domainRead is the hardware's read of n bytes of a pinned page.
func domainRead(n int) func(b *testing.B) {
	return func(b *testing.B) {
		r := newRig(b, 1, 512, iommu.Contiguous)
		defer r.close(b)
		l := r.o.Begin(1)
		defer l.Release()
		pin, err := l.Pin(base, 512<<addr.PageShift, addr.Read)
		if err != nil {
			b.Fatal(err)
		}
		p := make([]byte, n)
		at := make([]addr.HPA, 512)
		for i := range at {
			at[i] = pin.At(addr.Len(i*17%512) << addr.PageShift)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if err := r.d.Read(at[i&511], p); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// mutexRead is the same with the page in a map under a read lock.
func mutexRead(n int) func(b *testing.B) {
	return func(b *testing.B) {
		var mu sync.RWMutex
		mem := make([]byte, 512<<addr.PageShift)
		frames := make(map[addr.HPA][]byte)
		at := make([]addr.HPA, 512)
		for i := range 512 {
			hpa := addr.HPA(1<<32) + addr.HPA(i)<<addr.PageShift
			frames[hpa] = mem[i<<addr.PageShift : (i+1)<<addr.PageShift]
			at[i*17%512] = hpa
		}
		p := make([]byte, n)
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			hpa := at[i&511]
			mu.RLock()
			f, ok := frames[addr.PageOf(hpa)]
			if !ok {
				b.Fatal("refused")
			}
			copy(p, f[addr.PageOffset(hpa):])
			mu.RUnlock()
		}
	}
}
