package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
)

// TestTransitions is the life of a device as a table: what each operation does
// in each state, and in what state it leaves the device.
func TestTransitions(t *testing.T) {
	const none = State(255)
	e := newEnv(t)
	e.gate = make(chan struct{})

	// Brings a new device of a type that has room into a state; end undoes
	// what holds it there.
	enter := map[State]func() (id uuid.UUID, end func()){
		none: func() (uuid.UUID, func()) { return uuid.New(), func() {} },
		stateCreating: func() (uuid.UUID, func()) {
			id, done := uuid.New(), make(chan error, 1)
			go func() {
				_, err := e.Create(e.ctx, "p", "many", id, []Attr{{"wait", ""}})
				done <- err
			}()
			require.Eventually(t, func() bool { _, ok := e.view().device(id); return ok }, 10*time.Second, time.Millisecond)
			return id, func() { e.gate <- struct{}{}; require.NoError(t, <-done) }
		},
		StateIdle: func() (uuid.UUID, func()) { return e.create("many"), func() {} },
		StateOpen: func() (uuid.UUID, func()) {
			id := e.create("many")
			s := e.open(id)
			return id, func() { require.NoError(t, s.Close(context.Background())) }
		},
		StateRemoving: func() (uuid.UUID, func()) {
			id := e.create("many")
			s := e.open(id)
			ctx, stop := context.WithCancel(e.ctx)
			done := make(chan error, 1)
			go func() { done <- e.Remove(ctx, id) }()
			require.Eventually(t, func() bool { return e.state(id) == StateRemoving }, 10*time.Second, time.Millisecond)
			return id, func() {
				stop()
				<-done
				require.NoError(t, s.Close(context.Background()))
			}
		},
	}
	expired, cancel := context.WithCancel(context.Background())
	cancel()
	ops := map[string]func(id uuid.UUID) error{
		"create": func(id uuid.UUID) error { _, err := e.Create(e.ctx, "p", "many", id, nil); return err },
		"open":   func(id uuid.UUID) error { _, err := e.Open(e.ctx, id, nil); return err },
		"remove": func(id uuid.UUID) error { return e.Remove(expired, id) },
		"close": func(id uuid.UUID) error {
			s := e.Session(id)
			if s == nil {
				return errNoSession
			}
			return s.Close(e.ctx)
		},
		"serve": func(id uuid.UUID) error { return e.SetEndpoint(id, "somewhere") },
	}
	for _, row := range []struct {
		from State
		op   string
		err  error
		to   State
	}{
		{none, "create", nil, StateIdle},
		{none, "open", errs.ErrNotFound, none},
		{none, "remove", errs.ErrNotFound, none},
		{none, "close", errNoSession, none},
		{none, "serve", errs.ErrNotFound, none},
		{stateCreating, "create", errs.ErrExists, stateCreating},
		{stateCreating, "open", errs.ErrAgain, stateCreating},
		{stateCreating, "remove", errs.ErrAgain, stateCreating},
		{stateCreating, "close", errNoSession, stateCreating},
		{stateCreating, "serve", errs.ErrNotFound, stateCreating},
		{StateIdle, "create", errs.ErrExists, StateIdle},
		{StateIdle, "open", nil, StateOpen},
		{StateIdle, "remove", nil, none},
		{StateIdle, "close", errNoSession, StateIdle},
		{StateIdle, "serve", nil, StateIdle},
		{StateOpen, "create", errs.ErrExists, StateOpen},
		{StateOpen, "open", errs.ErrBusy, StateOpen},
		{StateOpen, "remove", errs.ErrBusy, StateOpen},
		{StateOpen, "close", nil, StateIdle},
		{StateOpen, "serve", nil, StateOpen},
		{StateRemoving, "create", errs.ErrExists, StateRemoving},
		{StateRemoving, "open", errs.ErrGone, StateRemoving},
		{StateRemoving, "remove", errs.ErrAgain, StateRemoving},
		{StateRemoving, "close", nil, none},
		{StateRemoving, "serve", nil, StateRemoving},
	} {
		t.Run(row.from.String()+" "+row.op, func(t *testing.T) {
			id, end := enter[row.from]()
			require.Equal(t, row.from, e.state(id))
			require.ErrorIs(t, ops[row.op](id), row.err)
			if row.to == none {
				require.Eventually(t, func() bool { return e.state(id) == none }, 10*time.Second, time.Millisecond)
			}
			require.Equal(t, row.to, e.state(id))
			end()
			if s := e.Session(id); s != nil {
				require.NoError(t, s.Close(e.ctx))
			}
			if err := e.Remove(e.ctx, id); err != nil {
				require.ErrorIs(t, err, errs.ErrNotFound)
			}
		})
	}
}

var errNoSession = errors.New("no session")

// state is the state of a device, 255 where there is none.
func (e *env) state(id uuid.UUID) State {
	row, ok := e.view().device(id)
	if !ok {
		return 255
	}
	return row.State
}

// TestStateNames: each state and operation has a name of its own.
func TestStateNames(t *testing.T) {
	seen := make(map[string]bool)
	for s := stateCreating; s <= StateRemoving; s++ {
		require.False(t, seen[s.String()])
		seen[s.String()] = true
	}
	require.Equal(t, "unknown", State(99).String())
	for o := Present; o <= Removed; o++ {
		require.False(t, seen[o.String()])
		seen[o.String()] = true
	}
	require.Equal(t, "unknown", Op(99).String())
}
