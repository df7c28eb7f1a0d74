package pci

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
)

// MSIX is the MSI-X capability: how many vectors, and where in the BARs their
// table and their pending bits are.
// Specification: PCI Local Bus 3.0, 6.8.2.
//
//	control     bit 15 enable, bit 14 function mask, bits 0-10 vectors - 1
//	table, PBA  bits 3-31 offset, bits 0-2 number of the BAR
type MSIX struct {
	Vectors     int // 1 to 2048
	TableBAR    int
	TableOffset uint32 // multiple of 8
	PBABAR      int
	PBAOffset   uint32 // multiple of 8
}

// Offsets in the MSI-X capability, and the bits of its control register.
const (
	MSIXControl = 0x02
	MSIXTableAt = 0x04
	MSIXPBAAt   = 0x08

	MSIXVectors      = 0x07ff
	MSIXFunctionMask = 0x4000
	MSIXEnable       = 0x8000
)

// MaxMSIXVectors is how many vectors a function has at most.
const MaxMSIXVectors = 2048

// entrySize is the size of an entry of the table in bytes.
const entrySize = 16

// TableSize is the size of the table in bytes.
func (m MSIX) TableSize() uint64 { return uint64(m.Vectors) * entrySize }

// PBASize is the size of the pending bits in bytes: whole words of 64 bits.
func (m MSIX) PBASize() uint64 { return (uint64(m.Vectors) + 63) / 64 * 8 }

func (MSIX) id() (CapabilityID, bool) { return IDMSIX, false }
func (MSIX) name() string             { return "MSI-X" }

// Check finds what is wrong with m by itself.
func (m MSIX) Check() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf(format+": %w", append(a, errs.ErrInvalid)...)
	}
	switch {
	case m.Vectors < 1 || m.Vectors > MaxMSIXVectors:
		return bad("%d vectors, want 1 to %d", m.Vectors, MaxMSIXVectors)
	case m.TableBAR < 0 || m.TableBAR > 5 || m.PBABAR < 0 || m.PBABAR > 5:
		return bad("table in BAR %d, PBA in BAR %d", m.TableBAR, m.PBABAR)
	case m.TableOffset%8 != 0 || m.PBAOffset%8 != 0:
		return bad("table at %#x, PBA at %#x: no multiples of 8", m.TableOffset, m.PBAOffset)
	}
	table, pba := uint64(m.TableOffset), uint64(m.PBAOffset)
	if m.TableBAR == m.PBABAR && table < pba+m.PBASize() && pba < table+m.TableSize() {
		return bad("table at %#x and PBA at %#x overlap", m.TableOffset, m.PBAOffset)
	}
	return nil
}

func (m MSIX) registers(c *Config) ([]reg.Reg, uint32, error) {
	if err := m.Check(); err != nil {
		return nil, 0, err
	}
	for _, x := range []struct {
		what string
		bar  int
		end  uint64
	}{
		{"table", m.TableBAR, uint64(m.TableOffset) + m.TableSize()},
		{"PBA", m.PBABAR, uint64(m.PBAOffset) + m.PBASize()},
	} {
		if b := c.BARs[x.bar]; b.IO || b.Size < x.end {
			return nil, 0, fmt.Errorf("%s reaches to %#x, memory in BAR %d has %#x: %w", x.what, x.end, x.bar, b.Size, errs.ErrInvalid)
		}
	}
	return []reg.Reg{
		{Offset: MSIXControl, Width: 2, Name: "control", Reset: uint64(m.Vectors - 1), Write: MSIXEnable | MSIXFunctionMask},
		{Offset: MSIXTableAt, Width: 4, Name: "table", Reset: uint64(m.TableOffset) | uint64(m.TableBAR)},
		{Offset: MSIXPBAAt, Width: 4, Name: "PBA", Reset: uint64(m.PBAOffset) | uint64(m.PBABAR)},
	}, 0x0c, nil
}
