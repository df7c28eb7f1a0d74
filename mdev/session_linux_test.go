package mdev_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// TestAccess: who may see what, by vfio-user's REGION_READ and vfio_pci_rdwr.c.
func TestAccess(t *testing.T) {
	r := newRig(t)
	for _, x := range []struct {
		name        string
		region      int
		off         uint64
		n           int
		read, write error
	}{
		{"all of it", mdev.BAR0, 0, mdevtest.BAR0Size, nil, nil},
		{"last byte", mdev.BAR0, mdevtest.BAR0Size - 1, 1, nil, nil},
		{"unaligned", mdev.Config, 3, 7, nil, nil},
		{"device-specific region", 9, 8, 8, nil, nil},
		{"one byte beyond", mdev.BAR0, mdevtest.BAR0Size - 1, 2, errs.ErrInvalid, errs.ErrInvalid},
		{"behind the end", mdev.BAR0, mdevtest.BAR0Size, 1, errs.ErrInvalid, errs.ErrInvalid},
		{"offset+count wraps", mdev.BAR0, ^uint64(0), 2, errs.ErrInvalid, errs.ErrInvalid},
		{"larger than the region", mdev.Config, 0, mdevtest.ConfigSize + 1, errs.ErrInvalid, errs.ErrInvalid},
		{"absent region", mdev.ROM, 0, 1, errs.ErrInvalid, errs.ErrInvalid},
		{"index beyond the last", 10, 0, 1, errs.ErrInvalid, errs.ErrInvalid},
		{"negative index", -1, 0, 1, errs.ErrInvalid, errs.ErrInvalid},
		{"read-only region", mdev.BAR1, 0, 4, nil, errs.ErrInvalid},
		{"nothing", mdev.BAR0, 0, 0, nil, nil},
		{"nothing at the end", mdev.BAR0, mdevtest.BAR0Size, 0, nil, nil},
		{"nothing behind the end", mdev.BAR0, mdevtest.BAR0Size + 1, 0, errs.ErrInvalid, errs.ErrInvalid},
		{"nothing of an absent region", mdev.ROM, 0, 0, nil, nil},
		{"nothing of no region", 10, 0, 0, errs.ErrInvalid, errs.ErrInvalid},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := bytes.Repeat([]byte{0xa5}, x.n)
			require.ErrorIs(t, r.s.Write(t.Context(), x.region, x.off, in), x.write)
			out := make([]byte, x.n)
			require.ErrorIs(t, r.s.Read(t.Context(), x.region, x.off, out), x.read)
			if x.read == nil && x.write == nil {
				require.Equal(t, in, out)
			}
		})
	}
	err := r.s.Read(t.Context(), mdev.BAR0, 0xffe, make([]byte, 4))
	require.EqualError(t, err, "region 0 (bar0) at 0xffe, 4 bytes: region has 0x1000 bytes: invalid argument")
	err = r.s.Write(t.Context(), mdev.BAR1, 0, make([]byte, 4))
	require.EqualError(t, err, "region 1 (bar1) at 0x0, 4 bytes: cannot be written: invalid argument")
	st := r.s.Stats()
	require.Equal(t, mdev.RegionStats{Index: mdev.BAR1, Name: "bar1", Reads: 1, Errors: 2}, st.Regions[1])
	require.Equal(t, uint64(6), st.Refused)
}

// An error of the device comes with its place, and keeps its errno.
func TestAccessErrorOfTheDevice(t *testing.T) {
	dev := mdevtest.NewDevice(nil)
	dev.OnRead = func(context.Context, int, uint64, []byte) error { return errs.ErrFault }
	s := mdevtest.Open(t, dev, nil)
	err := s.Read(t.Context(), mdev.BAR2, 8, make([]byte, 4))
	require.EqualError(t, err, "region 2 (bar2) at 0x8, 4 bytes: memory behind the mapping is gone")
	require.Equal(t, errs.Errno(errs.ErrFault), errs.Errno(err))
}

func TestOpenRefuses(t *testing.T) {
	mdevtest.Leaks(t)
	store, err := translate.New(nil)
	require.NoError(t, err)
	defer store.Close()
	for name, cfg := range map[string]*mdev.SessionConfig{
		"store without pinner": {Store: store},
		"pinner without store": {Pinner: new(pinning.Pinner)},
		"container, no space":  {Store: store, Pinner: new(pinning.Pinner)},
		"store limits":         {Translate: &translate.Config{MaxMappings: -1}},
		"a negative drain":     {Drain: -1},
	} {
		t.Run(name, func(t *testing.T) {
			dev := mdevtest.NewDevice(nil)
			_, err := mdev.Open(t.Context(), dev, cfg)
			require.ErrorIs(t, err, errs.ErrInvalid)
			require.Empty(t, dev.Calls())
		})
	}
	dev := mdevtest.NewDevice(nil)
	dev.OnOpen = func(context.Context, *mdev.Attachment) error { return errs.ErrBusy }
	_, err = mdev.Open(t.Context(), dev, &mdev.SessionConfig{Name: "d0"})
	require.EqualError(t, err, "open d0: busy")
	require.Equal(t, []string{"open"}, dev.Calls(), "what did not open is not closed")
}

// A shared container is used, and left.
func TestSharedContainer(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 1<<16)
	store, err := translate.New(nil)
	require.NoError(t, err)
	defer store.Close()
	space := iommu.NewSpace(nil)
	pinner, err := pinning.New(store, space, nil)
	require.NoError(t, err)
	defer pinner.Close()
	cfg := &mdev.SessionConfig{Store: store, Pinner: pinner, Space: space}
	one, two := mdevtest.NewDevice(nil), mdevtest.NewDevice(nil)
	a, b := mdevtest.Open(t, one, cfg), mdevtest.Open(t, two, cfg)
	require.True(t, a.Shared())
	v.Map(a, 0x10_0000)
	require.NoError(t, two.WriteDMA(0x10_0000, []byte("for both")))
	require.Equal(t, "for both", string(v.RAM()[:8]))
	require.NoError(t, a.Close(t.Context()))
	require.NoError(t, two.WriteDMA(0x10_0000, []byte("still")))
	require.ErrorIs(t, a.Map(0, 0x1000, translate.Bytes(make([]byte, 0x1000)), addr.Read), errs.ErrGone)
	require.Error(t, one.WriteDMA(0x10_0000, []byte("not")))
	require.ErrorIs(t, b.LogStart(0x1000, nil), errs.ErrNotSupported, "the log is not one device's")
	_, err = b.UnmapAll(t.Context())
	require.NoError(t, err)
}

func TestMemory(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 1<<16)
	dev := mdevtest.NewDevice(nil)
	s := mdevtest.Open(t, dev, nil)
	v.Map(s, 0x4000_0000)
	require.ErrorIs(t, s.Map(0x4000_0000, 0x1000, translate.File(v.MemFD(), 0), addr.Read), errs.ErrExists)
	require.NoError(t, dev.WriteDMA(0x4000_0ffe, []byte("across")))
	require.Equal(t, "across", string(v.RAM()[0xffe:][:6]))
	p := make([]byte, 4)
	require.NoError(t, dev.ReadDMA(0x4000_1000, p))
	require.Equal(t, "ross", string(p))

	_, _, err := dev.Hold(0x4000_2000, 0x3000, addr.ReadWrite)
	require.NoError(t, err)
	st := s.Stats()
	require.Equal(t, []any{1, addr.Len(1 << 16), addr.Len(0x3000)}, []any{st.Maps, st.Mapped, st.Charged})
	require.Equal(t, []mdev.OwnerStats{{Owner: "device", Leases: 1, Bytes: 0x3000}}, st.Leases)
	n, err := s.Unmap(t.Context(), 0x4000_0000, 1<<16)
	require.NoError(t, err, "the device lets go")
	require.Equal(t, addr.Len(1<<16), n)
	require.Zero(t, s.Pinner().Charged())
	require.Error(t, dev.WriteDMA(0x4000_0000, p))
}

func TestUnmapNamesWhoStays(t *testing.T) {
	v := mdevtest.NewVMM(t, 1<<16)
	dev := mdevtest.NewDevice(nil)
	dev.Stubborn = true
	s := mdevtest.Open(t, dev, &mdev.SessionConfig{Name: "stubborn0"})
	v.Map(s, 0)
	_, _, err := dev.Hold(0x1000, 1, addr.Read)
	require.NoError(t, err)
	ctx, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	_, err = s.UnmapAll(ctx)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "stubborn0")
	require.Equal(t, 1, s.Stats().Maps)
}

// Reset: registers, streams and pending interrupts are as after Open; DMA maps,
// the dirty log and eventfds stay.
func TestReset(t *testing.T) {
	r := newRig(t)
	v := mdevtest.NewVMM(t, 1<<16)
	v.Map(r.s, 0)
	e := r.arm(mdev.IRQMSIX, 0, 1)[0]
	require.NoError(t, r.s.LogStart(0x1000, nil))
	require.NoError(t, r.dev.WriteDMA(0x3000, []byte{1}))
	require.NoError(t, r.s.Write(t.Context(), mdev.BAR0, 0, []byte{1, 2, 3, 4}))
	require.NoError(t, r.s.Reset(t.Context()))
	p := make([]byte, 4)
	require.NoError(t, r.s.Read(t.Context(), mdev.BAR0, 0, p))
	require.Equal(t, make([]byte, 4), p)
	require.NoError(t, r.dev.ReadDMA(0x3000, p), "the map stays")
	r.q.Trigger(mdev.IRQMSIX, 0)
	require.Equal(t, uint64(1), e.Take(), "the eventfd stays")
	bm := make([]uint64, 1)
	require.NoError(t, r.s.LogReport(0, 1<<16, 0x1000, bm))
	require.Equal(t, uint64(1<<3), bm[0], "the log stays")
	require.Equal(t, []string{"open", "reset device"}, r.dev.Calls())
}

func TestResetThatFails(t *testing.T) {
	r := newRig(t)
	var fail atomic.Bool
	fail.Store(true)
	r.dev.OnReset = func(context.Context, mdev.ResetKind) error {
		if fail.Load() {
			return errs.ErrFault
		}
		return nil
	}
	require.ErrorIs(t, r.s.Reset(t.Context()), errs.ErrFault)
	require.Equal(t, mdev.StateFailed, r.s.State())
	err := r.s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 4))
	require.ErrorIs(t, err, errs.ErrState)
	require.EqualError(t, err, "access: session is failed: wrong state")
	require.ErrorIs(t, r.s.Quiesce(t.Context()), errs.ErrState)
	require.ErrorIs(t, r.s.SetMigrationState(t.Context(), mdev.MigStop), errs.ErrState)
	r.s.Unquiesce()
	require.ErrorIs(t, r.s.Reset(t.Context()), errs.ErrFault, "again")
	fail.Store(false)
	require.NoError(t, r.s.Reset(t.Context()))
	require.Equal(t, mdev.StateOpen, r.s.State())
	require.NoError(t, r.s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 4)))
}

func TestNoReset(t *testing.T) {
	info := mdevtest.Info()
	info.Reset = false
	s := mdevtest.Open(t, mdevtest.NewDevice(info), nil)
	require.ErrorIs(t, s.Reset(t.Context()), errs.ErrInvalid)
	require.Equal(t, mdev.StateOpen, s.State())
}

func TestQuiesce(t *testing.T) {
	r := newRig(t)
	r.s.Unquiesce()
	require.Equal(t, []string{"open"}, r.dev.Calls(), "nothing to undo")
	for range 2 {
		require.NoError(t, r.s.Quiesce(t.Context()))
		require.Equal(t, mdev.StateQuiesced, r.s.State())
	}
	require.True(t, r.dev.Quiesced())
	require.NoError(t, r.s.Write(t.Context(), mdev.BAR0, 0, []byte{1}), "registers answer")
	require.NoError(t, r.s.Reset(t.Context()))
	require.Equal(t, mdev.StateQuiesced, r.s.State(), "a reset does not let it go on")
	require.True(t, r.dev.Quiesced())
	r.s.Unquiesce()
	require.Equal(t, mdev.StateOpen, r.s.State())
	require.False(t, r.dev.Quiesced())
	require.Equal(t, []string{"open", "quiesce", "reset device", "unquiesce"}, r.dev.Calls())

	why := errors.New("a paper jam")
	r.dev.OnQuiesce = func(context.Context) error { return why }
	require.ErrorIs(t, r.s.Quiesce(t.Context()), why)
	require.Equal(t, mdev.StateOpen, r.s.State())
}

// plain is a device that can neither stop nor migrate.
type plain struct{ mdev.Device }

func TestQuiesceOfWhatCannot(t *testing.T) {
	info := mdevtest.Info()
	info.Migration = 0
	s := mdevtest.Open(t, plain{mdevtest.NewDevice(info)}, nil)
	require.ErrorIs(t, s.Quiesce(t.Context()), errs.ErrNotSupported)
	require.Equal(t, mdev.StateOpen, s.State())
	s.Unquiesce()
	require.ErrorIs(t, s.SetMigrationState(t.Context(), mdev.MigStop), errs.ErrNotSupported)
	require.Equal(t, mdev.MigRunning, s.MigrationState())
}

// A reset waits for accesses under way, accesses wait for a reset; either wait
// ends with its context.
func TestAccessAndResetExcludeEachOther(t *testing.T) {
	mdevtest.Leaks(t)
	dev := mdevtest.NewDevice(nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	dev.OnRead = func(context.Context, int, uint64, []byte) error {
		inside <- struct{}{}
		<-leave
		return nil
	}
	dev.OnReset = func(_ context.Context, kind mdev.ResetKind) error {
		if kind == mdev.ResetDevice {
			inside <- struct{}{}
			<-leave
		}
		return nil
	}
	s := mdevtest.Open(t, dev, nil)
	short := func() context.Context {
		ctx, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
		t.Cleanup(end)
		return ctx
	}
	read := make(chan error)
	go func() { read <- s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 1)) }()
	<-inside
	err := s.Reset(short())
	require.ErrorIs(t, err, errs.ErrDeadline)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, mdev.StateOpen, s.State())
	leave <- struct{}{}
	require.NoError(t, <-read)

	reset := make(chan error)
	go func() { reset <- s.Reset(t.Context()) }()
	<-inside
	require.Equal(t, mdev.StateResetting, s.State())
	require.ErrorIs(t, s.Write(short(), mdev.BAR0, 0, []byte{1}), errs.ErrDeadline)
	leave <- struct{}{}
	require.NoError(t, <-reset)
	require.NoError(t, s.Write(t.Context(), mdev.BAR0, 0, []byte{1}))
}

// Close: interrupts, then the device, then DMA.
func TestCloseOrder(t *testing.T) {
	r := newRig(t)
	v := mdevtest.NewVMM(t, 1<<16)
	v.Map(r.s, 0)
	e := r.arm(mdev.IRQMSIX, 0, 1)[0]
	var order []string
	r.dev.OnReset = func(_ context.Context, kind mdev.ResetKind) error {
		r.q.Trigger(mdev.IRQMSIX, 0)
		require.Zero(t, e.Take(), "silenced before")
		require.NoError(t, r.dev.WriteDMA(0, []byte("late")), "DMA is unmapped after")
		order = append(order, "reset "+kind.String())
		return nil
	}
	r.dev.OnClose = func() { order = append(order, "close") }
	_, _, err := r.dev.Hold(0x1000, 1, addr.Read)
	require.NoError(t, err)
	require.NoError(t, r.s.Close(t.Context()))
	require.Equal(t, []string{"reset lost", "close"}, order)
	require.Equal(t, mdev.StateClosed, r.s.State())
	mdevtest.Check(t, r.s)
	for range 2 {
		require.NoError(t, r.s.Close(t.Context()), "idempotent")
	}
	require.Len(t, order, 2)
}

func TestClosedRefusesEverything(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.s.Close(t.Context()))
	ctx, s, p := t.Context(), r.s, make([]byte, 4)
	_, errUnmap := s.Unmap(ctx, 0, 0x1000)
	_, errDirty := s.UnmapDirty(ctx, 0, 0x1000, 0x1000, make([]uint64, 1))
	_, errAll := s.UnmapAll(ctx)
	_, errMig := s.ReadMigration(p)
	_, errIO := s.IOEventFDs(mdev.BAR0)
	for what, err := range map[string]error{
		"read": s.Read(ctx, 0, 0, p), "write": s.Write(ctx, 0, 0, p),
		"map":   s.Map(0, 0x1000, translate.Bytes(make([]byte, 0x1000)), addr.Read),
		"unmap": errUnmap, "unmap dirty": errDirty, "unmap all": errAll,
		"reset": s.Reset(ctx), "quiesce": s.Quiesce(ctx),
		"migration": s.SetMigrationState(ctx, mdev.MigStop), "read migration": errMig, "write migration": s.WriteMigration(p),
		"log start": s.LogStart(0x1000, nil), "log stop": s.LogStop(), "log report": s.LogReport(0, 0x1000, 0x1000, make([]uint64, 1)),
		"eventfds": errIO, "ioeventfd": s.AddIOEvent(r.vmm.EventFD().Dup(), 0, 0, 4, 0),
	} {
		require.ErrorIs(t, err, errs.ErrGone, what)
	}
	s.Unquiesce()
	require.Equal(t, []string{"open", "reset lost", "close"}, r.dev.Calls())
}

// The wait ends with the context, and names what it waits for; the closing
// goes on, and another Close waits for the rest.
func TestCloseIsBounded(t *testing.T) {
	mdevtest.Leaks(t)
	dev := mdevtest.NewDevice(nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	dev.OnRead = func(context.Context, int, uint64, []byte) error {
		close(inside)
		<-leave
		return nil
	}
	draining := make(chan struct{})
	dev.OnClose = func() { <-draining }
	var closed atomic.Int32
	s, err := mdev.Open(t.Context(), dev, &mdev.SessionConfig{Name: "slow0", Drain: 20 * time.Millisecond, Closed: func() { closed.Add(1) }})
	require.NoError(t, err)
	read := make(chan error)
	go func() { read <- s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 1)) }()
	<-inside
	err = s.Close(context.Background())
	require.ErrorIs(t, err, errs.ErrDeadline)
	require.ErrorContains(t, err, "close of slow0: accesses are under way: ")
	require.Equal(t, mdev.StateClosing, s.State())
	require.ErrorIs(t, s.Read(t.Context(), mdev.BAR0, 0, make([]byte, 1)), errs.ErrGone)
	close(leave)
	require.NoError(t, <-read)
	require.Eventually(t, func() bool {
		ctx, end := context.WithTimeout(t.Context(), time.Millisecond)
		defer end()
		err := s.Close(ctx)
		return err != nil && errors.Is(err, errs.ErrDeadline) && err.Error() == "close of slow0: the device is closing: deadline passed: context deadline exceeded"
	}, 10*time.Second, time.Millisecond)
	require.Zero(t, closed.Load())
	close(draining)
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, int32(1), closed.Load(), "told before Close returns")
	mdevtest.Check(t, s)
	require.Empty(t, dev.Violations())
}

// What a device leaves behind is taken from it, and told.
func TestCloseTellsWhatTheDeviceLeft(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 1<<16)
	dev := mdevtest.NewDevice(nil)
	var log bytes.Buffer
	s, err := mdev.Open(t.Context(), dev, &mdev.SessionConfig{Name: "leaky0", Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	v.Map(s, 0)
	owner := s.Pinner().NewOwner("forgotten", dev.Attachment().Space.NewDomain("forgotten"), nil)
	_, err = owner.Begin(7).Pin(0x1000, 1, addr.Read)
	require.NoError(t, err)
	for range 2 {
		err = s.Close(t.Context())
		require.EqualError(t, err, "close of leaky0: device left 1 leases, one of forgotten program 7: wrong state")
	}
	require.Contains(t, log.String(), "forgotten program 7")
	mdevtest.Check(t, s)

	dev.OnReset = func(context.Context, mdev.ResetKind) error { return errs.ErrFault }
	s, err = mdev.Open(t.Context(), dev, nil)
	require.NoError(t, err, "it can be opened again")
	require.ErrorIs(t, s.Close(t.Context()), errs.ErrFault)
	mdevtest.Check(t, s)
}

// Everything at once, and Close in the middle: the device is driven by the
// rules, nobody hangs, and nothing is left.
func TestCloseAgainstEverything(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 1<<16)
	e := v.EventFD()
	for round := range rounds {
		dev := mdevtest.NewDevice(nil)
		s, err := mdev.Open(t.Context(), dev, nil)
		require.NoError(t, err)
		ctx, end := context.WithTimeout(t.Context(), 30*time.Second)
		v.Map(s, 0x10_0000)
		var wg sync.WaitGroup
		run := func(f func(i int) error) {
			wg.Go(func() {
				for i := 0; ; i++ {
					if err := f(i); errors.Is(err, errs.ErrGone) || ctx.Err() != nil {
						return
					}
				}
			})
		}
		run(func(i int) error { return s.Write(ctx, mdev.BAR0, uint64(i%64), []byte{1, 2}) })
		run(func(int) error { return s.Read(ctx, mdev.BAR2, 0, make([]byte, 8)) })
		run(func(int) error { return s.Reset(ctx) })
		run(func(int) error {
			err := s.Quiesce(ctx)
			s.Unquiesce()
			return err
		})
		run(func(i int) error {
			return s.SetMigrationState(ctx, []mdev.MigState{mdev.MigPreCopy, mdev.MigStopCopy, mdev.MigResuming, mdev.MigRunning}[i%4])
		})
		run(func(i int) error {
			_, err := s.ReadMigration(make([]byte, 100))
			return err
		})
		run(func(i int) error { return s.WriteMigration([]byte{'p'}) })
		run(func(i int) error {
			dev.Trigger(mdev.IRQMSIX, i%4)
			if i%10 == 9 {
				return s.SetIRQs(mdev.IRQRequest{Flags: none | trigger, Index: mdev.IRQMSIX})
			}
			return s.SetIRQs(mdev.IRQRequest{Flags: eventfd | trigger, Index: mdev.IRQMSIX, Start: uint32(i % 4), Count: 1, FDs: []int{e.Dup()}})
		})
		run(func(i int) error {
			fds, err := s.IOEventFDs(mdev.BAR0)
			if err != nil {
				return err
			}
			require.Len(t, fds, 2)
			e.Signal()
			if err := s.AddIOEvent(e.Dup(), mdev.BAR0, uint64(i%400)*8, 8, uint64(i)); errors.Is(err, errs.ErrGone) {
				return err
			}
			return s.LogStop()
		})
		run(func(i int) error {
			_ = dev.WriteDMA(0x10_0000, []byte("dma"))
			_, err := s.Unmap(ctx, 0x10_0000, 1<<16)
			_ = s.Map(0x10_0000, 1<<16, translate.File(v.MemFD(), 0), addr.ReadWrite)
			_ = s.LogStart(0x1000, nil)
			_ = s.LogReport(0, 1<<20, 0x1000, make([]uint64, 4))
			return err
		})
		run(func(int) error {
			if s.Stats().State == mdev.StateClosed {
				return errs.ErrGone
			}
			return nil
		})
		time.Sleep(time.Duration(round%7) * 3 * time.Millisecond)
		closed := make(chan error, 3)
		for range 3 {
			go func() { closed <- s.Close(ctx) }()
		}
		for range 3 {
			require.NoError(t, <-closed)
		}
		wg.Wait()
		end()
		mdevtest.Check(t, s)
		require.Empty(t, dev.Violations())
		require.False(t, slices.Contains(dev.Calls(), ""))
	}
}

// Fail the nth step of opening a device and of everything that can fail once
// it is open: what fails has changed nothing, and nothing is left.
func TestFailTheNth(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 1<<16)
	dev := mdevtest.NewDevice(nil)
	var s *mdev.Session
	points := fault.Sweep(t, func(p *fault.Points) (err error) {
		dev.Fault = p
		if s, err = mdev.Open(t.Context(), dev, &mdev.SessionConfig{Fault: p, Pinning: &pinning.Config{Fault: p}}); err != nil {
			s = nil
			return err
		}
		// The ends are not swept: they cannot fail.
		defer func() { dev.Fault = nil }()
		v.Map(s, 0)
		fds := func(n int) (fds []int) {
			for range n {
				fds = append(fds, v.EventFD().Dup())
			}
			return fds
		}
		p4 := make([]byte, 4)
		for _, step := range []func() error{
			func() error {
				return s.SetIRQs(mdev.IRQRequest{Flags: eventfd | trigger, Index: mdev.IRQINTx, Count: 1, FDs: fds(1)})
			},
			func() error {
				return s.SetIRQs(mdev.IRQRequest{Flags: eventfd | unmask, Index: mdev.IRQINTx, Count: 1, FDs: fds(1)})
			},
			func() error { _, err := s.IOEventFDs(mdev.BAR0); return err },
			func() error { return s.AddIOEvent(fds(1)[0], mdev.BAR0, 0, 4, 1) },
			func() error { return s.Write(t.Context(), mdev.BAR0, 0, p4) },
			func() error { return s.Read(t.Context(), mdev.BAR0, 0, p4) },
			func() error { return dev.WriteDMA(0, p4) },
			func() error { return s.Quiesce(t.Context()) },
			func() error { return s.Reset(t.Context()) },
			func() error { s.Unquiesce(); return nil },
			func() error { return s.SetMigrationState(t.Context(), mdev.MigStopCopy) },
			func() error { _, err := s.ReadMigration(make([]byte, 1<<20)); return err },
			func() error { return s.Reset(t.Context()) },
			func() error { return s.SetMigrationState(t.Context(), mdev.MigResuming) },
			func() error { return s.WriteMigration(state(t)) },
			func() error { return s.SetMigrationState(t.Context(), mdev.MigRunning) },
		} {
			held := s.Stats().FDs
			if err := step(); err != nil {
				require.Equal(t, held, s.Stats().FDs, "nothing taken")
				return err
			}
		}
		return nil
	}, func() {
		dev.Fault = nil
		if s != nil {
			require.NoError(t, s.Close(t.Context()))
			mdevtest.Check(t, s)
		}
		require.Empty(t, dev.Violations())
	})
	for _, want := range []string{
		"open: store", "open: pinner", "open: device", "device: open", "irqs: eventfd", "irqs: watch", "session: watcher",
		"session: eventfd", "session: quiesce", "session: reset", "device: reset", "device: quiesce", "migration: step",
		"device: save", "device: load", "device: read", "device: write",
	} {
		require.Contains(t, points, want)
	}
}
