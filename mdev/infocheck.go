package mdev

import (
	"fmt"
	"math/bits"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Bounds of a description: what the kernel's clients can take in.
const (
	maxRegions = 128
	maxIRQs    = 64
	maxVectors = 2048 // PCI_MSIX_FLAGS_QSIZE + 1
	maxAreas   = 4096
	maxRegion  = 1 << 40 // VFIO_PCI_OFFSET_SHIFT: a region of the kernel's ABI
)

// check refuses a description that front ends could not pass on, so that they
// need not look. Its errors are a mistake of the device, found when it is
// opened for the first time.
func (i *Info) check(dev Device) error {
	if len(i.Regions) > maxRegions || len(i.IRQs) > maxIRQs {
		return fmt.Errorf("%d regions, %d irqs: %w", len(i.Regions), len(i.IRQs), errs.ErrInvalid)
	}
	for n := range i.Regions {
		if err := i.Regions[n].check(); err != nil {
			return fmt.Errorf("region %d (%s): %w", n, i.Regions[n].Name, err)
		}
	}
	for n, q := range i.IRQs {
		if q.Count > maxVectors || q.Flags&^(IRQEventFD|IRQMaskable|IRQAutoMasked|IRQNoResize) != 0 ||
			q.Flags&(IRQMaskable|IRQAutoMasked) == IRQAutoMasked {
			return fmt.Errorf("irq %d (%s): %d vectors, flags %#x: %w", n, q.Name, q.Count, uint32(q.Flags), errs.ErrInvalid)
		}
	}
	if i.API == APIPCI {
		if err := i.checkPCI(); err != nil {
			return err
		}
	}
	return i.checkMigration(dev)
}

// checkPCI: what a PCI client takes for granted (vfio.h, and QEMU's
// vfio_populate_device).
func (i *Info) checkPCI() error {
	if len(i.Regions) < NumPCIRegions || len(i.IRQs) < NumPCIIRQs {
		return fmt.Errorf("%d regions and %d irqs of a PCI device: %w", len(i.Regions), len(i.IRQs), errs.ErrInvalid)
	}
	for n := BAR0; n <= BAR5; n++ {
		if size := i.Regions[n].Size; size != 0 && (bits.OnesCount64(size) != 1 || size < 4) {
			return fmt.Errorf("region %d (%s): %#x bytes of a BAR: %w", n, i.Regions[n].Name, size, errs.ErrInvalid)
		}
	}
	if size := i.Regions[Config].Size; size != 256 && size != 4096 {
		return fmt.Errorf("%#x bytes of configuration space: %w", size, errs.ErrInvalid)
	}
	return nil
}

func (i *Info) checkMigration(dev Device) error {
	if i.Migration == 0 {
		return nil
	}
	_, saves := dev.(Migrator)
	_, early := dev.(PreCopier)
	if i.Migration&MigrationStopCopy == 0 || i.Migration&^(MigrationStopCopy|MigrationP2P|MigrationPreCopy) != 0 ||
		!saves || i.Migration&MigrationPreCopy != 0 && !early {
		return fmt.Errorf("migration flags %#x of a %T: %w", uint64(i.Migration), dev, errs.ErrInvalid)
	}
	return nil
}

func (r *RegionInfo) check() error {
	mapped := r.Flags&RegionMmap != 0
	switch {
	case r.Size > maxRegion:
		return fmt.Errorf("%#x bytes: %w", r.Size, errs.ErrInvalid)
	case r.Flags&^(RegionRead|RegionWrite|RegionMmap) != 0:
		return fmt.Errorf("flags %#x: %w", uint32(r.Flags), errs.ErrInvalid)
	case mapped && r.Memory == nil || !mapped && len(r.Areas) != 0:
		return fmt.Errorf("memory, areas and RegionMmap do not agree: %w", errs.ErrInvalid)
	case mapped && len(r.Areas) == 0 && (r.Size == 0 || r.Size&addr.PageMask != 0):
		return fmt.Errorf("%#x bytes cannot be mapped: %w", r.Size, errs.ErrInvalid)
	case r.MemoryOffset&addr.PageMask != 0 || r.MemoryOffset > 1<<62:
		return fmt.Errorf("memory offset %#x: %w", r.MemoryOffset, errs.ErrInvalid)
	case len(r.Areas) > maxAreas || len(r.IOEvents) > maxIOEvents:
		return fmt.Errorf("%d areas, %d eventfds: %w", len(r.Areas), len(r.IOEvents), errs.ErrInvalid)
	}
	end := uint64(0)
	for n, a := range r.Areas {
		if (a.Offset|a.Size)&addr.PageMask != 0 || a.Size == 0 || a.Offset < end ||
			a.Offset > r.Size || a.Size > r.Size-a.Offset {
			return fmt.Errorf("area %d at %#x, %#x bytes: %w", n, a.Offset, a.Size, errs.ErrInvalid)
		}
		end = a.Offset + a.Size
	}
	for n, e := range r.IOEvents {
		if bits.OnesCount32(e.Size) != 1 || e.Size > 8 || e.Offset > r.Size || uint64(e.Size) > r.Size-e.Offset ||
			r.Flags&RegionWrite == 0 {
			return fmt.Errorf("eventfd %d at %#x, %d bytes: %w", n, e.Offset, e.Size, errs.ErrInvalid)
		}
	}
	return nil
}
