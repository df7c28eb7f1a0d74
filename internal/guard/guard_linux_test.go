package guard

import (
	"errors"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

const page = int(addr.PageSize)

// truncated is a mapped file of four pages that has lost the last two.
func truncated(t testing.TB) []byte {
	t.Helper()
	fd, err := unix.MemfdCreate("guard", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, int64(4*page)))
	mem, err := unix.Mmap(fd, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mem)) })
	for i := range mem {
		mem[i] = byte(i / page)
	}
	require.NoError(t, unix.Ftruncate(fd, int64(2*page)))
	return mem
}

// SIGBUS from a file that a peer truncated is an error of the copy that met
// it: reading, writing, at the edge, over the edge.
func TestTruncatedFile(t *testing.T) {
	mem := truncated(t)
	hva := addressOf(mem)
	p := make([]byte, 16)
	for _, tt := range []struct {
		name string
		off  int
		ok   bool
	}{
		{"the last bytes there are", 2*page - 16, true},
		{"over the edge", 2*page - 8, false},
		{"the first byte that is gone", 2 * page, false},
		{"far behind", 4*page - 16, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := hva + addr.HVA(tt.off)
			for what, err := range map[string]error{
				"in":     CopyIn(p, at),
				"out":    CopyOut(at, p),
				"from":   Copy(p, mem[tt.off:tt.off+16]),
				"to":     Copy(mem[tt.off:tt.off+16], p),
				"within": Copy(mem[tt.off:tt.off+16], mem[:16]),
			} {
				if tt.ok {
					require.NoError(t, err, what)
					continue
				}
				require.ErrorIs(t, err, errs.ErrFault, what)
				require.Equal(t, unix.EFAULT, errs.Errno(err), what)
				var f *Fault
				require.True(t, errors.As(err, &f))
				require.Equal(t, hva+addr.HVA(max(tt.off, 2*page)&^(page-1)), addr.PageOf(f.Addr), what)
				require.ErrorContains(t, err, "memory behind the mapping is gone")
			}
		})
	}
	require.NoError(t, CopyIn(p, hva+addr.HVA(page)))
	require.Equal(t, byte(1), p[0], "what is there is still there")
}

// Memory that was never there: SIGSEGV, the nil page, the end of the space.
func TestUnmappedMemory(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	require.NoError(t, unix.Munmap(mem))
	p := make([]byte, 16)
	for _, a := range []addr.HVA{0, 1, 0xfff, 0x1000, addressOf(mem), ^addr.HVA(0) - 8, ^addr.HVA(0), 1 << 63, 1 << 47} {
		require.ErrorIs(t, CopyIn(p, a), errs.ErrFault, "%v", a)
		require.ErrorIs(t, CopyOut(a, p), errs.ErrFault, "%v", a)
	}
	ro, err := unix.Mmap(-1, 0, page, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	require.NoError(t, Copy(p, ro))
	require.ErrorIs(t, Copy(ro, p), errs.ErrFault, "read-only memory")
	require.NoError(t, unix.Munmap(ro))
	require.NoError(t, CopyIn(nil, 0x1000), "no bytes touch nothing")
}

// The guard covers the copy alone: afterwards the goroutine is as it was.
func TestGuardEndsWithTheCopy(t *testing.T) {
	for _, before := range []bool{false, true} {
		debug.SetPanicOnFault(before)
		require.NoError(t, Copy(make([]byte, 4), make([]byte, 4)))
		require.Equal(t, before, debug.SetPanicOnFault(before))
		require.Error(t, CopyIn(make([]byte, 4), 0x1000))
		require.Equal(t, before, debug.SetPanicOnFault(before))
	}
	debug.SetPanicOnFault(false)
}

func TestNoAllocations(t *testing.T) {
	a, b := make([]byte, 64), make([]byte, 64)
	hva := addressOf(b)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = Copy(a, b) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = CopyIn(a, hva) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = CopyOut(hva, a) }))
}

// The cost of the guard: the difference to plain.
func BenchmarkCopy(b *testing.B) {
	dst, src := make([]byte, 8), make([]byte, 8)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			copy(dst, src)
		}
	})
	b.Run("guarded", func(b *testing.B) {
		for b.Loop() {
			_ = Copy(dst, src)
		}
	})
}
