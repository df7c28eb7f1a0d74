package recording

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/softmdev/softmdev/translate/addr"
)

// Version is the version of the format that this package reads and writes.
const Version = 1

// Op is the instruction that gave the program to the device.
type Op string

// The instructions of a channel-program record.
const (
	StartSubchannel  Op = "ssch"
	ResumeSubchannel Op = "rsch"
)

// End is how the recorded program ended.
type End string

// The ends of a channel-program record.
const (
	Ended     End = "end"       // normally or by unusual status
	Suspended End = "suspended" // at a CCW with the S flag
	Halted    End = "halted"    // by HALT SUBCHANNEL
	Cleared   End = "cleared"   // by CLEAR SUBCHANNEL
	Async     End = "async"     // before the instruction ended (QEMU)
)

// Record is one submitted channel program. A Record owns its slices; nothing
// in it refers to the reader.
type Record struct {
	Kind     string // mediator; "" is a channel program
	Scenario string
	Seq      int // order within the scenario
	Name     string
	Op       Op
	End      End    // Ended where the record does not say
	OS       string // guest software
	Source   string // machine that executed it
	Device   Device
	ORB      [32]byte  // bytes 12..31 mean something only with the X bit
	PMCW     *[28]byte // at the start; nil when not recorded
	// SenseBefore is the sense the device held at the start; nil when not
	// recorded.
	SenseBefore *[32]byte
	// Memory is every byte the channel fetched, as it was at its first
	// fetch. Segments do not overlap; they are in the file's order.
	Memory []Segment
	Trace  []Step  // CCWs in the order executed
	Expect *Expect // nil: the record holds no expectation
	HostNS *int64  // recorded run time in ns; nil when not recorded
}

// Device names the device that a program went to.
type Device struct {
	SchID    uint32 // subsystem-identification word
	DevNo    uint16 // device number, meaningful when HasDevNo
	HasDevNo bool
	SenseID  []byte // nil when not known
	CU, Dev  string // "2107/e8": type and model, "" when not known
}

// Key tells the devices of one scenario apart.
func (d *Device) Key() string {
	if d.HasDevNo {
		return fmt.Sprintf("%04x", d.DevNo)
	}
	return fmt.Sprintf("sch %08x", d.SchID)
}

// Segment is a run of guest memory: either Data, or Fill repeated N times when
// Data is nil.
type Segment struct {
	GPA  addr.GPA
	Data []byte
	Fill byte
	N    addr.Len // meaningful when Data is nil
}

// Len is the number of bytes; it is never zero in a record that was read.
func (s *Segment) Len() addr.Len {
	if s.Data != nil {
		return addr.Len(len(s.Data))
	}
	return s.N
}

// Range is the bytes that s covers. The reader refuses a segment that passes
// 2^64; for another such segment the result is undefined.
func (s *Segment) Range() addr.Range[addr.GPA] {
	r, _ := addr.RangeOf(s.GPA, s.Len())
	return r
}

// CopyTo writes the bytes of s from offset off of it into p, as many as both
// hold, and returns how many that were.
func (s *Segment) CopyTo(p []byte, off addr.Len) int {
	if off >= s.Len() {
		return 0
	}
	if s.Data != nil {
		return copy(p, s.Data[off:])
	}
	n := int(min(addr.Len(len(p)), s.N-off))
	Fill(p[:n], s.Fill)
	return n
}

// Equal reports whether p holds exactly the bytes of s.
func (s *Segment) Equal(p []byte) bool {
	if s.Data != nil {
		return bytes.Equal(p, s.Data)
	}
	return addr.Len(len(p)) == s.N && IsFill(p, s.Fill)
}

// Sub is the n bytes of s from offset off on, sharing the data of s.
// Precondition: off+n <= s.Len(), n > 0.
func (s *Segment) Sub(off, n addr.Len) Segment {
	t := Segment{GPA: s.GPA + addr.GPA(off), Fill: s.Fill, N: n}
	if s.Data != nil {
		t.Data, t.N = s.Data[off:off+n:off+n], 0
	}
	return t
}

// Fill sets every byte of p to v.
func Fill(p []byte, v byte) {
	if v == 0 {
		clear(p)
		return
	}
	if len(p) == 0 {
		return
	}
	// Doubling copies run at the speed of memmove; a byte loop does not.
	p[0] = v
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// IsFill reports whether every byte of p is v; an empty p is.
func IsFill(p []byte, v byte) bool {
	// A run equals itself moved by one byte.
	return len(p) == 0 || p[0] == v && bytes.Equal(p[1:], p[:len(p)-1])
}

// Step is one executed CCW.
type Step struct {
	At    addr.GPA // address of the CCW
	Cmd   byte
	Flags byte
	Count uint16
	CDA   uint32 // data address, IDAW or MIDAW list
	// Ended says that the CCW finished an operation and the fields below
	// mean something. Data-chained predecessors, TICs and programs recorded
	// under QEMU have no status.
	Ended bool
	DStat byte // device status
	CStat byte // subchannel status
	Resid uint16
}

// Expect is what the guest got back. A nil field was not recorded.
type Expect struct {
	SCSW       *[12]byte
	ESW        *[20]byte
	ECW        *[32]byte
	SenseAfter *[32]byte // sense still held by the device afterwards
	// Memory is every byte the channel stored, with its final value;
	// meaningful when HasMemory.
	Memory    []Segment
	HasMemory bool
	IRB       []byte // 64 or 96 bytes stored by the guest's TSCH
}

// stored is what the channel stored, as far as recorded.
func (r *Record) stored() []Segment {
	if r.Expect == nil {
		return nil
	}
	return r.Expect.Memory
}

// Complete reports whether e says enough for a verdict: the ending status and
// the memory.
func (e *Expect) Complete() bool { return e != nil && e.SCSW != nil && e.HasMemory }

// Overlap returns the indexes of the first two segments that share a byte.
func Overlap(segs []Segment) (i, j int, found bool) {
	order := make([]int, len(segs))
	for k := range order {
		order[k] = k
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(segs[a].GPA, segs[b].GPA) })
	for k := 1; k < len(order); k++ {
		i, j := order[k-1], order[k]
		if segs[i].Range().Overlaps(segs[j].Range()) {
			return min(i, j), max(i, j), true
		}
	}
	return 0, 0, false
}
