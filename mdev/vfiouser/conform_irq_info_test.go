//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_device_get_irq_info.py.
func TestConformIRQInfo(t *testing.T) {
	ask := func(argsz, index uint32) []byte { return wire.IRQInfo{Argsz: argsz, Index: index}.Append(nil) }
	is := func(flags wire.IRQFlags, index, count uint32) []byte {
		return wire.IRQInfo{Argsz: 16, Flags: flags, Index: index, Count: count}.Append(nil)
	}
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_device_get_irq_info_bad_in: section 9, short", wire.CmdIRQInfo, make([]byte, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_irq_info_bad_in: section 9, argsz", wire.CmdIRQInfo, ask(8, mdev.IRQREQ), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_irq_info_bad_in: section 9, index", wire.CmdIRQInfo, ask(16, mdev.NumPCIIRQs), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_irq_info: section 9, a larger argsz", wire.CmdIRQInfo, ask(32, mdev.IRQREQ), 0, 0, 0, "", is(1, mdev.IRQREQ, 1)},
		{"test_device_get_irq_info: section 9, ERR", wire.CmdIRQInfo, ask(16, mdev.IRQERR), 0, 0, 0, "", is(1, mdev.IRQERR, 1)},
		{"test_device_get_irq_info: section 9, MSI-X", wire.CmdIRQInfo, ask(16, mdev.IRQMSIX), 0, 0, 0, "", is(1, mdev.IRQMSIX, 20)},
		{"handle_device_get_irq_info: flags in the request", wire.CmdIRQInfo, wire.IRQInfo{Argsz: 16, Flags: 1}.Append(nil), 0, unix.EINVAL, 0, "zero-fields", nil},
		{"handle_device_get_irq_info: a long payload", wire.CmdIRQInfo, append(ask(16, 0), 0), 0, unix.EINVAL, 0, "exact-lengths", nil},
	})
	// There the flags are EVENTFD whatever the index; here they are the
	// device's.
	differs(t, "irq-flags")
	d := newDuo(t, nil, nil, nil)
	for i, want := range d.dev.info.IRQs {
		got, err := d.IRQInfo(d.ctx, i)
		require.NoError(t, err)
		require.Equal(t, mdev.IRQInfo{Count: want.Count, Flags: want.Flags}, got)
	}
}
