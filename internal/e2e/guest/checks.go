//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// identity: what the device is, by what the kernel and its own configuration
// space say.
func identity(t *reporter, m configReader, address string, msi bool) {
	t.check("config/ids", func() error {
		id, err := m.readConfig(0, 4)
		if err != nil || id != deviceID<<16|vendorID {
			return fmt.Errorf("%#x, %v", id, err)
		}
		class, err := m.readConfig(8, 4)
		if err != nil || class>>8 != 0xff0000 {
			return fmt.Errorf("class %#x, %v", class>>8, err)
		}
		return nil
	})
	for i, want := range [6]uint64{4 << 10, 16 << 10, 64 << 10} {
		t.check(fmt.Sprintf("config/bar%d", i), func() error {
			size, err := barSize(address, i)
			if err == nil && size != want {
				err = fmt.Errorf("%#x bytes, not %#x", size, want)
			}
			return err
		})
	}
	for _, c := range []struct {
		name string
		id   uint32
		want bool
	}{
		{"power", capPower, true}, {"express", capExpress, true}, {"vendor", capVendor, true},
		{"msix", capMSIX, !msi}, {"msi", capMSI, msi},
	} {
		t.check("config/cap-"+c.name, func() error {
			at, err := capability(m, c.id)
			if err == nil && at != 0 != c.want {
				err = fmt.Errorf("at %#x", at)
			}
			return err
		})
	}
	if msi {
		t.check("config/msi", func() error {
			at, err := capability(m, capMSI)
			if err != nil {
				return err
			}
			const four = 2 << 1 // as a power of two, in the bits that say what the device can do
			control, err := m.readConfig(at+2, 2)
			if err != nil || control&(7<<1) != four {
				return fmt.Errorf("control %#x, %v", control, err)
			}
			return nil
		})
	} else {
		t.check("config/msix-table", func() error { return msixTable(m) })
	}
	t.check("config/flr-offered", func() error {
		methods, err := os.ReadFile(sysPath(address, "reset_method"))
		if err == nil && !strings.Contains(string(methods), "flr") {
			err = fmt.Errorf("reset methods are %q", methods)
		}
		return err
	})
}

// msixTable: four vectors, where the table and the pending bits are.
func msixTable(m configReader) error {
	at, err := capability(m, capMSIX)
	if err != nil {
		return err
	}
	control, err := m.readConfig(at+2, 2)
	if err != nil || control&0x7ff != vectors-1 {
		return fmt.Errorf("control %#x, %v", control, err)
	}
	table, err := m.readConfig(at+4, 4)
	if err != nil || table != msixBAR {
		return fmt.Errorf("table %#x, %v", table, err)
	}
	pba, err := m.readConfig(at+8, 4)
	if err != nil || pba != 0x800|msixBAR {
		return fmt.Errorf("PBA %#x, %v", pba, err)
	}
	return nil
}

// registers: BAR 0, without any command.
func registers(t *reporter, d *driver) {
	t.check("bar0/id", func() error {
		id, version := d.regs.read32(regID), d.regs.read32(regVersion)
		if id != demoID || version != demoVersion {
			return fmt.Errorf("ID %#x, version %d", id, version)
		}
		return nil
	})
	t.check("bar0/scratch", func() error {
		for _, v := range []uint32{0, 0xffffffff, 0xa5a5a5a5, 0x12345678} {
			d.regs.write32(regScratch, v)
			if got := d.regs.read32(regScratch); got != v {
				return fmt.Errorf("%#x, %#x was written", got, v)
			}
		}
		return nil
	})
	t.check("bar0/read-only", func() error {
		d.regs.write32(regID, 0)
		d.regs.write32(regVersion, 0)
		if id, version := d.regs.read32(regID), d.regs.read32(regVersion); id != demoID || version != demoVersion {
			return fmt.Errorf("ID %#x, version %d after a write", id, version)
		}
		return nil
	})
	t.check("bar0/wide", func() error {
		const v = 0x1122334455667788
		d.regs.write64(regSource, v)
		lo, hi, both := d.regs.read32(regSource), d.regs.read32(regSource+4), d.regs.read64(regSource)
		if lo != v&0xffffffff || hi != v>>32 || both != v {
			return fmt.Errorf("halves %#x and %#x, both %#x", lo, hi, both)
		}
		return nil
	})
}

// burst: posted writes arrive in their order, all of them, before a later read.
func burst(t *reporter, d *driver, n int) {
	t.check("posted/burst", func() error {
		began := time.Now()
		for i := range uint32(n) {
			d.regs.write32(regCounter, i+1)
		}
		sent := time.Since(began)
		if got := d.regs.read32(regCounter); got != uint32(n) {
			return fmt.Errorf("the counter is %d after %d writes", got, n)
		}
		t.info("%d writes: %v, with the read behind them %v", n, sent, time.Since(began))
		return nil
	})
	t.check("posted/order", func() error {
		// Each write is answered for by the value that the next read finds.
		for i := range uint32(200) {
			d.regs.write32(regCounter, ^i)
			d.regs.write32(regCounter, i)
			if got := d.regs.read32(regCounter); got != i {
				return fmt.Errorf("round %d: %#x", i, got)
			}
		}
		return nil
	})
}

// memory: BAR 2, in every width, first to last byte.
func memory(t *reporter, d *driver) {
	bar, err := d.bar(2)
	if err != nil {
		t.check("bar2/map", func() error { return err })
		return
	}
	size := len(bar.mem)
	t.check("bar2/widths", func() error {
		bar.write64(0x100, 0)
		bar.write8(0x100, 0x11)
		bar.write8(0x101, 0x22)
		bar.write16(0x102, 0x4433)
		bar.write32(0x104, 0x88776655)
		if got := bar.read64(0x100); got != 0x8877665544332211 {
			return fmt.Errorf("%#x", got)
		}
		if b, w, l := bar.read8(0x107), bar.read16(0x106), bar.read32(0x102&^3); b != 0x88 || w != 0x8877 || l != 0x44332211 {
			return fmt.Errorf("parts %#x, %#x, %#x", b, w, l)
		}
		return nil
	})
	t.check("bar2/ends", func() error {
		bar.write64(0, 0x0123456789abcdef)
		bar.write8(size-1, 0xee)
		if a, b := bar.read64(0), bar.read8(size-1); a != 0x0123456789abcdef || b != 0xee {
			return fmt.Errorf("%#x at the start, %#x at the end", a, b)
		}
		return nil
	})
	t.check("bar2/all", func() error {
		for off := 0; off < size; off += 64 {
			bar.write64(off, uint64(off)*0x9e3779b97f4a7c15)
		}
		for off := 0; off < size; off += 64 {
			if got, want := bar.read64(off), uint64(off)*0x9e3779b97f4a7c15; got != want {
				return fmt.Errorf("%#x at %#x, not %#x", got, off, want)
			}
		}
		return nil
	})
}

// interrupts: each vector by itself, as often as it was raised and no other.
func interrupts(t *reporter, d *driver) {
	const rounds = 10
	for v := range uint32(d.ready) {
		t.check(fmt.Sprintf("interrupt/vector%d", v), func() error {
			before, err := d.interrupts()
			if err != nil {
				return err
			}
			for range rounds {
				d.next = v
				if err := d.command(doRaise); err != nil {
					return err
				}
			}
			now, err := d.interrupts()
			if err != nil {
				return err
			}
			for i := range now {
				want := uint64(0)
				if uint32(i) == v {
					want = rounds
				}
				if now[i]-before[i] != want {
					return fmt.Errorf("vector %d came %d times, not %d", i, now[i]-before[i], want)
				}
			}
			return nil
		})
	}
	t.check("interrupt/disarmed", func() error {
		if err := d.disarm(); err != nil {
			return err
		}
		before, err := d.interrupts()
		if err != nil {
			return err
		}
		done := d.regs.read32(regCompleted)
		d.regs.write32(regVector, 0)
		d.regs.write32(regDoorbell, doRaise)
		err = waitFor(patience, "a command without interrupts", func() (bool, error) {
			return d.regs.read32(regCompleted) == done+1, nil
		})
		if err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
		now, err := d.interrupts()
		if err == nil && now != before {
			err = fmt.Errorf("%v interrupts, %v before", now, before)
		}
		return err
	})
	t.check("interrupt/armed-again", func() error {
		if err := d.arm(); err != nil {
			return err
		}
		return d.command(doRaise)
	})
}
