package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// TestListen: the socket has its rights from the start whatever the umask, and
// goes when it is closed.
func TestListen(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "s")
	for _, mode := range []os.FileMode{0o600, 0o660, 0o666} {
		s, err := Listen(path, mode)
		require.NoError(t, err)
		require.True(t, s.Listening)
		require.Equal(t, path, s.Name)
		st, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.ModeSocket|mode, st.Mode())
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		c.Close()
		s.Close()
		s.Close()
		require.NoFileExists(t, path)
	}
}

// TestListenRelative: others are told the whole path.
func TestListenRelative(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s, err := Listen("s", 0o600)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "s"), s.Name)
	s.Close()
	require.NoFileExists(t, s.Name)
}

// TestListenOverOld: a socket that nobody listens on is replaced; what somebody
// uses, and what is no socket, is left alone.
func TestListenOverOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(path, 0o600)
	require.NoError(t, err)

	_, err = Listen(path, 0o600)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.EqualError(t, err, path+": somebody listens on it: busy")

	// Its queue full, it is still one that somebody listens on.
	fill := func() (fds []int) {
		for {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			fds = append(fds, fd)
			if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) != nil {
				return fds
			}
		}
	}
	for _, fd := range fill() {
		defer unix.Close(fd)
	}
	_, err = Listen(path, 0o600)
	require.ErrorIs(t, err, errs.ErrBusy)

	// As a process leaves it that is killed. The link keeps the number of
	// its inode, as the socket does while it is open.
	require.NoError(t, os.Link(path, path+".link"))
	unix.Close(s.fd)
	s.fd = -1
	next, err := Listen(path, 0o600)
	require.NoError(t, err)
	s.Close() // its file is no longer there
	require.FileExists(t, path)
	next.Close()
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err = Listen(path, 0o600)
	require.ErrorIs(t, err, errs.ErrExists)
	require.FileExists(t, path)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("elsewhere", path))
	_, err = Listen(path, 0o600)
	require.ErrorIs(t, err, errs.ErrExists)
}

// TestListenRace: of those who find an old socket and want its place, one gets
// it and keeps it.
func TestListenRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 30 {
		old, err := Listen(path, 0o600)
		require.NoError(t, err)
		unix.Close(old.fd)
		old.fd = -1
		var won atomic.Pointer[Socket]
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s, err := Listen(path, 0o600)
				switch {
				case err == nil && !won.CompareAndSwap(nil, s):
					t.Error("two have it")
				case err != nil && errs.Errno(err) != unix.EBUSY:
					t.Errorf("lost by %v", err)
				}
			})
		}
		wg.Wait()
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		c.Close()
		won.Load().Close()
	}
}

// TestListenBad: paths that cannot be, each with its reason.
func TestListenBad(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"":                                   "a socket's path has 1 to 107 bytes",
		dir + "/" + strings.Repeat("x", 107): "a socket's path has 1 to 107 bytes",
		dir + "/none/s":                      "open " + dir + "/none: no such file or directory",
	} {
		_, err := Listen(path, 0o600)
		require.ErrorContains(t, err, text)
	}
	path := dir + "/" + strings.Repeat("y", MaxSocketPath-len(dir)-1)
	require.Len(t, path, MaxSocketPath)
	s, err := Listen(path, 0o600)
	require.NoError(t, err)
	s.Close()
}

// TestFromFD: what may be inherited; what may not stays open.
func TestFromFD(t *testing.T) {
	pair := func(kind int) int {
		fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fds[1]) })
		return fds[0]
	}
	socket := func(domain int) int {
		fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		return fd
	}
	file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	for text, fd := range map[string]int{
		"is not a UNIX stream socket":       pair(unix.SOCK_DGRAM),
		"neither listens nor is connected":  socket(unix.AF_UNIX),
		"is not a UNIX stream socket: inva": socket(unix.AF_INET),
		"is not a socket":                   file,
		"fd:-1 is not open":                 -1,
		"fd:54321 is not open":              54321,
	} {
		_, err := FromFD(fd)
		require.ErrorIs(t, err, errs.ErrInvalid)
		require.ErrorContains(t, err, text)
		if fd >= 0 && fd < 54321 {
			require.NoError(t, unix.Close(fd), "it stays the caller's")
		}
	}
	fd := pair(unix.SOCK_STREAM)
	s, err := FromFD(fd)
	require.NoError(t, err)
	require.False(t, s.Listening)
	require.Equal(t, fmt.Sprintf("fd:%d", fd), s.Name)
	s.Close()
	require.Error(t, unix.Close(fd))

	l, err := Listen(filepath.Join(t.TempDir(), "s"), 0o600)
	require.NoError(t, err)
	defer l.Close()
	fd, err = unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD, 3)
	require.NoError(t, err)
	s, err = FromFD(fd)
	require.NoError(t, err)
	require.True(t, s.Listening)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.Equal(t, unix.FD_CLOEXEC, flags)
	s.Close()
}

// TestMakeDir: made for its owner alone; refused where others could put a
// socket of theirs in our place.
func TestMakeDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, MakeDir(dir))
	st, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, st.Mode())
	require.NoError(t, MakeDir(dir))
	require.NoError(t, os.Chmod(dir, 0o777))
	require.ErrorIs(t, MakeDir(dir), errs.ErrPermission)
	require.NoError(t, os.Chmod(dir, os.ModeSticky|0o777))
	require.NoError(t, MakeDir(dir))
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, MakeDir(file))
}

// TestRunDir: where sockets are that nobody named.
func TestRunDir(t *testing.T) {
	if os.Geteuid() == 0 {
		require.Equal(t, "/run/mdev", RunDir())
	} else {
		t.Setenv("XDG_RUNTIME_DIR", "/x")
		require.Equal(t, "/x/mdev", RunDir())
		t.Setenv("XDG_RUNTIME_DIR", "")
		require.Equal(t, filepath.Join(os.TempDir(), fmt.Sprintf("mdev-%d", os.Geteuid())), RunDir())
	}
	require.Equal(t, filepath.Join(RunDir(), "control.sock"), ControlPath())
}
