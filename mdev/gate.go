package mdev

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
)

// gate lets region accesses in together, or one operation that changes what
// the device is at alone. It is a readers-writer lock whose waits end with a
// context, and costs two atomic additions an access.
//
// The lock is fair to the operation: accesses that come while it waits, wait
// for it.
type gate struct {
	// users is the number of accesses inside, with closedBias added while an
	// operation waits or is inside. One that finds it negative takes itself
	// back at once.
	users   atomic.Int64
	ended   <-chan struct{} // closed when accesses should not wait any more; may be nil
	sem     chan struct{}   // holds one token while an operation waits or is inside
	drained chan struct{}   // capacity 1: users may have become closedBias

	mu     sync.Mutex
	opened chan struct{} // guarded by mu; closed when the operation is over
}

const closedBias = math.MinInt64

func (g *gate) init(ended <-chan struct{}) {
	g.ended = ended
	g.sem = make(chan struct{}, 1)
	g.drained = make(chan struct{}, 1)
	g.opened = make(chan struct{})
	close(g.opened)
}

// enter lets an access in, once no operation waits or is inside; the error is
// that of ctx, or errs.ErrGone when the session ends. leave ends it.
func (g *gate) enter(ctx context.Context) error {
	if g.users.Add(1) > 0 {
		return nil
	}
	return g.enterSlow(ctx)
}

func (g *gate) enterSlow(ctx context.Context) error {
	for {
		g.leave()
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		select {
		case <-opened:
		case <-g.ended:
			return errs.ErrGone
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if g.users.Add(1) > 0 {
			return nil
		}
	}
}

func (g *gate) leave() {
	if g.users.Add(-1) == closedBias {
		select {
		case g.drained <- struct{}{}:
		default: // it is told already
		}
	}
}

// lock waits until nothing else is inside; the error is that of ctx, and then
// the gate is open again. unlock opens it.
func (g *gate) lock(ctx context.Context) error {
	select {
	case g.sem <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	g.opened = make(chan struct{})
	g.mu.Unlock()
	g.users.Add(closedBias)
	for g.users.Load() != closedBias {
		select {
		case <-g.drained:
		case <-ctx.Done():
			g.unlock()
			return context.Cause(ctx)
		}
	}
	return nil
}

func (g *gate) unlock() {
	g.users.Add(closedBias) // MinInt64 twice is 0
	g.mu.Lock()
	close(g.opened)
	g.mu.Unlock()
	<-g.sem
}
