//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"
)

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
