//go:build linux

package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A window is a BAR mapped into this process. Each access is one instruction of
// the width that its name says, and so one access that the device sees: the
// functions below are not inlined, so the compiler can neither join nor drop
// them.
type window struct {
	mem []byte
}

func mapWindow(fd int, off int64, size int) (*window, error) {
	mem, err := unix.Mmap(fd, off, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %#x bytes at %#x: %w", size, off, err)
	}
	return &window{mem}, nil
}

func (w *window) unmap() error { return unix.Munmap(w.mem) }

func (w *window) at(off, n int) unsafe.Pointer {
	if off < 0 || off+n > len(w.mem) || off%n != 0 {
		panic(fmt.Sprintf("%d bytes at %#x of a window of %#x", n, off, len(w.mem)))
	}
	return unsafe.Pointer(&w.mem[off])
}

func (w *window) read8(off int) uint8   { return load8((*uint8)(w.at(off, 1))) }
func (w *window) read16(off int) uint16 { return load16((*uint16)(w.at(off, 2))) }
func (w *window) read32(off int) uint32 { return load32((*uint32)(w.at(off, 4))) }
func (w *window) read64(off int) uint64 { return load64((*uint64)(w.at(off, 8))) }

func (w *window) write8(off int, v uint8)   { store8((*uint8)(w.at(off, 1)), v) }
func (w *window) write16(off int, v uint16) { store16((*uint16)(w.at(off, 2)), v) }
func (w *window) write32(off int, v uint32) { store32((*uint32)(w.at(off, 4)), v) }
func (w *window) write64(off int, v uint64) { store64((*uint64)(w.at(off, 8)), v) }

//go:noinline
func load8(p *uint8) uint8 { return *p }

//go:noinline
func load16(p *uint16) uint16 { return *p }

//go:noinline
func load32(p *uint32) uint32 { return *p }

//go:noinline
func load64(p *uint64) uint64 { return *p }

//go:noinline
func store8(p *uint8, v uint8) { *p = v }

//go:noinline
func store16(p *uint16, v uint16) { *p = v }

//go:noinline
func store32(p *uint32, v uint32) { *p = v }

//go:noinline
func store64(p *uint64, v uint64) { *p = v }

// addressOf is where a buffer lies in this process.
func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(&mem[0])) }

// ioctl passes a structure of the kernel's.
func ioctl[T any](fd int, request uintptr, arg *T) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
