package ccw_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// How CCWs name data: ccw.md 1 and 3, a row for each sentence.
func TestAddressing(t *testing.T) {
	prove(t, []row{
		{name: "direct data within a page", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, 0, 80, dataAt+16)) }},
		{name: "direct data over pages become a list", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x22, 0, 4100, dataAt+4000)) }},
		{name: "direct data over two mappings", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x01, 0, 4096, rwEnd-2048)) }},
		{name: "format 0 reaches to 16 MiB", orb: f0, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f0, c(0x12, 0, 80, 16<<20-80)) }},
		{name: "format 0 ends at 16 MiB", orb: f0, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f0, c(0x12, 0, 81, 16<<20-80)) },
			err:  "ccw[0] at 0x1000: iova 0xffffb0: 81 bytes of direct data: outside the valid ranges"},
		{name: "format 1 reaches beyond 16 MiB", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, 0, 80, 16<<20-40)) }},
		{name: "format 1 ends at 2 GiB", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, 0, 81, 1<<31-80)) },
			err:  "ccw[0] at 0x1000: iova 0x7fffffb0: 81 bytes of direct data: outside the valid ranges"},
		{name: "format 1: the address bit 0 must be zero", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, 0, 80, 1<<31+dataAt)) }},
		{name: "format-0 IDAL below 16 MiB, data of it anywhere", orb: f0 | h, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f0, c(0x12, ida, 80, listAt)); m.idaw2(listAt, farAt+8) }},
		{name: "read backward: descending addresses", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x1C, 0, 80, dataAt+4096+10)) }},
		{name: "read backward below address 0", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x1C, 0, 80, 78)) },
			err:  "ccw[0] at 0x1000: iova 0x4e: 80 bytes of direct data: outside the valid ranges"},
		{name: "read backward by IDAWs: down to the start of the block, then whole blocks", orb: f1 | h2k, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x2C, ida, 4100, listAt))
				m.idaw2(listAt, dataAt+10, dataAt+0x2000+2047, dataAt+0x1000+2047, farAt+4095)
			}},
		{name: "unused IDAWs are never fetched", orb: f1 | h, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x02, ida, 4096, roEnd-8)); m.idaw2(roEnd-8, dataAt) }},
		{name: "IDAWs after the end of data are not validated", orb: f1 | h, want: status{codeAt + 8, ok, 0, 4000 - 80},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, ida|sli, 4000, listAt))
				m.idaw2(listAt, dataAt+200, 7)
			}},
		{name: "a further IDAW must be on a block boundary", orb: f1 | h, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x22, ida, 4100, listAt))
				m.idaw2(listAt, dataAt+96, dataAt+0x1001)
			},
			err: "ccw[0] at 0x1000: IDAW 1: iova 0x9001: not on a block boundary: misaligned"},
		{name: "format-1 IDAW: bit 0 must be zero", orb: f1, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, ida, 80, listAt)); m.idaw1(listAt, 1<<31|dataAt) },
			err:  "ccw[0] at 0x1000: IDAW 0: iova 0x80008000: reserved bit: outside the valid ranges"},
		{name: "format-1 list on a word boundary", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, ida, 80, listAt+4)); m.idaw1(listAt+4, dataAt) }},
		{name: "list on no word boundary", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, ida, 80, listAt+2)); m.idaw1(listAt, dataAt) },
			err:  "ccw[0] at 0x1000: iova 0x4002: list: misaligned"},
		{name: "format-2 list on a word boundary only", orb: f1 | h, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, ida, 80, listAt+4)) },
			err:  "ccw[0] at 0x1000: iova 0x4004: list: misaligned"},
		{name: "a list that crosses a page is fetched from both", orb: f1 | h, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x22, ida, 4100, 0x5000-8))
				m.idaw2(0x5000-8, dataAt+96, highAt)
			}},
		{name: "read-only storage takes no input", orb: f1, want: status{codeAt + 8, ok, cio.ProtectionCheck, 80},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, 0, 80, rwEnd)) },
			err:  "ccw[0] at 0x1000: iova 0x10000: access not permitted"},
		{name: "and gives output", orb: f1, want: status{codeAt + 8, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x11, 0, 80, rwEnd)) }},
		{name: "storage that is only written gives none", orb: f1, want: status{codeAt + 8, ok, cio.ProtectionCheck, 80},
			make: func(m image) { m.ccws(codeAt, f1, c(0x11, 0, 80, woAt)) },
			err:  "ccw[0] at 0x1000: iova 0x20000: access not permitted"},
		{name: "protection in the middle: what lies before has moved", orb: f1, want: status{codeAt + 8, ok, cio.ProtectionCheck, 100},
			make: func(m image) { m.ccws(codeAt, f1, c(0x02, 0, 4196, rwEnd-4096)) },
			then: func(t *testing.T, g *rig) {
				require.False(t, bytes.Contains(g.mem.At(rwEnd - 4096)[:4096], bytes.Repeat([]byte{0xA5}, 8)), "a page was read")
			}},
	})
}

// C4 #12 unit mix, and ccw.md 3: format 1 and 2, blocks of 2 and 4 KiB, in
// both CCW formats, from every offset that matters, with every count around
// the edges. The number of words must come out right for each: one too few
// would not reach, one too many would fetch what may not be there.
func TestC4_12IDAWMatrix(t *testing.T) {
	formats := []cio.ORBFlags{f0, f1, f1p}
	if underRace {
		formats = formats[2:] // one goroutine: nothing to see
	}
	for _, ccwf := range formats {
		for name, idaw := range map[string]cio.ORBFlags{"format 1": 0, "format 1 with T": cio.ORBBlock2K, "format 2, 2K": h2k, "format 2, 4K": h} {
			for _, cmd := range []cio.Command{0x02, 0x01, 0x0C} {
				t.Run(fmt.Sprintf("%v %s %v", ccwf, name, cmd), func(t *testing.T) {
					for _, off := range []uint64{0, 1, 2047, 2048, 4095} {
						for _, count := range []uint16{1, 2048, 2049, 4097, 4999} {
							idaws(t, ccwf|idaw, cmd, off, count)
						}
					}
				})
			}
		}
	}
}

func idaws(t *testing.T, f cio.ORBFlags, cmd cio.Command, off uint64, count uint16) {
	o := orbOf(f)
	block := uint64(o.Block())
	size := uint64(cio.IDAW1Size)
	if o.IDAW2() {
		size = cio.IDAW2Size
	}
	back := cmd == 0x0C
	n := cio.IDAWs(off, count, o.Block())
	if back {
		n = cio.IDAWsBackward(off, count, o.Block())
	}
	m := newImage()
	// The list ends where readable storage ends: another word is not there.
	list := uint64(roEnd) - uint64(n)*size
	m.ccws(codeAt, f, c(cmd, ida, count, uint32(list)))
	for k := range n {
		a := uint64(dataAt) + uint64(n-k)*0x1000 // descending, so that nothing is contiguous by luck
		switch {
		case k == 0:
			a += off
		case back:
			a += block - 1
		}
		if o.IDAW2() {
			m.idaw2(list+uint64(k)*size, a)
		} else {
			m.idaw1(list+uint64(k)*size, uint32(a))
		}
	}
	g := newRig(t, func(s *setup) { s.mem = image{m.Clone()} })
	s := g.run(f)
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(s), "%v off %d count %d words %d: %v %v", f, off, count, n, s, g.d.Err())
	require.EqualValues(t, n, g.d.Counts().Words, "words fetched")
	ccwtest.Differential(t, ccwtest.Program{ORB: o, Storage: m.Storage}, build)
}

// ccw.md 3, MIDAWs.
func TestMIDAWs(t *testing.T) {
	last, hop := cio.MIDAWLast, cio.MIDAWSkip
	list := func(count uint16, ws ...cio.MIDAW) func(m image) {
		return func(m image) { m.ccws(codeAt, f1, c(0x12, mida, count, listAt)); m.midaws(listAt, ws...) }
	}
	w := func(f cio.MIDAWFlags, n uint16, a uint64) cio.MIDAW { return cio.MIDAW{Flags: f, Count: n, Addr: a} }
	bad := func(why string) string { return "ccw[0] at 0x1000: " + why }
	prove(t, []row{
		{name: "any byte alignment, any 64-bit address", orb: f1 | mid, want: status{codeAt + 8, ok, 0, 0},
			make: list(80, w(0, 3, dataAt+5), w(0, 37, farAt+4096-37), w(last, 40, dataAt+0x2001))},
		{name: "skip", orb: f1 | mid, want: status{codeAt + 8, ok, 0, 0},
			make: list(80, w(0, 3, dataAt+5), w(hop, 37, ^uint64(0)), w(last, 40, dataAt+0x2001))},
		{name: "skip may cross 4 KiB", orb: f1 | mid, want: status{codeAt + 8, ok, 0, 0},
			make: list(80, w(hop, 40, dataAt+4090), w(last, 40, dataAt+0x2001))},
		{name: "without skip data may not cross 4 KiB", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(0, 40, dataAt+4090), w(last, 40, dataAt+0x2001)),
			err:  bad("MIDAW 0: iova 0x8ffa: 40 bytes cross a 4 KiB boundary: invalid argument")},
		{name: "count zero", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(0, 40, dataAt), w(0, 0, dataAt), w(last, 40, dataAt)), err: bad("MIDAW 1: count 0: invalid argument")},
		{name: "reserved flag", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(last|1, 80, dataAt)), err: bad("MIDAW 0: reserved bits: invalid argument")},
		{name: "reserved byte", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, cio.MIDAW{Zero: [5]uint8{0, 0, 0, 0, 1}, Flags: last, Count: 80, Addr: dataAt}), err: bad("MIDAW 0: reserved bits: invalid argument")},
		{name: "sum too large", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(0, 40, dataAt), w(last, 41, dataAt)), err: bad("MIDAW 1: counts add up to more than 80: invalid argument")},
		{name: "sum too small", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(0, 40, dataAt), w(last, 39, dataAt))},
		{name: "last missing", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(0, 40, dataAt), w(0, 40, dataAt))},
		{name: "list on no 16-byte boundary", orb: f1 | mid, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, mida, 80, listAt+8)) }, err: bad("iova 0x4008: list: misaligned")},
		{name: "list across 4 KiB", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, mida, 80, 0x5000-16))
				m.midaws(0x5000-16, w(0, 40, dataAt), w(last, 40, dataAt))
			}, err: bad("MIDAW 1: list crosses a 4 KiB boundary: invalid argument")},
		{name: "needs D in the ORB", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0}, make: list(80, w(last, 80, dataAt))},
		{name: "excludes IDA", orb: f1 | mid, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, mida|ida, 80, listAt)) }},
		{name: "excludes SKIP", orb: f1 | mid, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, mida|skip, 80, listAt)) }},
		{name: "unmapped word", orb: f1 | mid, want: status{codeAt + 8, ok, cio.ProgramCheck, 0},
			make: list(80, w(0, 40, dataAt), w(last, 40, roEnd)), err: bad("MIDAW 1: iova 0x14000: not mapped")},
	})
}

// An operator sees what an attacker must not: the pins of a program are its
// own pages with least access, and nothing more.
func TestLeastAccess(t *testing.T) {
	dev := newGate()
	g := newRig(t, func(s *setup) {
		s.dev = dev
		s.ccw.Dispatch = func(run func()) { go run() }
		s.mem.ccws(codeAt, f1, c(0x01, cc|sli, 100, rwEnd-50), c(0x02, cc|sli, 8, dataAt), c(0x03, 0, 1, 0x3000), c(0x02, 0, 8, 0x9000))
	})
	o := orbOf(f1)
	_, err := g.d.Start(&o)
	require.NoError(t, err)
	<-dev.entered
	got := map[addr.IOVA]addr.Access{}
	for _, h := range g.pinner.Holdings() {
		for a := h.Range.Start(); a < h.Range.Last(); a += addr.IOVA(addr.PageSize) {
			got[a] |= h.Access
		}
	}
	require.Equal(t, map[addr.IOVA]addr.Access{rwEnd - 4096: addr.Read, rwEnd: addr.Read, dataAt: addr.Write, 0x3000: addr.Read}, got)
	for range 3 {
		dev.leave <- struct{}{}
	}
	<-dev.entered
	<-dev.entered
	require.NoError(t, g.d.Close())
}
