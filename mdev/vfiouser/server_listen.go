//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Listener is a listening UNIX socket in the file system.
type Listener struct {
	fd   int
	path string
	stat unix.Stat_t // of the file that is ours
}

// backlog is how many clients may wait while one is served.
const backlog = 16

// Listen makes the UNIX stream socket path. A socket that is there already, but
// whose owner is gone, is replaced; anything else in its place is
// errs.ErrExists.
func Listen(path string) (*Listener, error) {
	fail := func(err error) (*Listener, error) {
		return nil, &os.PathError{Op: "listen", Path: path, Err: err}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	l := &Listener{fd: fd, path: path}
	name := &unix.SockaddrUnix{Name: path}
	if err = unix.Bind(fd, name); err == unix.EADDRINUSE {
		if err = removeStale(path); err == nil {
			err = unix.Bind(fd, name)
		}
	}
	if err == nil {
		err = unix.Stat(path, &l.stat)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return fail(err)
	}
	return l, nil
}

// removeStale removes the socket path if nobody listens there.
func removeStale(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("not a socket: %w", errs.ErrExists)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != unix.ECONNREFUSED {
		return fmt.Errorf("somebody listens: %w", errs.ErrExists)
	}
	return unix.Unlink(path)
}

// FD is the listening descriptor. It stays the Listener's.
func (l *Listener) FD() int { return l.fd }

// Path is where it listens.
func (l *Listener) Path() string { return l.path }

// Close closes the socket and removes its file, unless another has taken its
// place.
func (l *Listener) Close() error {
	var st unix.Stat_t
	// The number of a file that is gone is soon that of another, its birthday
	// is not. (The time of change is, with the owner or the mode.)
	if err := unix.Lstat(l.path, &st); err == nil &&
		st.Dev == l.stat.Dev && st.Ino == l.stat.Ino && st.Mtim == l.stat.Mtim {
		_ = unix.Unlink(l.path) // if it cannot be, the next Listen will
	}
	return unix.Close(l.fd)
}

// ListenAndServe makes the UNIX socket path, serves clients on it until ctx is
// done or the server is closed, and removes it.
func (s *Server) ListenAndServe(ctx context.Context, path string) error {
	l, err := Listen(path)
	if err != nil {
		return err
	}
	defer l.Close()
	return s.Serve(ctx, l.FD())
}

// Serve accepts clients on the listening UNIX stream socket fd, one at a time,
// until ctx is done or the server is closed; the result is then nil. fd stays
// the caller's; it is made non-blocking. A client that is lost is logged, and
// the next one served.
func (s *Server) Serve(ctx context.Context, fd int) error {
	ctx, done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("listening socket: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(wake, []byte{1, 1, 1, 1, 1, 1, 1, 1})
	})
	defer func() {
		if !stop() {
			<-woken
		}
		unix.Close(wake)
	}()
	for ctx.Err() == nil {
		client, err := accept(fd, wake)
		switch {
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		case client < 0 || ctx.Err() != nil:
			if client >= 0 {
				unix.Close(client)
			}
		default:
			_ = s.ServeConn(ctx, client) // which has logged what there is to say
		}
	}
	return nil
}

// accept waits for a client. It returns -1 when it is to look whether to go on.
func accept(fd, wake int) (int, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
		return -1, err
	}
	if fds[0].Revents == 0 {
		return -1, nil
	}
	if fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return -1, fmt.Errorf("socket was shut down: %w", errs.ErrGone) // accept would say EAGAIN, for ever
	}
	client, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	switch err {
	case nil:
		return client, nil
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
		return -1, nil
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		// The client waits; so do we, for others to give something back.
		time.Sleep(50 * time.Millisecond)
		return -1, nil
	}
	return -1, err
}
