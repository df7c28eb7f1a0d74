package pinning_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// needLocked skips where the machine does not let the test lock that many
// pages.
func needLocked(t *testing.T, pages int) {
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim))
	if need := uint64(pages+2) << 12; lim.Cur < need {
		t.Skipf("RLIMIT_MEMLOCK is %d bytes, the test locks %d", lim.Cur, need)
	}
}

// locked is how many bytes of this process the kernel has locked.
func locked(t *testing.T) addr.Len {
	f, err := os.Open("/proc/self/status")
	require.NoError(t, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb addr.Len
		if n, _ := fmt.Sscanf(s.Text(), "VmLck: %d kB", &kb); n == 1 || strings.HasPrefix(s.Text(), "VmLck") {
			return kb << 10
		}
	}
	t.Skip("/proc/self/status tells no VmLck")
	return 0
}

// anon is n pages of this process, apart from the Go heap.
func anon(t *testing.T, n addr.Len) []byte {
	mem, err := unix.Mmap(-1, 0, int(n*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mem)) })
	return mem
}

// Real mlock: the kernel's count follows ours, also where two mappings lead to
// one page, which the kernel would unlock at the first munlock.
func TestLockedBackend(t *testing.T) {
	needLocked(t, 8)
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		mem := anon(t, 8)
		e := newEnv(t, layout, &pinning.Config{Backend: pinning.Locked})
		require.NoError(t, e.st.Map(0x10_0000, 8*page, translate.Bytes(mem), rw))
		require.NoError(t, e.st.Map(0x20_0000, 4*page, translate.Bytes(mem), r))
		before := locked(t)
		a, b := e.o.Begin(1), e.o.Begin(2)
		pa := e.pin(a, 0x10_0800, 3*page, rw) // 4 pages
		require.Equal(t, before+4*page, locked(t))
		pb := e.pin(b, 0x20_0000, page, r)
		require.Equal(t, before+4*page, locked(t), "the same page by another mapping")
		require.Equal(t, 5*page, e.p.Charged(), "but charged by address, as type1 charges")

		var frames []addr.HPA
		if os.Geteuid() == 0 {
			for off := addr.Len(0); off < 3*page; off += page {
				frames = append(frames, addr.PageOf(pa.At(off)))
			}
			t.Logf("real frames %v; the second mapping's page is %s", frames, pb.HPA())
		}
		require.NoError(t, e.d.Write(pa.HPA(), []byte("hello")))
		require.Equal(t, "hello", string(mem[0x800:0x805]))
		got := make([]byte, 5)
		require.NoError(t, e.d.Read(pb.HPA()+0x800, got))
		require.Equal(t, "hello", string(got))
		require.ErrorIs(t, e.d.Write(pb.HPA(), got), errs.ErrPermission)

		a.Release()
		require.Equal(t, before+page, locked(t))
		require.False(t, e.reads(pa.HPA()))
		require.True(t, e.reads(pb.HPA()))
		b.Release()
		require.Equal(t, before, locked(t))
		require.False(t, e.reads(pb.HPA()))
	})
}

func TestLockedRefusals(t *testing.T) {
	needLocked(t, 8)
	e := newEnv(t, iommu.Contiguous, &pinning.Config{Backend: pinning.Locked, Limit: 3 * page})
	before := locked(t)
	l := e.o.Begin(1)
	defer l.Release()
	require.NoError(t, e.st.Map(0x10_0000, page, translate.Remote(hollow{}), r))
	_, err := l.Pin(0x10_0000, page, r)
	require.ErrorIs(t, err, errs.ErrNotSupported, "remote memory cannot be locked")

	mem := anon(t, 8)
	require.NoError(t, e.st.Map(0x20_0000, 8*page, translate.Bytes(mem), rw))
	_, err = l.Pin(0x20_0000, 4*page, rw)
	require.ErrorIs(t, err, errs.ErrMemlock)
	require.Equal(t, before, locked(t), "all or nothing")

	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, int64(page)))
	require.NoError(t, e.st.Map(0x30_0000, 2*page, translate.File(fd, 0), rw))
	_, err = l.Pin(0x30_0000, 2*page, rw)
	require.ErrorIs(t, err, errs.ErrFault, "the file is shorter than the mapping")
	require.ErrorContains(t, err, "iova 0x30000")
	require.Equal(t, before, locked(t))
	e.pin(l, 0x30_0000, page, rw)
	require.Equal(t, before+page, locked(t))
	require.NoError(t, unix.Ftruncate(fd, 0))
	l.Release()
	require.Zero(t, e.p.Charged())

	// Nothing is there at all.
	require.NoError(t, e.st.Map(0x40_0000, page, translate.Process(0x10_0000), r))
	l = e.o.Begin(2)
	_, err = l.Pin(0x40_0000, page, r)
	require.ErrorIs(t, err, errs.ErrFault)
	l.Release()
}

func TestRlimitIsTheDefault(t *testing.T) {
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim))
	st, err := translate.New(nil)
	require.NoError(t, err)
	defer st.Close()
	p, err := pinning.New(st, iommu.NewSpace(nil), nil)
	require.NoError(t, err)
	defer p.Close()
	if lim.Cur == unix.RLIM_INFINITY {
		require.Equal(t, pinning.Unlimited, p.Limit())
	} else {
		require.Equal(t, addr.Len(lim.Cur)&^(page-1), p.Limit())
	}
}

func TestTruncatedFile(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 4*int64(page)))
	require.NoError(t, e.st.Map(0x10_0000, 4*page, translate.File(fd, 0), rw))
	l := e.o.Begin(1)
	defer l.Release()
	pin := e.pin(l, 0x10_0000, 4*page, rw)
	require.True(t, e.writes(pin.At(3*page)))
	require.NoError(t, unix.Ftruncate(fd, int64(page)))
	require.ErrorIs(t, e.d.Read(pin.At(3*page), make([]byte, 8)), errs.ErrFault)
	require.ErrorIs(t, e.d.Write(pin.At(3*page), make([]byte, 8)), errs.ErrFault)
	require.True(t, e.writes(pin.At(0)), "it costs the access only")
}
