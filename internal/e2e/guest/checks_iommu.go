//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"golang.org/x/sys/unix"
)

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
