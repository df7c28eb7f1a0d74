//go:build unix

package translate

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/translate/addr"
)

// mapFile maps n bytes of a file, shared. The errno of mmap(2) shows: EACCES
// for an access that the descriptor does not have, ENOMEM for no room.
func mapFile(fd int, off int64, n addr.Len, access addr.Access) ([]byte, error) {
	if uint64(n) > math.MaxInt {
		return nil, fmt.Errorf("map file: %w", unix.ENOMEM)
	}
	prot := 0
	if access.Allows(addr.Read) {
		prot |= unix.PROT_READ
	}
	if access.Allows(addr.Write) {
		prot |= unix.PROT_WRITE
	}
	p, err := unix.Mmap(fd, off, int(n), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map file: %w", err)
	}
	return p, nil
}

func unmapFile(p []byte) {
	if err := unix.Munmap(p); err != nil {
		panic(fmt.Sprintf("translate: munmap of %#x bytes that mmap returned: %v", len(p), err))
	}
}
