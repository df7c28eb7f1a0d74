package mdev

import (
	"slices"
	"sort"
	"sync"

	"github.com/softmdev/softmdev/translate/addr"
)

// maxDirtyRanges bounds a dirtySet: 64 KiB.
const maxDirtyRanges = 4096

// dirtySet is a set of addresses that were written. Its size is bounded: where
// it would grow further, neighbours are joined with what lies between them,
// which reports too much and never too little.
type dirtySet struct {
	mu sync.Mutex              // leaf
	rs []addr.Range[addr.IOVA] // guarded by mu; ascending, with gaps between
}

// add is called with the store's locks held.
func (d *dirtySet) add(r addr.Range[addr.IOVA]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// [from, to) overlap r or touch it.
	from := sort.Search(len(d.rs), func(i int) bool {
		return d.rs[i].Last() >= r.Start() || d.rs[i].Last()+1 == r.Start()
	})
	to := from
	for to < len(d.rs) && (d.rs[to].Start() <= r.Last() || d.rs[to].Start()-1 == r.Last()) {
		to++
	}
	if from != to {
		r, _ = addr.RangeLast(min(r.Start(), d.rs[from].Start()), max(r.Last(), d.rs[to-1].Last()))
	}
	d.rs = slices.Replace(d.rs, from, to, r)
	if len(d.rs) > maxDirtyRanges {
		d.halve()
	}
}

// halve joins each two neighbours.
func (d *dirtySet) halve() {
	n := 0
	for i := 0; i < len(d.rs); i += 2 {
		d.rs[n], _ = addr.RangeLast(d.rs[i].Start(), d.rs[min(i+1, len(d.rs)-1)].Last())
		n++
	}
	d.rs = d.rs[:n]
}

// take calls f with what of r is in the set, and removes it.
func (d *dirtySet) take(r addr.Range[addr.IOVA], f func(addr.Range[addr.IOVA])) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := sort.Search(len(d.rs), func(i int) bool { return d.rs[i].Last() >= r.Start() })
	to := from
	var rest []addr.Range[addr.IOVA]
	for ; to < len(d.rs) && d.rs[to].Start() <= r.Last(); to++ {
		x := d.rs[to]
		part, _ := x.Intersect(r)
		f(part)
		if x.Start() < part.Start() {
			left, _ := addr.RangeLast(x.Start(), part.Start()-1)
			rest = append(rest, left)
		}
		if part.Last() < x.Last() {
			right, _ := addr.RangeLast(part.Last()+1, x.Last())
			rest = append(rest, right)
		}
	}
	d.rs = slices.Replace(d.rs, from, to, rest...)
}

func (d *dirtySet) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rs = nil
}
