//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// dma: copy, fill and checksum, in all lengths and alignments, contiguous and
// scattered, against what the processor makes of the same.
func dma(t *reporter, d *driver) {
	src, err := d.buffer(hugePageSize)
	if err != nil {
		t.check("dma/memory", func() error { return err })
		return
	}
	dst, err := d.buffer(hugePageSize)
	if err != nil {
		t.check("dma/memory", func() error { return err })
		return
	}
	scramble(src.mem, 1)
	type shape struct{ length, from, to int }
	shapes := []shape{
		{1, 0, 0}, {1, 4095, 8191}, {3, 1, 2}, {64, 0, 0}, {4095, 0, 1}, {4096, 0, 0},
		{4096, 1, 0}, {4096, 0, 4093}, {4097, 7, 5}, {65536, 0, 0}, {65537, 13, 4091},
		{longest, 0, 0}, {longest, 4095, 1}, {longest - 1, 1, 3},
	}
	for _, s := range shapes {
		name := fmt.Sprintf("%d-from-%d-to-%d", s.length, s.from, s.to)
		t.check("dma/copy-"+name, func() error {
			// One byte each side tells whether more was written than was asked.
			to := s.to + 1
			edge := dst.mem[to-1 : to+s.length+1]
			clear(edge)
			if err := d.copy(dst.addr+uint64(to), src.addr+uint64(s.from), uint32(s.length)); err != nil {
				return err
			}
			if !bytes.Equal(dst.mem[to:to+s.length], src.mem[s.from:s.from+s.length]) {
				return errors.New("the copy differs")
			}
			if edge[0] != 0 || edge[len(edge)-1] != 0 {
				return errors.New("bytes beside the copy were written")
			}
			return nil
		})
		t.check("dma/checksum-"+name, func() error {
			got, err := d.checksum(src.addr+uint64(s.from), uint32(s.length))
			if want := crc32.ChecksumIEEE(src.mem[s.from : s.from+s.length]); err == nil && got != want {
				err = fmt.Errorf("%#x, the processor says %#x", got, want)
			}
			return err
		})
		t.check("dma/fill-"+name, func() error {
			to := s.to + 1
			edge := dst.mem[to-1 : to+s.length+1]
			clear(edge)
			if err := d.fill(dst.addr+uint64(to), 0xc3, uint32(s.length)); err != nil {
				return err
			}
			if edge[0] != 0 || edge[len(edge)-1] != 0 {
				return errors.New("bytes beside the filled ones were written")
			}
			return uniform(dst.mem[to:to+s.length], 0xc3)
		})
	}
	t.check("dma/scattered", func() error {
		const n = 64
		pages, err := d.pages(n)
		if err != nil {
			return err
		}
		for i, p := range pages {
			scramble(p.mem, uint64(i))
		}
		// Every page to its mirror image's place, by way of the device, which
		// meets them in no order that a run could be made of.
		for i := range n / 2 {
			a, b := pages[i*7%n], pages[(n-1)-i*7%n]
			want := bytes.Clone(a.mem)
			if err := d.copy(b.addr, a.addr, pageSize); err != nil {
				return fmt.Errorf("page %d: %w", i, err)
			}
			if !bytes.Equal(b.mem, want) {
				return fmt.Errorf("page %d differs", i)
			}
		}
		return nil
	})
	t.check("dma/overlapping-places", func() error {
		// In place: source and destination are the same bytes.
		want := bytes.Clone(src.mem[:pageSize])
		if err := d.copy(src.addr, src.addr, pageSize); err != nil {
			return err
		}
		if !bytes.Equal(src.mem[:pageSize], want) {
			return errors.New("a copy onto itself changed it")
		}
		return nil
	})
}

// scramble fills memory with bytes that do not repeat.
func scramble(mem []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range mem {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		mem[i] = byte(x)
	}
}

// wrong: what a guest may do wrong. Each is answered by an error status and an
// interrupt, and the device goes on.
func wrong(t *reporter, d *driver) {
	b, err := d.buffer(pageSize)
	if err != nil {
		t.check("error/memory", func() error { return err })
		return
	}
	refused := func(name string, f func() error) {
		t.check("error/"+name, func() error {
			err := f()
			var e deviceError
			if !errors.As(err, &e) {
				return fmt.Errorf("no error status: %v", err)
			}
			if e == 0 {
				return errors.New("an error status without an errno")
			}
			t.info("%s: %v", name, unix.Errno(e))
			return d.alive()
		})
	}
	away := d.nowhere()
	refused("copy-from-nowhere", func() error { return d.copy(b.addr, away, pageSize) })
	refused("copy-to-nowhere", func() error { return d.copy(away, b.addr, pageSize) })
	refused("fill-nowhere", func() error { return d.fill(away, 1, 1) })
	refused("checksum-nowhere", func() error { _, err := d.checksum(away, 64); return err })
	refused("end-of-address-space", func() error { return d.copy(b.addr, ^uint64(0)-63, 64) })
	refused("wrap", func() error { return d.copy(b.addr, ^uint64(0)-63, 128) })
	refused("too-long", func() error { return d.copy(b.addr, b.addr, longest+1) })
	refused("longest-length", func() error { return d.fill(b.addr, 0, 0xffffffff) })
	refused("no-such-command", func() error { return d.command(0x1234) })
	t.check("error/no-such-vector", func() error {
		d.regs.write32(regVector, 0xffffffff)
		d.regs.write32(regDoorbell, doRaise)
		d.regs.write32(regVector, vectors)
		d.regs.write32(regDoorbell, doRaise)
		if err := waitFor(patience, "idle", d.idle); err != nil {
			return err
		}
		return d.alive()
	})
	t.check("error/registers-beyond", func() error {
		for off := 0x38; off < pageSize; off += 4 {
			d.regs.write32(off, 0xffffffff)
			d.regs.read32(off)
		}
		return d.alive()
	})
	t.check("error/odd-widths", func() error {
		for off := range 0x38 {
			d.regs.read8(off)
		}
		for off := 0; off < 0x38; off += 2 {
			d.regs.read16(off)
		}
		return d.alive()
	})
}

func (d *driver) idle() (bool, error) { return d.regs.read32(regStatus)&statusBusy == 0, nil }

// edges: what only an IOMMU can be asked: memory that may be read but not
// written, and memory that ends in the middle of a transfer.
func edges(t *reporter, d *driver, v *vfio) {
	const readOnly, half = unusedIOVA + 1<<32, unusedIOVA + 2<<32
	refused := func(err error) error {
		var e deviceError
		if !errors.As(err, &e) {
			return fmt.Errorf("no error status: %v", err)
		}
		return d.alive()
	}
	t.check("iommu/read-only", func() error {
		b, err := v.locked(pageSize, readOnly, mapRead)
		if err != nil {
			return err
		}
		scramble(b.mem, 9)
		want := crc32.ChecksumIEEE(b.mem)
		if got, err := d.checksum(readOnly, pageSize); err != nil || got != want {
			return fmt.Errorf("reading it: %#x, not %#x, %v", got, want, err)
		}
		if err := refused(d.fill(readOnly, 0, pageSize)); err != nil {
			return err
		}
		if crc32.ChecksumIEEE(b.mem) != want {
			return errors.New("it was written")
		}
		_, err = v.unmapFrom(readOnly, pageSize)
		return err
	})
	t.check("iommu/half-mapped", func() error {
		b, err := v.locked(pageSize, half, mapRead|mapWrite)
		if err != nil {
			return err
		}
		if err := d.fill(half, 0x77, pageSize); err != nil {
			return err
		}
		if err := refused(d.fill(half, 0x11, 2*pageSize)); err != nil {
			return err
		}
		if err := uniform(b.mem, 0x77); err != nil {
			return fmt.Errorf("a refused program changed memory: %w", err)
		}
		_, err = v.unmapFrom(half, pageSize)
		return err
	})
	t.check("iommu/unmapped-again", func() error {
		if err := refused(d.fill(half, 0x11, pageSize)); err != nil {
			return err
		}
		return refused(d.fill(readOnly, 0x11, 1))
	})
}

// maps: many mappings of one page each, none next to another, with transfers
// that need a few of them.
func mapMany(t *reporter, d *driver, v *vfio, n int) {
	const first, step = unusedIOVA + 16<<32, 2 * pageSize
	t.check("iommu/map-many", func() error {
		mem, err := unix.Mmap(-1, 0, n*pageSize, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return err
		}
		v.memory = append(v.memory, mem)
		began := time.Now()
		for i := range n {
			if err := v.mapAt(mem[i*pageSize:][:pageSize], first+uint64(i)*step, mapRead|mapWrite); err != nil {
				return fmt.Errorf("map %d: %w", i, err)
			}
		}
		t.info("%d maps of a page each: %v", n, time.Since(began))
		for i := 0; i < n; i += n/32 + 1 {
			j := n - 1 - i
			src, dst := mem[i*pageSize:][:pageSize], mem[j*pageSize:][:pageSize]
			scramble(src, uint64(i))
			if err := d.copy(first+uint64(j)*step, first+uint64(i)*step, pageSize); err != nil {
				return fmt.Errorf("page %d to %d: %w", i, j, err)
			}
			if !bytes.Equal(src, dst) {
				return fmt.Errorf("page %d to %d: differs", i, j)
			}
			// The page behind each is mapped for nobody.
			if err := d.fill(first+uint64(i)*step+pageSize, 0, 1); !errors.As(err, new(deviceError)) {
				return fmt.Errorf("hole %d: %v", i, err)
			}
		}
		return nil
	})
}

func unmapMany(t *reporter, d *driver, v *vfio, n int) {
	const first, step = unusedIOVA + 16<<32, 2 * pageSize
	t.check("iommu/unmap-many", func() error {
		began := time.Now()
		size, err := v.unmapFrom(first, uint64(n)*step)
		if err != nil {
			return err
		}
		t.info("unmapped %d pages: %v", size/pageSize, time.Since(began))
		if size != uint64(n)*pageSize {
			return fmt.Errorf("%#x bytes were unmapped, not %#x", size, n*pageSize)
		}
		for _, i := range []int{0, n / 2, n - 1} {
			if err := d.fill(first+uint64(i)*step, 0, 1); !errors.As(err, new(deviceError)) {
				return fmt.Errorf("page %d is still there: %v", i, err)
			}
		}
		return d.alive()
	})
}

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
