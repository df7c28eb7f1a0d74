package ccw_test

import (
	"encoding/binary"
	"math"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// bench is a device behind its vfio-ccw regions, and a user of them.
type bench struct {
	*rig
	r     *ccw.Regions
	order binary.ByteOrder

	mu   sync.Mutex
	irqs [ccw.NumIRQs]int
}

func newBench(t *testing.T, order binary.ByteOrder, change ...func(s *setup)) *bench {
	t.Helper()
	s := newSetup()
	for _, f := range change {
		f(s)
	}
	b := &bench{rig: s.ground(t), order: order}
	cfg := s.ccw
	cfg.Name, cfg.Store, cfg.Pinner, cfg.Space = "dut", b.st, b.pinner, b.space
	var err error
	b.r, err = ccw.NewRegions(s.dev, cfg, order, func(irq int) {
		b.mu.Lock()
		b.irqs[irq]++
		b.mu.Unlock()
	})
	require.NoError(t, err)
	b.d = b.r.Device()
	t.Cleanup(func() { b.close(s.escapes) })
	return b
}

func (b *bench) irq(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.irqs[n]
}

// request is the 124 bytes of a start of orb, as the user's host keeps them.
func (b *bench) request(o cio.ORB, fctl cio.Control) []byte {
	p := make([]byte, ccw.RegionSize(ccw.RegionIO))
	be := binary.BigEndian
	b.order.PutUint32(p[0:], be.Uint32(o.Raw[0:]))
	b.order.PutUint16(p[4:], be.Uint16(o.Raw[4:]))
	p[6], p[7] = o.Raw[6], o.Raw[7]
	b.order.PutUint32(p[8:], be.Uint32(o.Raw[8:]))
	b.order.PutUint16(p[14:], uint16(fctl))
	return p
}

func (b *bench) io(o cio.ORB) error {
	return b.r.Write(ccw.RegionIO, 0, b.request(o, cio.StartFunction))
}

func (b *bench) async(cmd uint32) error {
	p := make([]byte, 8)
	b.order.PutUint32(p, cmd)
	return b.r.Write(ccw.RegionAsync, 0, p)
}

func (b *bench) ret(t *testing.T, region int) int32 {
	p := make([]byte, ccw.RegionSize(region))
	require.NoError(t, b.r.Read(region, 0, p))
	return int32(b.order.Uint32(p[len(p)-4:]))
}

func (b *bench) irb(t *testing.T) cio.IRB {
	var p [96]byte
	require.NoError(t, b.r.Read(ccw.RegionIO, 24, p[:]))
	return cio.DecodeIRB(&p)
}

var orders = map[string]binary.ByteOrder{"big-endian host": binary.BigEndian, "little-endian host": binary.LittleEndian}

func readProgram(s *setup) { s.mem.ccws(codeAt, f1, c(0x02, 0, 4096, dataAt)) }

// vfio_ccw.h: struct ccw_io_region is packed: orb 12, scsw 12, irb 96,
// ret_code 4.
func TestRegionSizes(t *testing.T) {
	require.Equal(t, 124, ccw.RegionSize(ccw.RegionIO))
	require.Equal(t, 8, ccw.RegionSize(ccw.RegionAsync))
	require.Equal(t, 52, ccw.RegionSize(ccw.RegionSCHIB))
	require.Equal(t, 8, ccw.RegionSize(ccw.RegionCRW))
}

// A write to the I/O region is SSCH; the IRB stands there when interrupt 0 was
// raised, big-endian on every host.
func TestStartThroughTheIORegion(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, order, readProgram)
			require.NoError(t, b.r.Open())
			o := orbOf(f1)
			o.SetKey(0xF)
			require.NoError(t, b.io(o))
			require.Zero(t, b.ret(t, ccw.RegionIO))
			require.Equal(t, 1, b.irq(ccw.IRQIO))
			irb := b.irb(t)
			require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(irb.SCSW))
			require.EqualValues(t, 0xF, irb.SCSW.Key())
			require.Equal(t, ccw.StateIdle, b.r.State())
			b.nothingHeld()
		})
	}
}

// C4 #11 unchecked index [CVE-2026-80552]: every region, offset and length
// beyond the end is EINVAL and changes nothing.
func TestC4_11RegionBounds(t *testing.T) {
	b := newBench(t, binary.BigEndian, readProgram)
	require.NoError(t, b.r.Open())
	far := int64(1) << 62
	for _, region := range []int{-1, ccw.NumRegions, ccw.NumRegions + 1, 1 << 30, math.MinInt} {
		require.Zero(t, ccw.RegionSize(region))
		require.Equal(t, syscall.EINVAL, errs.Errno(b.r.Read(region, 0, make([]byte, 4))), "%d", region)
		require.Equal(t, syscall.EINVAL, errs.Errno(b.r.Write(region, 0, make([]byte, 4))), "%d", region)
	}
	for region := range ccw.NumRegions {
		size := int64(ccw.RegionSize(region))
		for _, x := range []struct {
			off int64
			n   int
		}{{0, int(size) + 1}, {1, int(size)}, {size, 1}, {size + 1, 0}, {-1, 1}, {-1, 0}, {far, 1}, {-far, 1}, {1<<63 - 1, 1}, {-1 << 63, 1}, {0, 1 << 20}} {
			require.Equal(t, syscall.EINVAL, errs.Errno(b.r.Read(region, x.off, make([]byte, x.n))), "%d %v", region, x)
			require.Equal(t, syscall.EINVAL, errs.Errno(b.r.Write(region, x.off, make([]byte, x.n))), "%d %v", region, x)
		}
		require.NoError(t, b.r.Read(region, size, nil))
	}
	for _, region := range []int{ccw.RegionSCHIB, ccw.RegionCRW} { // vfio_ccw_chp.c: write is EINVAL
		require.Equal(t, syscall.EINVAL, errs.Errno(b.r.Write(region, 0, make([]byte, 4))))
	}
	require.Empty(t, b.dev.Log(), "nothing was started")
	require.Zero(t, b.irq(ccw.IRQIO))
}

// A write of a part of the I/O region is a request with what stands in the
// rest, as in vfio_ccw_ops.c.
func TestPartialWrites(t *testing.T) {
	b := newBench(t, binary.LittleEndian, readProgram)
	require.NoError(t, b.r.Open())
	p := b.request(orbOf(f1), cio.StartFunction)
	require.Equal(t, syscall.EOPNOTSUPP, errs.Errno(b.r.Write(ccw.RegionIO, 0, p[:12])), "no function yet")
	require.NoError(t, b.r.Write(ccw.RegionIO, 12, p[12:24]), "with the ORB of before")
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
	var half [2]byte
	require.NoError(t, b.r.Read(ccw.RegionIO, 24+4+2, half[:]))
	require.EqualValues(t, codeAt+8, binary.BigEndian.Uint16(half[:]))
	require.NoError(t, b.r.Write(ccw.RegionIO, 120, []byte{1, 2, 3, 4}), "the return code is overwritten by the result")
	require.Zero(t, b.ret(t, ccw.RegionIO))
	b.nothingHeld()
}

// ret_code values of ccw.md 7.
func TestIORegionReturnCodes(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, order, readProgram, func(s *setup) {
				for i := range 260 {
					s.mem.ccws(0x2000+uint64(i)*8, f1, c(0x03, cc|sli, 1, 0))
				}
			})
			require.NoError(t, b.r.Open())
			transport := orbOf(f1)
			transport.SetTransport(true)
			reserved := orbOf(f1)
			reserved.Raw[7] |= 0x02
			long := orbOf(f1)
			long.SetProgram(0x2000)
			path := orbOf(f1)
			path.SetLPM(0x40)
			for _, r := range []struct {
				name string
				o    cio.ORB
				fctl cio.Control
				want syscall.Errno
			}{
				{"transport mode", transport, cio.StartFunction, syscall.EOPNOTSUPP},
				{"halt is not done here", orbOf(f1), cio.HaltFunction, syscall.EOPNOTSUPP},
				{"clear is not done here", orbOf(f1), cio.ClearFunction, syscall.EOPNOTSUPP},
				{"halt and clear", orbOf(f1), cio.HaltFunction | cio.ClearFunction, syscall.EOPNOTSUPP},
				{"start goes before halt", orbOf(f1), cio.StartFunction | cio.HaltFunction, 0},
				{"more CCWs than the limit in a segment", long, cio.StartFunction, syscall.EINVAL},
				{"reserved bit of the ORB", reserved, cio.StartFunction, syscall.EINVAL},
				{"path gone, another left", path, cio.StartFunction, syscall.EACCES},
				{"and after all that", orbOf(f1), cio.StartFunction, 0},
			} {
				err := b.r.Write(ccw.RegionIO, 0, b.request(r.o, r.fctl))
				require.Equal(t, r.want, errs.Errno(err), "%s: %v", r.name, err)
				require.Equal(t, -int32(r.want), b.ret(t, ccw.RegionIO), r.name)
				require.Equal(t, ccw.StateIdle, b.r.State(), r.name)
				b.nothingHeld()
			}
		})
	}
}

// ccw.md 7: reading the SCHIB region performs STSCH; no host address in it.
func TestSCHIBRegion(t *testing.T) {
	var q queue
	b := newBench(t, binary.LittleEndian, readProgram, func(s *setup) { s.ccw.Dispatch = q.add })
	p := make([]byte, 52)
	require.NoError(t, b.r.Read(ccw.RegionSCHIB, 0, p))
	require.Zero(t, p[5]&0x80, "not enabled in Standby")
	require.NoError(t, b.r.Open())
	require.NoError(t, b.io(orbOf(f1)))
	require.NoError(t, b.r.Read(ccw.RegionSCHIB, 0, p))
	require.NotZero(t, p[5]&0x80, "enabled")
	require.EqualValues(t, cio.StartFunction|cio.StartPending, binary.BigEndian.Uint16(p[30:]))
	q.run()
	require.NoError(t, b.r.Read(ccw.RegionSCHIB, 32, p[:4]))
	requireGuest(t, binary.BigEndian.Uint32(p))
}

// ccw.md 7: each read pops one report, zero if none; the interrupt is raised
// for each report, and again while some are left.
func TestCRWRegion(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, order)
			pop := func() uint32 {
				p := []byte{1, 2, 3, 4, 5, 6, 7, 8}
				require.NoError(t, b.r.Read(ccw.RegionCRW, 0, p))
				require.Zero(t, order.Uint32(p[4:]), "the pad")
				return order.Uint32(p)
			}
			require.Zero(t, pop())
			one, two := cio.MakeCRW(0, cio.SourceChannelPath, cio.RecoveryPermanent, 1), cio.MakeCRW(0, cio.SourceChannelPath, cio.RecoveryInitialized, 2)
			b.r.Report(one)
			b.r.Report(two)
			require.Equal(t, 2, b.irq(ccw.IRQCRW))
			require.EqualValues(t, one, pop())
			require.Equal(t, 3, b.irq(ccw.IRQCRW), "one is left")
			require.EqualValues(t, two, pop())
			require.Equal(t, 3, b.irq(ccw.IRQCRW))
			require.Zero(t, pop())
			// A user who reads none: bounded, and told of it.
			for i := range 1000 {
				b.r.Report(cio.MakeCRW(0, cio.SourceSubchannel, cio.RecoveryAvailable, uint16(i)))
			}
			var last uint32
			n := 0
			for w := pop(); w != 0; w = pop() {
				last = w
				n++
			}
			require.Less(t, n, 100)
			require.NotZero(t, cio.CRW(last)&cio.CRWOverflow, "words were lost")
		})
	}
}

// Halt and clear while a program runs.
func TestAsyncWhileAProgramRuns(t *testing.T) {
	for name, cmd := range map[string]uint32{"halt": ccw.AsyncHalt, "clear": ccw.AsyncClear} {
		t.Run(name, func(t *testing.T) {
			dev := newGate()
			var wg sync.WaitGroup
			b := newBench(t, binary.LittleEndian, func(s *setup) {
				s.dev = dev
				s.ccw.Dispatch = func(run func()) { wg.Go(run) }
				s.mem.ccws(codeAt, f1, c(0x02, cc, 4096, dataAt), c(0x02, 0, 4096, dataAt))
			})
			require.NoError(t, b.r.Open())
			require.NoError(t, b.io(orbOf(f1)))
			<-dev.entered
			require.Equal(t, ccw.StatePending, b.r.State())
			require.Equal(t, syscall.EBUSY, errs.Errno(b.io(orbOf(f1))), "IO_REQ in CP_PENDING")
			require.Equal(t, -int32(syscall.EBUSY), b.ret(t, ccw.RegionIO))
			require.NoError(t, b.async(cmd))
			require.Zero(t, b.ret(t, ccw.RegionAsync))
			if cmd == ccw.AsyncHalt {
				require.Equal(t, syscall.EBUSY, errs.Errno(b.async(cmd)), "a halt is in progress")
			}
			require.Equal(t, ccw.StatePending, b.r.State(), "the program is not over yet")
			require.NotZero(t, b.pinner.Charged())
			dev.leave <- struct{}{}
			wg.Wait()
			require.Equal(t, 1, b.irq(ccw.IRQIO))
			require.Equal(t, ccw.StateIdle, b.r.State())
			b.nothingHeld()
		})
	}
	b := newBench(t, binary.BigEndian)
	require.NoError(t, b.r.Open())
	for _, cmd := range []uint32{0, 3, 4, 1 << 31, ^uint32(0)} {
		require.Equal(t, syscall.EINVAL, errs.Errno(b.async(cmd)), "C4 #15: unknown command %#x", cmd)
		require.Equal(t, -int32(syscall.EINVAL), b.ret(t, ccw.RegionAsync))
	}
}

// vfio_ccw_drv.c: the state goes back to idle only when a program has ended,
// not for an interruption that nobody asked for.
func TestUnsolicitedStatusEndsNoProgram(t *testing.T) {
	m := newStall(make([]byte, 64<<10))
	w := c(0x02, 0, 4096, dataAt).Encode1()
	copy(m.b[codeAt:], w[:])
	var q queue
	b := newBench(t, binary.BigEndian, func(s *setup) {
		s.ccw.Dispatch = q.add
		s.mapping = func(st *translate.Store) {
			require.NoError(t, st.Map(0, addr.Len(len(m.b)), translate.Remote(m), addr.ReadWrite))
		}
	})
	require.NoError(t, b.r.Open())
	done := make(chan error)
	go func() { done <- b.io(orbOf(f1)) }()
	<-m.entered
	require.Equal(t, ccw.StateProcessing, b.r.State())
	told := make(chan struct{})
	go func() { // while the program is being taken; its look at the status waits for that
		defer close(told)
		b.d.Attention(cio.Attention)
	}()
	var s cio.SCHIB
	time.Sleep(5 * time.Millisecond)
	close(m.leave)
	require.NoError(t, <-done)
	<-told
	require.Equal(t, 1, b.irq(ccw.IRQIO))
	require.Equal(t, cio.CC0, b.d.Store(&s))
	require.Equal(t, cio.StartFunction|cio.StartPending, s.SCSW.Control())
	require.Equal(t, ccw.StatePending, b.r.State(), "it has not even begun")
	q.run()
	require.Equal(t, ccw.StateIdle, b.r.State())
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
}
