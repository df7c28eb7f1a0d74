package registry

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// modelDevice is what the model knows about a device.
type modelDevice struct {
	parent, typ, endpoint string
	open                  bool
}

// TestModel: random operations one after the other against a slow model; after
// each, the same error, and devices, instances, groups and what a watcher knows
// agree with it.
func TestModel(t *testing.T) {
	expired, cancel := context.WithCancel(context.Background())
	cancel()
	limits := map[string]int{"one": 1, "many": 8, "pair": 8}
	rapid.Check(t, func(rt *rapid.T) {
		e := &env{Registry: New(&Config{MaxDevices: 10, Events: 16}), t: t, ctx: context.Background()}
		parents := map[string]bool{}
		devices := map[uuid.UUID]*modelDevice{}
		ids := make([]uuid.UUID, 8)
		for i := range ids {
			ids[i] = uuid.UUID{0: 0xaa, 15: byte(i)}
		}
		id := func() uuid.UUID { return rapid.SampledFrom(ids).Draw(rt, "id") }
		parent := func() string { return rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "parent") }
		count := func(parent, typ string) (n int) {
			for _, d := range devices {
				if (parent == "" || d.parent == parent) && (typ == "" || d.typ == typ) {
					n++
				}
			}
			return n
		}
		check := func(err, want error) {
			if want == nil {
				require.NoError(rt, err)
			} else {
				require.ErrorIs(rt, err, want)
			}
		}
		rep := newReplica(t)
		rt.Repeat(map[string]func(*rapid.T){
			"register": func(rt *rapid.T) {
				p, want := parent(), error(nil)
				if parents[p] {
					want = errs.ErrExists
				}
				check(e.RegisterParent(e.parent(p)), want)
				parents[p] = true
			},
			"unregister": func(rt *rapid.T) {
				p := parent()
				err := e.UnregisterParent(expired, p)
				if !parents[p] {
					check(err, errs.ErrNotFound)
					return
				}
				var want error
				for id, d := range devices {
					if d.parent == p && d.open {
						want = errs.ErrBusy
					} else if d.parent == p {
						delete(devices, id)
					}
				}
				check(err, want)
				parents[p] = want != nil
			},
			"create": func(rt *rapid.T) {
				p, id := parent(), id()
				typ := rapid.SampledFrom([]string{"one", "many", "pair", "none"}).Draw(rt, "type")
				fail := rapid.IntRange(0, 5).Draw(rt, "fail") == 0
				var attrs []Attr
				if fail {
					attrs = []Attr{{"fail", "x"}}
				}
				var want error
				switch {
				case !parents[p], limits[typ] == 0:
					want = errs.ErrNotFound
				case devices[id] != nil:
					want = errs.ErrExists
				case count(p, typ) == limits[typ], len(devices) == 10:
					want = errs.ErrNoSpace
				case fail:
					want = errs.ErrInvalid
				}
				_, err := e.Create(e.ctx, p, typ, id, attrs)
				check(err, want)
				if want == nil {
					devices[id] = &modelDevice{parent: p, typ: typ}
				}
			},
			"remove": func(rt *rapid.T) {
				id := id()
				var want error
				switch d := devices[id]; {
				case d == nil:
					want = errs.ErrNotFound
				case d.open:
					want = errs.ErrBusy
				default:
					delete(devices, id)
				}
				check(e.Remove(expired, id), want)
			},
			"open": func(rt *rapid.T) {
				id := id()
				var want error
				d := devices[id]
				switch {
				case d == nil:
					want = errs.ErrNotFound
				case d.open:
					want = errs.ErrBusy
				case d.typ == "pair":
					for _, o := range devices {
						if o.typ == "pair" && o.open {
							want = errs.ErrBusy
						}
					}
				}
				_, err := e.Open(e.ctx, id, &mdev.SessionConfig{Name: "vm"})
				check(err, want)
				if want == nil {
					d.open = true
				}
			},
			"close": func(rt *rapid.T) {
				id := id()
				s := e.Session(id)
				require.Equal(rt, devices[id] != nil && devices[id].open, s != nil)
				if s != nil {
					require.NoError(rt, s.Close(e.ctx))
					devices[id].open = false
				}
			},
			"serve": func(rt *rapid.T) {
				id, where := id(), rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "where")
				if d := devices[id]; d == nil {
					check(e.SetEndpoint(id, where), errs.ErrNotFound)
				} else {
					check(e.SetEndpoint(id, where), nil)
					d.endpoint = where
				}
			},
			"": func(rt *rapid.T) {
				require.Len(rt, e.List(), len(devices))
				require.EqualValues(rt, len(devices), e.live.Load())
				groups := map[uint32][]uuid.UUID{}
				for _, d := range e.List() {
					m := devices[d.UUID]
					require.NotNil(rt, m)
					state, holder := StateIdle, ""
					if m.open {
						state, holder = StateOpen, "vm"
					}
					require.Equal(rt, fmt.Sprint(m.parent, m.typ, state, holder, m.endpoint),
						fmt.Sprint(d.Parent, d.Type, d.State, d.Holder, d.Endpoint))
					groups[d.Group] = append(groups[d.Group], d.UUID)
					if m.typ != "pair" {
						require.Len(rt, groups[d.Group], 1)
					}
				}
				require.Len(rt, e.Groups(), len(groups))
				for _, g := range e.Groups() {
					require.Equal(rt, groups[g.Number], g.Devices)
				}
				n := 0
				for _, typ := range e.Types() {
					if limit := limits[typ.Name]; limit != 0 {
						require.Equal(rt, limit-count(typ.Parent, typ.Name), typ.Available)
						n++
					}
					require.Equal(rt, count(typ.Parent, typ.Name), typ.Devices)
				}
				for _, p := range e.Parents() {
					require.True(rt, parents[p.Name])
					require.Equal(rt, count(p.Name, ""), p.Devices)
					require.False(rt, p.Leaving)
					n -= 3
				}
				require.Zero(rt, n)
				// A watcher that began long ago.
				ctx, stop := context.WithCancel(e.ctx)
				for ev := range e.rewatch(ctx, rep) {
					rep.apply(ev)
				}
				stop()
				require.Equal(rt, e.List(), rep.list())
			},
		})
		for _, d := range e.List() {
			if s := e.Session(d.UUID); s != nil {
				require.NoError(rt, s.Close(e.ctx))
			}
		}
		require.NoError(rt, e.Close(e.ctx))
		require.Zero(rt, e.live.Load())
	})
}

// rewatch goes on where a replica stands, up to the last change.
func (e *env) rewatch(ctx context.Context, rep *replica) func(func(Event) bool) {
	return func(yield func(Event) bool) {
		now := e.view().seq()
		until := func(ev Event) bool { return yield(ev) && rep.seq < now }
		if rep.synced && rep.seq == now {
			return
		}
		if rep.synced && !e.follow(ctx, rep.seq, until) {
			return
		}
		if rep.synced {
			yield(Event{Op: Lost})
		}
		e.present(yield)
	}
}

// TestModelIDs: the model's look at instances relies on this.
func TestModelIDs(t *testing.T) {
	e := newEnv(t)
	require.True(t, slices.IsSortedFunc(e.Types(), func(a, b TypeInfo) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) }))
}
