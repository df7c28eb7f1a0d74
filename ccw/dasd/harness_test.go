package dasd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/translate/addr"
)

// op is one CCW of a test program. Output has data, input a count.
type op struct {
	cmd     cio.Command
	data    []byte
	n       int
	flags   cio.Flags // beside command chaining
	ida     int       // the data are a list for so many bytes
	prepare []byte    // written where the data are, whatever the count
	skip    bool      // a TIC back to the op before: for search loops
}

func out(cmd cio.Command, data []byte) op { return op{cmd: cmd, data: data} }
func in(cmd cio.Command, n int) op        { return op{cmd: cmd, n: n} }
func (o op) sli() op                      { o.flags |= cio.SuppressLength; return o }

// backTIC transfers to the CCW before it: an unsatisfied search runs again.
var backTIC = op{cmd: cio.TIC, skip: true}

// result is what a test program ended with.
type result struct {
	cio.SCSW
	sense []byte
	data  [][]byte // by op, what the device stored
}

// status prints device status, subchannel status and sense as
// "0e 00 0008 00": bytes 0 and 1 and 7 of the sense, if there is any.
func (r result) status() string {
	s := fmt.Sprintf("%02x %02x", uint8(r.Device()), uint8(r.Subchannel()))
	if r.sense != nil {
		s += fmt.Sprintf(" %x %02x", r.sense[:2], r.sense[7])
	}
	return s
}

// disk is a volume on a subchannel of its own.
type disk struct {
	t   testing.TB
	v   *dasd.Volume
	mem storage
	sch *channel.Subchannel

	steps int // that the program may still take
}

var errSteps = errors.New("out of steps")

// step is the work meter: a guest may read in a loop without end.
func (d *disk) step(n int) error {
	if d.steps -= n; d.steps < 0 {
		return errSteps
	}
	return nil
}

func newDisk(t testing.TB, v *dasd.Volume) *disk {
	d := &disk{t: t, v: v, mem: storage{}}
	pmcw := cio.PMCW(unhex("00c4c00018850120800080800000ff80010000000000000000000001"))
	d.sch = channel.New(d.mem, v, pmcw, &channel.Config{Steps: d.step})
	t.Cleanup(d.sch.Close)
	return d
}

// blankDisk is a disk of a new volume in memory.
func blankDisk(t testing.TB, cylinders uint32, cfg *dasd.Config) *disk {
	img, err := dasd.Blank(dasd.CreateConfig{Cylinders: cylinders, Serial: "000000000042"})
	require.NoError(t, err)
	v, err := dasd.Open(img, cfg)
	require.NoError(t, err)
	d := newDisk(t, v)
	t.Cleanup(func() { require.NoError(t, dasd.Check(img), "the volume afterwards") })
	return d
}

const (
	programAt = 0x1000
	dataAt    = 0x100000
	dataStep  = 0x10000
)

// runIDA is run with a last CCW whose data are where an indirect data address
// list of format 2 says.
func (d *disk) runIDA(ops []op, cmd cio.Command, n int, list []byte) result {
	d.t.Helper()
	last := op{cmd: cmd, data: list, ida: n}
	return d.run(append(append([]op(nil), ops...), last)...)
}

// run runs a program whose CCWs are command-chained.
func (d *disk) run(ops ...op) result {
	d.t.Helper()
	putProgram(d.mem, ops)
	d.steps = 2000
	require.Equal(d.t, cio.CC0, d.sch.Start(testORB()))
	var irb cio.IRB
	require.Equal(d.t, cio.CC0, d.sch.Test(&irb))
	r := result{SCSW: irb.SCSW, data: make([][]byte, len(ops))}
	if s := irb.Sense(); s != nil {
		r.sense = append(r.sense, s...)
	}
	for i, o := range ops {
		r.data[i] = make([]byte, o.n)
		require.NoError(d.t, d.mem.Read(dataAt+addr.HPA(i*dataStep), r.data[i]))
	}
	return r
}

// ok is run for a program that must end normally.
func (d *disk) ok(ops ...op) result {
	d.t.Helper()
	r := d.run(ops...)
	require.Equal(d.t, "0c 00", r.status())
	return r
}

// Parameters.

func extent(mask dasd.FileMask, first, last dasd.Address) []byte {
	e := dasd.Extent{Mask: mask, Attributes: 0xC0, First: first.Encode(), Last: last.Encode()}
	var b [dasd.ExtentSize]byte
	e.Encode(&b)
	return b[:]
}

// located is a Locate Record to record r of track a.
func located(o dasd.Operation, count uint8, a dasd.Address, r uint8, length uint16) []byte {
	return locatedExtended(o, count, a, r, length)[:dasd.LocateSize]
}

func locatedExtended(o dasd.Operation, count uint8, a dasd.Address, r uint8, length uint16) []byte {
	l := dasd.Locate{Operation: o, Count: count, Seek: a.Encode(), Sector: 0xFF, Length: length}
	if length != 0 {
		l.Auxiliary = 0x80
	}
	binary.BigEndian.PutUint32(l.Search[:], a.Encode())
	l.Search[4] = r
	var b [dasd.LocateExtendedSize]byte
	l.Encode(&b)
	return b[:]
}

func countField(a dasd.Address, r uint8, key, data int) []byte {
	var b [8]byte
	dasd.Count{CCHH: a.Encode(), Record: r, Key: uint8(key), Data: uint16(data)}.Encode(&b)
	return b[:]
}

func seekTo(a dasd.Address) []byte {
	b := make([]byte, 6)
	binary.BigEndian.PutUint32(b[2:], a.Encode())
	return b
}

func recordID(a dasd.Address, r uint8) []byte { return countField(a, r, 0, 0)[:5] }

func track(cylinder uint32, head uint16) dasd.Address {
	return dasd.Address{Cylinder: cylinder, Head: head}
}

// format writes n records of the given key and data lengths to a track, whose
// fields are filled with fill, which is 0 for none.
func (d *disk) format(a dasd.Address, n, key, data int, fill byte) {
	d.t.Helper()
	ops := []op{out(0x63, extent(0, a, a)), out(0x47, located(dasd.OpFormat, uint8(n), a, 0, 0))}
	for r := 1; r <= n; r++ {
		b := countField(a, uint8(r), key, data)
		if fill != 0 {
			for i := 0; i < key+data; i++ {
				b = append(b, fill+byte(r))
			}
		}
		ops = append(ops, out(0x1D, b).sli())
	}
	d.ok(ops...)
}
