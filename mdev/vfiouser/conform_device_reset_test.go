//go:build linux

package vfiouser

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// test_quiesce.py: test_allowed_funcs_in_quiesced_reset; section 13: mappings
// and eventfds survive, and the device is told why.
func TestConformReset(t *testing.T) {
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_allowed_funcs_in_quiesced_reset: section 13, no payload either way", wire.CmdDeviceReset, nil, 0, 0, 0, "", []byte{}},
		{"handle_request: section 13, with a payload", wire.CmdDeviceReset, []byte{0}, 0, unix.EINVAL, 0, "exact-lengths", nil},
		{"handle_request: section 13, with a file", wire.CmdDeviceReset, nil, 1, unix.EINVAL, 0, "surplus-files", nil},
	})
	d := newDuo(t, nil, nil, nil)
	ram := guestRAM(t, 4096)
	fd := eventFDs(t, 1)
	require.NoError(t, d.MapDMA(d.ctx, 0x1000, 4096, addr.ReadWrite, translate.Bytes(ram)))
	require.NoError(t, d.SetIRQs(d.ctx, mdev.IRQRequest{Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: mdev.IRQMSIX, Count: 1, FDs: fd}))
	require.NoError(t, d.Reset(d.ctx))
	require.Equal(t, []mdev.ResetKind{mdev.ResetDevice}, look(d.dev, &d.dev.resets))
	require.NoError(t, d.dev.dma(0x1000, []byte("after"), true))
	require.Equal(t, "after", string(ram[:5]))
	d.dev.attachment().IRQs.Trigger(mdev.IRQMSIX, 0)
	require.Equal(t, uint64(1), signals(t, fd[0]))
}

// A reset that fails is an error, and the device answers no access until one
// succeeds. libvfio-user passes the error on and forgets it.
func TestConformResetFails(t *testing.T) {
	differs(t, "reset-fails")
	var works atomic.Bool
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		dev.onReset = func(kind mdev.ResetKind) error {
			if !works.Load() && kind == mdev.ResetDevice {
				return unix.ENOTTY
			}
			return nil
		}
		return dev
	})
	require.Equal(t, unix.ENOTTY, errs.Errno(d.Reset(d.ctx)))
	require.Equal(t, unix.EIO, errs.Errno(d.Read(d.ctx, rigRegs, 0, make([]byte, 4))))
	works.Store(true)
	require.NoError(t, d.Reset(d.ctx))
	require.NoError(t, d.Read(d.ctx, rigRegs, 0, make([]byte, 4)))
}

// test_request_errors.py: test_disconnected_socket, and with a device that is
// slow to quiesce; test_destroy.py: test_destroy_ctx. The device is reset for
// a lost connection, without being quiesced first.
func TestConformResetLost(t *testing.T) {
	var busy *busyDevice
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		busy = newBusy(dev, unix.EBUSY)
		return busy
	})
	require.NoError(t, d.Close())
	require.NoError(t, d.ended(t))
	require.Equal(t, []mdev.ResetKind{mdev.ResetLost}, look(d.dev, &d.dev.resets))
	require.Zero(t, busy.quiesced.Load())

	d = newDuo(t, nil, nil, nil)
	require.NoError(t, d.s.Close())
	require.ErrorIs(t, d.ended(t), context.Canceled)
	require.Equal(t, []mdev.ResetKind{mdev.ResetLost}, look(d.dev, &d.dev.resets))
	<-d.Done()
	require.ErrorIs(t, d.Reset(d.ctx), errs.ErrGone)
}
