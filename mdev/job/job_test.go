package job

import (
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

var errCancel = errors.New("cancelled by the test")

// ground is a job on 256 KiB of memory from 0 on, of which a quarter is
// read-only.
func ground(t testing.TB) (*Job, *pinning.Pinner) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	mem := make([]byte, 256<<10)
	require.NoError(t, st.Map(0, 192<<10, translate.Bytes(mem[:192<<10]), addr.ReadWrite))
	require.NoError(t, st.Map(192<<10, 64<<10, translate.Bytes(mem[192<<10:]), addr.Read))
	space := iommu.NewSpace(nil)
	p := pintest.New(t, st, space, nil)
	j := New(st, p.NewOwner("job", space.NewDomain("job"), nil))
	t.Cleanup(j.Close)
	return j, p
}

// Each limit: one less, as many, one more; charged in parts and at once.
func TestBudgetLimits(t *testing.T) {
	const n = 10
	for name, x := range map[string]struct {
		limits Limits
		charge func(b *Budget, n int) error
		used   func(u Usage) uint64
	}{
		"elements": {Limits{Elements: n}, (*Budget).Element, func(u Usage) uint64 { return u.Elements }},
		"bytes":    {Limits{Bytes: n}, (*Budget).Moved, func(u Usage) uint64 { return u.Bytes }},
		"steps":    {Limits{Steps: n}, (*Budget).Step, func(u Usage) uint64 { return u.Steps }},
		"pins":     {Limits{Pins: n}, func(b *Budget, n int) error { return b.pins(uint64(n)) }, func(u Usage) uint64 { return u.Pins }},
	} {
		t.Run(name, func(t *testing.T) {
			var b Budget
			require.ErrorIs(t, x.charge(&b, 1), errs.ErrBudget, "the zero Budget allows nothing")
			for _, at := range []int{n - 1, n} {
				b.reset(x.limits)
				require.NoError(t, x.charge(&b, at))
				require.EqualValues(t, at, x.used(b.Used()))
			}
			err := x.charge(&b, 1)
			require.ErrorIs(t, err, errs.ErrBudget)
			require.EqualError(t, err, "more than 10 "+name+": budget exhausted")
			require.EqualValues(t, n, x.used(b.Used()), "what failed is not charged")
			b.reset(x.limits)
			require.ErrorIs(t, x.charge(&b, n+1), errs.ErrBudget)
			for _, huge := range []int{math.MaxInt, -1, math.MinInt} {
				require.ErrorIs(t, x.charge(&b, huge), errs.ErrBudget, "%d", huge)
			}
			require.NoError(t, x.charge(&b, n))
		})
	}
	require.Equal(t, DefaultLimits, Limits{}.orDefault())
}

// Cancel fails every later charge, from any goroutine; the first reason stays;
// Begin forgets it.
func TestCancel(t *testing.T) {
	j, _ := ground(t)
	j.Begin(1, Limits{})
	require.NoError(t, j.Cancelled())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { j.Cancel(errCancel) })
	}
	wg.Wait()
	j.Cancel(errs.ErrGone)
	require.Equal(t, errCancel, j.Cancelled())
	require.Equal(t, errCancel, j.Step(1))
	require.Equal(t, errCancel, j.Moved(1))
	require.Equal(t, errCancel, j.Element(1))
	_, err := j.Pin(0, 1, addr.Read)
	require.Equal(t, errCancel, err)
	j.Enter()
	_, err = j.Fetch(0, 8)
	j.Exit()
	require.Equal(t, errCancel, err)
	j.Begin(2, Limits{})
	require.NoError(t, j.Step(1))
	j.End()
}

// After End the job holds no pin, whichever call failed before; End may be
// called again; a job may be used again.
func TestEnd(t *testing.T) {
	j, p := ground(t)
	require.False(t, j.Active())
	for i := range uint64(3) {
		j.Begin(i, Limits{Pins: 5})
		require.True(t, j.Active())
		a, err := j.Pin(0x1000, 16, addr.Read)
		require.NoError(t, err)
		b, err := j.Pin(0x1008, 16, addr.Read)
		require.NoError(t, err)
		require.Equal(t, a+8, b)
		require.EqualValues(t, 1, j.Used().Pins, "a page named twice")
		_, err = j.Pin(200<<10, 16, addr.Write)
		require.ErrorIs(t, err, errs.ErrPermission)
		_, err = j.Pin(1<<30, 16, addr.Read)
		require.ErrorIs(t, err, errs.ErrNotMapped)
		_, err = j.PinRange(0x1800, 8192, addr.Write)
		require.ErrorIs(t, err, errs.ErrBudget)
		_, err = j.PinRange(0x2000, 4096, addr.Write)
		require.NoError(t, err)
		require.EqualValues(t, 2*addr.PageSize, p.Charged())
		j.End()
		j.End()
		require.Zero(t, p.Charged())
		require.Empty(t, p.Leases())
	}
	j.Begin(9, Limits{})
	_, err := j.Pin(0x1000, 16, addr.Write)
	require.NoError(t, err)
	j.Begin(10, Limits{}) // begins anew, and drops what was held
	require.Zero(t, p.Charged())
	j.Close()
	j.Close()
}

// A pin that was remembered for reading is not good for writing.
func TestPinRemembersTheAccess(t *testing.T) {
	j, p := ground(t)
	j.Begin(1, Limits{})
	_, err := j.Pin(200<<10, 8, addr.Read)
	require.NoError(t, err)
	_, err = j.Pin(200<<10, 8, addr.Write)
	require.ErrorIs(t, err, errs.ErrPermission)
	_, err = j.Pin(0, 8, addr.Read)
	require.NoError(t, err)
	_, err = j.Pin(0, 8, addr.Write)
	require.NoError(t, err)
	access := addr.Access(0)
	for _, h := range p.Who(0) {
		access |= h.Access
	}
	require.Equal(t, addr.ReadWrite, access)
	before := j.Used().Pins
	for range 100 { // both are remembered: a loop that reads and writes a page
		_, err = j.Pin(0, 8, addr.Read)
		require.NoError(t, err)
		_, err = j.Pin(0, 8, addr.Write)
		require.NoError(t, err)
	}
	require.Equal(t, before, j.Used().Pins)
	j.End()
}

// Fetch charges, and needs the right to read; Refetch reads anew.
func TestFetch(t *testing.T) {
	j, _ := ground(t)
	j.Begin(1, Limits{Bytes: 100})
	j.Enter()
	j.Enter()
	_, err := j.Fetch(0x1000, 60)
	require.NoError(t, err)
	j.Refetch()
	_, err = j.Fetch(0x1000, 41)
	require.ErrorIs(t, err, errs.ErrBudget)
	_, err = j.Fetch(1<<40, 8)
	require.ErrorIs(t, err, errs.ErrNotMapped)
	require.NoError(t, j.Mapped(0x1000, 8192))
	require.Error(t, j.Mapped(1<<40, 1))
	j.Exit()
	j.Exit()
	j.End()
}
