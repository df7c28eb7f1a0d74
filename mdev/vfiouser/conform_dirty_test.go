//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// test_dirty_pages.py: what is refused.
func TestConformDirtyRefused(t *testing.T) {
	const (
		start  = wire.FeatureSet | wire.FeatureFlags(wire.FeatureDMALoggingStart)
		stop   = wire.FeatureSet | wire.FeatureFlags(wire.FeatureDMALoggingStop)
		report = wire.FeatureGet | wire.FeatureFlags(wire.FeatureDMALoggingReport)
	)
	log := func(f wire.FeatureFlags, page uint64, ranges ...wire.LogRange) []byte {
		b := wire.LogStart{PageSize: page, NumRanges: uint32(len(ranges))}.Append(nil)
		for _, r := range ranges {
			b = r.Append(b)
		}
		return reqFeature(uint32(8+len(b)), f, b...)
	}
	ask := func(iova, n, page uint64, bits uint32) []byte {
		return reqFeature(8+24+bits, report, wire.LogReport{IOVA: iova, Length: n, PageSize: page}.Append(nil)...)
	}
	r := negotiated(t, nil)
	require.Zero(t, r.mapFile(0x10000, 0x20000, 0, accessRW, memFile(t, 0x20000)))
	require.Zero(t, r.mapNothing(0x40000, 0x10000, accessRW))
	r.scenarios(t, []scenario{
		{"test_dirty_pages_start_zero_pgsize: section 16", wire.CmdFeature, log(start, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dirty_pages_get_unmodified: section 16, before the log is on", wire.CmdFeature, ask(0x10000, 0x10000, 4096, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dirty_pages_start: section 16, a range beyond 2^64", wire.CmdFeature, log(start, 4096, wire.LogRange{IOVA: 1<<64 - 4096, Length: 8192}), 0, unix.EINVAL, 0, "log-ranges", nil},
		{"test_dirty_pages_start: section 16, a number of ranges without ranges", wire.CmdFeature, reqFeature(24, start, wire.LogStart{PageSize: 4096, NumRanges: 7}.Append(nil)...), 0, unix.EINVAL, 0, "log-ranges", nil},
		{"test_dirty_pages_start: section 16", wire.CmdFeature, log(start, 4096), 0, 0, 0, "", log(start, 4096)},
		{"test_dirty_pages_start: should be idempotent", wire.CmdFeature, log(start, 4096), 0, unix.EINVAL, 0, "log-start-twice", nil},
		{"test_dirty_pages_start_different_pgsize: smaller", wire.CmdFeature, log(start, 2048), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dirty_pages_start_different_pgsize: larger", wire.CmdFeature, log(start, 8192), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dirty_pages_get_unmodified: section 16", wire.CmdFeature, ask(0x10000, 0x20000, 4096, 8), 0, 0, 0, "",
			reqFeature(8+24+8, report, append(wire.LogReport{IOVA: 0x10000, Length: 0x20000, PageSize: 4096}.Append(nil), make([]byte, 8)...)...)},
		{"test_dirty_pages_invalid_arguments: nothing is mapped there", wire.CmdFeature, ask(0xdeadb000, 0x10000, 4096, 8), 0, 0, unix.ENOENT, "log-report-range", nil},
		{"test_dirty_pages_invalid_arguments: a page and a half", wire.CmdFeature, ask(0x10001, 0x1ffff, 4096, 8), 0, unix.EINVAL, unix.ENOTSUP, "log-report-range", nil},
		{"test_dirty_pages_invalid_arguments: half of a mapping", wire.CmdFeature, ask(0x11000, 0x1000, 4096, 8), 0, 0, unix.ENOTSUP, "log-report-range", nil},
		{"test_dirty_pages_invalid_arguments: pages larger than what is asked for", wire.CmdFeature, ask(0x10000, 0x10000, 1<<24, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dirty_pages_invalid_arguments: memory without a file", wire.CmdFeature, ask(0x40000, 0x10000, 4096, 8), 0, 0, unix.EINVAL, "log-report-messages", nil},
		{"test_dirty_pages_get_modified: pages smaller than ours", wire.CmdFeature, ask(0x10000, 0x20000, 2048, 8), 0, unix.EINVAL, 0, "log-small-pages", nil},
		{"test_device_feature_bad_argsz_get_dma: section 16, no room for the bits", wire.CmdFeature, ask(0x10000, 0x20000, 4096, 7), 0, unix.EINVAL, unix.EINVAL, "", nil},
		// There the structure of START goes with STOP, and is not looked at.
		{"test_dirty_pages_stop: section 16, none", wire.CmdFeature, reqFeature(8, stop), 0, 0, 0, "", reqFeature(8, stop)},
		{"test_dirty_pages_stop: with a structure", wire.CmdFeature, log(stop, 4096), 0, unix.EINVAL, 0, "log-stop-data", nil},
	})
}

// test_dirty_pages.py: test_dirty_pages_get_modified: which bit is which page,
// in pages of several sizes, and what was reported is clean again. By the
// device itself, and by messages, which are the client's to track (section
// 16).
func TestConformDirty(t *testing.T) {
	for _, byMessage := range []bool{false, true} {
		d := newDuo(t, nil, &ClientConfig{TwinSocket: true}, nil)
		const base = 0x10 << 12
		if byMessage {
			require.NoError(t, d.MapDMA(d.ctx, base, 0x20<<12, addr.ReadWrite, translate.Bytes(make([]byte, 0x20<<12))))
		} else {
			require.NoError(t, d.MapDMAFD(d.ctx, base, 0x20<<12, addr.ReadWrite, memFile(t, 0x20<<12), 0))
		}
		require.NoError(t, d.LogStart(d.ctx, 4096, nil))
		write := func(page, n int) {
			t.Helper()
			require.NoError(t, d.dev.dma(addr.IOVA(page<<12), make([]byte, n<<12), true))
		}
		report := func(pageSize addr.Len) uint64 {
			t.Helper()
			b := []uint64{^uint64(0)}
			require.NoError(t, d.LogReport(d.ctx, base, 0x20<<12, pageSize, b))
			return b[0]
		}
		require.Zero(t, report(4096))
		require.NoError(t, d.dev.dma(0x11<<12, make([]byte, 4096), false), "read only")
		require.Zero(t, report(4096))
		some := func() { write(0x10, 1); write(0x16, 4) }
		some()
		require.Equal(t, uint64(0b0000001111000001), report(4096))
		require.Zero(t, report(4096), "clean again")
		some()
		require.Equal(t, uint64(0b00011001), report(8192))
		some()
		require.Equal(t, uint64(0b1), report(16*4096))
		require.Zero(t, report(16*4096))
		for _, tt := range []struct {
			page, n int
			want    uint64
		}{
			{0x10, 1, 0b1},                        // very first bit
			{0x17, 1, 0b10000000},                 // top bit of the first byte
			{0x10, 7, 0b1111111},                  // all but that
			{0x10, 8, 0b11111111},                 // the first byte
			{0x10, 9, 0b111111111},                // and a bit of the next
			{0x17, 2, 0b110000000},                // over the edge
			{0x1f, 1, 0b1000000000000000},         // top bit of the second byte
			{0x27, 1, 0b100000000000000000000000}, // and of the third
			{0x2f, 1, 1 << 31},                    // the last page
		} {
			write(tt.page, tt.n)
			require.Equal(t, tt.want, report(4096), "pages %#x+%d", tt.page, tt.n)
		}
		write(0x26, 1)
		write(0x12, 2)
		require.Equal(t, uint64(0b010000000000000000001100), report(4096), "bits in the third and first byte")
		write(0x10, 1)
		b := []uint64{0}
		require.NoError(t, d.LogReport(d.ctx, 0x11<<12, 1<<12, 4096, b))
		require.Zero(t, b[0])
		require.Equal(t, uint64(1), report(4096), "what was not asked for is kept")
		require.NoError(t, d.LogStop(d.ctx))
		require.Equal(t, unix.EINVAL, errs.Errno(d.LogReport(d.ctx, base, 1<<12, 4096, b)))
		require.NoError(t, d.Close())
	}
}

// test_dirty_pages.py: test_dirty_pages_ctx_no_stop: mappings come and go while
// the log is on, and nobody stops it. What was dirty in a mapping that is gone
// is still reported: there it is not.
func TestConformDirtyUnmapped(t *testing.T) {
	differs(t, "log-report-range")
	d := newDuo(t, nil, nil, nil)
	f1, f2 := memFile(t, 0x10<<12), memFile(t, 0x10<<12)
	require.NoError(t, d.MapDMAFD(d.ctx, 0x10<<12, 0x10<<12, addr.ReadWrite, f1, 0))
	require.NoError(t, d.MapDMAFD(d.ctx, 0x30<<12, 0x10<<12, addr.ReadWrite, f2, 0))
	require.NoError(t, d.LogStart(d.ctx, 4096, nil))
	require.NoError(t, d.dev.dma(0x10<<12, []byte{1}, true))
	require.NoError(t, d.dev.dma(0x32<<12, []byte{1}, true))
	require.NoError(t, d.UnmapDMA(d.ctx, 0x10<<12, 0x10<<12))
	b := []uint64{0}
	require.NoError(t, d.LogReport(d.ctx, 0x10<<12, 0x10<<12, 4096, b))
	require.Equal(t, uint64(1), b[0])
	require.NoError(t, d.LogReport(d.ctx, 0x30<<12, 0x10<<12, 4096, b))
	require.Equal(t, uint64(0b100), b[0])

	// Section 5, GET_DIRTY_BITMAP: the bits come with the unmap.
	require.NoError(t, d.dev.dma(0x3f<<12, []byte{1}, true))
	require.NoError(t, d.UnmapDMADirty(d.ctx, 0x30<<12, 0x10<<12, 4096, b))
	require.Equal(t, uint64(1<<15), b[0])
}
