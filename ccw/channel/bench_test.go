package channel_test

import (
	"encoding/binary"
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/stretchr/testify/require"
)

// flat is the cheapest storage there is.
type flat []byte

func (m flat) Read(a addr.HPA, p []byte) error  { copy(p, m[a:]); return nil }
func (m flat) Write(a addr.HPA, p []byte) error { copy(m[a:], p); return nil }

// block is a device that delivers or takes n bytes for each command.
type block struct{ b []byte }

func (d *block) Begin()        {}
func (d *block) Reset()        {}
func (d *block) Sense() []byte { return nil }
func (d *block) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	switch cmd.Class(true) {
	case cio.ClassControl:
	case cio.ClassWrite:
		x.Fetch(d.b)
	default:
		x.Store(d.b)
	}
	return cio.Ended
}

// looped is a subchannel with a program of n CCWs in flat storage.
func looped(n, size int, flags cio.Flags, cmd cio.Command) (*channel.Subchannel, *cio.ORB) {
	mem := make(flat, 1<<20)
	for i := range n {
		c := cio.CCW{Command: cmd, Flags: flags | cio.ChainCommand, Count: uint16(size), Addr: dataAt}
		if i == n-1 {
			c.Flags &^= cio.ChainCommand
		}
		if flags&cio.Indirect != 0 {
			c.Addr = listAt
		}
		e := c.Encode1()
		copy(mem[progAt+8*i:], e[:])
	}
	for i := range 32 {
		a := uint64(dataAt + 4096*i)
		if cmd.Class(true) == cio.ClassReadBackward {
			a += 4095
		}
		binary.BigEndian.PutUint64(mem[listAt+8*i:], a)
	}
	s := channel.New(mem, &block{make([]byte, size)}, testPMCW(), &channel.Config{Steps: func(int) error { return nil }})
	o := format1()
	o.SetIDAW2(true)
	return s, o
}

func BenchmarkProgram(b *testing.B) {
	const n = 64
	for _, bb := range []struct {
		name  string
		size  int
		flags cio.Flags
		cmd   cio.Command
	}{
		{"control", 0, 0, 0x4B},
		{"direct-16B", 16, 0, 0x02},
		{"direct-4KiB", 4096, 0, 0x02},
		{"IDAW-4KiB", 4096, cio.Indirect, 0x02},
		{"IDAW-write-4KiB", 4096, cio.Indirect, 0x01},
		{"IDAW-48KiB", 48 << 10, cio.Indirect, 0x02},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s, o := looped(n, bb.size, bb.flags, bb.cmd)
			var irb cio.IRB
			b.ReportAllocs()
			for b.Loop() {
				s.Start(o)
				s.Test(&irb)
			}
			if irb.SCSW.Control() != normalEnd {
				b.Fatal(irb.SCSW)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/CCW")
		})
	}
}

// A program in a steady state allocates nothing.
func TestNoAllocations(t *testing.T) {
	for _, f := range []cio.Flags{0, cio.Indirect} {
		for _, cmd := range []cio.Command{0x02, 0x01, 0x0C, 0x4B} {
			s, o := looped(16, 2000, f|cio.SuppressLength, cmd)
			var irb cio.IRB
			n := testing.AllocsPerRun(100, func() {
				s.Start(o)
				s.Test(&irb)
			})
			require.Zero(t, n, "%v %v", cmd, f)
			require.Equal(t, cio.SubchannelStatus(0), irb.SCSW.Subchannel(), "%v", irb.SCSW)
		}
	}
}
