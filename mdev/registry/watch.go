package registry

import (
	"context"
	"iter"
)

// Op says what an [Event] is about.
type Op uint8

// The operations. A watch gives what there is as Present, then Synced, then
// changes. Lost says that the watcher was too slow for what is kept: what it
// knows is void, and a new round of Present follows.
const (
	Present Op = iota
	Synced
	Lost
	Added
	Changed
	Removed
)

// String is the operation in one word.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

var opNames = [...]string{"present", "synced", "lost", "added", "changed", "removed"}

// Event is one change, or a part of what there was when a watch began.
type Event struct {
	// Seq counts the changes of a registry from 1. Present and Synced have
	// that of the last change that they include.
	Seq uint64
	Op  Op
	// Parent or Device is what was added, changed or removed, as it is
	// after the change, or was before it was removed. Not to be changed.
	Parent *ParentInfo
	Device *Device
}

// emit adds an event to the transaction.
func (t txn) emit(op Op, p *ParentInfo, d *deviceRow) {
	e := &eventRow{Event{Seq: t.seq() + 1, Op: op, Parent: p}}
	if d != nil {
		dev := d.Device
		e.Device = &dev
	}
	t.put(tableEvents, e)
	if first := must(t.First(tableEvents, indexID)).(*eventRow); e.Seq-first.Seq >= uint64(t.r.cfg.Events) {
		t.drop(tableEvents, first)
	}
}

// seq is the number of the last change.
func (t txn) seq() uint64 {
	if last, ok := must(t.Last(tableEvents, indexID)).(*eventRow); ok {
		return last.Seq
	}
	return 0
}

// Watch gives what there is and then every change, each once and in order,
// until ctx ends or the registry is closed. See [Op]. It takes no goroutine
// and holds up nobody, however slow its caller.
func (r *Registry) Watch(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for ctx.Err() == nil {
			seq, ok := r.present(yield)
			if !ok {
				return
			}
			if !r.follow(ctx, seq, yield) || !yield(Event{Op: Lost}) {
				return
			}
		}
	}
}

// present yields what there is.
func (r *Registry) present(yield func(Event) bool) (seq uint64, more bool) {
	t := r.view()
	seq = t.seq()
	for _, p := range all[*parentRow](t, tableParents, indexID) {
		if !yield(Event{Seq: seq, Op: Present, Parent: t.parentInfo(p)}) {
			return 0, false
		}
	}
	for _, d := range t.devices() {
		if !yield(Event{Seq: seq, Op: Present, Device: &d}) {
			return 0, false
		}
	}
	return seq, yield(Event{Seq: seq, Op: Synced})
}

// follow yields the changes after seq. It returns true when some of them are
// no longer kept, false when the watch is over.
func (r *Registry) follow(ctx context.Context, seq uint64, yield func(Event) bool) (lost bool) {
	for {
		// Before the look, so that what the last change did is seen.
		closed := false
		select {
		case <-r.done:
			closed = true
		default:
		}
		t := r.view()
		changed, _, err := t.LastWatch(tableEvents, indexID)
		must(changed, err)
		if first, ok := must(t.First(tableEvents, indexID)).(*eventRow); ok && first.Seq > seq+1 {
			return true
		}
		it := must(t.LowerBound(tableEvents, indexID, seqKey(seq+1)))
		for row := it.Next(); row != nil; row = it.Next() {
			e := row.(*eventRow).Event
			if ctx.Err() != nil || !yield(e) {
				return false
			}
			seq = e.Seq
		}
		if closed {
			return false
		}
		select {
		case <-changed:
		case <-r.done:
		case <-ctx.Done():
			return false
		}
	}
}
