//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"
)

// fresh: registers are as after a reset.
func fresh(d *driver) error {
	for _, r := range []struct {
		name string
		off  int
	}{{"scratch", regScratch}, {"status", regStatus}, {"completed", regCompleted}, {"counter", regCounter}} {
		if got := d.regs.read32(r.off); got != 0 {
			return fmt.Errorf("%s is %#x", r.name, got)
		}
	}
	if id := d.regs.read32(regID); id != demoID {
		return fmt.Errorf("ID %#x", id)
	}
	return nil
}

// dirty writes registers that a reset has to clear.
func (d *driver) dirty() error {
	d.regs.write32(regScratch, 0xdeadbeef)
	d.regs.write32(regCounter, 0xdeadbeef)
	if got := d.regs.read32(regScratch); got != 0xdeadbeef {
		return fmt.Errorf("scratch is %#x", got)
	}
	return nil
}

// resets: the kernel's function reset, the bit by hand, idle and at work.
func resets(t *reporter, d *driver) {
	again := func() error {
		cmd, err := d.readConfig(regCommand, 2)
		if err != nil {
			return err
		}
		if err := d.writeConfig(regCommand, 2, cmd|memoryDecode|busMaster); err != nil {
			return err
		}
		if err := fresh(d); err != nil {
			return err
		}
		if err := d.arm(); err != nil {
			return err
		}
		return d.alive()
	}
	t.check("reset/function", func() error {
		if err := errors.Join(d.dirty(), d.disarm(), d.reset()); err != nil {
			return err
		}
		return again()
	})
	t.check("reset/bit-by-hand", func() error {
		if err := errors.Join(d.dirty(), d.disarm(), resetByHand(d)); err != nil {
			return err
		}
		return again()
	})
	for _, how := range []struct {
		name  string
		reset func() error
	}{
		// The kernel takes bus mastering away first, and waits.
		{"reset/while-busy", func() error { return errors.Join(d.disarm(), d.reset()) }},
		{"reset/bit-while-busy", func() error { return resetByHand(d) }},
	} {
		t.check(how.name, func() error {
			b, err := d.buffer(hugePageSize)
			if err != nil {
				return err
			}
			scramble(b.mem[:longest], 3)
			for range 16 { // as many as may wait
				d.regs.write64(regSource, b.addr)
				d.regs.write64(regDest, b.addr+longest)
				d.regs.write32(regLength, longest)
				d.regs.write32(regDoorbell, doCopy)
			}
			if err := how.reset(); err != nil {
				return err
			}
			clear(b.mem[longest:])
			if err := again(); err != nil {
				return err
			}
			if err := uniform(b.mem[longest:], 0); err != nil {
				return fmt.Errorf("written after the reset: %w", err)
			}
			return nil
		})
	}
}

// resetByHand sets the bit that starts a function-level reset, and gives the
// device the time that it may take (PCI Express 6.6.2).
func resetByHand(d *driver) error {
	at, err := capability(d, capExpress)
	if err != nil || at == 0 {
		return fmt.Errorf("express capability at %#x, %v", at, err)
	}
	const control, start = 8, 1 << 15
	before, err := d.readConfig(at+control, 2)
	if err != nil {
		return err
	}
	if err := d.writeConfig(at+control, 2, before|start); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	now, err := d.readConfig(at+control, 2)
	if err == nil && now&start != 0 {
		err = fmt.Errorf("device control reads %#x", now)
	}
	return err
}
