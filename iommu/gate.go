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
// Why it is enough: entering is an atomic add and closing the reach an atomic
// store, both full barriers on every platform under Go's memory model. Either
// the revoker sees the entrant's count, or the entrant sees the closed reach.
type gate struct {
	phase  atomic.Uint32
	inside [2]atomic.Int64

	mu sync.Mutex // one waiter at a time; guards the flip of phase
}

func (g *gate) enter() uint32 {
	p := g.phase.Load() & 1
	g.inside[p].Add(1)
	return p
}

func (g *gate) exit(p uint32) { g.inside[p&1].Add(-1) }

// idle reports whether nobody who entered before the call is inside.
func (g *gate) idle() bool { return g.inside[0].Load() == 0 && g.inside[1].Load() == 0 }

// wait returns when everyone who entered before the call has left.
func (g *gate) wait() {
	if g.idle() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.phase.Load() & 1
	g.drain(p ^ 1)
	g.phase.Store(p ^ 1)
	g.drain(p)
}

func (g *gate) drain(p uint32) {
	for i := 0; g.inside[p].Load() != 0; i++ {
		if i < 100 { // an access is a copy of a page: tens of nanoseconds
			runtime.Gosched()
		} else { // or a message to a peer: tens of microseconds
			time.Sleep(10 * time.Microsecond)
		}
	}
}
