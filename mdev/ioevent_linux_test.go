package mdev_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// write is one that a device saw.
type write struct {
	region int
	off    uint64
	data   string
}

func newWriteRig(t *testing.T) (*rig, chan write) {
	seen := make(chan write, 100)
	mdevtest.Leaks(t)
	r := &rig{T: t, vmm: mdevtest.NewVMM(t, 0), dev: mdevtest.NewDevice(nil)}
	r.dev.OnWrite = func(_ context.Context, region int, off uint64, p []byte) error {
		seen <- write{region, off, string(p)}
		return nil
	}
	r.s = mdevtest.Open(t, r.dev, nil)
	r.q = r.s.IRQs()
	return r, seen
}

func next(t *testing.T, seen chan write) write {
	t.Helper()
	select {
	case w := <-seen:
		return w
	case <-time.After(10 * time.Second):
		t.Fatal("no write")
		panic("not reached")
	}
}

// An eventfd of the device's: a signal is the write.
func TestIOEventFDs(t *testing.T) {
	r, seen := newWriteRig(t)
	fds, err := r.s.IOEventFDs(mdev.BAR0)
	require.NoError(t, err)
	require.Len(t, fds, 2)
	r.vmm.Adopt(fds[0].FD).Signal()
	require.Equal(t, write{mdev.BAR0, mdevtest.Doorbell, "\x34\x12\x00\x00"}, next(t, seen), "the value that it matches")
	r.vmm.Adopt(fds[1].FD).Signal()
	require.Equal(t, write{mdev.BAR0, mdevtest.Doorbell + 8, "\x00\x00"}, next(t, seen), "any value: the device sees none")
	again, err := r.s.IOEventFDs(mdev.BAR0)
	require.NoError(t, err)
	require.Equal(t, fds, again, "the same")
	require.Equal(t, 3, r.s.Stats().FDs, "two and the watcher")
	none, err := r.s.IOEventFDs(mdev.BAR2)
	require.NoError(t, err)
	require.Empty(t, none)
	for _, region := range []int{-1, 10} {
		_, err = r.s.IOEventFDs(region)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
	require.NoError(t, r.s.Reset(t.Context()))
	r.vmm.Adopt(fds[0].FD).Signal()
	require.Equal(t, uint64(mdevtest.Doorbell), next(t, seen).off, "a reset does not end them")
}

// TestAddIOEvent: vfio_pci_core.c, vfio_pci_ioeventfd.
func TestAddIOEvent(t *testing.T) {
	for _, x := range []struct {
		name   string
		region int
		off    uint64
		size   uint32
		want   error
	}{
		{"1 byte", mdev.BAR0, 7, 1, nil},
		{"2 bytes", mdev.BAR0, 2, 2, nil},
		{"4 bytes", mdev.BAR2, 0, 4, nil},
		{"8 bytes at the end", mdev.BAR0, mdevtest.BAR0Size - 8, 8, nil},
		{"0 bytes", mdev.BAR0, 0, 0, errs.ErrInvalid},
		{"3 bytes", mdev.BAR0, 0, 3, errs.ErrInvalid},
		{"16 bytes", mdev.BAR0, 0, 16, errs.ErrInvalid},
		{"beyond the end", mdev.BAR0, mdevtest.BAR0Size - 4, 8, errs.ErrInvalid},
		{"offset wraps", mdev.BAR0, ^uint64(0), 4, errs.ErrInvalid},
		{"not a BAR", mdev.Config, 0, 4, errs.ErrInvalid},
		{"device-specific region", 9, 0, 4, errs.ErrInvalid},
		{"read-only region", mdev.BAR1, 0, 4, errs.ErrInvalid},
		{"no region", 77, 0, 4, errs.ErrInvalid},
		{"negative region", -1, 0, 4, errs.ErrInvalid},
	} {
		t.Run(x.name, func(t *testing.T) {
			r, seen := newWriteRig(t)
			e := r.vmm.EventFD()
			const data = 0x8877_6655_4433_2211
			require.ErrorIs(t, r.s.AddIOEvent(e.Dup(), x.region, x.off, x.size, data), x.want)
			if x.want != nil {
				require.Zero(t, r.s.Stats().FDs)
				return
			}
			e.Signal()
			whole := binary.LittleEndian.AppendUint64(nil, data)
			require.Equal(t, write{x.region, x.off, string(whole[:x.size])}, next(t, seen))
			require.ErrorIs(t, r.s.AddIOEvent(e.Dup(), x.region, x.off, x.size, data), errs.ErrExists)
			require.ErrorIs(t, r.s.AddIOEvent(-1, x.region, x.off, x.size, data+1), errs.ErrNotFound)
			require.NoError(t, r.s.AddIOEvent(e.Dup(), x.region, x.off, x.size, data+1), "another value")
			require.NoError(t, r.s.AddIOEvent(-1, x.region, x.off, x.size, data))
			require.NoError(t, r.s.AddIOEvent(-1, x.region, x.off, x.size, data+1))
			e.Signal()
			time.Sleep(2 * time.Millisecond)
			require.Equal(t, uint64(1), e.Take(), "nobody watches")
			require.ErrorIs(t, r.s.AddIOEvent(-1, x.region, x.off, x.size, data), errs.ErrNotFound)
		})
	}
	t.Run("not an eventfd", func(t *testing.T) {
		r, _ := newWriteRig(t)
		var p [2]int
		require.NoError(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
		defer unix.Close(p[1])
		require.ErrorIs(t, r.s.AddIOEvent(p[0], mdev.BAR0, 0, 4, 0), errs.ErrInvalid)
		require.ErrorIs(t, r.s.AddIOEvent(-2, mdev.BAR0, 0, 4, 0), errs.ErrInvalid)
	})
	t.Run("high bits of the data do not count", func(t *testing.T) {
		r, _ := newWriteRig(t)
		e := r.vmm.EventFD()
		require.NoError(t, r.s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 1, 0x101))
		require.ErrorIs(t, r.s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 1, 0x201), errs.ErrExists)
	})
	t.Run("at most 1000", func(t *testing.T) {
		r, _ := newWriteRig(t)
		var e *mdevtest.EventFD
		for i := range 1000 {
			if i%400 == 0 { // epoll watches one file at most 500 times
				e = r.vmm.EventFD()
			}
			require.NoError(t, r.s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 4, uint64(i)))
		}
		require.ErrorIs(t, r.s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 4, 1000), errs.ErrNoSpace)
	})
}

// A state that takes no access refuses the write of a signal as well; it is
// not done later.
func TestIOEventWhenRefused(t *testing.T) {
	r, seen := newWriteRig(t)
	fds, err := r.s.IOEventFDs(mdev.BAR0)
	require.NoError(t, err)
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigStopCopy))
	r.vmm.Adopt(fds[0].FD).Signal()
	require.Eventually(t, func() bool {
		st := r.s.Stats().Regions
		i := slices.IndexFunc(st, func(s mdev.RegionStats) bool { return s.Index == mdev.BAR0 })
		return st[i].Errors == 1
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, r.s.SetMigrationState(t.Context(), mdev.MigRunning))
	r.vmm.Adopt(fds[1].FD).Signal()
	require.Equal(t, uint64(mdevtest.Doorbell+8), next(t, seen).off)
}

// Removing an ioeventfd, and closing, wait for its write.
func TestIOEventEndsWithItsWrite(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 0)
	dev := mdevtest.NewDevice(nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	dev.OnWrite = func(context.Context, int, uint64, []byte) error {
		inside <- struct{}{}
		<-leave
		return nil
	}
	s := mdevtest.Open(t, dev, nil)
	e := v.EventFD()
	require.NoError(t, s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 4, 1))
	e.Signal()
	<-inside
	removed := make(chan error, 1)
	go func() { removed <- s.AddIOEvent(-1, mdev.BAR0, 0, 4, 1) }()
	select {
	case <-removed:
		t.Fatal("did not wait")
	case <-time.After(5 * time.Millisecond):
	}
	leave <- struct{}{}
	require.NoError(t, <-removed)
	require.NoError(t, s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 4, 1))
	e.Signal()
	<-inside
	ctx, end := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer end()
	require.ErrorIs(t, s.Close(ctx), errs.ErrDeadline)
	leave <- struct{}{}
	require.NoError(t, s.Close(t.Context()))
}

// A client may read the eventfd itself: the watcher does not hang in it, nor
// spin.
func TestWatchedEventFDThatIsRead(t *testing.T) {
	r, seen := newWriteRig(t)
	e := r.vmm.EventFD()
	require.NoError(t, r.s.AddIOEvent(e.Dup(), mdev.BAR0, 0, 4, 1))
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 2000 {
			e.Signal()
			e.Take()
		}
	}()
	for done := false; !done; {
		select {
		case <-seen:
		case <-stop:
			done = true
		}
	}
	e2 := r.vmm.EventFD()
	require.NoError(t, r.s.AddIOEvent(e2.Dup(), mdev.BAR0, 8, 4, 1))
	e2.Signal()
	for next(t, seen).off != 8 {
		// a late one of e
	}
}
