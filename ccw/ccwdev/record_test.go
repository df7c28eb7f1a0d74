package ccwdev_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate/addr"
)

// recording-ccw.md: each field of a record says what the submission does.
func TestNewRecord(t *testing.T) {
	var irb cio.IRB
	irb.SCSW.SetCount(7)
	irb.ESW.SetLPUM(0x80)
	irb.ECW[3] = 9
	o := orb()
	s := &ccw.Submission{
		ORB: o, PMCW: cio.DefaultPMCW(), SCSW: irb.SCSW, IRB: &irb, Took: 3 * time.Microsecond,
		Fetched: []ccw.Segment{{At: 0x1000, Data: []byte{1, 2}}, {At: 0x2000, Data: bytes.Repeat([]byte{5}, 32)}, {At: 0x3000, Data: bytes.Repeat([]byte{5}, 31)}},
		Stored:  []ccw.Segment{{At: 1 << 40, Data: []byte{3}}},
		Trace: []ccw.Step{
			{At: 0x1000, CCW: c(0x08, 0, 0, 0x1010)},
			{At: 0x1010, CCW: c(0x02, cc, 80, 0x8000), Ended: true, Device: cio.Ended, Subchannel: cio.IncorrectLength, Count: 7},
		},
	}
	dev := recording.Device{SchID: 0x10001, DevNo: 0x120, HasDevNo: true}
	r := ccwdev.NewRecord(s, "vm", dev)
	b := irb.Encode()
	require.Equal(t, &recording.Record{
		Scenario: "vm", Op: recording.StartSubchannel, End: recording.Ended, Source: recording.LiveSource, Device: dev,
		ORB: o.Raw, PMCW: (*[28]byte)(&s.PMCW), HostNS: r.HostNS,
		Memory: []recording.Segment{{GPA: 0x1000, Data: []byte{1, 2}}, {GPA: 0x2000, Fill: 5, N: 32}, {GPA: 0x3000, Data: bytes.Repeat([]byte{5}, 31)}},
		Trace: []recording.Step{
			{At: 0x1000, Cmd: 8, CDA: 0x1010},
			{At: 0x1010, Cmd: 2, Flags: 0x40, Count: 80, CDA: 0x8000, Ended: true, DStat: 0x0c, CStat: 0x40, Resid: 7},
		},
		Expect: &recording.Expect{
			SCSW: (*[12]byte)(&irb.SCSW), ESW: (*[20]byte)(&irb.ESW), ECW: (*[32]byte)(&irb.ECW), IRB: b[:],
			HasMemory: true, Memory: []recording.Segment{{GPA: 1 << 40, Data: []byte{3}}},
		},
	}, r)
	require.EqualValues(t, 3000, *r.HostNS)
	back, err := recording.Decode(recording.Append(nil, r), nil)
	require.NoError(t, err)
	require.Equal(t, r, back)

	s.Fetched[0].Data[0], s.Stored[0].Data[0] = 99, 99 // the device's again
	require.Equal(t, []byte{1, 2}, r.Memory[0].Data)
	require.Equal(t, []byte{3}, r.Expect.Memory[0].Data)

	s.Resumed, s.Changed, s.IRB, s.End = true, true, nil, ccw.Suspended
	r = ccwdev.NewRecord(s, "vm", dev)
	require.Equal(t, recording.ResumeSubchannel, r.Op)
	require.Equal(t, recording.Suspended, r.End)
	require.Equal(t, "memory changed while it ran", r.Name)
	require.Nil(t, r.Expect.ESW)
	require.Nil(t, r.Expect.IRB)
	require.Equal(t, recording.Halted, ccwdev.NewRecord(&ccw.Submission{End: ccw.Halted}, "vm", dev).End)
	require.Equal(t, recording.Cleared, ccwdev.NewRecord(&ccw.Submission{End: ccw.Cleared}, "vm", dev).End)
}

// tape is a recorder that keeps what it gets, or refuses it.
type tape struct {
	list []*recording.Record
	err  error
}

func (t *tape) Record(program any) error {
	if t.err == nil {
		t.list = append(t.list, program.(*recording.Record))
	}
	return t.err
}

// A recorder sees each program before the guest hears of its end, under the
// device's name; also one that the loss of the client ended. What it refuses
// is counted, and the guest's no loss.
func TestRecording(t *testing.T) {
	unit := newDoor()
	d, err := ccwdev.New(ccwdev.Config{Unit: ccwdev.Unit{Device: unit, SenseID: []byte{0xff, 0x39, 0x90, 0xc2, 0x33, 0x90, 2}}, DevNo: 0x120, Name: "disk", Order: binary.BigEndian})
	require.NoError(t, err)
	var rec tape
	v := newVM(t, d, binary.BigEndian, &mdev.SessionConfig{Name: "vm", Record: &rec}).ram()
	unit.leave <- struct{}{}
	ended(t, v.run(c(0x02, 0, 16, dataAt)))
	<-unit.entered
	require.Len(t, rec.list, 1)
	r := rec.list[0]
	require.Equal(t, "disk", r.Scenario)
	require.Equal(t, recording.Device{SchID: 0x10000, DevNo: 0x120, HasDevNo: true, SenseID: []byte{0xff, 0x39, 0x90, 0xc2, 0x33, 0x90, 2}, CU: "3990/c2", Dev: "3390/02"}, r.Device)
	require.Equal(t, []recording.Segment{{GPA: dataAt, Data: bytes.Repeat([]byte{0x77}, 16)}}, r.Expect.Memory)
	require.Equal(t, addr.GPA(codeAt), r.Memory[0].GPA)

	rec.err = errors.New("the disk is full")
	unit.leave <- struct{}{}
	ended(t, v.run(c(0x02, 0, 16, dataAt)))
	<-unit.entered
	rec.err = nil
	require.EqualValues(t, 1, metric(t, d, "unrecorded"))

	require.NoError(t, v.start(orb()))
	<-unit.entered
	go func() {
		time.Sleep(5 * time.Millisecond)
		unit.leave <- struct{}{}
	}()
	v.close()
	require.Len(t, rec.list, 2)
	require.Equal(t, recording.Cleared, rec.list[1].End)
	require.Len(t, rec.list[1].Trace, 1)
	require.EqualValues(t, 2, metric(t, d, "recorded"))
}

// A program that is too large to be kept is left out, and the next is not.
func TestRecordingOfLargePrograms(t *testing.T) {
	d, err := ccwdev.New(ccwdev.Config{
		Unit: ccwdev.Unit{Device: new(ccwtest.Device)}, Order: binary.BigEndian, Limits: job.Limits{Steps: 150_000},
	})
	require.NoError(t, err)
	var rec tape
	v := newVM(t, d, binary.BigEndian, &mdev.SessionConfig{Record: &rec}).ram()
	// A loop that goes on until the budget ends it.
	irb := v.run(c(0x02, cc|sli, 1, dataAt), cio.CCW{Command: cio.TIC, Addr: codeAt})
	require.Equal(t, cio.ProgramCheck, irb.SCSW.Subchannel())
	require.Empty(t, rec.list)
	require.EqualValues(t, 1, metric(t, d, "unrecorded"))
	ended(t, v.run(c(0x12, sli, 80, dataAt)))
	require.Len(t, rec.list, 1)
	require.EqualValues(t, 1, metric(t, d, "recorded"))
}
