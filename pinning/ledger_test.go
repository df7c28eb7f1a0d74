package pinning_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate/addr"
)

// N3: list by owner, program and address.
func TestLedger(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	con := e.p.NewOwner("con0", e.space.NewDomain("con0"), nil)
	a, b, c := e.o.Begin(2), e.o.Begin(1), con.Begin(9)
	defer a.Release()
	defer b.Release()
	defer c.Release()
	pa := e.pin(a, 0x1_f800, 3*page, rw) // 4 pages in two blocks: one line
	pb := e.pin(b, 0x2_0000, 1, r)
	pc := e.pin(c, 0x2_0010, 1, w)
	line := func(owner string, program uint64, from addr.IOVA, n addr.Len, access addr.Access, p pinning.Pin) pinning.Holding {
		return pinning.Holding{Owner: owner, Program: program, Range: addr.MustRange(from, n*page), Access: access, HPA: addr.PageOf(p.HPA())}
	}
	la, lb, lc := line("dasd0", 2, 0x1_f000, 4, rw, pa), line("dasd0", 1, 0x2_0000, 1, r, pb), line("con0", 9, 0x2_0000, 1, w, pc)
	require.Equal(t, []pinning.Holding{lc, lb, la}, e.p.Holdings())
	require.Equal(t, []pinning.Holding{lc, lb, la}, e.p.Who(0x2_0fff))
	require.Equal(t, []pinning.Holding{la}, e.p.Who(0x2_1000))
	require.Equal(t, []pinning.Holding{la}, e.p.HoldingsIn(addr.MustRange(addr.IOVA(0x1_0000), 16*page)))
	require.Empty(t, e.p.Who(0x1_0000))
	require.Empty(t, e.p.Who(^addr.IOVA(0)))
	require.Equal(t, "dasd0 program 2 holds [0x1f000, 0x22fff] rw", la.String())

	leases := e.p.Leases()
	require.Len(t, leases, 3)
	require.Equal(t, "con0", leases[0].Owner)
	require.Equal(t, []pinning.Holding{lb}, leases[1].Holdings)
	require.Contains(t, leases[2].Began, "TestLedger")
	b.Release()
	require.Equal(t, []pinning.Holding{lc, la}, e.p.Holdings())
}

func TestForecast(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	l := e.o.Begin(1)
	defer l.Release()
	e.pin(l, 0x1_2000, 2*page, r)
	for _, tt := range []struct {
		name string
		reqs []pinning.Request
		want addr.Len // pages
	}{
		{"nothing", nil, 0},
		{"no bytes", []pinning.Request{{0x1_0000, 0, r}}, 0},
		{"past 2^64", []pinning.Request{{^addr.IOVA(0), 2, r}}, 0},
		{"a byte", []pinning.Request{{0x1_0000, 1, r}}, 1},
		{"two bytes on two pages", []pinning.Request{{0x1_0fff, 2, r}}, 2},
		{"held already", []pinning.Request{{0x1_2000, page, rw}}, 0},
		{"held in part", []pinning.Request{{0x1_1000, 4 * page, rw}}, 2},
		{"twice, overlapping, unsorted", []pinning.Request{{0x1_6000, 2 * page, r}, {0x1_5000, 2 * page, w}, {0x1_6000, 1, r}}, 3},
		{"touching, held between", []pinning.Request{{0x1_3000, page, r}, {0x1_1800, 0x800, r}, {0x1_2000, page, r}}, 1},
		{"the last page", []pinning.Request{{^addr.IOVA(0), 1, r}}, 1},
	} {
		require.Equal(t, tt.want*page, e.p.Forecast(tt.reqs), tt.name)
	}
	require.Equal(t, ^addr.Len(0)-2*page+1, e.p.Forecast([]pinning.Request{{0, ^addr.Len(0), r}}), "all but what is held")
}

// N3: forecast = charge after running.
func TestForecastIsTheCharge(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		other := e.p.NewOwner("con0", e.space.NewDomain("con0"), nil)
		rapid.Check(t, func(rt *rapid.T) {
			for i := range uint64(3) {
				l := []*pinning.Owner{e.o, other}[rapid.IntRange(0, 1).Draw(rt, "owner")].Begin(i)
				defer l.Release()
				var reqs []pinning.Request
				for range rapid.IntRange(0, 6).Draw(rt, "requests") {
					at := rapid.Uint64Range(0, 32*4096-1).Draw(rt, "at")
					n := rapid.Uint64Range(1, min(32*4096-at, 9*4096)).Draw(rt, "n")
					reqs = append(reqs, pinning.Request{IOVA: 0x1_0000 + addr.IOVA(at), Len: addr.Len(n), Access: addr.Access(rapid.IntRange(1, 3).Draw(rt, "access"))})
				}
				want := e.p.Charged() + e.p.Forecast(reqs)
				pins := make([]pinning.Pin, len(reqs))
				_, err := l.PinEach(reqs, pins)
				require.NoError(rt, err)
				require.Equal(rt, want, e.p.Charged())
			}
		})
	})
}
