package mdevtest

import "github.com/softmdev/softmdev/mdev"

// Sizes of the regions of [Info], bytes.
const (
	BAR0Size   = 0x1000
	BAR2Size   = 0x4000
	ConfigSize = 256
)

// Doorbell is the place in BAR0 of [Info] that has an eventfd: a 4-byte write
// of DoorbellValue.
const (
	Doorbell      = 0x100
	DoorbellValue = 0x1234
)

// Info describes a PCI device that has something of everything: BAR0 and BAR2
// of plain bytes, BAR1 that can only be read, a region with a type, INTx, 8
// MSI vectors that cannot be resized, 32 MSI-X vectors, ERR and REQ, reset and
// all of migration. The caller may change what it likes.
func Info() *mdev.Info {
	match := uint64(DoorbellValue)
	rw := mdev.RegionRead | mdev.RegionWrite
	return &mdev.Info{
		API:   mdev.APIPCI,
		Reset: true,
		Regions: []mdev.RegionInfo{
			mdev.BAR0: {Name: "bar0", Size: BAR0Size, Flags: rw, IOEvents: []mdev.IOEvent{
				{Offset: Doorbell, Size: 4, Match: &match},
				{Offset: Doorbell + 8, Size: 2},
			}},
			mdev.BAR1:   {Name: "bar1", Size: 0x1000, Flags: mdev.RegionRead},
			mdev.BAR2:   {Name: "bar2", Size: BAR2Size, Flags: rw},
			mdev.Config: {Name: "config", Size: ConfigSize, Flags: rw},
			mdev.VGA:    {},
			9:           {Name: "extra", Size: 0x10, Flags: rw, Type: &mdev.RegionType{Type: 0x8000_1af4, Subtype: 1}},
		},
		IRQs: []mdev.IRQInfo{
			mdev.IRQINTx: {Name: "intx", Count: 1, Flags: mdev.IRQEventFD | mdev.IRQMaskable | mdev.IRQAutoMasked},
			mdev.IRQMSI:  {Name: "msi", Count: 8, Flags: mdev.IRQEventFD | mdev.IRQNoResize},
			mdev.IRQMSIX: {Name: "msix", Count: 32, Flags: mdev.IRQEventFD},
			mdev.IRQERR:  {Name: "err", Count: 1, Flags: mdev.IRQEventFD},
			mdev.IRQREQ:  {Name: "req", Count: 1, Flags: mdev.IRQEventFD},
		},
		Migration: mdev.MigrationStopCopy | mdev.MigrationP2P | mdev.MigrationPreCopy,
	}
}
