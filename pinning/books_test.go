package pinning

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

type nothing struct{}

func (nothing) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (nothing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// A guest touches one page after the other of a mapping that has no end: what
// is kept of them is bounded, and nothing that is held is dropped.
func TestBooksAreBounded(t *testing.T) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	p, err := New(st, iommu.NewSpace(nil), &Config{Limit: Unlimited})
	require.NoError(t, err)
	d := p.space.NewDomain("dasd0")
	o := p.NewOwner("dasd0", d, nil)
	require.NoError(t, st.Map(0, 1<<63, translate.Remote(nothing{}), addr.ReadWrite))
	keep := o.Begin(0)
	kept, err := keep.Pin(0x1000, 4096, addr.Read)
	require.NoError(t, err)
	for _, step := range []int{iommu.BlockShift, 26} { // all cells of a window; one each
		for i := range maxBooks + maxBooks/4 {
			l := o.Begin(1)
			_, err := l.Pin(addr.IOVA(i)<<step, 4096, addr.Read)
			require.NoError(t, err)
			l.Release()
			if p.books > maxBooks+64 {
				t.Fatalf("%d pins: %d kept", i, p.books)
			}
		}
	}
	require.NoError(t, d.Read(kept.HPA(), make([]byte, 8)))
	require.Equal(t, addr.Len(4096), p.Charged())
	_, err = keep.Pin(0x1000, 4096, addr.Read)
	require.NoError(t, err)
	keep.Release()
	o.Close()
	require.NoError(t, p.Close())
	require.Zero(t, p.books, "counted as it was made")
	require.NoError(t, st.Close())
}

// A batch of many unmaps beside many pins: neither is multiplied by the other.
func TestRangeSet(t *testing.T) {
	at := func(a, n int) addr.Range[addr.IOVA] { return addr.MustRange(addr.IOVA(a), addr.Len(n)) }
	p := &Pinner{}
	f := p.refuseLocked([]addr.Range[addr.IOVA]{at(0x9000, 0x1000), at(0x1000, 0x1000), at(0x2000, 0x1000)})
	require.Equal(t, rangeSet{at(0x1000, 0x2000), at(0x9000, 0x1000)}, f.set)
	for _, tt := range []struct {
		r    addr.Range[addr.IOVA]
		want addr.IOVA
		yes  bool
	}{
		{at(0, 0x1000), 0, false},
		{at(0, 0x1001), 0x1000, true},
		{at(0x2fff, 1), 0x2fff, true},
		{at(0x3000, 0x6000), 0, false},
		{at(0x3000, 0x6001), 0x9000, true},
		{at(0xa000, 0x1000), 0, false},
		{addr.Whole[addr.IOVA](), 0x1000, true},
	} {
		got, yes := p.refusedLocked(tt.r)
		require.Equal(t, tt.yes, yes, "%v", tt.r)
		require.Equal(t, tt.want, got, "%v", tt.r)
	}
	p.permitLocked(f.rs)
	require.Empty(t, p.refused)
}

// Who is told of what, where a holding spans several ranges of a batch.
func TestBatchTellsOfEachRange(t *testing.T) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	p, err := New(st, iommu.NewSpace(nil), &Config{Limit: Unlimited})
	require.NoError(t, err)
	told := make(chan addr.Range[addr.IOVA], 8)
	o := p.NewOwner("dasd0", p.space.NewDomain("dasd0"), func(_ uint64, r addr.Range[addr.IOVA]) { told <- r })
	var ops []translate.Op
	for i := range addr.IOVA(4) {
		require.NoError(t, st.Map(i<<12, 4096, translate.Remote(nothing{}), addr.Read))
		if i != 2 {
			ops = append(ops, translate.UnmapOp(i<<12, 4096))
		}
	}
	l := o.Begin(1)
	_, err = l.Pin(0, 4<<12, addr.Read)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() { failed <- st.Apply(ctx, ops...) }()
	pages := map[addr.IOVA]bool{}
	for len(pages) < 3 {
		r := <-told
		for a := r.Start(); a < r.Last(); a += 0x1000 {
			require.False(t, pages[a], "told twice")
			pages[a] = true
		}
	}
	require.Equal(t, map[addr.IOVA]bool{0: true, 0x1000: true, 0x3000: true}, pages)
	cancel()
	require.ErrorIs(t, <-failed, errs.ErrBusy)
	l.Release()
	require.NoError(t, p.Close())
	require.NoError(t, st.Close())
}
