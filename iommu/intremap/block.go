package intremap

import (
	"fmt"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Block is a run of entries that one VM owns: only messages of that VM reach
// their sinks. Its handles are no secret; who guesses one gains nothing.
//
// All methods may be called from any goroutine. None may be called by a sink
// that an entry of the same block leads to.
type Block struct {
	t     *Table // immutable
	owner VMID   // immutable
	first int    // immutable
	n     int    // immutable
	// absent stands in the entries that are not set: owned, not present.
	absent *route // immutable

	mu    sync.Mutex
	freed bool   // guarded by mu
	irtes []IRTE // what was set; guarded by mu
}

// Alloc gives a VM n entries in a row, the first at a multiple of align, a
// power of two (0 is 1; multi-message MSI needs n rounded up). None is present
// until it is set. It fails with errs.ErrInvalid for numbers that make no
// sense, errs.ErrNoSpace when the table has no such run or the VM has its
// share already, and errs.ErrGone when the table is closed.
//
// Indices are used again as late as possible.
func (t *Table) Alloc(owner VMID, n, align int) (*Block, error) {
	if align == 0 {
		align = 1
	}
	if owner == 0 || n < 1 || align < 1 || align&(align-1) != 0 {
		return nil, fmt.Errorf("%d entries aligned to %d for vm %d: %w", n, align, owner, errs.ErrInvalid)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	if n > t.perVM-t.owned[owner] {
		return nil, fmt.Errorf("%d entries for vm %d, which has %d of %d: %w", n, owner, t.owned[owner], t.perVM, errs.ErrNoSpace)
	}
	if n > len(t.entries) || align > len(t.entries) {
		return nil, fmt.Errorf("%d entries aligned to %d in a table of %d: %w", n, align, len(t.entries), errs.ErrNoSpace)
	}
	first := t.used.find(t.next, n, align)
	if first < 0 {
		return nil, fmt.Errorf("%d entries aligned to %d in the remapping table: %w", n, align, errs.ErrNoSpace)
	}
	t.next = (first + n) % len(t.entries)
	t.owned[owner] += n
	b := &Block{
		t: t, owner: owner, first: first, n: n, irtes: make([]IRTE, n),
		absent: &route{owner: owner, refuse: ReasonNotPresent},
	}
	t.blocks[b] = true
	for i := first; i < first+n; i++ {
		t.used.set(i, true)
		t.entries[i].Store(b.absent)
	}
	return b, nil
}

// Owned is the number of entries that a VM has allocated.
func (t *Table) Owned(vm VMID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owned[vm]
}

// Owner is the VM that owns the block.
func (b *Block) Owner() VMID { return b.owner }

// Len is the number of entries.
func (b *Block) Len() int { return b.n }

// First is the index of the block's first entry in the table.
func (b *Block) First() int { return b.first }

// Message is what a device writes to use entry i: a remappable request as
// Linux composes it, with a subhandle of 0. If there is no such entry it is
// the zero Message, which the unit refuses.
func (b *Block) Message(i int) Message {
	if i < 0 || i >= b.n {
		return Message{}
	}
	return Remappable{Handle: uint16(b.first + i), SubhandleValid: true}.Message()
}

// Set makes entry i what e says, and lead to sink (posted entries: their
// notification). When it returns, no message is delivered by what the entry
// was before.
//
// Like the memory of a real table the entry takes any bits: the unit looks at
// them when a message comes. Who composes an entry asks [IRTE.Validate] first.
// Set fails with errs.ErrInvalid when there is no entry i or a present entry
// has no sink, and with errs.ErrGone when the block is freed.
func (b *Block) Set(i int, e IRTE, sink Sink) error {
	if i < 0 || i >= b.n {
		return fmt.Errorf("entry %d of a block of %d: %w", i, b.n, errs.ErrInvalid)
	}
	if sink == nil && e.Present() {
		return fmt.Errorf("entry %d: no sink: %w", i, errs.ErrInvalid)
	}
	return b.change(i, e, b.t.newRoute(b.owner, e, sink))
}

// Revoke makes entry i not present. When it returns, no message of that handle
// is being delivered and none will be until the entry is set again. There is
// nothing to revoke in an entry that is not there.
func (b *Block) Revoke(i int) {
	if i >= 0 && i < b.n {
		_ = b.change(i, IRTE{}, b.absent) // freed: nothing is delivered
	}
}

func (b *Block) change(i int, e IRTE, r *route) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.freed {
		return fmt.Errorf("block of entries from %d: %w", b.first, errs.ErrGone)
	}
	b.irtes[i] = e
	old := b.t.entries[b.first+i].Swap(r)
	if old != r {
		old.drain()
	}
	return nil
}

// IRTE is what entry i was set to: not present after Revoke, and if there is
// no such entry.
func (b *Block) IRTE(i int) IRTE {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i < 0 || i >= b.n || b.freed {
		return IRTE{}
	}
	return b.irtes[i]
}

// Free revokes every entry and gives the block back. It cannot fail, and may
// be called again.
func (b *Block) Free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.freed {
		return
	}
	b.freed = true
	// Unpublish all, then wait: the waits overlap.
	old := make([]*route, b.n)
	for i := range old {
		old[i] = b.t.entries[b.first+i].Swap(nil)
	}
	for _, r := range old {
		if r != b.absent {
			r.drain()
		}
	}
	b.irtes = slices.Clip(b.irtes[:0])
	b.t.release(b)
}

func (t *Table) release(b *Block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := b.first; i < b.first+b.n; i++ {
		t.used.set(i, false)
	}
	if t.owned[b.owner] -= b.n; t.owned[b.owner] == 0 {
		delete(t.owned, b.owner)
	}
	delete(t.blocks, b)
}
