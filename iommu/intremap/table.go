package intremap

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// MaxEntries is the largest table: an index has 16 bits.
const MaxEntries = 1 << 16

// Config of a Table. nil is the default of every field.
type Config struct {
	// Entries is the size of the table, 1 to MaxEntries (default).
	Entries int
	// PerVM is how many entries one VM may have allocated; default:
	// Entries.
	PerVM int
	// EIM is extended interrupt mode: APIC ids of 32 bits, and requests in
	// compatibility format blocked.
	EIM bool
	// Compatibility lets requests in compatibility format through (the
	// unit's CFI), to the sink that SetCompatibility gave the VM.
	Compatibility bool
	// FaultLog is the number of faults kept; default 256.
	FaultLog int
	// Memory holds the posted-interrupt descriptors; nil: none.
	Memory Memory
}

// Table is an interrupt remapping unit with its table. All methods may be
// called from any goroutine.
type Table struct {
	eim    bool   // immutable
	memory Memory // immutable
	perVM  int    // immutable

	// entries are indexed by handle: nil for an index that nobody has.
	// Changed under the mutex of the block that has it.
	entries []atomic.Pointer[route] // immutable slice

	// compat is nil while requests in compatibility format are blocked. The
	// map does not change: it is replaced under compatMu.
	compat   atomic.Pointer[map[VMID]*route]
	compatMu sync.Mutex
	allowed  bool // compatibility requests at all; immutable

	faults faultLog

	mu     sync.Mutex
	closed bool            // guarded by mu
	used   bitmap          // guarded by mu
	next   int             // where the last search ended; guarded by mu
	owned  map[VMID]int    // entries by owner; guarded by mu
	blocks map[*Block]bool // guarded by mu
}

// gone stands in every entry of a closed table.
var gone = &route{refuse: ReasonTable}

// New makes a table with no entry set. It fails with errs.ErrInvalid for a
// size out of range.
func New(cfg *Config) (*Table, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.Entries == 0 {
		c.Entries = MaxEntries
	}
	if c.PerVM == 0 {
		c.PerVM = c.Entries
	}
	if c.FaultLog == 0 {
		c.FaultLog = 256
	}
	if c.Entries < 1 || c.Entries > MaxEntries {
		return nil, fmt.Errorf("remapping table of %d entries: %w", c.Entries, errs.ErrInvalid)
	}
	if c.PerVM < 1 || c.FaultLog < 1 || c.FaultLog > maxFaultLog {
		return nil, fmt.Errorf("remapping table: %d entries a vm, %d faults: %w", c.PerVM, c.FaultLog, errs.ErrInvalid)
	}
	t := &Table{
		eim: c.EIM, memory: c.Memory, perVM: c.PerVM,
		allowed: c.Compatibility && !c.EIM,
		entries: make([]atomic.Pointer[route], c.Entries),
		used:    newBitmap(c.Entries),
		owned:   make(map[VMID]int),
		blocks:  make(map[*Block]bool),
	}
	t.faults.ring = make([]Fault, c.FaultLog)
	return t, nil
}

const maxFaultLog = 1 << 20

// EIM reports whether the table is in extended interrupt mode.
func (t *Table) EIM() bool { return t.eim }

// Entries is the size of the table.
func (t *Table) Entries() int { return len(t.entries) }

// Write is a device's message arriving at the unit: it is decoded, checked and
// delivered, all before Write returns, or refused with a [Reason], which the
// fault log gets as well. The device learns no more than that.
//
// The order of the checks: window and format, reserved bits of the request,
// index, owner, then what the entry says (present, reserved bits, source). The
// owner comes before everything that is in the entry, so that no bit of one
// VM's entry decides what becomes of another's message, not even whether it is
// logged.
//
// Write takes no lock and allocates nothing.
func (t *Table) Write(r Requester, m Message) error {
	if m.Addr>>addrWinShift != addrWindow {
		return t.faults.refuse(r, m, NoIndex, ReasonAddress, false)
	}
	if m.Addr&addrFormat == 0 {
		return t.writeCompat(r, m)
	}
	index := uint32(m.Addr>>5&0x7fff | m.Addr>>2&1<<15)
	if m.Addr&(1<<3) != 0 {
		if m.Data>>16 != 0 {
			return t.faults.refuse(r, m, NoIndex, ReasonRequestReserved, false)
		}
		index += m.Data
	}
	if uint64(index) >= uint64(len(t.entries)) {
		return t.faults.refuse(r, m, int(index), ReasonIndex, false)
	}
	for at := &t.entries[index]; ; {
		e := at.Load()
		switch {
		case e == nil:
			return t.faults.refuse(r, m, int(index), ReasonNotPresent, false)
		case e.owner != r.VM && e != gone:
			return t.faults.refuse(r, m, int(index), ReasonForeign, false)
		case e.refuse != 0:
			return t.faults.refuse(r, m, int(index), e.refuse, e.silent)
		case !e.admit.admits(r.Source):
			return t.faults.refuse(r, m, int(index), ReasonSource, e.silent)
		}
		e.users.Add(1)
		if at.Load() != e { // changed since: see route
			e.users.Add(-1)
			continue
		}
		var why Reason
		if e.posted {
			why = t.post(e)
		} else {
			e.sink.Deliver(e.intr)
		}
		e.users.Add(-1)
		if why != 0 {
			return t.faults.refuse(r, m, int(index), why, e.silent)
		}
		return nil
	}
}

// post delivers by a posted entry.
func (t *Table) post(e *route) Reason {
	if t.memory == nil {
		return ReasonDescriptor
	}
	d, err := t.memory.Descriptor(addr.HPA(e.pda))
	if err != nil || d == nil {
		return ReasonDescriptor
	}
	n, notify, why := d.post(e.vector, e.urgent, t.eim)
	if notify {
		e.sink.Deliver(n)
	}
	return why
}

// writeCompat delivers a message in compatibility format. A CPU would take
// any vector from anybody; here the message stays within its writer's VM.
func (t *Table) writeCompat(r Requester, m Message) error {
	for {
		var e *route
		routes := t.compat.Load()
		if routes != nil {
			e = (*routes)[r.VM]
		}
		if e == nil {
			return t.faults.refuse(r, m, NoIndex, ReasonCompatibility, false)
		}
		e.users.Add(1)
		if t.compat.Load() != routes {
			e.users.Add(-1)
			continue
		}
		e.sink.Deliver(m.Compat().Interrupt())
		e.users.Add(-1)
		return nil
	}
}

// SetCompatibility says where the requests in compatibility format of a VM go:
// to a sink of that VM's own; nil blocks them, and when it returns no delivery
// by the former sink is under way or will be. It fails with
// errs.ErrNotSupported if the table blocks the format altogether.
func (t *Table) SetCompatibility(vm VMID, sink Sink) error {
	if vm == 0 {
		return fmt.Errorf("compatibility format of vm 0: %w", errs.ErrInvalid)
	}
	if !t.allowed {
		return fmt.Errorf("compatibility format: %w", errs.ErrNotSupported)
	}
	t.compatMu.Lock()
	defer t.compatMu.Unlock()
	if t.isClosed() {
		return errClosed
	}
	next := make(map[VMID]*route)
	if p := t.compat.Load(); p != nil {
		next = maps.Clone(*p)
	}
	old := next[vm]
	delete(next, vm)
	if sink != nil {
		next[vm] = &route{owner: vm, sink: sink}
	}
	t.compat.Store(&next)
	if old != nil {
		old.drain()
	}
	return nil
}

var errClosed = fmt.Errorf("remapping table: %w", errs.ErrGone)

func (t *Table) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// Close ends the table: when it returns no message is delivered any more, and
// every one that comes is refused. Blocks that are left may be freed, in vain.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	left := make([]*Block, 0, len(t.blocks))
	for b := range t.blocks {
		left = append(left, b)
	}
	t.mu.Unlock()
	for _, b := range left {
		b.Free()
	}
	for i := range t.entries {
		t.entries[i].Store(gone)
	}
	t.compatMu.Lock()
	defer t.compatMu.Unlock()
	if p := t.compat.Swap(nil); p != nil {
		for _, r := range *p {
			r.drain()
		}
	}
}
