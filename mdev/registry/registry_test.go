package registry

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a device that notices when it is used wrongly.
type fake struct {
	testing.TB
	api       mdev.API
	fail      error // of Open
	live      *atomic.Int32
	open      atomic.Bool
	destroyed atomic.Bool
}

func (d *fake) Info() *mdev.Info {
	irqs := make([]mdev.IRQInfo, mdev.NumPCIIRQs)
	irqs[mdev.IRQREQ] = mdev.IRQInfo{Name: "req", Count: 1, Flags: mdev.IRQEventFD | mdev.IRQNoResize}
	regions := make([]mdev.RegionInfo, mdev.NumPCIRegions)
	regions[mdev.Config] = mdev.RegionInfo{Name: "config", Size: 256, Flags: mdev.RegionRead | mdev.RegionWrite}
	return &mdev.Info{API: d.api, IRQs: irqs, Regions: regions}
}

func (d *fake) Open(context.Context, *mdev.Attachment) error {
	if d.destroyed.Load() {
		d.Error("opened after it was destroyed")
	}
	if d.open.Swap(true) {
		d.Error("opened twice")
	}
	if d.fail != nil {
		d.open.Store(false)
	}
	return d.fail
}

func (d *fake) Close() {
	if !d.open.Swap(false) {
		d.Error("closed and not open")
	}
}

func (d *fake) Destroy() {
	if d.open.Load() {
		d.Error("destroyed and open")
	}
	if d.destroyed.Swap(true) {
		d.Error("destroyed twice")
	}
	d.live.Add(-1)
}

func (d *fake) Read(context.Context, int, uint64, []byte) error  { return nil }
func (d *fake) Write(context.Context, int, uint64, []byte) error { return nil }
func (d *fake) Reset(context.Context, mdev.ResetKind) error      { return nil }

// env is a registry with one parent "p" of a type "one", which has one
// instance, "many" with eight, "pair", whose devices share a group, and
// "asked", whose four instances are counted by the type itself.
type env struct {
	*Registry
	t    testing.TB
	ctx  context.Context
	live atomic.Int32 // devices that are not destroyed
	left atomic.Int32 // of "asked"
	gate chan struct{}
}

func newEnv(t testing.TB) *env {
	e := &env{Registry: New(&Config{Ask: time.Millisecond}), t: t, ctx: t.Context()}
	e.left.Store(4)
	require.NoError(t, e.RegisterParent(e.parent("p")))
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		for _, d := range e.List() {
			if s := e.Session(d.UUID); s != nil {
				_ = s.Close(ctx)
			}
		}
		require.NoError(t, e.Close(ctx))
		require.Zero(t, e.live.Load(), "a device was not destroyed")
		require.Empty(t, e.Groups())
	})
	return e
}

func (e *env) parent(name string) Parent {
	add := func(ctx context.Context, s Spec) (mdev.Device, error) {
		d := &fake{TB: e.t, api: mdev.APIPCI, live: &e.live}
		for _, a := range s.Attrs {
			switch a.Name {
			case "fail":
				return nil, fmt.Errorf("attribute fail=%s: %w", a.Value, errs.ErrInvalid)
			case "wait":
				select {
				case <-e.gate:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			case "api":
				d.api = mdev.API(a.Value)
			case "open":
				d.fail = errs.ErrFault
			}
		}
		e.live.Add(1)
		return d, nil
	}
	return Parent{Name: name, Types: []Type{
		{Name: "one", API: mdev.APIPCI, Instances: 1, New: add},
		{Name: "many", Title: "Many", Description: "as they come", API: mdev.APIPCI, Instances: 8, New: add},
		{Name: "pair", API: mdev.APIPCI, Instances: 8, New: add, Group: func(s Spec) string {
			for _, a := range s.Attrs {
				if a.Name == "group" {
					return a.Value
				}
			}
			return "pair"
		}},
		{Name: "asked", API: mdev.APIPCI, Available: func() int { return int(e.left.Load()) },
			New: func(ctx context.Context, s Spec) (mdev.Device, error) {
				d, err := add(ctx, s)
				if err == nil && e.left.Add(-1) < 0 {
					e.t.Error("asked for more than there are")
				}
				return d, err
			}},
	}}
}

func (e *env) create(typ string, attrs ...Attr) uuid.UUID {
	id := uuid.New()
	d, err := e.Create(e.ctx, "p", typ, id, attrs)
	require.NoError(e.t, err)
	require.Equal(e.t, id, d.UUID)
	return id
}

func (e *env) open(id uuid.UUID) *mdev.Session {
	s, err := e.Open(e.ctx, id, &mdev.SessionConfig{Name: "vm"})
	require.NoError(e.t, err)
	return s
}

// TestErrors: the table of the package comment, and that what fails changes
// nothing.
func TestErrors(t *testing.T) {
	unknown := uuid.New()
	one := func(e *env) (id uuid.UUID) { return e.create("one") }
	for name, row := range map[string]struct {
		do   func(e *env) error
		want error
		text string
	}{
		"RegisterParent: name without meaning": {
			func(e *env) error { return e.RegisterParent(e.parent("a/b")) }, errs.ErrInvalid, `"a/b" cannot be the name of a parent`},
		"RegisterParent: empty name": {
			func(e *env) error { return e.RegisterParent(e.parent("")) }, errs.ErrInvalid, `"" cannot be`},
		"RegisterParent: dots": {
			func(e *env) error { return e.RegisterParent(e.parent("..")) }, errs.ErrInvalid, `".." cannot be`},
		"RegisterParent: long name": {
			func(e *env) error { return e.RegisterParent(e.parent(strings.Repeat("x", 256))) }, errs.ErrInvalid, "256 bytes"},
		"RegisterParent: no types": {
			func(e *env) error { return e.RegisterParent(Parent{Name: "q"}) }, errs.ErrInvalid, "parent q has no types"},
		"RegisterParent: type twice": {
			func(e *env) error {
				p := e.parent("q")
				return e.RegisterParent(Parent{Name: "q", Types: append(p.Types, p.Types[1])})
			}, errs.ErrExists, "type many twice"},
		"RegisterParent: type without instances": {
			func(e *env) error {
				p := e.parent("q")
				p.Types[0].Instances = 0
				return e.RegisterParent(p)
			}, errs.ErrInvalid, "no instances"},
		"RegisterParent: name is taken": {
			func(e *env) error { return e.RegisterParent(e.parent("p")) }, errs.ErrExists, "parent p: already exists"},
		"UnregisterParent: unknown": {
			func(e *env) error { return e.UnregisterParent(e.ctx, "q") }, errs.ErrNotFound, "parent q: not found"},
		"Create: attributes past their limits": {
			func(e *env) error {
				_, err := e.Create(e.ctx, "p", "one", unknown, make([]Attr, MaxAttrs+1))
				return err
			}, errs.ErrInvalid, "1025 attributes, more than 1024"},
		"Create: large attributes": {
			func(e *env) error {
				_, err := e.Create(e.ctx, "p", "one", unknown, []Attr{{"a", strings.Repeat("x", 1<<20)}})
				return err
			}, errs.ErrInvalid, "attributes of 1048577 bytes"},
		"Create: unknown parent": {
			func(e *env) error { _, err := e.Create(e.ctx, "q", "one", unknown, nil); return err }, errs.ErrNotFound, "parent q: not found"},
		"Create: unknown type": {
			func(e *env) error { _, err := e.Create(e.ctx, "p", "none", unknown, nil); return err }, errs.ErrNotFound, "type none of parent p: not found"},
		"Create: UUID is taken": {
			func(e *env) error { _, err := e.Create(e.ctx, "p", "many", one(e), nil); return err }, errs.ErrExists, ": already exists"},
		"Create: UUID is taken under another parent": {
			func(e *env) error {
				id := one(e)
				require.NoError(e.t, e.RegisterParent(e.parent("q")))
				_, err := e.Create(e.ctx, "q", "one", id, nil)
				require.NoError(e.t, e.UnregisterParent(e.ctx, "q"))
				return err
			}, errs.ErrExists, ": already exists"},
		"Create: no instance left": {
			func(e *env) error { one(e); _, err := e.Create(e.ctx, "p", "one", unknown, nil); return err }, errs.ErrNoSpace, "no instance left"},
		"Create: no instance left, asked": {
			func(e *env) error {
				e.left.Store(0)
				_, err := e.Create(e.ctx, "p", "asked", unknown, nil)
				return err
			}, errs.ErrNoSpace, "type asked of parent p has no instance left"},
		"Create: the type refuses": {
			func(e *env) error {
				_, err := e.Create(e.ctx, "p", "one", unknown, []Attr{{"fail", "1"}})
				return err
			}, errs.ErrInvalid, "device " + unknown.String() + " of type one: attribute fail=1: invalid argument"},
		"Create: the device has another API": {
			func(e *env) error {
				_, err := e.Create(e.ctx, "p", "one", unknown, []Attr{{"api", "vfio-ccw"}})
				return err
			}, errs.ErrInvalid, "of API vfio-ccw, not vfio-pci"},
		"Remove: unknown": {
			func(e *env) error { return e.Remove(e.ctx, unknown) }, errs.ErrNotFound, "device " + unknown.String() + ": not found"},
		"Remove: held until ctx ended": {
			func(e *env) error {
				id := one(e)
				e.open(id)
				ctx, stop := context.WithTimeout(e.ctx, 5*time.Millisecond)
				defer stop()
				err := e.Remove(ctx, id)
				d, _ := e.Device(id)
				require.Equal(e.t, StateOpen, d.State)
				require.Equal(e.t, "vm", d.Holder)
				return err
			}, errs.ErrBusy, "is open by vm, who did not release it"},
		"Open: unknown": {
			func(e *env) error { _, err := e.Open(e.ctx, unknown, nil); return err }, errs.ErrNotFound, "not found"},
		"Open: open": {
			func(e *env) error { id := one(e); e.open(id); _, err := e.Open(e.ctx, id, nil); return err }, errs.ErrBusy, "is open by vm"},
		"Open: the device fails": {
			func(e *env) error {
				id := e.create("one", Attr{"open", ""})
				_, err := e.Open(e.ctx, id, nil)
				d, _ := e.Device(id)
				require.Equal(e.t, StateIdle, d.State)
				require.Empty(e.t, d.Holder)
				return err
			}, errs.ErrFault, "memory behind the mapping is gone"},
		"SetEndpoint: unknown": {
			func(e *env) error { return e.SetEndpoint(unknown, "x") }, errs.ErrNotFound, "not found"},
		"Device: unknown": {
			func(e *env) error { _, err := e.Device(unknown); return err }, errs.ErrNotFound, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			err := row.do(e)
			require.ErrorIs(t, err, row.want)
			require.ErrorContains(t, err, row.text)
			require.NotContains(t, err.Error(), "\n")
			_, err = e.Device(unknown)
			require.Error(t, err)
		})
	}
}

// TestUUIDForm: "writes a UUID (36 chars, or 37 with newline; else EINVAL)"
// [mdev_sysfs.c create_store].
func TestUUIDForm(t *testing.T) {
	const s = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	for in, ok := range map[string]bool{
		s:                                       true,
		s + "\n":                                true,
		strings.ToUpper(s):                      true,
		s + "\n\n":                              false,
		s + " ":                                 false,
		"":                                      false,
		s[:35]:                                  false,
		"{" + s + "}":                           false,
		"urn:uuid:" + s:                         false,
		s[:35] + "g":                            false,
		strings.Replace(s, "-", "_", 1):         false,
		strings.ReplaceAll(s, "-", "") + "0000": false,
	} {
		id, err := ParseUUID(in)
		if !ok {
			require.ErrorIs(t, err, errs.ErrInvalid, "%q", in)
			continue
		}
		require.NoError(t, err, "%q", in)
		require.Equal(t, s, id.String())
	}
}

// TestInstances: a device that could not be made takes no instance, one that
// is removed gives its back.
func TestInstances(t *testing.T) {
	e := newEnv(t)
	available := func(name string) int {
		i, err := e.FindType("", name)
		require.NoError(t, err)
		return i.Available
	}
	var ids []uuid.UUID
	for i := range 8 {
		require.Equal(t, 8-i, available("many"))
		ids = append(ids, e.create("many"))
	}
	require.Zero(t, available("many"))
	require.NoError(t, e.Remove(e.ctx, ids[0]))
	require.Equal(t, 1, available("many"))
	_, err := e.Create(e.ctx, "p", "many", ids[0], []Attr{{"fail", ""}})
	require.Error(t, err)
	require.Equal(t, 1, available("many"))
	_, err = e.Create(e.ctx, "p", "many", ids[0], nil)
	require.NoError(t, err)
	e.create("asked")
	require.Equal(t, 3, available("asked"))
}

// TestLimit: a registry holds no more devices than it was told.
func TestLimit(t *testing.T) {
	e := newEnv(t)
	e.cfg.MaxDevices = 2
	e.create("many")
	e.create("one")
	_, err := e.Create(e.ctx, "p", "many", uuid.New(), nil)
	require.ErrorIs(t, err, errs.ErrNoSpace)
	require.ErrorContains(t, err, "2 devices already")
}

// TestFindType: the parent may be left out where that leaves one type.
func TestFindType(t *testing.T) {
	e := newEnv(t)
	i, err := e.FindType("", "many")
	require.NoError(t, err)
	require.Equal(t, TypeInfo{Parent: "p", Name: "many", Title: "Many", Description: "as they come", API: mdev.APIPCI, Available: 8}, i)
	_, err = e.FindType("", "none")
	require.EqualError(t, err, "type none: not found (there are asked, many, one, pair)")
	_, err = e.FindType("q", "many")
	require.EqualError(t, err, "parent q: not found")
	require.NoError(t, e.RegisterParent(e.parent("q")))
	_, err = e.FindType("", "many")
	require.EqualError(t, err, "type many is offered by several parents (p, q), name one: already exists")
	i, err = e.FindType("q", "many")
	require.NoError(t, err)
	require.Equal(t, "q", i.Parent)
}

// TestGroups: a device has a group of its own, unless its type puts it with
// others; of one group, open devices share a container.
func TestGroups(t *testing.T) {
	e := newEnv(t)
	a, b, c := e.create("many"), e.create("pair"), e.create("pair")
	d := e.create("pair", Attr{"group", "other"})
	groups := e.Groups()
	require.Len(t, groups, 3)
	require.Equal(t, []uuid.UUID{a}, groups[0].Devices)
	require.Equal(t, "", groups[0].Name)
	require.ElementsMatch(t, []uuid.UUID{b, c}, groups[1].Devices)
	require.Equal(t, "pair", groups[1].Name)
	require.Equal(t, []uuid.UUID{d}, groups[2].Devices)

	s := e.open(b)
	_, err := e.Open(e.ctx, c, &mdev.SessionConfig{Name: "other"})
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "is of group 1, of which "+b.String()+" is open in another container by vm")
	e.open(a)
	e.open(d)
	require.NoError(t, s.Close(e.ctx))
	e.open(c)
	// A name is taken by the registry, so a wrong one is the type's error.
	_, err = e.Create(e.ctx, "p", "pair", uuid.New(), []Attr{{"group", "a/b"}})
	require.ErrorIs(t, err, errs.ErrInvalid)

	// The group goes with its last device, and its number does not come again.
	require.NoError(t, e.Session(c).Close(e.ctx))
	require.NoError(t, e.Remove(e.ctx, b))
	require.Len(t, e.Groups(), 3)
	require.NoError(t, e.Remove(e.ctx, c))
	require.Len(t, e.Groups(), 2)
	f := e.create("pair")
	info, err := e.Device(f)
	require.NoError(t, err)
	require.EqualValues(t, 3, info.Group)
}

// TestGroupOfOneBeingMade: a device that is being made is in no group, neither
// to be seen there nor to keep it.
func TestGroupOfOneBeingMade(t *testing.T) {
	e := newEnv(t)
	e.gate = make(chan struct{})
	first := e.create("one")
	id, made := uuid.New(), make(chan error, 1)
	go func() {
		_, err := e.Create(e.ctx, "p", "many", id, []Attr{{"wait", ""}})
		made <- err
	}()
	require.Eventually(t, func() bool { return e.state(id) == stateCreating }, 10*time.Second, time.Millisecond)
	require.Equal(t, []Group{{Number: 0, Devices: []uuid.UUID{first}}}, e.Groups())
	require.NoError(t, e.Remove(e.ctx, first))
	require.Empty(t, e.Groups())
	e.gate <- struct{}{}
	require.NoError(t, <-made)
	require.Equal(t, []Group{{Number: 1, Devices: []uuid.UUID{id}}}, e.Groups())
}

// TestEndpoint: where a device is served is seen, and goes with it.
func TestEndpoint(t *testing.T) {
	e := newEnv(t)
	id := e.create("one")
	require.NoError(t, e.SetEndpoint(id, "/run/x.sock"))
	seq := e.view().seq()
	require.NoError(t, e.SetEndpoint(id, "/run/x.sock"))
	require.Equal(t, seq, e.view().seq(), "nothing changed")
	d, err := e.Device(id)
	require.NoError(t, err)
	require.Equal(t, "/run/x.sock", d.Endpoint)
}

// TestOpener: a server's opener finds its device each time anew.
func TestOpener(t *testing.T) {
	e := newEnv(t)
	id := uuid.New()
	o := e.Opener(id)
	_, err := o.Open(e.ctx, nil)
	require.ErrorIs(t, err, errs.ErrNotFound)
	_, err = e.Create(e.ctx, "p", "one", id, nil)
	require.NoError(t, err)
	for range 2 {
		closed := 0
		s, err := o.Open(e.ctx, &mdev.SessionConfig{Closed: func() { closed++ }})
		require.NoError(t, err)
		require.Same(t, s, e.Session(id))
		require.NoError(t, s.Close(e.ctx))
		require.NoError(t, s.Close(e.ctx))
		require.Equal(t, 1, closed)
		require.Nil(t, e.Session(id))
	}
}

// TestOpenFails: whichever step of an open fails, the device is idle
// afterwards and can be opened.
func TestOpenFails(t *testing.T) {
	e := newEnv(t)
	id := e.create("one")
	fired := fault.Sweep(t, func(p *fault.Points) error {
		s, err := e.Open(e.ctx, id, &mdev.SessionConfig{Name: "vm", Fault: p})
		if err == nil {
			err = s.Close(e.ctx)
		}
		return err
	}, func() {
		require.Eventually(t, func() bool { return e.state(id) == StateIdle }, 10*time.Second, time.Millisecond)
		require.Nil(t, e.Session(id))
		require.NoError(t, e.open(id).Close(e.ctx))
	})
	require.NotEmpty(t, fired)
}
