package intremap

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Interrupt is what reaches a CPU, or in a posted entry's notification, whom
// the descriptor names.
type Interrupt struct {
	Vector   uint8
	Mode     DeliveryMode
	Level    bool // trigger mode
	Logical  bool // destination mode
	Redirect bool // to one of several
	Dest     uint32
}

// Sink takes interrupts. Deliver is called on the device's goroutine, from any
// number of them at once: it must not block, and must not change the table
// entry that leads to it (Set, Revoke, Free wait for it).
type Sink interface{ Deliver(Interrupt) }

// SinkFunc is a function as a Sink.
type SinkFunc func(Interrupt)

// Deliver calls the function.
func (f SinkFunc) Deliver(i Interrupt) { f(i) }

// route is an entry of the table made ready for messages: everything that
// depends on the entry alone is decided already. It does not change after it
// is published, but for users.
//
// users is how a change of the table takes effect before it returns. Who
// delivers counts itself in users, then looks again whether the route is still
// published; who changes the entry unpublishes the route, then waits for users
// to become 0. Both put an atomic read-modify-write between their two steps,
// so one of them sees the other. It is per entry: handles do not share a cache
// line, and who waits waits for its own entry alone.
type route struct {
	users atomic.Int64

	owner  VMID
	refuse Reason // why every message is refused, or 0
	silent bool   // FPD: do not log
	posted bool
	urgent bool
	admit  admission
	vector uint8     // posted: the guest's
	intr   Interrupt // remapped
	pda    uint64    // posted
	sink   Sink
}

// newRoute compiles an entry.
func (t *Table) newRoute(owner VMID, e IRTE, sink Sink) *route {
	r := &route{owner: owner, silent: e.FaultsDisabled(), sink: sink, admit: e.Source().compile()}
	if !e.Present() {
		r.refuse = ReasonNotPresent
		return r
	}
	if e.reservedSet(t.eim) {
		r.refuse = ReasonEntryReserved
		return r
	}
	if e.IsPosted() {
		p := e.Posted()
		r.posted, r.urgent, r.vector, r.pda = true, p.Urgent, p.Vector, uint64(p.Descriptor)
		return r
	}
	m := e.Remapped()
	r.intr = Interrupt{
		Vector: m.Vector, Mode: m.Mode, Level: m.Level,
		Logical: m.Logical, Redirect: m.Redirect, Dest: apicID(m.Dest, t.eim),
	}
	return r
}

// drain returns when nobody delivers by the route any more.
//
// Precondition: the route is not published.
func (r *route) drain() {
	for i := 0; r.users.Load() != 0; i++ {
		if i < 100 { // a delivery is a write of 8 bytes at most
			runtime.Gosched()
		} else {
			time.Sleep(10 * time.Microsecond)
		}
	}
}
