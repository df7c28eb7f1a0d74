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
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// The states and events of vfio_ccw_fsm.c. Where a cell differs from its jump
// table, kernel says what is there and why says why it is not here.
type transition struct {
	event  string
	errno  syscall.Errno
	next   ccw.State
	kernel string
	why    string
}

const (
	notOper    = ccw.StateNotOperational
	standby    = ccw.StateStandby
	idle       = ccw.StateIdle
	processing = ccw.StateProcessing
	pending    = ccw.StatePending
)

const (
	misuse = "a user who opens or closes twice harms nobody; the kernel never calls so"
	noOpen = "says which device it is that is not there"
)

var fsm = map[ccw.State][]transition{
	notOper: {
		{event: "IO_REQ", errno: syscall.EIO, next: notOper},
		{event: "ASYNC_REQ", errno: syscall.EIO, next: notOper},
		{event: "INTERRUPT", next: notOper},
		{event: "OPEN", errno: syscall.ENODEV, next: notOper, kernel: "nothing; the open call returns EINVAL", why: noOpen},
		{event: "CLOSE", next: notOper},
		{event: "NOT_OPER", next: notOper},
		{event: "RESET", errno: syscall.ENODEV, next: notOper, kernel: "EINVAL", why: noOpen},
	},
	standby: {
		{event: "IO_REQ", errno: syscall.EIO, next: standby},
		{event: "ASYNC_REQ", errno: syscall.EIO, next: standby},
		{event: "INTERRUPT", next: standby},
		{event: "OPEN", next: idle},
		{event: "CLOSE", next: standby, kernel: "NOT_OPER", why: misuse},
		{event: "NOT_OPER", next: notOper},
		{event: "RESET", next: idle, kernel: "NOT_OPER", why: misuse},
	},
	idle: {
		{event: "IO_REQ", next: pending},
		{event: "ASYNC_REQ", next: idle},
		{event: "INTERRUPT", next: idle},
		{event: "OPEN", errno: syscall.EBUSY, next: idle, kernel: "NOT_OPER", why: misuse},
		{event: "CLOSE", next: standby},
		{event: "NOT_OPER", next: notOper},
		{event: "RESET", next: idle},
	},
	processing: {
		{event: "IO_REQ", errno: syscall.EAGAIN, next: pending},
		{event: "ASYNC_REQ", errno: syscall.EAGAIN, next: pending},
		{event: "INTERRUPT", next: pending},
		{event: "OPEN", errno: syscall.EBUSY, next: pending, kernel: "NOT_OPER", why: misuse},
		{event: "CLOSE", next: standby},
		{event: "NOT_OPER", next: notOper},
		{event: "RESET", next: idle},
	},
	pending: {
		{event: "IO_REQ", errno: syscall.EBUSY, next: pending},
		{event: "ASYNC_REQ", next: idle}, // the clear's end, once hardware got to it
		{event: "INTERRUPT", next: idle}, // of the program
		{event: "OPEN", errno: syscall.EBUSY, next: pending, kernel: "NOT_OPER", why: misuse},
		{event: "CLOSE", next: standby},
		{event: "NOT_OPER", next: notOper},
		{event: "RESET", next: idle},
	},
}

// fsmBench is a device that can be brought into each state and caught there.
type fsmBench struct {
	*bench
	q     queue
	m     *stall
	taken chan error // of the start that leads to Processing
}

func newFSMBench(t *testing.T, order binary.ByteOrder) *fsmBench {
	b := &fsmBench{m: newStall(make([]byte, 64<<10)), taken: make(chan error, 1)}
	w := c(0x02, 0, 4096, dataAt).Encode1()
	copy(b.m.b[codeAt:], w[:])
	b.bench = newBench(t, order, func(s *setup) {
		s.ccw.Dispatch = b.q.add
		s.mapping = func(st *translate.Store) {
			require.NoError(t, st.Map(0, addr.Len(len(b.m.b)), translate.Remote(b.m), addr.ReadWrite))
		}
	})
	return b
}

func (b *fsmBench) bring(t *testing.T, s ccw.State) {
	switch s {
	case notOper:
		b.r.Gone()
	case idle, processing, pending:
		require.NoError(t, b.r.Open())
	}
	if s == processing || s == pending {
		go func() { b.taken <- b.io(orbOf(f1)) }()
		<-b.m.entered
	}
	if s != processing {
		b.letGo()
	}
	if s == pending {
		require.NoError(t, <-b.taken)
	}
	require.Equal(t, s, b.r.State())
}

func (b *fsmBench) letGo() { close(b.m.leave) }

// raise makes the event happen; what waits for hardware is given hardware.
func (b *fsmBench) raise(t *testing.T, s ccw.State, event string) error {
	// Close, Reset and Gone wait for hardware, which the queue stands for.
	waiting := func(f func()) {
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Microsecond):
				b.q.run()
			}
		}
	}
	var err error
	switch event {
	case "IO_REQ":
		err = b.io(orbOf(f1))
	case "ASYNC_REQ":
		err = b.async(ccw.AsyncClear)
		b.q.run()
	case "INTERRUPT":
		switch s {
		case pending:
			b.q.run()
		case processing: // the look at the status waits for the program to be taken
			go b.d.Attention(cio.Attention)
		default:
			b.d.Attention(cio.Attention)
		}
	case "OPEN":
		err = b.r.Open()
	case "CLOSE":
		waiting(b.r.Close)
	case "NOT_OPER":
		waiting(b.r.Gone)
	case "RESET":
		waiting(func() { err = b.r.Reset() })
	}
	return err
}

// ccw.md 7, table of states and events; vfio_ccw_fsm.c, vfio_ccw_jumptable.
func TestStateTable(t *testing.T) {
	for from, row := range fsm {
		for _, x := range row {
			for name, order := range orders {
				t.Run(from.String()+" "+x.event+" "+name, func(t *testing.T) {
					b := newFSMBench(t, order)
					b.bring(t, from)
					var wg sync.WaitGroup
					if from == processing {
						// The event comes while the program is being taken;
						// what it has to wait for comes after.
						wg.Go(func() { time.Sleep(2 * time.Millisecond); b.letGo() })
					}
					err := b.raise(t, from, x.event)
					require.Equal(t, x.errno, errs.Errno(err), "%v", err)
					wg.Wait()
					if from == processing {
						err := <-b.taken
						if x.next == pending {
							require.NoError(t, err)
						} else {
							require.Error(t, err, "it never starts")
						}
					}
					require.Equal(t, x.next, b.r.State(), "kernel: %s (%s)", x.kernel, x.why)
					switch x.event {
					case "IO_REQ":
						if x.errno != 0 && x.errno != syscall.EAGAIN {
							require.Equal(t, -int32(x.errno), b.ret(t, ccw.RegionIO))
						}
					case "ASYNC_REQ":
						if x.errno != syscall.EAGAIN {
							require.Equal(t, -int32(x.errno), b.ret(t, ccw.RegionAsync))
						}
					}
					b.q.run()
					time.Sleep(time.Millisecond)
					require.NotEqual(t, pending, b.r.State(), "what is over is over")
					b.nothingHeld()
					b.worksAgain(t)
				})
			}
		}
	}
}

// worksAgain says that a device which is there takes a program.
func (b *fsmBench) worksAgain(t *testing.T) {
	switch b.r.State() {
	case notOper:
		require.Equal(t, syscall.EIO, errs.Errno(b.io(orbOf(f1))))
		return
	case standby:
		require.NoError(t, b.r.Open())
	}
	require.NoError(t, b.io(orbOf(f1)))
	b.q.run()
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
	require.Equal(t, idle, b.r.State())
}

// C4 #18 and #20: a reset while a program waits to run, or is being taken,
// leaves none of it: it does not run into the memory of who opens next.
func TestC4_18ResetWithdrawsWhatIsTaken(t *testing.T) {
	b := newFSMBench(t, binary.BigEndian)
	b.bring(t, processing)
	done := make(chan error)
	go func() { done <- b.r.Reset() }()
	time.Sleep(2 * time.Millisecond)
	b.letGo()
	require.NoError(t, <-done)
	require.Equal(t, syscall.EAGAIN, errs.Errno(<-b.taken))
	require.Zero(t, b.q.run(), "hardware was not asked for anything")
	require.Empty(t, b.dev.Log()[len("reset\n"):])
	b.nothingHeld()
	b.worksAgain(t)
}

// C4 #20: the regions of a device that is not open start nothing.
func TestC4_20RequestsWhileClosed(t *testing.T) {
	b := newBench(t, binary.BigEndian, readProgram)
	require.Equal(t, syscall.EIO, errs.Errno(b.io(orbOf(f1))))
	require.NoError(t, b.r.Open())
	require.NoError(t, b.io(orbOf(f1)))
	b.r.Close()
	require.Equal(t, syscall.EIO, errs.Errno(b.io(orbOf(f1))))
	p := make([]byte, 96)
	require.NoError(t, b.r.Read(ccw.RegionIO, 24, p))
	require.Equal(t, make([]byte, 96), p, "nothing of the last user's is left")
	b.d.Attention(cio.Attention)
	require.Equal(t, 1, b.irq(ccw.IRQIO))
}

// Users, hardware and administrators at once.
func TestRegionsAtOnce(t *testing.T) {
	var runs sync.WaitGroup
	b := newBench(t, binary.LittleEndian, readProgram, func(s *setup) {
		s.ccw.Dispatch = func(run func()) { runs.Go(run) }
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(f func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	loop(func() { _ = b.io(orbOf(f1)) })
	loop(func() { _ = b.io(orbOf(f1p)) })
	loop(func() { _ = b.async(ccw.AsyncHalt); time.Sleep(10 * time.Microsecond) })
	loop(func() { _ = b.async(ccw.AsyncClear); time.Sleep(30 * time.Microsecond) })
	loop(func() { _ = b.r.Reset(); time.Sleep(50 * time.Microsecond) })
	loop(func() { b.r.Close(); _ = b.r.Open(); time.Sleep(20 * time.Microsecond) })
	loop(func() {
		p := make([]byte, 52)
		_ = b.r.Read(ccw.RegionSCHIB, 0, p)
		requireGuest(t, binary.BigEndian.Uint32(p[32:]))
		b.d.Attention(cio.Attention)
		b.r.Report(1)
		_ = b.r.Read(ccw.RegionCRW, 0, p[:8])
		time.Sleep(20 * time.Microsecond)
	})
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	runs.Wait()
	b.r.Close()
	require.NoError(t, b.r.Open())
	b.nothingHeld()
	require.NoError(t, b.io(orbOf(f1)))
	runs.Wait()
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
}

// C4 #10 locking context [CVE-2026-80547]: opening enables the subchannel,
// which lets status out that waited for it, while the lock of the state was
// held.
func TestC4_10OpenWithStatusWaiting(t *testing.T) {
	b := newBench(t, binary.BigEndian, readProgram)
	b.d.Attention(cio.Attention)
	require.Zero(t, b.irq(ccw.IRQIO))
	done := make(chan error)
	go func() { done <- b.r.Open() }()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("Open waits for itself")
	}
	require.Equal(t, 1, b.irq(ccw.IRQIO))
	irb := b.irb(t)
	require.Equal(t, cio.AlertStatus|cio.StatusPending, irb.SCSW.Control())
	require.Equal(t, cio.Attention, irb.SCSW.Device())
	require.NoError(t, b.io(orbOf(f1)))
}
