//go:build linux

package vfiouser

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// eventFDs are n eventfds of the test.
func eventFDs(t testing.TB, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		fds[i] = fd
	}
	return fds
}

// signals is how often an eventfd was signalled since the last look.
func signals(t testing.TB, fd int) uint64 {
	t.Helper()
	var b [8]byte
	_, err := unix.Read(fd, b[:])
	if err == unix.EAGAIN {
		return 0
	}
	require.NoError(t, err)
	return binary.NativeEndian.Uint64(b[:])
}

func setIRQs(flags wire.SetFlags, index, start, count uint32, bools ...byte) []byte {
	return append(wire.SetIRQs{Argsz: 20 + uint32(len(bools)), Flags: flags, Index: index, Start: start, Count: count}.Append(nil), bools...)
}

// TestSetIRQs: specs, "DEVICE_SET_IRQS (8)", as far as the message goes. What
// it does is package mdev's.
func TestSetIRQs(t *testing.T) {
	const arm = wire.SetDataEventFD | wire.SetActionTrigger
	negotiated(t, nil).run(t, []wireRow{
		{"no file disarms: QEMU's first MSI-X message", wire.CmdSetIRQs, setIRQs(arm, 2, 0, 1), 0, 0, []byte{}},
		{"0x21 0/0 disables", wire.CmdSetIRQs, setIRQs(wire.SetDataNone|wire.SetActionTrigger, 2, 0, 0), 0, 0, []byte{}},
		{"0x22 of an index that is not enabled, as vfio_pci_set_msi_trigger has it", wire.CmdSetIRQs, setIRQs(wire.SetDataBool|wire.SetActionTrigger, 2, 0, 3, 1, 0, 1), 0, unix.EINVAL, nil},
		{"fds are either count or 0: one short", wire.CmdSetIRQs, setIRQs(arm, 2, 0, 3), 2, unix.EINVAL, nil},
		{"one too many", wire.CmdSetIRQs, setIRQs(arm, 2, 0, 1), 2, unix.EINVAL, nil},
		{"files that are no eventfds", wire.CmdSetIRQs, setIRQs(arm, 2, 0, 1), 1, unix.EINVAL, nil},
		{"files where none are meant", wire.CmdSetIRQs, setIRQs(wire.SetDataNone|wire.SetActionTrigger, 2, 0, 1), 1, unix.EINVAL, nil},
		{"no data type", wire.CmdSetIRQs, setIRQs(wire.SetActionTrigger, 2, 0, 1), 0, unix.EINVAL, nil},
		{"two data types", wire.CmdSetIRQs, setIRQs(wire.SetDataNone|wire.SetDataEventFD|wire.SetActionTrigger, 2, 0, 1), 0, unix.EINVAL, nil},
		{"no action", wire.CmdSetIRQs, setIRQs(wire.SetDataNone, 2, 0, 1), 0, unix.EINVAL, nil},
		{"two actions", wire.CmdSetIRQs, setIRQs(wire.SetDataNone|wire.SetActionMask|wire.SetActionTrigger, 2, 0, 1), 0, unix.EINVAL, nil},
		{"an unknown flag", wire.CmdSetIRQs, setIRQs(arm|1<<6, 2, 0, 1), 0, unix.EINVAL, nil},
		{"an index beyond", wire.CmdSetIRQs, setIRQs(arm, 5, 0, 1), 0, unix.EINVAL, nil},
		{"start+count beyond the vectors", wire.CmdSetIRQs, setIRQs(arm, 2, 19, 2), 0, unix.EINVAL, nil},
		{"start+count passes 2^32", wire.CmdSetIRQs, setIRQs(arm, 2, 1<<32-1, 2), 0, unix.EINVAL, nil},
		{"start at the number of vectors", wire.CmdSetIRQs, setIRQs(arm, 2, 20, 1), 0, unix.EINVAL, nil},
		{"vectors of an absent index", wire.CmdSetIRQs, setIRQs(arm, 1, 0, 1), 0, unix.EINVAL, nil},
		{"count 0 with files in mind", wire.CmdSetIRQs, setIRQs(arm, 2, 0, 0), 0, unix.EINVAL, nil},
		{"fewer bytes than vectors", wire.CmdSetIRQs, setIRQs(wire.SetDataBool|wire.SetActionTrigger, 2, 0, 3, 1), 0, unix.EINVAL, nil},
		{"more bytes than vectors", wire.CmdSetIRQs, setIRQs(wire.SetDataBool|wire.SetActionTrigger, 2, 0, 1, 1, 1), 0, unix.EINVAL, nil},
		{"2^32-1 vectors and no bytes", wire.CmdSetIRQs, setIRQs(wire.SetDataBool|wire.SetActionTrigger, 2, 0, 1<<32-1), 0, unix.EINVAL, nil},
		{"bytes where none are meant", wire.CmdSetIRQs, setIRQs(wire.SetDataNone|wire.SetActionTrigger, 2, 0, 1, 1), 0, unix.EINVAL, nil},
		{"argsz below the payload", wire.CmdSetIRQs, wire.SetIRQs{Argsz: 19, Flags: arm, Index: 2, Count: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"argsz without the bytes", wire.CmdSetIRQs, append(wire.SetIRQs{Argsz: 20, Flags: wire.SetDataBool | wire.SetActionTrigger, Index: 2, Count: 1}.Append(nil), 1), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdSetIRQs, setIRQs(arm, 2, 0, 1)[:19], 0, unix.EINVAL, nil},
	})
}

// TestArmAndTrigger: eventfds arrive, are signalled, replaced and closed.
func TestArmAndTrigger(t *testing.T) {
	const arm = wire.SetDataEventFD | wire.SetActionTrigger
	r := negotiated(t, nil)
	trigger := func(vector int) { r.dev.attachment().IRQs.Trigger(mdev.IRQMSIX, vector) }
	open := len(openFiles(t))
	a := eventFDs(t, 16)
	require.Zero(t, r.errno(wire.CmdSetIRQs, setIRQs(arm, 2, 0, 16), a...), "as many as max_msg_fds")
	b := eventFDs(t, 4)
	require.Zero(t, r.errno(wire.CmdSetIRQs, setIRQs(arm, 2, 16, 4), b...), "QEMU splits: 20 = 16+4")
	require.Len(t, openFiles(t), open+16+4+20, "ours and the server's")
	for i := range 20 {
		trigger(i)
		require.Equal(t, uint64(1), signals(t, append(a, b...)[i]), "vector %d", i)
	}
	c := eventFDs(t, 1)
	require.Zero(t, r.errno(wire.CmdSetIRQs, setIRQs(arm, 2, 3, 1), c...))
	trigger(3)
	require.Zero(t, signals(t, a[3]), "replaced")
	require.Equal(t, uint64(1), signals(t, c[0]))
	require.Zero(t, r.errno(wire.CmdSetIRQs, setIRQs(arm, 2, 0, 2)))
	trigger(1)
	require.Zero(t, signals(t, a[1]), "disarmed")
	require.Zero(t, r.errno(wire.CmdSetIRQs, setIRQs(wire.SetDataBool|wire.SetActionTrigger, 2, 3, 2, 1, 0)))
	require.Equal(t, uint64(1), signals(t, c[0]), "triggered by the client")
	require.Zero(t, signals(t, a[4]))
	require.Zero(t, r.errno(wire.CmdSetIRQs, setIRQs(wire.SetDataNone|wire.SetActionTrigger, 2, 0, 0)))
	trigger(3)
	require.Zero(t, signals(t, c[0]), "disabled")
	require.Len(t, openFiles(t), open+16+4+1, "all of the server's are closed")
}
