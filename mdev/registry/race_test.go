package registry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// race runs f in n goroutines at one moment.
func race(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; f(i) })
	}
	close(start)
	wg.Wait()
}

// TestCreateRace: of those who want the last instance one gets it, whether the
// registry counts or the type does; the others are told ENOSPC.
func TestCreateRace(t *testing.T) {
	for typ, instances := range map[string]int32{"one": 1, "asked": 3} {
		t.Run(typ, func(t *testing.T) {
			for range 50 {
				e := newEnv(t)
				e.left.Store(instances)
				var won atomic.Int32
				race(8, func(int) {
					_, err := e.Create(e.ctx, "p", typ, uuid.New(), nil)
					if err == nil {
						won.Add(1)
					} else if !errors.Is(err, errs.ErrNoSpace) {
						t.Errorf("lost by %v", err)
					}
				})
				require.Equal(t, instances, won.Load())
				require.Len(t, e.List(), int(instances))
			}
		})
	}
}

// TestCreateSameUUID: of those who want one UUID one gets it; the others are
// told EEXIST.
func TestCreateSameUUID(t *testing.T) {
	for range 50 {
		e := newEnv(t)
		id := uuid.New()
		var won atomic.Int32
		race(6, func(i int) {
			_, err := e.Create(e.ctx, "p", []string{"many", "pair"}[i%2], id, nil)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, errs.ErrExists) {
				t.Errorf("lost by %v", err)
			}
		})
		require.EqualValues(t, 1, won.Load())
	}
}

// TestRemoveOpenRace: a device is opened or removed, and never opened after it
// was destroyed, which the fake device watches.
func TestRemoveOpenRace(t *testing.T) {
	for range 200 {
		e := newEnv(t)
		id := e.create("one")
		var removed, opened atomic.Int32
		race(4, func(i int) {
			if i%2 == 0 {
				err := e.Remove(e.ctx, id)
				switch {
				case err == nil:
					removed.Add(1)
				case !errors.Is(err, errs.ErrAgain) && !errors.Is(err, errs.ErrNotFound):
					t.Errorf("remove: %v", err)
				}
				return
			}
			s, err := e.Open(e.ctx, id, &mdev.SessionConfig{Name: "vm"})
			switch {
			case err == nil:
				opened.Add(1)
				if err := s.Close(e.ctx); err != nil {
					t.Errorf("close: %v", err)
				}
			case !errors.Is(err, errs.ErrBusy) && !errors.Is(err, errs.ErrGone) && !errors.Is(err, errs.ErrNotFound):
				t.Errorf("open: %v", err)
			}
		})
		require.EqualValues(t, 1, removed.Load())
		require.EqualValues(t, 255, e.state(id))
	}
}

// TestRemoveAsks: who has a device open is asked by the request interrupt
// until they let go; then the removal ends well.
func TestRemoveAsks(t *testing.T) {
	e := newEnv(t)
	id := e.create("one")
	s := e.open(id)
	asked := make(chan struct{}, 1000)
	s.IRQs().Func(mdev.IRQREQ, 0, func() {
		select {
		case asked <- struct{}{}:
		default:
		}
	})
	done := make(chan error, 1)
	go func() { done <- e.Remove(e.ctx, id) }()
	for range 3 {
		select {
		case <-asked:
		case <-time.After(10 * time.Second):
			t.Fatal("was not asked")
		}
	}
	d, err := e.Device(id)
	require.NoError(t, err)
	require.Equal(t, StateRemoving, d.State)
	require.Equal(t, "vm", d.Holder)
	require.Empty(t, done)
	require.NoError(t, s.Close(e.ctx))
	require.NoError(t, <-done)
	require.Empty(t, e.List())
}

// TestUnregisterParent: its devices go first; meanwhile, and afterwards until
// it is registered anew, none can be made.
func TestUnregisterParent(t *testing.T) {
	e := newEnv(t)
	id, idle := e.create("one"), e.create("many")
	s := e.open(id)
	done := make(chan error, 1)
	go func() { done <- e.UnregisterParent(e.ctx, "p") }()
	require.Eventually(t, func() bool { return e.state(idle) == 255 && e.state(id) == StateRemoving }, 10*time.Second, time.Millisecond)
	require.True(t, e.Parents()[0].Leaving)
	_, err := e.Create(e.ctx, "p", "many", uuid.New(), nil)
	require.ErrorIs(t, err, errs.ErrGone)
	require.ErrorIs(t, e.UnregisterParent(e.ctx, "p"), errs.ErrAgain)
	require.NoError(t, s.Close(e.ctx))
	require.NoError(t, <-done)
	require.Empty(t, e.Parents())
	require.Empty(t, e.Types())
	_, err = e.Create(e.ctx, "p", "many", uuid.New(), nil)
	require.ErrorIs(t, err, errs.ErrNotFound)
	require.NoError(t, e.RegisterParent(e.parent("p")))
	e.create("many")
}

// TestUnregisterParentHeld: a parent whose device is held stays, and can be
// used.
func TestUnregisterParentHeld(t *testing.T) {
	e := newEnv(t)
	id, idle := e.create("one"), e.create("many")
	s := e.open(id)
	ctx, stop := context.WithTimeout(e.ctx, 10*time.Millisecond)
	defer stop()
	err := e.UnregisterParent(ctx, "p")
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "parent p stays: device "+id.String()+" is open by vm")
	require.EqualValues(t, 255, e.state(idle))
	require.Equal(t, StateOpen, e.state(id))
	e.create("many")
	require.NoError(t, s.Close(e.ctx))
}

// TestUnregisterWhileCreating: a device whose making began before is not kept,
// and the parent waits for it.
func TestUnregisterWhileCreating(t *testing.T) {
	e := newEnv(t)
	e.gate = make(chan struct{})
	id, made := uuid.New(), make(chan error, 1)
	go func() {
		_, err := e.Create(e.ctx, "p", "many", id, []Attr{{"wait", ""}})
		made <- err
	}()
	require.Eventually(t, func() bool { return e.state(id) == stateCreating }, 10*time.Second, time.Millisecond)
	ctx, stop := context.WithTimeout(e.ctx, 5*time.Millisecond)
	defer stop()
	require.ErrorIs(t, e.UnregisterParent(ctx, "p"), errs.ErrBusy)

	done := make(chan error, 1)
	go func() { done <- e.UnregisterParent(e.ctx, "p") }()
	require.Eventually(t, func() bool { return e.Parents()[0].Leaving }, 10*time.Second, time.Millisecond)
	require.Empty(t, e.List(), "not made yet")
	e.gate <- struct{}{}
	require.ErrorIs(t, <-made, errs.ErrGone)
	require.NoError(t, <-done)
	require.Zero(t, e.live.Load())
}

// TestChurn: everything at once, with nothing left at the end; each watcher
// ends with what there is.
func TestChurn(t *testing.T) {
	e := newEnv(t)
	e.cfg.Events = 64 // some watchers fall behind
	ids := make([]uuid.UUID, 12)
	for i := range ids {
		ids[i] = uuid.New()
	}
	watch, stopWatch := context.WithCancel(e.ctx)
	var watchers sync.WaitGroup
	for range 2 {
		watchers.Go(func() {
			r := newReplica(t)
			for ev := range e.Watch(watch) {
				r.apply(ev)
			}
		})
	}
	race(6, func(i int) {
		for n := range 60 {
			id := ids[(n*7+i)%len(ids)]
			ctx, stop := context.WithTimeout(e.ctx, time.Duration(n%3)*time.Millisecond)
			switch i {
			case 0, 1:
				_, _ = e.Create(e.ctx, "p", []string{"many", "pair", "one"}[n%3], id, nil)
			case 2, 3:
				if s, err := e.Open(e.ctx, id, &mdev.SessionConfig{Name: "vm"}); err == nil {
					_ = e.SetEndpoint(id, "x")
					_ = s.Close(e.ctx)
				}
			case 4:
				_ = e.Remove(ctx, id)
			case 5:
				if n%10 == 0 {
					if e.UnregisterParent(ctx, "p") == nil {
						_ = e.RegisterParent(e.parent("p"))
					}
				}
			}
			stop()
		}
	})
	stopWatch()
	watchers.Wait()
	for _, d := range e.List() {
		require.Equal(t, StateIdle, d.State)
		require.NoError(t, e.Remove(e.ctx, d.UUID))
	}
	require.Zero(t, e.live.Load())
}
