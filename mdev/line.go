package mdev

import (
	"runtime"
	"sync/atomic"
	"time"
)

// fdCount counts the descriptors that a session owns.
type fdCount struct{ n atomic.Int64 }

func (c *fdCount) close(fd int) {
	closeFD(fd)
	c.n.Add(-1)
}

// line is where a vector leads: an eventfd that it owns, or a function. It is
// replaced while devices signal it, so it counts who is inside: the last one
// out closes the descriptor, and nobody writes to a number that means another
// file by then. No lock is held while a line is signalled.
type line struct {
	fd       int // -1 for a function; immutable
	nonblock bool
	fn       func()
	fds      *fdCount
	users    atomic.Int32  // 1 while it is in the table, 1 for each signal under way; dead at 0
	gone     chan struct{} // closed when users is 0 and the descriptor closed
}

// newLine returns a line that is not in the table yet: nothing is counted, and
// nothing need be undone.
func newLine(fd int, nonblock bool, fn func(), fds *fdCount) *line {
	l := &line{fd: fd, nonblock: nonblock, fn: fn, fds: fds, gone: make(chan struct{})}
	l.users.Store(1)
	return l
}

// get keeps l from going; it reports false when that is too late.
func (l *line) get() bool {
	for {
		n := l.users.Load()
		if n == 0 {
			return false
		}
		if l.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (l *line) put() {
	if l.users.Add(-1) != 0 {
		return
	}
	if l.fd >= 0 {
		l.fds.close(l.fd)
	}
	close(l.gone)
}

// signal reports whether somebody was told. It needs a get.
func (l *line) signal() bool {
	if l.fn != nil {
		l.fn()
		return true
	}
	return signalEventFD(l.fd, l.nonblock)
}

// The wait for a line to go: signals take a microsecond, so a longer one may be
// stuck in an eventfd whose counter the client filled at that very moment, or
// made blocking afterwards. Taking a counter that is full lets the writer out.
const (
	lineRescue = time.Millisecond
	lineWait   = time.Second
)

// retire takes lines that are in no table any more out of use. When it returns
// none is signalled, and their descriptors are closed. It gives up after a
// second, in which case the last signal closes the descriptor.
func retire(lines []*line) {
	for _, l := range lines {
		l.put()
	}
	start := time.Now()
	for _, l := range lines {
		for !l.isGone() && time.Since(start) < lineWait {
			select {
			case <-l.gone:
			case <-time.After(lineRescue):
				l.rescue()
			}
		}
	}
}

func (l *line) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// settle waits until each line was seen with nobody signalling it, at most a
// second.
func settle(lines []*line) {
	start := time.Now()
	for _, l := range lines {
		for l.users.Load() > 1 {
			waited := time.Since(start)
			switch {
			case waited > lineWait:
				return
			case waited > lineRescue:
				l.rescue()
				time.Sleep(lineRescue / 16)
			default:
				runtime.Gosched()
			}
		}
	}
}

// rescue lets out who is stuck in l.
func (l *line) rescue() {
	if l.fd >= 0 && l.get() {
		unblockEventFD(l.fd)
		l.put()
	}
}
