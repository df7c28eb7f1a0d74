package reg

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Reg is one register. The masks have a bit for each bit of the register; no
// bit is in two of Write, W1C, Order and Live.
type Reg struct {
	Offset uint32 // of its first byte, a multiple of Width
	Width  uint8  // in bytes: 1, 2, 4 or 8
	Name   string
	Reset  uint64 // value when the device is powered on
	Write  uint64 // bits that software sets and clears
	W1C    uint64 // bits that the device sets, and software clears by writing 1
	Order  uint64 // bits that read as 0, and tell the device something when written
	Live   uint64 // bits that only the device changes
	Keep   uint64 // bits that a function-level reset leaves alone
	Sticky uint64 // bits that every reset but power-on leaves alone
}

// last is the offset of the register's last byte.
func (r *Reg) last() uint32 { return r.Offset + uint32(r.Width) - 1 }

// mask has a bit for each bit of the register.
func (r *Reg) mask() uint64 { return ^uint64(0) >> (64 - 8*r.Width) }

// variable are the bits that ever change.
func (r *Reg) variable() uint64 { return r.Write | r.W1C | r.Live }

// check finds what is wrong with r by itself.
func (r *Reg) check(size uint32) error {
	switch r.Width {
	case 1, 2, 4, 8:
	default:
		return fmt.Errorf("width of %d bytes: %w", r.Width, errs.ErrInvalid)
	}
	switch {
	case r.Offset%uint32(r.Width) != 0:
		return fmt.Errorf("width of %d bytes: %w", r.Width, errs.ErrMisaligned)
	case r.Offset > size-uint32(r.Width):
		return fmt.Errorf("behind the end at %#x: %w", size, errs.ErrOutsideRange)
	case (r.Reset|r.variable()|r.Order|r.Keep|r.Sticky)&^r.mask() != 0:
		return fmt.Errorf("a bit beyond %d bytes: %w", r.Width, errs.ErrInvalid)
	case r.Reset&r.Order != 0:
		return fmt.Errorf("a bit of Order that is set after reset: %w", errs.ErrInvalid)
	}
	all := bits.OnesCount64(r.variable() | r.Order)
	if bits.OnesCount64(r.Write)+bits.OnesCount64(r.W1C)+bits.OnesCount64(r.Live)+bits.OnesCount64(r.Order) != all {
		return fmt.Errorf("a bit in two of Write, W1C, Order and Live: %w", errs.ErrInvalid)
	}
	return nil
}

// MaxSize is the largest size of a bank.
const MaxSize = 1 << 20

// sorted checks a table and returns it in ascending order.
func sorted(size uint32, table []Reg) ([]Reg, error) {
	if size < 8 || size > MaxSize {
		return nil, fmt.Errorf("registers in %#x bytes: %w", size, errs.ErrInvalid)
	}
	regs := slices.SortedFunc(slices.Values(table), func(a, b Reg) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := range regs {
		r := &regs[i]
		if err := r.check(size); err != nil {
			return nil, fmt.Errorf("register %q at %#x: %w", r.Name, r.Offset, err)
		}
		if i > 0 && regs[i-1].last() >= r.Offset {
			return nil, fmt.Errorf("registers %q and %q at %#x: %w", regs[i-1].Name, r.Name, r.Offset, errs.ErrExists)
		}
	}
	return regs, nil
}
