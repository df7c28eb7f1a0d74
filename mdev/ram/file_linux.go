package ram

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newFile makes a file in memory whose size nobody can change.
func newFile(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("mdev-ram", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory to be mapped: %w", err)
	}
	f := os.NewFile(uintptr(fd), "mdev-ram")
	if err = unix.Ftruncate(fd, size); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("memory of %#x bytes to be mapped: %w", size, err)
	}
	return f, nil
}

// renewFile puts another file behind the descriptor of f.
func renewFile(f *os.File, size int64) error {
	other, err := newFile(size)
	if err != nil {
		return err
	}
	defer func() { _ = other.Close() }()
	if err := unix.Dup3(int(other.Fd()), int(f.Fd()), unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("memory to be mapped: %w", err)
	}
	return nil
}

// wipeFile gives the pages of f back: whoever has it mapped finds zeroes.
func wipeFile(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if err != nil {
		return fmt.Errorf("memory to be wiped: %w", err)
	}
	return nil
}
