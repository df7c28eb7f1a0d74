package recording

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// The wire types give the writer its field order, which is that of the
// recordings in testdata.
type wireRecord struct {
	V           int           `json:"v"`
	Kind        string        `json:"kind,omitempty"`
	Scenario    string        `json:"scenario"`
	Seq         int           `json:"seq"`
	Name        string        `json:"name,omitempty"`
	Op          Op            `json:"op"`
	End         End           `json:"end"`
	OS          string        `json:"os,omitempty"`
	Source      string        `json:"source,omitempty"`
	Device      wireDevice    `json:"device"`
	ORB         string        `json:"orb"`
	PMCW        *string       `json:"pmcw"`
	SenseBefore *string       `json:"sense_before"`
	Memory      []wireSegment `json:"memory"`
	Trace       []wireStep    `json:"trace"`
	Expect      *wireExpect   `json:"expect"`
	HostNS      *int64        `json:"host_ns"`
}

type wireDevice struct {
	SchID   string  `json:"schid"`
	DevNo   string  `json:"devno,omitempty"`
	SenseID *string `json:"sense_id"`
	CU      string  `json:"cu,omitempty"`
	Dev     string  `json:"dev,omitempty"`
}

type wireSegment struct {
	GPA  string `json:"gpa"`
	Hex  string `json:"hex,omitempty"`
	Fill string `json:"fill,omitempty"`
	Len  uint64 `json:"len,omitempty"`
}

type wireStep struct {
	At    string  `json:"at"`
	Cmd   string  `json:"cmd"`
	Flags string  `json:"flags"`
	Count uint16  `json:"count"`
	CDA   string  `json:"cda"`
	DStat string  `json:"dstat,omitempty"`
	CStat string  `json:"cstat,omitempty"`
	Resid *uint16 `json:"resid,omitempty"`
}

type wireExpect struct {
	SCSW       *string        `json:"scsw,omitempty"`
	ESW        *string        `json:"esw,omitempty"`
	ECW        *string        `json:"ecw,omitempty"`
	Memory     *[]wireSegment `json:"memory,omitempty"`
	SenseAfter *string        `json:"sense_after,omitempty"`
	IRB        string         `json:"irb,omitempty"`
}

// Encode is the line of r, without a newline.
func Encode(r *Record) ([]byte, error) {
	w := wireRecord{
		V: Version, Kind: r.Kind, Scenario: r.Scenario, Seq: r.Seq, Name: r.Name, Op: r.Op, End: r.End,
		OS: r.OS, Source: r.Source, ORB: hex.EncodeToString(r.ORB[:]), HostNS: r.HostNS,
		Device: wireDevice{SchID: fmt.Sprintf("%08x", r.Device.SchID), CU: r.Device.CU, Dev: r.Device.Dev},
		Memory: wireSegments(r.Memory), Trace: make([]wireStep, len(r.Trace)),
	}
	if r.Device.HasDevNo {
		w.Device.DevNo = fmt.Sprintf("%04x", r.Device.DevNo)
	}
	if r.Device.SenseID != nil {
		w.Device.SenseID = hexOf(r.Device.SenseID)
	}
	if r.PMCW != nil {
		w.PMCW = hexOf(r.PMCW[:])
	}
	if r.SenseBefore != nil {
		w.SenseBefore = hexOf(r.SenseBefore[:])
	}
	for i, s := range r.Trace {
		t := wireStep{
			At: strconv.FormatUint(uint64(s.At), 16), Cmd: fmt.Sprintf("%02x", s.Cmd),
			Flags: fmt.Sprintf("%02x", s.Flags), Count: s.Count, CDA: strconv.FormatUint(uint64(s.CDA), 16),
		}
		if s.Ended {
			t.DStat, t.CStat, t.Resid = fmt.Sprintf("%02x", s.DStat), fmt.Sprintf("%02x", s.CStat), &r.Trace[i].Resid
		}
		w.Trace[i] = t
	}
	if e := r.Expect; e != nil {
		x := &wireExpect{IRB: hex.EncodeToString(e.IRB)}
		if e.SCSW != nil {
			x.SCSW = hexOf(e.SCSW[:])
		}
		if e.ESW != nil {
			x.ESW = hexOf(e.ESW[:])
		}
		if e.ECW != nil {
			x.ECW = hexOf(e.ECW[:])
		}
		if e.SenseAfter != nil {
			x.SenseAfter = hexOf(e.SenseAfter[:])
		}
		if e.HasMemory {
			m := wireSegments(e.Memory)
			x.Memory = &m
		}
		w.Expect = x
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil {
		return nil, fmt.Errorf("seq %d: %w", r.Seq, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func hexOf(b []byte) *string {
	s := hex.EncodeToString(b)
	return &s
}

func wireSegments(segs []Segment) []wireSegment {
	w := make([]wireSegment, len(segs))
	for i, s := range segs {
		w[i].GPA = strconv.FormatUint(uint64(s.GPA), 16)
		if s.Data != nil {
			w[i].Hex = hex.EncodeToString(s.Data)
		} else {
			w[i].Fill, w[i].Len = fmt.Sprintf("%02x", s.Fill), uint64(s.N)
		}
	}
	return w
}

// A Writer writes records as lines.
type Writer struct{ w io.Writer }

// NewWriter returns a Writer on w. It does not buffer; give it a buffered or
// compressing writer and close that.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write appends r.
func (w *Writer) Write(r *Record) error {
	b, err := Encode(r)
	if err != nil {
		return err
	}
	_, err = w.w.Write(append(b, '\n'))
	return err
}
