//go:build linux

package vfiouser

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// Numbers at the ends of 64 bits, of 63 and of the address space, in every
// field that has one: refused or done, each leaves the session as good as it
// was, and what was mapped can be unmapped.
func TestAttackNumbers(t *testing.T) {
	r := negotiated(t, nil)
	fd := memFile(t, 1<<20)
	numbers := []uint64{0, 1, 4095, 4096, 1 << 31, 1 << 32, 1 << 47, 1<<63 - 4096, 1<<63 - 1, 1 << 63, math.MaxUint64 - 4096, math.MaxUint64 - 4095, math.MaxUint64}
	feature := func(f wire.Feature, op wire.FeatureFlags, data []byte) []byte {
		return append(wire.DeviceFeature{Argsz: 1 << 20, Flags: op | wire.FeatureFlags(f)}.Append(nil), data...)
	}
	for _, a := range numbers {
		for _, n := range numbers {
			for _, off := range []uint64{0, 4096, 1<<63 - 4096, 1 << 63, math.MaxUint64} {
				p := wire.DMAMap{Argsz: 32, Flags: 3, Offset: off, Address: a, Size: n}.Append(nil)
				if r.errno(wire.CmdDMAMap, p, fd) == 0 {
					require.Zero(t, r.unmap(a, n), "address %#x size %#x offset %#x", a, n, off)
				}
			}
			if r.mapNothing(a, n, 3) == 0 {
				require.Zero(t, r.unmap(a, n), "address %#x size %#x", a, n)
			}
			require.Equal(t, unix.ENOENT, r.unmap(a, n), "address %#x size %#x", a, n)
			for _, page := range []uint64{0, 1, 4096, 1 << 20, 1 << 63} {
				ranges := append(wire.LogStart{PageSize: page, NumRanges: 1}.Append(nil), wire.LogRange{IOVA: a, Length: n}.Append(nil)...)
				r.call(wire.CmdFeature, feature(wire.FeatureDMALoggingStart, wire.FeatureSet, ranges))
				r.call(wire.CmdFeature, feature(wire.FeatureDMALoggingReport, wire.FeatureGet, wire.LogReport{IOVA: a, Length: n, PageSize: page}.Append(nil)))
				r.call(wire.CmdFeature, feature(wire.FeatureDMALoggingStop, wire.FeatureSet, nil))
				dirty := append(wire.DMAUnmap{Argsz: 1 << 20, Flags: wire.UnmapDirtyBitmap, Address: a, Size: n}.Append(nil), wire.Bitmap{PageSize: page, Size: n}.Append(nil)...)
				r.call(wire.CmdDMAUnmap, dirty)
			}
			for _, c := range []wire.Command{wire.CmdRegionRead, wire.CmdRegionWrite} {
				r.call(c, wire.RegionAccess{Offset: a, Region: uint32(n), Count: 0}.Append(nil))
				r.call(c, wire.RegionAccess{Offset: a, Region: rigRegs, Count: uint32(n)}.Append(nil))
			}
			r.call(wire.CmdSetIRQs, wire.SetIRQs{Argsz: 20, Flags: 0x21, Index: 2, Start: uint32(a), Count: uint32(n)}.Append(nil))
			r.call(wire.CmdSetIRQs, wire.SetIRQs{Argsz: 20, Flags: 0x24, Index: uint32(a), Start: uint32(n), Count: uint32(n)}.Append(nil))
			r.call(wire.CmdWriteMulti, wire.AppendCount(nil, a^n))
			r.call(wire.CmdMigDataRead, wire.MigData{Argsz: uint32(a), Size: uint32(n)}.Append(nil))
		}
	}
	require.Empty(t, r.mappings())
	r.alive()
}
