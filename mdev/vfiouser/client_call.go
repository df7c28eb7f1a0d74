//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// clientCall is one command and what becomes of it.
type clientCall struct {
	cmd  wire.Command
	id   uint16             // while it is in the table
	msg  [smallMessage]byte // header, req, and body if there is room
	nreq int                // bytes of req
	body []byte             // of the request, behind req
	send []int              // files of the request

	// The reply's payload goes to rep, nrep bytes, and then to data. Whoever
	// gives the call up takes data away under the table's lock.
	rep   [40]byte
	nrep  int
	data  []byte
	room  int  // len(data) when it was sent
	files bool // the reply may bring files

	state   atomic.Uint32 // changed under the table's lock
	size    int           // of the reply's payload
	err     error         // instead of a reply
	fds     []int         // that came with the reply; the caller's
	waiting bool          // guarded by the table; somebody listens to wake
	wake    chan struct{} // one signal: look at the state, or lead
}

// smallMessage is the size up to which a message is sent in one piece.
const smallMessage = 128

// req is the room for the start of the request's payload.
func (k *clientCall) req() []byte { return k.msg[wire.HeaderLen : wire.HeaderLen+40] }

// The states of a call.
const (
	callIdle    = iota // not in the table
	callSent           // in the table
	callDone           // its reply is here, or err
	callDropped        // in the table, but nobody wants the reply
)

func (k *clientCall) done() bool { return k.state.Load() == callDone }

// signal wakes whoever waits for k, now or the next time.
func (k *clientCall) signal() {
	select {
	case k.wake <- struct{}{}:
	default: // there is a signal already
	}
}

// maxClientCalls bounds the commands under way. It is below the number of message
// ids, so that an id is never in use twice.
const maxClientCalls = 1 << 15

// message is what k sends. It has an id.
func (k *clientCall) message(flags wire.Flags) pieces {
	n := wire.HeaderLen + k.nreq
	h := wire.Header{ID: k.id, Command: k.cmd, Size: uint32(n + len(k.body)), Flags: flags}
	h.Put((*[wire.HeaderLen]byte)(k.msg[:]))
	if n+len(k.body) <= len(k.msg) {
		return pieces{k.msg[:n+copy(k.msg[n:], k.body)]}
	}
	return pieces{k.msg[:n], k.body}
}

// callTable knows the commands that wait for a reply.
type callTable struct {
	mu sync.Mutex
	// ring holds the commands in the order in which they were entered, which
	// is that of their replies: a look-up is a look at the head. Entries that
	// went out of order are nil. Its length is a power of two.
	ring    []*clientCall // guarded by mu; as all below
	head, n int           // first entry, entries
	used    [1 << 16 / 64]uint64
	nextID  uint16
	waiters []*clientCall // calls that wait for a signal, in no order
	led     bool          // somebody receives
	entered uint64        // commands so far
	err     error         // the connection is lost

	pool sync.Pool // of *clientCall
}

func (t *callTable) init() {
	t.ring = make([]*clientCall, 64)
	t.pool.New = func() any { return &clientCall{wake: make(chan struct{}, 1)} }
}

// get returns a call of cmd, to be filled in and given to the table.
func (t *callTable) get(cmd wire.Command) *clientCall {
	k := t.pool.Get().(*clientCall)
	k.cmd = cmd
	return k
}

// put takes a call back that is not under way. Its files are the caller's.
func (t *callTable) put(k *clientCall) {
	if k.state.Load() == callDropped {
		return // its reply may still come: the garbage collector's
	}
	select {
	case <-k.wake: // a signal that nobody waited for
	default:
	}
	k.body, k.send, k.data, k.err, k.fds = nil, nil, nil, nil, nil
	k.nreq, k.nrep, k.room, k.size, k.files = 0, 0, 0, 0, false
	k.state.Store(callIdle)
	t.pool.Put(k)
}

// enter puts k into the table and gives it an id.
func (t *callTable) enter(k *clientCall) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	if t.n == maxClientCalls {
		return fmt.Errorf("%d commands under way: %w", t.n, errs.ErrBusy)
	}
	if t.n == len(t.ring) {
		ring := make([]*clientCall, 2*t.n)
		for i := range t.n {
			ring[i] = *t.slot(i)
		}
		t.ring, t.head = ring, 0
	}
	k.id, k.room = t.freshID(), len(k.data)
	t.used[k.id/64] |= 1 << (k.id % 64)
	*t.slot(t.n) = k
	t.n++
	t.entered++
	k.state.Store(callSent)
	return nil
}

// freshID is the next id that no command under way has. It goes up by one for
// each message, as QEMU's does.
func (t *callTable) freshID() uint16 {
	for {
		id := t.nextID
		t.nextID++
		if t.used[id/64]>>(id%64)&1 == 0 {
			return id
		}
	}
}

// post gives k an id, though it has no reply.
func (t *callTable) post(k *clientCall) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entered++
	k.id = t.freshID()
	return t.err
}

// count is how many commands there have been.
func (t *callTable) count() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entered
}

func (t *callTable) slot(i int) **clientCall { return &t.ring[(t.head+i)&(len(t.ring)-1)] }

// find is the command under way with that id, nil if there is none.
// Precondition: mu is held.
func (t *callTable) find(id uint16) *clientCall {
	if t.used[id/64]>>(id%64)&1 == 0 {
		return nil
	}
	for i := range t.n {
		if k := *t.slot(i); k != nil && k.id == id {
			return k
		}
	}
	return nil
}

// remove takes k out. Precondition: mu is held, k is in the table.
func (t *callTable) remove(k *clientCall) {
	t.used[k.id/64] &^= 1 << (k.id % 64)
	for i := range t.n {
		if s := t.slot(i); *s == k {
			*s = nil
			break
		}
	}
	for t.n > 0 && *t.slot(0) == nil {
		t.head, t.n = (t.head+1)&(len(t.ring)-1), t.n-1
	}
}

// withdraw takes k out because it was never sent.
func (t *callTable) withdraw(k *clientCall) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.state.Load() == callSent {
		t.remove(k)
		k.state.Store(callIdle)
	}
}

// end ends k with err, because it could not be sent.
func (t *callTable) end(k *clientCall, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.state.Load() == callSent {
		t.remove(k)
		k.err = err
		k.state.Store(callDone)
	}
}

// giveUp ends the wait for k. It returns false when the reply came first.
func (t *callTable) giveUp(k *clientCall) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.done() {
		return false
	}
	k.state.Store(callDropped)
	k.data = nil // the caller's memory again
	return true
}

// lose ends all commands with err. It returns false when that was done before.
func (t *callTable) lose(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return false
	}
	t.err = err
	for i := range t.n {
		if k := *t.slot(i); k != nil && k.state.Load() == callSent {
			k.err = err
			k.state.Store(callDone)
		}
	}
	t.head, t.n = 0, 0
	clear(t.ring)
	clear(t.used[:])
	for _, k := range t.waiters {
		k.signal()
	}
	return true
}

// callLimit is how long a call may take. Most calls are over before anybody
// looks at a clock, and looking costs some percent of a call.
type callLimit struct {
	ctx     context.Context
	at      time.Time     // zero until it is known
	timeout time.Duration // where the context has no deadline
	fine    bool          // less than a slice of time was left at the start
}

func (c *Client) limit(ctx context.Context) callLimit {
	l := callLimit{ctx: ctx, timeout: c.cfg.Timeout, fine: c.cfg.Timeout < slice}
	if at, ok := ctx.Deadline(); ok {
		l.at, l.fine = at, time.Until(at) < slice
	}
	return l
}

// left is how much time there is. The first question starts the clock of a
// call whose context has no deadline: it comes when there is something to wait
// for, or a slice of time later.
func (l *callLimit) left() time.Duration {
	if l.at.IsZero() {
		l.at = time.Now().Add(l.timeout)
		return l.timeout
	}
	return max(time.Until(l.at), 0)
}

// passed is the error of a call that has no time left.
func (l *callLimit) passed() error {
	if l.ctx.Err() != nil || l.left() == 0 {
		return noReply(l.ctx)
	}
	return nil
}

// roundTrip sends the command k and waits for its reply. On a nil error the
// reply is in k. Either way the caller gives k back (callTable.put), after it
// has taken or closed k.fds.
//
// Precondition: c.users is held for reading.
func (c *Client) roundTrip(ctx context.Context, k *clientCall) error {
	l := c.limit(ctx)
	if err := c.start(&l, k); err != nil {
		return err
	}
	return c.finish(&l, k)
}

// start sends k. When it fails, k was not sent.
func (c *Client) start(l *callLimit, k *clientCall) error {
	if l.ctx.Err() != nil {
		return noReply(l.ctx)
	}
	if k.files {
		if err := c.claimFiles(l); err != nil {
			return err
		}
	}
	err := c.calls.enter(k)
	if err == nil {
		if err = c.transmit(l, k.message(0), k.send, false); err != nil {
			c.calls.withdraw(k)
		}
	}
	if err != nil && k.files {
		<-c.fdCall
	}
	return err
}

// claimFiles makes the caller the one whose reply may bring files.
func (c *Client) claimFiles(l *callLimit) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.left())
	defer cancel()
	select {
	case c.fdCall <- struct{}{}:
		return nil
	case <-c.lost:
		return c.Err()
	case <-ctx.Done():
		return noReply(l.ctx)
	}
}

// finish waits for the reply of k, which was sent.
func (c *Client) finish(l *callLimit, k *clientCall) error {
	for !k.done() {
		var err error
		switch c.calls.takeLead(k) {
		case leading:
			err = c.lead(l, k)
		case following:
			err = c.follow(l, k)
		}
		if err != nil && c.calls.giveUp(k) {
			return err
		}
	}
	return k.err
}

// follow waits for a signal: the reply is here, or it is k's turn to lead.
func (c *Client) follow(l *callLimit, k *clientCall) error {
	t := time.NewTimer(l.left())
	defer t.Stop()
	var err error
	select {
	case <-k.wake:
	case <-l.ctx.Done():
		err = noReply(l.ctx)
	case <-t.C:
		err = noReply(l.ctx)
	}
	c.calls.leaveQueue(k, err != nil)
	return err
}

// What takeLead says.
type leadRole int

const (
	needless  leadRole = iota // the reply is here, or the connection lost
	leading                   // the caller receives
	following                 // somebody else does
)

// takeLead makes the caller the one who receives, if nobody is. Otherwise k
// joins the waiters, if it is not nil: follow.
func (t *callTable) takeLead(k *clientCall) leadRole {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.err != nil || k != nil && k.done():
		return needless
	case !t.led:
		t.led = true
		return leading
	case k != nil:
		k.waiting = true
		t.waiters = append(t.waiters, k)
	}
	return following
}

// leave ends what takeLead began, and lets the next one lead.
func (t *callTable) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.led = false
	t.promote()
}

// promote has someone lead who waits. Precondition: mu is held, nobody leads.
func (t *callTable) promote() {
	for _, k := range t.waiters {
		if !k.done() {
			k.signal()
			return
		}
	}
}

// leaveQueue ends a wait for signals. If the wait ended otherwise, a signal
// that came too late is passed on.
func (t *callTable) leaveQueue(k *clientCall, otherwise bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.waiting = false
	for i, w := range t.waiters {
		if w == k {
			last := len(t.waiters) - 1
			t.waiters[i], t.waiters[last] = t.waiters[last], nil
			t.waiters = t.waiters[:last]
			break
		}
	}
	if otherwise && !t.led {
		t.promote()
	}
}
