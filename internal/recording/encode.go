package recording

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"

	"github.com/softmdev/softmdev/translate/addr"
)

// Append appends the line of r, without a newline, to b. The order of the
// fields is that of the recordings in testdata. It does not check r: a record
// that the reader would not return makes a line that it refuses.
func Append(b []byte, r *Record) []byte {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, Version, 10)
	b = appendOptional(b, `,"kind":`, r.Kind)
	b = append(b, `,"scenario":`...)
	b = appendText(b, r.Scenario)
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, int64(r.Seq), 10)
	b = appendOptional(b, `,"name":`, r.Name)
	b = append(b, `,"op":`...)
	b = appendText(b, string(r.Op))
	b = append(b, `,"end":`...)
	b = appendText(b, string(r.End))
	b = appendOptional(b, `,"os":`, r.OS)
	b = appendOptional(b, `,"source":`, r.Source)
	b = append(b, `,"device":`...)
	b = appendDevice(b, &r.Device)
	b = append(b, `,"orb":`...)
	b = appendHex(b, r.ORB[:])
	b = append(b, `,"pmcw":`...)
	if r.PMCW != nil {
		b = appendHex(b, r.PMCW[:])
	} else {
		b = append(b, `null`...)
	}
	b = append(b, `,"sense_before":`...)
	if r.SenseBefore != nil {
		b = appendHex(b, r.SenseBefore[:])
	} else {
		b = append(b, `null`...)
	}
	b = append(b, `,"memory":`...)
	b = appendSegments(b, r.Memory)
	b = append(b, `,"trace":`...)
	b = appendTrace(b, r.Trace)
	b = append(b, `,"expect":`...)
	b = appendExpect(b, r.Expect)
	b = append(b, `,"host_ns":`...)
	if r.HostNS != nil {
		b = strconv.AppendInt(b, *r.HostNS, 10)
	} else {
		b = append(b, `null`...)
	}
	return append(b, '}')
}

func appendDevice(b []byte, d *Device) []byte {
	b = append(b, `{"schid":"`...)
	b = appendDigits(b, uint64(d.SchID), 8)
	b = append(b, '"')
	if d.HasDevNo {
		b = append(b, `,"devno":"`...)
		b = appendDigits(b, uint64(d.DevNo), 4)
		b = append(b, '"')
	}
	b = append(b, `,"sense_id":`...)
	if d.SenseID != nil {
		b = appendHex(b, d.SenseID)
	} else {
		b = append(b, `null`...)
	}
	b = appendOptional(b, `,"cu":`, d.CU)
	b = appendOptional(b, `,"dev":`, d.Dev)
	return append(b, '}')
}

func appendSegments(b []byte, segs []Segment) []byte {
	b = append(b, '[')
	for i := range segs {
		if i > 0 {
			b = append(b, ',')
		}
		s := &segs[i]
		b = append(b, `{"gpa":`...)
		b = appendAddr(b, s.GPA)
		if s.Data != nil {
			b = append(b, `,"hex":`...)
			b = appendHex(b, s.Data)
		} else {
			b = append(b, `,"fill":"`...)
			b = appendDigits(b, uint64(s.Fill), 2)
			b = append(b, `","len":`...)
			b = strconv.AppendUint(b, uint64(s.N), 10)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendTrace(b []byte, trace []Step) []byte {
	b = append(b, '[')
	for i := range trace {
		if i > 0 {
			b = append(b, ',')
		}
		s := &trace[i]
		b = append(b, `{"at":`...)
		b = appendAddr(b, s.At)
		b = append(b, `,"cmd":"`...)
		b = appendDigits(b, uint64(s.Cmd), 2)
		b = append(b, `","flags":"`...)
		b = appendDigits(b, uint64(s.Flags), 2)
		b = append(b, `","count":`...)
		b = strconv.AppendUint(b, uint64(s.Count), 10)
		b = append(b, `,"cda":`...)
		b = appendAddr(b, addr.GPA(s.CDA))
		if s.Ended {
			b = append(b, `,"dstat":"`...)
			b = appendDigits(b, uint64(s.DStat), 2)
			b = append(b, `","cstat":"`...)
			b = appendDigits(b, uint64(s.CStat), 2)
			b = append(b, `","resid":`...)
			b = strconv.AppendUint(b, uint64(s.Resid), 10)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendExpect(b []byte, e *Expect) []byte {
	if e == nil {
		return append(b, `null`...)
	}
	b = append(b, '{')
	first := true
	field := func(name string) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(append(b, '"'), name...), `":`...)
	}
	if e.SCSW != nil {
		field("scsw")
		b = appendHex(b, e.SCSW[:])
	}
	if e.ESW != nil {
		field("esw")
		b = appendHex(b, e.ESW[:])
	}
	if e.ECW != nil {
		field("ecw")
		b = appendHex(b, e.ECW[:])
	}
	if e.HasMemory {
		field("memory")
		b = appendSegments(b, e.Memory)
	}
	if e.SenseAfter != nil {
		field("sense_after")
		b = appendHex(b, e.SenseAfter[:])
	}
	if len(e.IRB) > 0 {
		field("irb")
		b = appendHex(b, e.IRB)
	}
	return append(b, '}')
}

func appendHex(b, data []byte) []byte {
	b = append(b, '"')
	b = hex.AppendEncode(b, data)
	return append(b, '"')
}

// appendAddr appends an address as a hexadecimal string.
func appendAddr(b []byte, a addr.GPA) []byte {
	b = append(b, '"')
	b = strconv.AppendUint(b, uint64(a), 16)
	return append(b, '"')
}

// appendDigits appends v in exactly n hexadecimal digits.
func appendDigits(b []byte, v uint64, n int) []byte {
	const digits = "0123456789abcdef"
	for i := n - 1; i >= 0; i-- {
		b = append(b, digits[v>>(4*i)&0xf])
	}
	return b
}

func appendOptional(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(append(b, name...), s)
}

func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendQuoted(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendQuoted(b []byte, s string) []byte {
	var q bytes.Buffer
	enc := json.NewEncoder(&q)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always has a JSON form
	return append(b, bytes.TrimSuffix(q.Bytes(), []byte("\n"))...)
}

// A Writer writes records as lines.
type Writer struct{ w io.Writer }

// NewWriter returns a Writer on w. It does not buffer; give it a buffered or
// compressing writer and close that.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write appends r.
func (w *Writer) Write(r *Record) error {
	_, err := w.w.Write(append(Append(nil, r), '\n'))
	return err
}
