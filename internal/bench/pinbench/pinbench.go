// Package pinbench has the benchmarks of pinning and of the hardware's memory
// path, for `go test -bench` and for `mdev bench`.
package pinbench

import (
	"fmt"
	"math/rand/v2"
	"sort"
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
		{Name: "pin/1/simple", Run: baseline(1, 1, 1)},
		{Name: "pin/1/lease", Baseline: "pin/1/simple", Run: lease(1, 1, iommu.Contiguous)},
		{Name: "pin/1/lease-scattered", Baseline: "pin/1/simple", Run: lease(1, 1, iommu.Scattered)},
		{Name: "pin/4096-mappings/simple", Run: baseline(4096, 1, 1)},
		{Name: "pin/4096-mappings/lease", Baseline: "pin/4096-mappings/simple", Run: lease(4096, 1, iommu.Contiguous)},
		{Name: "pin/run-512/simple", Run: baseline(1, 512, 1)},
		{Name: "pin/run-512/lease", Baseline: "pin/run-512/simple", Run: lease(1, 512, iommu.Contiguous)},
		{Name: "pin/run-512/lease-scattered", Baseline: "pin/run-512/simple", Run: lease(1, 512, iommu.Scattered)},
		{Name: "pin/list-16/simple", Run: baseline(1, 1, 16)},
		{Name: "pin/list-16/lease", Baseline: "pin/list-16/simple", Run: list(16)},
	}
	for _, n := range []int{8, 4096} {
		name := fmt.Sprintf("iommu/read-%d", n)
		list = append(list,
			bench.Benchmark{Name: name + "/mutex", Run: mutexRead(n)},
			bench.Benchmark{Name: name + "/domain", Baseline: name + "/mutex", Run: domainRead(n)})
	}
	for i := range list {
		list[i].Metric = bench.CPU
	}
	return list
}

// timed measures f, which is for n pages, in batches and in CPU time.
func timed(b *testing.B, n int, f func()) {
	const batch = 256
	bench.Timed(b, batch*n, func() {
		for range batch {
			f()
		}
	})
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
		i := 0
		timed(b, pages, func() {
			pin(at[i])
			if i++; i == n {
				i = 0
			}
		})
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
		timed(b, n, func() {
			l := r.o.Begin(1)
			if _, err := l.PinEach(reqs, pins); err != nil {
				b.Fatal(err)
			}
			l.Release()
		})
	}
}

// simple is the pinner that one would write first: a sorted slice of mappings,
// a count for each page in a map, the device's reach in another, the charge,
// all under a mutex. It has no leases, no ledger and no drain, and does not
// wait for hardware.
type simple struct {
	mu             sync.Mutex
	maps           []mapping
	counts         map[addr.IOVA]int
	reach          map[addr.HPA]addr.Access
	charged, limit int
}

type mapping struct {
	r      addr.Range[addr.IOVA]
	access addr.Access
	hpa    addr.HPA
}

func newSimple(n, pages int) *simple {
	s := &simple{counts: make(map[addr.IOVA]int), reach: make(map[addr.HPA]addr.Access), limit: 1 << 18}
	size := addr.Len(pages) << addr.PageShift
	for i := range n {
		off := uint64(i) * uint64(size) * 2
		s.maps = append(s.maps, mapping{addr.MustRange(base+addr.IOVA(off), size), addr.ReadWrite, addr.HPA(1<<32 + off)})
	}
	return s
}

func (s *simple) pin(iova addr.IOVA, pages int, access addr.Access) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.maps), func(i int) bool { return s.maps[i].r.Last() >= iova })
	last := iova + addr.IOVA(pages)<<addr.PageShift - 1
	if i == len(s.maps) || iova < s.maps[i].r.Start() || last > s.maps[i].r.Last() || !s.maps[i].access.Allows(access) {
		return false
	}
	m := &s.maps[i]
	for range pages {
		if s.counts[iova]++; s.counts[iova] == 1 {
			if s.charged++; s.charged > s.limit {
				return false
			}
		}
		s.reach[m.hpa+addr.HPA(iova-m.r.Start())] |= access
		iova += addr.IOVA(addr.PageSize)
	}
	return true
}

func (s *simple) unpin(iova addr.IOVA, pages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.maps), func(i int) bool { return s.maps[i].r.Last() >= iova })
	m := &s.maps[i]
	for range pages {
		if s.counts[iova]--; s.counts[iova] == 0 {
			delete(s.counts, iova)
			delete(s.reach, m.hpa+addr.HPA(iova-m.r.Start()))
			s.charged--
		}
		iova += addr.IOVA(addr.PageSize)
	}
}

// baseline pins pages pages of one of n mappings by a simple pinner, times
// pieces at a time.
func baseline(n, pages, times int) func(b *testing.B) {
	return func(b *testing.B) {
		s := newSimple(n, max(pages, 17*(times-1)+1))
		at := make([]addr.IOVA, n)
		for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
			at[i] = s.maps[j].r.Start()
		}
		i := 0
		timed(b, pages*times, func() {
			for t := range times {
				if !s.pin(at[i]+addr.IOVA(17*t)<<addr.PageShift, pages, addr.ReadWrite) {
					b.Fatal("refused")
				}
			}
			for t := range times {
				s.unpin(at[i]+addr.IOVA(17*t)<<addr.PageShift, pages)
			}
			if i++; i == n {
				i = 0
			}
		})
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
		i := 0
		timed(b, 1, func() {
			if err := r.d.Read(at[i&511], p); err != nil {
				b.Fatal(err)
			}
			i++
		})
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
		i := 0
		timed(b, 1, func() {
			hpa := at[i&511]
			i++
			mu.RLock()
			f, ok := frames[addr.PageOf(hpa)]
			if !ok {
				b.Fatal("refused")
			}
			copy(p, f[addr.PageOffset(hpa):])
			mu.RUnlock()
		})
	}
}
