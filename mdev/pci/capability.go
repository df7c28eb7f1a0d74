package pci

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
)

// Capability is one of [MSI], [MSIX], [Express], [Power], [Vendor] and [DVSEC].
type Capability interface {
	// id identifies the capability, extended where that is set; many says
	// that there may be more than one.
	id() (id CapabilityID, many bool)
	// name begins the names of its registers.
	name() string
	// registers are those behind the header, with their offsets in the
	// capability, and its size in bytes.
	registers(c *Config) ([]reg.Reg, uint32, error)
}

// CapabilityID names a kind of capability. Those of the extended list have
// the bit Extended.
type CapabilityID uint32

// The capabilities [linux/pci_regs.h: PCI_CAP_ID_*, PCI_EXT_CAP_ID_*].
const (
	IDPower   CapabilityID = 0x01
	IDMSI     CapabilityID = 0x05
	IDVendor  CapabilityID = 0x09
	IDExpress CapabilityID = 0x10
	IDMSIX    CapabilityID = 0x11

	// Extended marks the identifiers of the extended list.
	Extended CapabilityID = 1 << 16

	IDDVSEC = Extended | 0x23
)

// String names the kind.
func (id CapabilityID) String() string {
	switch id {
	case IDPower:
		return "PM"
	case IDMSI:
		return "MSI"
	case IDVendor:
		return "vendor"
	case IDExpress:
		return "PCIe"
	case IDMSIX:
		return "MSI-X"
	case IDDVSEC:
		return "DVSEC"
	}
	if id&Extended != 0 {
		return fmt.Sprintf("extended %#x", uint32(id&^Extended))
	}
	return fmt.Sprintf("%#x", uint32(id))
}

// Place is where a capability stands.
type Place struct {
	ID      CapabilityID
	Version uint8 // of an extended one
	Offset  uint32
}

// lay puts the capabilities into the space: the header first, then both
// chains.
func (c *Config) lay() (regs []reg.Reg, places []Place, size uint32, err error) {
	size = ConventionalSize
	var chains [2][]Capability // conventional, extended
	for i, x := range c.Capabilities {
		if x == nil {
			return nil, nil, 0, fmt.Errorf("capability %d is nil: %w", i, errs.ErrInvalid)
		}
		id, many := x.id()
		for _, p := range places {
			if p.ID == id && !many {
				return nil, nil, 0, fmt.Errorf("a second %v capability: %w", id, errs.ErrExists)
			}
		}
		if id == IDExpress {
			size = ExpressSize
		}
		chain := &chains[id>>16]
		*chain = append(*chain, x)
		places = append(places, Place{ID: id})
	}
	if len(chains[1]) > 0 && size < ExpressSize {
		return nil, nil, 0, fmt.Errorf("an extended capability without a PCIe one: %w", errs.ErrInvalid)
	}
	places = nil
	var first uint32
	for i, chain := range chains {
		at, end := uint32(firstCapability), uint32(ConventionalSize)
		if i == 1 {
			at, end = firstExtended, ExpressSize
		}
		if i == 0 && len(chain) > 0 {
			first = at
		}
		for k, x := range chain {
			id, _ := x.id()
			own, n, err := x.registers(c)
			if err != nil {
				return nil, nil, 0, fmt.Errorf("%v capability: %w", id, err)
			}
			n = (n + 3) &^ 3
			if n > end-at {
				return nil, nil, 0, fmt.Errorf("%v capability of %#x bytes at %#x: %w", id, n, at, errs.ErrNoSpace)
			}
			next := at + n
			if k == len(chain)-1 {
				next = 0
			}
			regs = append(regs, chainHeader(x, at, next)...)
			for _, r := range own {
				r.Offset += at
				r.Name = x.name() + " " + r.Name
				regs = append(regs, r)
			}
			places = append(places, Place{ID: id, Version: uint8(id >> 16), Offset: at})
			at += n
		}
	}
	return append(c.header(first), regs...), places, size, nil
}

// chainHeader are the registers that every capability begins with.
//
//	conventional  byte 0 ID, byte 1 offset of the next one
//	extended      bits 0-15 ID, 16-19 version, 20-31 offset of the next one
func chainHeader(x Capability, at, next uint32) []reg.Reg {
	id, _ := x.id()
	if id&Extended != 0 {
		return []reg.Reg{{
			Offset: at, Width: 4, Name: x.name() + " header",
			Reset: uint64(id&^Extended) | extendedVersion<<16 | uint64(next)<<20,
		}}
	}
	return []reg.Reg{
		{Offset: at, Width: 1, Name: x.name() + " ID", Reset: uint64(id)},
		{Offset: at + 1, Width: 1, Name: x.name() + " next", Reset: uint64(next)},
	}
}

// extendedVersion is that of all extended capabilities here.
const extendedVersion = 1
