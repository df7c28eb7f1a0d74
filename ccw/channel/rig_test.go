package channel_test

import (
	"encoding/binary"
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/stretchr/testify/require"
)

// Where the tests put things, in a storage of 16 MiB + 64 KiB, so that there
// is some beyond the reach of format 0.
const (
	progAt  = 0x1000
	listAt  = 0x2000
	dataAt  = 0x10000
	storeAt = 16<<20 + 64<<10
)

// fake is a device made of a function for each call.
type fake struct {
	exec   func(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus
	sense  []byte
	begun  int
	resets int
	cmds   []cio.Command
}

func (d *fake) Begin() { d.begun++ }
func (d *fake) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d.cmds = append(d.cmds, cmd)
	return d.exec(cmd, x)
}
func (d *fake) Sense() []byte { s := d.sense; d.sense = nil; return s }
func (d *fake) Reset()        { d.resets++ }

// pattern is what a test device delivers.
var pattern = func() []byte {
	b := make([]byte, 70000)
	for i := range b {
		b[i] = byte(i%250) + 1
	}
	return b
}()

// unit is a device with a fixed amount of data for each command that moves
// any; control commands are immediate, and 0x4B is a search that never fits
// but 0x5F one that does.
func unit(n int) *fake {
	d := &fake{}
	d.exec = func(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
		switch cmd.Class(true) {
		case cio.ClassControl:
			if cmd == 0x4B {
				return cio.Ended
			}
			if cmd == 0x5F {
				return cio.Ended | cio.StatusModifier
			}
		case cio.ClassWrite:
			x.Fetch(make([]byte, n))
		default:
			x.Store(pattern[:n])
		}
		return cio.Ended
	}
	return d
}

func testPMCW() (p cio.PMCW) {
	p.SetFlags(cio.PMCWEnabled | cio.PMCWValid | cio.PMCWConcurrentSense)
	p.SetLPM(0xFF)
	p.SetPIM(0xC0)
	p.SetPAM(0xC0)
	p.SetPOM(0xFF)
	p.SetDeviceNumber(0x0191)
	return p
}

// rig is a subchannel with its surroundings. Every interruption is taken at
// once and kept in irbs.
type rig struct {
	mem  *storage
	dev  *fake
	sub  *channel.Subchannel
	cfg  channel.Config
	irbs []cio.IRB
	held bool // leave status pending
}

func newRig(dev *fake) *rig {
	g := &rig{mem: newStorage(storeAt, poison), dev: dev}
	g.cfg.Interrupt = func() {
		var irb cio.IRB
		if !g.held && g.sub.Test(&irb) == cio.CC0 {
			g.irbs = append(g.irbs, irb)
		}
	}
	return g
}

func (g *rig) build(pmcw cio.PMCW) *rig {
	g.sub = channel.New(g.mem, g.dev, pmcw, &g.cfg)
	return g
}

// ccw is a CCW for the tables.
func ccw(cmd cio.Command, f cio.Flags, count uint16, a uint32) cio.CCW {
	return cio.CCW{Command: cmd, Flags: f, Count: count, Addr: a}
}

func (g *rig) put(at uint64, format1 bool, cs ...cio.CCW) {
	for i, c := range cs {
		b := c.Encode(format1)
		g.mem.load(at+uint64(8*i), b[:])
	}
}

func words4(ws ...uint32) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func words8(ws ...uint64) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

func midaws(ws ...cio.MIDAW) []byte {
	var b []byte
	for _, w := range ws {
		e := w.Encode()
		b = append(b, e[:]...)
	}
	return b
}

func format1() *cio.ORB {
	o := new(cio.ORB)
	o.SetFormat1(true)
	o.SetLPM(0xFF)
	o.SetProgram(progAt)
	o.SetParam(0xCAFE)
	return o
}

// last is the status the program ended with.
func (g *rig) last(t *testing.T) cio.IRB {
	t.Helper()
	require.NotEmpty(t, g.irbs, "no interruption")
	return g.irbs[len(g.irbs)-1]
}
