package ccwdev_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// service is a device that is served on a socket.
type service struct {
	t      testing.TB
	path   string
	server *vfiouser.Server
	done   chan error
}

func serve(t testing.TB, d *ccwdev.Device, cfg *vfiouser.ServerConfig) *service {
	t.Helper()
	s := &service{t: t, path: filepath.Join(t.TempDir(), "s"), done: make(chan error, 1)}
	var err error
	s.server, err = vfiouser.NewServer(vfiouser.OpenDevice(d), cfg)
	require.NoError(t, err)
	l, err := vfiouser.Listen(s.path)
	require.NoError(t, err)
	go func() { s.done <- errors.Join(s.server.Serve(context.Background(), l.FD()), l.Close()) }()
	t.Cleanup(func() {
		require.NoError(t, s.server.Close())
		require.NoError(t, <-s.done)
	})
	return s
}

// guest is a system behind a client of a service, with its memory in a memfd.
type guest struct {
	t   testing.TB
	c   *vfiouser.Client
	mem []byte
	ram *locked // what mem is of, if it is read and written by messages
	irq int
}

// locked is a guest's memory for those who answer messages about it.
type locked struct {
	mu  sync.Mutex
	mem []byte
}

func (m *locked) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(p, m.mem[off:]), nil
}

func (m *locked) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.mem[off:], p), nil
}

func (s *service) guest() *guest {
	t := s.t
	t.Helper()
	g := &guest{t: t}
	var err error
	require.Eventually(t, func() bool { // another client may be leaving
		g.c, err = vfiouser.Dial(t.Context(), s.path, nil)
		return err == nil
	}, 10*time.Second, time.Millisecond, "%v", err)
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, memSize))
	g.mem, err = unix.Mmap(fd, 0, memSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	g.irq, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() {
		g.c.Close()
		unix.Close(g.irq)
		require.NoError(t, unix.Munmap(g.mem))
	})
	require.NoError(t, g.c.MapDMAFD(t.Context(), 0, memSize, addr.ReadWrite, fd, 0))
	require.NoError(t, g.c.SetIRQs(t.Context(), mdev.IRQRequest{
		Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: ccw.IRQIO, Count: 1, FDs: []int{g.irq},
	}))
	return g
}

func (g *guest) start(list ...cio.CCW) error {
	v := vm{order: binary.NativeEndian, mem: g.mem}
	if g.ram != nil {
		g.ram.mu.Lock()
	}
	v.program(list...)
	if g.ram != nil {
		g.ram.mu.Unlock()
	}
	return g.c.Write(g.t.Context(), ccw.RegionIO, 0, v.request(orb()))
}

func (g *guest) run(list ...cio.CCW) cio.IRB {
	g.t.Helper()
	require.NoError(g.t, g.start(list...))
	var n [8]byte
	_, err := unix.Read(g.irq, n[:])
	require.NoError(g.t, err)
	var p [124]byte
	require.NoError(g.t, g.c.Read(g.t.Context(), ccw.RegionIO, 0, p[:]))
	return cio.DecodeIRB((*[96]byte)(p[24:]))
}

// vfio-user.md 6, 7, 9; vfio-abi.md 3.2: what a client is told of the device.
func TestServedInfo(t *testing.T) {
	g := serve(t, behind(t, newDoor(), nil), nil).guest()
	info, err := g.c.DeviceInfo(t.Context())
	require.NoError(t, err)
	require.Equal(t, mdev.APICCW, info.API())
	require.EqualValues(t, 1<<4|1, info.Flags, "VFIO_DEVICE_FLAGS_CCW, VFIO_DEVICE_FLAGS_RESET")
	require.Equal(t, 4, info.Regions)
	require.Equal(t, 3, info.IRQs)
	for region, want := range behind(t, newDoor(), nil).Info().Regions {
		got, err := g.c.RegionInfo(t.Context(), region)
		require.NoError(t, err)
		require.Equal(t, want.Size, got.Size)
		require.Equal(t, want.Flags, got.Flags)
		require.Equal(t, want.Type, got.Type, "region %d", region)
	}
	for irq := range 3 {
		got, err := g.c.IRQInfo(t.Context(), irq)
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Count)
		require.Equal(t, mdev.IRQEventFD, got.Flags)
	}
	require.Error(t, g.c.SetIRQs(t.Context(), mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionMask, Index: 0, Count: 1}))
}

// A client that dies while its program runs loses that program and nothing
// else: nothing of it is held, and the next client finds the volume as it was
// left.
func TestLostClient(t *testing.T) {
	unit := newDoor()
	d := behind(t, unit, nil)
	s := serve(t, d, nil)
	for range 3 {
		g := s.guest()
		require.NoError(t, g.start(c(0x02, cc, 4096, dataAt), c(0x02, 0, 4096, dataAt)))
		<-unit.entered
		session := s.server.Session()
		require.NotZero(t, session.Stats().Charged)
		g.c.Close()
		unit.leave <- struct{}{}
		require.Eventually(t, func() bool {
			select {
			case <-unit.entered: // the loss had not been noticed yet
				unit.leave <- struct{}{}
			default:
			}
			return session.State() == mdev.StateClosed
		}, 10*time.Second, time.Millisecond)
		mdevtest.Check(t, session)
	}
	g := s.guest()
	unit.leave <- struct{}{}
	ended(t, g.run(c(0x02, 0, 16, dataAt)))
	require.EqualValues(t, 0x77, g.mem[dataAt])
	<-unit.entered
}

// The guest's memory by messages, from a client that answers them while it waits
// for an access as well as one that does not.
func TestServedByMessages(t *testing.T) {
	s := serve(t, behind(t, new(ccwtest.Device), nil), nil)
	for _, twin := range []bool{false, true} {
		var c1 *vfiouser.Client
		var err error
		require.Eventually(t, func() bool {
			c1, err = vfiouser.Dial(t.Context(), s.path, &vfiouser.ClientConfig{TwinSocket: twin})
			return err == nil
		}, 10*time.Second, time.Millisecond)
		ram := &locked{mem: make([]byte, memSize)}
		g := &guest{t: t, c: c1, mem: ram.mem, ram: ram}
		g.irq, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
		require.NoError(t, err)
		require.NoError(t, c1.SetIRQs(t.Context(), mdev.IRQRequest{
			Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: ccw.IRQIO, Count: 1, FDs: []int{g.irq},
		}))
		require.NoError(t, c1.MapDMA(t.Context(), 0, memSize, addr.ReadWrite, translate.Remote(ram)))
		for range 3 {
			ended(t, g.run(c(0x12, cc|sli, 80, dataAt), c(0x11, sli, 80, dataAt)))
		}
		require.NoError(t, c1.Close())
		require.NoError(t, unix.Close(g.irq))
	}
}

// Wherever a step of a session fails - of the session itself, the device, the
// recorder - what remains is nothing, and whole records.
func TestSessionFailNth(t *testing.T) {
	unit := new(ccwtest.Device)
	path := filepath.Join(t.TempDir(), "live.jsonl")
	fired := fault.Sweep(t, func(p *fault.Points) error {
		rec, err := recording.NewRecorder(path, &recording.RecorderConfig{Fault: p})
		if err != nil {
			return err
		}
		defer rec.Close()
		d, err := ccwdev.New(ccwdev.Config{Unit: ccwdev.Unit{Device: unit}, Name: "dut", Fault: p, Order: binary.BigEndian})
		if err != nil {
			return err
		}
		s, err := mdev.Open(t.Context(), d, &mdev.SessionConfig{Fault: p, Record: rec})
		if err != nil {
			return err
		}
		err = useSession(t, s)
		err = errors.Join(err, s.Close(context.Background()))
		mdevtest.Check(t, s)
		if n := metric(t, d, "unrecorded"); err == nil && n != 0 {
			return fault.ErrInjected // the guest was not to notice
		}
		return err
	}, func() {
		if recs, _, err := recording.ReadFile(path, nil); err == nil {
			for i, r := range recs {
				require.Equal(t, i, r.Seq)
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			require.ErrorContains(t, err, "holds no record")
		}
	})
	for _, want := range []string{"ccwdev: regions", "ccwdev: enable", "write"} {
		require.Contains(t, fired, want)
	}
}

// useSession does with a session what a guest's system does.
func useSession(t *testing.T, s *mdev.Session) error {
	v := &vm{t: t, s: s, order: binary.BigEndian, mem: make([]byte, memSize), io: make(chan struct{}, 8)}
	var once sync.Once
	err := errors.Join(
		s.IRQs().Func(ccw.IRQIO, 0, func() { once.Do(func() { close(v.io) }) }),
		s.Map(0, memSize, translate.Bytes(v.mem), addr.ReadWrite),
	)
	if err != nil {
		return err
	}
	v.program(c(0x12, sli, 80, dataAt))
	if err := v.start(orb()); err != nil {
		return err
	}
	select {
	case <-v.io:
	case <-time.After(20 * time.Second):
		return errs.ErrDeadline
	}
	if err := s.Quiesce(t.Context()); err != nil {
		return err
	}
	s.Unquiesce()
	if err := s.Reset(t.Context()); err != nil {
		return err
	}
	_, err = s.Unmap(t.Context(), 0, memSize)
	return err
}
