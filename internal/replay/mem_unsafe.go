package replay

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/translate/addr"
)

// chunk is the size of the poison file, and of each mapping of it: 512
// mappings make a guest of 1 GiB.
const chunk = 2 << 20

// mapPoison returns size bytes of private memory that read as poison
// throughout and cost nothing until they are written: the same small file,
// mapped copy-on-write again and again. size is a multiple of chunk.
func mapPoison(size addr.Len, poison byte) ([]byte, error) {
	fd, err := unix.MemfdCreate("poison", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, chunk); err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	b, err := unix.Mmap(fd, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	for i := range b {
		b[i] = poison
	}
	if err := unix.Munmap(b); err != nil {
		return nil, fmt.Errorf("munmap: %w", err)
	}
	// Nothing may change the file any more: every guest page that was not
	// written is this file.
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	// The reservation keeps the addresses together; each chunk then
	// replaces a piece of it.
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	for off := uintptr(0); off < uintptr(size); off += chunk {
		_, err := unix.MmapPtr(fd, 0, unsafe.Add(base, off), chunk,
			unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
		if err != nil {
			_ = unix.MunmapPtr(base, uintptr(size))
			return nil, fmt.Errorf("mmap: %w", err)
		}
	}
	return unsafe.Slice((*byte)(base), uintptr(size)), nil
}

// unmapPoison gives back what mapPoison returned.
func unmapPoison(mem []byte) {
	// Failing here would mean that mem is not such a mapping.
	if err := unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem))); err != nil {
		panic(fmt.Sprintf("replay: munmap of %d bytes of guest memory: %v", len(mem), err))
	}
}

// hvaOf is the address of the first byte of mem.
func hvaOf(mem []byte) addr.HVA { return addr.HVA(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }
