//go:build linux

package vfiouser

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// demux shares the receiving side of a connection between the goroutine that
// serves the client's commands and those that wait for an answer of the client
// to a command of ours.
//
// Whoever receives a message receives it for all: answers go to who waits for
// them, commands to the serving goroutine, in the order in which they came.
// When that one is idle it is the one who receives, so that nothing stands
// between a command and its execution. While it executes - an unmap, say, that
// waits for the very DMA whose answer is on its way - one of those who wait
// receives in its stead. Nobody but they could be delayed by that, and there
// is no goroutine that has nothing else to do.
type demux struct {
	c        *conn         // immutable, as all down to mu
	serves   bool          // there are commands: false for a twin socket
	timeout  time.Duration // for an answer
	maxQueue int           // commands
	maxBytes int           // of commands
	lost     func()        // called when a twin socket is unusable; may be nil

	users sync.WaitGroup // those who are in do

	mu      sync.Mutex
	reading bool       // somebody is receiving; guarded by mu, as all below
	err     error      // why nothing more is received
	server  sync.Cond  // the serving goroutine waits here while others receive
	waits   bool       // it does
	queue   []*message // commands that came while it was busy, oldest first
	bytes   int        // their sizes
	files   int        // their files
	calls   map[uint16]*call
	late    map[uint16]struct{} // calls given up, whose answer may still come
	lastID  uint16
	idle    []*call
	stray   uint64 // answers to nothing
}

// Limits of what waits.
const (
	maxQueuedFiles = 64
	maxCalls       = 1024
	maxLate        = 1024
	maxIdleCalls   = 16
)

// call is a command of ours that waits for its answer.
type call struct {
	id      uint16
	command wire.Command
	into    []byte        // of DMA_READ: where the data goes
	count   uint64        // bytes
	wake    chan struct{} // look again; capacity 1
	timer   *time.Timer
	done    bool // guarded by demux.mu, as err and asleep
	err     error
	asleep  bool     // waits to be told to look
	m       *message // what it receives when it is its turn
	fixed   [wire.DMAAccessLen]byte
}

func newDemux(c *conn, serves bool, cfg *ServerConfig) *demux {
	d := &demux{
		c: c, serves: serves, timeout: cfg.DMATime,
		maxQueue: cfg.MaxQueue, maxBytes: 2 * c.cfg.maxMessage,
		calls: make(map[uint16]*call), late: make(map[uint16]struct{}),
	}
	d.server.L = &d.mu
	return d
}

// next is the next command, received into own if nobody has received it yet.
// With an error it returns own if that is the message that made it, or nil. It
// is for the serving goroutine.
func (d *demux) next(own *message) (*message, error) {
	d.mu.Lock()
	for {
		if len(d.queue) > 0 {
			m := d.queue[0]
			d.queue = append(d.queue[:0], d.queue[1:]...)
			d.bytes -= int(m.Size)
			d.files -= len(m.fds)
			d.promoteLocked()
			d.mu.Unlock()
			return m, nil
		}
		if d.err != nil {
			d.mu.Unlock()
			return nil, d.err
		}
		if !d.reading {
			break
		}
		d.waits = true
		d.server.Wait()
		d.waits = false
	}
	d.reading = true
	d.mu.Unlock()
	for {
		err := d.c.recv(own)
		d.mu.Lock()
		if err == nil && own.Flags.Type() == wire.TypeReply {
			d.answerLocked(own)
			d.mu.Unlock()
			continue
		}
		d.reading = false
		if err != nil {
			d.failLocked(err)
		} else {
			d.promoteLocked()
		}
		d.mu.Unlock()
		return own, err
	}
}

// promoteLocked makes sure that somebody receives while calls wait.
func (d *demux) promoteLocked() {
	switch {
	case d.reading || d.err != nil:
	case d.waits:
		d.server.Signal()
	case len(d.calls) > 0 && !d.fullLocked():
		for _, x := range d.calls {
			if x.asleep { // one that still sends looks by itself
				x.look()
				return // it takes care of the rest when it goes
			}
		}
	}
}

func (d *demux) fullLocked() bool {
	return len(d.queue) >= d.maxQueue || d.bytes >= d.maxBytes || d.files >= maxQueuedFiles
}

// look makes whoever waits for the call look at the state of things.
func (x *call) look() {
	select {
	case x.wake <- struct{}{}:
	default: // told already
	}
}

// fail ends all waiting with err.
func (d *demux) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failLocked(err)
}

func (d *demux) failLocked(err error) {
	if d.err != nil {
		return
	}
	d.err = err
	for _, x := range d.calls {
		x.look()
	}
	d.server.Signal()
	if d.lost != nil {
		d.lost()
	}
}

// close ends all waiting with err, and when nobody uses the socket any more it
// closes that, and the files of commands that nobody will execute. Nobody may
// be in next.
func (d *demux) close(err error) {
	d.fail(err)
	d.c.shutdown()
	d.users.Wait()
	d.c.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.queue {
		closeFDs(m.fds)
	}
	d.queue, d.bytes, d.files = nil, 0, 0
}

// takeLocked disposes of what a call received for all. It returns a message to
// receive the next one into: m, unless that is queued now.
func (d *demux) takeLocked(m *message) *message {
	switch {
	case m.Flags.Type() == wire.TypeReply:
		d.answerLocked(m)
		return m
	case !d.serves:
		closeFDs(m.fds)
		m.fds = m.fds[:0]
		d.failLocked(fmt.Errorf("%v on the socket of the server's commands: %w", m.Header, errFraming))
		return m
	}
	d.queue = append(d.queue, m)
	d.bytes += int(m.Size)
	d.files += len(m.fds)
	if d.waits {
		d.server.Signal()
	}
	return new(message)
}

// answerLocked gives an answer to the call that it belongs to. An answer to
// nothing is dropped: it may be to a call that was given up, and an error in
// reply to a reply helps nobody.
func (d *demux) answerLocked(m *message) {
	closeFDs(m.fds)
	m.fds = m.fds[:0]
	x := d.calls[m.ID]
	if x == nil {
		if _, ok := d.late[m.ID]; ok {
			delete(d.late, m.ID)
		} else {
			d.stray++
		}
		return
	}
	delete(d.calls, m.ID)
	x.err = x.answer(m)
	x.done = true
	x.look()
}

// answer takes what m says, once it is known to answer the call.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE". The reply
// to a write has been seen with 0 to 16 bytes: they say nothing new.
func (x *call) answer(m *message) error {
	switch {
	case m.Command != x.command:
		return fmt.Errorf("answer is %v: %w", m.Header, unix.EPROTO)
	case m.Flags&wire.Error != 0:
		errno := syscall.Errno(m.Errno)
		if errno == 0 || errno > maxErrno {
			errno = unix.EINVAL
		}
		return errno
	case x.command == wire.CmdDMAWrite:
		if len(m.body) > wire.DMAAccessLen {
			return fmt.Errorf("answer of %d bytes: %w", len(m.body), unix.EPROTO)
		}
		return nil
	}
	if uint64(len(m.body)) != wire.DMAAccessLen+x.count {
		return fmt.Errorf("answer of %d bytes to a read of %d: %w", len(m.body), x.count, unix.EPROTO)
	}
	if a := wire.DecodeDMAAccess((*[wire.DMAAccessLen]byte)(m.body)); a.Count != x.count {
		return fmt.Errorf("answer with %d bytes to a read of %d: %w", a.Count, x.count, unix.EPROTO)
	}
	copy(x.into, m.body[wire.DMAAccessLen:])
	return nil
}

// maxErrno is MAX_ERRNO of Linux rounded up, the most that libvfio-user takes.
const maxErrno = 4096

var errManyCalls = errors.New("too many DMA accesses by message at a time")

// do sends a command of ours and waits for the answer. into is where the data
// of a DMA_READ goes, data what a DMA_WRITE carries. It may be called from any
// goroutine but that which calls next.
func (d *demux) do(command wire.Command, address uint64, into, data []byte) error {
	x, err := d.begin(command, into, len(data))
	if err != nil {
		return err
	}
	h := wire.Header{ID: x.id, Command: command}
	a := wire.DMAAccess{Address: address, Count: x.count}
	if err := d.c.send(h, a.Append(x.fixed[:0]), data, nil); err != nil {
		d.fail(err)
		d.c.shutdown()
	}
	return d.wait(x)
}

// begin makes a call whose answer can be told from others.
func (d *demux) begin(command wire.Command, into []byte, n int) (*call, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return nil, fmt.Errorf("%w: %w", errs.ErrGone, d.err)
	case len(d.calls) >= maxCalls:
		return nil, errManyCalls
	case len(d.late) >= maxLate:
		return nil, errStalled
	}
	for {
		d.lastID++
		if _, taken := d.calls[d.lastID]; taken {
			continue
		}
		if _, taken := d.late[d.lastID]; !taken {
			break
		}
	}
	var x *call
	if n := len(d.idle); n > 0 {
		x, d.idle = d.idle[n-1], d.idle[:n-1]
	} else {
		x = &call{wake: make(chan struct{}, 1), timer: time.NewTimer(0), m: new(message)}
		x.timer.Stop()
	}
	x.id, x.command, x.into, x.count = d.lastID, command, into, uint64(len(into)+n)
	x.done, x.err = false, nil
	d.calls[x.id] = x
	d.users.Add(1) // before d.err is set, or not at all: see close
	return x, nil
}

// wait waits for the answer to x, receiving for all while nobody else does.
func (d *demux) wait(x *call) error {
	defer d.users.Done()
	deadline := time.Now().Add(d.timeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	for !x.done && d.err == nil {
		left := time.Until(deadline)
		if left <= 0 {
			d.late[x.id] = struct{}{}
			x.err = fmt.Errorf("no answer within %v: %w", d.timeout, unix.ETIMEDOUT)
			break
		}
		if !d.reading && !d.waits && !d.fullLocked() {
			d.receiveLocked(x, left)
			continue
		}
		x.asleep = true
		d.mu.Unlock()
		x.timer.Reset(left)
		select {
		case <-x.wake:
		case <-x.timer.C:
		}
		x.timer.Stop()
		d.mu.Lock()
		x.asleep = false
	}
	delete(d.calls, x.id)
	err := x.err
	if !x.done && err == nil {
		err = fmt.Errorf("%w: %w", errs.ErrGone, d.err)
	}
	d.promoteLocked()
	d.recycleLocked(x)
	return err
}

// receiveLocked receives one message, if one comes in time.
func (d *demux) receiveLocked(x *call, limit time.Duration) {
	d.reading = true
	d.mu.Unlock()
	ready, err := d.c.wait(limit)
	if ready && err == nil {
		err = d.c.recv(x.m)
	}
	d.mu.Lock()
	d.reading = false
	switch {
	case err != nil:
		d.failLocked(err)
	case ready:
		x.m = d.takeLocked(x.m)
	}
}

func (d *demux) recycleLocked(x *call) {
	x.into = nil
	select {
	case <-x.wake:
	default:
	}
	if len(d.idle) < maxIdleCalls && cap(x.m.big) <= keepBody {
		d.idle = append(d.idle, x)
	}
}
