package mdev

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGateExcludes(t *testing.T) {
	var g gate
	g.init(nil)
	var inside, alone atomic.Int32
	var accesses atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if g.enter(t.Context()) != nil {
					return
				}
				inside.Add(1)
				if alone.Load() != 0 {
					t.Error("an access beside an operation")
				}
				accesses.Add(1)
				inside.Add(-1)
				g.leave()
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 300 {
				if g.lock(t.Context()) != nil {
					return
				}
				if alone.Add(1) != 1 || inside.Load() != 0 {
					t.Error("an operation not alone")
				}
				alone.Add(-1)
				g.unlock()
			}
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for accesses.Load() < 1000 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	require.GreaterOrEqual(t, accesses.Load(), int64(1000), "accesses get in between operations")
	require.Zero(t, g.users.Load())
}

func TestGateWaitsEndWithTheContext(t *testing.T) {
	var g gate
	g.init(nil)
	why := errors.New("why")
	ended, end := context.WithCancelCause(t.Context())
	end(why)

	require.NoError(t, g.enter(ended), "no wait, no error")
	require.ErrorIs(t, g.lock(ended), why, "an access is inside")
	require.NoError(t, g.enter(t.Context()), "the gate is open again")
	g.leave()
	g.leave()
	require.NoError(t, g.lock(t.Context()))
	require.ErrorIs(t, g.enter(ended), why)
	require.ErrorIs(t, g.lock(ended), why)
	g.unlock()
	require.NoError(t, g.enter(t.Context()))
	g.leave()
	require.Zero(t, g.users.Load())
}

// The operation goes first: it does not wait for accesses that come after it.
func TestGateIsFairToTheOperation(t *testing.T) {
	var g gate
	g.init(nil)
	require.NoError(t, g.enter(t.Context()))
	locked := make(chan error)
	go func() { locked <- g.lock(t.Context()) }()
	for g.users.Load() >= 0 {
		time.Sleep(time.Microsecond)
	}
	entered := make(chan error)
	go func() { entered <- g.enter(t.Context()) }()
	select {
	case <-entered:
		t.Fatal("an access that came later went first")
	case <-time.After(5 * time.Millisecond):
	}
	g.leave()
	require.NoError(t, <-locked)
	g.unlock()
	require.NoError(t, <-entered)
	g.leave()
}

func TestGateAllocatesNothing(t *testing.T) {
	var g gate
	g.init(nil)
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if g.enter(ctx) == nil {
			g.leave()
		}
	}))
}
