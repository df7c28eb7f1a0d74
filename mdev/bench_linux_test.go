package mdev_test

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// silent is a device that does nothing in an access, so that what is measured
// is the session.
type silent struct{ *mdevtest.Device }

func (silent) Read(context.Context, int, uint64, []byte) error  { return nil }
func (silent) Write(context.Context, int, uint64, []byte) error { return nil }

// The paths of a running guest allocate nothing.
func TestHotPathsAllocateNothing(t *testing.T) {
	v := mdevtest.NewVMM(t, 0)
	s := mdevtest.Open(t, silent{mdevtest.NewDevice(nil)}, nil)
	e, blocking := v.EventFD(), v.BlockingEventFD()
	require.NoError(t, s.SetIRQs(mdev.IRQRequest{Flags: eventfd | trigger, Index: mdev.IRQMSIX, Count: 3, FDs: []int{e.Dup(), blocking.Dup(), -1}}))
	n := 0
	require.NoError(t, s.IRQs().Func(mdev.IRQERR, 0, func() { n++ }))
	ctx, p := t.Context(), make([]byte, 4)
	for name, f := range map[string]func(){
		"read":                func() { _ = s.Read(ctx, mdev.BAR0, 8, p) },
		"write":               func() { _ = s.Write(ctx, mdev.BAR0, 8, p) },
		"trigger eventfd":     func() { s.IRQs().Trigger(mdev.IRQMSIX, 0) },
		"trigger blocking":    func() { s.IRQs().Trigger(mdev.IRQMSIX, 1) },
		"trigger pending":     func() { s.IRQs().Trigger(mdev.IRQMSIX, 2) },
		"trigger func":        func() { s.IRQs().Trigger(mdev.IRQERR, 0) },
		"trigger disabled":    func() { s.IRQs().Trigger(mdev.IRQREQ, 0) },
		"trigger of no irq":   func() { s.IRQs().Trigger(99, 0) },
		"level":               func() { s.IRQs().Level(mdev.IRQINTx, 0, true); s.IRQs().Level(mdev.IRQINTx, 0, false) },
		"unmask, mask, query": func() { s.IRQs().Pending(mdev.IRQINTx, 0); s.IRQs().Enabled(mdev.IRQINTx) },
	} {
		require.Zero(t, testing.AllocsPerRun(100, f), name)
	}
	require.NotZero(t, n)
}

func BenchmarkSession(b *testing.B) {
	s := mdevtest.Open(b, silent{mdevtest.NewDevice(nil)}, nil)
	dev := silent{mdevtest.NewDevice(nil)}
	ctx, p := b.Context(), make([]byte, 4)
	b.Run("device alone", func(b *testing.B) {
		var d mdev.Device = dev
		for b.Loop() {
			_ = d.Read(ctx, mdev.BAR0, 8, p)
		}
	})
	b.Run("read 4", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = s.Read(ctx, mdev.BAR0, 8, p)
		}
	})
	b.Run("write 4", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = s.Write(ctx, mdev.BAR0, 8, p)
		}
	})
	b.Run("read 4 parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			p := make([]byte, 4)
			for pb.Next() {
				_ = s.Read(ctx, mdev.BAR0, 8, p)
			}
		})
	})
}

func BenchmarkTrigger(b *testing.B) {
	v := mdevtest.NewVMM(b, 0)
	s := mdevtest.Open(b, silent{mdevtest.NewDevice(nil)}, nil)
	require.NoError(b, s.SetIRQs(mdev.IRQRequest{Flags: eventfd | trigger, Index: mdev.IRQMSIX, Count: 3,
		FDs: []int{v.EventFD().Dup(), v.BlockingEventFD().Dup(), -1}}))
	require.NoError(b, s.IRQs().Func(mdev.IRQERR, 0, func() {}))
	b.Run("write(2) alone", func(b *testing.B) {
		e, one := v.EventFD(), binary.NativeEndian.AppendUint64(nil, 1)
		for b.Loop() {
			_, _ = unix.Write(e.FD(), one)
		}
	})
	for _, x := range []struct {
		name          string
		index, vector int
	}{
		{"eventfd", mdev.IRQMSIX, 0}, {"blocking eventfd", mdev.IRQMSIX, 1}, {"pending", mdev.IRQMSIX, 2}, {"func", mdev.IRQERR, 0},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.IRQs().Trigger(x.index, x.vector)
			}
		})
	}
}
