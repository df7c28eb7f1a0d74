package pci_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/pci"
)

// FuzzSpace's oracle is a configuration space of bytes with masks poked by hand
// from linux/pci_regs.h, which shares no table with the package: after any
// writes, by driver and device, resets and loads, every byte is the oracle's;
// the chain of capabilities is whole; each BAR reads its type and, after ones,
// its size; and what the hooks last told is what the registers say.
func FuzzSpace(f *testing.F) {
	f.Add([]byte{0, 4, 0, 2, 0xff, 0xff, 0, 0x44, 0, 1, 3, 0, 0x44, 0, 1, 0})
	f.Add([]byte{0, 0x74, 0, 2, 0xff, 0xff, 1, 0xff, 0xff, 0, 6, 0, 2, 0xff, 0xff, 2})
	f.Add([]byte{0, 0x10, 0, 24, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3, 0xff, 0xff, 0xff})
	f.Add(append([]byte{0, 0x3e, 0, 200}, bytes.Repeat([]byte{0xff}, 200)...))
	f.Fuzz(func(t *testing.T, ops []byte) {
		var command pci.Command
		var power pci.PowerState
		var msi = pci.MSIState{Vectors: 1}
		var msix, masked bool
		flrs := 0
		c := everything()
		c.OnFLR = func() { flrs++ }
		c.OnCommand = func(old, now pci.Command) { require.Equal(t, command, old); command = now }
		c.OnPower = func(old, now pci.PowerState) { require.Equal(t, power, old); power = now }
		c.OnMSI = func(st pci.MSIState) { msi = st }
		c.OnMSIX = func(e, m bool) { msix, masked = e, m }
		s := space(t, c)
		places := s.Capabilities()
		m := newOracle()
		next := func() (v byte) {
			if len(ops) > 0 {
				v, ops = ops[0], ops[1:]
			}
			return v
		}
		for n := 0; len(ops) > 0 && n < 200; n++ {
			switch next() % 4 {
			case 0:
				off := (int(next()) | int(next())<<8) % 0x200
				p := make([]byte, min(int(next()), 0x1000-off))
				for i := range p {
					p[i] = next()
				}
				require.NoError(t, s.Write(uint64(off), p))
				m.write(off, p)
			case 1:
				bits := uint64(next()) | uint64(next())<<8
				require.NoError(t, s.Set(pci.RegStatus, bits&(pci.StatusErrors|pci.StatusInterrupt)))
				m.set(6, bits&0xf908)
				s.Pending(bits&1 != 0)
				m.c[0x76] = m.c[0x76]&^0x20 | byte(bits&1)<<5
			case 2:
				s.Reset()
				m.reset(false)
			case 3: // loads whatever comes: what may change does, within its mask
				state := s.Append(nil)
				for i := range state {
					state[i] ^= next()
				}
				require.NoError(t, s.Load(state))
				m.load(t, s)
			}
			got := whole(t, s)
			require.Equal(t, m.c[:], got)
			found, err := pci.Walk(got)
			require.NoError(t, err)
			require.Equal(t, places, found)
			require.Equal(t, m.flrs, flrs)
			require.Equal(t, pci.Command(binary.LittleEndian.Uint16(got[4:])), command)
			require.Equal(t, pci.PowerState(got[0x44]&3), power)
			require.NotEqual(t, pci.D2, power)
			require.Equal(t, []bool{got[0x63]&0x80 != 0, got[0x63]&0x40 != 0}, []bool{msix, masked})
			require.Equal(t, s.MSI(), msi)
			for i, b := range c.BARs {
				if b.Size == 0 {
					continue
				}
				at, _ := s.BAR(i)
				require.Zero(t, at&(b.Size-1), "BAR %d", i)
			}
		}
		for i, want := range []uint64{0xfffff000, 0xffffffc1, 0xfffffffe0000000c, 0, 0xfffffffffff00004} {
			if width := 4 + 4*int(want>>63); want != 0 {
				put(t, s, uint64(0x10+4*i), width, ^uint64(0))
				require.Equal(t, want, get(t, s, uint64(0x10+4*i), width))
			}
		}
	})
}

// oracle is the configuration space of everything.
type oracle struct {
	c, fresh, w, w1c, live, keep, sticky [0x1000]byte
	flrs                                 int
}

func newOracle() *oracle {
	m := &oracle{}
	put := func(a *[0x1000]byte, off int, hex ...uint32) {
		for _, v := range hex {
			binary.LittleEndian.PutUint32(a[off:], v)
			off += 4
		}
	}
	put(&m.fresh, 0x00, 0x56781234, 0x00100000, 0xff010203, 0, 0, 1, 0xc, 0, 4, 0, 0, 0xdef09abc, 0, 0x40, 0, 0x100)
	put(&m.w, 0x04, 0x00000547, 0, 0x000000ff, 0xfffff000, 0xffffffc0, 0, 0xfffffffe, 0xfff00000, 0xffffffff, 0, 0, 0xffff0001, 0, 0, 0xff)
	put(&m.w1c, 0x04, 0xf9000000)
	put(&m.live, 0x04, 0x00080000)
	put(&m.fresh, 0x40, 0x02034801, 0, 0x01846005)
	put(&m.w, 0x44, 3, 0x00710000, 0xfffffffc, 0xffffffff, 0x0000ffff, 0xf)
	put(&m.live, 0x5c, 0xf)
	put(&m.fresh, 0x60, 0x00206c11, 0, 0x8004, 0x0002a810, 0x10008001, 0x00002810, 0x11, 0x00110000)
	put(&m.w, 0x60, 0xc0000000)
	put(&m.w, 0x74, 0x000078ff, 0, 0x000000cb)
	put(&m.w1c, 0x74, 0x000f0000)
	put(&m.live, 0x74, 0x00200000)
	put(&m.keep, 0x74, 0x000000e0, 0, 0x000000cb)
	put(&m.fresh, 0x90, 0x10, 0, 2, 1)
	put(&m.w, 0x94, 0x10, 0, 0xf)
	put(&m.sticky, 0x9c, 0xf)
	put(&m.sticky, 0x74, 0x00200000)
	put(&m.fresh, 0xa8, 0x01090009, 0x05040302, 0x06)
	put(&m.w, 0xa8, 0, 0x0000fff0)
	put(&m.fresh, 0x100, 0x11010023, 0x00f11e98, 0x00010008, 0x00030002, 0x00010023, 0x00a01234, 1)
	put(&m.w, 0x10c, 0xff)
	m.c = m.fresh
	return m
}

func (m *oracle) write(off int, p []byte) {
	for i, v := range p {
		at := off + i
		was := m.c[at]
		m.c[at] = (was&^m.w[at] | v&m.w[at]) &^ (v & m.w1c[at])
		switch {
		case at == 0x44 && m.c[at]&3 == 2: // no D2
			m.c[at] = was
		case at == 0x44 && was&3 == 3 && m.c[at]&3 == 0, at == 0x75 && v&0x80 != 0:
			m.reset(true)
			m.flrs++
		}
	}
}

func (m *oracle) set(off int, bits uint64) {
	m.c[off] |= byte(bits)
	m.c[off+1] |= byte(bits >> 8)
}

func (m *oracle) reset(function bool) {
	for i := range m.c {
		stay := m.sticky[i]
		if function {
			stay |= m.keep[i]
		}
		m.c[i] = m.c[i]&stay | m.fresh[i]&^stay
	}
}

// load takes over what the space says, where that may change.
func (m *oracle) load(t *testing.T, s *pci.Space) {
	for i, v := range whole(t, s) {
		may := m.w[i] | m.w1c[i] | m.live[i]
		m.c[i] = m.c[i]&^may | v&may
	}
}
