package demo_test

import (
	"bytes"
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// fresh checks that everything is as after a reset.
func (r *rig) fresh() {
	r.Helper()
	for _, off := range []uint64{demo.RegScratch, demo.RegStatus, demo.RegSrc, demo.RegDst, demo.RegLen, demo.RegValue,
		demo.RegVector, demo.RegCompleted, demo.RegCounter} {
		require.Zero(r, r.read(off), "%#x", off)
	}
	all := make([]byte, demo.BAR2Size)
	require.NoError(r, r.Read(r.ctx, mdev.BAR2, 0, all))
	require.Equal(r, make([]byte, demo.BAR2Size), all, "BAR 2")
	require.Zero(r, r.dev.Space.Command())
	var p [2]byte
	require.NoError(r, r.Read(r.ctx, mdev.BAR1, 8, p[:]))
	require.Zero(r, p, "MSI-X table")
}

// dirty writes what a reset has to clear.
func (r *rig) dirty() {
	r.write(demo.RegScratch, 4, 0xdeadbeef)
	r.write(demo.RegCounter, 4, 0xdeadbeef)
	require.NoError(r, r.Write(r.ctx, mdev.BAR2, demo.BAR2Size-1, []byte{7}))
	require.NoError(r, r.Write(r.ctx, mdev.BAR1, 8, []byte{7}))
}

// alive checks that the device works.
func (r *rig) alive() {
	r.Helper()
	r.master(true)
	before := r.ram[0]
	require.Zero(r, r.do(cmd{op: demo.CommandFill, dst: base, length: 1, value: uint32(before) + 1, vector: 2}))
	require.Equal(r, before+1, r.ram[0])
	r.silent()
}

// Each reset, idle: everything is as it was in the beginning.
func TestResets(t *testing.T) {
	for name, reset := range map[string]func(r *rig){
		"function-level": func(r *rig) { r.flr() },
		"DEVICE_RESET":   func(r *rig) { require.NoError(r, r.Reset(r.ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := withRAM(t)
			r.dirty()
			r.alive()
			reset(r)
			r.fresh()
			r.alive()
		})
	}
}

// Each reset at work, with commands that wait, and the client not answering: it
// returns, nothing of before is seen later, and the device works as soon as the
// engine is out of memory.
func TestResetsAtWork(t *testing.T) {
	for name, reset := range map[string]func(r *rig){
		"function-level": func(r *rig) { r.flr() },
		"DEVICE_RESET":   func(r *rig) { require.NoError(r, r.Reset(r.ctx)) },
		"both": func(r *rig) {
			r.flr()
			require.NoError(r, r.Reset(r.ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, m := stuck(t)
			before := bytes.Clone(r.ram)
			for range demo.MaxQueue + 3 {
				r.ring(cmd{op: demo.CommandFill, dst: base, length: 9, vector: 1})
			}
			r.dirty()
			began := time.Now()
			reset(r)
			require.Less(t, time.Since(began), patience)
			r.fresh()
			require.True(t, r.pending(), "the engine waits for the client")
			r.master(true)
			r.ring(cmd{op: demo.CommandChecksum, src: base, length: 4096, vector: 3})
			r.silent()
			m.open()
			r.interrupted(3)
			require.EqualValues(t, 1, r.read(demo.RegCompleted), "what was there before the reset is not counted")
			require.True(t, bytes.Equal(before, r.ram), "nor did it write")
			require.NoError(t, r.Quiesce(r.ctx))
			require.False(t, r.pending())
			r.Unquiesce()
			r.silent()
			r.alive()
		})
	}
}

// A reset of a device that reaches only memory of this process returns when it
// is out of it.
func TestResetDrains(t *testing.T) {
	r := withRAM(t)
	for range 50 {
		r.master(true)
		for range 4 {
			r.ring(cmd{op: demo.CommandCopy, src: base, dst: base + 2<<20, length: demo.MaxLen})
		}
		require.NoError(t, r.Reset(r.ctx))
		require.Zero(t, r.Pinner().Charged())
		require.False(t, r.pending())
		r.fresh()
	}
}

// Bus mastering that is switched off, and sleep, end the command under way; a
// fault of the client's does not matter any more.
func TestMasterOff(t *testing.T) {
	for name, off := range map[string]func(r *rig){
		"command": func(r *rig) { r.master(false) },
		"D3hot": func(r *rig) {
			at := uint64(r.dev.Space.Find(pci.IDPower) + pci.PowerControl)
			require.NoError(r, r.Write(r.ctx, mdev.Config, at, []byte{byte(pci.D3hot)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, m := stuck(t)
			before := bytes.Clone(r.ram)
			off(r)
			m.open()
			r.interrupted(0)
			require.Equal(t, status(syscall.EPERM), r.read(demo.RegStatus))
			require.True(t, bytes.Equal(before, r.ram))
		})
	}
}

// An unmap ends the command that holds the memory, and succeeds.
func TestUnmap(t *testing.T) {
	r, m := stuck(t)
	unmapped := make(chan error)
	go func() {
		_, err := r.Unmap(r.ctx, base, ramSize)
		unmapped <- err
	}()
	select {
	case <-unmapped:
		t.Fatal("memory was unmapped under the engine")
	case <-time.After(20 * time.Millisecond):
	}
	m.open()
	require.NoError(t, <-unmapped)
	r.interrupted(0)
	require.Equal(t, status(syscall.EBUSY), r.read(demo.RegStatus))
	require.Equal(t, status(syscall.EINVAL), r.do(cmd{op: demo.CommandFill, dst: base, length: 1}), "nothing is mapped")
}

// An unmap of memory that the command does not use leaves it alone.
func TestUnmapOfOther(t *testing.T) {
	r, m := stuck(t)
	require.NoError(t, r.Map(0, 4096, translate.Bytes(make([]byte, 4096)), addr.ReadWrite))
	unmapped := make(chan error)
	go func() { // it may wait for messages under way, whosever they are
		_, err := r.Unmap(r.ctx, 0, 4096)
		unmapped <- err
	}()
	time.Sleep(10 * time.Millisecond)
	m.open()
	require.NoError(t, <-unmapped)
	r.interrupted(0)
	require.Zero(t, r.read(demo.RegStatus))
}

// An unmap that the client holds up fails by name, and changes nothing.
func TestUnmapOfStuck(t *testing.T) {
	r, m := stuck(t)
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Millisecond)
	defer cancel()
	_, err := r.Unmap(ctx, base, ramSize)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "held by device program 1")
	m.open()
	r.interrupted(0)
	require.Equal(t, status(syscall.EBUSY), r.read(demo.RegStatus))
	r.alive()
}

// Quiesced, the device does no DMA and raises no interrupt, but answers, and
// does later what it was asked to meanwhile.
func TestQuiesce(t *testing.T) {
	r, m := stuck(t)
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Quiesce(ctx), errs.ErrBusy, "the client holds it up")
	m.open()
	r.interrupted(0)
	require.NoError(t, r.Quiesce(r.ctx))
	r.ring(cmd{op: demo.CommandFill, dst: base, length: 1, value: uint32(r.ram[0]) + 1, vector: 1})
	r.ring(cmd{op: demo.CommandRaise, vector: 2})
	time.Sleep(10 * time.Millisecond)
	require.EqualValues(t, demo.StatusBusy, r.read(demo.RegStatus))
	require.EqualValues(t, 1, r.read(demo.RegCompleted))
	before := r.ram[0]
	r.silent()
	r.Unquiesce()
	r.interrupted(1)
	r.interrupted(2)
	require.Equal(t, before+1, r.ram[0])
	require.Zero(t, r.read(demo.RegStatus))
}

// A quiesced device that is reset stays quiesced.
func TestResetOfQuiesced(t *testing.T) {
	r := withRAM(t)
	require.NoError(t, r.Quiesce(r.ctx))
	r.ring(cmd{op: demo.CommandRaise, vector: 1})
	require.NoError(t, r.Reset(r.ctx))
	r.ring(cmd{op: demo.CommandRaise, vector: 2})
	time.Sleep(10 * time.Millisecond)
	r.silent()
	r.Unquiesce()
	r.interrupted(2)
	r.silent()
}

// Close while the client holds up a command waits for it, and leaves nothing.
func TestClose(t *testing.T) {
	r, m := stuck(t)
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Close(ctx), errs.ErrDeadline)
	m.open()
	require.NoError(t, r.Close(r.ctx))
	require.Zero(t, r.Pinner().Charged())
	r.silent()
}

// Who opens the device finds nothing of who had it before.
func TestOpenAgain(t *testing.T) {
	dev, err := demo.New(nil)
	require.NoError(t, err)
	defer dev.Destroy()
	for range 3 {
		r := openRig(t, dev, nil)
		r.ram = noise(4096)
		require.NoError(t, r.Map(base, 4096, translate.Bytes(r.ram), addr.ReadWrite))
		r.master(false)
		r.fresh()
		r.dirty()
		r.alive()
		require.NoError(t, r.Quiesce(r.ctx), "and closed as it is")
		r.ring(cmd{op: demo.CommandRaise})
		r.close()
	}
}

// A device that cannot be opened leaves nothing behind, and can be opened later.
func TestOpenFails(t *testing.T) {
	dev, err := demo.New(nil)
	require.NoError(t, err)
	defer dev.Destroy()
	space := iommu.NewSpace(nil)
	var taken []*iommu.Reserved
	for n := addr.Len(1 << 30); n >= 4096; {
		r, err := space.Reserve(n, 0)
		if err != nil {
			n /= 2
			continue
		}
		taken = append(taken, r)
	}
	_, err = mdev.Open(t.Context(), dev, &mdev.SessionConfig{Space: space})
	require.ErrorIs(t, err, errs.ErrNoSpace)
	for _, r := range taken {
		r.Free()
	}
	r := openRig(t, dev, &mdev.SessionConfig{Space: space})
	r.ram = noise(4096)
	require.NoError(t, r.Map(base, 4096, translate.Bytes(r.ram), addr.ReadWrite))
	r.alive()
}

// Attributes are mmap, on or off, and interrupts, msix or msi.
func TestAttributes(t *testing.T) {
	var c demo.Config
	require.NoError(t, c.Set("mmap", "on"))
	require.True(t, c.Mmap)
	require.NoError(t, c.Set("mmap", "off"))
	require.False(t, c.Mmap)
	require.NoError(t, c.Set("interrupts", "msi"))
	require.True(t, c.MSI)
	require.NoError(t, c.Set("interrupts", "msix"))
	require.Equal(t, demo.Config{}, c)
	require.NoError(t, c.Set("interrupts", "msi"))
	require.True(t, c.MSI)
	require.NoError(t, c.Set("interrupts", "msix"))
	require.False(t, c.MSI)
	for _, bad := range [][2]string{{"mmap", ""}, {"interrupts", "on"}, {"mmap", "msi"}, {"mmap", "ON"}, {"MMAP", "on"}, {"", "on"}, {"vectors", "5"}} {
		require.ErrorIs(t, c.Set(bad[0], bad[1]), errs.ErrInvalid)
	}
	require.EqualError(t, c.Set("mmap", "yes"), `attribute mmap="yes", want mmap=on or off, interrupts=msix or msi: invalid argument`)
}

// Every step that can fail, one after the other: the session does not open, or
// the command ends with that errno and an interrupt, or the operation fails.
// Nothing is left behind, which Close says, and the device can be opened again.
func TestFailNth(t *testing.T) {
	dev, err := demo.New(nil)
	require.NoError(t, err)
	defer dev.Destroy()
	ram := noise(1 << 20)
	names := fault.Sweep(t, func(f *fault.Points) error {
		s, err := mdev.Open(t.Context(), dev, &mdev.SessionConfig{Fault: f, Pinning: &pinning.Config{Fault: f}})
		if err != nil {
			return err
		}
		r := &rig{TB: t, Session: s, dev: dev, ctx: t.Context()}
		defer r.close()
		ended := make(chan struct{}, 1)
		require.NoError(t, s.IRQs().Func(mdev.IRQMSIX, 0, func() { ended <- struct{}{} }))
		require.NoError(t, s.Map(0, 1<<20, translate.Bytes(ram), addr.ReadWrite))
		r.master(true)
		for range 2 {
			r.ring(cmd{op: demo.CommandCopy, src: 0, dst: 512 << 10, length: 512 << 10})
			<-ended
			switch st := r.read(demo.RegStatus); {
			case st == status(syscall.ENOMEM):
				return fault.ErrInjected
			case st != 0:
				t.Fatalf("status %#x", st)
			}
		}
		if err := s.Quiesce(t.Context()); err != nil {
			return err
		}
		s.Unquiesce()
		return s.Reset(t.Context())
	}, nil)
	t.Log(names)
	require.Greater(t, len(names), 6)
}
