//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

func feature(argsz uint32, flags wire.FeatureFlags, data ...any) []byte {
	return cat(append([]any{wire.DeviceFeature{Argsz: argsz, Flags: flags}}, data...)...)
}

// TestFeature: specs, "DEVICE_FEATURE (16)".
func TestFeature(t *testing.T) {
	const get, set, probe = wire.FeatureGet, wire.FeatureSet, wire.FeatureProbe
	rows := []wireRow{
		{"PROBE: the request is echoed", wire.CmdFeature, feature(8, probe|1), 0, 0, feature(8, probe|1)},
		{"PROBE with GET of MIGRATION", wire.CmdFeature, feature(8, probe|get|1), 0, 0, feature(8, probe|get|1)},
		{"PROBE with SET of MIGRATION: there is none", wire.CmdFeature, feature(8, probe|set|1), 0, unix.EINVAL, nil},
		{"PROBE with GET and SET of MIG_DEVICE_STATE", wire.CmdFeature, feature(8, probe|get|set|2), 0, 0, feature(8, probe|get|set|2)},
		{"PROBE with SET of DMA_LOGGING_START", wire.CmdFeature, feature(8, probe|set|6), 0, 0, feature(8, probe|set|6)},
		{"PROBE with GET of DMA_LOGGING_START", wire.CmdFeature, feature(8, probe|get|6), 0, unix.EINVAL, nil},
		{"PROBE with SET of DMA_LOGGING_STOP", wire.CmdFeature, feature(8, probe|set|7), 0, 0, feature(8, probe|set|7)},
		{"PROBE with GET of DMA_LOGGING_REPORT", wire.CmdFeature, feature(8, probe|get|8), 0, 0, feature(8, probe|get|8)},
		{"PROBE of what there is not", wire.CmdFeature, feature(8, probe|3), 0, unix.EINVAL, nil},
		{"PROBE with data, which is not used", wire.CmdFeature, feature(16, probe|1, make([]byte, 8)), 0, unix.EINVAL, nil},
		{"feature 0", wire.CmdFeature, feature(16, get), 0, unix.EINVAL, nil},
		{"feature 65535", wire.CmdFeature, feature(16, get|65535), 0, unix.EINVAL, nil},
		{"no operation", wire.CmdFeature, feature(16, 1), 0, unix.EINVAL, nil},
		{"GET and SET at once", wire.CmdFeature, feature(16, get|set|2, wire.MigState{State: 1}), 0, unix.EINVAL, nil},
		{"an unknown flag", wire.CmdFeature, feature(16, get|1<<19|1), 0, unix.EINVAL, nil},
		{"MIGRATION: the flags of the device", wire.CmdFeature, feature(16, get|1), 0, 0, feature(16, get|1, wire.MigrationStopCopy|wire.MigrationPreCopy)},
		{"more room than needed", wire.CmdFeature, feature(4096, get|1), 0, 0, feature(16, get|1, wire.MigrationStopCopy|wire.MigrationPreCopy)},
		{"too little room", wire.CmdFeature, feature(15, get|1), 0, unix.EINVAL, nil},
		{"data where none is asked for", wire.CmdFeature, feature(16, get|1, make([]byte, 8)), 0, unix.EINVAL, nil},
		{"MIG_DEVICE_STATE: RUNNING at first", wire.CmdFeature, feature(16, get|2), 0, 0, feature(16, get|2, wire.MigState{State: 2})},
		{"too little room for it", wire.CmdFeature, feature(15, get|2), 0, unix.EINVAL, nil},
		{"SET: the request is echoed", wire.CmdFeature, feature(16, set|2, wire.MigState{State: 1, DataFD: 7}), 0, 0, feature(16, set|2, wire.MigState{State: 1, DataFD: 7})},
		{"and it is in STOP", wire.CmdFeature, feature(16, get|2), 0, 0, feature(16, get|2, wire.MigState{State: 1})},
		{"back to RUNNING", wire.CmdFeature, feature(16, set|2, wire.MigState{State: 2}), 0, 0, nil},
		{"ERROR cannot be requested", wire.CmdFeature, feature(16, set|2, wire.MigState{State: 0}), 0, unix.EINVAL, nil},
		{"state 8", wire.CmdFeature, feature(16, set|2, wire.MigState{State: 8}), 0, unix.EINVAL, nil},
		{"state 2^32-1", wire.CmdFeature, feature(16, set|2, wire.MigState{State: 1<<32 - 1}), 0, unix.EINVAL, nil},
		{"a short state", wire.CmdFeature, feature(16, set|2, make([]byte, 7)), 0, unix.EINVAL, nil},
		{"a long state", wire.CmdFeature, feature(17, set|2, make([]byte, 9)), 0, unix.EINVAL, nil},
		{"argsz below the payload", wire.CmdFeature, feature(15, set|2, wire.MigState{State: 1}), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdFeature, feature(16, get|1)[:7], 0, unix.EINVAL, nil},
	}
	negotiated(t, nil).run(t, rows)

	t.Run("a device that does not migrate", func(t *testing.T) {
		r := negotiated(t, nil, func(d *rigDevice) { d.info.Migration = 0 })
		r.run(t, []wireRow{
			{"MIGRATION", wire.CmdFeature, feature(16, get|1), 0, unix.EINVAL, nil},
			{"PROBE of it", wire.CmdFeature, feature(8, probe|1), 0, unix.EINVAL, nil},
			{"MIG_DEVICE_STATE", wire.CmdFeature, feature(16, get|2), 0, unix.EINVAL, nil},
			{"logging is the store's", wire.CmdFeature, feature(8, probe|set|6), 0, 0, nil},
			{"MIG_DATA_READ", wire.CmdMigDataRead, wire.MigData{Argsz: 16, Size: 8}.Append(nil), 0, unix.EINVAL, nil},
			{"MIG_DATA_WRITE", wire.CmdMigDataWrite, wire.MigData{Argsz: 8}.Append(nil), 0, unix.EINVAL, nil},
		})
	})
}

// TestDMALogging: specs, features 6, 7 and 8.
func TestDMALogging(t *testing.T) {
	const get, set = wire.FeatureGet, wire.FeatureSet
	r := negotiated(t, nil)
	require.Zero(t, r.mapFile(0, 128<<12, 0, 3, memFile(t, 1<<20)))
	report := func(iova, n, pageSize uint64) []byte {
		return feature(48, get|8, wire.LogReport{IOVA: iova, Length: n, PageSize: pageSize})
	}
	bitmap := func(iova, n, pageSize uint64, words ...uint64) []byte {
		argsz := uint32(32 + 8*len(words))
		return wire.AppendBits(feature(argsz, get|8, wire.LogReport{IOVA: iova, Length: n, PageSize: pageSize}), words)
	}
	start := func(l wire.LogStart, ranges ...any) []byte {
		return feature(uint32(24+16*len(ranges)), set|6, append([]any{l}, ranges...)...)
	}
	r.run(t, []wireRow{
		{"a report while nothing is logged", wire.CmdFeature, report(0, 128<<12, 4096), 0, unix.EINVAL, nil},
		{"a reserved field", wire.CmdFeature, start(wire.LogStart{PageSize: 4096, Reserved: 1}), 0, unix.EINVAL, nil},
		{"fewer ranges than claimed", wire.CmdFeature, start(wire.LogStart{PageSize: 4096, NumRanges: 2}, wire.LogRange{Length: 4096}), 0, unix.EINVAL, nil},
		{"more", wire.CmdFeature, start(wire.LogStart{PageSize: 4096}, wire.LogRange{Length: 4096}), 0, unix.EINVAL, nil},
		{"2^32-1 ranges", wire.CmdFeature, start(wire.LogStart{PageSize: 4096, NumRanges: 1<<32 - 1}), 0, unix.EINVAL, nil},
		{"a range of nothing", wire.CmdFeature, start(wire.LogStart{PageSize: 4096, NumRanges: 1}, wire.LogRange{IOVA: 4096}), 0, unix.EINVAL, nil},
		{"a range that passes 2^64", wire.CmdFeature, start(wire.LogStart{PageSize: 4096, NumRanges: 1}, wire.LogRange{IOVA: ^uint64(0xfff), Length: 8192}), 0, unix.EINVAL, nil},
		{"a short request", wire.CmdFeature, feature(23, set|6, make([]byte, 15)), 0, unix.EINVAL, nil},
		{"argsz below the payload", wire.CmdFeature, feature(23, set|6, wire.LogStart{PageSize: 4096}), 0, unix.EINVAL, nil},
		{"0 ranges: everything", wire.CmdFeature, start(wire.LogStart{PageSize: 4096}), 0, 0, start(wire.LogStart{PageSize: 4096})},
	})
	for _, page := range []addr.IOVA{1, 64, 127} {
		require.NoError(t, r.dev.dma(page<<12, []byte{1}, true))
	}
	r.run(t, []wireRow{
		{"one bit a page, the rest of the request before it", wire.CmdFeature, report(0, 128<<12, 4096), 0, 0, bitmap(0, 128<<12, 4096, 2, 1|1<<63)},
		{"which are clean now", wire.CmdFeature, report(0, 128<<12, 4096), 0, 0, bitmap(0, 128<<12, 4096, 0, 0)},
		{"page size 0", wire.CmdFeature, report(0, 128<<12, 0), 0, unix.EINVAL, nil},
		{"no power of 2", wire.CmdFeature, report(0, 128<<12, 0x3000), 0, unix.EINVAL, nil},
		{"no length", wire.CmdFeature, report(0, 0, 4096), 0, unix.EINVAL, nil},
		{"past 2^64", wire.CmdFeature, report(^uint64(0xfff), 0x2000, 4096), 0, unix.EOVERFLOW, nil},
		{"a bitmap larger than max_data_xfer_size", wire.CmdFeature, report(0, 1<<63, 4096), 0, unix.EINVAL, nil},
		{"argsz without room for it", wire.CmdFeature, feature(39, get|8, wire.LogReport{Length: 64 << 12, PageSize: 4096}), 0, unix.EINVAL, nil},
		{"a short request", wire.CmdFeature, feature(48, get|8, make([]byte, 23)), 0, unix.EINVAL, nil},
		{"a long request", wire.CmdFeature, feature(48, get|8, make([]byte, 25)), 0, unix.EINVAL, nil},
	})
	require.NoError(t, r.dev.dma(5<<12, []byte{1}, true))
	r.run(t, []wireRow{
		{"another page size", wire.CmdFeature, report(0, 128<<12, 16384), 0, 0, bitmap(0, 128<<12, 16384, 2)},
		{"STOP with data", wire.CmdFeature, feature(16, set|7, make([]byte, 8)), 0, unix.EINVAL, nil},
		{"STOP", wire.CmdFeature, feature(8, set|7), 0, 0, feature(8, set|7)},
		{"nothing is logged any more", wire.CmdFeature, report(0, 128<<12, 4096), 0, unix.EINVAL, nil},
	})
}

// TestMigration: specs, "MIG_DATA_READ (17)", "MIG_DATA_WRITE (18)": the state
// of one device becomes that of another.
func TestMigration(t *testing.T) {
	const set = wire.FeatureSet
	state := func(n uint32) []byte { return feature(16, set|2, wire.MigState{State: n}) }
	ask := func(argsz, n uint32) []byte { return wire.MigData{Argsz: argsz, Size: n}.Append(nil) }
	put := func(argsz, n uint32, data ...byte) []byte { return append(ask(argsz, n), data...) }

	from := negotiated(t, nil)
	from.run(t, []wireRow{
		{"nothing to read in RUNNING", wire.CmdMigDataRead, ask(108, 100), 0, unix.EINVAL, nil},
		{"nor to write", wire.CmdMigDataWrite, put(9, 1, 1), 0, unix.EINVAL, nil},
		{"to PRE_COPY", wire.CmdFeature, state(6), 0, 0, nil},
		{"argsz without room", wire.CmdMigDataRead, ask(107, 100), 0, unix.EINVAL, nil},
		{"more than max_data_xfer_size", wire.CmdMigDataRead, ask(1<<32-1, 1<<20+1), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdMigDataRead, ask(108, 100)[:7], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdMigDataRead, append(ask(109, 100), 0), 0, unix.EINVAL, nil},
		{"writing while saving", wire.CmdMigDataWrite, put(9, 1, 1), 0, unix.EINVAL, nil},
	})
	var stream []byte
	drain := func(size uint32) {
		for {
			body := from.ok(wire.CmdMigDataRead, ask(8+size, size))
			d := wire.DecodeMigData((*[8]byte)(body))
			require.Equal(t, int(d.Size), len(body)-8)
			require.Equal(t, int(d.Argsz), len(body))
			stream = append(stream, body[8:]...)
			if d.Size < size { // "a size below the request = end of stream"
				return
			}
		}
	}
	drain(1000)
	from.ok(wire.CmdFeature, state(3)) // STOP_COPY
	require.Equal(t, unix.EINVAL, from.errno(wire.CmdFeature, state(6)), "STOP_COPY to PRE_COPY is refused")
	drain(777)
	drain(1 << 20) // the end stays the end

	to := negotiated(t, nil)
	require.Equal(t, unix.EINVAL, to.errno(wire.CmdMigDataWrite, put(9, 1, 1)), "not RESUMING")
	to.ok(wire.CmdFeature, state(4)) // RESUMING
	for name, bad := range map[string][]byte{
		"more size than data": put(16, 8, 1, 2),
		"less size than data": put(16, 1, 1, 2),
		"argsz below":         put(8, 1, 1),
		"short":               put(8, 0)[:7],
	} {
		require.Equal(t, unix.EINVAL, to.errno(wire.CmdMigDataWrite, bad), name)
	}
	require.Equal(t, unix.EINVAL, to.errno(wire.CmdMigDataRead, ask(16, 8)), "no reading while resuming")
	for len(stream) > 0 {
		n := min(len(stream), 999)
		require.Empty(t, to.ok(wire.CmdMigDataWrite, put(uint32(8+n), uint32(n), stream[:n]...)))
		stream = stream[n:]
	}
	to.ok(wire.CmdFeature, state(2)) // by way of STOP
	to.dev.mu.Lock()
	defer to.dev.mu.Unlock()
	want := "early" + string(from.dev.state) // what was saved early, then the rest
	require.Equal(t, len(want), len(to.dev.loaded))
	require.True(t, want == string(to.dev.loaded))
}
