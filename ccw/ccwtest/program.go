package ccwtest

import (
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// Where generated programs stand in storage. Data may be anywhere.
const (
	codeAt  = 0x1000 // CCWs
	listAt  = 0x4000 // IDALs and MIDALs
	dataAt  = 0x8000
	highLow = 16<<20 - 8<<10 // the area around 16 MiB
)

// Program is a guest's channel program in its storage.
type Program struct {
	ORB     cio.ORB
	Storage *Storage
}

// dice draws choices from the input of a fuzzer; zero when it is used up.
type dice struct{ b []byte }

func (d *dice) byte() byte {
	if len(d.b) == 0 {
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *dice) word() uint16 { return uint16(d.byte())<<8 | uint16(d.byte()) }

func (d *dice) of(n int) int { return int(d.byte()) % n }

// one reports true once in n draws.
func (d *dice) one(n int) bool { return d.of(n) == n-1 }

// Decode makes a program from any bytes. Most programs are nearly right: they
// go wrong in one place or two, as hostile ones do that get far.
func Decode(input []byte) Program {
	d := &dice{input}
	p := Program{Storage: NewStorage()}
	orb := &p.ORB
	orb.SetParam(0x5AFE)
	orb.SetLPM(0x80)
	f := d.byte()
	orb.SetFormat1(f&0x01 != 0)
	orb.SetPrefetch(f&0x06 != 0) // mostly
	orb.SetIDAW2(f&0x08 != 0)
	orb.SetBlock2K(f&0x10 != 0)
	orb.SetMIDAW(f&0x20 != 0)
	orb.SetSuppressIL(f&0x40 != 0)
	if g := d.byte(); g >= 0xE0 {
		orb.SetSuspend(g&1 != 0)
		orb.SetInitialStatus(g&2 != 0)
		orb.SetKey(g & 4)
	}
	base := uint32(codeAt)
	switch d.of(24) {
	case 21:
		base = 16<<20 - 4*cio.CCWSize
	case 22:
		base = 1<<31 - 4*cio.CCWSize
	case 23:
		base = codeAt + 4
	}
	orb.SetProgram(base)
	g := &generator{dice: d, p: &p, list: listAt}
	n := 1 + d.of(24)
	for i := range n {
		g.ccw(base, i, n)
	}
	return p
}

type generator struct {
	*dice
	p    *Program
	list uint32 // where the next list goes
}

func (g *generator) ccw(base uint32, i, n int) {
	format1 := g.p.ORB.Format1()
	c := cio.CCW{Command: g.command(), Count: g.count()}
	switch last := i == n-1; {
	case g.one(8):
		c.Command = cio.TIC
		c.Addr = base + uint32(g.of(n+1))*cio.CCWSize
		if g.one(16) {
			c.Addr = g.address()
		}
		c.Count = 0
		if g.one(16) {
			c.Count, c.Flags = uint16(g.byte()), cio.Flags(g.byte())
		}
	default:
		if !last {
			c.Flags |= cio.ChainCommand
			if g.one(4) {
				c.Flags = cio.ChainData
			}
		}
		f := g.byte()
		if f&1 != 0 {
			c.Flags |= cio.SuppressLength
		}
		if f > 0xF0 {
			c.Flags ^= cio.Flags(g.byte())
		}
		c.Addr = g.address()
		switch {
		case c.Flags&cio.Modified != 0 || g.p.ORB.MIDAW() && f&0x06 == 0x06:
			c.Flags |= cio.Modified
			c.Addr = g.midal(c)
		case c.Flags&cio.Indirect != 0 || f&0x08 != 0:
			c.Flags |= cio.Indirect
			c.Addr = g.idal(c)
		}
	}
	b := c.Encode(format1)
	g.put(addr.IOVA(base)+addr.IOVA(i)*cio.CCWSize, b[:])
}

func (g *generator) put(a addr.IOVA, b []byte) { copy(g.p.Storage.At(a), b) }

var commands = [...]cio.Command{
	0x02, 0x01, 0x12, 0x11, 0x22, 0x21, 0x31, 0x43, 0x53, 0x62, 0x72, 0x82, 0x93, 0xA2, 0xA1,
	0x0C, 0x1C, 0x2C, 0x04, 0xE4, 0x03, 0x13, 0x32, 0x81, 0x00, 0x18, 0xC3,
}

func (g *generator) command() cio.Command { return commands[g.of(len(commands))] }

func (g *generator) count() uint16 {
	switch g.of(12) {
	case 0:
		return 0
	case 1:
		return 1
	case 2:
		return g.word()
	case 3:
		return 4096
	case 4:
		return 80
	case 5:
		return 5
	}
	return uint16(g.byte())*16 + uint16(g.byte())
}

// address is where data may be.
func (g *generator) address() uint32 {
	switch g.of(20) {
	case 0:
		return 64<<10 + uint32(g.word()) // read-only, missing
	case 1:
		return 64<<10 - uint32(g.byte())
	case 2:
		return 96<<10 + uint32(g.word())/2
	case 3:
		return 128<<10 + uint32(g.word())/4
	case 4:
		return 16<<20 - uint32(g.byte())
	case 5:
		return 1<<31 - uint32(g.byte())
	case 6:
		return uint32(g.byte())
	case 7:
		return uint32(g.word())<<16 | uint32(g.word())
	case 8:
		return 80<<10 - uint32(g.byte())
	case 9:
		return highLow + uint32(g.word())/4
	case 10:
		return codeAt + uint32(g.byte()) // the program itself
	}
	return dataAt + uint32(g.word())/2
}

// wide is an address for a word that holds 64 bits.
func (g *generator) wide() uint64 {
	switch g.of(16) {
	case 0:
		return 1<<40 + uint64(g.word())/4
	case 1:
		return ^uint64(0) - uint64(g.word())
	case 2:
		return 1<<32 + uint64(g.word())
	case 3:
		return 1<<31 + uint64(g.word())/8
	}
	return uint64(g.address())
}

// place is where a list of size bytes, of words of align bytes, is put.
func (g *generator) place(size, align uint32) uint32 {
	a := (g.list + align - 1) &^ (align - 1)
	switch g.of(24) {
	case 21:
		a += uint32(g.of(16)) // perhaps misaligned
	case 22:
		a = (a+4095)&^4095 - align*uint32(1+g.of(3)) // crosses a page
	case 23:
		return g.address() // anywhere
	}
	if a+size > dataAt {
		a = listAt
	}
	g.list = a + size
	return a
}

func (g *generator) idal(c cio.CCW) uint32 {
	orb := &g.p.ORB
	block := uint64(orb.Block())
	size := uint32(cio.IDAW1Size)
	if orb.IDAW2() {
		size = cio.IDAW2Size
	}
	n := cio.IDAWs(block-1, c.Count, orb.Block())
	at := g.place(uint32(n)*size, size)
	for k := range n {
		var a uint64
		switch {
		case orb.IDAW2():
			a = g.wide()
		default:
			a = uint64(g.address())
		}
		if k > 0 && !g.one(20) {
			a &^= block - 1
			if c.Command.Class(true) == cio.ClassReadBackward {
				a |= block - 1
			}
		}
		w := addr.IOVA(at) + addr.IOVA(k)*addr.IOVA(size)
		if orb.IDAW2() {
			g.put(w, binary.BigEndian.AppendUint64(nil, a))
		} else {
			g.put(w, binary.BigEndian.AppendUint32(nil, uint32(a)))
		}
	}
	return at
}

func (g *generator) midal(c cio.CCW) uint32 {
	n := 1 + g.of(5)
	at := g.place(uint32(n)*cio.MIDAWSize, cio.MIDAWSize)
	left := int(c.Count)
	for k := range n {
		m := cio.MIDAW{Addr: g.wide(), Count: uint16(left)}
		if k < n-1 {
			m.Count = uint16(min(left, int(g.byte())))
		} else {
			m.Flags = cio.MIDAWLast
		}
		if off := m.Addr & addr.PageMask; off+uint64(m.Count) > 4096 && !g.one(8) {
			m.Addr &^= addr.PageMask
		}
		left -= int(m.Count)
		switch f := g.byte(); {
		case f > 0xF8:
			m.Flags ^= cio.MIDAWFlags(g.byte())
		case f > 0xF4:
			m.Zero[0] = 1
		case f > 0xF0:
			m.Count = g.word()
		}
		b := m.Encode()
		g.put(addr.IOVA(at)+addr.IOVA(k)*cio.MIDAWSize, b[:])
	}
	return at
}
