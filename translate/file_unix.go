//go:build unix

package translate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapFile maps n bytes of a file, shared, for reading or for reading and
// writing. The errno of mmap(2) shows: EACCES for an access that the
// descriptor does not have, EPERM for one that a seal forbids, ENOMEM for no
// room.
//
// What is mapped of a file in huge pages must not make them: a mapping that
// may be written extends the file to its end, and every mapping reserves the
// pages that the file lacks. It is made for reading, reserves nothing, and
// gets its protection then.
func mapFile(fd int, off int64, n int, write, huge bool) ([]byte, error) {
	prot, flags := unix.PROT_READ, unix.MAP_SHARED
	switch {
	case huge:
		flags |= noReserve
	case write:
		prot |= unix.PROT_WRITE
	}
	p, err := unix.Mmap(fd, off, n, prot, flags)
	if err != nil {
		return nil, err
	}
	if write && huge {
		if err := unix.Mprotect(p, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			unmapFile(p)
			return nil, err
		}
	}
	return p, nil
}

func unmapFile(p []byte) {
	if err := unix.Munmap(p); err != nil {
		panic(fmt.Sprintf("translate: munmap of %#x bytes that mmap returned: %v", len(p), err))
	}
}
