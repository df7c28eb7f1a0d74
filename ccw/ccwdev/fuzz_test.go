package ccwdev_test

import (
	"context"
	"encoding/binary"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// model is what vfio_ccw_fsm.c and vfio_ccw_ops.c say that a device is at:
// the states idle and pending as a user sees them, and the regions as they
// read. (There is no user in the other states, and processing is over when a
// write returns.)
type model struct {
	order   binary.ByteOrder
	pending bool // a program is in the unit
	halting bool // and HALT SUBCHANNEL was accepted
	clears  bool // or CLEAR SUBCHANNEL
	initial bool // and it asked to be told when the first command was accepted
	io      [24]byte
	ioRet   int32
	async   [4]byte
	aRet    int32
	crws    []uint32
}

// orb is what a write to region 0 asks to be started.
func (m *model) orb() (o cio.ORB, start bool) {
	be := binary.BigEndian
	be.PutUint32(o.Raw[0:], m.order.Uint32(m.io[0:]))
	be.PutUint16(o.Raw[4:], m.order.Uint16(m.io[4:]))
	o.Raw[6], o.Raw[7] = m.io[6], m.io[7]
	be.PutUint32(o.Raw[8:], m.order.Uint32(m.io[8:]))
	o.SetExtended(false)
	return o, m.order.Uint16(m.io[14:])&uint16(cio.StartFunction) != 0
}

// request is the errno of a write to region 0, whose bytes are in m.io.
func (m *model) request() syscall.Errno {
	o, start := m.orb()
	switch {
	case m.pending:
		return syscall.EBUSY
	case !start:
		return syscall.EOPNOTSUPP
	}
	if err := channel.CheckORB(&o); err != nil {
		return errs.Errno(err)
	}
	if o.LPM()&0x80 == 0 { // the only path there is
		return syscall.EACCES
	}
	return 0
}

// command is the errno of a write to region 1.
func (m *model) command() syscall.Errno {
	switch m.order.Uint32(m.async[:]) {
	case ccw.AsyncHalt:
		if m.pending && (m.halting || m.clears) {
			return syscall.EBUSY
		}
		m.halting = m.pending
	case ccw.AsyncClear:
		m.clears = m.pending
	default:
		return syscall.EINVAL
	}
	return 0
}

// script drives a device and its model side by side.
type script struct {
	*vm
	m    model
	unit *door
	dev  interface{ ChannelReport(cio.CRW) }
	in   []byte
}

func (s *script) byte() byte {
	if len(s.in) == 0 {
		return 0
	}
	b := s.in[0]
	s.in = s.in[1:]
	return b
}

// chunk is an access: an offset and a length, mostly within n bytes.
func (s *script) chunk(n int) (off uint64, size int) {
	switch b := s.byte(); {
	case b < 0x80:
		return 0, n
	case b < 0xF0:
		off = uint64(s.byte()) % uint64(n)
		return off, int(s.byte())%(n-int(off)) + 1
	default:
		return uint64(int64(int8(s.byte()))), int(s.byte())
	}
}

// settle waits until a program that was accepted is in the unit, or over.
func (s *script) settle() {
	select {
	case <-s.unit.entered:
		o, _ := s.m.orb()
		s.m.pending, s.m.initial = true, o.InitialStatus()
	case <-s.io:
		require.NotZero(s.t, s.irb().SCSW[9]&0xBF, "a program that did not reach the unit ended in a check")
	case <-time.After(20 * time.Second):
		require.FailNow(s.t, "a program was accepted and nothing came of it")
	}
}

// finish lets the program in the unit end.
func (s *script) finish() {
	s.unit.leave <- struct{}{}
	irb := s.interrupt()
	if s.m.initial && !s.m.halting && !s.m.clears {
		irb = s.interrupt()
	}
	fc := cio.StartFunction
	switch {
	case s.m.clears:
		fc = cio.ClearFunction
	case s.m.halting:
		fc |= cio.HaltFunction
	}
	require.Equal(s.t, fc, irb.SCSW.FC(), "%v", irb.SCSW)
	s.m.pending, s.m.halting, s.m.clears, s.m.initial = false, false, false, false
}

// write writes p and returns the errno.
func (s *script) write(region int, off uint64, p []byte) syscall.Errno {
	return errs.Errno(s.s.Write(s.t.Context(), region, off, p))
}

func (s *script) step() {
	op := s.byte()
	switch op % 10 {
	case 0, 1: // a start, as a guest's system writes it
		o := orb()
		o.SetProgram(codeAt + 8*uint32(op>>4&3))
		flip := s.byte()
		o.Raw[5+(op>>6)&3] ^= flip & s.byte() // few bits
		p := s.request(o)
		copy(s.m.io[:], p)
		s.request0(0, p)
	case 2: // any bytes anywhere in region 0
		off, n := s.chunk(ccw.RegionSize(ccw.RegionIO))
		p := make([]byte, n)
		for i := range p {
			p[i] = s.byte()
		}
		if off <= 124 && uint64(n) <= 124-off {
			if off < 24 {
				copy(s.m.io[off:], p)
			}
			s.request0(off, p)
			return
		}
		require.Equal(s.t, syscall.EINVAL, s.write(ccw.RegionIO, off, p))
	case 3, 4: // region 1
		off, n := uint64(0), 8
		p := make([]byte, 8)
		s.m.order.PutUint32(p, uint32(op>>4&3))
		if op&0x80 != 0 {
			off, n = s.chunk(8)
			p = make([]byte, n)
			for i := range p {
				p[i] = s.byte()
			}
		}
		if off > 8 || uint64(n) > 8-off {
			require.Equal(s.t, syscall.EINVAL, s.write(ccw.RegionAsync, off, p))
			return
		}
		if n == 0 {
			require.Zero(s.t, s.write(ccw.RegionAsync, off, p), "a write of nothing")
			return
		}
		if off < 4 {
			copy(s.m.async[off:], p)
		}
		want := s.m.command()
		require.Equal(s.t, want, s.write(ccw.RegionAsync, off, p), "command %x, %+v", s.m.async, s.m)
		s.m.aRet = -int32(want)
		if want == 0 && !s.m.pending { // nothing to end: status at once
			irb := s.interrupt()
			require.NotZero(s.t, irb.SCSW.FC()&(cio.HaltFunction|cio.ClearFunction))
		}
	case 5: // regions that cannot be written, and some that are not there
		off, n := s.chunk(8)
		want := syscall.EINVAL
		if r := 2 + int(op>>4); r < ccw.NumRegions && n == 0 && off <= uint64(ccw.RegionSize(r)) {
			want = 0
		}
		require.Equal(s.t, want, s.write(2+int(op>>4), off, make([]byte, n)))
	case 6: // reads
		region := int(op>>4) % (ccw.NumRegions + 1)
		off, n := s.chunk(max(ccw.RegionSize(region), 4))
		p := make([]byte, n)
		before := s.io0()
		err := errs.Errno(s.s.Read(s.t.Context(), region, off, p))
		size := uint64(ccw.RegionSize(region))
		if region == ccw.NumRegions || off > size || uint64(n) > size-off {
			require.Equal(s.t, syscall.EINVAL, err)
			return
		}
		require.Zero(s.t, err)
		switch {
		case region == ccw.RegionIO:
			require.Equal(s.t, before[off:][:n], p)
		case region == ccw.RegionCRW && n > 0:
			var want [8]byte
			if len(s.m.crws) > 0 {
				s.m.order.PutUint32(want[:], s.m.crws[0])
				s.m.crws = s.m.crws[1:]
			}
			require.Equal(s.t, want[off:][:n], p)
		}
	case 7:
		if s.m.pending {
			s.finish()
		}
	case 8: // a report
		w := cio.MakeCRW(0, cio.SourceChannelPath, cio.RecoveryTerminal, uint16(op)|1)
		s.dev.ChannelReport(w)
		s.m.crws = append(s.m.crws, uint32(w))
		if len(s.m.crws) > 32 {
			s.m.crws = s.m.crws[:32]
			s.m.crws[31] |= uint32(cio.CRWOverflow)
		}
	case 9: // reset
		var wg sync.WaitGroup
		if s.m.pending {
			wg.Go(func() { s.unit.leave <- struct{}{} })
		}
		require.NoError(s.t, s.s.Reset(s.t.Context()))
		wg.Wait()
		for len(s.io) > 0 {
			<-s.io // of a program that ended before the reset began
		}
		s.m = model{order: s.m.order}
	}
}

// request0 writes p to region 0 and holds what comes of it against the model.
func (s *script) request0(off uint64, p []byte) {
	if len(p) == 0 {
		require.Zero(s.t, s.write(ccw.RegionIO, off, p), "a write of nothing")
		return
	}
	want := s.m.request()
	require.Equal(s.t, want, s.write(ccw.RegionIO, off, p), "%x", s.m.io)
	s.m.ioRet = -int32(want)
	if want == 0 {
		s.settle()
	}
}

// io0 is region 0, of which the model knows all but the IRB.
func (s *script) io0() []byte { return s.read(ccw.RegionIO) }

// check holds the regions against the model.
func (s *script) check() {
	p := s.io0()
	require.Equal(s.t, s.m.io[:], p[:24], "ORB and SCSW as written")
	require.Equal(s.t, s.m.ioRet, int32(s.m.order.Uint32(p[120:])), "return code of region 0")
	a := s.read(ccw.RegionAsync)
	require.Equal(s.t, s.m.async[:], a[:4])
	require.Equal(s.t, s.m.aRet, int32(s.m.order.Uint32(a[4:])), "return code of region 1")
	schib := cio.DecodeSCHIB((*[52]byte)(s.read(ccw.RegionSCHIB)))
	require.EqualValues(s.t, 0x0120, schib.PMCW.DeviceNumber())
	require.NotZero(s.t, schib.PMCW.Flags()&cio.PMCWEnabled)
	fc := cio.Control(0)
	switch {
	case s.m.clears:
		fc = cio.ClearFunction
	case s.m.halting:
		fc = cio.StartFunction | cio.HaltFunction
	case s.m.pending:
		fc = cio.StartFunction
	}
	require.Equal(s.t, fc, schib.SCSW.FC(), "%v", schib.SCSW)
	s.quiet()
}

// Oracle: whatever is written to and read from the regions of a session, each
// access has the errno and leaves the return codes that the state machine of
// vfio-ccw gives, the regions read as they were written, each function that was
// accepted is answered by one interrupt, beside the one for initial status, and
// nothing stays pinned.
func FuzzRegions(f *testing.F) {
	f.Add([]byte{0, 0x00, 0, 0, 7, 0x00, 0, 0, 0x13, 7, 0x00, 0, 0, 0x23, 7, 9})
	f.Add([]byte{1, 0x13, 0x23, 0x33, 0x00, 0, 0, 0x13, 0x13, 0x23, 7})
	f.Add([]byte{0, 0x02, 0x81, 12, 8, 1, 2, 3, 4, 0x40, 0x06, 0xF5, 0xFF, 0xFF, 0x16, 0, 0x26, 0, 0x36, 0})
	f.Add([]byte{1, 0x08, 0x18, 0x36, 0, 0x36, 0, 0x36, 0, 0x00, 0, 0, 9, 0x15, 0, 0x25, 0})
	f.Add([]byte{0, 0x10, 0xFF, 0xFF, 0x20, 0x40, 0x40, 0x30, 0xFF, 2, 7, 0x83, 0x90, 3, 2, 1, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 256 {
			return
		}
		s := &script{unit: newDoor(), in: in}
		s.m.order = binary.LittleEndian
		if s.byte()&1 != 0 {
			s.m.order = binary.BigEndian
		}
		d := behind(t, s.unit, s.m.order)
		s.vm, s.dev = newVM(t, d, s.m.order, nil), d
		// No program can change the programs.
		require.NoError(t, s.s.Map(0, 2*codeAt, translate.Bytes(s.mem[:2*codeAt]), addr.Read))
		require.NoError(t, s.s.Map(2*codeAt, memSize-2*codeAt, translate.Bytes(s.mem[2*codeAt:]), addr.ReadWrite))
		// At codeAt+8*i: a read, a write, an invalid command, no operation.
		s.program(c(0x02, 0, 8, dataAt), c(0x01, 0, 8, dataAt), c(0x00, 0, 8, dataAt), c(0x43, 0, 1, 0))
		for len(s.in) > 0 {
			s.step()
			s.check()
		}
		if s.m.pending {
			s.finish()
		}
		require.Zero(t, s.s.Stats().Charged)
		require.NoError(t, s.s.Close(context.Background()))
		s.quiet()
	})
}
