package channel_test

import (
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// folded is 64 KiB that appear again and again below its end, so that random
// addresses hit something; one page of each copy refuses.
type folded struct {
	b       [1 << 16]byte
	end     uint64
	refused int
	bytes   int
}

func (m *folded) at(a addr.HPA, p []byte, into bool) error {
	last := uint64(a) + uint64(len(p)) - 1
	if len(p) == 0 || last < uint64(a) || last >= m.end {
		m.refused++
		return errs.ErrReach
	}
	if a>>addr.PageShift&15 == 15 {
		m.refused++
		return errs.ErrPermission
	}
	m.bytes += len(p)
	for len(p) > 0 {
		in := m.b[uint64(a)&0xFFFF:]
		n := min(len(p), len(in))
		if into {
			copy(in, p[:n])
		} else {
			copy(p, in[:n])
		}
		p, a = p[n:], a+addr.HPA(n)
	}
	return nil
}

func (m *folded) Read(a addr.HPA, p []byte) error  { return m.at(a, p, false) }
func (m *folded) Write(a addr.HPA, p []byte) error { return m.at(a, p, true) }

// dice is a device that does what its bytes say.
type dice struct {
	b     []byte
	i     int
	ops   int
	moved int
}

func (d *dice) roll() byte {
	if len(d.b) == 0 {
		return 0
	}
	d.i++
	return d.b[d.i%len(d.b)]
}

func (d *dice) Begin()        {}
func (d *dice) Reset()        {}
func (d *dice) Sense() []byte { return d.b }
func (d *dice) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d.ops++
	for range d.roll() % 4 {
		n := int(d.roll()) << (d.roll() % 6)
		buf := make([]byte, n)
		k := 0
		switch d.roll() % 6 {
		case 0:
			x.Accept()
		case 1:
			k = x.Skip(n)
		case 2:
			k = x.FetchUpTo(buf)
		case 3:
			k = x.Fetch(buf)
		default:
			k = x.Store(buf)
		}
		if k > n || k < 0 || k < n && x.Remaining() < 0 {
			panic("moved more than asked")
		}
		d.moved += k
	}
	if s := cio.DeviceStatus(d.roll()); s&0x80 != 0 {
		return s
	}
	return cio.Ended
}

// Oracle: whatever the program, the memory and the device: no panic; the work
// meter bounds the CCWs; storage that refuses is asked once and then no more;
// the program ends with start function and primary status, or suspended, or
// refused; the status is taken once.
func FuzzChannelHostile(f *testing.F) {
	add := func(orb cio.ORBFlags, mem, dev []byte) { f.Add(uint32(orb), mem, dev) }
	chain := func(f1 bool, cs ...cio.CCW) (b []byte) {
		for _, c := range cs {
			e := c.Encode(f1)
			b = append(b, e[:]...)
		}
		return b
	}
	add(f1, chain(true, ccw(rd, cd, 10, 0x3000), ccw(cio.TIC, 0, 0, progAt)), []byte{1, 255, 5, 5, 0})
	add(f1|h, chain(true, ccw(rd, ida|cc, 5000, 0x3000), ccw(back, ida, 5000, 0x3000)), []byte{3, 100, 5, 4, 1, 4, 2})
	add(f1|cio.ORBMIDAW|cio.ORBSuspend, chain(true, ccw(wr, mida|cc|pci, 500, 0x3000), ccw(wr, susp, 5, 0)), []byte{1, 200, 2, 3})
	add(f0|cio.ORBInitialStatus, chain(false, ccw(ctl, cc|sli, 1, 0), ccw(cio.TIC, 0, 0, progAt)), []byte{0})
	f.Fuzz(func(t *testing.T, flags uint32, mem, dev []byte) {
		m := &folded{end: 1 << 31}
		copy(m.b[progAt:], mem)
		d := &dice{b: dev}
		const budget = 400
		steps := 0
		var s *channel.Subchannel
		intermediate := 0
		s = channel.New(m, d, testPMCW(), &channel.Config{
			Steps: func(n int) error {
				if steps += n; steps > budget {
					return errs.ErrBudget
				}
				return nil
			},
			Interrupt: func() {
				var schib cio.SCHIB
				s.Store(&schib)
				if schib.SCSW.SC() == cio.IntermediateStatus|cio.StatusPending {
					intermediate++
					s.Test(new(cio.IRB))
				}
			},
		})
		o := format1()
		o.SetFlags(cio.ORBFlags(flags) &^ (cio.ORBTransport | cio.ORBExtended | 0x3E))
		if cc := s.Start(o); cc != cio.CC0 {
			t.Fatalf("%v", cc)
		}
		if steps > budget+1 {
			t.Fatalf("%d steps", steps)
		}
		if intermediate > steps+1 {
			t.Fatalf("%d intermediate interruptions in %d steps", intermediate, steps)
		}
		if m.refused > 1 {
			t.Fatalf("storage refused %d times", m.refused)
		}
		if m.bytes > 16*65536+8*steps+d.moved*17 {
			t.Fatalf("%d bytes of storage touched for %d that moved", m.bytes, d.moved)
		}
		var irb cio.IRB
		cc := s.Test(&irb)
		w := &irb.SCSW
		if w.FC() != cio.StartFunction {
			t.Fatalf("%v", w)
		}
		switch {
		case w.AC()&cio.Suspended != 0:
			if cc != cio.CC1 || !o.Suspend() {
				t.Fatalf("%v: %v", cc, w)
			}
			return
		case w.DeferredCC() == cio.CC1:
		case cc != cio.CC0 || w.SC()&(cio.PrimaryStatus|cio.StatusPending) != cio.PrimaryStatus|cio.StatusPending:
			t.Fatalf("%v: %v", cc, w)
		}
		if s.Test(&irb) != cio.CC1 {
			t.Fatalf("status was taken twice: %v", w)
		}
	})
}
