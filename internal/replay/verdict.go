package replay

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// Outcome is what comparing one record came to.
type Outcome uint8

// The outcomes.
const (
	Pass      Outcome = iota // equal in everything
	Expected                 // differs as a rule or the operator's list says
	Fail                     // differs
	Unchecked                // ran, but the record holds no expectation
)

var outcomeNames = [...]string{"pass", "expected", "fail", "unchecked"}

// String is the outcome in lower case.
func (o Outcome) String() string { return outcomeNames[o] }

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Difference is one element that is not as recorded.
type Difference struct {
	// Element is "scsw", "esw", "ecw", "irb", "sense", "memory" or
	// "start" (the program could not be run).
	Element string
	GPA     addr.GPA // of memory: the first byte
	Want    []byte
	Got     []byte
	Text    string // in words: decoded status, or what went wrong
}

// Result is what became of one record.
type Result struct {
	File     string
	Line     int
	Scenario string
	Seq      int
	Name     string
	Device   string // key of the device
	Emulated bool   // ran on a device model, else on the recorded device side
	Outcome  Outcome
	Diffs    []Difference // also those that were expected
	Rules    []Rule       // that explain them, all or (in a failure) some
	// Err is what the mediator found wrong with the program, positioned.
	// A guest's mistake; not a difference.
	Err error
	// Note says what is unusual about the way the record was run.
	Note string
	Work

	stray bool // stored outside of what the program names
}

// Work counts what a program took.
type Work struct {
	CCWs  int   // executed, as recorded
	IDAWs int   // words of the guest's lists and of those made for direct data
	Pins  int   // pages
	RunNS int64 // Start to Test: fetch, translate, pin, execute, status back
	AllNS int64 // RunNS with loading the image and comparing
}

func (w *Work) add(v Work) {
	w.CCWs += v.CCWs
	w.IDAWs += v.IDAWs
	w.Pins += v.Pins
	w.RunNS += v.RunNS
	w.AllNS += v.AllNS
}

// observed is a record's expectation beside what was observed. Rules correct
// the expectation to what the architecture says; see rules.go.
type observed struct {
	p *program
	// near are the records around it in the file.
	near []*recording.Record
	// Expectation, as far as recorded.
	scsw    cio.SCSW
	esw     cio.ESW
	ecw     cio.ECW
	hasSCSW bool
	hasESW  bool
	hasECW  bool
	irb     []byte // 64 or 96 bytes, or nil
	// Observation.
	got  cio.IRB
	runs []Run // memory that is not as expected
}

// observe pairs what p recorded with what happened.
func observe(p *program, near []*recording.Record, got *cio.IRB, runs []Run) *observed {
	o := &observed{p: p, near: near, got: *got, runs: runs}
	if e := p.rec.Expect; e != nil {
		if e.SCSW != nil {
			o.scsw, o.hasSCSW = *e.SCSW, true
		}
		if e.ESW != nil {
			o.esw, o.hasESW = *e.ESW, true
		}
		if e.ECW != nil {
			o.ecw, o.hasECW = *e.ECW, true
		}
		o.irb = bytes.Clone(e.IRB)
	}
	return o
}

func (o *observed) clone() *observed {
	c := *o
	c.irb = bytes.Clone(o.irb)
	c.runs = append([]Run(nil), o.runs...)
	return &c
}

// correct changes the expected status words, in all places that show them.
func (o *observed) correct(f func(s *cio.SCSW, e *cio.ESW, c *cio.ECW)) {
	f(&o.scsw, &o.esw, &o.ecw)
	if o.irb == nil {
		return
	}
	var b [cio.IRBExtendedSize]byte
	copy(b[:], o.irb)
	irb := cio.DecodeIRB(&b)
	f(&irb.SCSW, &irb.ESW, &irb.ECW)
	b = irb.Encode()
	copy(o.irb, b[:])
}

// equal reports whether nothing differs.
func (o *observed) equal() bool {
	if len(o.runs) > 0 || o.hasSCSW && o.scsw != o.got.SCSW || o.hasESW && o.esw != o.got.ESW || o.hasECW && o.ecw != o.got.ECW {
		return false
	}
	if o.irb == nil {
		return true
	}
	b := o.got.Encode()
	return bytes.Equal(o.irb, b[:len(o.irb)])
}

// differences lists what differs.
func (o *observed) differences() []Difference {
	var d []Difference
	if o.hasSCSW && o.scsw != o.got.SCSW {
		d = append(d, Difference{Element: "scsw", Want: bytes.Clone(o.scsw[:]), Got: bytes.Clone(o.got.SCSW[:]),
			Text: fmt.Sprintf("expected %v, got %v", o.scsw, o.got.SCSW)})
	}
	if o.hasESW && o.esw != o.got.ESW {
		d = append(d, Difference{Element: "esw", Want: bytes.Clone(o.esw[:]), Got: bytes.Clone(o.got.ESW[:])})
	}
	if o.hasECW && o.ecw != o.got.ECW {
		d = append(d, Difference{Element: "ecw", Want: bytes.Clone(o.ecw[:]), Got: bytes.Clone(o.got.ECW[:])})
	}
	if o.irb != nil {
		if b := o.got.Encode(); !bytes.Equal(o.irb, b[:len(o.irb)]) {
			d = append(d, Difference{Element: "irb", Want: bytes.Clone(o.irb), Got: bytes.Clone(b[:len(o.irb)])})
		}
	}
	for _, r := range o.runs {
		d = append(d, Difference{Element: "memory", GPA: r.GPA, Want: r.Want, Got: r.Got})
	}
	return d
}

// Location says where a difference is.
func (d *Difference) Location() string {
	if d.Element == "memory" {
		return fmt.Sprintf("memory %v", addr.MustRange(d.GPA, addr.Len(cmp.Or(len(d.Got), len(d.Want), 1))))
	}
	return d.Element
}

// maxDiffLines bounds the hex diff of one element.
const maxDiffLines = 16

// HexDiff prints the bytes expected and got, 16 a line, only lines that
// differ, with a mark under each byte that does.
func (d *Difference) HexDiff() string {
	var b strings.Builder
	lines := 0
	n := max(len(d.Want), len(d.Got))
	for off := 0; off < n; off += 16 {
		w, g := row(d.Want, off), row(d.Got, off)
		if bytes.Equal(w, g) {
			continue
		}
		if lines == maxDiffLines {
			fmt.Fprintf(&b, "  ... and more, %d bytes in all\n", n)
			break
		}
		lines++
		fmt.Fprintf(&b, "  %8x expected %s\n", uint64(d.GPA)+uint64(off), hexRow(w))
		fmt.Fprintf(&b, "           got      %s\n", hexRow(g))
		marks := make([]byte, 0, 48)
		for i := range max(len(w), len(g)) {
			mark := "   "
			if i >= len(w) || i >= len(g) || w[i] != g[i] {
				mark = "^^ "
			}
			marks = append(marks, mark...)
		}
		fmt.Fprintf(&b, "                    %s\n", bytes.TrimRight(marks, " "))
	}
	return b.String()
}

func row(b []byte, off int) []byte {
	if off >= len(b) {
		return nil
	}
	return b[off:min(off+16, len(b))]
}

func hexRow(b []byte) string {
	if len(b) == 0 {
		return "--"
	}
	return fmt.Sprintf("% x", b)
}

// primary reports whether e shows primary status: that a start function had
// begun when it ended.
func primary(e *recording.Expect) bool {
	if e == nil || e.SCSW == nil {
		return false
	}
	w := cio.SCSW(*e.SCSW)
	return w.Control()&cio.PrimaryStatus != 0
}

// unchecked reports whether rec says too little for a verdict.
func unchecked(rec *recording.Record) bool { return !rec.Expect.Complete() }
