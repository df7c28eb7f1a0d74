//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_device_set_irqs.py: what is refused.
func TestConformSetIRQs(t *testing.T) {
	const (
		none, boolean, eventfd = wire.SetDataNone, wire.SetDataBool, wire.SetDataEventFD
		mask, unmask, trigger  = wire.SetActionMask, wire.SetActionUnmask, wire.SetActionTrigger
	)
	argsz := func(n uint32, p []byte) []byte { return append(wire.MigData{Argsz: n}.Append(nil)[:4], p[4:]...) }
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_device_set_irqs_no_irq_set: section 1, no payload", wire.CmdSetIRQs, nil, 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_short_write: section 10", wire.CmdSetIRQs, make([]byte, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_argsz: section 10", wire.CmdSetIRQs, argsz(3, setIRQs(trigger|none, mdev.IRQREQ, 0, 0)), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_index: section 10", wire.CmdSetIRQs, setIRQs(trigger|none, mdev.NumPCIIRQs, 0, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_flags_MASK_and_UNMASK: section 10", wire.CmdSetIRQs, setIRQs(mask|unmask, mdev.IRQMSIX, 0, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_flags_DATA_NONE_and_DATA_BOOL: section 10", wire.CmdSetIRQs, setIRQs(mask|none|boolean, mdev.IRQMSIX, 0, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_start_count_range: section 10", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQMSIX, 19, 2), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_start_count_range2: section 10", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQMSIX, 21, 1), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_start_count_range3: section 10, wraps", wire.CmdSetIRQs, setIRQs(trigger|eventfd, mdev.IRQMSIX, 10, 1<<32-1), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_action_for_err_irq: section 10", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQERR, 0, 1), 0, unix.ENOTTY, unix.EINVAL, "irq-mask", nil},
		{"test_device_set_irqs_bad_action_for_req_irq: section 10", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQREQ, 0, 1), 0, unix.ENOTTY, unix.EINVAL, "irq-mask", nil},
		{"test_device_set_irqs_bad_start_count_range_for_err_irq: section 10", wire.CmdSetIRQs, setIRQs(trigger|none, mdev.IRQERR, 0, 2), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_start_count_range_for_req_irq: section 10", wire.CmdSetIRQs, setIRQs(trigger|none, mdev.IRQREQ, 0, 2), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_start_for_count_0: section 10", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQMSIX, 1, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_action_for_count_0: section 10", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQMSIX, 0, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_action_and_data_type_for_count_0: section 10", wire.CmdSetIRQs, setIRQs(trigger|boolean, mdev.IRQMSIX, 0, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_fds_for_DATA_BOOL: section 10", wire.CmdSetIRQs, setIRQs(trigger|boolean, mdev.IRQMSIX, 0, 1, 0), 1, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_fds_for_DATA_NONE: section 10", wire.CmdSetIRQs, setIRQs(trigger|none, mdev.IRQMSIX, 0, 1), 1, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_bad_fds_for_count_2: section 10", wire.CmdSetIRQs, setIRQs(trigger|eventfd, mdev.IRQMSIX, 0, 2), 1, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_trigger_bool_too_small: section 10", wire.CmdSetIRQs, argsz(21, setIRQs(trigger|boolean, mdev.IRQMSIX, 0, 2, 0)), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_trigger_bool_too_large: section 10", wire.CmdSetIRQs, argsz(23, setIRQs(trigger|boolean, mdev.IRQMSIX, 0, 2, 0, 0, 0)), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_set_irqs_disable: section 10, 0x21 0/0", wire.CmdSetIRQs, setIRQs(trigger|none, mdev.IRQREQ, 0, 0), 0, 0, 0, "", []byte{}},
		{"test_device_set_irqs_disable: section 10, 0x24 and no fd", wire.CmdSetIRQs, setIRQs(trigger|eventfd, mdev.IRQREQ, 0, 1), 0, 0, 0, "", []byte{}},
		// There a mask of any index is told to the device, and forgotten.
		{"test_irq_state: section 9, MASK of an index without MASKABLE", wire.CmdSetIRQs, setIRQs(mask|none, mdev.IRQMSIX, 0, 1), 0, unix.ENOTTY, 0, "irq-mask", nil},
		{"handle_device_set_irqs: section 10, a file that is no eventfd", wire.CmdSetIRQs, setIRQs(trigger|eventfd, mdev.IRQMSIX, 0, 1), 1, unix.EINVAL, 0, "irq-eventfd", nil},
	})
}

// test_device_set_irqs.py: test_device_set_irqs_enable, _enable_update,
// _enable_trigger_none, _enable_trigger_bool; test_irq_trigger.py.
func TestConformIRQTrigger(t *testing.T) {
	d := newDuo(t, nil, nil, nil)
	const arm = mdev.DataEventFD | mdev.ActionTrigger
	fds := eventFDs(t, 4)
	add := func(fd int, n byte) {
		_, err := unix.Write(fd, []byte{n, 0, 0, 0, 0, 0, 0, 0})
		require.NoError(t, err)
	}
	set := func(req mdev.IRQRequest) {
		t.Helper()
		req.Index = mdev.IRQMSIX
		require.NoError(t, d.SetIRQs(d.ctx, req))
	}
	irqs := d.dev.attachment().IRQs

	// test_irq_trigger_no_interrupt: there ENOENT for the caller. Here a
	// device need not know who listens: it is counted.
	differs(t, "irq-nobody")
	irqs.Trigger(mdev.IRQMSIX, 0)
	require.Equal(t, uint64(1), irqs.Counts()[mdev.IRQMSIX][0])
	// test_irq_trigger_bad_subindex: there EINVAL for the caller, here nothing.
	irqs.Trigger(mdev.IRQMSIX, 20)
	irqs.Trigger(mdev.IRQMSIX, 21)
	irqs.Trigger(mdev.IRQMSIX, -1)

	// test_irq_trigger: an eventfd at 4 is at 5 afterwards.
	add(fds[0], 4)
	set(mdev.IRQRequest{Flags: arm, Start: 8, Count: 1, FDs: fds[:1]})
	irqs.Trigger(mdev.IRQMSIX, 8)
	require.Equal(t, uint64(5), signals(t, fds[0]))

	// test_device_set_irqs_enable_update: another one in its place.
	set(mdev.IRQRequest{Flags: arm, Start: 8, Count: 1, FDs: fds[1:2]})
	irqs.Trigger(mdev.IRQMSIX, 8)
	require.Equal(t, uint64(0), signals(t, fds[0]))
	require.Equal(t, uint64(1), signals(t, fds[1]))

	// test_device_set_irqs_enable_trigger_none, _bool: triggered by the client.
	set(mdev.IRQRequest{Flags: arm, Start: 0, Count: 2, FDs: fds[2:]})
	add(fds[2], 4)
	add(fds[3], 8)
	set(mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionTrigger, Start: 1, Count: 1})
	set(mdev.IRQRequest{Flags: mdev.DataBool | mdev.ActionTrigger, Start: 0, Count: 2, Bools: []byte{0, 1}})
	require.Equal(t, uint64(4), signals(t, fds[2]))
	require.Equal(t, uint64(10), signals(t, fds[3]))

	set(mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionTrigger})
	irqs.Trigger(mdev.IRQMSIX, 0)
	require.Zero(t, signals(t, fds[2]), "disabled")
}

// Section 10, INTx: masked by its own signal, unmasked by the client or through
// an eventfd of the client's. libvfio-user knows neither.
func TestConformINTx(t *testing.T) {
	differs(t, "irq-mask")
	d := newDuo(t, nil, nil, nil)
	fds := eventFDs(t, 2)
	irqs := d.dev.attachment().IRQs
	set := func(flags mdev.IRQSetFlags, fd ...int) {
		t.Helper()
		require.NoError(t, d.SetIRQs(d.ctx, mdev.IRQRequest{Flags: flags, Index: mdev.IRQINTx, Count: 1, FDs: fd}))
	}
	set(mdev.DataEventFD|mdev.ActionTrigger, fds[0])
	irqs.Trigger(mdev.IRQINTx, 0)
	irqs.Trigger(mdev.IRQINTx, 0)
	require.Equal(t, uint64(1), signals(t, fds[0]), "it masks itself")
	set(mdev.DataNone | mdev.ActionUnmask)
	require.Equal(t, uint64(1), signals(t, fds[0]), "what was raised meanwhile")
	set(mdev.DataEventFD|mdev.ActionUnmask, fds[1])
	irqs.Trigger(mdev.IRQINTx, 0)
	_, err := unix.Write(fds[1], []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return signals(t, fds[0]) == 1 }, waitFor, tick)
}
