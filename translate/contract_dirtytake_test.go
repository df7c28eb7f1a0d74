package translate_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Property: over maps, unmaps and marks, every DirtyTake - any range, page
// size and set of ranges within - reports exactly the pages of a set of dirty
// pages that it takes them from; what vanishes is told once.
func TestN11_DirtyTakeAgainstASetOfPages(t *testing.T) {
	const pages = 600 // several words, three mappings
	rapid.Check(t, func(rt *rapid.T) {
		s, err := translate.New(nil)
		require.NoError(rt, err)
		defer s.Close()
		ram := make([]byte, pages*int(pg))
		base := addr.IOVA(rapid.SampledFrom([]uint64{0, 0x7000, 1<<64 - pages<<12}).Draw(rt, "base"))
		vanished := map[addr.IOVA]bool{}
		s.DirtyVanished(func(r addr.Range[addr.IOVA]) {
			for p := range eachPage(r) {
				require.False(rt, vanished[p], "page %v is told twice", p)
				vanished[p] = true
			}
		})
		defer s.DirtyVanished(nil)
		require.NoError(rt, s.DirtyStart())
		type piece struct{ from, n int }
		mapped := map[piece]bool{}
		dirty := map[addr.IOVA]bool{}
		at := func(page int) addr.IOVA { return base + addr.IOVA(page)<<addr.PageShift }
		taken := func(page int) (piece, bool) {
			for m := range mapped {
				if page >= m.from && page < m.from+m.n {
					return m, true
				}
			}
			return piece{}, false
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			from := rapid.IntRange(0, pages-1).Draw(rt, "from")
			n := rapid.IntRange(1, pages-from).Draw(rt, "n")
			switch rapid.SampledFrom([]string{"map", "mark", "mark", "take", "take", "unmap"}).Draw(rt, "op") {
			case "map":
				err := s.Map(at(from), addr.Len(n)*pg, translate.Bytes(ram), rw)
				if err == nil {
					mapped[piece{from, n}] = true
				}
			case "mark":
				n = min(n, 70)
				s.MarkDirty(at(from)+5, addr.Len(n-1)*pg+1)
				for p := from; p < from+n; p++ {
					if _, ok := taken(p); ok {
						dirty[at(p)] = true
					}
				}
			case "unmap":
				m, ok := taken(from)
				if !ok {
					continue
				}
				clear(vanished)
				_, err := s.Unmap(t.Context(), at(m.from), addr.Len(m.n)*pg)
				require.NoError(rt, err)
				delete(mapped, m)
				for p := m.from; p < m.from+m.n; p++ {
					require.Equal(rt, dirty[at(p)], vanished[at(p)], "page %v vanished", at(p))
					delete(dirty, at(p))
				}
			case "take":
				size := pg << rapid.IntRange(0, 3).Draw(rt, "page size")
				lo := addr.Len(at(from)) &^ (size - 1)
				hi := (addr.Len(at(from+n-1)) | (size - 1)) + 1 // 0 is 2^64
				var within []addr.Range[addr.IOVA]
				for i := range rapid.IntRange(0, 3).Draw(rt, "within") {
					f := rapid.IntRange(i*pages/3, (i+1)*pages/3-1).Draw(rt, "f")
					k := rapid.IntRange(1, (i+1)*pages/3-f).Draw(rt, "k")
					within = append(within, addr.MustRange(at(f), addr.Len(k)*pg))
				}
				bitmap := make([]uint64, (hi-lo)/size/64+1)
				for i := range (hi - lo) / size {
					bitmap[i/64] |= 1 << (i % 64) // overwritten
				}
				require.NoError(rt, s.DirtyTake(addr.IOVA(lo), hi-lo, size, bitmap, within))
				want := make([]uint64, len(bitmap))
				for p := range dirty {
					inside := within == nil
					for _, w := range within {
						inside = inside || w.Contains(p)
					}
					if inside && addr.Len(p) >= lo && addr.Len(p) <= hi-1 {
						i := (addr.Len(p) - lo) / size
						want[i/64] |= 1 << (i % 64)
						delete(dirty, p)
					}
				}
				require.Equal(rt, want, bitmap, "pages of %v at %#x+%#x within %v", size, lo, hi-lo, within)
			}
		}
	})
}

func eachPage(r addr.Range[addr.IOVA]) map[addr.IOVA]bool {
	all := map[addr.IOVA]bool{}
	for p := addr.PageOf(r.Start()); ; p += addr.IOVA(pg) {
		all[p] = true
		if p == addr.PageOf(r.Last()) {
			return all
		}
	}
}

// What a report does not take is there for the next one, also in the same bit
// of a coarser page.
func TestN11_DirtyTakeLeavesTheRest(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0, 64*pg, translate.Bytes(mapped(t, 64*int(pg))), rw))
	require.NoError(t, s.DirtyStart())
	s.MarkDirty(0, 64*pg)
	bm := make([]uint64, 1)
	within := []addr.Range[addr.IOVA]{addr.MustRange[addr.IOVA](0x3000, 0x2000)}
	require.NoError(t, s.DirtyTake(0, 64*pg, 4*pg, bm, within))
	require.Equal(t, uint64(3), bm[0], "pages 3 and 4 are in two groups of four")
	require.NoError(t, s.DirtyTake(0x2000, 0x4000, pg, bm, nil))
	require.Equal(t, uint64(0b1001), bm[0], "2 and 5; 3 and 4 were taken")
	require.NoError(t, s.DirtyTake(0, 64*pg, pg, bm, nil))
	require.Equal(t, ^uint64(0b111100), bm[0])
	require.NoError(t, s.DirtyTake(0, 64*pg, pg, bm, nil))
	require.Zero(t, bm[0])
}

// A mapping above 8 TiB logs in coarser bits: one that a range cuts is in both
// reports.
func TestN11_DirtyTakeOfACoarseLog(t *testing.T) {
	s := open(t, nil)
	const n = 1 << 44 // 16 TiB in bits of 8 KiB
	require.NoError(t, s.Map(0, n, translate.Process(0x10000), addr.Write))
	require.NoError(t, s.DirtyStart())
	s.MarkDirty(0x2000, 1)
	bm := make([]uint64, 1)
	require.NoError(t, s.DirtyTake(0, 0x3000, pg, bm, nil))
	require.Equal(t, uint64(0b100), bm[0])
	require.NoError(t, s.DirtyTake(0, 0x4000, pg, bm, nil))
	require.Equal(t, uint64(0b1100), bm[0])
	require.NoError(t, s.DirtyTake(0, 0x4000, pg, bm, nil))
	require.Zero(t, bm[0])
}

func TestDirtyTakeErrors(t *testing.T) {
	v1 := open(t, &translate.Config{V1: true})
	s := open(t, nil)
	bm := make([]uint64, 1)
	for _, x := range []struct {
		s    *translate.Store
		on   bool
		iova addr.IOVA
		n    addr.Len
		size addr.Len
		want error
	}{
		{v1, false, 0, pg, pg, errs.ErrNotV2},
		{s, false, 0, pg, pg, errs.ErrInvalid},
		{s, true, 0, 0, pg, errs.ErrInvalid},
		{s, true, 0, pg, 0, errs.ErrInvalid},
		{s, true, 0, pg, 512, errs.ErrInvalid},
		{s, true, 0, pg, 3 * pg, errs.ErrInvalid},
		{s, true, 0, 65 * pg, pg, errs.ErrInvalid},
		{s, true, 0x1000, 2 * pg, 2 * pg, errs.ErrMisaligned},
		{s, true, 1<<64 - 0x1000, 2 * pg, pg, errs.ErrOverflow},
		{s, true, 0, 64 * pg, pg, nil},
	} {
		t.Run(fmt.Sprintf("%v+%v of %v on %v", x.iova, x.n, x.size, x.on), func(t *testing.T) {
			if x.on {
				require.NoError(t, x.s.DirtyStart())
			}
			err := x.s.DirtyTake(x.iova, x.n, x.size, bm, nil)
			require.ErrorIs(t, err, x.want)
		})
	}
}
