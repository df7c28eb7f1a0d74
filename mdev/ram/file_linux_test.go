package ram_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/ram"
)

// mapped is memory and a client's mapping of it.
func mapped(t *testing.T) (*ram.Memory, []byte) {
	m, err := ram.New(size, true)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m, mmap(t, int(m.File().Fd()))
}

func mmap(t *testing.T, fd int) []byte {
	p, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(p)) })
	return p
}

// The client and the device see each other's bytes.
func TestMapped(t *testing.T) {
	m, client := mapped(t)
	copy(client[100:], "from the client")
	var p [15]byte
	_, err := m.ReadAt(p[:], 100)
	require.NoError(t, err)
	require.Equal(t, "from the client", string(p[:]))
	_, err = m.WriteAt([]byte("from the device"), 200)
	require.NoError(t, err)
	require.Equal(t, "from the device", string(client[200:215]))
	require.NoError(t, m.Wipe())
	require.Equal(t, make([]byte, size), client)
}

// The size is the device's, whatever the client does with the descriptor.
func TestSealed(t *testing.T) {
	m, _ := mapped(t)
	fd := int(m.File().Fd())
	for _, n := range []int64{0, size - 1, size + 1} {
		require.ErrorIs(t, unix.Ftruncate(fd, n), unix.EPERM)
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	require.ErrorIs(t, err, unix.EPERM, "nor can it seal the memory against the device")
	require.NoError(t, m.Renew())
	require.ErrorIs(t, unix.Ftruncate(fd, 0), unix.EPERM, "nor later")
}

// A client that is gone, but has the memory mapped and holds a copy of the
// descriptor, shares nothing with the next one.
func TestRenewed(t *testing.T) {
	m, before := mapped(t)
	file, fd := m.File(), int(m.File().Fd())
	kept, err := unix.Dup(fd)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Close(kept)) }()
	copy(before, "mine")
	require.NoError(t, m.Renew())
	require.Same(t, file, m.File())
	require.Equal(t, fd, int(m.File().Fd()))
	after := mmap(t, fd)
	require.Equal(t, make([]byte, size), after)
	copy(after, "secret")
	require.Equal(t, "mine", string(before[:4]))
	require.Equal(t, "mine", string(mmap(t, kept)[:4]))
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
}

// Without descriptors to spare, and after Close: an error, and all is as it was.
func TestNoDescriptors(t *testing.T) {
	m, client := mapped(t)
	copy(client, "mine")
	free := lowest(t)
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: was.Max}))
	_, err := ram.New(size, true)
	renewed := m.Renew()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	require.ErrorIs(t, err, unix.EMFILE)
	require.ErrorIs(t, renewed, unix.EMFILE)
	require.Equal(t, "mine", string(mmap(t, int(m.File().Fd()))[:4]))
	require.Equal(t, free, lowest(t))

	m.Close()
	before := lowest(t)
	require.ErrorIs(t, m.Renew(), unix.EBADF)
	require.ErrorIs(t, m.Wipe(), unix.EBADF)
	require.Equal(t, before, lowest(t))
}

// lowest is the lowest descriptor that is free.
func lowest(t *testing.T) int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
	return fd
}
