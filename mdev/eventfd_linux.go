package mdev

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// one is what a signal writes to an eventfd, in the byte order of the machine.
var one = func() (b [8]byte) {
	binary.NativeEndian.PutUint64(b[:], 1)
	return b
}()

// checkEventFD looks whether fd is an eventfd, as eventfd_ctx_fdget does: a
// write to a pipe or socket in its place could block, and a read would take
// what is not ours. nonblock says that a full counter gives EAGAIN.
func checkEventFD(fd int) (nonblock bool, err error) {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return false, fmt.Errorf("fd %d: %w", fd, err)
	}
	if name != "anon_inode:[eventfd]" {
		return false, fmt.Errorf("fd %d is %s, not an eventfd: %w", fd, name, errs.ErrInvalid)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return false, fmt.Errorf("fd %d: %w", fd, err)
	}
	return flags&unix.O_NONBLOCK != 0, nil
}

// signalEventFD adds 1 to the counter, and reports false when that is full.
//
// The flags of an eventfd are shared with the client, and how the client reads
// its own is its business, so they are left as they are: where a write could
// block, one that would is not tried.
func signalEventFD(fd int, nonblock bool) bool {
	if !nonblock && !pollFD(fd, unix.POLLOUT) {
		return false
	}
	for {
		_, err := unix.Write(fd, one[:])
		if err != unix.EINTR {
			return err == nil
		}
	}
}

func pollFD(fd int, events int16) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n == 1 && p[0].Revents&events != 0
}

// drainEventFD takes the counter, and reports whether it was above 0. It does
// not block, whatever the flags of the file.
func drainEventFD(fd int) bool {
	var b [8]byte
	for {
		n, err := unix.Preadv2(fd, [][]byte{b[:]}, -1, unix.RWF_NOWAIT)
		switch err {
		case nil:
			return n == len(b)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default: // before Linux 5.8, or where a filter forbids the call
			if !pollFD(fd, unix.POLLIN) {
				return false
			}
			n, err := unix.Read(fd, b[:])
			return err == nil && n == len(b)
		}
	}
}

// unblockEventFD takes the counter if it is so full that writers wait. Any other
// value is the client's to read.
func unblockEventFD(fd int) {
	if !pollFD(fd, unix.POLLOUT) {
		drainEventFD(fd)
	}
}

func newEventFD() (int, error) {
	return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
}

func closeFD(fd int) { _ = unix.Close(fd) }
