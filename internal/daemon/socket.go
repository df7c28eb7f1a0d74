package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// MaxSocketPath is the length in bytes that a UNIX socket's path may have:
// sun_path less its terminator [unix(7)].
const MaxSocketPath = 107

// backlog is how many clients may wait to be accepted.
const backlog = 64

// Socket is a UNIX stream socket, listening or connected.
type Socket struct {
	// Name says where it is: its absolute path, or "fd:3".
	Name string
	// Listening says that clients connect to it; else it is connected to
	// the one client that it will have.
	Listening bool

	fd       int
	path     string // made by Listen; empty else
	dev, ino uint64 // of the file at path
	once     sync.Once
}

// Listen makes a socket at path, with the rights of mode from the moment it is
// there, and listens on it. A socket that nobody listens on is replaced;
// errs.ErrBusy if somebody does, errs.ErrExists if there is something else.
func Listen(path string, mode fs.FileMode) (_ *Socket, err error) {
	if path == "" || len(path) > MaxSocketPath {
		return nil, fmt.Errorf("%s: a socket's path has 1 to %d bytes: %w", path, MaxSocketPath, errs.ErrInvalid)
	}
	// Two that find the same old socket must not remove each other's new
	// one, so looking, removing and binding are one step.
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer unlock()
	if err := clearPath(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: socket: %w", path, err)
	}
	s := &Socket{Name: path, Listening: true, fd: fd}
	if abs, err := filepath.Abs(path); err == nil {
		s.Name = abs // for those who are elsewhere; as given, it may be shorter
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	// The file that bind makes has the rights of the socket itself, less
	// the umask, so it is never open to more than mode says.
	if err := unix.Fchmod(fd, uint32(mode.Perm())); err != nil {
		return nil, fmt.Errorf("%s: chmod: %w", path, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, fmt.Errorf("%s: bind: %w", path, err)
	}
	s.path = path
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.dev, s.ino = uint64(st.Dev), st.Ino
	if err := unix.Chmod(path, uint32(mode.Perm())); err != nil { // what the umask took away
		return nil, fmt.Errorf("%s: chmod: %w", path, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, fmt.Errorf("%s: listen: %w", path, err)
	}
	return s, nil
}

// FromFD takes over a file descriptor that is a UNIX stream socket, listening
// or connected. Where it is something else, it stays the caller's.
func FromFD(fd int) (*Socket, error) {
	name := fmt.Sprintf("fd:%d", fd)
	option := func(what int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, what) }
	domain, err := option(unix.SO_DOMAIN)
	switch {
	case errors.Is(err, unix.EBADF):
		return nil, fmt.Errorf("%s is not open: %w", name, errs.ErrInvalid)
	case err != nil:
		return nil, fmt.Errorf("%s is not a socket: %w", name, errs.ErrInvalid)
	}
	kind, _ := option(unix.SO_TYPE)
	if domain != unix.AF_UNIX || kind != unix.SOCK_STREAM {
		return nil, fmt.Errorf("%s is not a UNIX stream socket: %w", name, errs.ErrInvalid)
	}
	listening, _ := option(unix.SO_ACCEPTCONN)
	if _, err := unix.Getpeername(fd); listening == 0 && err != nil {
		return nil, fmt.Errorf("%s neither listens nor is connected: %w", name, errs.ErrInvalid)
	}
	unix.CloseOnExec(fd)
	return &Socket{Name: name, Listening: listening != 0, fd: fd}, nil
}

// Close closes the socket and removes its file, if that is still the one that
// Listen made.
func (s *Socket) Close() {
	s.once.Do(func() {
		if s.path != "" {
			s.unlink()
		}
		if s.fd >= 0 {
			unix.Close(s.fd)
		}
	})
}

// takeFD hands the descriptor over; Close removes the file only.
func (s *Socket) takeFD() int {
	fd := s.fd
	s.fd = -1
	return fd
}

// listener is a copy of the socket for package net. The socket itself stays
// open until its file is removed: as long as it is, no other file can have the
// number by which that is recognized.
func (s *Socket) listener() (net.Listener, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), s.Name)
	defer f.Close()
	return net.FileListener(f) // makes a copy of its own
}

func (s *Socket) unlink() {
	unlock, err := lockDir(filepath.Dir(s.path))
	if err != nil {
		return // it will be found to be old
	}
	defer unlock()
	var st unix.Stat_t
	if unix.Lstat(s.path, &st) == nil && uint64(st.Dev) == s.dev && st.Ino == s.ino {
		_ = os.Remove(s.path)
	}
}

// clearPath removes a socket that nobody listens on.
func clearPath(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%s is there and is no socket: %w", path, errs.ErrExists)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%s: socket: %w", path, err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case unix.ECONNREFUSED:
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("socket that nobody listens on: %w", err)
		}
		return nil
	case nil, unix.EAGAIN: // EAGAIN: its queue is full
		return fmt.Errorf("%s: somebody listens on it: %w", path, errs.ErrBusy)
	default:
		return fmt.Errorf("%s: is there, and connect says: %w", path, err)
	}
}

// lockDir keeps other processes that use this function out of a folder.
func lockDir(dir string) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			unix.Close(fd)
			return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
		}
	}
}

// RunDir is the folder for sockets where none is named: /run/mdev for root,
// mdev in $XDG_RUNTIME_DIR for others, mdev-<uid> in the folder for temporary
// files where that is not set.
func RunDir() string {
	if os.Geteuid() == 0 {
		return "/run/mdev"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mdev")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("mdev-%d", os.Geteuid()))
}

// ControlPath is the control socket where none is named.
func ControlPath() string { return filepath.Join(RunDir(), "control.sock") }

// MakeDir makes a folder for sockets, which others cannot enter, or checks
// one that is there: it must belong to this user or root, and others must not
// be able to write to it.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: %w", dir, st.Uid, errs.ErrPermission)
	}
	if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fmt.Errorf("%s can be written by everybody: %w", dir, errs.ErrPermission)
	}
	return nil
}
