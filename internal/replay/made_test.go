package replay

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// step is a CCW of a made recording: a driver's command, what goes in or comes
// out, and how SDL-Hyperion ends it. The zero status is channel end and device
// end alone.
type step struct {
	cmd     byte
	flags   cio.Flags
	count   int // if not the length of out or in
	out, in []byte
	pages   bool // the data are in pages of their own, through a list
	dstat   byte
	cstat   byte
	resid   uint16
	refused bool // by the channel, before the device had it: no device status
}

// driver is a program of a made recording.
type driver struct {
	name  string
	steps []step
	sense string // of a unit check, hexadecimal, its first bytes; see size
	size  int    // of the sense, 32 if 0
}

// made is a recording of one device.
type made struct {
	scenario string
	device   recording.Device
	recs     []*recording.Record
}

const (
	madeProgram = 0x1000
	madeLists   = 0x4000
	madeData    = 0x10000
	madeStride  = 0x10000
)

// add appends a program as the recorder writes it: what the channel fetched, the
// trace, and what it stored. Every expectation is the caller's.
func (m *made) add(t testing.TB, d driver) {
	t.Helper()
	rec := &recording.Record{
		Scenario: m.scenario, Seq: len(m.recs), Name: d.name, Op: recording.StartSubchannel, End: recording.Ended,
		OS: "SYNTHETIC: as the driver writes it", Source: "SYNTHETIC: as SDL-Hyperion ends it", Device: m.device,
	}
	var orb cio.ORB
	orb.Raw[3] = byte(len(m.recs))
	copy(orb.Raw[4:], []byte{0, 0xC2, 0x80, 0})
	orb.Raw[10] = madeProgram >> 8
	rec.ORB = orb.Raw
	pmcw := [28]byte{3: byte(len(m.recs)), 5: 0x81, 6: byte(m.device.DevNo >> 8), 7: byte(m.device.DevNo), 8: 0x80, 11: 0x80, 14: 0xFF, 15: 0x80, 27: 1}
	rec.PMCW = &pmcw

	expect := &recording.Expect{HasMemory: true}
	program := make([]byte, 0, 8*len(d.steps))
	for i, s := range d.steps {
		n := max(s.count, len(s.out), len(s.in))
		at := addr.GPA(madeData + i*madeStride)
		c := cio.CCW{Command: cio.Command(s.cmd), Flags: s.flags, Count: uint16(n), Addr: uint32(at)}
		if s.pages {
			c.Flags |= cio.Indirect
			c.Addr = uint32(madeLists + 256*i)
			// Words that no byte needed are not fetched, and so not known.
			var list []byte
			for p := 0; p*int(addr.PageSize) < max(len(s.out), len(s.in)); p++ {
				list = binary.BigEndian.AppendUint64(list, uint64(at)+uint64(p)*uint64(addr.PageSize))
			}
			if len(list) > 0 {
				rec.Memory = append(rec.Memory, recording.Segment{GPA: addr.GPA(c.Addr), Data: list})
			}
		}
		b := c.Encode1()
		program = append(program, b[:]...)
		if len(s.out) > 0 {
			rec.Memory = append(rec.Memory, recording.Segment{GPA: at, Data: s.out})
		}
		if len(s.in) > 0 {
			expect.Memory = append(expect.Memory, recording.Segment{GPA: at, Data: s.in})
		}
		if s.dstat == 0 && !s.refused {
			s.dstat = byte(cio.Ended)
		}
		rec.Trace = append(rec.Trace, recording.Step{
			At: addr.GPA(madeProgram + 8*i), Cmd: s.cmd, Flags: byte(c.Flags), Count: c.Count, CDA: c.Addr,
			Ended: true, DStat: s.dstat, CStat: s.cstat, Resid: s.resid,
		})
	}
	rec.Memory = append(rec.Memory, recording.Segment{GPA: madeProgram, Data: program})
	slices.SortFunc(rec.Memory, func(a, b recording.Segment) int { return int(a.GPA) - int(b.GPA) })

	last := &rec.Trace[len(rec.Trace)-1]
	var w cio.SCSW
	w.SetFlags(cio.SCSWFormat1 | cio.SCSWPrefetch)
	w.SetControl(normalEnd)
	if last.DStat != byte(cio.Ended) || last.CStat != 0 {
		w.SetControl(unusualEnd)
	}
	w.SetCCWAddr(uint32(last.At) + cio.CCWSize)
	w.SetDevice(cio.DeviceStatus(last.DStat))
	w.SetSubchannel(cio.SubchannelStatus(last.CStat))
	w.SetCount(last.Resid)
	esw, ecw := [20]byte{1: 0x80}, [32]byte{}
	if cio.DeviceStatus(last.DStat)&cio.UnitCheck != 0 {
		size := d.size
		if size == 0 {
			size = 32
		}
		w.SetFlags(w.Flags() | cio.SCSWExtended)
		esw[4], esw[5] = 0x01, byte(size)
		b, err := hex.DecodeString(d.sense)
		require.NoError(t, err, d.name)
		copy(ecw[:], b)
	}
	scsw := [12]byte(w)
	expect.SCSW, expect.ESW, expect.ECW = &scsw, &esw, &ecw
	expect.IRB = slices.Concat(scsw[:], esw[:], ecw[:])
	expect.SenseAfter = &[32]byte{}
	rec.Expect = expect
	m.recs = append(m.recs, rec)
}
