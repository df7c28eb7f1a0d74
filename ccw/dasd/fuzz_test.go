package dasd_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/translate/addr"
)

// allFeatures is the control unit with everything it can have.
var allFeatures = &dasd.Config{DeviceNumber: 0x120, WriteFullTrack: true, TrackData: true}

// encodeOps is the input of the fuzzers for a program: for each CCW command,
// flags, count in two bytes and, for output, so many bytes of parameters.
func encodeOps(ops []op) (b []byte) {
	for _, o := range ops {
		n := o.n
		if o.data != nil {
			n = len(o.data)
		}
		b = append(b, byte(o.cmd), byte(o.flags), byte(n>>8), byte(n), byte(len(o.data)))
		b = append(b, o.data[:min(len(o.data), 255)]...)
	}
	return b
}

// decodeOps makes any input a program of at most 40 CCWs.
func decodeOps(b []byte) (ops []op) {
	for len(b) >= 5 && len(ops) < 40 {
		o := op{cmd: cio.Command(b[0]), flags: cio.Flags(b[1]) & cio.SuppressLength, n: int(binary.BigEndian.Uint16(b[2:]))}
		k := min(int(b[4]), len(b)-5)
		o.prepare = b[5 : 5+k]
		b = b[5+k:]
		if o.cmd == cio.TIC {
			if len(ops) == 0 {
				continue
			}
			o = backTIC
		}
		ops = append(ops, o)
	}
	return ops
}

// seeds are programs that come near the limits of what is allowed.
var seeds = [][]op{
	{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 2)), backTIC, in(0x06, 16)},
	{out(0x07, seekTo(t1)), out(0xA9, []byte{1}).sli(), backTIC, in(0x86, 16)},
	{out(0x63, all), out(0x47, located(dasd.OpFormat, 2, t1, 0, 0)), out(0x1D, countField(t1, 1, 0, 8)).sli(), out(0x9D, countField(track(0, 2), 1, 0, 8)).sli()},
	{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0x85, make([]byte, 16))},
	{out(0x63, all), out(0x47, located(dasd.OpWriteTrack, 2, t1, 0, 8)), out(0x05, make([]byte, 8)), out(0x11, make([]byte, 8)).sli()},
	{out(0xE7, prefix(1, none, locatedExtended(0x4C, 2, t1, 0, 0))), in(0xDE, 5000).sli(), in(0xDE, 5000).sli()},
	{out(0x63, all), out(0x4B, append(patch(patch(locatedExtended(0x3F, 1, t1, 0, 0), 17, 0x11), 19, 2), 0x80, 0)), out(0x95, append(append(countField(t1, 0, 0, 8), make([]byte, 8)...), bytes.Repeat([]byte{0xFF}, 8)...)).sli()},
	{out(0x63, all), out(0x4B, patch(locatedExtended(0x3F, 3, t1, 1, 16), 17, 0x23)), out(0xA5, make([]byte, 48)).sli()},
	{out(0x63, none), out(0x4B, locatedExtended(dasd.OpReadTracks, 2, t1, 1, 0)), in(0xA6, 400).sli()},
	{out(0x63, none), out(0x4B, append(patch(patch(locatedExtended(0x3F, 2, t1, 0, 0), 17, 0x0A), 19, 1), 1)), in(0x92, 8), in(0x9E, 100).sli()},
	{in(0x02, 24).sli(), in(0x06, 10).sli(), out(0x07, seekTo(t1))},
	{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0}), in(0x3E, 256)},
	{out(0x1F, []byte{0xC0}), out(0x07, seekTo(t1)), out(0x39, seekTo(t1)[2:]), backTIC, out(0x15, countField(t1, 0, 0, 8)).sli(), out(0x1D, countField(t1, 1, 1, 1)).sli(), in(0x5E, 9).sli(), in(0x5E, 9).sli()},
}

// Oracle: whatever programs a guest runs, none panics, each ends within its
// budget of time, and a volume of tracks stays a volume of tracks, on which a
// sane program then does what it should.
func FuzzPrograms(f *testing.F) {
	for i, s := range seeds {
		f.Add(encodeOps(s), encodeOps(seeds[(i+1)%len(seeds)]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		img, err := dasd.Blank(dasd.CreateConfig{Cylinders: 2, Serial: "000000000042"})
		require.NoError(t, err)
		v, err := dasd.Open(img, allFeatures)
		require.NoError(t, err)
		d := newDisk(t, v)
		d.format(t1, 3, 0, 16, 0x10)
		d.format(track(0, 2), 2, 5, 7, 0x20)
		for _, b := range [][]byte{first, second} {
			d.fuzz(decodeOps(b))
			require.NoError(t, dasd.Check(img))
		}
		a := track(1, 3)
		d.format(a, 3, 0, 16, 0x30)
		r := d.ok(out(0x63, extent(dasd.MaskWriteNone, a, a)), out(0x47, located(dasd.OpReadData, 1, a, 3, 0)), in(0x86, 16))
		require.Equal(t, bytes.Repeat([]byte{0x33}, 16), r.data[2])
		require.NoError(t, v.Err())
	})
}

// Oracle: on an image full of garbage no program panics or takes more than its
// budget of time, and what was garbage outside the track that a program may
// reach stays as it was.
func FuzzHostileImage(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0xFF, 0xF0}, encodeOps(s))
		f.Add(bytes.Repeat([]byte{0}, 100), encodeOps(s))
	}
	base := blankImage(f)
	f.Fuzz(func(t *testing.T, garbage, program []byte) {
		b := bytes.Clone(base)
		// Track 1, behind its home address, is the garbage over and over.
		slot := b[dasd.HeaderSize+dasd.SlotSize:][:dasd.SlotSize]
		for off := 5; len(garbage) > 0 && off < len(slot); {
			off += copy(slot[off:], garbage)
		}
		before := bytes.Clone(b)
		img, err := dasd.FromBytes(b)
		require.NoError(t, err)
		v, err := dasd.Open(img, allFeatures)
		require.NoError(t, err)
		d := newDisk(t, v)
		d.fuzz(append([]op{out(0x63, extent(dasd.MaskWriteAll, t1, t1))}, decodeOps(program)...))
		require.Equal(t, before, b, "the base of a copy on write")
	})
}

// fuzz runs a program and checks that it took no longer than it may.
func (d *disk) fuzz(ops []op) {
	if len(ops) == 0 {
		return
	}
	begin := time.Now()
	d.run(ops...)
	// 2,000 CCWs, each of which looks at two tracks of 7,000 records at most: a
	// second on a slow machine. A command without end would show.
	require.Less(d.t, time.Since(begin), 5*time.Second)
}

// A program in a steady state allocates nothing.
func TestNoAllocation(t *testing.T) {
	img, err := dasd.Blank(dasd.CreateConfig{Cylinders: 2, Serial: "000000000042"})
	require.NoError(t, err)
	v, err := dasd.Open(img, allFeatures)
	require.NoError(t, err)
	mem := make(flat, 4<<20)
	sch := channel.New(mem, v, cio.PMCW(unhex("00c4c00018850120800080800000ff80010000000000000000000001")), nil)
	defer sch.Close()
	for _, row := range []struct {
		name string
		ops  []op
	}{
		{"format", []op{out(0x63, all), out(0x47, located(dasd.OpFormat, 2, t1, 0, 0)), out(0x1D, countField(t1, 1, 0, 4096)).sli(), out(0x1D, countField(t1, 2, 0, 4096)).sli()}},
		{"update", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 4096)), out(0x85, make([]byte, 4096))}},
		{"read", []op{out(0x63, none), out(0x47, located(dasd.OpReadData, 2, t1, 1, 4096)), in(0x86, 4096), in(0x86, 4096)}},
		{"track", []op{out(0xE7, prefix(1, none, locatedExtended(0x4C, 1, t1, 0, 0))), in(0xDE, 57326).sli()}},
		{"search", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 2)), backTIC, in(0x06, 4096)}},
		{"unit check", []op{out(0x07, seekTo(track(9, 9)))}},
		{"features", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0}), in(0x3E, 256)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			putProgram(mem, row.ops)
			orb := testORB()
			run := func() {
				var irb cio.IRB
				sch.Start(orb)
				sch.Test(&irb)
			}
			run()
			require.Zero(t, testing.AllocsPerRun(100, run))
		})
	}
}

// putProgram puts a command-chained program and its data where run has them.
func putProgram(mem channel.Memory, ops []op) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	for i, o := range ops {
		at := addr.HPA(dataAt + i*dataStep)
		c := cio.CCW{Command: o.cmd, Flags: o.flags, Addr: uint32(at), Count: uint16(o.n)}
		if i+1 < len(ops) {
			c.Flags |= cio.ChainCommand
		}
		if o.data != nil {
			c.Count = uint16(len(o.data))
			must(mem.Write(at, o.data))
		}
		must(mem.Write(at, o.prepare))
		if o.ida != 0 {
			c.Flags |= cio.Indirect
			c.Count = uint16(o.ida)
		}
		if o.skip {
			c = cio.CCW{Command: cio.TIC, Addr: uint32(programAt + 8*(i-1))}
		}
		b := c.Encode1()
		must(mem.Write(programAt+addr.HPA(8*i), b[:]))
	}
}

func testORB() *cio.ORB {
	orb := new(cio.ORB)
	orb.SetFormat1(true)
	orb.SetIDAW2(true)
	orb.SetLPM(0x80)
	orb.SetProgram(programAt)
	return orb
}
