package translate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const noReserve = unix.MAP_NORESERVE

// stat asks what descriptor fd is.
func (l *fileLook) stat(fd int) error {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	for err == unix.EINTR { // a file system in user space may say so
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	l.dev, l.ino, l.size = uint64(st.Dev), st.Ino, uint64(max(st.Size, 0))
	l.regular = st.Mode&unix.S_IFMT == unix.S_IFREG
	l.block = hostPage
	if uint64(st.Blksize) > hostPage {
		l.block, l.huge = hugeBlock(fd)
	}
	return nil
}

// hugeBlock is the size of a page of a hugetlbfs, in which parts of its files
// are mapped and unmapped; false of any other file system, whatever it thinks
// a good size to read.
func hugeBlock(fd int) (uint64, bool) {
	var fs unix.Statfs_t
	err := unix.Fstatfs(fd, &fs)
	size := uint64(fs.Bsize)
	if err != nil || uint32(fs.Type) != unix.HUGETLBFS_MAGIC || size <= hostPage || size&(size-1) != 0 {
		return hostPage, false
	}
	return size, true
}

// mayMap reports whether mmap(2) would map fd, a regular file, shared and with
// that protection: what the kernel asks of the descriptor, and of a file in
// memory that is sealed.
func mayMap(fd int, write bool) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	switch mode := flags & unix.O_ACCMODE; {
	case err != nil:
		return err
	case flags&unix.O_PATH != 0:
		return unix.EBADF
	case mode != unix.O_RDWR && (write || mode != unix.O_RDONLY):
		return unix.EACCES
	case !write:
		return nil
	}
	// EINVAL where there are no seals.
	if seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil && seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
		return unix.EPERM
	}
	return nil
}
