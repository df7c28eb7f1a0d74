package demo_test

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
)

// With mmap=on a VMM maps BAR 2 and sees what the device sees, across resets;
// the next VMM sees nothing of it.
func TestMmap(t *testing.T) {
	var c demo.Config
	require.NoError(t, c.Set("mmap", "on"))
	dev, err := demo.New(&c)
	require.NoError(t, err)
	defer dev.Destroy()
	info := dev.Info().Regions[mdev.BAR2]
	require.Equal(t, mdev.RegionRead|mdev.RegionWrite|mdev.RegionMmap, info.Flags)

	client := func() []byte {
		p, err := unix.Mmap(int(info.Memory.Fd()), int64(info.MemoryOffset), int(info.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Munmap(p)) })
		return p
	}
	r := openRig(t, dev, nil)
	bar := client()
	copy(bar[5:], "from the client")
	var p [15]byte
	require.NoError(t, r.Read(r.ctx, mdev.BAR2, 5, p[:]))
	require.Equal(t, "from the client", string(p[:]))
	require.NoError(t, r.Write(r.ctx, mdev.BAR2, demo.BAR2Size-4, []byte("mdev")))
	require.Equal(t, "mdev", string(bar[demo.BAR2Size-4:]))
	require.NoError(t, r.Reset(r.ctx))
	require.Equal(t, make([]byte, demo.BAR2Size), bar, "what is mapped is wiped")
	copy(bar, "still there")
	require.NoError(t, r.Read(r.ctx, mdev.BAR2, 0, p[:11]))
	require.Equal(t, "still there", string(p[:11]))
	r.close()

	next := openRig(t, dev, nil)
	other := client()
	require.Equal(t, make([]byte, demo.BAR2Size), other)
	copy(other, "secret")
	require.Equal(t, make([]byte, demo.BAR2Size), bar, "who had it has other memory, wiped")
	copy(bar, "spy")
	require.NoError(t, next.Read(next.ctx, mdev.BAR2, 0, p[:6]))
	require.Equal(t, "secret", string(p[:6]))
	next.close()
}

// Without the memory behind BAR 2 the device does not open, and does not save.
func TestNoMemory(t *testing.T) {
	dev, err := demo.New(&demo.Config{Mmap: true})
	require.NoError(t, err)
	r := openRig(t, dev, nil)
	require.NoError(t, r.Quiesce(r.ctx))
	dev.Destroy() // what nobody does while it is open
	require.ErrorIs(t, dev.Save(r.ctx, io.Discard), os.ErrClosed)
	require.ErrorIs(t, dev.PreCopy(r.ctx, io.Discard), os.ErrClosed)
	require.NoError(t, r.Reset(r.ctx), "all else works")
	r.close()
	_, err = mdev.Open(r.ctx, dev, nil)
	require.ErrorIs(t, err, unix.EBADF)
}
