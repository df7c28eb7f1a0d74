package ccw_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// gate is a device whose commands wait until they are let go.
type gate struct {
	entered chan cio.Command
	leave   chan struct{}
}

func newGate() *gate {
	return &gate{entered: make(chan cio.Command, 16), leave: make(chan struct{}, 16)}
}

func (d *gate) Begin()        {}
func (d *gate) Reset()        {}
func (d *gate) Sense() []byte { return nil }
func (d *gate) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d.entered <- cmd
	<-d.leave
	if cmd.Class(true).Input() {
		x.Store(make([]byte, x.Remaining()))
	}
	return cio.Ended
}

// queue is a Config.Dispatch that runs what it is told to.
type queue struct {
	mu   sync.Mutex
	runs []func()
}

func (q *queue) add(run func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.runs = append(q.runs, run)
}

func (q *queue) run() (n int) {
	q.mu.Lock()
	runs := q.runs
	q.runs = nil
	q.mu.Unlock()
	for _, r := range runs {
		r()
	}
	return len(runs)
}

// stall is remote memory whose first read waits until it is let go.
type stall struct {
	b       []byte
	once    sync.Once
	entered chan struct{}
	leave   chan struct{}
}

func newStall(b []byte) *stall {
	return &stall{b: b, entered: make(chan struct{}), leave: make(chan struct{})}
}

func (s *stall) ReadAt(p []byte, off int64) (int, error) {
	s.once.Do(func() { close(s.entered); <-s.leave })
	return copy(p, s.b[off:]), nil
}
func (s *stall) WriteAt(p []byte, off int64) (int, error) { return copy(s.b[off:], p), nil }

// stalled is a rig whose program is behind a stall, so that it can be caught
// while it is being taken.
func stalled(t *testing.T, change ...func(s *setup)) (*rig, *stall) {
	m := newStall(make([]byte, 64<<10))
	g := newRig(t, append(change, func(s *setup) {
		s.mapping = func(st *translate.Store) {
			require.NoError(t, st.Map(0, addr.Len(len(m.b)), translate.Remote(m), addr.ReadWrite))
		}
	})...)
	w := c(0x02, 0, 4096, dataAt).Encode1()
	copy(m.b[codeAt:], w[:])
	return g, m
}

// C4 #18, close during pending: a program that is being fetched is caught by
// the end of the device. Close waits for it; it never starts.
func TestC4_18CloseWhileAProgramIsTaken(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1 | cio.ORBSuspend} {
		g, m := stalled(t)
		if f == f1|cio.ORBSuspend {
			continue // nothing is fetched before hardware runs
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			o := orbOf(f)
			_, err := g.d.Start(&o)
			require.ErrorIs(t, err, errs.ErrGone)
		}()
		<-m.entered
		closed := make(chan struct{})
		go func() { defer close(closed); _ = g.d.Close() }()
		time.Sleep(5 * time.Millisecond)
		close(m.leave)
		<-ended
		<-closed
		g.nothingHeld()
		o := orbOf(f)
		code, err := g.d.Start(&o)
		require.Equal(t, cio.CC3, code)
		require.ErrorIs(t, err, errs.ErrGone)
	}
}

// C4 #18: with P=0 the fetch is on the goroutine of hardware.
func TestC4_18CloseWhileHardwareFetches(t *testing.T) {
	g, m := stalled(t, func(s *setup) { s.ccw.Dispatch = func(run func()) { go run() } })
	o := orbOf(f1p)
	_, err := g.d.Start(&o)
	require.NoError(t, err)
	<-m.entered
	time.AfterFunc(5*time.Millisecond, func() { close(m.leave) })
	require.NoError(t, g.d.Close())
	g.nothingHeld()
}

// C4 #18: what is asked of a device after its end does nothing, and shows no
// program of before.
func TestC4_18AfterClose(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f, c(0x02, 0, 4096, dataAt)) })
		g.run(f)
		require.NoError(t, g.d.Close())
		require.NoError(t, g.d.Close())
		require.Empty(t, g.d.Last().Elements)
		irb := cio.IRB{ECW: cio.ECW{1, 2, 3}}
		irb.SCSW.SetCCWAddr(0x1018)
		before := irb
		require.Equal(t, cio.CC3, g.d.Test(&irb))
		require.Equal(t, before, irb, "TEST SUBCHANNEL with cc 3 stores nothing")
		var s cio.SCHIB
		require.Equal(t, cio.CC3, g.d.Store(&s))
		require.Zero(t, s)
		code, err := g.d.Resume()
		require.Equal(t, cio.CC3, code)
		require.ErrorIs(t, err, errs.ErrGone)
		require.Equal(t, cio.CC3, g.d.Halt())
		require.Equal(t, cio.CC3, g.d.Clear())
		require.Equal(t, cio.CC3, g.d.Cancel())
		require.Equal(t, cio.CC3, g.d.Modify(&s))
		g.d.Attention(cio.Attention)
		require.NoError(t, g.d.Err())
	}
}

// A disabled subchannel stores nothing either.
func TestTestWithCC3StoresNothing(t *testing.T) {
	p := cio.DefaultPMCW()
	p.SetFlags(p.Flags() &^ cio.PMCWEnabled)
	g := newRig(t, func(s *setup) { s.ccw.PMCW = &p })
	var irb cio.IRB
	irb.SCSW.SetCCWAddr(0x1018)
	require.Equal(t, cio.CC3, g.d.Test(&irb))
	require.EqualValues(t, 0x1018, irb.SCSW.CCWAddr())
	o := orbOf(f1)
	code, err := g.d.Start(&o)
	require.NoError(t, err)
	require.Equal(t, cio.CC3, code)
}

// C4 #9 refcount and lifetime: attention that comes between SSCH and the
// start of the program makes the device refuse it (deferred condition code 1).
// The program holds pins by then; they must go, and the device must go on.
func TestC4_09DeferredCC1LeavesNoPins(t *testing.T) {
	var q queue
	g := newRig(t, func(s *setup) {
		s.ccw.Dispatch = q.add
		s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, dataAt))
	})
	o := orbOf(f1)
	_, err := g.d.Start(&o)
	require.NoError(t, err)
	require.NotZero(t, g.pinner.Charged())
	g.d.Attention(cio.Attention)
	q.run()
	s := g.take()
	require.Equal(t, cio.CC1, s.DeferredCC())
	g.nothingHeld()
	code, err := g.d.Start(&o)
	require.NoError(t, err)
	require.Equal(t, cio.CC0, code)
	q.run()
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.take()))
}

// C4 #9: XSCH takes back a start that did not begin; its pins go.
func TestC4_09CancelledStartLeavesNoPins(t *testing.T) {
	var q queue
	g := newRig(t, func(s *setup) {
		s.ccw.Dispatch = q.add
		s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, dataAt))
	})
	o := orbOf(f1)
	_, err := g.d.Start(&o)
	require.NoError(t, err)
	require.Equal(t, cio.CC0, g.d.Cancel())
	g.nothingHeld()
	require.Equal(t, cio.CC2, g.d.Cancel(), "nothing is left to cancel")
	// A second program may come before the first was dispatched.
	code, err := g.d.Start(&o)
	require.NoError(t, err)
	require.Equal(t, cio.CC0, code)
	q.run()
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.take()))
	g.nothingHeld()
}

// C4 #9: halt and clear of a start that did not begin, and of one that runs.
func TestC4_09HaltAndClear(t *testing.T) {
	for name, stop := range map[string]func(d *ccw.Device) cio.CC{
		"halt": (*ccw.Device).Halt, "clear": (*ccw.Device).Clear,
	} {
		t.Run(name+" before the start", func(t *testing.T) {
			var q queue
			g := newRig(t, func(s *setup) {
				s.ccw.Dispatch = q.add
				s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, dataAt))
			})
			o := orbOf(f1)
			_, err := g.d.Start(&o)
			require.NoError(t, err)
			require.Equal(t, cio.CC0, stop(g.d))
			q.run()
			g.nothingHeld()
			g.take()
		})
		t.Run(name+" while it runs", func(t *testing.T) {
			dev := newGate()
			ended := make(chan struct{}, 1)
			g := newRig(t, func(s *setup) {
				s.dev = dev
				s.ccw.Dispatch = func(run func()) { go run() }
				s.ccw.Interrupt = func() { ended <- struct{}{} }
				s.mem.ccws(codeAt, f1, c(0x03, cc|sli, 1, 0), c(0x02, cc, 4096, dataAt), c(0x02, 0, 16, dataAt))
			})
			o := orbOf(f1)
			_, err := g.d.Start(&o)
			require.NoError(t, err)
			<-dev.entered
			require.NotZero(t, g.pinner.Charged())
			require.Equal(t, cio.CC0, stop(g.d))
			dev.leave <- struct{}{}
			<-ended
			g.nothingHeld()
			s := g.take()
			require.NoError(t, g.d.Err())
			if name == "halt" {
				require.Equal(t, cio.StartFunction|cio.HaltFunction, s.FC())
				require.EqualValues(t, codeAt+8, s.CCWAddr())
			} else {
				require.Equal(t, cio.ClearFunction, s.FC())
				require.Zero(t, s.CCWAddr())
			}
		})
	}
}

// C4 #9: of two RSCH at the same time one resumes, and the other does not take
// the pins of the program away.
func TestC4_09TwoResumes(t *testing.T) {
	for range 200 {
		var ends atomic.Int32
		g := newRig(t, func(s *setup) {
			s.ccw.Dispatch = func(run func()) { go run() }
			s.ccw.Interrupt = func() { ends.Add(1) }
			s.mem.ccws(codeAt, f1, c(0x12, susp, 80, dataAt))
		})
		o := orbOf(f1 | cio.ORBSuspend)
		_, err := g.d.Start(&o)
		require.NoError(t, err)
		for ends.Load() == 0 {
			time.Sleep(time.Microsecond)
		}
		g.take()
		g.nothingHeld()
		g.mem.ccws(codeAt, f1, c(0x12, 0, 80, dataAt))
		var wg sync.WaitGroup
		var resumed atomic.Int32
		for range 3 {
			wg.Go(func() {
				if code, err := g.d.Resume(); err == nil && code == 0 {
					resumed.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, resumed.Load())
		for ends.Load() == 1 {
			time.Sleep(time.Microsecond)
		}
		require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.take()))
		require.NoError(t, g.d.Close())
		require.Empty(t, g.d.Domain().Faults())
	}
}

// C4 #8 stale: an unmap that tells a program which has just ended does not end
// the next one.
func TestC4_08LateCancelHitsNobody(t *testing.T) {
	g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, dataAt)) })
	done := make(chan struct{})
	go func() { // pages that no program below names
		defer close(done)
		for range 200 {
			n, err := g.st.Unmap(context.Background(), farAt, 16<<10)
			require.NoError(t, err)
			require.EqualValues(t, 16<<10, n)
			require.NoError(t, g.st.Map(farAt, 16<<10, translate.Bytes(g.mem.At(farAt)), addr.ReadWrite))
		}
	}()
	for range 2000 {
		require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.run(f1)))
	}
	<-done
}

// C4 #10 locking context: Interrupt may call every method but Close.
func TestC4_10InterruptCallsEveryMethod(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		var g *rig
		depth, starts := 0, 0
		g = newRig(t, func(s *setup) {
			s.ccw.Interrupt = func() {
				if depth++; depth > 40 {
					return
				}
				var schib cio.SCHIB
				g.d.Store(&schib)
				g.d.Last()
				g.d.Counts()
				_ = g.d.Err()
				g.d.Usage()
				g.d.Cancel()
				_, _ = g.d.Resume()
				switch depth % 4 {
				case 0:
					g.d.Halt()
				case 1:
					g.d.Clear()
				}
				var irb cio.IRB
				for g.d.Test(&irb) == 0 {
				}
				g.d.Modify(&schib)
				g.d.Attention(cio.Attention)
				for g.d.Test(&irb) == 0 {
				}
				o := orbOf(f)
				if code, err := g.d.Start(&o); err == nil && code == 0 {
					starts++
				}
			}
			s.mem.ccws(codeAt, f, c(0x12, pci|cc, 80, dataAt), c(0x12, susp|cc, 80, dataAt), c(0x03, 0, 1, 0))
		})
		o := orbOf(f)
		_, err := g.d.Start(&o)
		require.NoError(t, err)
		require.NotZero(t, starts)
		var irb cio.IRB
		for g.d.Test(&irb) == 0 {
		}
		g.nothingHeld()
	}
}

// C4 #9 and #10: everything at once. Oracles: the race detector; no access
// outside the leases (rig); nothing held at the end; the device still works.
func TestC4_09EverythingAtOnce(t *testing.T) {
	d := time.Second
	if testing.Short() {
		d = 200 * time.Millisecond
	}
	for _, inline := range []bool{false, true} {
		for _, f := range []cio.ORBFlags{f1, f1p, f1 | cio.ORBSuspend} {
			everything(t, d/4, f, inline)
		}
	}
}

func everything(t *testing.T, d time.Duration, f cio.ORBFlags, inline bool) {
	var runs sync.WaitGroup
	g := newRig(t, func(s *setup) {
		if !inline {
			s.ccw.Dispatch = func(run func()) { runs.Go(run) }
		}
		s.ccw.Limits = job.Limits{Steps: 2000}
		s.mem.ccws(codeAt, f,
			c(0x12, cc|pci|sli, 80, dataAt),
			c(0x11, cc|sli, 80, dataAt+0x1000),
			c(0x22, cc|sli|susp, 4100, dataAt+0x2100),
			c(0x12, cd, 40, highAt),
			c(0x12, cc|sli, 40, highAt+0x1000),
			c(0x03, 0, 1, 0))
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(pause time.Duration, f func(r *rand.Rand)) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(pause)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				f(r)
				time.Sleep(time.Duration(r.Int64N(int64(pause))))
			}
		})
	}
	for range 2 {
		loop(time.Microsecond, func(*rand.Rand) {
			o := orbOf(f)
			_, err := g.d.Start(&o)
			if err != nil && !errors.Is(err, errs.ErrAgain) {
				require.ErrorIs(t, err, errs.ErrBusy, "memory is being unmapped")
			}
		})
	}
	loop(2*time.Microsecond, func(*rand.Rand) { _, _ = g.d.Resume() })
	loop(2*time.Microsecond, func(*rand.Rand) { _, _ = g.d.Resume() })
	loop(time.Microsecond, func(*rand.Rand) {
		var irb cio.IRB
		if g.d.Test(&irb) == 0 {
			requireGuest(t, irb.SCSW.CCWAddr())
		}
	})
	loop(50*time.Microsecond, func(r *rand.Rand) {
		switch r.IntN(4) {
		case 0:
			g.d.Halt()
		case 1:
			g.d.Clear()
		case 2:
			g.d.Cancel()
		case 3:
			g.d.Attention(cio.Attention)
		}
	})
	loop(100*time.Microsecond, func(r *rand.Rand) {
		_, err := g.st.Unmap(context.Background(), highAt, 32<<10)
		require.NoError(t, err)
		require.NoError(t, g.st.Map(highAt, 32<<10, translate.Bytes(g.mem.At(highAt)), addr.ReadWrite))
	})
	loop(20*time.Microsecond, func(*rand.Rand) {
		var s cio.SCHIB
		g.d.Store(&s)
		requireGuest(t, s.SCSW.CCWAddr())
		g.d.Last()
		_ = g.d.Err()
	})
	time.Sleep(d)
	close(stop)
	wg.Wait()
	require.Equal(t, cio.CC0, g.d.Clear())
	runs.Wait()
	var irb cio.IRB
	for g.d.Test(&irb) == 0 {
	}
	g.nothingHeld()
	g.mem.ccws(codeAt, f, c(0x12, 0, 80, dataAt))
	o := orbOf(f)
	code, err := g.d.Start(&o)
	require.NoError(t, err)
	require.Equal(t, cio.CC0, code)
	runs.Wait()
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.take()))
}

// requireGuest says that a CCW address shown is zero, or behind a CCW of the
// programs that these tests have at codeAt.
func requireGuest(t testing.TB, a uint32) {
	t.Helper()
	require.True(t, a == 0 || a >= codeAt && a <= codeAt+300*8, "%#x is no address of the guest's program", a)
}
