package fba

import (
	"os"
	"syscall"
)

// Flags of fallocate [linux/falloc.h].
const (
	keepSize  = 0x01
	punchHole = 0x02
)

// punch makes a hole of n bytes at off, which reads as zeros. It fails where
// the file system knows no holes.
func punch(f *os.File, off, n int64) error {
	return syscall.Fallocate(int(f.Fd()), keepSize|punchHole, off, n)
}
