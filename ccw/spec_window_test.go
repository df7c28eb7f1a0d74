package ccw_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// tape delivers one block after the other to reads.
type tape struct {
	blocks [][]byte
	cmds   int
}

func (d *tape) Begin()        {}
func (d *tape) Reset()        {}
func (d *tape) Sense() []byte { return nil }
func (d *tape) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d.cmds++
	if cmd == 0x02 && len(d.blocks) > 0 {
		b := d.blocks[0]
		d.blocks = d.blocks[1:]
		x.Store(b)
	}
	return cio.Ended
}

func ccwBytes(f cio.ORBFlags, cs ...cio.CCW) (b []byte) {
	for _, w := range cs {
		e := w.Encode(f&cio.ORBFormat1 != 0)
		b = append(b, e[:]...)
	}
	return b
}

// P=0: "so a program may modify itself" [ccw.md 4]. The chain of an initial
// program load: a read of 24 bytes to 0, whose last 16 are the CCWs that
// follow, which read more CCWs. No peer's mediator runs it.
func TestIPLReadsInItsNextCCWs(t *testing.T) {
	dev := &tape{blocks: [][]byte{
		append(make([]byte, 8), ccwBytes(f0, c(0x02, cc|sli, 80, 0x3000), tic(0x3000))...),
		ccwBytes(f0, c(0x02, cc|sli, 8, dataAt), c(0x02, sli, 8, dataAt+8)),
		{1, 2, 3, 4, 5, 6, 7, 8},
		{9, 10, 11, 12, 13, 14, 15, 16},
	}}
	g := newRig(t, func(s *setup) {
		s.dev = dev
		s.mem.ccws(0, f0, c(0x02, cc|sli, 24, 0))
	})
	o := orbOf(f0p)
	o.SetProgram(0)
	require.Equal(t, status{0x3010, ok, 0, 0}, statusOf(g.start(&o)), "%v", g.d.Err())
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, g.mem.At(dataAt)[:16])
	require.Len(t, dev.blocks, 0)
	g.nothingHeld()
}

// P=0: a loop whose CCW is changed by the data it reads, each time round.
func TestALoopThatChangesItself(t *testing.T) {
	dev := &tape{}
	for i := range uint32(50) {
		dev.blocks = append(dev.blocks, ccwBytes(f1, c(0x03, cc|sli, 1, i)))
	}
	dev.blocks = append(dev.blocks, ccwBytes(f1, c(0x03, sli, 1, 0)))
	g := newRig(t, func(s *setup) {
		s.dev = dev
		s.mem.ccws(codeAt, f1, c(0x02, cc, 8, codeAt+8), c(0x03, cc|sli, 1, 0), tic(codeAt))
	})
	s := g.run(f1p)
	require.Equal(t, codeAt+16, int(s.CCWAddr()))
	require.Equal(t, 102, dev.cmds)
}

// S=1: suspend before the CCW; the guest changes it; resume refetches it. A
// suspended program holds no pins: its memory may go and come.
func TestSuspendChangeResume(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f0, f1p, f0p} {
		g := newRig(t, func(s *setup) {
			s.mem.ccws(codeAt, f, c(0x12, cc, 80, highAt), c(0x12, susp|cc, 80, roEnd), c(0x12, 0, 80, dataAt))
		})
		o := orbOf(f | cio.ORBSuspend)
		s := g.start(&o)
		require.Equal(t, codeAt+16, int(s.CCWAddr()))
		require.Equal(t, cio.StartFunction|cio.Suspended|cio.IntermediateStatus|cio.StatusPending, s.Control())
		g.nothingHeld()
		code, err := g.d.Start(&o)
		require.NoError(t, err)
		require.Equal(t, cio.CC2, code, "a function is in progress")

		n, err := g.st.Unmap(context.Background(), highAt, 32<<10)
		require.NoError(t, err)
		require.EqualValues(t, 32<<10, n)
		// Still suspended there: it suspends again.
		code, err = g.d.Resume()
		require.NoError(t, err)
		require.Equal(t, cio.CC0, code)
		require.EqualValues(t, codeAt+16, statusOf(g.take()).at)
		g.nothingHeld()

		g.mem.ccws(codeAt+8, f, c(0x22, cc, 4100, dataAt+0x800))
		code, err = g.d.Resume()
		require.NoError(t, err)
		require.Equal(t, cio.CC0, code)
		require.Equal(t, status{codeAt + 24, ok, 0, 0}, statusOf(g.take()))
		code, _ = g.d.Resume()
		require.Equal(t, cio.CC2, code, "not suspended")
		g.nothingHeld()
		require.NoError(t, g.st.Map(highAt, 32<<10, translate.Bytes(g.mem.At(highAt)), addr.ReadWrite))
	}
}

// Halt and clear of a suspended program; the next one starts.
func TestHaltAndClearWhileSuspended(t *testing.T) {
	for _, halt := range []bool{true, false} {
		g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f1, c(0x12, susp, 80, dataAt)) })
		g.run(f1 | cio.ORBSuspend)
		if halt {
			require.Equal(t, cio.CC0, g.d.Halt())
		} else {
			require.Equal(t, cio.CC0, g.d.Clear())
		}
		code, err := g.d.Resume()
		require.NoError(t, err)
		require.Equal(t, cio.CC1, code, "status is pending")
		g.take()
		code, _ = g.d.Resume()
		require.Equal(t, cio.CC2, code)
		g.mem.ccws(codeAt, f1, c(0x12, 0, 80, dataAt))
		require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.run(f1)))
	}
}

// Runs of the window are used again: after more chains than it has runs, the
// status still names the guest's CCW, and an error the right element.
func TestWindowRunsAreUsedAgain(t *testing.T) {
	for _, n := range []int{1, 30, 31, 32, 33, 34, 63, 64, 65, 200} {
		g := newRig(t, func(s *setup) {
			for i := range n {
				// Chains in falling order, so that each is a new run.
				a := uint64(0x7000 - i*32)
				s.mem.ccws(a, f1p, c(0x43, cc|sli, 1, 0), tic(uint32(a)-32))
			}
			s.mem.ccws(uint64(0x7000-n*32), f1p, c(0x12, cc, 80, dataAt), c(0x12, 0, 80, roEnd))
		})
		o := orbOf(f1p)
		o.SetProgram(0x7000)
		s := g.start(&o)
		require.Equal(t, status{uint32(0x7000 - n*32 + 16), 0, cio.ProgramCheck, 0}, statusOf(s), "%d", n)
		require.ErrorContains(t, g.d.Err(), "not mapped")
	}
}

// A transfer into the middle of a list: what stands there is what executes,
// as if it were CCWs. Lists that overlap CCWs are both.
func TestTransferIntoAList(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p, f0, f0p} {
		m := newImage()
		m.ccws(codeAt, f, c(0x12, cc|ida, 80, listAt), tic(listAt+8))
		m.idaw2(listAt, dataAt)
		m.ccws(listAt+8, f, c(0x12, cc|ida, 80, listAt), tic(listAt+24), c(0x12, 0, 80, dataAt+0x1000))
		compare(t, f|h, codeAt, m)
		m = newImage()
		m.ccws(codeAt, f, c(0x12, cc|ida, 80, codeAt+8), c(0x00, 0, 80, dataAt+0x1000)) // the IDAW is the CCW
		compare(t, f|h, codeAt, m)
		m.ccws(codeAt, f, c(0x12, ida, 80, codeAt)) // and the CCW its own IDAW
		compare(t, f, codeAt, m)
		compare(t, f|h, codeAt, m)
	}
}

// The status of a program says nothing of the one before it, whose elements
// stood in the same slots: the end by the budget at a CCW that was not fetched
// is a program check, though a channel-control check was found there last time.
func TestWindowForgetsTheProgramBefore(t *testing.T) {
	g := newRig(t, func(s *setup) {
		s.ccw.Limits.Steps = 3
		// The second is skipped, so that three steps lead to the fourth.
		s.mem.ccws(codeAt, f1p, c(0x92, cc|sli, 8, dataAt), c(0x12, cc, 80, dataAt), c(0x12, cc, 80, dataAt), c(0x12, 0, 80, highAt))
	})
	_, err := g.st.Suspend(context.Background(), highAt, 32<<10)
	require.NoError(t, err)
	require.Equal(t, status{codeAt + 32, 0, cio.ControlCheck, 0}, statusOf(g.run(f1p)))
	require.ErrorContains(t, g.d.Err(), "ccw[3] at 0x1018: ")
	g.mem.ccws(codeAt, f1p, c(0x12, cc, 80, dataAt))
	require.Equal(t, status{codeAt + 32, 0, cio.ProgramCheck, 0}, statusOf(g.run(f1p)))
	require.EqualError(t, g.d.Err(), "ccw[3] at 0x1018: more than 3 steps: budget exhausted")
	require.NoError(t, g.st.Resume(highAt, 32<<10, translate.Bytes(g.mem.At(highAt))))
}
