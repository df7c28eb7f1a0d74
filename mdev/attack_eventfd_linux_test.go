package mdev

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// An eventfd that counts down (EFD_SEMAPHORE) can be read 2^64-2 times after
// one write. Signals that are there together are one all the same: who listens
// must not be kept busy for years.
func TestAttackSemaphoreEventFD(t *testing.T) {
	var fds fdCount
	var running tasks
	w, err := newWatcher(&fds, &running)
	require.NoError(t, err)
	defer w.close()
	fd, err := unix.Eventfd(0, unix.EFD_SEMAPHORE|unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	require.NoError(t, err)
	var calls atomic.Uint64
	called := make(chan struct{}, 1)
	_, err = w.add(fd, func() {
		calls.Add(1)
		select {
		case called <- struct{}{}:
		default:
		}
	})
	require.NoError(t, err)
	write := func(n uint64) {
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], n)
		_, err := unix.Write(fd, b[:])
		require.NoError(t, err)
	}
	heard := func() {
		t.Helper()
		select {
		case <-called:
		case <-time.After(20 * time.Second):
			require.FailNow(t, "not called")
		}
	}
	write(1 << 40)
	heard()
	time.Sleep(20 * time.Millisecond)
	require.EqualValues(t, 1, calls.Load())
	for i := range uint64(10) { // and each write after it is heard
		write(1)
		heard()
		require.EqualValues(t, i+2, calls.Load())
	}
}
