package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
	"github.com/softmdev/softmdev/mdev/vfiouser"
)

// create makes a device.
func (e *env) create() uuid.UUID {
	d, err := e.Create(e.t.Context(), Spec{Type: "few"})
	require.NoError(e.t, err)
	return d.UUID
}

// serve serves a device and returns the path of its socket.
func (e *env) serve(id uuid.UUID) string {
	d, err := e.Start(e.t.Context(), id, nil)
	require.NoError(e.t, err)
	return d.Endpoint
}

// dial connects to a served device.
func (e *env) dial(path string) *vfiouser.Client {
	c, err := vfiouser.Dial(e.t.Context(), path, nil)
	require.NoError(e.t, err)
	e.t.Cleanup(func() { _ = c.Close() })
	return c
}

// becomes waits for the state of a device.
func (e *env) becomes(id uuid.UUID, want registry.State) registry.Device {
	var d registry.Device
	require.Eventually(e.t, func() bool {
		d, _ = e.Registry().Device(id)
		return d.State == want
	}, 10*time.Second, time.Millisecond)
	return d
}

// gone waits for the end of a connection.
func gone(t *testing.T, c *vfiouser.Client) {
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the client was not cut off")
	}
}

// TestClients: one after the other, each has the device whole, and what it holds
// stays.
func TestClients(t *testing.T) {
	e := newEnv(t)
	id := e.create()
	path := e.serve(id)
	for i := range 3 {
		c := e.dial(path)
		var b [1]byte
		require.NoError(t, c.Read(t.Context(), mdev.BAR0, 7, b[:]))
		require.EqualValues(t, i, b[0])
		require.NoError(t, c.Write(t.Context(), mdev.BAR0, 7, []byte{byte(i + 1)}))
		d := e.becomes(id, registry.StateOpen)
		require.Equal(t, "client of "+path, d.Holder)
		live := e.Live()
		require.Len(t, live, 1)
		require.NotNil(t, live[0].Session)
		require.NotNil(t, live[0].Server)
		require.True(t, live[0].Server.Connected)
		require.NoError(t, c.Close())
		e.becomes(id, registry.StateIdle)
	}
	require.Nil(t, e.Live()[0].Session)
}

// TestStop: a client keeps its device, unless it is taken by force.
func TestStop(t *testing.T) {
	e := newEnv(t)
	id := e.create()
	path := e.serve(id)
	c := e.dial(path)
	require.NoError(t, c.Write(t.Context(), mdev.BAR0, 0, []byte{42}))
	require.ErrorIs(t, e.Stop(id, false), errs.ErrBusy)
	require.NoError(t, e.Stop(id, true))
	gone(t, c)
	require.NoFileExists(t, path)
	d, err := e.Registry().Device(id)
	require.NoError(t, err)
	require.Equal(t, registry.StateIdle, d.State)
	require.Empty(t, d.Endpoint)

	c = e.dial(e.serve(id))
	var b [1]byte
	require.NoError(t, c.Read(t.Context(), mdev.BAR0, 0, b[:]))
	require.EqualValues(t, 42, b[0], "the device is the same")
}

// TestRemove: a client is asked and has its time; when that is over the device
// stays; force does not ask.
func TestRemove(t *testing.T) {
	e := newEnv(t)
	id := e.create()
	path := e.serve(id)
	c := e.dial(path)
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(event)
	require.NoError(t, c.SetIRQs(t.Context(), mdev.IRQRequest{
		Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: mdev.IRQREQ, Count: 1, FDs: []int{event},
	}))
	err = e.client.Remove(t.Context(), id, 10*time.Millisecond, false)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "is open by client of "+path+", who did not release it: busy: waited 10ms")
	var count [8]byte
	_, err = unix.Read(event, count[:])
	require.NoError(t, err)
	require.NoError(t, c.Write(t.Context(), mdev.BAR0, 0, []byte{1}), "the client has it still")

	// A client that lets go while it is asked.
	done := make(chan error, 1)
	go func() { done <- e.client.Remove(t.Context(), id, 10*time.Second, false) }()
	e.becomes(id, registry.StateRemoving)
	require.NoError(t, c.Close())
	require.NoError(t, <-done)
	require.NoFileExists(t, path)

	id = e.create()
	c = e.dial(e.serve(id))
	require.NoError(t, e.client.Remove(t.Context(), id, 0, true))
	gone(t, c)
}

// TestRemoveGivesUp: when whoever asked for a removal goes, it ends.
func TestRemoveGivesUp(t *testing.T) {
	e := newEnv(t)
	id := e.create()
	e.dial(e.serve(id))
	e.becomes(id, registry.StateOpen)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.client.Remove(ctx, id, time.Minute, false) }()
	e.becomes(id, registry.StateRemoving)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	e.becomes(id, registry.StateOpen)
}

// TestConnected: a socket that is connected has one client, with whom the
// serving ends.
func TestConnected(t *testing.T) {
	e := newEnv(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	sock, err := FromFD(fds[0])
	require.NoError(t, err)
	id := e.create()
	_, err = e.Start(t.Context(), id, sock)
	require.NoError(t, err)
	c, err := vfiouser.NewClient(t.Context(), fds[1], nil)
	require.NoError(t, err)
	d := e.becomes(id, registry.StateOpen)
	require.Equal(t, fmt.Sprintf("fd:%d", fds[0]), d.Endpoint)
	waited := make(chan error, 1)
	go func() { waited <- e.Wait(t.Context()) }()
	require.NoError(t, c.Close())
	require.NoError(t, <-waited)
	require.ErrorIs(t, e.Stop(id, false), errs.ErrNotFound)
}

// TestServerFails: a server that cannot go on is reported by Wait, once no other
// is left.
func TestServerFails(t *testing.T) {
	e := newEnv(t)
	good, bad := e.create(), e.create()
	e.serve(good)
	sock, err := Listen(filepath.Join(e.dir, "s"), 0o600)
	require.NoError(t, err)
	_, err = e.Start(t.Context(), bad, sock)
	require.NoError(t, err)
	waited := make(chan error, 1)
	go func() { waited <- e.Wait(t.Context()) }()
	require.NoError(t, unix.Shutdown(sock.fd, unix.SHUT_RDWR)) // accept fails from now on
	require.Eventually(t, func() bool {
		d, err := e.Registry().Device(bad)
		return err == nil && d.Endpoint == ""
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, waited)
	require.NoError(t, e.Stop(good, false))
	require.ErrorContains(t, <-waited, "device "+bad.String()+" on "+sock.Name+": accept:")
}

// TestWait: ends with its context, too.
func TestWait(t *testing.T) {
	e := newEnv(t)
	require.NoError(t, e.Wait(t.Context()), "nothing is served")
	e.serve(e.create())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.NoError(t, e.Wait(ctx))
}

// TestCloseWithClients: who is connected loses the device; who holds one in this
// process is waited for and named.
func TestCloseWithClients(t *testing.T) {
	e := newEnv(t)
	var clients []*vfiouser.Client
	for range 2 {
		clients = append(clients, e.dial(e.serve(e.create())))
	}
	held := e.create()
	s, err := e.Registry().Open(t.Context(), held, &mdev.SessionConfig{Name: "an embedder"})
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	err = e.Close(ctx)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "daemon does not end: parent p stays: device "+held.String()+" is open by an embedder")
	for _, c := range clients {
		gone(t, c)
	}
	_, err = e.Start(t.Context(), held, nil)
	require.ErrorIs(t, err, errs.ErrGone)
	require.NoError(t, s.Close(t.Context()))
}

// TestStartRemoveRace: a device that is started and removed at one moment is
// gone in the end, with its socket and its server.
func TestStartRemoveRace(t *testing.T) {
	e := newEnv(t)
	for i := range 60 {
		id := e.create()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := e.Start(t.Context(), id, nil)
			if err != nil {
				require.ErrorIs(t, err, errs.ErrNotFound)
			}
		})
		wg.Go(func() { require.NoError(t, e.Remove(t.Context(), id, i%2 == 0)) })
		wg.Wait()
		e.mu.Lock()
		n := len(e.served)
		e.mu.Unlock()
		require.Zero(t, n)
		require.Empty(t, e.Registry().List())
	}
}

// TestRecord: what records a device is asked for when it is started.
func TestRecord(t *testing.T) {
	e := newEnv(t)
	var asked []uuid.UUID
	e.cfg.Record = func(d registry.Device) (mdev.Recorder, error) {
		asked = append(asked, d.UUID)
		return nil, nil
	}
	id := e.create()
	e.serve(id)
	require.Equal(t, []uuid.UUID{id}, asked)
}
