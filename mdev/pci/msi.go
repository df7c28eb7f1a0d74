package pci

import (
	"fmt"
	"math/bits"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
)

// MSI is the Message Signalled Interrupts capability.
// Specification: PCI Local Bus 3.0, 6.8.1.
//
//	control  bit 8            7        6-4               3-1                0
//	         vector masking   64 bits  vectors enabled   vectors wanted     enable
//	                                   (log 2)           (log 2)
type MSI struct {
	Vectors int  // 1, 2, 4, 8, 16 or 32
	Is64    bool // takes addresses of 64 bits, as PCI Express requires
	Mask    bool // masks vector by vector
}

// Offsets in the MSI capability, and the bits of its control register. The
// registers behind the address move by 4 where it has 64 bits.
const (
	MSIControl   = 0x02
	MSIAddress   = 0x04
	MSIAddressHi = 0x08
	MSIData32    = 0x08
	MSIMask32    = 0x0c
	MSIPending32 = 0x10
	MSIData64    = 0x0c
	MSIMask64    = 0x10
	MSIPending64 = 0x14

	MSIEnable  = 0x0001
	msiWanted  = 1 // shift
	msiEnabled = 4 // shift
	msi64      = 0x0080
	msiMasking = 0x0100
)

func (MSI) id() (CapabilityID, bool) { return IDMSI, false }
func (MSI) name() string             { return "MSI" }

// offset is where a register behind the address stands, given its place in the
// 32-bit form.
func (m MSI) offset(at uint32) uint32 {
	if m.Is64 {
		return at + 4
	}
	return at
}

func (m MSI) registers(*Config) ([]reg.Reg, uint32, error) {
	if m.Vectors < 1 || m.Vectors > 32 || bits.OnesCount(uint(m.Vectors)) != 1 {
		return nil, 0, fmt.Errorf("%d vectors, want a power of two up to 32: %w", m.Vectors, errs.ErrInvalid)
	}
	control := reg.Reg{
		Offset: MSIControl, Width: 2, Name: "control",
		Reset: uint64(bits.TrailingZeros(uint(m.Vectors)) << msiWanted),
		Write: MSIEnable | 7<<msiEnabled,
	}
	regs := []reg.Reg{{Offset: MSIAddress, Width: 4, Name: "address", Write: 0xfffffffc}}
	if m.Is64 {
		control.Reset |= msi64
		regs = append(regs, reg.Reg{Offset: MSIAddressHi, Width: 4, Name: "address, upper half", Write: 0xffffffff})
	}
	data := m.offset(MSIData32)
	regs = append(regs, reg.Reg{Offset: data, Width: 2, Name: "data", Write: 0xffff})
	size := data + 2
	if m.Mask {
		control.Reset |= msiMasking
		all := uint64(1)<<m.Vectors - 1
		regs = append(regs,
			reg.Reg{Offset: m.offset(MSIMask32), Width: 4, Name: "mask", Write: all},
			reg.Reg{Offset: m.offset(MSIPending32), Width: 4, Name: "pending", Live: all})
		size = m.offset(MSIPending32) + 4
	}
	return append(regs, control), size, nil
}

// MSIState is how software has set up MSI.
type MSIState struct {
	Enabled bool
	Vectors int    // how many of them are in use, at least 1
	Addr    uint64 // of the message; vector v replaces the low bits of Data
	Data    uint16
	Mask    uint32 // bit v masks vector v
}
