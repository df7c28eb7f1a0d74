package mdev_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

const pg = addr.PageSize

func iovas(start addr.IOVA, n addr.Len) addr.Range[addr.IOVA] { return addr.MustRange(start, n) }

// TestLogErrors: vfio_main.c, vfio_ioctl_device_feature_logging_start and
// _report.
func TestLogErrors(t *testing.T) {
	many := func(n int) (rs []addr.Range[addr.IOVA]) {
		for i := range n {
			rs = append(rs, iovas(addr.IOVA(i)<<20, pg))
		}
		return rs
	}
	for _, x := range []struct {
		name   string
		size   addr.Len
		ranges []addr.Range[addr.IOVA]
		want   error
	}{
		{"no ranges: everything (vfio-user)", pg, nil, nil},
		{"one range", pg, many(1), nil},
		{"256 ranges", pg, many(256), nil},
		{"257 ranges: E2BIG", pg, many(257), errs.ErrBudget},
		{"start unaligned", pg, []addr.Range[addr.IOVA]{iovas(0x1800, 0x1000)}, errs.ErrMisaligned},
		{"length unaligned", pg, []addr.Range[addr.IOVA]{iovas(0x1000, 0x800)}, errs.ErrMisaligned},
		{"aligned to a smaller page", 0x800, []addr.Range[addr.IOVA]{iovas(0x1800, 0x1000)}, nil},
		{"aligned to 4 KiB only", 2 * pg, many(1), errs.ErrMisaligned},
		{"overlap", pg, []addr.Range[addr.IOVA]{iovas(0x4000, 0x2000), iovas(0x1000, 0x4000)}, errs.ErrInvalid},
		{"neighbours", pg, []addr.Range[addr.IOVA]{iovas(0x4000, 0x2000), iovas(0x1000, 0x3000)}, nil},
		{"to the last address", pg, []addr.Range[addr.IOVA]{iovas(1<<64-0x1000, 0x1000)}, nil},
		{"no page size", 0, nil, errs.ErrInvalid},
		{"no power of two", 3 * pg, nil, errs.ErrInvalid},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := mdevtest.Open(t, mdevtest.NewDevice(nil), nil)
			bm := make([]uint64, 1)
			require.ErrorIs(t, s.LogReport(0, pg, pg, bm), errs.ErrInvalid, "off")
			require.NoError(t, s.LogStop(), "off")
			require.ErrorIs(t, s.LogStart(x.size, x.ranges), x.want)
			if x.want != nil {
				require.ErrorIs(t, s.LogReport(0, pg, pg, bm), errs.ErrInvalid, "still off")
				return
			}
			require.ErrorIs(t, s.LogStart(x.size, x.ranges), errs.ErrInvalid, "on")
			for _, r := range []struct {
				iova    addr.IOVA
				n, size addr.Len
				want    error
			}{
				{0, pg, pg, nil},
				{0, 16 * pg, 16 * pg, nil},
				{0, pg, pg / 2, errs.ErrInvalid},
				{0, pg, 0, errs.ErrInvalid},
				{0, 3 * pg, 3 * pg, errs.ErrInvalid},
				{0, 0, pg, errs.ErrInvalid},
				{0, 65 * pg, pg, errs.ErrInvalid},
				{1<<64 - 0x1000, 2 * pg, pg, errs.ErrOverflow},
				{0x1000, 2 * pg, 2 * pg, errs.ErrMisaligned},
			} {
				require.ErrorIs(t, s.LogReport(r.iova, r.n, r.size, bm), r.want, "%+v", r)
			}
			require.NoError(t, s.LogStop())
			require.ErrorIs(t, s.LogReport(0, pg, pg, bm), errs.ErrInvalid)
			require.NoError(t, s.LogStart(x.size, x.ranges), "again")
		})
	}
}

// The log is of addresses: what was written there and unmapped, or mapped
// anew, is reported, once.
func TestLogOutlivesMappings(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 64*int(pg))
	dev := mdevtest.NewDevice(nil)
	s := mdevtest.Open(t, dev, nil)
	v.Map(s, 0)
	require.NoError(t, s.LogStart(pg, []addr.Range[addr.IOVA]{iovas(0x2000, 0x8000)}))
	for _, p := range []addr.IOVA{1, 2, 5, 6, 9, 10, 63} {
		require.NoError(t, dev.WriteDMA(p<<addr.PageShift, []byte{1}))
	}
	_, err := s.UnmapAll(t.Context())
	require.NoError(t, err)
	bm := make([]uint64, 1)
	require.NoError(t, s.LogReport(0x5000, 0x1000, pg, bm))
	require.Equal(t, uint64(1), bm[0])
	v.Map(s, 0)
	require.NoError(t, dev.WriteDMA(0x3000, []byte{1}))
	require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
	require.Equal(t, uint64(1<<2|1<<3|1<<6|1<<9), bm[0], "in the ranges, but for 5, which was reported")
	require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
	require.Zero(t, bm[0])

	require.NoError(t, dev.WriteDMA(0x4000, []byte{1}))
	n, err := s.UnmapDirty(t.Context(), 0, 64*pg, pg, bm)
	require.NoError(t, err)
	require.Equal(t, 64*pg, n)
	require.Equal(t, uint64(1<<4), bm[0])
	require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
	require.Zero(t, bm[0], "UnmapDirty has reported it")

	v.Map(s, 0)
	require.NoError(t, dev.WriteDMA(0x4000, []byte{1}))
	_, err = s.UnmapAll(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.LogStop())
	require.NoError(t, s.LogStart(pg, nil))
	require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
	require.Zero(t, bm[0], "a new log")
}

// What the device may be writing is dirty each time.
func TestLogOfHeldMemory(t *testing.T) {
	v := mdevtest.NewVMM(t, 64*int(pg))
	dev := mdevtest.NewDevice(nil)
	s := mdevtest.Open(t, dev, nil)
	v.Map(s, 0)
	require.NoError(t, s.LogStart(pg, nil))
	lease, _, err := dev.Hold(0x3000, 0x2000, addr.Write)
	require.NoError(t, err)
	bm := make([]uint64, 1)
	for range 3 {
		require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
		require.Equal(t, uint64(0b11000), bm[0])
	}
	lease.Release()
	require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
	require.Equal(t, uint64(0b11000), bm[0], "written up to the release")
	require.NoError(t, s.LogReport(0, 64*pg, pg, bm))
	require.Zero(t, bm[0])
}

// Property: over writes, maps and unmaps, every report - any range and page
// size - equals what a set of dirty pages says.
func TestLogAgainstASetOfPages(t *testing.T) {
	const pages = 300
	rapid.Check(t, func(rt *rapid.T) {
		dev := mdevtest.NewDevice(nil)
		s, err := mdev.Open(t.Context(), dev, nil)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, s.Close(t.Context())) }()
		base := addr.IOVA(rapid.SampledFrom([]uint64{0, 0x13_7000, 1<<64 - pages<<12}).Draw(rt, "base"))
		at := func(p int) addr.IOVA { return base + addr.IOVA(p)<<addr.PageShift }
		var within []addr.Range[addr.IOVA]
		for i := range rapid.IntRange(0, 3).Draw(rt, "ranges") {
			f := rapid.IntRange(i*100, i*100+99).Draw(rt, "f")
			within = append(within, iovas(at(f), addr.Len(rapid.IntRange(1, i*100+100-f).Draw(rt, "k"))*pg))
		}
		require.NoError(rt, s.LogStart(pg, within))
		ram := make([]byte, pages*int(pg))
		mapped := map[int]int{} // first page: pages
		dirty := map[addr.IOVA]bool{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			from := rapid.IntRange(0, pages-1).Draw(rt, "from")
			n := rapid.IntRange(1, pages-from).Draw(rt, "n")
			switch rapid.SampledFrom([]string{"map", "write", "write", "report", "unmap", "unmap all"}).Draw(rt, "op") {
			case "map":
				if s.Map(at(from), addr.Len(n)*pg, translate.Bytes(ram), addr.ReadWrite) == nil {
					mapped[from] = n
				}
			case "write":
				n = min(n, 70)
				if dev.WriteDMA(at(from), make([]byte, n*int(pg))) == nil {
					for p := range n {
						dirty[at(from+p)] = true
					}
				}
			case "unmap":
				for f, n := range mapped {
					if from >= f && from < f+n {
						_, err := s.Unmap(t.Context(), at(f), addr.Len(n)*pg)
						require.NoError(rt, err)
						delete(mapped, f)
					}
				}
			case "unmap all":
				_, err := s.UnmapAll(t.Context())
				require.NoError(rt, err)
				clear(mapped)
			case "report":
				size := pg << rapid.IntRange(0, 4).Draw(rt, "page size")
				lo := addr.Len(at(from)) &^ (size - 1)
				last := addr.Len(at(from+n-1)) | (size - 1)
				bm := make([]uint64, (last-lo)/size/64+1)
				require.NoError(rt, s.LogReport(addr.IOVA(lo), last-lo+1, size, bm))
				want := make([]uint64, len(bm))
				for p := range dirty {
					inside := within == nil
					for _, w := range within {
						inside = inside || w.Contains(p)
					}
					if inside && addr.Len(p) >= lo && addr.Len(p) <= last {
						i := (addr.Len(p) - lo) / size
						want[i/64] |= 1 << (i % 64)
						delete(dirty, p)
					}
				}
				require.Equal(rt, want, bm, "%#x to %#x in pages of %v within %v", lo, last, size, within)
			}
		}
	})
}

// No bit is lost: a device writes, its VMM unmaps, maps and asks for reports at
// the same time; in the end every page that was written has been reported.
func TestLogLosesNothing(t *testing.T) {
	const pages = 64
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	dev := mdevtest.NewDevice(nil)
	s := mdevtest.Open(t, dev, nil)
	ram := make([]byte, pages*int(pg))
	for round := range rounds {
		require.NoError(t, s.LogStart(pg, nil))
		var wg sync.WaitGroup
		var written, reported [pages]bool
		wg.Go(func() {
			for _, p := range rand.Perm(pages) {
				written[p] = dev.WriteDMA(addr.IOVA(p)<<addr.PageShift, []byte{1}) == nil
			}
		})
		report := func() {
			bm := make([]uint64, 1)
			if err := s.LogReport(0, pages*pg, pg, bm); err != nil {
				t.Error(err)
			}
			for p := range pages {
				reported[p] = reported[p] || bm[0]>>p&1 != 0
			}
		}
		wg.Go(func() {
			for range 5 {
				report()
			}
		})
		for range 4 {
			if s.Map(0, pages*pg, translate.Bytes(ram), addr.ReadWrite) == nil && round%2 == 0 {
				_, err := s.UnmapAll(t.Context())
				require.NoError(t, err)
			}
		}
		wg.Wait()
		report()
		for p := range pages {
			require.False(t, written[p] && !reported[p], "round %d: page %d was written and not reported", round, p)
		}
		require.NoError(t, s.LogStop())
		_, err := s.UnmapAll(t.Context())
		require.NoError(t, err)
	}
}

func ExampleSession_LogReport() {
	dev := mdevtest.NewDevice(nil)
	s, err := mdev.Open(ctx, dev, nil)
	if err != nil {
		panic(err)
	}
	defer s.Close(ctx)
	ram := make([]byte, 16<<12)
	_ = s.Map(0, addr.Len(len(ram)), translate.Bytes(ram), addr.ReadWrite)
	_ = s.LogStart(4096, nil)
	_ = dev.WriteDMA(0x3ff0, make([]byte, 0x20)) // what the device does

	bitmap := make([]uint64, 1)
	_ = s.LogReport(0, 0x10000, 0x1000, bitmap)
	fmt.Printf("%016b\n", bitmap[0])
	_ = dev.WriteDMA(0x3ff0, make([]byte, 0x20))
	_ = s.LogReport(0, 0x10000, 0x2000, bitmap)
	fmt.Printf("%08b\n", bitmap[0])
	// Output:
	// 0000000000011000
	// 00000110
}
