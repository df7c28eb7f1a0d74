//go:build linux

package vfiouser

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// holdingFile is a file of a file system in user space, of which every read
// waits until release is called. The test is skipped where it cannot be made.
func holdingFile(t *testing.T) (fd int, reads func() int) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no /dev/fuse:", err)
	}
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	opts := fmt.Sprintf("fd=%d,rootmode=100600,user_id=%d,group_id=%d", dev, os.Getuid(), os.Getgid())
	if err := unix.Mount("attack", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		unix.Close(dev)
		t.Skip("mount:", err)
	}
	var mu sync.Mutex
	n := 0
	var served sync.WaitGroup
	served.Go(func() { serveHolding(dev, func() { mu.Lock(); n++; mu.Unlock() }) })
	t.Cleanup(func() {
		require.NoError(t, unix.Unmount(path, unix.MNT_DETACH))
		unix.Close(fd)
		served.Wait() // the last descriptor is gone, and with it the file system
		unix.Close(dev)
	})
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	return fd, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// serveHolding answers the requests of a FUSE mount whose root is a file of 1
// MiB, but for those that read.
//
// Specification: linux/include/uapi/linux/fuse.h.
func serveHolding(dev int, held func()) {
	le := binary.NativeEndian
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(dev, buf)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT:
			continue
		case err != nil || n < 40:
			return // ENODEV: unmounted
		}
		opcode, unique := le.Uint32(buf[4:]), le.Uint64(buf[8:])
		attr := make([]byte, 88)
		le.PutUint64(attr[0:], 1)         // ino
		le.PutUint64(attr[8:], 1<<20)     // size
		le.PutUint32(attr[60:], 0o100600) // mode
		le.PutUint32(attr[64:], 1)        // nlink
		var out []byte
		errno := int32(0)
		switch opcode {
		case 26: // INIT
			out = make([]byte, 64)
			le.PutUint32(out[0:], 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[8:], 65536)
			le.PutUint32(out[20:], 65536)
		case 3, 4: // GETATTR, SETATTR
			out = append(make([]byte, 16), attr...)
			le.PutUint64(out[0:], 3600)
		case 14: // OPEN
			out = make([]byte, 16)
		case 17: // STATFS
			out = make([]byte, 80)
		case 15: // READ
			held()
			continue
		case 2, 36, 42: // FORGET, INTERRUPT, BATCH_FORGET
			continue
		case 18, 25, 38: // RELEASE, FLUSH, DESTROY
		default:
			errno = -int32(unix.ENOSYS)
		}
		reply := make([]byte, 16, 16+len(out))
		le.PutUint32(reply[0:], uint32(16+len(out)))
		le.PutUint32(reply[4:], uint32(errno))
		le.PutUint64(reply[8:], unique)
		_, _ = unix.Write(dev, append(reply, out...))
	}
}

// A file whose pages somebody in user space delivers, or does not, is not
// mapped: who touches such a page waits in the kernel, out of reach of Go's
// scheduler, and with it every goroutine of the process at the next garbage
// collection.
func TestAttackFileThatHoldsReaders(t *testing.T) {
	fd, reads := holdingFile(t)
	r := negotiated(t, nil)
	for _, flags := range []wire.MapFlags{3, 1, 3 | wire.MapMmap, 3 | wire.MapFileIO} {
		errno := r.mapFile(0x10000, 0x10000, 0, flags, fd)
		require.Equal(t, unix.EINVAL, errno, "flags %v", flags)
	}
	require.Zero(t, reads())
	r.alive()
}
