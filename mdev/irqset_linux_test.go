package mdev_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

const (
	none, boolean, eventfd = mdev.DataNone, mdev.DataBool, mdev.DataEventFD
	mask, unmask, trigger  = mdev.ActionMask, mdev.ActionUnmask, mdev.ActionTrigger
)

// rig is a session of a fake device and the VMM that has it.
type rig struct {
	*testing.T
	vmm *mdevtest.VMM
	dev *mdevtest.Device
	s   *mdev.Session
	q   *mdev.IRQs
}

func newRig(t *testing.T) *rig {
	t.Helper()
	mdevtest.Leaks(t)
	r := &rig{T: t, vmm: mdevtest.NewVMM(t, 0), dev: mdevtest.NewDevice(nil)}
	r.s = mdevtest.Open(t, r.dev, &mdev.SessionConfig{Name: "fake"})
	r.q = r.s.IRQs()
	return r
}

func (r *rig) set(flags mdev.IRQSetFlags, index, start, count uint32, fds ...int) error {
	return r.s.SetIRQs(mdev.IRQRequest{Flags: flags, Index: index, Start: start, Count: count, FDs: fds})
}

// arm arms vectors from start on with new eventfds.
func (r *rig) arm(index, start uint32, n int) []*mdevtest.EventFD {
	r.Helper()
	var es []*mdevtest.EventFD
	var fds []int
	for range n {
		e := r.vmm.EventFD()
		es, fds = append(es, e), append(fds, e.Dup())
	}
	require.NoError(r, r.set(eventfd|trigger, index, start, uint32(n), fds...))
	return es
}

// TestSetIRQs: one row for each sentence of vfio-user's SET_IRQS and of
// vfio_pci_intrs.c, vfio_main.c (vfio_set_irqs_validate_and_prepare). setup
// runs first; want nil is success. The rows' descriptors are eventfds unless
// said otherwise; in every row, all of them are taken.
func TestSetIRQs(t *testing.T) {
	const (
		intx, msi, msix, errIRQ, req = mdev.IRQINTx, mdev.IRQMSI, mdev.IRQMSIX, mdev.IRQERR, mdev.IRQREQ
	)
	for _, x := range []struct {
		name  string
		setup func(*rig)
		req   mdev.IRQRequest
		fds   int // eventfds to pass; -1: -1 for each vector
		want  error
	}{
		// Flags: one kind of data and one action.
		{"no flags", nil, mdev.IRQRequest{Flags: 0, Index: msix, Count: 1}, 0, errs.ErrInvalid},
		{"no action", nil, mdev.IRQRequest{Flags: none, Index: msix, Count: 1}, 0, errs.ErrInvalid},
		{"no data type", nil, mdev.IRQRequest{Flags: trigger, Index: msix, Count: 1}, 0, errs.ErrInvalid},
		{"two data types", nil, mdev.IRQRequest{Flags: none | eventfd | trigger, Index: msix, Count: 1}, 1, errs.ErrInvalid},
		{"two actions", nil, mdev.IRQRequest{Flags: eventfd | trigger | mask, Index: msix, Count: 1}, 1, errs.ErrInvalid},
		{"unknown flag", nil, mdev.IRQRequest{Flags: eventfd | trigger | 0x40, Index: msix, Count: 1}, 1, errs.ErrInvalid},

		// Index and vectors.
		{"index beyond the last", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: 5, Count: 1}, 1, errs.ErrInvalid},
		{"index 2^32-1", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: ^uint32(0), Count: 1}, 1, errs.ErrInvalid},
		{"start at count of index", nil, mdev.IRQRequest{Flags: none | trigger, Index: msix, Start: 32}, 0, errs.ErrInvalid},
		{"start+count beyond count", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Start: 31, Count: 2}, 2, errs.ErrInvalid},
		{"start+count wraps", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Start: 1, Count: ^uint32(0)}, 1, errs.ErrInvalid},
		{"whole index", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 32}, 32, nil},
		{"last vector", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Start: 31, Count: 1}, 1, nil},

		// As many data as vectors.
		{"fewer fds than vectors", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 2}, 1, errs.ErrInvalid},
		{"more fds than vectors", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 1}, 2, errs.ErrInvalid},
		{"fds with none", nil, mdev.IRQRequest{Flags: none | trigger, Index: msix, Count: 1}, 1, errs.ErrInvalid},
		{"fds with bool", nil, mdev.IRQRequest{Flags: boolean | trigger, Index: msix, Count: 1, Bools: []byte{1}}, 1, errs.ErrInvalid},
		{"bools with eventfd", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 1, Bools: []byte{1}}, 1, errs.ErrInvalid},
		{"bools with none", nil, mdev.IRQRequest{Flags: none | trigger, Index: msix, Count: 1, Bools: []byte{1}}, 0, errs.ErrInvalid},
		{"fewer bools than vectors", (*rig).armMSIX, mdev.IRQRequest{Flags: boolean | trigger, Index: msix, Count: 2, Bools: []byte{1}}, 0, errs.ErrInvalid},
		{"more bools than vectors", (*rig).armMSIX, mdev.IRQRequest{Flags: boolean | trigger, Index: msix, Count: 1, Bools: []byte{1, 1}}, 0, errs.ErrInvalid},

		// Count 0: only to disable.
		{"count 0 with eventfd", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix}, 0, errs.ErrInvalid},
		{"count 0 with bool", nil, mdev.IRQRequest{Flags: boolean | trigger, Index: msix}, 0, errs.ErrInvalid},
		{"count 0 to mask", nil, mdev.IRQRequest{Flags: none | mask, Index: intx}, 0, errs.ErrInvalid},
		{"count 0 from vector 1", (*rig).armMSIX, mdev.IRQRequest{Flags: none | trigger, Index: msix, Start: 1}, 0, errs.ErrInvalid},
		{"disable", (*rig).armMSIX, mdev.IRQRequest{Flags: none | trigger, Index: msix}, 0, nil},
		{"disable what is disabled (difference)", nil, mdev.IRQRequest{Flags: none | trigger, Index: msix}, 0, nil},
		{"disable another index than is enabled", (*rig).armMSIX, mdev.IRQRequest{Flags: none | trigger, Index: intx}, 0, nil},

		// Arm and disarm.
		{"disarm, as QEMU's first MSI-X message", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 1}, 0, nil},
		{"disarm with -1", nil, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 3}, -1, nil},
		{"arm again", (*rig).armMSIX, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Count: 2}, 2, nil},
		{"grow MSI-X", (*rig).armMSIX, mdev.IRQRequest{Flags: eventfd | trigger, Index: msix, Start: 20, Count: 2}, 2, nil},
		{"grow with NORESIZE", func(r *rig) { r.arm(msi, 0, 2) }, mdev.IRQRequest{Flags: eventfd | trigger, Index: msi, Start: 2, Count: 1}, 1, errs.ErrInvalid},
		{"within NORESIZE", func(r *rig) { r.arm(msi, 0, 2) }, mdev.IRQRequest{Flags: eventfd | trigger, Index: msi, Start: 1, Count: 1}, 1, nil},
		{"grow with NORESIZE after disabling", func(r *rig) {
			r.arm(msi, 0, 2)
			require.NoError(r, r.set(none|trigger, msi, 0, 0))
		}, mdev.IRQRequest{Flags: eventfd | trigger, Index: msi, Count: 8}, 8, nil},

		// One of INTx, MSI, MSI-X at a time.
		{"INTx while MSI-X is enabled", (*rig).armMSIX, mdev.IRQRequest{Flags: eventfd | trigger, Index: intx, Count: 1}, 1, errs.ErrInvalid},
		{"MSI while MSI-X is disarmed but enabled", func(r *rig) {
			require.NoError(r, r.set(eventfd|trigger, msix, 0, 1))
		}, mdev.IRQRequest{Flags: eventfd | trigger, Index: msi, Count: 1}, 1, errs.ErrInvalid},
		{"MSI after MSI-X is disabled", func(r *rig) {
			r.armMSIX()
			require.NoError(r, r.set(none|trigger, msix, 0, 0))
		}, mdev.IRQRequest{Flags: eventfd | trigger, Index: msi, Count: 1}, 1, nil},
		{"ERR beside MSI-X", (*rig).armMSIX, mdev.IRQRequest{Flags: eventfd | trigger, Index: errIRQ, Count: 1}, 1, nil},
		{"REQ beside ERR", func(r *rig) { r.arm(errIRQ, 0, 1) }, mdev.IRQRequest{Flags: eventfd | trigger, Index: req, Count: 1}, 1, nil},

		// Loopback.
		{"trigger", (*rig).armMSIX, mdev.IRQRequest{Flags: none | trigger, Index: msix, Count: 2}, 0, nil},
		{"trigger by bool", (*rig).armMSIX, mdev.IRQRequest{Flags: boolean | trigger, Index: msix, Count: 2, Bools: []byte{0, 1}}, 0, nil},
		{"trigger of a disabled index", nil, mdev.IRQRequest{Flags: none | trigger, Index: msix, Count: 1}, 0, errs.ErrInvalid},
		{"trigger of a disarmed vector", (*rig).armMSIX, mdev.IRQRequest{Flags: none | trigger, Index: msix, Start: 30, Count: 1}, 0, nil},
		{"trigger of ERR that is not armed", nil, mdev.IRQRequest{Flags: none | trigger, Index: errIRQ, Count: 1}, 0, errs.ErrInvalid},

		// Mask and unmask.
		{"mask INTx", (*rig).armINTx, mdev.IRQRequest{Flags: none | mask, Index: intx, Count: 1}, 0, nil},
		{"unmask INTx", (*rig).armINTx, mdev.IRQRequest{Flags: none | unmask, Index: intx, Count: 1}, 0, nil},
		{"mask INTx by bool", (*rig).armINTx, mdev.IRQRequest{Flags: boolean | mask, Index: intx, Count: 1, Bools: []byte{1}}, 0, nil},
		{"mask eventfd", (*rig).armINTx, mdev.IRQRequest{Flags: eventfd | mask, Index: intx, Count: 1}, 1, nil},
		{"unmask eventfd", (*rig).armINTx, mdev.IRQRequest{Flags: eventfd | unmask, Index: intx, Count: 1}, 1, nil},
		{"unmask eventfd again (difference)", func(r *rig) {
			r.armINTx()
			require.NoError(r, r.set(eventfd|unmask, intx, 0, 1, r.vmm.EventFD().Dup()))
		}, mdev.IRQRequest{Flags: eventfd | unmask, Index: intx, Count: 1}, 1, nil},
		{"no unmask eventfd", (*rig).armINTx, mdev.IRQRequest{Flags: eventfd | unmask, Index: intx, Count: 1}, -1, nil},
		{"mask INTx that is not enabled", nil, mdev.IRQRequest{Flags: none | mask, Index: intx, Count: 1}, 0, errs.ErrInvalid},
		{"unmask eventfd while not enabled", nil, mdev.IRQRequest{Flags: eventfd | unmask, Index: intx, Count: 1}, 1, errs.ErrInvalid},
		{"mask MSI-X", (*rig).armMSIX, mdev.IRQRequest{Flags: none | mask, Index: msix, Count: 1}, 0, errs.ErrNoAction},
		{"unmask eventfd of MSI", func(r *rig) { r.arm(msi, 0, 1) }, mdev.IRQRequest{Flags: eventfd | unmask, Index: msi, Count: 1}, 1, errs.ErrNoAction},
		{"mask ERR", func(r *rig) { r.arm(errIRQ, 0, 1) }, mdev.IRQRequest{Flags: none | mask, Index: errIRQ, Count: 1}, 0, errs.ErrNoAction},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t)
			if x.setup != nil {
				x.setup(r)
			}
			held := r.s.Stats().FDs
			before := len(mdevtest.FDs(t))
			for range x.fds {
				e := r.vmm.EventFD()
				x.req.FDs = append(x.req.FDs, e.Dup())
			}
			if x.fds < 0 {
				for range x.req.Count {
					x.req.FDs = append(x.req.FDs, -1)
				}
			}
			err := r.s.SetIRQs(x.req)
			require.ErrorIs(t, err, x.want)
			after := r.s.Stats().FDs
			if x.want != nil {
				require.Equal(t, held, after, "what was armed stays so")
			}
			// The VMM's own, and what the session says it has: no other.
			require.Equal(t, before+max(x.fds, 0)+after-held, len(mdevtest.FDs(t)))
		})
	}
}

func (r *rig) armMSIX() { r.arm(mdev.IRQMSIX, 0, 4) }
func (r *rig) armINTx() { r.arm(mdev.IRQINTx, 0, 1) }

// What is no eventfd, or was given twice, is refused with everything else of
// the request, and closed.
func TestSetIRQsRefusesWhatIsNoEventFD(t *testing.T) {
	for name, other := range map[string]func(t *testing.T) int{
		"pipe": func(t *testing.T) int {
			var p [2]int
			require.NoError(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
			t.Cleanup(func() { _ = unix.Close(p[0]) })
			return p[1]
		},
		"socket": func(t *testing.T) int {
			p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			t.Cleanup(func() { _ = unix.Close(p[0]) })
			return p[1]
		},
		"file": func(t *testing.T) int {
			f, err := os.CreateTemp(t.TempDir(), "")
			require.NoError(t, err)
			defer f.Close()
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			require.NoError(t, err)
			return fd
		},
		"epoll": func(t *testing.T) int {
			fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
			require.NoError(t, err)
			return fd
		},
	} {
		for _, action := range []mdev.IRQSetFlags{trigger, unmask, mask} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t)
				old := r.arm(mdev.IRQINTx, 0, 1)[0]
				require.ErrorIs(t, r.set(eventfd|action, mdev.IRQINTx, 0, 1, other(t)), errs.ErrInvalid)
				r.q.Trigger(mdev.IRQINTx, 0)
				require.Equal(t, uint64(1), old.Take(), "as before")
			})
		}
	}
	t.Run("one of several", func(t *testing.T) {
		r := newRig(t)
		old := r.arm(mdev.IRQMSIX, 0, 3)
		good := r.vmm.EventFD()
		f, err := unix.MemfdCreate("not an eventfd", unix.MFD_CLOEXEC)
		require.NoError(t, err)
		require.ErrorIs(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 3, good.Dup(), good.Dup(), f), errs.ErrInvalid)
		for i := range old {
			r.q.Trigger(mdev.IRQMSIX, i)
			require.Equal(t, uint64(1), old[i].Take(), "as before")
		}
		require.Zero(t, good.Take())
	})
	t.Run("twice", func(t *testing.T) {
		r := newRig(t)
		fd := r.vmm.EventFD().Dup()
		require.ErrorIs(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 2, fd, fd), errs.ErrInvalid)
	})
	t.Run("below -1", func(t *testing.T) {
		r := newRig(t)
		require.ErrorIs(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 2, r.vmm.EventFD().Dup(), -2), errs.ErrInvalid)
		require.ErrorIs(t, r.set(eventfd|mask, mdev.IRQINTx, 0, 1, -2), errs.ErrInvalid)
	})
	t.Run("not open", func(t *testing.T) {
		r := newRig(t)
		require.Error(t, r.set(eventfd|trigger, mdev.IRQMSIX, 0, 1, 1<<20))
	})
	t.Run("a device that signals none", func(t *testing.T) {
		info := mdevtest.Info()
		info.IRQs[mdev.IRQERR].Flags = 0
		s := mdevtest.Open(t, mdevtest.NewDevice(info), nil)
		v := mdevtest.NewVMM(t, 0)
		require.ErrorIs(t, s.SetIRQs(mdev.IRQRequest{Flags: eventfd | trigger, Index: mdev.IRQERR, Count: 1, FDs: []int{v.EventFD().Dup()}}), errs.ErrInvalid)
	})
}

// A device that is no PCI device has no indices that exclude each other, and
// vectors may be masked before they are armed.
func TestSetIRQsOfAPlatformDevice(t *testing.T) {
	mdevtest.Leaks(t)
	v := mdevtest.NewVMM(t, 0)
	irq := mdev.IRQInfo{Count: 2, Flags: mdev.IRQEventFD | mdev.IRQMaskable | mdev.IRQAutoMasked}
	s := mdevtest.Open(t, mdevtest.NewDevice(&mdev.Info{API: mdev.APIPlatform, IRQs: []mdev.IRQInfo{irq, irq, irq}}), nil)
	r := &rig{T: t, vmm: v, s: s, q: s.IRQs()}
	require.NoError(t, r.set(none|mask, 1, 0, 2))
	a, b := r.arm(0, 0, 2), r.arm(1, 0, 2)
	r.q.Trigger(0, 1)
	r.q.Trigger(1, 1)
	require.Equal(t, uint64(1), a[1].Take())
	require.Zero(t, b[1].Take(), "masked")
	require.NoError(t, r.s.SetIRQs(mdev.IRQRequest{Flags: boolean | unmask, Index: 1, Count: 2, Bools: []byte{0, 1}}))
	require.Equal(t, uint64(1), b[1].Take())
	require.NoError(t, r.set(eventfd|trigger, 1, 0, 2))
	require.False(t, r.q.Enabled(1), "an index without armed vectors is disabled")
	require.True(t, r.q.Enabled(0))
}

func TestSetIRQsWhenClosed(t *testing.T) {
	r := newRig(t)
	r.armINTx()
	require.NoError(t, r.s.Close(t.Context()))
	fd := func() int { return r.vmm.EventFD().Dup() }
	for _, req := range []mdev.IRQRequest{
		{Flags: eventfd | trigger, Index: mdev.IRQMSIX, Count: 1, FDs: []int{fd()}},
		{Flags: eventfd | unmask, Index: mdev.IRQINTx, Count: 1, FDs: []int{fd()}},
		{Flags: none | trigger, Index: mdev.IRQMSIX},
		{Flags: none | trigger, Index: mdev.IRQMSIX, Count: 1},
	} {
		require.ErrorIs(t, r.s.SetIRQs(req), errs.ErrGone)
	}
	require.ErrorIs(t, r.q.Func(mdev.IRQMSIX, 0, func() {}), errs.ErrGone)
	r.q.Trigger(mdev.IRQINTx, 0) // nobody is told, nothing happens
}
