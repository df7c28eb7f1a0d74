package mdev

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher calls functions when eventfds are signalled. It has one goroutine,
// which sleeps in Go's poller: an idle session keeps no thread.
type watcher struct {
	fds  *fdCount
	file *os.File // the epoll instance
	done chan struct{}

	mu      sync.Mutex
	calling *watch           // guarded by mu; whose function runs
	idle    sync.Cond        // guarded by mu; calling has changed
	watches map[int32]*watch // guarded by mu; by number
	next    int32            // guarded by mu
}

// watch is an eventfd that is watched. Its watcher owns the descriptor.
type watch struct {
	fd, id int32
	call   func()
}

func newWatcher(fds *fdCount, t *tasks) (*watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(ep, true); err != nil { // else Go would not poll it
		closeFD(ep)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	fds.n.Add(1)
	w := &watcher{fds: fds, file: os.NewFile(uintptr(ep), "epoll"), done: make(chan struct{}), watches: make(map[int32]*watch)}
	w.idle.L = &w.mu
	t.start(w.run)
	return w, nil
}

// edge is EPOLLET, whose sign in package unix depends on the machine: one event
// for each signal, not for as long as the counter is above 0. An eventfd may be
// one that counts down (EFD_SEMAPHORE), by years if its owner likes.
const edge = 1 << 31

// add has call called, on the watcher's goroutine, after each signal of the
// eventfd fd, which it takes over when it succeeds. Signals that come close
// together are one.
func (w *watcher) add(fd int, call func()) (*watch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.watches[w.next] != nil {
		w.next++
	}
	x := &watch{fd: int32(fd), id: w.next, call: call}
	w.next++
	ev := unix.EpollEvent{Events: unix.EPOLLIN | edge, Fd: x.id}
	if err := w.ctl(unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return nil, fmt.Errorf("watch of fd %d: %w", fd, err)
	}
	w.fds.n.Add(1)
	w.watches[x.id] = x
	return x, nil
}

func (w *watcher) ctl(op, fd int, ev *unix.EpollEvent) error {
	c, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := c.Control(func(ep uintptr) { err = unix.EpollCtl(int(ep), op, fd, ev) }); cerr != nil {
		return cerr
	}
	return err
}

// remove ends a watch. When it returns its function does not run, and will not;
// so that function must not call it.
func (w *watcher) remove(x *watch) {
	if x == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches[x.id] == x {
		w.forgetLocked(x)
	}
	for w.calling == x {
		w.idle.Wait()
	}
}

// forgetLocked takes x out and closes its descriptor. The client has the file,
// too, so closing alone would not take it out of the epoll set.
// Preconditions: w.mu is held.
func (w *watcher) forgetLocked(x *watch) {
	_ = w.ctl(unix.EPOLL_CTL_DEL, int(x.fd), nil)
	delete(w.watches, x.id)
	w.fds.close(int(x.fd))
}

func (w *watcher) close() {
	w.mu.Lock()
	for _, x := range w.watches {
		w.forgetLocked(x)
	}
	w.mu.Unlock()
	_ = w.file.Close()
	<-w.done
	w.fds.n.Add(-1)
}

func (w *watcher) run() {
	defer close(w.done)
	c, err := w.file.SyscallConn()
	if err != nil {
		return // closed already
	}
	var evs [16]unix.EpollEvent
	for {
		var n int
		var werr error
		err := c.Read(func(ep uintptr) bool {
			n, werr = unix.EpollWait(int(ep), evs[:], 0)
			return n != 0
		})
		if err != nil || werr != nil && werr != unix.EINTR {
			return // closed
		}
		for i := range max(n, 0) {
			w.dispatch(evs[i].Fd)
		}
	}
}

func (w *watcher) dispatch(id int32) {
	w.mu.Lock()
	x := w.watches[id]
	// Under the lock, or the number could mean another file by now.
	if x == nil || !drainEventFD(int(x.fd)) {
		w.mu.Unlock()
		return
	}
	w.calling = x
	w.mu.Unlock()
	x.call()
	w.mu.Lock()
	w.calling = nil
	w.mu.Unlock()
	w.idle.Broadcast()
}
