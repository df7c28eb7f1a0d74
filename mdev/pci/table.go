package pci

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Message is the memory write by which a function interrupts.
type Message struct {
	Addr uint64 // a multiple of 4
	Data uint32
}

// MSIXTable emulates the table and the pending bits of an MSI-X capability, for
// a VMM in this process and for front ends that forward accesses to them. (A
// VMM such as QEMU has an emulation of its own, and does not.) The methods may
// be called from any goroutine.
//
//	entry  0x0  u32  address, bits 0 and 1 read as 0
//	       0x4  u32  address, upper half
//	       0x8  u32  data
//	       0xc  u32  vector control: bit 0 masks; the rest reads as 0
//
// While MSI-X is disabled a trigger is lost. While it is enabled and the
// function or the vector is masked, a trigger sets the vector's pending bit, and
// its message is sent as soon as neither is. Specification: PCI Local Bus 3.0,
// 6.8.2 and 6.8.3.
type MSIXTable struct {
	place   MSIX
	deliver func(vector int, m Message)

	mu      sync.Mutex
	entries []byte                      // guarded by mu
	pending [MaxMSIXVectors / 64]uint64 // guarded by mu
	enabled bool                        // guarded by mu
	masked  bool                        // guarded by mu
}

const (
	entryControl = 0xc
	entryMasked  = 0x1
)

// entryWrite are the bits of an entry that software may change.
var entryWrite = [entrySize]byte{0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, entryMasked}

// NewMSIXTable returns the table of the vectors of m, as after a reset. deliver
// is called for each message sent, by whoever made that possible, with no lock
// held; nil drops them. It fails with errs.ErrInvalid where m cannot be.
func NewMSIXTable(m MSIX, deliver func(vector int, m Message)) (*MSIXTable, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("MSI-X: %w", err)
	}
	if deliver == nil {
		deliver = func(int, Message) {}
	}
	t := &MSIXTable{place: m, deliver: deliver, entries: make([]byte, m.TableSize())}
	t.Reset()
	return t, nil
}

// Place is what NewMSIXTable was given.
func (t *MSIXTable) Place() MSIX { return t.place }

// Reset masks every vector and drops what is pending; MSI-X is disabled.
func (t *MSIXTable) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.entries)
	for v := range t.place.Vectors {
		t.entries[v*entrySize+entryControl] = entryMasked
	}
	t.pending, t.enabled, t.masked = [len(t.pending)]uint64{}, false, false
}

// overlap cuts [at, at+size) out of the n bytes from off on: they are p[from:to]
// of the access, and begin at skip.
func overlap(at, size, off uint64, n int) (from, to int, skip uint64) {
	start, end := max(at, off), min(at+size, off+uint64(n))
	if end < off || start >= end {
		return 0, 0, 0
	}
	return int(start - off), int(end - off), start - at
}

// Overlaps reports whether some of the n bytes at off of a BAR are the table's
// or pending bits.
func (t *MSIXTable) Overlaps(bar int, off uint64, n int) bool {
	_, table, _ := t.table(bar, off, n)
	_, pba, _ := t.pba(bar, off, n)
	return table > 0 || pba > 0
}

func (t *MSIXTable) table(bar int, off uint64, n int) (from, to int, skip uint64) {
	if bar != t.place.TableBAR {
		return 0, 0, 0
	}
	return overlap(uint64(t.place.TableOffset), t.place.TableSize(), off, n)
}

func (t *MSIXTable) pba(bar int, off uint64, n int) (from, to int, skip uint64) {
	if bar != t.place.PBABAR {
		return 0, 0, 0
	}
	return overlap(uint64(t.place.PBAOffset), t.place.PBASize(), off, n)
}

// Read reads at off of a BAR. Bytes of p that are neither the table's nor
// pending bits are left alone.
func (t *MSIXTable) Read(bar int, off uint64, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from, to, at := t.table(bar, off, len(p)); to > 0 {
		copy(p[from:to], t.entries[at:])
	}
	if from, to, at := t.pba(bar, off, len(p)); to > 0 {
		for i := from; i < to; i, at = i+1, at+1 {
			p[i] = byte(t.pending[at/8] >> (at % 8 * 8))
		}
	}
}

// Write writes at off of a BAR. Bytes of p that are not the table's are ignored:
// pending bits are read-only.
func (t *MSIXTable) Write(bar int, off uint64, p []byte) {
	t.mu.Lock()
	if from, to, at := t.table(bar, off, len(p)); to > 0 {
		for i := from; i < to; i, at = i+1, at+1 {
			w := entryWrite[at%entrySize]
			t.entries[at] = t.entries[at]&^w | p[i]&w
		}
	}
	t.send() // unlocks
}

// Control says what the MSI-X Enable and Function Mask bits are.
func (t *MSIXTable) Control(enabled, masked bool) {
	t.mu.Lock()
	t.enabled, t.masked = enabled, masked
	t.send() // unlocks
}

// Trigger interrupts with a vector. One that does not exist is ignored. It does
// not block and allocates nothing, what deliver does aside.
func (t *MSIXTable) Trigger(vector int) {
	if vector < 0 || vector >= t.place.Vectors {
		return
	}
	t.mu.Lock()
	switch {
	case !t.enabled:
	case t.blocked(vector):
		t.pending[vector/64] |= 1 << (vector % 64)
	default:
		m := t.message(vector)
		t.mu.Unlock()
		t.deliver(vector, m)
		return
	}
	t.mu.Unlock()
}

// Message is the message of a vector as software has set it up, and whether a
// trigger would send it at once.
func (t *MSIXTable) Message(vector int) (m Message, on bool) {
	if vector < 0 || vector >= t.place.Vectors {
		return Message{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.message(vector), t.enabled && !t.blocked(vector)
}

// blocked reports whether the function or the vector is masked. The caller
// holds mu.
func (t *MSIXTable) blocked(vector int) bool {
	return t.masked || t.entries[vector*entrySize+entryControl]&entryMasked != 0
}

// message is the message of a vector. The caller holds mu.
func (t *MSIXTable) message(vector int) Message {
	e := t.entries[vector*entrySize:]
	return Message{Addr: binary.LittleEndian.Uint64(e), Data: binary.LittleEndian.Uint32(e[8:])}
}

// send sends what is pending and not blocked any more. The caller holds mu,
// which send unlocks.
func (t *MSIXTable) send() {
	for t.enabled && !t.masked {
		v, some := t.ready()
		if !some {
			break
		}
		t.pending[v/64] &^= 1 << (v % 64)
		m := t.message(v)
		t.mu.Unlock()
		t.deliver(v, m)
		t.mu.Lock()
	}
	t.mu.Unlock()
}

// ready is the first vector that is pending and not masked.
func (t *MSIXTable) ready() (int, bool) {
	for i, word := range t.pending {
		for ; word != 0; word &= word - 1 {
			if v := 64*i + bits.TrailingZeros64(word); !t.blocked(v) {
				return v, true
			}
		}
	}
	return 0, false
}

// Append appends the table and the pending bits to p, as Load takes them.
func (t *MSIXTable) Append(p []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	p = append(p, t.entries...)
	for _, w := range t.pending[:t.place.PBASize()/8] {
		p = binary.LittleEndian.AppendUint64(p, w)
	}
	return p
}

// Load gives the table and the pending bits what Append said; whether MSI-X is
// enabled, Control says. Bits that do not exist are dropped. It fails with
// errs.ErrInvalid where p is not of as many vectors.
func (t *MSIXTable) Load(p []byte) error {
	size := int(t.place.TableSize())
	if len(p) != size+int(t.place.PBASize()) {
		return fmt.Errorf("MSI-X: %d bytes for %d vectors: %w", len(p), t.place.Vectors, errs.ErrInvalid)
	}
	t.mu.Lock()
	for i := range size {
		t.entries[i] = p[i] & entryWrite[i%entrySize]
	}
	for i := range int(t.place.PBASize() / 8) {
		t.pending[i] = binary.LittleEndian.Uint64(p[size+8*i:])
		if left := t.place.Vectors - 64*i; left < 64 {
			t.pending[i] &= 1<<left - 1
		}
	}
	t.send() // unlocks
	return nil
}
