//go:build linux

package vfiouser

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// checkFile decides whether memory of a client may be what fd is, which it has
// sent: a file in memory, a file on a disk, or, to be mapped, a character
// device.
//
// What another process has to deliver is refused. Who touches a page of a file
// of FUSE, or of a network, waits in the kernel for as long as that process
// likes, and does not look like somebody who waits: the next garbage collection
// stops all goroutines but that one, and waits for it. One client would so hold
// up the devices of all.
//
// To be read and written it must be a file proper, also because others (in
// /proc, say) ask what the writer may do, which is more than the client, or
// wait for what never comes. One opened to append would grow with each write.
//
// Nothing here asks the file system, which could take as long.
func checkFile(fd int, io bool) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	switch {
	case err != nil:
		return err
	case flags&unix.O_PATH != 0:
		return unix.EBADF
	case io && flags&unix.O_APPEND != 0:
		return refuse("file that is opened to append")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil {
		return nil // all files in memory have seals, and no others: hugetlbfs, memfd, tmpfs
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_MNT_ID, &st)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFREG && st.Dev_major != 0: // 0: behind it there is no disk
		return nil
	case kind == unix.S_IFCHR && !io:
		return nil
	case kind == unix.S_IFREG && st.Mask&unix.STATX_MNT_ID != 0 && onDisks(st.Mnt_id):
		return nil
	case kind == unix.S_IFREG:
		return fmt.Errorf("file neither in memory nor on a disk: %w", errs.ErrInvalid)
	default:
		return refuse("file of type %#o", kind)
	}
}

// diskless are the file systems on disks whose files have a device number that
// is no disk's, since they may be on several.
var diskless = map[string]bool{"btrfs": true, "bcachefs": true, "zfs": true, "overlay": true}

// onDisks reports whether the mount of that number is of such a file system. The
// kernel tells it from what it has in memory. What lies under an overlay is not
// looked at: who set that up can set up more than a client.
func onDisks(mount uint64) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	id := strconv.FormatUint(mount, 10)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 0:45 / /mnt rw,noatime shared:1 - btrfs /dev/sda rw
		head, tail, ok := strings.Cut(lines.Text(), " - ")
		if first, _, _ := strings.Cut(head, " "); ok && first == id {
			kind, _, _ := strings.Cut(tail, " ")
			return diskless[kind]
		}
	}
	return false
}
