package channel_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/stretchr/testify/require"
)

const normalEnd = cio.StartFunction | cio.PrimaryStatus | cio.SecondaryStatus | cio.StatusPending

// state is a situation a subchannel can be in, and how it gets there.
type state struct {
	name  string
	reach func(g *rig)
	// The condition codes in that state, of SSCH, RSCH, HSCH, CSCH, XSCH,
	// TSCH, STSCH, MSCH in this order.
	cc [8]cio.CC
}

// queue is a Dispatch that keeps what it is given until the test runs it.
type queue struct{ todo []func() }

func (q *queue) dispatch(f func()) { q.todo = append(q.todo, f) }

func (q *queue) run() {
	for len(q.todo) > 0 {
		f := q.todo[0]
		q.todo = q.todo[1:]
		f()
	}
}

// ccw.md 5, "Condition codes": every instruction in every state.
func TestConditionCodes(t *testing.T) {
	suspending := func(g *rig) {
		g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(rd, susp, 8, dataAt))
		o := format1()
		o.SetSuspend(true)
		g.sub.Start(o)
	}
	start := func(g *rig) { g.sub.Start(format1()) }
	var q *queue
	states := []state{
		{"idle", func(*rig) {}, [8]cio.CC{0, 2, 0, 0, 2, 1, 0, 0}},
		{"start pending", start, [8]cio.CC{2, 2, 0, 0, 0, 1, 0, 2}},
		{"status pending, primary and secondary", func(g *rig) { start(g); q.run() }, [8]cio.CC{1, 1, 1, 0, 1, 0, 0, 1}},
		{"status taken", func(g *rig) { start(g); q.run(); g.sub.Test(new(cio.IRB)) }, [8]cio.CC{0, 2, 0, 0, 2, 1, 0, 0}},
		{"suspended, intermediate status pending", func(g *rig) { suspending(g); q.run() }, [8]cio.CC{1, 1, 0, 0, 1, 0, 0, 1}},
		{"suspended, status taken", func(g *rig) { suspending(g); q.run(); g.sub.Test(new(cio.IRB)) }, [8]cio.CC{2, 0, 0, 0, 0, 1, 0, 2}},
		{"resume pending", func(g *rig) { suspending(g); q.run(); g.sub.Test(new(cio.IRB)); g.sub.Resume() }, [8]cio.CC{2, 2, 0, 0, 0, 1, 0, 2}},
		{"halt pending", func(g *rig) { start(g); g.sub.Halt() }, [8]cio.CC{2, 2, 2, 0, 2, 1, 0, 2}},
		{"halted", func(g *rig) { g.sub.Halt() }, [8]cio.CC{1, 1, 1, 0, 1, 0, 0, 1}},
		{"clear pending", func(g *rig) { start(g); g.sub.Clear() }, [8]cio.CC{2, 2, 2, 0, 2, 1, 0, 2}},
		{"cleared", func(g *rig) { g.sub.Clear() }, [8]cio.CC{1, 1, 1, 0, 1, 0, 0, 1}},
		{"attention", func(g *rig) { g.sub.Attention(cio.Attention) }, [8]cio.CC{1, 1, 1, 0, 1, 0, 0, 1}},
		{"device end owed", func(g *rig) {
			g.dev.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus { x.Accept(); return cio.ChannelEnd }
			start(g)
			q.run()
		}, [8]cio.CC{1, 1, 1, 0, 1, 0, 0, 1}},
		{"disabled", func(g *rig) {
			g.sub.Modify(&cio.SCHIB{})
		}, [8]cio.CC{3, 3, 3, 3, 3, 3, 0, 0}},
		{"closed", func(g *rig) { g.sub.Close() }, [8]cio.CC{3, 3, 3, 3, 3, 3, 3, 3}},
	}
	instructions := []struct {
		name string
		do   func(g *rig) cio.CC
	}{
		{"SSCH", func(g *rig) cio.CC { return g.sub.Start(format1()) }},
		{"RSCH", func(g *rig) cio.CC { return g.sub.Resume() }},
		{"HSCH", func(g *rig) cio.CC { return g.sub.Halt() }},
		{"CSCH", func(g *rig) cio.CC { return g.sub.Clear() }},
		{"XSCH", func(g *rig) cio.CC { return g.sub.Cancel() }},
		{"TSCH", func(g *rig) cio.CC { return g.sub.Test(new(cio.IRB)) }},
		{"STSCH", func(g *rig) cio.CC { return g.sub.Store(new(cio.SCHIB)) }},
		{"MSCH", func(g *rig) cio.CC { return g.sub.Modify(&cio.SCHIB{PMCW: testPMCW()}) }},
	}
	for _, s := range states {
		for i, in := range instructions {
			t.Run(s.name+"/"+in.name, func(t *testing.T) {
				q = new(queue)
				g := newRig(unit(8))
				g.held = true
				g.cfg.Dispatch = q.dispatch
				g.build(testPMCW())
				g.put(progAt, true, ccw(rd, 0, 8, dataAt))
				s.reach(g)
				require.Equal(t, s.cc[i], in.do(g))
				q.run() // whatever was accepted comes to its end
				var irb cio.IRB
				g.sub.Test(&irb)
				require.NotEqual(t, cio.CC0, g.sub.Test(&irb), "status once taken is gone")
			})
		}
	}
}

func TestNotOperational(t *testing.T) {
	p := testPMCW()
	p.SetFlags(cio.PMCWEnabled) // no valid device number
	g := newRig(unit(8)).build(p)
	require.Equal(t, cio.CC3, g.sub.Start(format1()))
	require.Equal(t, cio.CC0, g.sub.Modify(&cio.SCHIB{PMCW: testPMCW()}), "MSCH of an invalid subchannel does nothing")
	var s cio.SCHIB
	require.Equal(t, cio.CC0, g.sub.Store(&s))
	require.Equal(t, p, s.PMCW)
}

// ccw.md 4: SSCH program exceptions; 10: an LPM without an available path
// gives cc 3.
func TestStartRefusals(t *testing.T) {
	for _, tt := range []struct {
		name string
		orb  func(o *cio.ORB)
		err  error
	}{
		{"4: reserved bits of word 1", func(o *cio.ORB) { o.Raw[7] |= 0x02 }, errs.ErrInvalid},
		{"4: bit 0 of word 2", func(o *cio.ORB) { o.SetProgram(1<<31 | progAt) }, errs.ErrInvalid},
		{"4: reserved bytes of the extension", func(o *cio.ORB) { o.SetExtended(true); o.Raw[20] = 1 }, errs.ErrInvalid},
		{"4: transport mode", func(o *cio.ORB) { o.SetTransport(true) }, errs.ErrNotSupported},
		{"10: no path in the mask", func(o *cio.ORB) { o.SetLPM(0x3F) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(unit(8)).build(testPMCW())
			o := format1()
			tt.orb(o)
			require.ErrorIs(t, channel.CheckORB(o), tt.err)
			require.Equal(t, cio.CC3, g.sub.Start(o))
			require.Empty(t, g.dev.cmds)
		})
	}
	bad := testPMCW()
	bad.SetLimitMode(3)
	require.ErrorIs(t, channel.CheckPMCW(&bad), errs.ErrInvalid)
	require.ErrorIs(t, channel.CheckPMCW(&cio.PMCW{4: 0x40}), errs.ErrInvalid)
	g := newRig(unit(8)).build(testPMCW())
	require.Equal(t, cio.CC3, g.sub.Modify(&cio.SCHIB{PMCW: bad}))
}

// A misaligned or unreachable program address is no exception but a program
// check [ccw.md 4].
func TestProgramAddress(t *testing.T) {
	for _, tt := range []struct {
		at   uint32
		f1   bool
		want uint32
	}{
		{progAt + 4, true, progAt + 12},
		{0x7FFF_FFF8, true, 0},
		{0xFF_FFF8, false, 0x100_0000}, // there, but holds no CCW
		{0x100_0000, false, 0x100_0008},
	} {
		g := newRig(unit(8)).build(testPMCW())
		o := format1()
		o.SetFormat1(tt.f1)
		o.SetProgram(tt.at)
		g.mem.load(0xFF_FFF8, make([]byte, 8))
		require.Equal(t, cio.CC0, g.sub.Start(o))
		w := g.last(t).SCSW
		require.Equal(t, cio.ProgramCheck, w.Subchannel())
		require.Equal(t, cio.DeviceStatus(0), w.Device())
		require.Equal(t, tt.want, w.CCWAddr())
	}
	// Chaining across the end of format 0's reach.
	g := newRig(unit(8)).build(testPMCW())
	g.put(0xFF_FFF8, false, ccw(rd, cc, 8, dataAt))
	o := format1()
	o.SetFormat1(false)
	o.SetProgram(0xFF_FFF8)
	g.sub.Start(o)
	w := g.last(t).SCSW
	require.Equal(t, cio.ProgramCheck, w.Subchannel())
	require.Equal(t, uint32(0x100_0008), w.CCWAddr())
}

func TestModify(t *testing.T) {
	g := newRig(unit(8)).build(testPMCW())
	var in cio.SCHIB
	for i := range in.PMCW {
		in.PMCW[i] = 0xFF
	}
	in.PMCW.SetLimitMode(2)
	p := &in.PMCW
	p[4] &^= 0x47                                    // reserved
	p[24], p[25], p[26], p[27] = 0, 0xE0, 0, p[27]&7 // reserved
	in.MBA = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	require.Equal(t, cio.CC0, g.sub.Modify(&in))
	var out cio.SCHIB
	require.Equal(t, cio.CC0, g.sub.Store(&out))
	q := out.PMCW
	// 5: MSCH changes only parameter, ISC, E, LM, MM, D, LPM, POM, MBI, F/X/S
	// and the measurement-block address.
	want := testPMCW()
	want.SetParam(0xFFFF_FFFF)
	want.SetISC(7)
	want.SetLimitMode(2)
	want.SetMeasureMode(3)
	want.SetLPM(0xFF)
	want.SetPOM(0xFF)
	want.SetMBI(0xFFFF)
	want.SetFlags(want.Flags() | cio.PMCWMultipath | cio.PMCWMeasureFormat | cio.PMCWMeasureExtended)
	require.Equal(t, want, q)
	require.Equal(t, in.MBA, out.MBA)
}

// The SCSW repeats the ORB.
func TestFlagsOfTheORB(t *testing.T) {
	g := newRig(unit(8)).build(testPMCW())
	g.put(progAt, true, ccw(rd, 0, 8, dataAt))
	o := format1()
	o.SetKey(9)
	o.SetSuspend(true)
	o.SetPrefetch(true)
	o.SetAddressLimit(true)
	o.SetSuppressSuspend(true)
	o.SetLPM(0x40)
	require.Equal(t, cio.CC0, g.sub.Start(o))
	irb := g.last(t)
	require.Equal(t, cio.SCSWSuspend|cio.SCSWFormat1|cio.SCSWPrefetch|cio.SCSWAddressLimit|cio.SCSWSuppressSuspend, irb.SCSW.Flags())
	require.Equal(t, uint8(9), irb.SCSW.Key())
	require.Equal(t, uint8(0x40), irb.ESW.LPUM(), "the first path the masks allow")
	var s cio.SCHIB
	g.sub.Store(&s)
	require.Equal(t, []uint32{0xCAFE, 0x40, 0x40}, []uint32{s.PMCW.Param(), uint32(s.PMCW.LPM()), uint32(s.PMCW.LPUM())})
}

func TestSuspendAndResume(t *testing.T) {
	prog := []cio.CCW{ccw(ctl, cc, 0, 0), ccw(rd, susp, 8, dataAt)}
	suspend := func(g *rig, more cio.ORBFlags) {
		g.put(progAt, true, prog...)
		o := format1()
		o.SetFlags(o.Flags() | cio.ORBSuspend | more)
		require.Equal(t, cio.CC0, g.sub.Start(o))
	}
	t.Run("4: intermediate status, then RSCH fetches the CCW again", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		suspend(g, 0)
		w := g.last(t).SCSW
		require.Equal(t, cio.StartFunction|cio.Suspended|cio.IntermediateStatus|cio.StatusPending, w.Control())
		require.Equal(t, uint32(progAt+16), w.CCWAddr())
		require.Equal(t, []cio.Command{ctl}, g.dev.cmds)

		require.Equal(t, cio.CC0, g.sub.Resume())
		w = g.last(t).SCSW
		require.Len(t, g.irbs, 2, "S is still on: suspended again")
		require.Equal(t, cio.Suspended, w.AC())

		g.put(progAt+8, true, ccw(rd, 0, 8, dataAt))
		require.Equal(t, cio.CC0, g.sub.Resume())
		w = g.last(t).SCSW
		require.Equal(t, normalEnd, w.Control())
		require.Equal(t, pattern[:8], g.mem.bytes(dataAt, 8))
		require.Equal(t, 3, g.dev.begun, "each run reaches the device as a new program")
	})
	t.Run("4: U suppresses the interruption", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		suspend(g, cio.ORBSuppressSuspend)
		require.Empty(t, g.irbs)
		var s cio.SCHIB
		g.sub.Store(&s)
		require.Equal(t, cio.StartFunction|cio.Suspended, s.SCSW.Control())
		require.Equal(t, cio.CC0, g.sub.Resume())
	})
	t.Run("a suspended program can be halted", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		suspend(g, 0)
		require.Equal(t, cio.CC0, g.sub.Halt())
		w := g.last(t).SCSW
		require.Equal(t, cio.StartFunction|cio.HaltFunction|cio.StatusPending, w.Control())
		require.Equal(t, uint32(progAt+16), w.CCWAddr())
		require.Equal(t, cio.CC0, g.sub.Start(format1()))
	})
	t.Run("and cancelled", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		suspend(g, 0)
		require.Equal(t, cio.CC0, g.sub.Cancel())
		require.Equal(t, cio.CC2, g.sub.Resume())
		require.Equal(t, cio.CC0, g.sub.Start(format1()))
	})
	t.Run("and cleared", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		suspend(g, 0)
		require.Equal(t, cio.CC0, g.sub.Clear())
		w := g.last(t).SCSW
		require.Equal(t, cio.ClearFunction|cio.StatusPending, w.Control())
		require.Equal(t, 1, g.dev.resets)
	})
	t.Run("a program may change what it has not reached", func(t *testing.T) {
		// The read overwrites the NOP that follows with a read of its own.
		next := ccw(rd, 0, 4, dataAt).Encode1()
		d := unit(0)
		n := 0
		d.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
			if n++; n == 1 {
				x.Store(next[:])
			} else {
				x.Store([]byte("done"))
			}
			return cio.Ended
		}
		g := newRig(d).build(testPMCW())
		g.put(progAt, true, ccw(rd, cc, 8, progAt+8), ccw(0, 0, 0, 0))
		g.sub.Start(format1())
		w := g.last(t).SCSW
		require.Equal(t, normalEnd, w.Control())
		require.Equal(t, []byte("done"), g.mem.bytes(dataAt, 4))
	})
}

func TestIntermediateStatus(t *testing.T) {
	t.Run("4: PCI when the CCW takes control", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(rd, cd|pci, 4, dataAt), ccw(0, pci, 4, dataAt+4))
		g.sub.Start(format1())
		require.Len(t, g.irbs, 3)
		for i, at := range []uint32{progAt + 16, progAt + 24} {
			w := g.irbs[i].SCSW
			require.Equal(t, cio.StartFunction|cio.SubchannelActive|cio.DeviceActive|cio.IntermediateStatus|cio.StatusPending, w.Control())
			require.Equal(t, cio.PCI, w.Subchannel())
			require.Equal(t, at, w.CCWAddr())
		}
		w := g.last(t).SCSW
		require.Equal(t, normalEnd, w.Control())
		require.Equal(t, cio.SubchannelStatus(0), w.Subchannel())
	})
	t.Run("4: several may merge", func(t *testing.T) {
		g := newRig(unit(8))
		g.held = true
		g.build(testPMCW())
		g.put(progAt, true, ccw(ctl, cc|pci, 0, 0), ccw(rd, pci, 8, dataAt))
		g.sub.Start(format1())
		var irb cio.IRB
		require.Equal(t, cio.CC0, g.sub.Test(&irb))
		require.Equal(t, normalEnd|cio.IntermediateStatus, irb.SCSW.Control())
		require.Equal(t, cio.PCI, irb.SCSW.Subchannel())
		require.Equal(t, cio.CC1, g.sub.Test(&irb))
		require.Equal(t, cio.Control(0), irb.SCSW.Control())
	})
	t.Run("4: I, when the device accepted the first command", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		g.put(progAt, true, ccw(rd, cc, 8, dataAt), ccw(rd, 0, 8, dataAt))
		o := format1()
		o.SetInitialStatus(true)
		g.sub.Start(o)
		require.Len(t, g.irbs, 2)
		require.Equal(t, cio.IntermediateStatus|cio.StatusPending, g.irbs[0].SCSW.SC())
		require.NotZero(t, g.irbs[0].SCSW.Flags()&cio.SCSWZero)
		require.Zero(t, g.irbs[1].SCSW.Flags()&cio.SCSWZero)
	})
	t.Run("4: I, an immediate first command that chains", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(rd, 0, 8, dataAt))
		o := format1()
		o.SetInitialStatus(true)
		g.sub.Start(o)
		require.Len(t, g.irbs, 2)
	})
	t.Run("4: I, an immediate command that ends the program", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		g.put(progAt, true, ccw(ctl, 0, 0, 0))
		o := format1()
		o.SetInitialStatus(true)
		g.sub.Start(o)
		require.Len(t, g.irbs, 1)
	})
	t.Run("4: I, a command that is not begun", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		g.put(progAt, true, ccw(rd, 0, 8, 0x7FFF_FF00))
		o := format1()
		o.SetInitialStatus(true)
		g.sub.Start(o)
		require.Len(t, g.irbs, 1)
	})
}

func TestConcurrentSense(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprintf("5: PMCW S=%t", on), func(t *testing.T) {
			d := unit(0)
			d.exec = func(cio.Command, *channel.Transfer) cio.DeviceStatus { return cio.Ended | cio.UnitCheck }
			d.sense = []byte{0x80, 0x01, 0x02}
			p := testPMCW()
			if !on {
				p.SetFlags(p.Flags() &^ cio.PMCWConcurrentSense)
			}
			g := newRig(d).build(p)
			g.put(progAt, true, ccw(ctl, 0, 0, 0))
			g.sub.Start(format1())
			irb := g.last(t)
			require.Equal(t, normalEnd|cio.AlertStatus, irb.SCSW.Control())
			if !on {
				require.Nil(t, irb.Sense())
				require.NotNil(t, d.sense, "the device still holds it")
				return
			}
			require.Equal(t, []byte{0x80, 0x01, 0x02}, irb.Sense())
			require.Nil(t, d.sense, "the device has no sense left")
		})
	}
	t.Run("more than the ECW holds", func(t *testing.T) {
		d := unit(0)
		d.exec = func(cio.Command, *channel.Transfer) cio.DeviceStatus { return cio.Ended | cio.UnitCheck }
		d.sense = pattern[:100]
		g := newRig(d).build(testPMCW())
		g.put(progAt, true, ccw(ctl, 0, 0, 0))
		g.sub.Start(format1())
		irb := g.last(t)
		require.Equal(t, pattern[:32], irb.Sense())
	})
}

func TestAttention(t *testing.T) {
	t.Run("5: unsolicited, alert and pending", func(t *testing.T) {
		g := newRig(unit(8)).build(testPMCW())
		g.sub.Attention(cio.Attention)
		w := g.last(t).SCSW
		require.Equal(t, cio.AlertStatus|cio.StatusPending, w.Control())
		require.Equal(t, cio.Attention, w.Device())
	})
	t.Run("held back while a program runs and until its status is taken", func(t *testing.T) {
		d := unit(8)
		g := newRig(d)
		g.held = true
		g.build(testPMCW())
		d.exec = func(cio.Command, *channel.Transfer) cio.DeviceStatus {
			g.sub.Attention(cio.Attention)
			return cio.Ended
		}
		g.put(progAt, true, ccw(ctl, 0, 0, 0))
		g.sub.Start(format1())
		var irb cio.IRB
		require.Equal(t, cio.CC0, g.sub.Test(&irb))
		require.Equal(t, cio.Ended, irb.SCSW.Device())
		require.Equal(t, cio.CC0, g.sub.Test(&irb))
		require.Equal(t, cio.Attention, irb.SCSW.Device())
		require.Equal(t, cio.CC1, g.sub.Test(&irb))
	})
	t.Run("held back while disabled", func(t *testing.T) {
		p := testPMCW()
		p.SetFlags(p.Flags() &^ cio.PMCWEnabled)
		g := newRig(unit(8)).build(p)
		g.sub.Attention(cio.DeviceEnd)
		require.Empty(t, g.irbs)
		require.Equal(t, cio.CC0, g.sub.Modify(&cio.SCHIB{PMCW: testPMCW()}))
		require.Len(t, g.irbs, 1)
	})
	t.Run("5: a start that comes first gets deferred condition code 1", func(t *testing.T) {
		q := new(queue)
		g := newRig(unit(8))
		g.cfg.Dispatch = q.dispatch
		g.build(testPMCW())
		require.Equal(t, cio.CC0, g.sub.Start(format1()))
		g.sub.Attention(cio.Attention)
		q.run()
		w := g.last(t).SCSW
		require.Equal(t, cio.CC1, w.DeferredCC())
		require.Equal(t, cio.StartFunction|cio.AlertStatus|cio.StatusPending, w.Control())
		require.Equal(t, cio.Attention, w.Device())
		require.Empty(t, g.dev.cmds)
	})
	t.Run("5: so does one that finds the device busy", func(t *testing.T) {
		d := unit(8)
		d.exec = func(cio.Command, *channel.Transfer) cio.DeviceStatus { return cio.Busy }
		g := newRig(d).build(testPMCW())
		g.put(progAt, true, ccw(rd, 0, 8, dataAt))
		g.sub.Start(format1())
		w := g.last(t).SCSW
		require.Equal(t, cio.CC1, w.DeferredCC())
		require.Equal(t, cio.Busy, w.Device())
	})
	t.Run("device end that is owed becomes secondary status", func(t *testing.T) {
		d := unit(8)
		d.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus { x.Accept(); return cio.ChannelEnd }
		g := newRig(d).build(testPMCW())
		g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(rd, 0, 8, dataAt))
		g.sub.Start(format1())
		w := g.last(t).SCSW
		require.Equal(t, cio.StartFunction|cio.DeviceActive|cio.PrimaryStatus|cio.StatusPending, w.Control())
		g.sub.Attention(cio.DeviceEnd)
		w = g.last(t).SCSW
		require.Equal(t, cio.SecondaryStatus|cio.StatusPending, w.Control())
		require.Equal(t, cio.DeviceEnd, w.Device())
	})
}

// The device model's mistakes are the device's, not the program's.
func TestBrokenDevice(t *testing.T) {
	for _, tt := range []struct {
		name string
		exec func(cio.Command, *channel.Transfer) cio.DeviceStatus
	}{
		{"no ending status", func(cio.Command, *channel.Transfer) cio.DeviceStatus { return 0 }},
		{"stores for a write", func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
			x.Store([]byte{1})
			return cio.Ended
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := unit(0)
			d.exec = tt.exec
			g := newRig(d).build(testPMCW())
			g.put(progAt, true, ccw(wr, 0, 8, dataAt))
			g.sub.Start(format1())
			w := g.last(t).SCSW
			require.Equal(t, cio.InterfaceCheck, w.Subchannel())
			require.Equal(t, untouched(8), g.mem.bytes(dataAt, 8))
		})
	}
}

// The work meter ends a loop that no rule ends.
func TestSteps(t *testing.T) {
	spent := errors.New("spent")
	g := newRig(searcher(1 << 30))
	steps := 0
	g.cfg.Steps = func(n int) error {
		if steps += n; steps > 1000 {
			return spent
		}
		return nil
	}
	g.build(testPMCW())
	g.put(progAt, true, ccw(0x31, cc, 5, dataAt), ccw(cio.TIC, 0, 0, progAt))
	require.Equal(t, cio.CC0, g.sub.Start(format1()))
	w := g.last(t).SCSW
	require.Equal(t, cio.ProgramCheck, w.Subchannel())
	require.Equal(t, uint32(progAt+8), w.CCWAddr())
	require.ErrorIs(t, g.sub.Err(), spent)
	require.Equal(t, 1001, steps)
	steps = 0
	g.put(progAt, true, ccw(rd, 0, 8, dataAt))
	require.Equal(t, cio.CC0, g.sub.Start(format1()))
	require.NoError(t, g.sub.Err(), "an error is of the last program")
}

func TestBackwardTransferLimit(t *testing.T) {
	for _, limit := range []int{1, 255} {
		d := unit(0)
		g := newRig(d)
		g.cfg.MaxBackwardTIC = limit
		g.build(testPMCW())
		g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(cio.TIC, 0, 0, progAt))
		g.sub.Start(format1())
		w := g.last(t).SCSW
		require.Equal(t, cio.ProgramCheck, w.Subchannel())
		require.Len(t, d.cmds, limit+1, "the loop is left at transfer limit + 1")
	}
}

// Each CCW and each list word in use is fetched once, and nothing else is.
func TestFetchesEachOnce(t *testing.T) {
	g := newRig(unit(5000)).build(testPMCW())
	g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(cio.TIC, 0, 0, progAt+0x100))
	g.put(progAt+0x100, true, ccw(rd, ida, 5000, listAt))
	g.mem.load(listAt, words8(dataAt+0x800, dataAt+0x3000, dataAt+0x5000))
	o := format1()
	o.SetIDAW2(true)
	g.mem.log = true
	g.sub.Start(o)
	w := g.last(t).SCSW
	require.Equal(t, normalEnd, w.Control())
	require.Equal(t, []span{{progAt, 8}, {progAt + 8, 8}, {progAt + 0x100, 8}, {listAt, 8}, {listAt + 8, 8}}, g.mem.reads)
}

// A device that skips some of the count and then stores goes on at the right
// place, in every way of addressing.
func TestSkipWithinData(t *testing.T) {
	for _, tt := range []struct {
		name string
		orb  cio.ORBFlags
		c    cio.CCW
		list []byte
		at   uint64 // where byte 4990 of the data goes
	}{
		{"direct", 0, ccw(rd, 0, 5000, dataAt), nil, dataAt + 4990},
		{"IDAW", h, ccw(rd, ida, 5000, listAt), words8(dataAt+0x10, dataAt+0x3000), dataAt + 0x3000 + 4990 - 0xFF0},
		{"MIDAW", cio.ORBMIDAW, ccw(rd, mida, 5000, listAt), midaws(
			cio.MIDAW{Count: 4000, Addr: dataAt + 5}, cio.MIDAW{Flags: cio.MIDAWSkip, Count: 900, Addr: 1},
			cio.MIDAW{Flags: cio.MIDAWLast, Count: 100, Addr: dataAt + 0x7000}), dataAt + 0x7000 + 90},
		{"backward", 0, ccw(back, 0, 5000, dataAt+0x2000), nil, dataAt + 0x2000 - 4990},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := unit(0)
			d.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
				require.Equal(t, 4000, x.Skip(4000))
				require.Equal(t, 990, x.Skip(990))
				require.Equal(t, 10, x.Remaining())
				require.Equal(t, 1, x.Store([]byte{0x77}))
				require.Equal(t, 9, x.Skip(9))
				require.False(t, x.Terminated())
				return cio.Ended
			}
			g := newRig(d).build(testPMCW())
			g.put(progAt, true, tt.c)
			g.mem.load(listAt, tt.list)
			o := format1()
			o.SetFlags(o.Flags() | tt.orb)
			g.sub.Start(o)
			w := g.last(t).SCSW
			require.Equal(t, normalEnd, w.Control(), "%v", w)
			require.Equal(t, byte(0x77), g.mem.byteAt(tt.at))
			require.Equal(t, untouched(16), g.mem.bytes(dataAt, 16))
		})
	}
}
