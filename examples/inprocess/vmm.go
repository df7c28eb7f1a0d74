package main

import (
	"context"
	"encoding/binary"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/pci"
)

// vmm is what a VMM has for one device: a session, and the MSI-X table.
type vmm struct {
	session *mdev.Session
	cpu     *cpu
	table   *pci.MSIXTable
	control uint32 // where the MSI-X control register is
}

// newVMM looks at the device as a VMM does when it is plugged in.
func newVMM(ctx context.Context, s *mdev.Session, c *cpu) (*vmm, error) {
	v := &vmm{session: s, cpu: c}
	config := make([]byte, s.Info().Regions[mdev.Config].Size)
	if err := s.Read(ctx, mdev.Config, 0, config); err != nil {
		return nil, err
	}
	place, control, err := pci.FindMSIX(config)
	if err != nil {
		return nil, err
	}
	v.control = control
	if v.table, err = pci.NewMSIXTable(place, v.message); err != nil {
		return nil, err
	}
	// What the device raises goes by way of the table: it knows which vectors
	// the guest has masked, and what message each one is.
	for i := range place.Vectors {
		if err := s.IRQs().Func(mdev.IRQMSIX, i, func() { v.table.Trigger(i) }); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// message is the memory write by which the device interrupts. It may come from
// any goroutine, and must not wait.
func (v *vmm) message(_ int, m pci.Message) {
	if m.Addr != messageAt {
		return // a write to memory, which this VMM does not do
	}
	select {
	case v.cpu.interrupts <- m.Data:
	default: // the guest does not listen
	}
}

// loop serves the virtual CPU until the guest halts.
func (v *vmm) loop(ctx context.Context) error {
	for {
		select {
		case x := <-v.cpu.exits:
			err := v.access(ctx, x)
			close(x.ready)
			if err != nil {
				return err
			}
		case err := <-v.cpu.done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// access does what the virtual CPU has left for.
func (v *vmm) access(ctx context.Context, x exit) error {
	if off := x.at - configBase; off < configSize {
		return v.config(ctx, off, x)
	}
	region, off, found, err := v.decode(ctx, x.at)
	switch {
	case err != nil:
		return err
	case !found && x.write:
		return nil // nobody answers: dropped, and all ones
	case !found:
		for i := range x.data {
			x.data[i] = 0xff
		}
		return nil
	case v.table.Overlaps(region, off, len(x.data)) && x.write:
		v.table.Write(region, off, x.data)
		return nil
	case v.table.Overlaps(region, off, len(x.data)):
		v.table.Read(region, off, x.data)
		return nil
	case x.write:
		return v.session.Write(ctx, region, off, x.data)
	}
	return v.session.Read(ctx, region, off, x.data)
}

// config is an access to configuration space. The device has it; what the VMM
// emulates follows.
func (v *vmm) config(ctx context.Context, off uint64, x exit) error {
	if !x.write {
		return v.session.Read(ctx, mdev.Config, off, x.data)
	}
	if err := v.session.Write(ctx, mdev.Config, off, x.data); err != nil {
		return err
	}
	control, err := v.word(ctx, uint64(v.control))
	v.table.Control(control&pci.MSIXEnable != 0, control&pci.MSIXFunctionMask != 0)
	return err
}

// word reads 16 bits of configuration space.
func (v *vmm) word(ctx context.Context, off uint64) (uint16, error) {
	var p [2]byte
	err := v.session.Read(ctx, mdev.Config, off, p[:])
	return binary.LittleEndian.Uint16(p[:]), err
}

// decode finds the region that answers at an address: the guest has said so in
// the BARs. A VMM with much to do remembers it when they are written.
func (v *vmm) decode(ctx context.Context, at uint64) (region int, off uint64, found bool, err error) {
	command, err := v.word(ctx, pci.RegCommand)
	if err != nil || pci.Command(command)&pci.CommandMemory == 0 {
		return 0, 0, false, err
	}
	var bars [6 * 4]byte
	if err := v.session.Read(ctx, mdev.Config, pci.RegBAR0, bars[:]); err != nil {
		return 0, 0, false, err
	}
	for i := mdev.BAR0; i <= mdev.BAR5; i++ {
		size := v.session.Info().Regions[i].Size
		if size == 0 {
			continue
		}
		low := binary.LittleEndian.Uint32(bars[4*i:])
		start := uint64(low &^ 0xf)
		if low&0x7 == 0x4 { // 64 bits
			start |= uint64(binary.LittleEndian.Uint32(bars[4*i+4:])) << 32
		}
		if start != 0 && at-start < size {
			return i, at - start, true, nil
		}
	}
	return 0, 0, false, nil
}
