package pci

import (
	"fmt"
	"strings"

	"github.com/softmdev/softmdev/mdev/reg"
)

// Offsets of the registers of a type 0 header.
// Specification: PCI Local Bus 3.0, 6.1; PCI Express Base 4.0, 7.5.1;
// linux/pci_regs.h.
const (
	RegVendor        = 0x00
	RegDevice        = 0x02
	RegCommand       = 0x04
	RegStatus        = 0x06
	RegRevision      = 0x08
	RegInterface     = 0x09
	RegSubclass      = 0x0a
	RegClass         = 0x0b
	RegCacheLine     = 0x0c
	RegLatency       = 0x0d
	RegHeaderType    = 0x0e
	RegBIST          = 0x0f
	RegBAR0          = 0x10 // and five more, 4 bytes each
	RegSubVendor     = 0x2c
	RegSubDevice     = 0x2e
	RegROM           = 0x30
	RegCapabilities  = 0x34
	RegInterruptLine = 0x3c
	RegInterruptPin  = 0x3d
)

// Sizes of a configuration space in bytes.
const (
	ConventionalSize = 0x100
	ExpressSize      = 0x1000

	firstCapability = 0x40
	firstExtended   = 0x100
)

// Command is the command register. A PCI Express function has no use for the
// bits that are missing here; they read as 0.
//
//	bit 10  9  8     7  6       5  4  3  2       1       0
//	    INTx - SERR  -  PARITY  -  -  -  MASTER  MEMORY  IO
type Command uint16

// Bits of the command register.
const (
	CommandIO       Command = 0x001 // answers in I/O space
	CommandMemory   Command = 0x002 // answers in memory space
	CommandMaster   Command = 0x004 // may reach memory, and send messages
	CommandParity   Command = 0x040 // reports parity errors
	CommandSERR     Command = 0x100 // reports errors
	CommandINTxMask Command = 0x400 // keeps INTx to itself
)

// String names the bits.
func (c Command) String() string {
	if c == 0 {
		return "0"
	}
	var names []string
	for _, x := range []struct {
		bit  Command
		name string
	}{
		{CommandIO, "IO"}, {CommandMemory, "MEMORY"}, {CommandMaster, "MASTER"},
		{CommandParity, "PARITY"}, {CommandSERR, "SERR"}, {CommandINTxMask, "INTX_DISABLE"},
	} {
		if c&x.bit != 0 {
			names = append(names, x.name)
			c &^= x.bit
		}
	}
	if c != 0 {
		names = append(names, fmt.Sprintf("%#x", uint16(c)))
	}
	return strings.Join(names, "|")
}

// Bits of the status register.
const (
	StatusInterrupt    = 0x0008 // INTx is asserted, masked or not
	StatusCapabilities = 0x0010 // there is a list of capabilities

	// StatusErrors are those that the function sets (Space.Set) and software
	// clears by writing 1: parity as master, signalled and received target
	// abort, received master abort, signalled system error, parity.
	StatusErrors = 0xf900
)

// header are the registers of the type 0 header; first is where the list of
// capabilities begins.
func (c *Config) header(first uint32) []reg.Reg {
	command := uint64(CommandParity | CommandSERR)
	for _, b := range c.BARs {
		switch {
		case b.Size != 0 && b.IO:
			command |= uint64(CommandIO | CommandMaster)
		case b.Size != 0:
			command |= uint64(CommandMemory | CommandMaster)
		}
	}
	if c.ROM != 0 {
		command |= uint64(CommandMemory)
	}
	status := reg.Reg{Offset: RegStatus, Width: 2, Name: "status", W1C: StatusErrors}
	if first != 0 {
		status.Reset = StatusCapabilities
	}
	if c.InterruptPin != 0 {
		command |= uint64(CommandINTxMask)
		status.Live = StatusInterrupt
	}
	regs := []reg.Reg{
		{Offset: RegVendor, Width: 2, Name: "vendor ID", Reset: uint64(c.Vendor)},
		{Offset: RegDevice, Width: 2, Name: "device ID", Reset: uint64(c.Device)},
		{Offset: RegCommand, Width: 2, Name: "command", Write: command},
		status,
		{Offset: RegRevision, Width: 1, Name: "revision ID", Reset: uint64(c.Revision)},
		{Offset: RegInterface, Width: 1, Name: "programming interface", Reset: uint64(c.Class & 0xff)},
		{Offset: RegSubclass, Width: 1, Name: "subclass", Reset: uint64(c.Class >> 8 & 0xff)},
		{Offset: RegClass, Width: 1, Name: "base class", Reset: uint64(c.Class >> 16)},
		{Offset: RegCacheLine, Width: 1, Name: "cache line size", Write: 0xff},
		{Offset: RegLatency, Width: 1, Name: "latency timer"},
		{Offset: RegHeaderType, Width: 1, Name: "header type"},
		{Offset: RegBIST, Width: 1, Name: "BIST"},
	}
	regs = append(regs, c.bars()...)
	rom := reg.Reg{Offset: RegROM, Width: 4, Name: "expansion ROM"}
	if c.ROM != 0 {
		rom.Write = uint64(-c.ROM) | romEnable
	}
	return append(regs,
		reg.Reg{Offset: RegSubVendor, Width: 2, Name: "subsystem vendor ID", Reset: uint64(c.SubVendor)},
		reg.Reg{Offset: RegSubDevice, Width: 2, Name: "subsystem ID", Reset: uint64(c.SubDevice)},
		rom,
		reg.Reg{Offset: RegCapabilities, Width: 1, Name: "capabilities", Reset: uint64(first)},
		reg.Reg{Offset: RegInterruptLine, Width: 1, Name: "interrupt line", Write: 0xff},
		reg.Reg{Offset: RegInterruptPin, Width: 1, Name: "interrupt pin", Reset: uint64(c.InterruptPin)},
	)
}

const romEnable = 0x1

// bars are the base address registers. What software cannot write is how it
// learns the size: it writes ones and reads back a mask.
func (c *Config) bars() []reg.Reg {
	var regs []reg.Reg
	for i, b := range c.BARs {
		at := uint32(RegBAR0 + 4*i)
		if i > 0 && c.BARs[i-1].Is64 {
			size := c.BARs[i-1].Size
			regs = append(regs, reg.Reg{Offset: at, Width: 4, Name: fmt.Sprintf("BAR %d, upper half", i-1), Write: -size >> 32})
			continue
		}
		r := reg.Reg{Offset: at, Width: 4, Name: fmt.Sprintf("BAR %d", i), Reset: b.flags()}
		if b.Size != 0 {
			r.Write = -b.Size & 0xffffffff
		}
		regs = append(regs, r)
	}
	return regs
}
