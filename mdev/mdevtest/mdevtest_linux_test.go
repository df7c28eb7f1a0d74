package mdevtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a test whose failures are wanted. Its cleanups run when told.
type recorder struct {
	testing.TB
	log      strings.Builder
	cleanups []func()
}

func (r *recorder) Helper() {}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(&r.log, format+"\n", args...) }

func (r *recorder) end() string {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return r.log.String()
}

func TestCheckSeesWhatIsLeft(t *testing.T) {
	v := NewVMM(t, 1<<16)
	dev := NewDevice(nil)
	s, err := mdev.Open(t.Context(), dev, nil)
	require.NoError(t, err)
	v.Map(s, 0)
	require.NoError(t, s.SetIRQs(mdev.IRQRequest{Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: mdev.IRQMSIX, Count: 1, FDs: []int{v.EventFD().Dup()}}))
	_, _, err = dev.Hold(0x1000, 1, addr.Read)
	require.NoError(t, err)
	r := &recorder{TB: t}
	Check(r, s)
	require.Equal(t, `session is open, not closed
session left 1 descriptors and 0 goroutines
lease of device program 1 is not released, holds [device program 1 holds [0x1000, 0x1fff] r-]
session left 0x1000 bytes charged, 1 mappings
`, r.log.String())
	require.NoError(t, s.Close(t.Context()))
	r = &recorder{TB: t}
	Check(r, s)
	require.Empty(t, r.log.String())
}

func TestOpenChecksAtTheEnd(t *testing.T) {
	r := &recorder{TB: t}
	dev := NewDevice(nil)
	s := Open(r, dev, nil)
	dev.Unquiesce()
	require.Equal(t, "the device was driven against the rules: let go on while it runs\n", r.end())
	require.Equal(t, mdev.StateClosed, s.State())
}

func TestLeaks(t *testing.T) {
	r := &recorder{TB: t}
	Leaks(r)
	require.Empty(t, r.end())

	r = &recorder{TB: t}
	Leaks(r)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	stop := make(chan struct{})
	go func() { <-stop }()
	log := r.end()
	require.Contains(t, log, "found unexpected goroutines")
	require.Contains(t, log, fmt.Sprintf("leaked descriptor %d -> anon_inode:[eventfd]", fd))
	close(stop)
	require.NoError(t, unix.Close(fd))
}

// Each rule of mdev.Device, broken.
func TestDeviceNoticesBrokenRules(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(t *testing.T, d *Device)
		want string
	}{
		"read while closed": {func(t *testing.T, d *Device) {
			d.Close()
			d.mem = make([][]byte, 1)
			_ = d.Read(t.Context(), 0, 0, nil)
		}, "access while closed"},
		"closed twice":     {func(t *testing.T, d *Device) { d.Close(); d.Close() }, "close while closed"},
		"quiesced twice":   {func(t *testing.T, d *Device) { _ = d.Quiesce(t.Context()); _ = d.Quiesce(t.Context()) }, "quiesced twice"},
		"saved as it runs": {func(t *testing.T, d *Device) { _ = d.Save(t.Context(), &strings.Builder{}) }, "save while it runs"},
		"opened twice": {func(t *testing.T, d *Device) {
			at := d.Attachment()
			_ = d.Open(t.Context(), at)
		}, "opened twice"},
		"reset in an access": {func(t *testing.T, d *Device) {
			d.OnRead = func(ctx context.Context, _ int, _ uint64, _ []byte) error { return d.Reset(ctx, mdev.ResetDevice) }
			_ = d.Read(t.Context(), 0, 0, nil)
		}, "reset device during 1 accesses"},
		"access in a reset": {func(t *testing.T, d *Device) {
			d.OnReset = func(ctx context.Context, _ mdev.ResetKind) error { return d.Read(ctx, 0, 0, nil) }
			_ = d.Reset(t.Context(), mdev.ResetDevice)
		}, "access during reset device"},
		"quiesce in a reset": {func(t *testing.T, d *Device) {
			d.OnReset = func(ctx context.Context, _ mdev.ResetKind) error { return d.Quiesce(ctx) }
			_ = d.Reset(t.Context(), mdev.ResetDevice)
		}, "quiesce during reset device"},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDevice(nil)
			s, err := mdev.Open(t.Context(), d, nil)
			require.NoError(t, err)
			x.do(t, d)
			require.Contains(t, d.Violations(), x.want)
			_ = s.Close(t.Context())
		})
	}
}

func TestVMM(t *testing.T) {
	v := NewVMM(t, 5000)
	require.Len(t, v.RAM(), 8192)
	dev := NewDevice(nil)
	s := Open(t, dev, nil)
	v.Map(s, 0x10_0000)
	copy(v.RAM()[4090:], "guest memory")
	p := make([]byte, 12)
	require.NoError(t, dev.ReadDMA(0x10_0ffa, p))
	require.Equal(t, "guest memory", string(p))
	require.Error(t, dev.ReadDMA(0x10_2000, p))
	require.NoError(t, s.Map(0x20_0000, 0x1000, translate.File(v.MemFD(), 0x1000), addr.Read))
	require.Error(t, dev.WriteDMA(0x20_0000, p))

	e := v.EventFD()
	require.Zero(t, e.Take())
	e.Signal()
	e.Add(4)
	require.Equal(t, uint64(5), e.Wait())
	require.Equal(t, -1, NewVMM(t, 0).MemFD())
	require.True(t, dev.Trigger(mdev.IRQMSIX, 0))
	require.NoError(t, s.Quiesce(t.Context()))
	require.False(t, dev.Trigger(mdev.IRQMSIX, 0))
}
