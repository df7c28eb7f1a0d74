package mdev_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// What a device may not say of itself: front ends do not look again.
func TestInfoIsChecked(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	mapped := func(i *mdev.Info, areas ...mdev.Area) *mdev.RegionInfo {
		r := &i.Regions[mdev.BAR2]
		r.Flags |= mdev.RegionMmap
		r.Memory, r.Areas = file, areas
		return r
	}
	for _, x := range []struct {
		name   string
		ok     bool
		change func(*mdev.Info)
	}{
		{"as it is", true, func(*mdev.Info) {}},
		{"129 regions", false, func(i *mdev.Info) { i.Regions = append(i.Regions, make([]mdev.RegionInfo, 119)...) }},
		{"128 regions", true, func(i *mdev.Info) { i.Regions = append(i.Regions, make([]mdev.RegionInfo, 118)...) }},
		{"65 irqs", false, func(i *mdev.Info) { i.IRQs = append(i.IRQs, make([]mdev.IRQInfo, 60)...) }},
		{"2048 vectors", true, func(i *mdev.Info) { i.IRQs[mdev.IRQMSIX].Count = 2048 }},
		{"2049 vectors", false, func(i *mdev.Info) { i.IRQs[mdev.IRQMSIX].Count = 2049 }},
		{"unknown irq flag", false, func(i *mdev.Info) { i.IRQs[mdev.IRQMSIX].Flags |= 16 }},
		{"masks itself and cannot be unmasked", false, func(i *mdev.Info) { i.IRQs[mdev.IRQERR].Flags |= mdev.IRQAutoMasked }},

		{"8 regions of a PCI device", false, func(i *mdev.Info) { i.Regions = i.Regions[:8] }},
		{"4 irqs of a PCI device", false, func(i *mdev.Info) { i.IRQs = i.IRQs[:4] }},
		{"the same of another", true, func(i *mdev.Info) { i.API, i.Regions, i.IRQs = mdev.APICCW, i.Regions[:2], nil }},
		{"a BAR of 3 pages", false, func(i *mdev.Info) { i.Regions[mdev.BAR2].Size = 3 << 12 }},
		{"a BAR of 2 bytes", false, func(i *mdev.Info) { i.Regions[mdev.BAR1].Size = 2 }},
		{"no configuration space", false, func(i *mdev.Info) { i.Regions[mdev.Config].Size = 0 }},
		{"configuration space of 4096", true, func(i *mdev.Info) { i.Regions[mdev.Config].Size = 4096 }},
		{"configuration space of 512", false, func(i *mdev.Info) { i.Regions[mdev.Config].Size = 512 }},

		{"a region above 1 TiB", false, func(i *mdev.Info) { i.Regions[mdev.BAR2].Size = 1 << 41 }},
		{"unknown region flag", false, func(i *mdev.Info) { i.Regions[mdev.BAR2].Flags |= 8 }},
		{"mapped", true, func(i *mdev.Info) { mapped(i) }},
		{"mapped, no file", false, func(i *mdev.Info) { mapped(i).Memory = nil }},
		{"mapped, half a page", false, func(i *mdev.Info) { mapped(i).Size = 1 << 11 }},
		{"areas", true, func(i *mdev.Info) {
			mapped(i, mdev.Area{Offset: 0, Size: 0x1000}, mdev.Area{Offset: 0x2000, Size: 0x2000})
		}},
		{"areas without mmap", false, func(i *mdev.Info) { i.Regions[mdev.BAR2].Areas = []mdev.Area{{Size: 0x1000}} }},
		{"an empty area", false, func(i *mdev.Info) { mapped(i, mdev.Area{Offset: 0x1000}) }},
		{"areas that overlap", false, func(i *mdev.Info) { mapped(i, mdev.Area{Size: 0x2000}, mdev.Area{Offset: 0x1000, Size: 0x1000}) }},
		{"an area outside", false, func(i *mdev.Info) { mapped(i, mdev.Area{Offset: 0x3000, Size: 0x2000}) }},
		{"an area that wraps", false, func(i *mdev.Info) { mapped(i, mdev.Area{Offset: 1<<64 - 0x1000, Size: 0x2000}) }},
		{"an area within a page", false, func(i *mdev.Info) { mapped(i, mdev.Area{Offset: 0x800, Size: 0x1000}) }},
		{"file offset within a page", false, func(i *mdev.Info) { mapped(i).MemoryOffset = 0x800 }},

		{"an eventfd outside", false, func(i *mdev.Info) { i.Regions[mdev.BAR0].IOEvents[0].Offset = mdevtest.BAR0Size - 2 }},
		{"an eventfd of 3 bytes", false, func(i *mdev.Info) { i.Regions[mdev.BAR0].IOEvents[0].Size = 3 }},
		{"an eventfd of nothing", false, func(i *mdev.Info) { i.Regions[mdev.BAR0].IOEvents[0].Size = 0 }},
		{"an eventfd where nothing can be written", false, func(i *mdev.Info) { i.Regions[mdev.BAR1].IOEvents = []mdev.IOEvent{{Size: 4}} }},

		{"no migration", true, func(i *mdev.Info) { i.Migration = 0 }},
		{"P2P alone", false, func(i *mdev.Info) { i.Migration = mdev.MigrationP2P }},
		{"unknown migration flag", false, func(i *mdev.Info) { i.Migration = 9 }},
	} {
		t.Run(x.name, func(t *testing.T) {
			info := mdevtest.Info()
			x.change(info)
			s, err := mdev.Open(t.Context(), mdevtest.NewDevice(info), nil)
			if !x.ok {
				require.ErrorIs(t, err, errs.ErrInvalid)
				return
			}
			require.NoError(t, err)
			require.Same(t, info, s.Info())
			require.NoError(t, s.Close(t.Context()))
		})
	}
	t.Run("migration of what cannot", func(t *testing.T) {
		_, err := mdev.Open(t.Context(), plain{mdevtest.NewDevice(nil)}, nil)
		require.ErrorIs(t, err, errs.ErrInvalid)
		require.ErrorContains(t, err, "migration flags 0x7 of a mdev_test.plain")
	})
	t.Run("none", func(t *testing.T) {
		_, err := mdev.Open(t.Context(), undescribed{mdevtest.NewDevice(nil)}, nil)
		require.ErrorIs(t, err, errs.ErrInvalid)
	})
}

type undescribed struct{ *mdevtest.Device }

func (undescribed) Info() *mdev.Info { return nil }
