package iommu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// gate knows who is inside: the hardware enters it for each access, and a
// revoker, having closed the reach of a page, waits until everyone who was
// inside at that moment has left. Those who enter later see the closed reach,
// and the revoker does not wait for them, however many come.
//
// It is sleepable RCU in small: two counters, of which phase says which one
// new entrants use. An entrant that read the phase just before it flipped may
// still count itself in the old counter; so the wait first sees the idle
// counter drained, then flips, then sees the other one drained.
//
// Why it is enough: between closing the reach and looking at the counters the
// revoker passes a full barrier, and entering is an atomic add, which is one
// too. Either the revoker sees the entrant's count, or the entrant sees the
// closed reach.
type gate struct {
	phase  atomic.Uint32
	inside atomic.Uint64 // two counters of 32 bits

	mu sync.Mutex // one waiter at a time; guards the flip of phase
}

// enter returns what exit takes.
func (g *gate) enter() uint64 {
	one := uint64(1) << (g.phase.Load() & 32)
	g.inside.Add(one)
	return one
}

func (g *gate) exit(one uint64) { g.inside.Add(-one) }

// idle reports whether nobody is inside who entered before the caller's last
// full barrier.
func (g *gate) idle() bool { return g.inside.Load() == 0 }

// wait returns when everyone who entered before the call has left.
func (g *gate) wait() {
	// A barrier of our own: the reach was closed with a plain store.
	if g.inside.Add(0) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.phase.Load()
	g.drain(p ^ 32)
	g.phase.Store(p ^ 32)
	g.drain(p)
}

func (g *gate) drain(p uint32) {
	for i := 0; uint32(g.inside.Load()>>p) != 0; i++ {
		if i < 100 { // an access is a copy of a page: tens of nanoseconds
			runtime.Gosched()
		} else { // or a message to a peer: tens of microseconds
			time.Sleep(10 * time.Microsecond)
		}
	}
}
