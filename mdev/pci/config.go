package pci

import (
	"fmt"
	"math/bits"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Config says what a function is like.
type Config struct {
	Vendor, Device       uint16
	SubVendor, SubDevice uint16
	Class                uint32 // 24 bits: base class, subclass, programming interface
	Revision             uint8
	InterruptPin         uint8 // 1 to 4 for INTA to INTD, 0 for none

	BARs [6]BAR
	ROM  uint32 // size of the expansion ROM in bytes, a power of two from 2 KiB; 0 for none

	// Capabilities stand in the chain in this order, the extended ones in
	// theirs. With an [Express] capability the space has 4096 bytes, else
	// 256.
	Capabilities []Capability

	// The hooks are called when software's write, a reset or Load has changed
	// what they tell, in the order in which they stand here, after the space
	// has its new contents, on the goroutine that changed it and with no lock
	// held. They may call any method of the space.

	// OnFLR: the driver has reset the function, by Initiate Function Level
	// Reset or by the way from D3hot to D0 where [Power] says so. The space
	// was reset already.
	OnFLR func()
	// OnCommand: the command register changed.
	OnCommand func(old, now Command)
	// OnPower: the power state changed.
	OnPower func(old, now PowerState)
	// OnMaster: bus mastering was switched on or off, by the command register
	// or by the power state; see [Space.Master].
	OnMaster func(on bool)
	// OnMSI: the MSI capability changed.
	OnMSI func(MSIState)
	// OnMSIX: MSI-X Enable or Function Mask changed.
	OnMSIX func(enabled, masked bool)
}

// BAR says what a base address register asks for.
type BAR struct {
	// Size is in bytes, a power of two: at least 16 for memory, 4 to 256 for
	// I/O. 0 means that the register is not implemented, or holds the upper
	// half of the 64-bit one before it.
	Size     uint64
	Is64     bool // takes the next register as well
	Prefetch bool
	IO       bool
}

// The low bits of a base address register.
const (
	barIO       = 0x1
	bar64       = 0x4
	barPrefetch = 0x8

	barIOTypeBits  = 0x3
	barMemTypeBits = 0xf
)

// flags are the read-only low bits of the register.
func (b BAR) flags() uint64 {
	var f uint64
	if b.IO {
		return barIO
	}
	if b.Is64 {
		f |= bar64
	}
	if b.Prefetch {
		f |= barPrefetch
	}
	return f
}

// check finds what is wrong with BAR number i.
func (c *Config) checkBAR(i int) error {
	b := c.BARs[i]
	bad := func(what string) error { return fmt.Errorf("BAR %d: %s: %w", i, what, errs.ErrInvalid) }
	least, most := uint64(16), uint64(1)<<31
	switch {
	case b.IO:
		least, most = 4, 256
	case b.Is64:
		most = 1 << 63
	}
	switch {
	case b == BAR{}:
		return nil
	case b.IO && (b.Is64 || b.Prefetch):
		return bad("I/O space with 64 bits or prefetchable")
	case bits.OnesCount64(b.Size) != 1 || b.Size < least || b.Size > most:
		return bad(fmt.Sprintf("size %#x, want a power of two from %#x to %#x", b.Size, least, most))
	case b.Is64 && (i == len(c.BARs)-1 || c.BARs[i+1] != BAR{}):
		return bad("64 bits without a free register behind it")
	}
	return nil
}

// check finds what is wrong with c, capabilities aside.
func (c *Config) check() error {
	for i := range c.BARs {
		if err := c.checkBAR(i); err != nil {
			return err
		}
	}
	switch {
	case c.Vendor == 0xffff:
		return fmt.Errorf("vendor 0xffff is the answer of an empty slot: %w", errs.ErrInvalid)
	case c.Class > 0xffffff:
		return fmt.Errorf("class %#x of more than 24 bits: %w", c.Class, errs.ErrInvalid)
	case c.InterruptPin > 4:
		return fmt.Errorf("interrupt pin %d: %w", c.InterruptPin, errs.ErrInvalid)
	case c.ROM != 0 && (bits.OnesCount32(c.ROM) != 1 || c.ROM < 2<<10 || c.ROM > 16<<20):
		return fmt.Errorf("ROM of %#x bytes, want a power of two from 2 KiB to 16 MiB: %w", c.ROM, errs.ErrInvalid)
	}
	return nil
}
