//go:build linux

package vfiouser

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// openFDs is how many descriptors this process has.
func openFDs(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// A client that sends a message byte by byte, each with as many files as a
// message may have, makes the server hold no more than those of two messages:
// the descriptors of a process are few, and other clients need them.
func TestAttackFilesByteByByte(t *testing.T) {
	for name, negotiate := range map[string]bool{"VERSION": false, "a command": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			if negotiate {
				r.negotiate(rigJSON)
			}
			fds := make([]int, 16)
			for i := range fds {
				fds[i] = memFile(t, 4096)
			}
			before := openFDs(t)
			msg := frame(1, wire.CmdVersion, 0, make([]byte, 100))
			for _, b := range msg[:wire.HeaderLen-1] {
				if r.tryWrite([]byte{b}, fds...) != nil {
					break // it has had enough
				}
			}
			require.Eventually(t, func() bool { // all is received
				n, err := unix.IoctlGetInt(r.fd, unix.SIOCOUTQ)
				return err != nil || n == 0
			}, 10*time.Second, time.Millisecond)
			require.LessOrEqual(t, openFDs(t), before+2*len(fds))
			r.hangUp()
			require.Error(t, r.wait())
			require.LessOrEqual(t, openFDs(t), before)
		})
	}
}

// What is no memory is refused, whatever it is, and its descriptor closed.
func TestAttackMapStrangeFiles(t *testing.T) {
	open := func(path string, flags int) func(*testing.T) int {
		return func(t *testing.T) int {
			fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			return fd
		}
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	for name, f := range map[string]func(*testing.T) int{
		"a directory":     open(dir, unix.O_RDONLY),
		"a FIFO":          open(fifo, unix.O_RDWR),
		"/dev/null":       open("/dev/null", unix.O_RDWR),
		"a terminal":      open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY),
		"O_PATH":          open("/dev/shm", unix.O_PATH),
		"a file of /proc": open("/proc/self/maps", unix.O_RDONLY),
		"a socket": func(t *testing.T) int {
			x, y := socketPair(t)
			t.Cleanup(func() { unix.Close(x); unix.Close(y) })
			return x
		},
		"an eventfd": func(t *testing.T) int {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			require.NoError(t, err)
			t.Cleanup(func() { unix.Close(fd) })
			return fd
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := negotiated(t, nil)
			fd := f(t)
			for _, flags := range []wire.MapFlags{3, 1, 3 | wire.MapMmap, 3 | wire.MapFileIO} {
				before := openFDs(t)
				errno := r.mapFile(0x10000, 0x10000, 0, flags, fd)
				require.NotZero(t, errno, "flags %v", flags)
				require.Equal(t, before, openFDs(t))
				require.Equal(t, unix.ENOENT, r.unmap(0x10000, 0x10000))
			}
			r.alive()
		})
	}
}
