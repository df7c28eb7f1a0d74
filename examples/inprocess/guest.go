package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/pci"
)

// guest is a guest's kernel and its driver: it knows addresses, registers and
// its memory, and nothing of the framework but names of numbers.
type guest struct{ *cpu }

// main is the guest, from power-on to halt.
func (g *guest) main() error {
	id := g.read(configBase+pci.RegVendor, 4)
	g.print("PCI device %04x:%04x", id&0xffff, id>>16)
	bar := g.resources()
	if err := g.interruptSetup(bar[1]); err != nil {
		return err
	}
	if v := g.read(bar[0]+demo.RegID, 4); v != demo.IDValue {
		return fmt.Errorf("ID %#x", v)
	}

	text := []byte("the quick brown fox jumps over the lazy dog")
	copy(g.ram[0x10000:], text)
	if err := g.command(bar[0], demo.CommandCopy, 0x10000, 0x2fff0, len(text)); err != nil {
		return err
	}
	if !bytes.Equal(g.ram[0x2fff0:][:len(text)], text) {
		return errors.New("the copy differs")
	}
	g.print("copied %d bytes: %q", len(text), g.ram[0x2fff0:][:len(text)])

	if err := g.command(bar[0], demo.CommandChecksum, 0x10000, 0, len(text)); err != nil {
		return err
	}
	sum := uint32(g.read(bar[0]+demo.RegValue, 4))
	g.print("CRC-32 %08x, and by the processor %08x", sum, crc32.ChecksumIEEE(text))

	err := g.command(bar[0], demo.CommandCopy, 0x10000, ramSize-1, len(text))
	g.print("a copy beyond memory: %v", err)
	g.print("memory's last byte is %d", g.ram[ramSize-1])
	return nil
}

// resources sizes the BARs, gives each an address and switches the device on.
func (g *guest) resources() (bar [6]uint64) {
	next := uint64(windowBase)
	for i := 0; i < 6; i++ {
		at := configBase + pci.RegBAR0 + 4*uint64(i)
		g.write(at, 4, 0xffffffff)
		low := g.read(at, 4)
		if low == 0 {
			continue
		}
		size := uint64(-uint32(low &^ 0xf))
		next = (next + size - 1) &^ (size - 1)
		bar[i] = next
		g.print("BAR %d: %d KiB at %#x", i, size>>10, next)
		g.write(at, 4, next)
		if low&0x7 == 0x4 { // 64 bits; these are small, so the upper half is 0
			g.write(at+4, 4, 0)
			i++
		}
		next += size
	}
	g.write(configBase+pci.RegCommand, 2, uint64(pci.CommandMemory|pci.CommandMaster))
	return bar
}

// interruptSetup gives each vector a number, and enables MSI-X.
func (g *guest) interruptSetup(table uint64) error {
	for at := g.read(configBase+pci.RegCapabilities, 1); at != 0; at = g.read(configBase+at+1, 1) {
		if pci.CapabilityID(g.read(configBase+at, 1)) != pci.IDMSIX {
			continue
		}
		for v := range uint64(demo.Vectors) {
			g.write(table+16*v, 4, messageAt)
			g.write(table+16*v+4, 4, 0)
			g.write(table+16*v+8, 4, 0x40+v)
			g.write(table+16*v+12, 4, 0)
		}
		g.write(configBase+at+pci.MSIXControl, 2, pci.MSIXEnable)
		return nil
	}
	return errors.New("no MSI-X")
}

// command has the device do something, and sleeps until it interrupts.
func (g *guest) command(regs uint64, op, src, dst uint64, n int) error {
	const vector = 3
	g.write(regs+demo.RegSrc, 8, src)
	g.write(regs+demo.RegDst, 8, dst)
	g.write(regs+demo.RegLen, 4, uint64(n))
	g.write(regs+demo.RegVector, 4, vector)
	g.write(regs+demo.RegCommand, 4, op)
	select {
	case number := <-g.interrupts:
		if number != 0x40+vector {
			return fmt.Errorf("interrupt %#x", number)
		}
	case <-time.After(10 * time.Second):
		return errors.New("no interrupt")
	}
	if status := g.read(regs+demo.RegStatus, 4); status != 0 {
		return fmt.Errorf("status %#x", status)
	}
	return nil
}
