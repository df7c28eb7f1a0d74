package intremap

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Reason is why a message was refused. It is the error of [Table.Write], too.
//
// Spec: VT-d, "Fault Reason Encodings", which leaves 0xe0 and above unused;
// there we put our own.
type Reason uint8

const (
	// ReasonRequestReserved: reserved bits of a remappable request are set.
	ReasonRequestReserved Reason = 0x20
	// ReasonIndex: handle plus subhandle lie outside the table.
	ReasonIndex Reason = 0x21
	// ReasonNotPresent: the entry is not present: never set, or revoked.
	ReasonNotPresent Reason = 0x22
	// ReasonTable: the table cannot be read. Here: it is closed.
	ReasonTable Reason = 0x23
	// ReasonEntryReserved: reserved bits of a present entry are set.
	ReasonEntryReserved Reason = 0x24
	// ReasonCompatibility: a request in compatibility format is blocked.
	ReasonCompatibility Reason = 0x25
	// ReasonSource: the entry does not admit this source.
	ReasonSource Reason = 0x26
	// ReasonDescriptor: a posted-interrupt descriptor cannot be reached.
	ReasonDescriptor Reason = 0x27
	// ReasonDescriptorReserved: reserved bits of a descriptor are set.
	ReasonDescriptorReserved Reason = 0x28

	// ReasonForeign: the entry belongs to another VM. Ours.
	ReasonForeign Reason = 0xe0
	// ReasonAddress: the store is outside the interrupt window. Ours.
	ReasonAddress Reason = 0xe1
)

var reasons = [...]struct {
	reason Reason
	text   string
	err    error
}{
	{ReasonRequestReserved, "reserved bits in the request", errs.ErrInvalid},
	{ReasonIndex, "index outside the table", errs.ErrNotFound},
	{ReasonNotPresent, "entry not present", errs.ErrNotFound},
	{ReasonTable, "no table", errs.ErrGone},
	{ReasonEntryReserved, "reserved bits in the entry", errs.ErrInvalid},
	{ReasonCompatibility, "compatibility format blocked", errs.ErrPermission},
	{ReasonSource, "source not admitted", errs.ErrPermission},
	{ReasonDescriptor, "posted-interrupt descriptor out of reach", errs.ErrReach},
	{ReasonDescriptorReserved, "reserved bits in the posted-interrupt descriptor", errs.ErrInvalid},
	{ReasonForeign, "entry of another vm", errs.ErrPermission},
	{ReasonAddress, "not an interrupt address", errs.ErrInvalid},
}

// Error names the reason.
func (r Reason) Error() string {
	for i := range reasons {
		if reasons[i].reason == r {
			return reasons[i].text
		}
	}
	return fmt.Sprintf("reason %#x", uint8(r))
}

func (r Reason) String() string { return r.Error() }

// Unwrap is a sentinel of package errs.
func (r Reason) Unwrap() error {
	for i := range reasons {
		if reasons[i].reason == r {
			return reasons[i].err
		}
	}
	return nil
}

// NoIndex is the index of a fault whose message names no entry.
const NoIndex = -1

// Fault is one message that was refused.
type Fault struct {
	Seq       uint64 // counts the faults that were logged, from 1
	Requester Requester
	Message   Message
	Index     int // entry, or NoIndex
	Reason    Reason
}

func (f Fault) String() string {
	if f.Index == NoIndex {
		return fmt.Sprintf("fault %d: %v: %v: %v (%#x)", f.Seq, f.Requester, f.Message, f.Reason, uint8(f.Reason))
	}
	return fmt.Sprintf("fault %d: %v: %v: entry %d: %v (%#x)",
		f.Seq, f.Requester, f.Message, f.Index, f.Reason, uint8(f.Reason))
}

// faultLog keeps the last faults and counts all. Only refusals come here:
// a VM that floods it delays nobody's deliveries.
type faultLog struct {
	counts [256]atomic.Uint64 // refusals by reason, logged or not

	mu    sync.Mutex
	count uint64  // guarded by mu
	ring  []Fault // fault n at (n-1) % len; immutable length; guarded by mu
}

// refuse counts a message, logs it unless the entry said not to, and is its
// error.
func (l *faultLog) refuse(r Requester, m Message, index int, why Reason, silent bool) error {
	l.counts[why].Add(1)
	if !silent {
		l.mu.Lock()
		l.ring[l.count%uint64(len(l.ring))] = Fault{Seq: l.count + 1, Requester: r, Message: m, Index: index, Reason: why}
		l.count++
		l.mu.Unlock()
	}
	return why
}

// Faults are the last logged faults, oldest first, as many as
// Config.FaultLog.
func (t *Table) Faults() []Fault {
	l := &t.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(l.count, uint64(len(l.ring)))
	list := make([]Fault, 0, n)
	for i := l.count - n; i < l.count; i++ {
		list = append(list, l.ring[i%uint64(len(l.ring))])
	}
	return list
}

// Refused is the number of messages refused so far for a reason, those that
// an entry's FPD kept out of the log included.
func (t *Table) Refused(why Reason) uint64 { return t.faults.counts[why].Load() }

// FaultCount is the number of messages refused so far, for any reason.
func (t *Table) FaultCount() (n uint64) {
	for i := range reasons {
		n += t.Refused(reasons[i].reason)
	}
	return n
}
