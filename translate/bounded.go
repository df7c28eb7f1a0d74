package translate

import (
	"context"
	"sync"
	"time"
)

// boundedContext is a context with a deadline of its own, if its parent has
// none, that costs nothing until somebody asks for it: most drains find
// nothing to wait for, and a timer is several times the cost of an unmap. The
// deadline counts from the first question.
type boundedContext struct {
	context.Context // the parent
	d               time.Duration

	mu     sync.Mutex
	timed  context.Context    // guarded by mu; nil until asked
	cancel context.CancelFunc // guarded by mu
}

// begin makes c ready for one wait.
func (c *boundedContext) begin(parent context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Context, c.d, c.timed, c.cancel = parent, d, nil, nil
}

func (c *boundedContext) ask() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = c.Context, func() {}
		if _, ok := c.Context.Deadline(); !ok {
			c.timed, c.cancel = context.WithTimeout(c.Context, c.d)
		}
	}
	return c.timed
}

func (c *boundedContext) Deadline() (time.Time, bool) { return c.ask().Deadline() }
func (c *boundedContext) Done() <-chan struct{}       { return c.ask().Done() }
func (c *boundedContext) Err() error                  { return c.ask().Err() }

// end releases the timer and reports whether c can be made ready for another
// wait. It cannot when somebody has asked: contexts that were made of it may
// still look at their parent when their own timers go off.
func (c *boundedContext) end() (fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
	return c.timed == nil
}
