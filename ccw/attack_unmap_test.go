package ccw_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// unmapping is an unmap under way.
func unmapping(g *rig, a addr.IOVA, n addr.Len) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := g.st.Unmap(context.Background(), a, n)
		done <- err
	}()
	time.Sleep(2 * time.Millisecond) // until it waits, mostly
	return done
}

// C4 #6 unpin while DMA is in flight, and #7 only part of the range checked
// [vfio-ccw looked at the first page]: an unmap of the last page only of a
// program that runs waits for it, the program ends at its next CCW, and after
// that nothing touches the page.
func TestC4_06C4_07UnmapOfTheLastPageWhileItRuns(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		dev := newGate()
		ended := make(chan struct{}, 8)
		last := make([]byte, 4096)
		g := newRig(t, func(s *setup) {
			m := s.mem
			s.dev = dev
			s.ccw.Dispatch = func(run func()) { go run() }
			s.ccw.Interrupt = func() { ended <- struct{}{} }
			s.mapping = func(st *translate.Store) {
				require.NoError(t, m.Map(st))
				require.NoError(t, st.Map(roEnd, 4096, translate.Bytes(last), addr.ReadWrite))
			}
			// Output over the read-only part and the page behind it.
			m.ccws(codeAt, f, c(0x01, cc|sli, 8192, roEnd-4096), c(0x03, cc|sli, 1, dataAt), c(0x03, 0, 1, dataAt))
		})
		o := orbOf(f)
		_, err := g.d.Start(&o)
		require.NoError(t, err)
		<-dev.entered
		done := unmapping(g, roEnd, 4096)
		select {
		case err := <-done:
			t.Fatal("the unmap did not wait: ", err)
		default:
		}
		dev.leave <- struct{}{}
		<-ended
		require.NoError(t, <-done)
		s := g.take()
		require.Equal(t, cio.ProgramCheck, s.Subchannel(), "%v", s)
		require.EqualValues(t, codeAt+16, s.CCWAddr())
		require.ErrorIs(t, g.d.Err(), errs.ErrBusy)
		require.EqualError(t, g.d.Err(), "ccw[1] at 0x1008: [0x14000, 0x14fff] is being unmapped: busy")
		g.nothingHeld()
	}
}

// C4 #6: a device that does not end holds an unmap until the deadline; it then
// fails and says who holds what, and the store is as before [type1: BUG_ON].
func TestC4_06StubbornDevice(t *testing.T) {
	dev := newGate()
	g := newRig(t, func(s *setup) {
		s.dev = dev
		s.ccw.Dispatch = func(run func()) { go run() }
		s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, highAt))
	})
	o := orbOf(f1)
	_, err := g.d.Start(&o)
	require.NoError(t, err)
	<-dev.entered
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	_, err = g.st.Unmap(ctx, highAt, 32<<10)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.ErrorContains(t, err, "held by dut program 1")
	dev.leave <- struct{}{}
	for g.pinner.Charged() != 0 {
		time.Sleep(100 * time.Microsecond)
	}
	_, err = g.st.Unmap(context.Background(), highAt, 32<<10)
	require.NoError(t, err)
	require.NoError(t, g.st.Map(highAt, 32<<10, translate.Bytes(g.mem.At(highAt)), addr.ReadWrite))
}

// C4 #8 stale translation [SPDK #1705]: between translate and the start of
// hardware the pages are unmapped and the addresses mapped to other memory.
// The program that was translated touches neither.
func TestC4_08ReuseOfAnIOVABetweenTranslateAndSubmit(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		var q queue
		g := newRig(t, func(s *setup) {
			s.ccw.Dispatch = q.add
			s.mem.ccws(codeAt, f, c(0x02, 0, 4096, highAt))
		})
		o := orbOf(f)
		_, err := g.d.Start(&o)
		require.NoError(t, err)
		done := unmapping(g, highAt, 32<<10)
		if f == f1p { // nothing is pinned yet: the new memory is what execution finds
			require.NoError(t, <-done)
			require.NoError(t, g.st.Map(highAt, 4096, translate.Bytes(make([]byte, 4096)), addr.ReadWrite))
			q.run()
			require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.take()))
		} else {
			q.run()
			require.NoError(t, <-done)
			require.Equal(t, cio.ProgramCheck, statusOf(g.take()).sub)
			require.Empty(t, g.dev.Log()[len("begin\n"):], "no command reached the device")
		}
		for _, b := range g.mem.At(highAt)[:4096] {
			require.EqualValues(t, 0xA5, b, "the old memory")
		}
		// Translations of the device before the unmap are good for nothing.
		_, _ = g.st.Unmap(context.Background(), highAt, 4096)
		other := make([]byte, 4096)
		require.NoError(t, g.st.Map(highAt, 4096, translate.Bytes(other), addr.ReadWrite))
		_, err = g.d.Start(&o)
		require.NoError(t, err)
		q.run()
		require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.take()))
		require.NotEqual(t, make([]byte, 4096), other)
	}
}

// C4 #8: what a program saw of an address does not outlive it, in the arena,
// the window and the pins: each start finds what is mapped then.
func TestC4_08EachStartTranslatesAnew(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p, f0} {
		g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f, c(0x02, ida, 4096, listAt)); s.mem.idaw2(listAt, highAt) })
		for range 20 {
			_, err := g.st.Unmap(context.Background(), highAt, 32<<10)
			require.NoError(t, err)
			_, err = g.st.UnmapAll(context.Background())
			require.NoError(t, err)
			fresh := make([]byte, 4096)
			require.NoError(t, g.st.Map(0, rwEnd, translate.Bytes(g.mem.Bytes(0)), addr.ReadWrite))
			s := g.run(f | h)
			require.Equal(t, status{codeAt + 8, ok, cio.ProgramCheck, 0}, statusOf(s), "not mapped now")
			require.NoError(t, g.st.Map(highAt, 4096, translate.Bytes(fresh), addr.ReadWrite))
			require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.run(f|h)))
			require.NotEqual(t, make([]byte, 4096), fresh)
		}
	}
}

// Memory whose vaddr is suspended: the request is refused, busy; after resume
// it runs.
func TestSuspendedMemory(t *testing.T) {
	g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, highAt)) })
	_, err := g.st.Suspend(context.Background(), highAt, 32<<10)
	require.NoError(t, err)
	o := orbOf(f1)
	_, err = g.d.Start(&o)
	require.ErrorIs(t, err, errs.ErrSuspended)
	o = orbOf(f1p)
	s := g.start(&o)
	require.Equal(t, cio.ControlCheck, s.Subchannel())
	require.ErrorIs(t, g.d.Err(), errs.ErrSuspended)
	require.NoError(t, g.st.Resume(highAt, 32<<10, translate.Bytes(g.mem.At(highAt))))
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.run(f1)))
}

// A peer that truncates the memory it shared: a channel-data check where the
// program gets to it, no fault of the process. Program bytes as well as data.
func TestTruncatedFile(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
		if err != nil {
			t.Skip("memfd: ", err)
		}
		file := os.NewFile(uintptr(fd), "guest")
		defer file.Close()
		require.NoError(t, file.Truncate(16<<10))
		g := newRig(t, func(s *setup) {
			s.escapes = true // such an access is logged as a fault
			m := s.mem
			s.mapping = func(st *translate.Store) {
				require.NoError(t, m.Map(st))
				require.NoError(t, st.Map(1<<30, 16<<10, translate.File(fd, 0), addr.ReadWrite))
			}
			m.ccws(codeAt, f, c(0x12, cc, 80, dataAt), c(0x12, cc, 80, 1<<30+8192), c(0x12, 0, 80, dataAt))
		})
		require.Equal(t, status{codeAt + 24, ok, 0, 0}, statusOf(g.run(f)))
		require.NoError(t, file.Truncate(4096))
		require.Equal(t, status{codeAt + 16, ok, cio.DataCheck, 80}, statusOf(g.run(f)))
		require.ErrorIs(t, g.d.Err(), errs.ErrFault)
		g.mem.ccws(codeAt+8, f, tic(1<<30+8192))
		require.Equal(t, cio.DataCheck, statusOf(g.run(f)).sub, "%v", g.d.Err())
		o := orbOf(f)
		o.SetProgram(1<<30 + 8192)
		require.Equal(t, status{1<<30 + 8200, 0, cio.DataCheck, 0}, statusOf(g.start(&o)))
		g.nothingHeld()
	}
}
