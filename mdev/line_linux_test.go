package mdev

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A signal that takes long, because its goroutine was put to sleep, looks like
// one that is stuck. Only a counter that is full is taken from the client.
func TestRescueTakesOnlyAFullCounter(t *testing.T) {
	fd, err := newEventFD()
	require.NoError(t, err)
	var fds fdCount
	fds.n.Add(1)
	l := newLine(fd, true, nil, &fds)
	for range 5 {
		require.True(t, l.signal())
	}
	l.rescue()
	p := make([]byte, 8)
	_, err = unix.Read(fd, p)
	require.NoError(t, err)
	require.EqualValues(t, 5, p[0]|p[7])

	for i := range p {
		p[i] = 0xff
	}
	p[0], p[7] = 0xfe, 0xff // 2^64-2 on little-endian machines
	if one[7] == 1 {
		p[0], p[7] = 0xff, 0xfe
	}
	_, err = unix.Write(fd, p)
	require.NoError(t, err)
	require.False(t, l.signal(), "full")
	l.rescue()
	require.True(t, l.signal())
	retire([]*line{l})
	require.Zero(t, fds.n.Load())
	require.False(t, l.get(), "gone")
}

// A watched eventfd may be blocking, and its client may have read it first.
func TestDrainDoesNotBlock(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC) // blocking
	require.NoError(t, err)
	defer closeFD(fd)
	require.False(t, drainEventFD(fd))
	require.True(t, signalEventFD(fd, false))
	require.True(t, drainEventFD(fd))
	require.False(t, drainEventFD(fd))
}
