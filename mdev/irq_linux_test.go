package mdev_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// vector is what Stats says of a vector.
func (r *rig) vector(index, v int) mdev.VectorStats {
	for _, i := range r.s.Stats().IRQs {
		if i.Index == index {
			return i.Vectors[v]
		}
	}
	r.Fatalf("no irq %d", index)
	panic("not reached")
}

func TestTriggerMessages(t *testing.T) {
	r := newRig(t)
	es := r.arm(mdev.IRQMSIX, 0, 3)
	r.q.Trigger(mdev.IRQMSIX, 1)
	r.q.Trigger(mdev.IRQMSIX, 1)
	r.q.Trigger(mdev.IRQMSIX, 2)
	require.Zero(t, es[0].Take())
	require.Equal(t, uint64(2), es[1].Take(), "messages are not coalesced")
	require.Equal(t, uint64(1), es[2].Take())
	require.Equal(t, uint64(2), r.q.Counts()[mdev.IRQMSIX][1])
	require.Equal(t, mdev.VectorStats{Raised: 2, Signalled: 2, Armed: true}, r.vector(mdev.IRQMSIX, 1))
}

// A guest may choose index and vector.
func TestTriggerOfWhatThereIsNot(t *testing.T) {
	r := newRig(t)
	r.armMSIX()
	for _, x := range [][2]int{{-1, 0}, {5, 0}, {math.MaxInt, 0}, {mdev.IRQMSIX, 32}, {mdev.IRQMSIX, -1}, {mdev.IRQMSIX, math.MaxInt}} {
		r.q.Trigger(x[0], x[1])
		r.q.Level(x[0], x[1], true)
		require.False(t, r.q.Pending(x[0], x[1]))
		require.ErrorIs(t, r.q.Func(x[0], x[1], func() {}), errs.ErrInvalid)
	}
	require.False(t, r.q.Enabled(-1))
	require.False(t, r.q.Enabled(5))
	require.Equal(t, uint64(12), r.s.Stats().StrayIRQs)
}

func TestTriggerWhileDisabledIsLost(t *testing.T) {
	r := newRig(t)
	r.q.Trigger(mdev.IRQMSIX, 0)
	require.Equal(t, mdev.VectorStats{Raised: 1, Lost: 1}, r.vector(mdev.IRQMSIX, 0))
	require.Zero(t, r.arm(mdev.IRQMSIX, 0, 1)[0].Take())
}

// As in a pending-bit array: QEMU enables MSI-X with vector 0 disarmed, and
// arms vectors as the guest unmasks them.
func TestTriggerWhileDisarmedIsPending(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 1))
	r.q.Trigger(mdev.IRQMSIX, 0)
	r.q.Trigger(mdev.IRQMSIX, 0)
	r.q.Trigger(mdev.IRQMSIX, 7)
	require.True(t, r.q.Pending(mdev.IRQMSIX, 0))
	e := r.arm(mdev.IRQMSIX, 0, 1)[0]
	require.Equal(t, uint64(1), e.Take(), "once, however often")
	require.False(t, r.q.Pending(mdev.IRQMSIX, 0))
	require.Equal(t, uint64(1), r.arm(mdev.IRQMSIX, 7, 1)[0].Take(), "a vector beyond those that were armed first")

	require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 1, -1))
	r.q.Trigger(mdev.IRQMSIX, 0)
	require.Zero(t, e.Take(), "disarmed")
	require.NoError(t, r.set(none|trigger, mdev.IRQMSIX, 0, 0))
	require.False(t, r.q.Pending(mdev.IRQMSIX, 0), "disabling forgets")
	require.Zero(t, r.arm(mdev.IRQMSIX, 0, 1)[0].Take())
}

func TestReplacedEventFDIsNotSignalled(t *testing.T) {
	r := newRig(t)
	old := r.arm(mdev.IRQMSIX, 0, 1)[0]
	e := r.arm(mdev.IRQMSIX, 0, 1)[0]
	r.q.Trigger(mdev.IRQMSIX, 0)
	require.Zero(t, old.Take())
	require.Equal(t, uint64(1), e.Take())
	require.Equal(t, 1, r.s.Stats().FDs)
}

// INTx: delivered, masked by that; what is raised meanwhile comes once when it
// is unmasked.
func TestINTxAutoMask(t *testing.T) {
	r := newRig(t)
	e := r.arm(mdev.IRQINTx, 0, 1)[0]
	r.q.Trigger(mdev.IRQINTx, 0)
	require.Equal(t, uint64(1), e.Take())
	require.True(t, r.vector(mdev.IRQINTx, 0).Masked)
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
	require.Zero(t, e.Take(), "nothing was pending")
	for range 3 {
		r.q.Trigger(mdev.IRQINTx, 0)
	}
	require.Equal(t, uint64(1), e.Take())
	require.True(t, r.q.Pending(mdev.IRQINTx, 0))
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
	require.Equal(t, uint64(1), e.Take(), "pending")
	require.True(t, r.vector(mdev.IRQINTx, 0).Masked, "masked by the delivery again")
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
	require.Zero(t, e.Take())
}

// A mask from the VMM, and the loopback that does not care for it
// (vfio_pci_set_intx_trigger).
func TestINTxMaskAndLoopback(t *testing.T) {
	r := newRig(t)
	e := r.arm(mdev.IRQINTx, 0, 1)[0]
	require.NoError(t, r.s.SetIRQs(mdev.IRQRequest{Flags: boolean | mask, Index: mdev.IRQINTx, Count: 1, Bools: []byte{0}}))
	require.False(t, r.vector(mdev.IRQINTx, 0).Masked, "bool 0")
	require.NoError(t, r.set(none|mask, mdev.IRQINTx, 0, 1))
	r.q.Trigger(mdev.IRQINTx, 0)
	require.Zero(t, e.Take())
	require.NoError(t, r.set(none|trigger, mdev.IRQINTx, 0, 1))
	require.Equal(t, uint64(1), e.Take(), "loopback")
	require.True(t, r.q.Pending(mdev.IRQINTx, 0))
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
	require.Equal(t, uint64(1), e.Take())
}

// The KVM resample path: the unmask eventfd is signalled at the end of the
// interrupt. One that was signalled before counts (virqfd).
func TestINTxUnmaskEventFD(t *testing.T) {
	r := newRig(t)
	e := r.arm(mdev.IRQINTx, 0, 1)[0]
	un := r.vmm.EventFD()
	require.NoError(t, r.set(eventfd|unmask, mdev.IRQINTx, 0, 1, un.Dup()))
	for range 3 {
		r.q.Trigger(mdev.IRQINTx, 0)
		require.Equal(t, uint64(1), e.Wait())
		r.q.Trigger(mdev.IRQINTx, 0)
		require.Zero(t, e.Take(), "masked")
		un.Signal()
		require.Equal(t, uint64(1), e.Wait(), "the pending one")
		un.Signal()
		r.unmasked()
	}
	again := r.vmm.EventFD()
	r.q.Trigger(mdev.IRQINTx, 0)
	require.Equal(t, uint64(1), e.Wait())
	again.Signal()
	require.NoError(t, r.set(eventfd|unmask, mdev.IRQINTx, 0, 1, again.Dup()))
	r.unmasked()
	un.Signal()
	time.Sleep(2 * time.Millisecond)
	require.Equal(t, uint64(1), un.Take(), "the former one is not watched any more")
	require.NoError(t, r.set(eventfd|unmask, mdev.IRQINTx, 0, 1, -1))
	again.Signal()
	time.Sleep(2 * time.Millisecond)
	require.Equal(t, uint64(1), again.Take(), "none is")
}

func (r *rig) unmasked() {
	r.Helper()
	require.Eventually(r, func() bool { return !r.vector(mdev.IRQINTx, 0).Masked }, 10*time.Second, time.Millisecond)
}

func TestINTxMaskEventFD(t *testing.T) {
	r := newRig(t)
	e := r.arm(mdev.IRQINTx, 0, 1)[0]
	m := r.vmm.EventFD()
	require.NoError(t, r.set(eventfd|mask, mdev.IRQINTx, 0, 1, m.Dup()))
	m.Signal()
	require.Eventually(t, func() bool { return r.vector(mdev.IRQINTx, 0).Masked }, 10*time.Second, time.Millisecond)
	r.q.Trigger(mdev.IRQINTx, 0)
	require.Zero(t, e.Take())
	require.NoError(t, r.set(none|trigger, mdev.IRQINTx, 0, 0))
	require.Equal(t, 1, r.s.Stats().FDs, "of the watcher alone: disabling closes the mask eventfd, too")
	require.False(t, r.vector(mdev.IRQINTx, 0).Masked)
}

// Level: while it is up, unmasking delivers it again; let down, nothing is
// left of it.
func TestINTxLevel(t *testing.T) {
	r := newRig(t)
	r.q.Level(mdev.IRQINTx, 0, true)
	e := r.arm(mdev.IRQINTx, 0, 1)[0]
	require.Equal(t, uint64(1), e.Take(), "it was up when the index was enabled")
	for range 3 {
		require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
		require.Equal(t, uint64(1), e.Take())
	}
	r.q.Level(mdev.IRQINTx, 0, true)
	require.Equal(t, uint64(1), r.q.Counts()[mdev.IRQINTx][0], "it was up")
	r.q.Level(mdev.IRQINTx, 0, false)
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
	require.Zero(t, e.Take())
	r.q.Level(mdev.IRQINTx, 0, true)
	require.Equal(t, uint64(1), e.Take())

	require.NoError(t, r.set(none|trigger, mdev.IRQINTx, 0, 0))
	require.Equal(t, uint64(1), r.arm(mdev.IRQINTx, 0, 1)[0].Take(), "still up for who enables it next")
	require.NoError(t, r.set(none|trigger, mdev.IRQINTx, 0, 0))
	m := r.arm(mdev.IRQMSIX, 0, 1)[0]
	r.q.Level(mdev.IRQMSIX, 0, true)
	r.q.Level(mdev.IRQMSIX, 0, false)
	require.Equal(t, uint64(1), m.Take(), "a message has no level")
}

func TestFunc(t *testing.T) {
	r := newRig(t)
	var n, m atomic.Int32
	require.NoError(t, r.q.Func(mdev.IRQMSIX, 3, func() { n.Add(1) }))
	require.True(t, r.q.Enabled(mdev.IRQMSIX))
	r.q.Trigger(mdev.IRQMSIX, 3)
	require.Equal(t, int32(1), n.Load())
	e := r.arm(mdev.IRQMSIX, 3, 1)[0]
	r.q.Trigger(mdev.IRQMSIX, 3)
	require.Equal(t, uint64(1), e.Take(), "an eventfd in its place")
	require.NoError(t, r.q.Func(mdev.IRQMSIX, 3, func() { m.Add(1) }))
	require.Zero(t, r.s.Stats().FDs)
	r.q.Trigger(mdev.IRQMSIX, 3)
	require.Equal(t, []int32{1, 1}, []int32{n.Load(), m.Load()})
	require.NoError(t, r.q.Func(mdev.IRQMSIX, 3, nil))
	require.False(t, r.q.Enabled(mdev.IRQMSIX))
	r.q.Trigger(mdev.IRQMSIX, 3)
	require.Equal(t, int32(1), m.Load())
	require.NoError(t, r.q.Func(mdev.IRQINTx, 0, func() { n.Add(1) }))
	r.q.Trigger(mdev.IRQINTx, 0)
	r.q.Trigger(mdev.IRQINTx, 0)
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1), "a function's index is enabled, too")
	require.Equal(t, int32(3), n.Load())
}

// A client that fills its counter loses nothing it has not got already, and
// stops nobody: not the device, not the one who replaces the eventfd, not
// Close.
func TestFullCounterBlocksNobody(t *testing.T) {
	for name, fd := range map[string]func(*mdevtest.VMM) *mdevtest.EventFD{
		"nonblocking": (*mdevtest.VMM).EventFD,
		"blocking":    (*mdevtest.VMM).BlockingEventFD,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			e := fd(r.vmm)
			require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 1, e.Dup()))
			e.Add(^uint64(0) - 1)
			for range 3 {
				r.q.Trigger(mdev.IRQMSIX, 0)
			}
			require.Equal(t, mdev.VectorStats{Raised: 3, Lost: 3, Armed: true}, r.vector(mdev.IRQMSIX, 0))
			require.Equal(t, ^uint64(0)-1, e.Take())
			r.q.Trigger(mdev.IRQMSIX, 0)
			require.Equal(t, uint64(1), e.Take())
			flags, err := unix.FcntlInt(uintptr(e.FD()), unix.F_GETFL, 0)
			require.NoError(t, err)
			require.Equal(t, name == "nonblocking", flags&unix.O_NONBLOCK != 0, "the client's flags are its own")
		})
	}
}

// A client may make its eventfd blocking after it has given it away, and fill
// it: a device is caught in the write then. Replacing the eventfd, quiescing
// and closing let it out, and so does time: the client may be gone.
func TestBlockedWriterIsLetOut(t *testing.T) {
	for name, rescue := range map[string]func(*rig){
		"replace": func(r *rig) { r.arm(mdev.IRQMSIX, 0, 1) },
		"disable": func(r *rig) { require.NoError(r, r.set(none|trigger, mdev.IRQMSIX, 0, 0)) },
		"quiesce": func(r *rig) { require.NoError(r, r.s.Quiesce(r.Context())) },
		"close":   func(r *rig) { require.NoError(r, r.s.Close(r.Context())) },
		"nobody":  func(*rig) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			e := r.arm(mdev.IRQMSIX, 0, 1)[0]
			require.NoError(t, unix.SetNonblock(e.FD(), false))
			e.Add(^uint64(0) - 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				r.q.Trigger(mdev.IRQMSIX, 0)
			}()
			select {
			case <-done:
				t.Fatal("not caught, nothing tested")
			case <-time.After(5 * time.Millisecond):
			}
			start := time.Now()
			rescue(r)
			<-done
			require.Less(t, time.Since(start), 5*time.Second)
			require.LessOrEqual(t, r.s.Stats().FDs, 1)
			if name == "nobody" {
				require.Equal(t, uint64(1), e.Take(), "the client is told all the same")
			}
		})
	}
}

// Quiesced: nothing is delivered, whoever raised or unmasked it, and nothing is
// lost.
func TestQuiescedInterruptsWait(t *testing.T) {
	r := newRig(t)
	es := r.arm(mdev.IRQMSIX, 0, 2)
	require.NoError(t, r.s.Quiesce(t.Context()))
	r.q.Trigger(mdev.IRQMSIX, 0)
	r.q.Trigger(mdev.IRQMSIX, 0)
	require.Zero(t, es[0].Take())
	late := r.arm(mdev.IRQMSIX, 0, 1)[0]
	require.Zero(t, late.Take(), "arming does not deliver either")
	require.NoError(t, r.set(none|trigger, mdev.IRQMSIX, 1, 1))
	require.Equal(t, uint64(1), es[1].Take(), "the VMM's own test does")
	r.s.Unquiesce()
	require.Equal(t, uint64(1), late.Take())
	require.Zero(t, es[0].Take())
}

// Reset: what the device raised is forgotten; where it leads, and what is
// masked, stays.
func TestResetForgetsPendingInterrupts(t *testing.T) {
	r := newRig(t)
	e := r.arm(mdev.IRQINTx, 0, 1)[0]
	r.q.Trigger(mdev.IRQINTx, 0)
	r.q.Trigger(mdev.IRQINTx, 0)
	r.q.Level(mdev.IRQINTx, 0, true)
	require.Equal(t, uint64(1), e.Take())
	require.NoError(t, r.s.Reset(t.Context()))
	require.True(t, r.vector(mdev.IRQINTx, 0).Masked)
	require.False(t, r.q.Pending(mdev.IRQINTx, 0))
	require.NoError(t, r.set(none|unmask, mdev.IRQINTx, 0, 1))
	require.Zero(t, e.Take())
	r.q.Trigger(mdev.IRQINTx, 0)
	require.Equal(t, uint64(1), e.Take())
}

// Devices raise interrupts while the VMM arms, disarms and disables: the last
// one raised is never lost while the index is enabled, and no descriptor that
// was closed is written to (the race detector and Leaks look on).
func TestTriggerAgainstSet(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 4))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					r.q.Trigger(mdev.IRQMSIX, i%4)
				}
			}
		})
	}
	es := make([]*mdevtest.EventFD, 8)
	for i := range es {
		es[i] = r.vmm.EventFD()
	}
	var got uint64
	rounds := 1000
	if testing.Short() {
		rounds = 300
	}
	sum := func() (n uint64) {
		for _, c := range r.q.Counts()[mdev.IRQMSIX] {
			n += c
		}
		return n
	}
	for i := 0; i < rounds || sum() < 1000; i++ {
		switch i % 4 {
		case 3:
			require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, uint32(i/4%4), 1, -1))
		default:
			require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, uint32(i%3), 2, es[i%8].Dup(), es[(i+1)%8].Dup()))
		}
	}
	close(stop)
	wg.Wait()
	for v := range 4 {
		e := r.vmm.EventFD()
		require.NoError(t, r.set(eventfd|trigger, mdev.IRQMSIX, uint32(v), 1, e.Dup()))
		es = append(es, e)
	}
	for _, e := range es {
		got += e.Take()
	}
	st := r.s.Stats()
	var raised, signalled uint64
	for _, v := range st.IRQs[mdev.IRQMSIX].Vectors {
		raised += v.Raised
		signalled += v.Signalled
		require.Zero(t, v.Lost)
		require.False(t, v.Pending, "armed, so delivered")
	}
	require.Equal(t, signalled, got)
	require.LessOrEqual(t, got, raised)
	require.NotZero(t, got)
}
