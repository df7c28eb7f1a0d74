package ccwdev

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// NewRecord is the record of a submission that a device made: what recording
// version 1 says of a channel program. It copies what it takes from s.
//
// The format has no place for what a mapping refused, nor for memory that
// somebody changed while the program ran. A record of a program that met
// either is written as it was, and replays with a difference; one with
// s.Changed says so in its name. s.Err must be nil.
func NewRecord(s *ccw.Submission, scenario string, device recording.Device) *recording.Record {
	pmcw, scsw := [28]byte(s.PMCW), [12]byte(s.SCSW)
	ns := s.Took.Nanoseconds()
	r := &recording.Record{
		Scenario: scenario,
		Op:       recording.StartSubchannel,
		End:      ends[s.End],
		Source:   recording.LiveSource,
		Device:   device,
		ORB:      s.ORB.Raw,
		PMCW:     &pmcw,
		Memory:   segments(s.Fetched),
		Trace:    make([]recording.Step, len(s.Trace)),
		Expect:   &recording.Expect{SCSW: &scsw, Memory: segments(s.Stored), HasMemory: true},
		HostNS:   &ns,
	}
	if s.Resumed {
		r.Op = recording.ResumeSubchannel
	}
	if s.Changed {
		r.Name = "memory changed while it ran"
	}
	for i := range s.Trace {
		t := &s.Trace[i]
		r.Trace[i] = recording.Step{
			At: addr.GPA(t.At), Cmd: byte(t.CCW.Command), Flags: byte(t.CCW.Flags), Count: t.CCW.Count, CDA: t.CCW.Addr,
			Ended: t.Ended, DStat: byte(t.Device), CStat: byte(t.Subchannel), Resid: t.Count,
		}
	}
	if s.IRB != nil {
		b := s.IRB.Encode()
		esw, ecw := [20]byte(s.IRB.ESW), [32]byte(s.IRB.ECW)
		r.Expect.ESW, r.Expect.ECW, r.Expect.IRB = &esw, &ecw, b[:]
	}
	return r
}

var ends = [...]recording.End{
	ccw.Ended: recording.Ended, ccw.Suspended: recording.Suspended, ccw.Halted: recording.Halted, ccw.Cleared: recording.Cleared,
}

// shortestFill is the length from which on a run of one byte is written as
// such.
const shortestFill = 32

// segments are the segments of s. Memory that continues on the next page stays
// two segments; the format has nothing against it.
func segments(list []ccw.Segment) []recording.Segment {
	out := make([]recording.Segment, len(list))
	total := 0
	for i := range list {
		b := list[i].Data
		out[i].GPA = addr.GPA(list[i].At)
		if len(b) >= shortestFill && recording.IsFill(b, b[0]) {
			out[i].Fill, out[i].N = b[0], addr.Len(len(b))
		} else {
			total += len(b)
		}
	}
	data := make([]byte, 0, total) // one piece of memory for all of them
	for i := range list {
		if out[i].N == 0 {
			n := len(data)
			data = append(data, list[i].Data...)
			out[i].Data = data[n:len(data):len(data)]
		}
	}
	return out
}

// deviceOf identifies a device in recordings by its device number and the
// bytes that SENSE ID tells.
func deviceOf(devno uint16, senseID []byte) recording.Device {
	d := recording.Device{SchID: 0x0001_0000, DevNo: devno, HasDevNo: true, SenseID: senseID}
	if id := senseID; len(id) >= 7 {
		d.CU = fmt.Sprintf("%02x%02x/%02x", id[1], id[2], id[3])
		d.Dev = fmt.Sprintf("%02x%02x/%02x", id[4], id[5], id[6])
	}
	return d
}
