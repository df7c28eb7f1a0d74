//go:build linux

package vfiouser

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
)

// dialRaw connects to path, once somebody listens there.
func dialRaw(t testing.TB, path string) *socketEnd {
	t.Helper()
	for range 1000 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			return newSocketEnd(t, fd)
		}
		unix.Close(fd)
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("nobody listens at %s", path)
	return nil
}

func (p *socketEnd) version(t testing.TB) {
	t.Helper()
	p.write(frame(1, wire.CmdVersion, 0, wire.Version{}.Append(nil)))
	h, _, _ := p.next()
	require.Equal(t, wire.Header{ID: 1, Command: wire.CmdVersion, Size: 20, Flags: wire.TypeReply}, h)
}

// TestListenAndServe: specs, "Session life": after one client the next; the
// socket is gone when the server is.
func TestListenAndServe(t *testing.T) {
	noLeaks(t)
	dev := newRigDevice(t)
	s, err := NewServer(OpenDevice(dev), nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sock")
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe(context.Background(), path) }()

	for i := range 3 {
		p := dialRaw(t, path)
		p.version(t)
		require.Equal(t, [2]int{i + 1, i}, dev.openings())
		waiting := dialRaw(t, path) // one that comes meanwhile is served next
		waiting.write(frame(1, wire.CmdVersion, 0, wire.Version{}.Append(nil)))
		p.close()
		waiting.next()
		require.Equal(t, [2]int{i + 2, i + 1}, dev.openings())
		dev.mu.Lock()
		dev.opens, dev.closes = i+1, i
		dev.mu.Unlock()
		waiting.close()
	}
	last := dialRaw(t, path)
	last.version(t)
	session := s.Session()
	require.NoError(t, s.Close())
	require.NoError(t, <-served)
	last.eof()
	mdevtest.Check(t, session)
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorIs(t, s.ListenAndServe(context.Background(), path), errs.ErrGone)
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, s.Close())
}

// TestServe: on a descriptor that was passed in, which stays its owner's; ends
// with its context, with a client and without.
func TestServe(t *testing.T) {
	noLeaks(t)
	s, err := NewServer(OpenDevice(newRigDevice(t)), nil)
	require.NoError(t, err)
	defer s.Close()
	l, err := Listen(filepath.Join(t.TempDir(), "sock"))
	require.NoError(t, err)
	defer l.Close()
	for _, connected := range []bool{false, true} {
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l.FD()) }()
		if connected {
			dialRaw(t, l.Path()).version(t)
		}
		cancel()
		require.NoError(t, <-served)
	}
	_, err = unix.FcntlInt(uintptr(l.FD()), unix.F_GETFD, 0)
	require.NoError(t, err, "still open")
	pipe := make([]int, 2)
	require.NoError(t, unix.Pipe2(pipe, unix.O_CLOEXEC))
	unix.Close(pipe[1])
	defer unix.Close(pipe[0])
	require.Error(t, s.Serve(context.Background(), pipe[0]), "not a socket")
	require.Error(t, s.Serve(context.Background(), -1))
}

// TestListen: what is in the way is replaced only if nobody is there.
func TestListen(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	a, err := Listen(path)
	require.NoError(t, err)
	_, err = Listen(path)
	require.ErrorIs(t, err, errs.ErrExists, "somebody listens")
	unix.Close(a.fd) // as a server that was killed
	time.Sleep(30 * time.Millisecond)
	b, err := Listen(path)
	require.NoError(t, err)
	a.fd = -1
	a.Close()
	_, err = os.Lstat(path)
	require.NoError(t, err, "the file is b's now")
	require.NoError(t, b.Close())
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, os.ErrNotExist)

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	_, err = Listen(file)
	require.ErrorIs(t, err, errs.ErrExists)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "precious", string(content))

	for _, bad := range []string{filepath.Join(dir, "no", "such", "dir"), filepath.Join(dir, strings.Repeat("x", 108))} {
		_, err = Listen(bad)
		require.Error(t, err)
		require.ErrorContains(t, err, bad)
	}
}

// TestOneClient: a second client at the same time is refused.
func TestOneClient(t *testing.T) {
	r := negotiated(t, nil)
	x, y := socketPair(t)
	p := newSocketEnd(t, x)
	require.ErrorIs(t, r.s.ServeConn(context.Background(), y), errs.ErrBusy)
	p.eof()
	r.alive()
	require.True(t, r.s.Stats().Connected)
}

// TestServeConnEnds: with its context and with the server, whatever the client
// does; the descriptor is closed in any case.
func TestServeConnEnds(t *testing.T) {
	t.Run("context", func(t *testing.T) {
		noLeaks(t)
		s, err := NewServer(OpenDevice(newRigDevice(t)), nil)
		require.NoError(t, err)
		defer s.Close()
		x, y := socketPair(t)
		p := newSocketEnd(t, x)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.ServeConn(ctx, y) }()
		p.version(t)
		cancel()
		require.ErrorIs(t, <-served, context.Canceled)
		p.eof()
	})
	t.Run("server closed before VERSION", func(t *testing.T) {
		r := newRig(t, nil)
		require.NoError(t, r.s.Close())
		require.Error(t, r.wait())
		r.eof()
	})
	t.Run("server closed in an access by message", func(t *testing.T) {
		r := negotiated(t, nil)
		require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
		done := r.startDMA(0x10000, make([]byte, 4), false)
		r.next()
		session := r.s.Session()
		require.NoError(t, r.s.Close())
		require.Error(t, <-done)
		mdevtest.Check(t, session)
	})
	t.Run("server closed already", func(t *testing.T) {
		r := newRig(t, nil)
		require.NoError(t, r.s.Close())
		x, y := socketPair(t)
		p := newSocketEnd(t, x)
		require.ErrorIs(t, r.s.ServeConn(context.Background(), y), errs.ErrGone)
		p.eof()
	})
	t.Run("not a socket", func(t *testing.T) {
		r := newRig(t, nil)
		fd := memFile(t, 0)
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		require.Error(t, r.s.ServeConn(context.Background(), dup))
	})
}

// TestServerConfig: what is out of bounds is refused.
func TestServerConfig(t *testing.T) {
	for name, cfg := range map[string]ServerConfig{
		"MaxData":     {MaxData: 64<<20 + 1},
		"MaxFDs":      {MaxFDs: 17},
		"MaxMaps":     {MaxMaps: 65536},
		"MaxQueue":    {MaxQueue: -1},
		"MessageTime": {MessageTime: -1},
		"SendTime":    {SendTime: time.Microsecond},
		"DMATime":     {DMATime: -time.Second},
		"store":       {Session: mdev.SessionConfig{Store: new(translate.Store)}},
	} {
		_, err := NewServer(nil, &cfg)
		require.ErrorIs(t, err, errs.ErrInvalid)
		require.ErrorContains(t, err, name)
	}
	s, err := NewServer(nil, nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Nil(t, s.Session())
	require.Zero(t, s.Stats())
}
