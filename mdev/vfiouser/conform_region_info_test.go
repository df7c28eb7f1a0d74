//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_device_get_region_info.py, test_device_get_region_info_zero_size.py.
func TestConformRegionInfo(t *testing.T) {
	caps := cat(wire.RegionInfo{Argsz: 64, Flags: 0xf, Index: rigSparse, CapOffset: 32, Size: 0x10000, Offset: 0x10000},
		wire.AppendRegionCaps(nil, []wire.SparseArea{{Offset: 0x1000, Size: 0x3000}}, nil))
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_device_get_region_info_short_write: section 7", wire.CmdRegionInfo, make([]byte, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_info_bad_argsz: section 7", wire.CmdRegionInfo, regionInfo(8, rigRegs), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_info_bad_index: section 7", wire.CmdRegionInfo, regionInfo(32, 10), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_info_larger_argsz: section 7", wire.CmdRegionInfo, regionInfo(40, rigRegs), 0, 0, 0, "",
			wire.RegionInfo{Argsz: 32, Flags: 3, Index: rigRegs, Size: 4096}.Append(nil)},
		{"test_device_get_region_info_small_argsz_caps: section 7, no CAPS, argsz says how much", wire.CmdRegionInfo, regionInfo(32, rigSparse), 0, 0, 0, "",
			wire.RegionInfo{Argsz: 64, Flags: 7, Index: rigSparse, Size: 0x10000, Offset: 0x10000}.Append(nil)},
		{"test_device_get_region_info_caps: section 7", wire.CmdRegionInfo, regionInfo(64, rigSparse), 0, 0, 0, "", caps},
		// There the request is padded to argsz.
		{"test_device_get_region_info_caps: with room behind the request", wire.CmdRegionInfo, append(regionInfo(64, rigSparse), make([]byte, 32)...), 0, unix.EINVAL, 0, "exact-lengths", nil},
		{"test_device_get_region_info_zero_size: section 7, an absent region", wire.CmdRegionInfo, regionInfo(32, mdev.BAR1), 0, 0, 0, "",
			wire.RegionInfo{Argsz: 32, Index: mdev.BAR1}.Append(nil)},
		{"test_device_get_pci_config_space_info_implicit_pci_init: section 7", wire.CmdRegionInfo, regionInfo(40, mdev.Config), 0, 0, 0, "",
			wire.RegionInfo{Argsz: 32, Flags: 3, Index: mdev.Config, Size: 256}.Append(nil)},
		{"handle_device_get_region_info: a field that is not zero", wire.CmdRegionInfo, wire.RegionInfo{Argsz: 32, Size: 1}.Append(nil), 0, unix.EINVAL, 0, "zero-fields", nil},
	})
}

// Our client: the second round, the areas, the file and where in it they are,
// the type of a region.
func TestConformRegionInfoClient(t *testing.T) {
	d := newDuo(t, nil, nil, nil)
	for i := range 10 {
		got, err := d.RegionInfo(d.ctx, i)
		require.NoError(t, err)
		want := d.dev.info.Regions[i]
		require.Equal(t, want.Size, got.Size, "%d", i)
		require.Equal(t, want.Flags, got.Flags)
		require.Equal(t, want.MemoryOffset, got.MemoryOffset)
		require.Equal(t, want.Type, got.Type)
		if want.Memory == nil {
			require.Nil(t, got.Memory)
			continue
		}
		areas := want.Areas
		if areas == nil {
			areas = []mdev.Area{{Size: want.Size}}
		}
		require.Equal(t, areas, got.Areas)
		sameFile(t, int(want.Memory.Fd()), int(got.Memory.Fd()))
		require.NoError(t, got.Memory.Close())
	}
}
