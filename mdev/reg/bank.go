package reg

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Bank is a block of registers.
type Bank struct {
	regs    []Reg // ascending
	values  []uint64
	size    uint32
	written func(Write)
}

// Write is what a write of software did to one register.
type Write struct {
	Reg        *Reg
	Old, New   uint64 // its value before and after
	Data, Mask uint64 // what was written, and to which of its bits: whole bytes
}

// Order are the bits of [Reg.Order] that were written as 1.
func (w *Write) Order() uint64 { return w.Data & w.Reg.Order }

// New makes the registers of a table in a block of size bytes, powered on.
// written, if not nil, is called for each register that software writes to,
// after it has its new value.
//
// It fails with errs.ErrInvalid, ErrMisaligned, ErrOutsideRange or ErrExists
// (two registers overlap), naming the register.
func New(size uint32, table []Reg, written func(Write)) (*Bank, error) {
	regs, err := sorted(size, table)
	if err != nil {
		return nil, err
	}
	b := &Bank{regs: regs, values: make([]uint64, len(regs)), size: size, written: written}
	b.Reset(PowerOn)
	return b, nil
}

// MustNew is New for a table that is a constant of the program: it panics.
func MustNew(size uint32, table []Reg, written func(Write)) *Bank {
	b, err := New(size, table, written)
	if err != nil {
		panic(err)
	}
	return b
}

// Size is the size of the block in bytes.
func (b *Bank) Size() uint64 { return uint64(b.size) }

// Registers is the table, ascending. It must not be changed.
func (b *Bank) Registers() []Reg { return b.regs }

// within checks an access of n bytes.
func (b *Bank) within(off uint64, n int) error {
	if off > uint64(b.size) || uint64(n) > uint64(b.size)-off {
		return fmt.Errorf("%d bytes at %#x of %#x: %w", n, off, b.size, errs.ErrInvalid)
	}
	return nil
}

// from is the index of the first register that ends at off or later.
func (b *Bank) from(off uint32) int {
	return sort.Search(len(b.regs), func(i int) bool { return b.regs[i].last() >= off })
}

// Read reads len(p) bytes at off, as software does. It fails only with
// errs.ErrInvalid, where they leave the block.
func (b *Bank) Read(off uint64, p []byte) error {
	if err := b.within(off, len(p)); err != nil {
		return err
	}
	clear(p)
	end := off + uint64(len(p))
	for i := b.from(uint32(off)); i < len(b.regs) && uint64(b.regs[i].Offset) < end; i++ {
		r := &b.regs[i]
		var raw [8]byte
		binary.LittleEndian.PutUint64(raw[:], b.values[i])
		if at := int64(r.Offset) - int64(off); at >= 0 {
			copy(p[at:], raw[:r.Width])
		} else {
			copy(p, raw[-at:r.Width])
		}
	}
	return nil
}

// Write writes p at off, as software does, and tells the device of each
// register. It fails only with errs.ErrInvalid, where the bytes leave the
// block; then nothing was written.
func (b *Bank) Write(off uint64, p []byte) error {
	if err := b.within(off, len(p)); err != nil {
		return err
	}
	end := off + uint64(len(p))
	for i := b.from(uint32(off)); i < len(b.regs) && uint64(b.regs[i].Offset) < end; i++ {
		r := &b.regs[i]
		var data, mask [8]byte
		for k := range int(r.Width) {
			if at := int64(r.Offset) + int64(k) - int64(off); at >= 0 && at < int64(len(p)) {
				data[k], mask[k] = p[at], 0xff
			}
		}
		b.write(i, binary.LittleEndian.Uint64(data[:]), binary.LittleEndian.Uint64(mask[:]))
	}
	return nil
}

// write writes the bits of mask of register i.
func (b *Bank) write(i int, data, mask uint64) {
	r, old := &b.regs[i], b.values[i]
	set := mask & r.Write
	b.values[i] = (old&^set | data&set) &^ (data & r.W1C)
	if b.written != nil {
		b.written(Write{Reg: r, Old: old, New: b.values[i], Data: data, Mask: mask})
	}
}

// index is the number of the register at off.
func (b *Bank) index(off uint32) int {
	if i := b.from(off); i < len(b.regs) && b.regs[i].Offset == off {
		return i
	}
	panic(fmt.Sprintf("no register at %#x", off))
}

// Get is the value of the register at off, which must be one.
func (b *Bank) Get(off uint32) uint64 { return b.values[b.index(off)] }

// Put gives the register at off, which must be one, a value, as the device
// does: bits that never change stay as they are.
func (b *Bank) Put(off uint32, value uint64) {
	i := b.index(off)
	may := b.regs[i].variable()
	b.values[i] = b.values[i]&^may | value&may
}

// ResetKind says how much a reset leaves alone.
type ResetKind uint8

// The kinds of reset.
const (
	PowerOn      ResetKind = iota // everything goes
	Conventional                  // sticky bits stay
	Function                      // bits of Keep stay, too
)

// Reset gives the registers the values they have after a reset.
func (b *Bank) Reset(kind ResetKind) {
	for i := range b.regs {
		r := &b.regs[i]
		var stay uint64
		if kind != PowerOn {
			stay = r.Sticky
		}
		if kind == Function {
			stay |= r.Keep
		}
		b.values[i] = b.values[i]&stay | r.Reset&^stay
	}
}

// Append appends what the registers hold, as Load takes it.
func (b *Bank) Append(p []byte) []byte {
	for _, v := range b.values {
		p = binary.LittleEndian.AppendUint64(p, v)
	}
	return p
}

// Load gives the registers what Append said. Bits that never change are left as
// they are, whatever p says: nobody vouches for it. It fails with
// errs.ErrInvalid where p is not of as many registers.
func (b *Bank) Load(p []byte) error {
	if len(p) != 8*len(b.regs) {
		return fmt.Errorf("%d bytes for %d registers: %w", len(p), len(b.regs), errs.ErrInvalid)
	}
	for i := range b.regs {
		may := b.regs[i].variable()
		b.values[i] = b.values[i]&^may | binary.LittleEndian.Uint64(p[8*i:])&may
	}
	return nil
}
