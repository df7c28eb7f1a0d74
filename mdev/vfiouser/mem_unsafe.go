//go:build linux

package vfiouser

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The only file of the package that gives addresses to the kernel. The
// functions of package unix would do, but allocate for each message: a
// Msghdr, an address that a connected socket does not have, and on the way in
// a slice of control messages.

// recvmsg is recvmsg(2) on fd. m and all it points to belong to the caller.
func recvmsg(fd int, m *unix.Msghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), uintptr(flags))
	return int(n), errno
}

// sendmsg is sendmsg(2) on fd.
func sendmsg(fd int, m *unix.Msghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), uintptr(flags))
	return int(n), errno
}

// sendto is sendto(2) on fd, which is connected; p is not empty.
func sendto(fd int, p []byte, flags int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
	return int(n), errno
}

// setIovec makes v the bytes b, which must stay reachable otherwise for as long
// as v is in use: v alone keeps them, being a typed pointer.
func setIovec(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
}
