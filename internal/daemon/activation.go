package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// ControlName is the name under which a service manager passes the control
// socket.
const ControlName = "control"

// Activated are the sockets that the service manager passed and nobody has
// taken yet.
//
// Specification: sd_listen_fds(3), systemd.socket(5).
type Activated struct{ list []activated }

type activated struct {
	name string
	sock *Socket
}

// Activation takes over the sockets that the service manager passed to this
// process, once; the variables of the environment are removed. A file that is
// not a listening UNIX stream socket is refused, and all are closed.
func Activation() (*Activated, error) {
	files := activation.Files(true)
	a := &Activated{}
	var err error
	for _, f := range files {
		if err == nil {
			err = a.add(f)
		}
		f.Close()
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Activated) add(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	dup := func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) }
	if e := raw.Control(dup); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("socket %s of the service manager: %w", f.Name(), err)
	}
	sock, err := FromFD(fd)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("socket %s of the service manager: %w", f.Name(), err)
	}
	if !sock.Listening {
		sock.Close()
		return fmt.Errorf("socket %s of the service manager does not listen (Accept=yes?): %w", f.Name(), errs.ErrInvalid)
	}
	sock.Name = address(sock.fd)
	a.list = append(a.list, activated{f.Name(), sock})
	return nil
}

// address is the path that a socket is bound to.
func address(fd int) string {
	sa, err := unix.Getsockname(fd)
	if un, ok := sa.(*unix.SockaddrUnix); err == nil && ok && un.Name != "" {
		return un.Name
	}
	return fmt.Sprintf("fd:%d", fd)
}

// Take takes the first socket of that name; nil if there is none.
func (a *Activated) Take(name string) *Socket {
	i := slices.IndexFunc(a.list, func(x activated) bool { return x.name == name })
	if i < 0 {
		return nil
	}
	s := a.list[i].sock
	a.list = slices.Delete(a.list, i, i+1)
	return s
}

// TakeAny takes the first socket; nil if there is none.
func (a *Activated) TakeAny() *Socket {
	if len(a.list) == 0 {
		return nil
	}
	return a.Take(a.list[0].name)
}

// Names are the names of those that are left.
func (a *Activated) Names() string {
	var names []string
	for _, x := range a.list {
		names = append(names, x.name)
	}
	return strings.Join(names, ", ")
}

// Close closes those that are left.
func (a *Activated) Close() {
	for _, x := range a.list {
		x.sock.Close()
	}
	a.list = nil
}
