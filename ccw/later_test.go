package ccw_test

import (
	"encoding/binary"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// later makes b take programs when q says so.
func (b *bench) later(q *queue) { b.r.Defer(func() bool { return true }, q.add) }

// A deferred program is pending from the write on, fetched afterwards, and ends
// as any other.
func TestDeferred(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			var q queue
			b := newBench(t, order, readProgram)
			b.later(&q)
			require.NoError(t, b.r.Open())
			for range 2 {
				before := b.irq(ccw.IRQIO)
				require.NoError(t, b.io(orbOf(f1)))
				require.Zero(t, b.ret(t, ccw.RegionIO))
				require.Equal(t, ccw.StatePending, b.r.State())
				require.Equal(t, syscall.EBUSY, errs.Errno(b.io(orbOf(f1))))
				require.Zero(t, b.d.Counts().CCWs-uint64(before), "nothing was fetched")
				require.Equal(t, 1, q.run())
				require.Equal(t, before+1, b.irq(ccw.IRQIO))
				require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
				require.Equal(t, ccw.StateIdle, b.r.State())
				b.nothingHeld()
			}
		})
	}
}

// What START SUBCHANNEL would have refused ends in the status that stands for
// it.
func TestDeferredIsRefused(t *testing.T) {
	const refused = cio.StartFunction | cio.AlertStatus | cio.StatusPending
	const over = cio.PrimaryStatus | cio.SecondaryStatus
	for _, tt := range []struct {
		name    string
		change  func(s *setup)
		orb     func(o *cio.ORB)
		errno   syscall.Errno
		control cio.Control
		cc      cio.CC
		check   cio.SubchannelStatus
	}{
		{"a chain too long", func(s *setup) { s.ccw.MaxChain = 1 }, nil, syscall.EINVAL, refused | over, 0, cio.ProgramCheck},
		{"a budget", func(s *setup) { s.ccw.Limits = job.Limits{Elements: 1} }, nil, syscall.E2BIG, refused | over, 0, cio.ProgramCheck},
		{"transport mode", nil, func(o *cio.ORB) { o.SetTransport(true) }, syscall.EOPNOTSUPP, refused | over, 0, cio.ProgramCheck},
		{"memory that may not be locked", func(s *setup) { s.pin = pinning.Config{Limit: 1} }, nil, syscall.ENOMEM, refused | over, 0, cio.ControlCheck},
		{"no path", nil, func(o *cio.ORB) { o.SetLPM(0x40) }, syscall.EACCES, refused, cio.CC3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q queue
			b := newBench(t, binary.BigEndian, func(s *setup) {
				s.mem.ccws(codeAt, f1, c(0x12, cc|sli, 80, dataAt), c(0x12, sli, 80, dataAt))
				if tt.change != nil {
					tt.change(s)
				}
			})
			b.later(&q)
			require.NoError(t, b.r.Open())
			o := orbOf(f1)
			o.SetKey(0xF)
			if tt.orb != nil {
				tt.orb(&o)
			}
			require.NoError(t, b.io(o))
			require.Zero(t, b.irq(ccw.IRQIO))
			q.run()
			require.Equal(t, 1, b.irq(ccw.IRQIO))
			require.Equal(t, -int32(tt.errno), b.ret(t, ccw.RegionIO))
			s := b.irb(t).SCSW
			require.Equal(t, tt.control, s.Control(), "%v", s)
			require.Equal(t, tt.cc, s.DeferredCC())
			require.Equal(t, tt.check, s.Subchannel())
			require.EqualValues(t, 0xF, s.Key())
			require.Equal(t, cio.SCSWFormat1|cio.SCSWPrefetch, s.Flags()&(cio.SCSWFormat1|cio.SCSWPrefetch))
			require.Equal(t, ccw.StateIdle, b.r.State())
			b.nothingHeld()
		})
	}
}

// What comes before the program is taken keeps it from being taken, whether it
// waits in the queue or its memory is being looked at.
func TestDeferredIsWithdrawn(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(b *bench) error
		end  ccw.State
		irqs int
	}{
		{"halt", func(b *bench) error { return b.async(ccw.AsyncHalt) }, ccw.StateIdle, 1},
		{"clear", func(b *bench) error { return b.async(ccw.AsyncClear) }, ccw.StateIdle, 1},
		{"reset", func(b *bench) error { return b.r.Reset() }, ccw.StateIdle, 0},
		{"close", func(b *bench) error { b.r.Close(); return nil }, ccw.StateStandby, 0},
		{"gone", func(b *bench) error { b.r.Gone(); return nil }, ccw.StateNotOperational, 0},
	} {
		t.Run(tt.name+" in the queue", func(t *testing.T) {
			var q queue
			b := newBench(t, binary.BigEndian, readProgram)
			b.later(&q)
			require.NoError(t, b.r.Open())
			require.NoError(t, b.io(orbOf(f1)))
			require.NoError(t, tt.do(b))
			require.Equal(t, tt.end, b.r.State())
			q.run()
			require.Equal(t, tt.end, b.r.State())
			require.Equal(t, tt.irqs, b.irq(ccw.IRQIO))
			require.NotContains(t, b.dev.Log(), "begin")
			b.nothingHeld()
		})
		t.Run(tt.name+" while memory does not answer", func(t *testing.T) {
			m := newStall(make([]byte, 64<<10))
			w := c(0x02, 0, 4096, dataAt).Encode1()
			copy(m.b[codeAt:], w[:])
			var q queue
			b := newBench(t, binary.BigEndian, func(s *setup) {
				s.mapping = func(st *translate.Store) {
					require.NoError(t, st.Map(0, addr.Len(len(m.b)), translate.Remote(m), addr.ReadWrite))
				}
			})
			b.later(&q)
			require.NoError(t, b.r.Open())
			require.NoError(t, b.io(orbOf(f1)))
			var wg sync.WaitGroup
			wg.Go(func() { q.run() })
			<-m.entered
			// All this while the other side waits for an answer to it before
			// it gives one itself.
			var schib [52]byte
			require.NoError(t, b.r.Read(ccw.RegionSCHIB, 0, schib[:]))
			require.NoError(t, tt.do(b))
			require.Equal(t, tt.end, b.r.State())
			require.Equal(t, tt.irqs, b.irq(ccw.IRQIO))
			close(m.leave)
			wg.Wait()
			require.Equal(t, tt.end, b.r.State())
			require.Equal(t, tt.irqs, b.irq(ccw.IRQIO), "and nothing after it")
			require.NotContains(t, b.dev.Log(), "begin")
			b.nothingHeld()
			if tt.end == ccw.StateIdle { // and the next one goes
				require.NoError(t, b.io(orbOf(f1)))
				q.run()
				require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
			}
		})
	}
}

// Programs that are withdrawn at any moment: each write gets one answer, and a
// program is executed or withdrawn, never both.
func TestDeferredRace(t *testing.T) {
	b := newBench(t, binary.BigEndian, readProgram)
	work := make(chan func(), 16)
	b.r.Defer(func() bool { return true }, func(w func()) { work <- w })
	var wg sync.WaitGroup
	wg.Go(func() {
		for w := range work {
			w()
		}
	})
	require.NoError(t, b.r.Open())
	idle := func() bool { return b.r.State() == ccw.StateIdle }
	cleared := 0
	for i := range 2000 {
		before := b.irq(ccw.IRQIO)
		require.NoError(t, b.io(orbOf(f1)))
		if i%3 == 0 {
			time.Sleep(time.Duration(i%7) * time.Microsecond)
		}
		require.NoError(t, b.async(ccw.AsyncClear))
		require.Eventually(t, idle, 5*time.Second, time.Microsecond)
		switch n := b.irq(ccw.IRQIO) - before; n {
		case 1: // withdrawn, or cleared while it ran
			irb := b.irb(t)
			require.Equal(t, cio.ClearFunction, irb.SCSW.FC())
			cleared++
		case 2: // it ended, and then there was nothing to clear
		default:
			t.Fatalf("%d interrupts", n)
		}
	}
	close(work)
	wg.Wait()
	t.Logf("%d of 2000 cleared", cleared)
	b.nothingHeld()
}
