package fba_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// flat is storage in one piece.
type flat []byte

func (m flat) Read(a addr.HPA, p []byte) error {
	if uint64(a)+uint64(len(p)) > uint64(len(m)) {
		return errs.ErrReach
	}
	copy(p, m[a:])
	return nil
}

func (m flat) Write(a addr.HPA, p []byte) error {
	if uint64(a)+uint64(len(p)) > uint64(len(m)) {
		return errs.ErrReach
	}
	copy(m[a:], p)
	return nil
}

func characteristics(t testing.TB, vol *fba.Volume) []byte {
	m := devicetest.NewMachine(vol, devicetest.PMCW(1), 0)
	return m.Run(t, devicetest.Op{Cmd: 0x64, In: 32}).In[0]
}

func identify(t testing.TB, vol *fba.Volume) []byte {
	m := devicetest.NewMachine(vol, devicetest.PMCW(1), 0)
	return m.Run(t, devicetest.Op{Cmd: 0xE4, In: 7}).In[0]
}

// program is what Linux makes of a transfer of n blocks: an extent, a locate,
// and a data-chained CCW for each block.
func program(t testing.TB, vol *fba.Volume, cmd cio.Command, n int) (run func(), ccws int) {
	mem := make(flat, 1<<20)
	put := func(i int, c cio.CCW) {
		b := c.Encode1()
		copy(mem[8*i:], b[:])
	}
	mask, op := byte(0x40), byte(6)
	if cmd == 0x41 {
		mask, op = 0, 5
	}
	copy(mem[0x8000:], extent(mask, 0, 0, uint32(n)).Out)
	copy(mem[0x8010:], locate(op, uint16(n), 0).Out)
	put(0, cio.CCW{Command: 0x63, Flags: cc, Count: 16, Addr: 0x8000})
	put(1, cio.CCW{Command: 0x43, Flags: cc, Count: 8, Addr: 0x8010})
	for i := range n {
		c := cio.CCW{Command: cmd, Flags: cd, Count: 512, Addr: uint32(0x10000 + 512*i)}
		if i == n-1 {
			c.Flags = 0
		}
		put(2+i, c)
	}
	s := channel.New(mem, vol, devicetest.PMCW(0x140), nil)
	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetLPM(0x80)
	var irb cio.IRB
	return func() {
		if s.Start(&orb) != cio.CC0 || s.Test(&irb) != cio.CC0 || irb.SCSW.Device() != cio.Ended || irb.SCSW.Subchannel() != 0 {
			t.Fatalf("%v", irb)
		}
	}, n + 2
}

// TestNoAllocation: in the steady state no command allocates.
func TestNoAllocation(t *testing.T) {
	vol, err := fba.Open(memory(t, pattern(64)), nil)
	require.NoError(t, err)
	for _, cmd := range []cio.Command{0x41, 0x42} {
		run, _ := program(t, vol, cmd, 64)
		run() // the first write copies the piece
		require.Zero(t, testing.AllocsPerRun(100, run), "%v", cmd)
	}
}

func BenchmarkProgram(b *testing.B) {
	for name, cmd := range map[string]cio.Command{"read": 0x42, "write": 0x41} {
		b.Run(name, func(b *testing.B) {
			vol, err := fba.Open(memory(b, pattern(64)), nil)
			require.NoError(b, err)
			run, ccws := program(b, vol, cmd, 64)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				run()
				n += ccws
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "MCCW/s")
		})
	}
}
