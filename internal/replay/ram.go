package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// RAM is the memory of a guest: real memory of this process, filled with a
// poison byte and sparse, so that a guest of 1 GiB costs what was written.
// It is used by one goroutine at a time, apart from the device that a mediator
// lets at it.
//
// Memory that is shared with other processes is a file of its own, which cannot
// be filled for nothing: pages of it are made poison when something is about
// to be looked for in them, and are zero before.
type RAM struct {
	mem    []byte
	poison byte
	page   []byte // one page of poison

	file *os.File // of shared memory, else nil
	made []uint64 // a bit for each page of shared memory that was made poison
}

// Bounds of a guest's memory in bytes.
const (
	MinRAM = addr.Len(4 << 20)
	MaxRAM = addr.Len(64 << 30)
)

// NewRAM makes a guest of size bytes, a multiple of 2 MiB.
func NewRAM(size addr.Len, poison byte) (*RAM, error) {
	if size < chunk || size > MaxRAM || size > math.MaxInt || size%chunk != 0 {
		return nil, errSize(size)
	}
	mem, err := mapPoison(size, poison)
	if err != nil {
		return nil, fmt.Errorf("guest memory of %d MiB: %w", uint64(size>>20), err)
	}
	return &RAM{mem: mem, poison: poison, page: bytes.Repeat([]byte{poison}, int(addr.PageSize))}, nil
}

// NewSharedRAM is NewRAM with memory that others can map.
func NewSharedRAM(size addr.Len, poison byte) (*RAM, error) {
	if size < chunk || size > MaxRAM || size > math.MaxInt || size%chunk != 0 {
		return nil, errSize(size)
	}
	m := &RAM{poison: poison, page: bytes.Repeat([]byte{poison}, int(addr.PageSize)), made: make([]uint64, size>>addr.PageShift/64)}
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	m.file = os.NewFile(uintptr(fd), "guest")
	if err = unix.Ftruncate(fd, int64(size)); err == nil {
		m.mem, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("guest memory of %d MiB: %w", uint64(size>>20), err), m.file.Close())
	}
	return m, nil
}

func errSize(size addr.Len) error {
	return fmt.Errorf("memory size %d: want a multiple of 2 MiB up to 64 GiB", uint64(size))
}

// Close gives the memory back. Nothing may hold a mapping of it.
func (m *RAM) Close() {
	if m.mem == nil {
		return
	}
	if m.file != nil {
		_ = unix.Munmap(m.mem) // a mapping of Mmap
		_ = m.file.Close()     // of memory, which cannot fail to be written back
	} else {
		unmapPoison(m.mem)
	}
	m.mem = nil
}

// File is the file behind shared memory.
func (m *RAM) File() *os.File { return m.file }

// prepare makes the pages poison, as they should be before anything is loaded.
func (m *RAM) prepare(pages []addr.GPA) {
	if m.file == nil {
		return
	}
	for _, a := range pages {
		if p := a >> addr.PageShift; m.made[p/64]>>(p%64)&1 == 0 {
			m.made[p/64] |= 1 << (p % 64)
			m.clearRange(a, addr.PageSize)
		}
	}
}

// Size is the size of the guest in bytes.
func (m *RAM) Size() addr.Len { return addr.Len(len(m.mem)) }

// HVA is where byte 0 of the guest lies in this process.
func (m *RAM) HVA() addr.HVA { return hvaOf(m.mem) }

// Holds reports whether all of r is memory of the guest.
func (m *RAM) Holds(r addr.Range[addr.GPA]) bool { return uint64(r.Last()) < uint64(len(m.mem)) }

// at is the memory of a range that the guest holds.
func (m *RAM) at(a addr.GPA, n addr.Len) []byte { return m.mem[a : uint64(a)+uint64(n)] }

// load writes segments.
func (m *RAM) load(segs []recording.Segment) {
	for i := range segs {
		s := &segs[i]
		s.CopyTo(m.at(s.GPA, s.Len()), 0)
	}
}

// clear writes poison over segments.
func (m *RAM) clear(segs []recording.Segment) {
	for i := range segs {
		m.clearRange(segs[i].GPA, segs[i].Len())
	}
}

func (m *RAM) clearRange(a addr.GPA, n addr.Len) {
	p := m.at(a, n)
	for len(p) > 0 {
		p = p[copy(p, m.page):]
	}
}

// isPoison reports whether n bytes from a are poison.
func (m *RAM) isPoison(a addr.GPA, n addr.Len) bool {
	p := m.at(a, n)
	for len(p) > len(m.page) {
		if !bytes.Equal(p[:len(m.page)], m.page) {
			return false
		}
		p = p[len(m.page):]
	}
	return bytes.Equal(p, m.page[:len(p)])
}

// discard gives pages back to the poison file: they read as poison and are
// no longer written pages.
func (m *RAM) discard() error {
	if m.file != nil {
		clear(m.made)
		const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		if err := unix.Fallocate(int(m.file.Fd()), punch, 0, int64(len(m.mem))); err != nil {
			return fmt.Errorf("fallocate: %w", err)
		}
		return nil
	}
	if err := unix.Madvise(m.mem, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("madvise: %w", err)
	}
	return nil
}

// errNoPagemap says that the kernel does not tell which pages were written.
var errNoPagemap = errors.New("no pagemap")

// Sweep returns the pages of the guest that are not as they should be between
// programs: all poison, or never touched. It does not rely on what any part of
// the mediator reports: a page of a private mapping that was written is no
// longer a page of the file (bit 61 of its pagemap entry,
// Documentation/admin-guide/mm/pagemap.rst), and one of shared memory is no
// longer a hole in its file; so those are looked at. Where the kernel does not
// tell, all pages are.
func (m *RAM) Sweep() []addr.GPA {
	var stray []addr.GPA
	check := func(page int) {
		a := addr.GPA(page) << addr.PageShift
		ok := false
		if m.file != nil && m.made[page/64]>>(page%64)&1 == 0 {
			ok = recording.IsFill(m.at(a, addr.PageSize), 0)
		} else {
			ok = m.isPoison(a, addr.PageSize)
		}
		if !ok {
			stray = append(stray, a)
		}
	}
	written := m.written
	if m.file != nil {
		written = m.filled
	}
	if err := written(check); err != nil {
		stray = stray[:0]
		for page := range len(m.mem) >> addr.PageShift {
			check(page)
		}
	}
	return stray
}

// filled calls f with the number of each page of shared memory that is no hole.
func (m *RAM) filled(f func(page int)) error {
	fd := int(m.file.Fd())
	for at := int64(0); ; {
		from, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(fd, from, unix.SEEK_HOLE); err != nil {
			return err
		}
		for page := from >> addr.PageShift; page < at>>addr.PageShift; page++ {
			f(int(page))
		}
	}
}

// written calls f with the number of each page that was ever written since
// it was last discarded.
func (m *RAM) written(f func(page int)) error {
	if os.Getpagesize() != int(addr.PageSize) {
		return errNoPagemap
	}
	pm, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return errNoPagemap
	}
	defer pm.Close()
	const present, swapped, file = 1 << 63, 1 << 62, 1 << 61
	buf := make([]byte, 64<<10)
	pages := len(m.mem) >> addr.PageShift
	first := int64(m.HVA() >> addr.PageShift)
	for page := 0; page < pages; {
		n := min(len(buf)/8, pages-page)
		if _, err := pm.ReadAt(buf[:8*n], 8*(first+int64(page))); err != nil {
			return errNoPagemap
		}
		for i := range n {
			e := binary.NativeEndian.Uint64(buf[8*i:])
			if e&(present|swapped) != 0 && e&file == 0 {
				f(page + i)
			}
		}
		page += n
	}
	return nil
}
