package ccwtest

import (
	"bytes"
	"fmt"
	"hash/fnv"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// Device is a device that has no use but to be predictable: what it does
// depends on nothing but the commands and the data it got. It keeps a log of
// both, so that two runs can be compared.
//
// The high digit of a command code chooses the behaviour, the low one is the
// class that the channel subsystem sees:
//
//	0     as much data as the channel offers
//	1, 2  records of 80 and 4,100 bytes
//	3     a search: 5 bytes, status modifier if they add up to an odd number
//	4     immediate: no data
//	5     accepted, but no data
//	6     unit check with sense
//	7     unit exception after 16 bytes
//	8     status modifier after 8 bytes
//	9     immediate with status modifier
//	a     skips 12 bytes, then moves 40
//	others as 0, of at most 5,000 bytes
type Device struct {
	log   bytes.Buffer
	seed  uint32
	sense []byte
	buf   [5000]byte
}

var _ channel.Device = (*Device)(nil)

// Log is all that the device was told, a line each.
func (d *Device) Log() string { return d.log.String() }

// Begin notes that a program reached the device.
func (d *Device) Begin() { fmt.Fprintln(&d.log, "begin") }

// Reset notes a reset.
func (d *Device) Reset() { fmt.Fprintln(&d.log, "reset") }

// Sense gives up the sense bytes.
func (d *Device) Sense() []byte {
	s := d.sense
	d.sense = nil
	return s
}

// Execute does one operation.
func (d *Device) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	var n int
	status := cio.Ended
	switch cmd >> 4 {
	case 1:
		n = d.move(cmd, x, 80)
	case 2:
		n = d.move(cmd, x, 4100)
	case 3:
		var sum byte
		n = d.move(cmd, x, 5)
		for _, b := range d.buf[:n] {
			sum += b
		}
		if sum&1 != 0 && !x.Terminated() {
			status |= cio.StatusModifier
		}
	case 4:
	case 5:
		x.Accept()
	case 6:
		status |= cio.UnitCheck
		d.sense = append(d.sense[:0:0], 0x80, byte(cmd), 1, 2, 3)
	case 7:
		n = d.move(cmd, x, 16)
		status |= cio.UnitException
	case 8:
		n = d.move(cmd, x, 8)
		status |= cio.StatusModifier
	case 9:
		status |= cio.StatusModifier
	case 0xA:
		n = x.Skip(12)
		n += d.move(cmd, x, 40)
	default:
		n = d.offered(cmd, x)
	}
	h := fnv.New32a()
	h.Write(d.buf[:min(n, len(d.buf))])
	fmt.Fprintf(&d.log, "%v chained %v moved %d %08x terminated %v\n", cmd, x.Chained(), n, h.Sum32(), x.Terminated())
	return status
}

// move moves n bytes the way the command says.
func (d *Device) move(cmd cio.Command, x *channel.Transfer, n int) int {
	if cmd.Class(true).Input() {
		d.fill(n)
		return x.Store(d.buf[:n])
	}
	return x.Fetch(d.buf[:n])
}

func (d *Device) offered(cmd cio.Command, x *channel.Transfer) int {
	if cmd.Class(true).Input() {
		n := min(x.Remaining(), len(d.buf))
		d.fill(n)
		return x.Store(d.buf[:n])
	}
	return x.FetchUpTo(d.buf[:])
}

// fill makes n bytes that no other operation made.
func (d *Device) fill(n int) {
	d.seed++
	v := d.seed * 2654435761
	for i := range d.buf[:n] {
		v = v*1664525 + 1013904223
		d.buf[i] = byte(v >> 24)
	}
}
