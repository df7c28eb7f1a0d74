package iommu

import (
	"math/bits"
	"sync/atomic"
)

// table finds the reaches on a block of the host's address space: open
// addressing, at most half full. Readers take no lock. A slot is written once
// from empty to a reach, and later to gone; a table that grows is built aside
// and published whole, so a reader in an old one finds all that was there when
// the reader entered. Several reaches may lie on one block (two holders of one
// domain, or small frames side by side): a search goes on to the next until
// one allows the access or an empty slot ends it.
type table struct {
	shift uint8
	slots []atomic.Pointer[Reach]
}

// gone marks a slot whose reach was removed: a search goes on past it. Its
// place is no block of any space.
var gone = &Reach{place: ^uint64(0)}

const minTable = 16

func newTable(slots int) *table {
	n := max(minTable, 1<<bits.Len(uint(slots-1)))
	return &table{shift: uint8(64 - bits.TrailingZeros(uint(n))), slots: make([]atomic.Pointer[Reach], n)}
}

// home is the slot where the search for a block begins.
func (t *table) home(place uint64) uint64 { return place * 0x9e3779b97f4a7c15 >> t.shift }

// find is a reach that allows bit may of the page in frame of block place,
// with the page's number in it.
func (t *table) find(place, frame uint64, write uint64) (r *Reach, page uint64) {
	mask := uint64(len(t.slots) - 1)
	for i := t.home(place); ; i++ {
		r = t.slots[i&mask].Load()
		if r == nil {
			return nil, 0
		}
		if r.place == place {
			page = r.order.page(frame)
			if r.may.Load()>>(page|write)&1 != 0 {
				return r, page
			}
		}
	}
}

// insert and the other writers run under the domain's mutex.
func (t *table) insert(r *Reach) {
	mask := uint64(len(t.slots) - 1)
	i := t.home(r.place)
	for t.slots[i&mask].Load() != nil {
		i++
	}
	t.slots[i&mask].Store(r)
}

// remove reports whether r was there.
func (t *table) remove(r *Reach) bool {
	mask := uint64(len(t.slots) - 1)
	for i := t.home(r.place); ; i++ {
		switch t.slots[i&mask].Load() {
		case nil:
			return false
		case r:
			t.slots[i&mask].Store(gone)
			return true
		}
	}
}

func (d *Domain) insert(r *Reach) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	t := d.table.Load()
	if 2*(d.filled+1) > len(t.slots) {
		bigger := newTable(4 * (d.live + 1))
		for i := range t.slots {
			if r := t.slots[i].Load(); r != nil && r != gone {
				bigger.insert(r)
			}
		}
		d.filled = d.live
		t = bigger
		t.insert(r)
		d.table.Store(t)
	} else {
		t.insert(r)
	}
	d.live++
	d.filled++
	return true
}

func (d *Domain) remove(r *Reach) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table.Load().remove(r) {
		d.live--
	}
}
