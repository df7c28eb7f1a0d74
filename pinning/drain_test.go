package pinning_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const short = 20 * time.Millisecond

// N4 and invariant 4: an unmap that waits in vain is EBUSY and names the
// holder; the store is as it was; a later unmap works.
func TestUnmapOfHeldPagesNamesTheHolder(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		l, other := e.o.Begin(7), e.o.Begin(8)
		pin := e.pin(l, 0x1_1000, 2*page, rw)
		e.pin(other, 0x1_f000, page, r)
		e.pin(other, 0x3_0000, page, r) // not in the way

		err := e.unmap(0x1_0000, 32*page, short)
		require.ErrorIs(t, err, errs.ErrBusy)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, unix.EBUSY, errs.Errno(err))
		require.EqualError(t, err, "iova 0x10000: [0x11000, 0x12fff] rw held by dasd0 program 7 and 1 more: busy")
		var held *pinning.HeldError
		require.True(t, errors.As(err, &held))
		require.Len(t, held.Holdings, 2)
		require.Equal(t, uint64(8), held.Holdings[1].Program)

		require.True(t, e.writes(pin.HPA()), "the program goes on")
		e.pin(l, 0x1_5000, page, r) // nothing stays refused
		l.Release()
		require.ErrorIs(t, e.unmap(0x1_0000, 32*page, short), errs.ErrBusy)
		other.Release()
		require.NoError(t, e.unmap(0x1_0000, 32*page, short))
		_, err = e.o.Begin(9).Pin(0x1_0000, page, r)
		require.ErrorIs(t, err, errs.ErrNotMapped)
	})
}

// C4 #7: vfio-ccw and vfio-ap looked at the first page of the range only.
func TestUnmapHitsOnlyTheLastPageOfAPin(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pin   addr.IOVA
		n     addr.Len
		unmap addr.IOVA
		size  addr.Len
	}{
		{"last page of the pin", 0x1_f000, 0x11*page + 1, 0x3_0000, page},
		{"first page of the pin", 0x2_f000, 2 * page, 0x1_0000, 32 * page},
		{"last byte of the mapping", 0x2_ffff, 1, 0x1_0000, 32 * page},
		{"last byte of the space", ^addr.IOVA(0), 1, top, 0x100 * page},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t, iommu.Contiguous, nil)
			var told []addr.Range[addr.IOVA]
			var l pinning.Lease
			o := e.p.NewOwner("careful", e.d, func(program uint64, r addr.Range[addr.IOVA]) {
				told = append(told, r)
				l.Release()
			})
			l = o.Begin(1)
			pin := e.pin(l, tt.pin, tt.n, r)
			require.NoError(t, e.unmap(tt.unmap, tt.size, patience), "the owner was told and let go")
			require.Len(t, told, 1)
			in, _ := addr.RangeOf(tt.unmap, tt.size)
			require.True(t, in.Covers(told[0]))
			require.False(t, e.reads(pin.HPA()))
			require.False(t, e.reads(pin.At(tt.n-1)))
		})
	}
}

// N5: holders are told, the unmap waits, the drain ends with the lease.
func TestDrainTellsAndWaits(t *testing.T) {
	e := newEnv(t, iommu.Scattered, nil)
	told := make(chan uint64, 10)
	o := e.p.NewOwner("polite", e.d, func(program uint64, r addr.Range[addr.IOVA]) { told <- program })
	a, b, c := o.Begin(1), o.Begin(2), o.Begin(3)
	e.pin(a, 0x1_0000, page, r)
	e.pin(b, 0x2_f000, page, r)
	e.pin(c, 0x3_0000, page, r)
	defer c.Release()
	var done atomic.Bool
	result := make(chan error)
	go func() {
		err := e.unmap(0x1_0000, 32*page, patience)
		done.Store(true)
		result <- err
	}()
	require.ElementsMatch(t, []uint64{1, 2}, []uint64{<-told, <-told}, "those in the range, once each")
	_, err := c.Pin(0x2_0000, page, r)
	require.ErrorIs(t, err, errs.ErrBusy, "no new pin in what is going")
	require.ErrorContains(t, err, "iova 0x20000: being unmapped: busy")
	_, err = c.Pin(0x2_f800, 2*page, r)
	require.ErrorIs(t, err, errs.ErrBusy)
	e.pin(c, 0x3_0000, page, r) // the rest goes on
	a.Release()
	time.Sleep(short / 4)
	require.False(t, done.Load())
	b.Release()
	require.NoError(t, <-result)
	require.Empty(t, told)
	e.mapPages(0x1_0000, 32, rw)
	e.pin(c, 0x1_0000, page, r)
}

func TestDeadlines(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, &pinning.Config{Deadline: short})
	l := e.o.Begin(1)
	e.pin(l, 0x1_0000, page, r)
	start := time.Now()
	_, err := e.st.Unmap(context.Background(), 0x1_0000, 32*page)
	require.ErrorIs(t, err, errs.ErrBusy, "a context without deadline is bounded all the same")
	require.GreaterOrEqual(t, time.Since(start), short)
	patient, enough := context.WithTimeout(context.Background(), time.Hour)
	defer enough()
	_, err = e.st.Unmap(patient, 0x1_0000, 32*page)
	require.ErrorIs(t, err, errs.ErrBusy, "the smaller deadline counts")

	ctx, cancel := context.WithCancelCause(context.Background())
	mine := errors.New("client went away")
	time.AfterFunc(short/4, func() { cancel(mine) })
	_, err = e.st.Unmap(ctx, 0x1_0000, 32*page)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorIs(t, err, mine)

	_, err = e.st.UnmapAll(ctx)
	require.ErrorIs(t, err, errs.ErrBusy, "a context that is done fails at once")
	l.Release()
	_, err = e.st.UnmapAll(context.Background())
	require.NoError(t, err)
}

// An owner who is stuck in its callback delays neither the deadline nor the
// other owners.
func TestStubbornCallback(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	block := make(chan struct{})
	stuck := e.p.NewOwner("stuck", e.d, func(uint64, addr.Range[addr.IOVA]) { <-block })
	toldOther := make(chan struct{})
	other := e.p.NewOwner("other", e.d, func(uint64, addr.Range[addr.IOVA]) { close(toldOther) })
	l, m := stuck.Begin(1), other.Begin(2)
	e.pin(l, 0x1_0000, page, r)
	e.pin(m, 0x1_0000, page, r)
	require.ErrorIs(t, e.unmap(0x1_0000, 32*page, short), errs.ErrBusy)
	<-toldOther
	m.Release()
	l.Release()
	close(block)
	require.NoError(t, e.unmap(0x1_0000, 32*page, patience))
}

// C4 #6 and #9, for the race detector: programs complete, are halted and their
// device is closed while the hardware is in their memory and the memory is
// being unmapped. After Unmap returns the memory really goes away; a stray
// access would be a fault of this process or a data race.
func TestCompletionUnmapClose(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		const at, size = addr.IOVA(0x40_0000), 8 * page
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var pins, refused, unmaps atomic.Int64
		current := make([]atomic.Pointer[pinning.Lease], 3)
		for i := range 3 {
			d := e.space.NewDomain(fmt.Sprint("dev", i))
			o := e.p.NewOwner(d.Name(), d, func(uint64, addr.Range[addr.IOVA]) {
				if l := current[i].Load(); l != nil {
					l.Release() // halt, while completion may do the same
				}
			})
			wg.Go(func() {
				defer o.Close()
				buf := make([]byte, 600)
				for n := uint64(0); ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					l := o.Begin(n)
					current[i].Store(&l)
					// Pages of its own: devices that store to one page
					// race by themselves.
					pin, err := l.Pin(at+addr.IOVA(2*i+int(n%2))<<12+0x100, 0x800, rw)
					if err != nil {
						refused.Add(1)
						l.Release()
						continue
					}
					pins.Add(1)
					var hw sync.WaitGroup
					hw.Go(func() { // the hardware, which may come too late
						_ = d.Write(pin.HPA(), buf)
						_ = d.Read(pin.At(0x7ff), buf[:1])
					})
					if n%3 == 0 {
						hw.Wait()
					}
					l.Release()
					l.Release()
					hw.Wait()
				}
			})
		}
		wg.Go(func() {
			defer close(stop)
			for unmaps.Load() < 150 {
				// Plain memory for the race detector, and a real mapping
				// that is gone afterwards.
				mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
				if err != nil {
					t.Error(err)
					return
				}
				own := make([]byte, size)
				m := translate.Bytes(mem)
				if unmaps.Load()%2 == 0 {
					m = translate.Bytes(own)
				}
				if err := e.st.Map(at, size, m, rw); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(50 * time.Microsecond)
				if err := e.unmap(at, size, patience); err != nil {
					t.Error(err)
					return
				}
				for i := range own {
					own[i]++ // ours alone
				}
				if err := unix.Munmap(mem); err != nil {
					t.Error(err)
				}
				unmaps.Add(1)
			}
		})
		wg.Wait()
		require.Zero(t, e.p.Charged())
		require.NotZero(t, pins.Load())
		t.Logf("%d pins, %d refused, %d unmaps", pins.Load(), refused.Load(), unmaps.Load())
	})
}

// C4 #18: work after teardown.
func TestCloseDuringDrain(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	told := make(chan struct{})
	o := e.p.NewOwner("o", e.d, func(uint64, addr.Range[addr.IOVA]) { close(told) })
	e.pin(o.Begin(1), 0x1_0000, page, rw)
	result := make(chan error)
	go func() { result <- e.unmap(0x1_0000, 32*page, patience) }()
	<-told
	o.Close()
	require.NoError(t, <-result)

	e = newEnv(t, iommu.Contiguous, nil)
	told2 := make(chan struct{})
	o = e.p.NewOwner("o", e.d, func(uint64, addr.Range[addr.IOVA]) { close(told2) })
	e.pin(o.Begin(1), 0x1_0000, page, rw)
	go func() { result <- e.unmap(0x1_0000, 32*page, patience) }()
	<-told2
	require.NoError(t, e.p.Close())
	require.NoError(t, <-result)
}

// An unmap of what nobody holds is as cheap with a pinner as without.
func TestDrainOfNothingAllocatesNothing(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	l := e.o.Begin(1)
	e.pin(l, 0x3_0000, page, r)
	defer l.Release()
	rs := []addr.Range[addr.IOVA]{addr.MustRange(addr.IOVA(0x1_0000), 32*page)}
	ctx := context.Background()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if e.p.Drain(ctx, rs) != nil {
			t.Error("busy")
		}
		e.p.Done(rs)
	}))
}
