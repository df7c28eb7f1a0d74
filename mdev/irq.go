package mdev

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
)

// IRQs are the interrupts of a session: for each vector whom to tell, and
// whether that must wait. The device raises them with Trigger, the VMM says
// where they lead with Set (or Func, in process).
//
// All methods may be called from any goroutine.
//
// # Delivery
//
// A vector is armed when it leads to an eventfd or a function, and an index is
// enabled from the first vector that is armed until the index is disabled or,
// outside INTx, MSI and MSI-X, until no vector is armed. An interrupt of a
// vector that cannot be delivered now is pending, once however often it was
// raised, and is delivered as soon as it can be:
//
//	index disabled                  lost, and counted so
//	vector masked                   pending until it is unmasked
//	vector not armed, index enabled pending until it is armed, as in a PBA
//	device quiesced                 pending until it goes on
//
// A vector with IRQAutoMasked masks itself when it is delivered (INTx).
type IRQs struct {
	index     []irqIndex // immutable slice
	exclusive int        // the first so many indices are enabled one at a time; immutable
	fds       *fdCount
	watcher   func() (*watcher, error)
	fault     *fault.Points
	guard     irqGuard

	held  atomic.Bool // the device is quiesced
	stray atomic.Uint64

	mu     sync.Mutex
	closed bool // guarded by mu
}

// irqIndex is one index.
type irqIndex struct {
	info    IRQInfo // immutable
	vectors []vector
	// enabled is the number of vectors from the first that are enabled; 0
	// means that the index is not. Changed under IRQs.mu, before the lines:
	// who finds no line because the index was disabled finds 0 as well.
	enabled atomic.Uint32
}

// vector is one interrupt.
type vector struct {
	line  atomic.Pointer[line] // changed under IRQs.mu
	state atomic.Uint32

	raised, signalled, lost atomic.Uint64

	mask, unmask *watch // guarded by IRQs.mu
}

// The bits of a vector's state.
const (
	stMasked  = 1 << iota
	stPending // raised and not delivered
	stLevel   // the device holds it up
)

func newIRQs(info *Info, fds *fdCount, w func() (*watcher, error), f *fault.Points) *IRQs {
	q := &IRQs{index: make([]irqIndex, len(info.IRQs)), fds: fds, watcher: w, fault: f}
	if info.API == APIPCI {
		q.exclusive = IRQMSIX + 1 // vfio_pci_intrs.c: one irq_type at a time
	}
	for i := range q.index {
		q.index[i].info = info.IRQs[i]
		q.index[i].vectors = make([]vector, info.IRQs[i].Count)
	}
	q.guard.init(q.letOut)
	return q
}

func (q *IRQs) lookup(index, vec int) (*irqIndex, *vector) {
	if uint(index) >= uint(len(q.index)) {
		return nil, nil
	}
	ix := &q.index[index]
	if uint(vec) >= uint(len(ix.vectors)) {
		return nil, nil
	}
	return ix, &ix.vectors[vec]
}

// Trigger raises an interrupt: an edge, or a message. It never blocks and
// allocates nothing; when the vector leads to a function, that runs before
// Trigger returns. An index or vector that the device does not have (a guest
// may have chosen it) is counted and ignored.
func (q *IRQs) Trigger(index, vector int) {
	ix, v := q.lookup(index, vector)
	if v == nil {
		q.stray.Add(1)
		return
	}
	v.raised.Add(1)
	q.raise(ix, v)
}

// Level raises an interrupt and holds it up, or lets it down: while it is up,
// a vector that masks itself (INTx) is delivered again each time it is
// unmasked. For other vectors raising it is Trigger and letting it down does
// nothing.
func (q *IRQs) Level(index, vector int, up bool) {
	ix, v := q.lookup(index, vector)
	switch {
	case v == nil:
		q.stray.Add(1)
	case !up:
		v.state.And(^uint32(stLevel))
	case ix.info.Flags&IRQAutoMasked == 0:
		v.raised.Add(1)
		q.raise(ix, v)
	case v.state.Or(stLevel)&stLevel == 0:
		v.raised.Add(1)
		q.kick(ix, v)
	}
}

func (q *IRQs) raise(ix *irqIndex, v *vector) {
	if l := v.lineInUse(); l != nil {
		// hold waits for lines in use after it said so.
		if ix.info.Flags&IRQAutoMasked == 0 && v.state.Load()&stMasked == 0 && !q.held.Load() {
			q.signal(v, l)
			return
		}
		l.put()
	}
	v.state.Or(stPending)
	q.kick(ix, v)
}

// kick delivers what is pending, if it can be. Whoever removes an obstacle
// calls it afterwards, and whoever makes something pending, too: so one of
// the two sees both.
func (q *IRQs) kick(ix *irqIndex, v *vector) {
	wanted, next := uint32(stPending), uint32(0)
	if ix.info.Flags&IRQAutoMasked != 0 {
		wanted, next = stPending|stLevel, stMasked
	}
	for {
		s := v.state.Load()
		if s&wanted == 0 || s&stMasked != 0 {
			return
		}
		l := v.lineInUse()
		switch {
		case l == nil && ix.enabled.Load() != 0:
			return
		case l == nil:
			if !v.state.CompareAndSwap(s, s&^stPending) {
				continue
			}
			if s&stPending != 0 {
				v.lost.Add(1)
			}
			return
		case q.held.Load():
			l.put()
			return
		}
		if v.state.CompareAndSwap(s, s&^stPending|next) {
			q.signal(v, l)
			return
		}
		l.put()
	}
}

// loopback signals a vector for the VMM, whatever state it is in.
func (q *IRQs) loopback(v *vector) {
	if l := v.lineInUse(); l != nil {
		v.raised.Add(1)
		q.signal(v, l)
	}
}

// signal tells whom l leads to, and puts it.
func (q *IRQs) signal(v *vector, l *line) {
	if l.fn == nil {
		q.guard.watch()
	}
	if l.signal() {
		v.signalled.Add(1)
	} else {
		v.lost.Add(1)
	}
	l.put()
}

// lineInUse is where v leads, to be put afterwards; nil when it is not armed.
func (v *vector) lineInUse() *line {
	for {
		l := v.line.Load()
		if l == nil || l.get() {
			return l
		}
		// It was replaced since; the table has another one.
	}
}

func (q *IRQs) unmaskVector(ix *irqIndex, v *vector) {
	v.state.And(^uint32(stMasked))
	q.kick(ix, v)
}

// Func has f called when the vector is delivered, in place of an eventfd; nil
// disarms it. f runs on the goroutine that raised the interrupt, which may be
// in the middle of a region access: it must neither block nor reset, quiesce,
// migrate or close the session. When Func returns, what was there before is
// not called any more, so f must not call Func for its own vector. Who calls
// Func is in process and trusted not to mix INTx, MSI and MSI-X.
//
// It fails with errs.ErrInvalid when there is no such vector and with
// errs.ErrGone when the session is closed.
func (q *IRQs) Func(index, vector int, f func()) error {
	ix, v := q.lookup(index, vector)
	if v == nil {
		return fmt.Errorf("irq %d vector %d: none: %w", index, vector, errs.ErrInvalid)
	}
	var l *line
	if f != nil {
		l = newLine(-1, true, f, q.fds)
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return fmt.Errorf("irq %d: session is closed: %w", index, errs.ErrGone)
	}
	if f != nil {
		ix.enabled.Store(max(ix.enabled.Load(), uint32(vector)+1))
	}
	var lines []*line
	var watches []*watch
	if old := v.line.Swap(l); old != nil {
		lines = append(lines, old)
	}
	if !ix.armed() {
		_, watches = ix.disable()
	}
	q.mu.Unlock()
	q.kick(ix, v)
	q.dispose(lines, watches)
	return nil
}

// armed reports whether a vector leads anywhere.
func (ix *irqIndex) armed() bool {
	for i := range ix.vectors {
		if ix.vectors[i].line.Load() != nil {
			return true
		}
	}
	return false
}

// disable forgets everything about an index. It returns what its vectors led
// to and what could mask them, to be disposed of without the lock.
// Preconditions: IRQs.mu is held.
func (ix *irqIndex) disable() (lines []*line, watches []*watch) {
	ix.enabled.Store(0)
	for i := range ix.vectors {
		v := &ix.vectors[i]
		if l := v.line.Swap(nil); l != nil {
			lines = append(lines, l)
		}
		watches = append(watches, v.mask, v.unmask)
		v.mask, v.unmask = nil, nil
		v.state.And(stLevel) // what the device holds up, it still does
	}
	return lines, watches
}

// Enabled reports whether the VMM has enabled the index: how a device decides
// between INTx and messages if its configuration does not tell.
func (q *IRQs) Enabled(index int) bool {
	return uint(index) < uint(len(q.index)) && q.index[index].enabled.Load() != 0
}

// Pending reports whether an interrupt of the vector waits to be delivered:
// its bit in a pending-bit array.
func (q *IRQs) Pending(index, vector int) bool {
	_, v := q.lookup(index, vector)
	return v != nil && v.state.Load()&(stPending|stLevel) != 0
}

// Counts are the numbers of interrupts raised, by index and vector. Package
// users that want to know what became of them look at [Session.Stats].
func (q *IRQs) Counts() [][]uint64 {
	all := make([][]uint64, len(q.index))
	for i := range q.index {
		all[i] = make([]uint64, len(q.index[i].vectors))
		for j := range all[i] {
			all[i][j] = q.index[i].vectors[j].raised.Load()
		}
	}
	return all
}

// hold keeps everything that is raised from now on pending, and waits for what
// is being delivered.
func (q *IRQs) hold() {
	q.held.Store(true)
	var lines []*line
	for i := range q.index {
		for j := range q.index[i].vectors {
			if l := q.index[i].vectors[j].line.Load(); l != nil {
				lines = append(lines, l)
			}
		}
	}
	settle(lines)
}

// release ends hold and delivers what is pending.
func (q *IRQs) release() {
	q.held.Store(false)
	for i := range q.index {
		for j := range q.index[i].vectors {
			q.kick(&q.index[i], &q.index[i].vectors[j])
		}
	}
}

// reset forgets what the device has raised. Where interrupts lead, and what is
// masked, is the VMM's and stays.
func (q *IRQs) reset() {
	for i := range q.index {
		for j := range q.index[i].vectors {
			q.index[i].vectors[j].state.And(stMasked)
		}
	}
}

// close silences everything: when it returns nobody is told of an interrupt
// any more, and no descriptor is left.
func (q *IRQs) close() {
	var lines []*line
	var watches []*watch
	q.mu.Lock()
	q.closed = true
	for i := range q.index {
		l, w := q.index[i].disable()
		lines, watches = append(lines, l...), append(watches, w...)
	}
	q.mu.Unlock()
	q.dispose(lines, watches)
	q.guard.close()
}

// dispose ends what is in no table any more. No lock is held: it waits for
// signals under way, and functions are called by them.
func (q *IRQs) dispose(lines []*line, watches []*watch) {
	for _, x := range watches {
		if x == nil {
			continue
		}
		if w, err := q.watcher(); err == nil {
			w.remove(x)
		}
	}
	retire(lines)
}
