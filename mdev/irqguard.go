package mdev

import (
	"sync"
	"sync/atomic"
	"time"
)

// irqGuard lets out a device that is caught in the write to an eventfd: one
// whose counter the client filled between the look and the write, or made
// blocking after it was armed. There is no write to an eventfd that cannot
// block whatever its owner does, so somebody else must look after it; or a
// client could keep a device, and whoever waits for an access to it, beyond
// its own end.
//
// It looks every guardPeriod while interrupts are raised, and costs an atomic
// load an interrupt; an idle session has no timer.
type irqGuard struct {
	look  func() (busy bool) // whether a line is being signalled; lets out who is stuck
	timer *time.Timer
	armed atomic.Bool // the timer runs, or its function does

	mu     sync.Mutex
	closed bool // guarded by mu
}

const guardPeriod = 20 * time.Millisecond

func (g *irqGuard) init(look func() bool) {
	g.look = look
	g.timer = time.AfterFunc(time.Hour, g.tick)
	g.timer.Stop()
}

// watch is called with a line in use, before it is signalled.
func (g *irqGuard) watch() {
	if !g.armed.Load() && g.armed.CompareAndSwap(false, true) {
		g.timer.Reset(guardPeriod)
	}
}

func (g *irqGuard) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	busy := g.look()
	if !busy {
		// Whoever found it armed had its line in use before, and is seen now.
		g.armed.Store(false)
		busy = g.look() && g.armed.CompareAndSwap(false, true)
	}
	if busy {
		g.timer.Reset(guardPeriod)
	}
}

// close ends it; nobody is let out afterwards.
func (g *irqGuard) close() {
	g.timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// letOut is what the guard does: a line that is in use now and whose counter
// is full may have somebody stuck in it.
func (q *IRQs) letOut() (busy bool) {
	for i := range q.index {
		for j := range q.index[i].vectors {
			if l := q.index[i].vectors[j].line.Load(); l != nil && l.fd >= 0 && l.users.Load() > 1 {
				l.rescue()
				busy = true
			}
		}
	}
	return busy
}
