package pci

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Walk lists the capabilities of a configuration space that somebody else made:
// config is all of it, 256 or 4096 bytes. A chain that leaves the space, comes
// back to where it was, or names the header ends with errs.ErrInvalid and what
// was found before.
func Walk(config []byte) ([]Place, error) {
	if len(config) != ConventionalSize && len(config) != ExpressSize {
		return nil, fmt.Errorf("configuration space of %d bytes: %w", len(config), errs.ErrInvalid)
	}
	var found []Place
	if binary.LittleEndian.Uint16(config[RegStatus:])&StatusCapabilities == 0 {
		return nil, nil // and then there is no PCI Express either
	}
	var seen [ExpressSize / 4]bool
	step := func(at, from, to uint32) error {
		switch {
		case at < from || at > to-4:
			return fmt.Errorf("capability at %#x: %w", at, errs.ErrInvalid)
		case seen[at/4]:
			return fmt.Errorf("capability at %#x a second time: %w", at, errs.ErrInvalid)
		}
		seen[at/4] = true
		return nil
	}
	for at := uint32(config[RegCapabilities]) &^ 3; at != 0; {
		if err := step(at, firstCapability, ConventionalSize); err != nil {
			return found, err
		}
		found = append(found, Place{ID: CapabilityID(config[at]), Offset: at})
		at = uint32(config[at+1]) &^ 3
	}
	if len(config) < ExpressSize {
		return found, nil
	}
	for at := uint32(firstExtended); at != 0; {
		if err := step(at, firstExtended, ExpressSize); err != nil {
			return found, err
		}
		h := binary.LittleEndian.Uint32(config[at:])
		if at == firstExtended && h == 0 {
			break // none
		}
		found = append(found, Place{ID: Extended | CapabilityID(h&0xffff), Version: uint8(h >> 16 & 0xf), Offset: at})
		at = h >> 20 &^ 3
	}
	return found, nil
}

// FindMSIX reads the MSI-X capability of a configuration space that somebody
// else made, and where its control register is. It fails with errs.ErrNotFound
// where there is none, and as [Walk] and [MSIX.Check] do.
func FindMSIX(config []byte) (m MSIX, control uint32, err error) {
	places, err := Walk(config)
	for _, p := range places {
		if p.ID != IDMSIX {
			continue
		}
		if p.Offset+MSIXPBAAt+4 > ConventionalSize {
			return MSIX{}, 0, fmt.Errorf("MSI-X capability at %#x: %w", p.Offset, errs.ErrInvalid)
		}
		c := config[p.Offset:]
		table, pba := binary.LittleEndian.Uint32(c[MSIXTableAt:]), binary.LittleEndian.Uint32(c[MSIXPBAAt:])
		m = MSIX{
			Vectors:  int(binary.LittleEndian.Uint16(c[MSIXControl:])&MSIXVectors) + 1,
			TableBAR: int(table & 7), TableOffset: table &^ 7,
			PBABAR: int(pba & 7), PBAOffset: pba &^ 7,
		}
		if err := m.Check(); err != nil {
			return MSIX{}, 0, fmt.Errorf("MSI-X capability at %#x: %w", p.Offset, err)
		}
		return m, p.Offset + MSIXControl, nil
	}
	if err == nil {
		err = fmt.Errorf("MSI-X capability: %w", errs.ErrNotFound)
	}
	return MSIX{}, 0, err
}
