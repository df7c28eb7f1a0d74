package channel_test

import (
	"errors"
	"math"
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/stretchr/testify/require"
)

// The meter of data ends an operation that has no end of its own, and its
// error is the program's.
func TestMovedMeter(t *testing.T) {
	spent := errors.New("spent")
	for _, cmd := range []cio.Command{rd, wr} {
		d := unit(8192)
		g := newRig(d)
		moved := 0
		g.cfg.Moved = func(n int) error {
			if moved += n; moved > 4096 {
				return spent
			}
			return nil
		}
		var stops []channel.Stop
		g.cfg.Stopped = func(s channel.Stop) { stops = append(stops, s) }
		g.build(testPMCW())
		g.put(progAt, true, ccw(cmd, cc, 8192, dataAt), ccw(rd, 0, 8, dataAt))
		require.Equal(t, cio.CC0, g.sub.Start(format1()))
		w := g.last(t).SCSW
		require.Equal(t, cio.ProgramCheck, w.Subchannel())
		require.Equal(t, uint32(progAt+8), w.CCWAddr())
		require.ErrorIs(t, g.sub.Err(), spent)
		require.Equal(t, 8192, moved, "it is told page by page")
		require.Equal(t, []channel.Stop{{Subchannel: cio.ProgramCheck, CCWAddr: progAt + 8, Err: spent}}, stops)
		require.Len(t, d.cmds, 1)
	}
}

// Stopped comes once for each way in which a start function stops, before the
// status that tells.
func TestStopped(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(g *rig, q *queue)
		want []channel.Stop
	}{
		{"normal end", func(g *rig, q *queue) {
			g.put(progAt, true, ccw(rd, 0, 8, dataAt))
			g.sub.Start(format1())
			q.run()
		}, []channel.Stop{{CCWAddr: progAt + 8}}},
		{"suspended, resumed", func(g *rig, q *queue) {
			g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(ctl, susp, 0, 0))
			o := format1()
			o.SetSuspend(true)
			g.sub.Start(o)
			q.run()
			g.put(progAt+8, true, ccw(ctl, 0, 0, 0))
			g.sub.Resume()
			q.run()
		}, []channel.Stop{{Suspended: true, CCWAddr: progAt + 16}, {CCWAddr: progAt + 16}}},
		{"refused by the device's own status", func(g *rig, q *queue) {
			g.sub.Start(format1())
			g.sub.Attention(cio.Attention)
			q.run()
		}, []channel.Stop{{}}},
		{"halted before it ran", func(g *rig, q *queue) {
			g.sub.Start(format1())
			g.sub.Halt()
			q.run()
		}, []channel.Stop{{}}},
		{"cleared before it ran", func(g *rig, q *queue) {
			g.sub.Start(format1())
			g.sub.Clear()
			q.run()
		}, []channel.Stop{{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := new(queue)
			g := newRig(unit(8))
			g.cfg.Dispatch = q.dispatch
			var got []channel.Stop
			g.cfg.Stopped = func(s channel.Stop) {
				var schib cio.SCHIB
				g.sub.Store(&schib)
				require.Zero(t, schib.SCSW.SC()&cio.StatusPending, "nobody can see it yet")
				got = append(got, s)
			}
			g.build(testPMCW())
			tt.do(g, q)
			require.Equal(t, tt.want, got)
			require.NotEmpty(t, g.irbs)
		})
	}
}

// A program that suspends itself while a halt is asked for is halted.
func TestHaltMeetsSuspend(t *testing.T) {
	g := newRig(unit(8))
	g.cfg.Stopped = func(s channel.Stop) {
		if s.Suspended {
			require.Equal(t, cio.CC0, g.sub.Halt())
		}
	}
	g.build(testPMCW())
	g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(ctl, susp, 0, 0))
	o := format1()
	o.SetSuspend(true)
	g.sub.Start(o)
	require.Len(t, g.irbs, 1)
	require.Equal(t, cio.StartFunction|cio.HaltFunction|cio.StatusPending, g.irbs[0].SCSW.Control())
	require.Equal(t, uint32(progAt+16), g.irbs[0].SCSW.CCWAddr())
	require.Equal(t, cio.CC0, g.sub.Start(format1()), "the halt is over")
}

// What the device can ask about the operation.
func TestTransferQuestions(t *testing.T) {
	type answer struct{ chained, chains bool }
	var got []answer
	d := unit(0)
	d.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
		x.Accept()
		got = append(got, answer{x.Chained(), x.Chains()})
		return cio.Ended
	}
	g := newRig(d).build(testPMCW())
	g.put(progAt, true, ccw(ctl, cc, 0, 0), ccw(ctl, cc, 0, 0), ccw(rd, cd|cc, 8, dataAt), ccw(rd, 0, 8, dataAt))
	g.sub.Start(format1())
	require.Equal(t, []answer{{false, true}, {true, true}, {true, false}}, got)
}

func TestWait(t *testing.T) {
	d := &endless{began: make(chan struct{})}
	mem := newStorage(storeAt, poison)
	endlessProgram(mem)
	s := channel.New(mem, d, testPMCW(), &channel.Config{
		Dispatch:       func(run func()) { go run() },
		MaxBackwardTIC: math.MaxInt,
	})
	s.Start(format1())
	<-d.began
	s.Halt()
	s.Wait()
	require.Zero(t, d.using.Load())
	require.Equal(t, cio.CC0, s.Test(new(cio.IRB)))
	s.Attention(cio.Attention)
	require.Equal(t, cio.CC0, s.Test(new(cio.IRB)))
	s.Close()
	s.Attention(cio.Attention)
	require.Equal(t, cio.CC3, s.Test(new(cio.IRB)))
}
