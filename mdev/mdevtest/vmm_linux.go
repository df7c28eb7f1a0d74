package mdevtest

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// VMM is a fake VMM: guest memory in a memfd, and eventfds. All of it is gone
// when the test ends; make it before the session, whose end comes first then.
type VMM struct {
	t   testing.TB
	fd  int
	ram []byte
}

// NewVMM returns a VMM with n bytes of guest memory, rounded up to whole
// pages; n may be 0.
func NewVMM(t testing.TB, n int) *VMM {
	t.Helper()
	v := &VMM{t: t, fd: -1}
	n = (n + int(addr.PageMask)) &^ int(addr.PageMask)
	if n == 0 {
		return v
	}
	fd, err := unix.MemfdCreate("mdevtest", unix.MFD_CLOEXEC)
	if err == nil {
		v.fd = fd
		t.Cleanup(func() { _ = unix.Close(fd) })
		err = unix.Ftruncate(fd, int64(n))
	}
	if err == nil {
		v.ram, err = unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		t.Fatalf("guest memory of %d bytes: %v", n, err)
	}
	t.Cleanup(func() { _ = unix.Munmap(v.ram) })
	return v
}

// RAM is the guest's memory as the VMM sees it.
func (v *VMM) RAM() []byte { return v.ram }

// MemFD is the file of the guest's memory; it belongs to v.
func (v *VMM) MemFD() int { return v.fd }

// Map maps all of the guest's memory at iova.
func (v *VMM) Map(s *mdev.Session, iova addr.IOVA) {
	v.t.Helper()
	if err := s.Map(iova, addr.Len(len(v.ram)), translate.File(v.fd, 0), addr.ReadWrite); err != nil {
		v.t.Fatalf("map: %v", err)
	}
}

// EventFD is a new eventfd, counter 0, nonblocking, that belongs to v.
func (v *VMM) EventFD() *EventFD { return v.newEventFD(unix.EFD_NONBLOCK) }

// BlockingEventFD is an eventfd as a client makes it that reads it in a thread.
func (v *VMM) BlockingEventFD() *EventFD { return v.newEventFD(0) }

func (v *VMM) newEventFD(flags int) *EventFD {
	v.t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|flags)
	if err != nil {
		v.t.Fatalf("eventfd: %v", err)
	}
	v.t.Cleanup(func() { _ = unix.Close(fd) })
	return &EventFD{v.t, fd}
}

// Adopt is an eventfd that something else made and owns, such as
// mdev.IOEventFD.
func (v *VMM) Adopt(fd int) *EventFD { return &EventFD{v.t, fd} }

// EventFD is an eventfd of a [VMM].
type EventFD struct {
	t  testing.TB
	fd int
}

// FD is the descriptor; it belongs to the VMM.
func (e *EventFD) FD() int { return e.fd }

// Dup is another descriptor of the same eventfd, to be given away.
func (e *EventFD) Dup() int {
	e.t.Helper()
	fd, err := unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		e.t.Fatalf("dup: %v", err)
	}
	return fd
}

// Signal adds 1 to the counter.
func (e *EventFD) Signal() { e.Add(1) }

// Add adds n to the counter.
func (e *EventFD) Add(n uint64) {
	e.t.Helper()
	if _, err := unix.Write(e.fd, binary.NativeEndian.AppendUint64(nil, n)); err != nil {
		e.t.Fatalf("eventfd: %v", err)
	}
}

// Take is the counter, which is 0 afterwards.
func (e *EventFD) Take() uint64 { return e.take(0) }

// waitLimit bounds a Wait; how long it may take does not matter, but that it
// comes.
const waitLimit = 10 * time.Second

// Wait is Take once the counter is not 0; it fails the test after 10 s.
func (e *EventFD) Wait() uint64 {
	e.t.Helper()
	n := e.take(waitLimit)
	if n == 0 {
		e.t.Fatalf("no signal in %v", waitLimit)
	}
	return n
}

func (e *EventFD) take(wait time.Duration) uint64 {
	e.t.Helper()
	for end := time.Now().Add(wait); ; {
		p := []unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(max(time.Until(end), 0)/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			e.t.Fatalf("poll: %v", err)
		}
		if n == 0 {
			return 0
		}
		var b [8]byte
		if _, err := unix.Read(e.fd, b[:]); err == unix.EAGAIN {
			continue // somebody else took it
		} else if err != nil {
			e.t.Fatalf("eventfd: %v", err)
		}
		return binary.NativeEndian.Uint64(b[:])
	}
}

// Leaks fails the test if, when it ends, the process has a descriptor or a
// goroutine that it does not have now. Call it first, and not in a test that
// runs in parallel with others.
func Leaks(t testing.TB) {
	t.Helper()
	fds := FDs(t)
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		t.Helper()
		if err := goleak.Find(ignore); err != nil {
			t.Errorf("leaked: %v", err)
		}
		for _, fd := range FDs(t) {
			if !slices.Contains(fds, fd) {
				t.Errorf("leaked descriptor %s", fd)
			}
		}
	})
}

// FDs are the open descriptors of the process, each with what it leads to.
func FDs(t testing.TB) []string {
	t.Helper()
	// Go's runtime opens its poller when it is first needed, and keeps it.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("descriptors: %v", err)
	}
	var all []string
	for _, e := range entries {
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil { // else it was the directory itself
			all = append(all, e.Name()+" -> "+to)
		}
	}
	return all
}
