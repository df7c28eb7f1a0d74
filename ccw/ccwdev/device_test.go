package ccwdev_test

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

var orders = map[string]binary.ByteOrder{"big-endian host": binary.BigEndian, "little-endian host": binary.LittleEndian}

// vfio_ccw.h, vfio.h, vfio_ccw_ops.c: four regions, of which the last three
// carry the type capability, and three interrupts.
func TestInfo(t *testing.T) {
	i := behind(t, newDoor(), nil).Info()
	require.Equal(t, mdev.APICCW, i.API)
	require.True(t, i.Reset)
	require.Zero(t, i.Migration)
	const r, w = mdev.RegionRead, mdev.RegionWrite
	for n, want := range []struct {
		size    uint64
		flags   mdev.RegionFlags
		subtype uint32
	}{{124, r | w, 0}, {8, r | w, 1}, {52, r, 2}, {8, r, 3}} {
		require.Equal(t, want.size, i.Regions[n].Size)
		require.Equal(t, want.flags, i.Regions[n].Flags)
		if want.subtype == 0 {
			require.Nil(t, i.Regions[n].Type)
		} else {
			require.Equal(t, &mdev.RegionType{Type: 2, Subtype: want.subtype}, i.Regions[n].Type)
		}
	}
	require.Len(t, i.Regions, 4)
	require.Len(t, i.IRQs, 3)
	for _, q := range i.IRQs {
		require.EqualValues(t, 1, q.Count)
		require.Equal(t, mdev.IRQEventFD, q.Flags)
	}
}

// A program through a session, by a VMM of either byte order: the IRB is
// big-endian for both, the return code is the VMM's.
func TestProgram(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			v := newVM(t, behind(t, new(ccwtest.Device), order), order, nil).ram()
			irb := v.run(c(0x12, sli, 100, dataAt))
			ended(t, irb)
			require.EqualValues(t, codeAt+8, irb.SCSW.CCWAddr())
			require.EqualValues(t, 20, irb.SCSW.Count())
			require.NotZero(t, v.mem[dataAt+1])
			require.Zero(t, v.mem[dataAt+80])
			p := v.read(ccw.RegionIO)
			require.Zero(t, order.Uint32(p[120:]))
			schib := v.read(ccw.RegionSCHIB)
			require.EqualValues(t, 0x0120, binary.BigEndian.Uint16(schib[6:]))
			require.NotZero(t, schib[5]&0x80, "enabled")
			require.Zero(t, v.s.Stats().Charged)
		})
	}
}

// ccw.md 7: ret_code is also the errno of the write.
func TestRefusals(t *testing.T) {
	d := behind(t, new(ccwtest.Device), binary.LittleEndian)
	v := newVM(t, d, binary.LittleEndian, &mdev.SessionConfig{Pinning: &pinning.Config{Limit: addr.PageSize}}).ram()
	for i := range 300 {
		w := c(0x03, cc|sli, 1, 0).Encode1()
		copy(v.mem[0x2000+8*i:], w[:])
	}
	v.program(c(0x12, sli, 16, dataAt))
	w := c(0x02, sli, 0x1010, dataAt).Encode1()
	copy(v.mem[0x7000:], w[:])
	long, transport, path, wide := orb(), orb(), orb(), orb()
	long.SetProgram(0x2000)
	wide.SetProgram(0x7000)
	transport.SetTransport(true)
	path.SetLPM(0x40)
	halt := v.request(orb())
	binary.LittleEndian.PutUint16(halt[14:], uint16(cio.HaltFunction))
	for _, tt := range []struct {
		name   string
		p      []byte
		errno  syscall.Errno
		reason string
	}{
		{"a chain of 300", v.request(long), syscall.EINVAL, "chain too long"},
		{"transport mode", v.request(transport), syscall.EOPNOTSUPP, ""},
		{"path gone", v.request(path), syscall.EACCES, ""},
		{"halt through region 0", halt, syscall.EOPNOTSUPP, ""},
		{"two pages where one may be locked", v.request(wide), syscall.ENOMEM, "locked memory"},
	} {
		err := v.s.Write(t.Context(), ccw.RegionIO, 0, tt.p)
		require.Equal(t, tt.errno, errs.Errno(err), "%s: %v", tt.name, err)
		require.Equal(t, -int32(tt.errno), int32(binary.LittleEndian.Uint32(v.read(ccw.RegionIO)[120:])), tt.name)
		if tt.reason != "" {
			require.EqualValues(t, 1, rejected(t, d, tt.reason), tt.name)
		}
	}
	require.Equal(t, syscall.EINVAL, errs.Errno(v.async(3)))
	v.quiet()
	require.Zero(t, metric(t, d, "programs"))
}

// What a program came to is counted, whoever has the device open.
func TestReport(t *testing.T) {
	d := behind(t, new(ccwtest.Device), binary.BigEndian)
	for range 2 {
		v := newVM(t, d, binary.BigEndian, nil).ram()
		ended(t, v.run(c(0x12, cc|sli, 80, dataAt), c(0x11, sli, 80, dataAt+0x1000)))
		v.run(c(0x00, 0, 1, 0))
		v.close()
	}
	require.EqualValues(t, 4, metric(t, d, "programs"))
	require.EqualValues(t, 6, metric(t, d, "ccws"))
	require.EqualValues(t, 4, metric(t, d, "pins"))
	require.EqualValues(t, 2, rejected(t, d, "program check"))
	require.Zero(t, metric(t, d, "recorded"))
}

// A volume is as its last user left it; the subchannel is as new.
func TestVolumeSurvivesItsUsers(t *testing.T) {
	path := rawImage(t, 640)
	d := of(t, "ccw-fba", attr("image", path), attr("byte-order", "big"))
	extent := []byte{0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	transfer := func(v *vm, locate, move cio.Command, op byte) cio.IRB {
		copy(v.mem[0x2000:], extent)
		if op == 1 {
			v.mem[0x2000] = 0xC0 // writes allowed
		}
		copy(v.mem[0x2100:], []byte{op, 0, 0, 1, 0, 0, 0, 7})
		return v.run(c(0x63, cc, 16, 0x2000), c(locate, cc, 8, 0x2100), c(move, 0, 512, dataAt))
	}
	v := newVM(t, d, binary.BigEndian, nil).ram()
	irb := transfer(v, 0x43, 0x42, 6)
	ended(t, irb)
	require.EqualValues(t, 7, v.mem[dataAt])
	for i := range 512 {
		v.mem[dataAt+i] = 0xEE
	}
	ended(t, transfer(v, 0x43, 0x41, 1))
	v.close()

	v = newVM(t, d, binary.BigEndian, nil).ram()
	require.Zero(t, v.irb().SCSW, "nothing of the user before")
	ended(t, transfer(v, 0x43, 0x42, 6))
	require.EqualValues(t, 0xEE, v.mem[dataAt+511])
	v.close()
	d.Destroy()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.EqualValues(t, 0xEE, b[7*512])
}

// A device is open once at a time.
func TestOpenTwice(t *testing.T) {
	d := behind(t, newDoor(), nil)
	v := newVM(t, d, binary.BigEndian, nil)
	_, err := mdev.Open(t.Context(), d, nil)
	require.ErrorIs(t, err, errs.ErrBusy)
	v.close()
	newVM(t, d, binary.BigEndian, nil)
	require.ErrorIs(t, behind(t, newDoor(), nil).Read(t.Context(), 0, 0, make([]byte, 4)), errs.ErrState)
}

// Halt, clear, reset and the loss of the client end a program that runs, at
// its next look: nothing is held, and the volume got a reset where a clear was
// part of it.
func TestRunningProgramIsEnded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(v *vm) error
		fc     cio.Control
		resets int
	}{
		{"halt", func(v *vm) error { return v.async(ccw.AsyncHalt) }, cio.StartFunction | cio.HaltFunction, 0},
		{"clear", func(v *vm) error { return v.async(ccw.AsyncClear) }, cio.ClearFunction, 1},
		{"reset", func(v *vm) error { return v.s.Reset(v.t.Context()) }, 0, 1},
		{"close", func(v *vm) error { return v.s.Close(context.Background()) }, 0, 2}, // ResetLost and Close
		{"unmap", func(v *vm) error { _, err := v.s.Unmap(v.t.Context(), 0, memSize); return err }, cio.StartFunction, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			unit := newDoor()
			v := newVM(t, behind(t, unit, binary.BigEndian), binary.BigEndian, nil).ram()
			v.program(c(0x02, cc, 4096, dataAt), c(0x02, 0, 4096, dataAt+0x1000))
			require.NoError(t, v.start(orb()))
			<-unit.entered
			require.Equal(t, syscall.EBUSY, errs.Errno(v.start(orb())))
			var wg sync.WaitGroup
			wg.Go(func() {
				if tt.resets == 0 && tt.fc != cio.StartFunction {
					return // the call below does not wait for the unit
				}
				time.Sleep(10 * time.Millisecond)
				unit.leave <- struct{}{}
			})
			require.NoError(t, tt.do(v))
			if tt.name == "halt" {
				unit.leave <- struct{}{}
			}
			wg.Wait()
			if tt.fc != 0 {
				irb := v.interrupt()
				require.Equal(t, tt.fc, irb.SCSW.FC(), "%v", irb.SCSW)
			}
			require.Zero(t, v.s.Stats().Charged)
			require.Equal(t, tt.resets, unit.resets)
			if tt.name != "close" && tt.name != "unmap" {
				unit.leave <- struct{}{}
				ended(t, v.run(c(0x02, 0, 16, dataAt)))
				<-unit.entered
			}
			v.quiet()
		})
	}
}

// A reset that must wait longer than its caller says so, goes on, and the
// device is whole afterwards.
func TestResetOutlastsItsCaller(t *testing.T) {
	unit := newDoor()
	d := behind(t, unit, binary.BigEndian)
	v := newVM(t, d, binary.BigEndian, nil).ram()
	v.program(c(0x02, 0, 16, dataAt))
	require.NoError(t, v.start(orb()))
	<-unit.entered
	ctx, end := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer end()
	require.ErrorIs(t, d.Reset(ctx, mdev.ResetDevice), errs.ErrDeadline)
	unit.leave <- struct{}{}
	require.NoError(t, d.Reset(t.Context(), mdev.ResetDevice))
	unit.leave <- struct{}{}
	ended(t, v.run(c(0x02, 0, 16, dataAt)))
}

// While quiesced nothing is fetched and nothing runs; what was asked for is
// done afterwards, or withdrawn by what comes before.
func TestQuiesce(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(v *vm) error
		fc   cio.Control // 0: nothing is heard of it
		ran  bool
	}{
		{"and on", func(v *vm) error { return nil }, cio.StartFunction, true},
		{"halt", func(v *vm) error { return v.async(ccw.AsyncHalt) }, cio.HaltFunction, false},
		{"clear", func(v *vm) error { return v.async(ccw.AsyncClear) }, cio.ClearFunction, false},
		{"reset", func(v *vm) error { return v.s.Reset(v.t.Context()) }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := behind(t, new(ccwtest.Device), binary.BigEndian)
			v := newVM(t, d, binary.BigEndian, nil).ram()
			require.NoError(t, v.s.Quiesce(t.Context()))
			v.program(c(0x12, sli, 80, dataAt))
			require.NoError(t, v.start(orb()))
			require.Equal(t, syscall.EBUSY, errs.Errno(v.start(orb())))
			require.NoError(t, tt.then(v))
			time.Sleep(5 * time.Millisecond)
			require.Zero(t, metric(t, d, "elements"), "nothing was looked at")
			v.quiet()
			v.s.Unquiesce()
			if tt.fc != 0 {
				irb := v.interrupt()
				require.Equal(t, tt.fc, irb.SCSW.FC(), "%v", irb.SCSW)
			}
			require.Equal(t, tt.ran, metric(t, d, "programs") == 1)
			v.mem[dataAt] = 0
			ended(t, v.run(c(0x12, sli, 80, dataAt)))
			v.quiet()
		})
	}
	t.Run("close", func(t *testing.T) {
		d := behind(t, new(ccwtest.Device), binary.BigEndian)
		v := newVM(t, d, binary.BigEndian, nil).ram()
		v.program(c(0x12, sli, 80, dataAt))
		require.NoError(t, v.s.Quiesce(t.Context()))
		require.NoError(t, v.start(orb()))
		v.close()
		require.Zero(t, metric(t, d, "programs"))
		require.Zero(t, v.mem[dataAt+1])
	})
	t.Run("waits for what runs", func(t *testing.T) {
		unit := newDoor()
		v := newVM(t, behind(t, unit, binary.BigEndian), binary.BigEndian, nil).ram()
		v.program(c(0x02, 0, 16, dataAt))
		require.NoError(t, v.start(orb()))
		<-unit.entered
		ctx, end := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer end()
		require.ErrorIs(t, v.s.Quiesce(ctx), errs.ErrDeadline)
		unit.leave <- struct{}{}
		ended(t, v.interrupt())
		require.NoError(t, v.s.Quiesce(t.Context()))
		v.s.Unquiesce()
	})
}

// stall is remote memory that does not answer until it is let go.
type stall struct {
	mem     []byte
	once    sync.Once
	entered chan struct{}
	leave   chan struct{}
}

func (s *stall) ReadAt(p []byte, off int64) (int, error) {
	s.once.Do(func() { close(s.entered) })
	<-s.leave
	return copy(p, s.mem[off:]), nil
}
func (s *stall) WriteAt(p []byte, off int64) (int, error) { return copy(s.mem[off:], p), nil }

// vfio-user.md 12: who serves the guest's memory by messages may not do so
// while it waits for an access. None waits: not the start, not what comes while
// the program is being fetched.
func TestMemoryByMessages(t *testing.T) {
	d := behind(t, new(ccwtest.Device), binary.BigEndian)
	v := newVM(t, d, binary.BigEndian, nil)
	far := &stall{mem: v.mem, entered: make(chan struct{}), leave: make(chan struct{})}
	near := make([]byte, 4096)
	require.NoError(t, v.s.Map(0x100000, 4096, translate.Bytes(near), addr.ReadWrite))
	require.NoError(t, v.s.Map(0, memSize, translate.Remote(far), addr.ReadWrite))
	v.program(c(0x12, sli, 80, dataAt))
	require.NoError(t, v.start(orb()))
	<-far.entered
	require.NotZero(t, v.read(ccw.RegionSCHIB)[5])
	require.Equal(t, syscall.EBUSY, errs.Errno(v.start(orb())))
	require.NoError(t, v.async(ccw.AsyncClear))
	irb := v.interrupt()
	require.Equal(t, cio.ClearFunction, irb.SCSW.FC())
	require.NoError(t, v.start(orb()))
	close(far.leave)
	ended(t, v.interrupt())
	require.NotZero(t, v.mem[dataAt+1])

	// A program that is refused tells by an interrupt.
	w := c(0x03, cc|sli, 1, 0).Encode1()
	for at := 0x2000; at < 0x3000; at += 8 {
		copy(v.mem[at:], w[:])
	}
	o := orb()
	o.SetProgram(0x2000)
	require.NoError(t, v.start(o))
	irb = v.interrupt()
	require.Equal(t, cio.ProgramCheck, irb.SCSW.Subchannel())

	// Without such memory the write tells.
	_, err := v.s.Unmap(t.Context(), 0, memSize)
	require.NoError(t, err)
	v.ram()
	require.Equal(t, syscall.EINVAL, errs.Errno(v.start(o)))
	v.quiet()
}

// Unsolicited status reaches who has the device open, or waits for who has it
// next.
func TestAttention(t *testing.T) {
	var tell func(cio.DeviceStatus)
	d, err := ccwdev.New(ccwdev.Config{Order: binary.BigEndian, Unit: ccwdev.Unit{
		Device: new(ccwtest.Device), Attach: func(f func(cio.DeviceStatus)) { tell = f },
	}})
	require.NoError(t, err)
	tell(cio.Attention)
	for range 2 {
		v := newVM(t, d, binary.BigEndian, nil).ram()
		tell(cio.DeviceEnd)
		irb := v.interrupt()
		require.NotZero(t, irb.SCSW.Device()&(cio.Attention|cio.DeviceEnd))
		v.close()
		tell(cio.Attention)
	}
}

// Channel reports wait in region 3 and raise interrupt 1.
func TestChannelReport(t *testing.T) {
	d := behind(t, newDoor(), binary.BigEndian)
	d.ChannelReport(1) // to nobody
	v := newVM(t, d, binary.BigEndian, nil)
	crw := make(chan struct{}, 4)
	require.NoError(t, v.s.IRQs().Func(ccw.IRQCRW, 0, func() { crw <- struct{}{} }))
	w := cio.MakeCRW(0, cio.SourceChannelPath, cio.RecoveryPermanent, 7)
	d.ChannelReport(w)
	<-crw
	require.EqualValues(t, w, binary.BigEndian.Uint32(v.read(ccw.RegionCRW)))
	require.Zero(t, binary.BigEndian.Uint32(v.read(ccw.RegionCRW)))
}

// Wherever opening fails nothing is left, and it can be opened then.
func TestOpenFailNth(t *testing.T) {
	unit := new(ccwtest.Device)
	fired := fault.Sweep(t, func(p *fault.Points) error {
		d, err := ccwdev.New(ccwdev.Config{Unit: ccwdev.Unit{Device: unit}, Fault: p, Order: binary.BigEndian})
		if err != nil {
			return err
		}
		s, err := mdev.Open(t.Context(), d, &mdev.SessionConfig{Fault: p})
		if err != nil {
			return err
		}
		if err := s.Close(context.Background()); err != nil {
			return err
		}
		mdevtest.Check(t, s)
		return nil
	}, nil)
	require.Contains(t, fired, "ccwdev: regions")
	require.Contains(t, fired, "ccwdev: enable")
	newVM(t, behind(t, unit, nil), binary.BigEndian, nil)
}

// A device without what it needs is refused.
func TestNewRefuses(t *testing.T) {
	_, err := ccwdev.New(ccwdev.Config{})
	require.ErrorIs(t, err, errs.ErrInvalid)
	closed := false
	pmcw := cio.DefaultPMCW()
	pmcw.SetLimitMode(3)
	_, err = ccwdev.New(ccwdev.Config{PMCW: &pmcw, Unit: ccwdev.Unit{Device: newDoor(), Close: func() error { closed = true; return nil }}})
	require.ErrorIs(t, err, errs.ErrInvalid)
	require.True(t, closed, "the unit is taken over")
	require.ErrorIs(t, behind(t, newDoor(), nil).Open(t.Context(), &mdev.Attachment{}), errs.ErrInvalid)
}

// Limits bound a program.
func TestLimits(t *testing.T) {
	d, err := ccwdev.New(ccwdev.Config{Unit: ccwdev.Unit{Device: new(ccwtest.Device)}, Order: binary.BigEndian, Limits: job.Limits{Elements: 1}})
	require.NoError(t, err)
	v := newVM(t, d, binary.BigEndian, nil).ram()
	v.program(c(0x12, cc|sli, 80, dataAt), c(0x12, sli, 80, dataAt))
	require.Equal(t, syscall.E2BIG, errs.Errno(v.start(orb())))
	require.EqualValues(t, 1, rejected(t, d, "budget"))
}
