package translate

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/translate/addr"
)

// No access after Unmap returns, with a real munmap: one touch too late kills
// the test with SIGSEGV, because Bytes are copied without the guard.
func TestNoAccessAfterMunmap(t *testing.T) {
	rounds := 20000
	if testing.Short() || raceEnabled {
		rounds = 2000
	}
	s := newTestStore(t, nil)
	stop := hammer(t, s, 2, 0x4000, 4*pg)
	for i := range rounds {
		mem, err := unix.Mmap(-1, 0, int(4*pg), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		require.NoError(t, err)
		require.NoError(t, s.Map(0x4000, 4*pg, Bytes(mem), rw))
		if i%16 == 0 {
			runtime.Gosched()
		}
		_, err = s.Unmap(context.Background(), 0x4000, 4*pg)
		require.NoError(t, err)
		require.NoError(t, unix.Munmap(mem))
	}
	require.NoError(t, s.Map(0x4000, 4*pg, Bytes(make([]byte, 4*pg)), rw))
	time.Sleep(time.Millisecond)
	stop()
}

// A File mapping is the store's own: it lives without the descriptor, is gone
// after Unmap, and shows what others write to the file.
func TestFileMapping(t *testing.T) {
	fd, err := unix.MemfdCreate("translate", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, int64(3*pg)))
	s := newTestStore(t, nil)
	require.NoError(t, s.Map(0x4000, 2*pg, File(fd, int64(pg)), rw))
	require.NoError(t, s.Map(0x8000, pg, File(fd, 0), addr.Read))
	_, err = unix.Pwrite(fd, []byte("hello"), int64(pg)+7)
	require.NoError(t, err)
	p := make([]byte, 5)
	r := s.NewReader()
	defer r.Close()
	require.NoError(t, r.Read(0x4007, p))
	require.Equal(t, "hello", string(p))
	require.NoError(t, r.Write(0x5000, []byte("there")))
	_, err = unix.Pread(fd, p, int64(2*pg))
	require.NoError(t, err)
	require.Equal(t, "there", string(p))
	require.NoError(t, unix.Close(fd))
	require.NoError(t, r.Read(0x4007, p), "the mapping needs no descriptor")

	r.Enter()
	run, ok := r.Lookup(0x4000)
	r.Exit()
	require.True(t, ok)
	require.Equal(t, KindFile, run.Kind)
	require.True(t, isMapped(run.HVA))
	_, err = s.UnmapAll(context.Background())
	require.NoError(t, err)
	require.False(t, isMapped(run.HVA), "the store unmaps what it mapped")
}

// isMapped reports whether the page at a is part of the address space.
func isMapped(a addr.HVA) bool {
	var vec [1]byte
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(a), uintptr(pg), uintptr(vecPointer(&vec)))
	return errno == 0
}
