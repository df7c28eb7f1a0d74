package registry

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// replica is what a watcher knows; it notices events that cannot be.
type replica struct {
	t       testing.TB
	seq     uint64
	synced  bool
	lost    int
	devices map[uuid.UUID]Device
	parents map[string]bool
}

func newReplica(t testing.TB) *replica {
	return &replica{t: t, devices: make(map[uuid.UUID]Device), parents: make(map[string]bool)}
}

func (r *replica) apply(e Event) {
	switch e.Op {
	case Lost:
		clear(r.devices)
		clear(r.parents)
		r.synced = false
		r.lost++
		return
	case Synced:
		r.seq, r.synced = e.Seq, true
		return
	case Present:
		if r.synced {
			r.t.Errorf("present after synced: %+v", e)
		}
	default:
		if !r.synced || e.Seq != r.seq+1 {
			r.t.Errorf("event %d after %d (synced %t)", e.Seq, r.seq, r.synced)
		}
		r.seq = e.Seq
	}
	switch {
	case e.Device != nil:
		_, known := r.devices[e.Device.UUID]
		if known != (e.Op == Changed || e.Op == Removed) {
			r.t.Errorf("%s of a device, known: %t: %+v", e.Op, known, *e.Device)
		}
		if e.Op == Removed {
			delete(r.devices, e.Device.UUID)
		} else {
			r.devices[e.Device.UUID] = *e.Device
		}
	case e.Parent != nil:
		if e.Op == Removed {
			delete(r.parents, e.Parent.Name)
		} else {
			r.parents[e.Parent.Name] = e.Parent.Leaving
		}
	default:
		r.t.Errorf("event about nothing: %+v", e)
	}
}

// list is what the replica holds, as Registry.List would give it.
func (r *replica) list() []Device {
	return slices.SortedFunc(maps.Values(r.devices), func(a, b Device) int { return slices.Compare(a.UUID[:], b.UUID[:]) })
}

// TestWatch: what there is, then each change once and in order.
func TestWatch(t *testing.T) {
	e := newEnv(t)
	old := e.create("one")
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	var got []string
	step := 0
	var id uuid.UUID
	for ev := range e.Watch(ctx) {
		text := ev.Op.String()
		if ev.Parent != nil {
			text += " " + ev.Parent.Name
		}
		if ev.Device != nil {
			text += " " + ev.Device.State.String() + " " + ev.Device.Holder + ev.Device.Endpoint
		}
		got = append(got, text)
		if ev.Op < Synced {
			continue
		}
		switch step++; step {
		case 1:
			id = e.create("many")
		case 2:
			require.NoError(t, e.SetEndpoint(id, "here"))
		case 3:
			e.open(old)
		case 4:
			require.NoError(t, e.Session(old).Close(ctx))
		case 5:
			require.NoError(t, e.Remove(ctx, id)) // two changes
		case 7:
			require.NoError(t, e.RegisterParent(e.parent("q")))
		case 8:
			require.NoError(t, e.UnregisterParent(ctx, "q")) // two changes
		case 10:
			stop()
		}
	}
	require.Equal(t, []string{
		"present p", "present idle ", "synced",
		"added idle ", "changed idle here", "changed open vm", "changed idle ", "changed removing here", "removed removing here",
		"added q", "changed q", "removed q",
	}, got)
}

// TestWatchLosesNothing: watchers that read while others change end with all
// that was changed, every change seen once and in order.
func TestWatchLosesNothing(t *testing.T) {
	e := newEnv(t)
	e.cfg.Events = 1 << 20
	ctx, stop := context.WithCancel(e.ctx)
	const last = "last"
	var watchers sync.WaitGroup
	replicas := make([]*replica, 3)
	for i := range replicas {
		replicas[i] = newReplica(t)
		watchers.Go(func() {
			for ev := range e.Watch(ctx) {
				replicas[i].apply(ev)
				if ev.Device != nil && ev.Device.Endpoint == last {
					return
				}
			}
		})
	}
	race(4, func(i int) {
		for range 100 {
			id := uuid.New()
			if _, err := e.Create(e.ctx, "p", []string{"many", "pair"}[i%2], id, nil); err != nil {
				t.Errorf("create: %v", err)
				continue
			}
			if i%2 == 0 {
				if s, err := e.Open(e.ctx, id, nil); err != nil {
					t.Errorf("open: %v", err)
				} else {
					_ = s.Close(e.ctx)
				}
			}
			if err := e.Remove(e.ctx, id); err != nil {
				t.Errorf("remove: %v", err)
			}
		}
	})
	require.NoError(t, e.SetEndpoint(e.create("one"), last))
	watchers.Wait()
	stop()
	for _, r := range replicas {
		require.Zero(t, r.lost)
		require.Equal(t, e.view().seq(), r.seq)
		require.Equal(t, e.List(), r.list())
	}
}

// TestWatchBehind: who falls behind is told so and starts again from what
// there is; the events that are kept stay few.
func TestWatchBehind(t *testing.T) {
	e := newEnv(t)
	e.cfg.Events = 8
	r := newReplica(t)
	for ev := range e.Watch(e.ctx) {
		r.apply(ev)
		if r.synced && r.lost == 0 {
			for range 20 {
				id := e.create("many")
				require.NoError(t, e.Remove(e.ctx, id))
			}
			e.create("one")
		}
		if r.synced && r.lost == 1 {
			break
		}
	}
	require.Equal(t, e.List(), r.list())
	require.Len(t, all[*eventRow](e.view(), tableEvents, indexID), 8)
}

// TestWatchEnds: with the registry, after the last change.
func TestWatchEnds(t *testing.T) {
	e := newEnv(t)
	e.create("one")
	r := newReplica(t)
	done := make(chan error, 1)
	for ev := range e.Watch(e.ctx) {
		r.apply(ev)
		if ev.Op == Synced {
			go func() { done <- e.Close(e.ctx) }()
		}
	}
	require.NoError(t, <-done)
	require.Empty(t, r.devices)
	require.Empty(t, r.parents)
	require.ErrorContains(t, e.RegisterParent(e.parent("q")), "registry is closed")
}
