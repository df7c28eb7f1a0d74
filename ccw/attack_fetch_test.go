package ccw_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// The part of storage where generated programs have CCWs and lists.
const (
	flipAt  = 0x1000
	flipEnd = 0x8000
)

// outcome is all that a guest can see of a program.
type outcome struct {
	refused string
	irb     string
	log     string
	data    string
	usage   job.Usage
}

// runOver runs p with its CCWs and lists in remote memory that wrap makes of
// the bytes there, and the rest in ordinary memory. data reports whether the
// program names the remote part as data, in which case its result says nothing.
func runOver(t *testing.T, p ccwtest.Program, wrap func(base addr.IOVA, b []byte) translate.RemoteMemory) (out outcome, data bool) {
	m := image{p.Storage.Clone()}
	g := newRig(t, func(s *setup) {
		s.mem = m
		s.ccw.Limits = job.Limits{Steps: ccwtest.Steps}
		s.mapping = func(st *translate.Store) {
			low := m.Bytes(0)
			remote := append([]byte(nil), low[flipAt:flipEnd]...)
			require.NoError(t, st.Map(0, flipAt, translate.Bytes(low[:flipAt]), addr.ReadWrite))
			require.NoError(t, st.Map(flipAt, flipEnd-flipAt, translate.Remote(wrap(flipAt, remote)), addr.ReadWrite))
			require.NoError(t, st.Map(flipEnd, rwEnd-flipEnd, translate.Bytes(low[flipEnd:]), addr.ReadWrite))
			for i, a := range ccwtest.Areas[1:] {
				n, _ := a.Len()
				require.NoError(t, st.Map(a.Start(), n, translate.Bytes(m.Bytes(i+1)), a.Access))
			}
		}
	})
	o := p.ORB
	code, err := g.d.Start(&o)
	if err != nil {
		out.refused = err.Error()
	} else if code == 0 {
		var irb cio.IRB
		g.d.Test(&irb)
		b := irb.Encode()
		out.irb = hex.EncodeToString(b[:])
	}
	zone := addr.MustRange(addr.IOVA(flipAt), flipEnd-flipAt)
	for _, e := range g.d.Last().Elements {
		for _, w := range e.Words {
			if r, ok := addr.RangeOf(w.Guest-min(w.Guest, 4096), w.Len+8192); !ok || r.Overlaps(zone) {
				data = true
			}
		}
	}
	if !g.d.Last().Whole {
		data = true
	}
	out.log, out.usage = g.dev.Log(), g.d.Usage()
	for i := range ccwtest.Areas {
		if i > 0 {
			out.data += string(m.Bytes(i))
		} else {
			out.data += string(m.Bytes(0)[flipEnd:])
		}
	}
	require.NoError(t, g.d.Close())
	g.nothingHeld()
	return out, data
}

// C4 #1 double fetch [CVE-2026-80551, the first IDAW]: CCWs, IDALs and MIDALs
// stand in memory that an attacker changes between two reads. The result is
// that of memory which stands still, and no byte was read twice.
//
// Seeded mutant: TestC4_01MutantIsCaught.
func TestC4_01FlippingMemoryChangesNothing(t *testing.T) {
	n := 400
	if testing.Short() {
		n = 60
	}
	r := rand.New(rand.NewPCG(1, 1))
	tried := 0
	for range n {
		b := make([]byte, 40+r.IntN(400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] |= 0x02 // P=1: with P=0 an instruction that executes twice is fetched twice
		p := ccwtest.Decode(b)
		p.ORB.SetSuspend(false)
		var flip *translatetest.Flip
		got, data := runOver(t, p, func(base addr.IOVA, b []byte) translate.RemoteMemory {
			flip = translatetest.NewFlip(base, b)
			return flip
		})
		if data {
			continue
		}
		tried++
		require.Empty(t, flip.DoubleFetches(), "%v", p.ORB)
		want, _ := runOver(t, p, func(_ addr.IOVA, b []byte) translate.RemoteMemory { return still(b) })
		require.Equal(t, want, got, "%v", p.ORB)
	}
	require.Greater(t, tried, n/8)
}

type still []byte

func (s still) ReadAt(p []byte, off int64) (int, error)  { return copy(p, s[off:]), nil }
func (s still) WriteAt(p []byte, off int64) (int, error) { return copy(s[off:], p), nil }

// twice is a mutant: a mediator that fetches each byte a second time and
// believes the second reading, as vfio-ccw did with the first IDAW.
type twice struct{ *translatetest.Flip }

func (m twice) ReadAt(p []byte, off int64) (int, error) {
	if n, err := m.Flip.ReadAt(p, off); err != nil {
		return n, err
	}
	return m.Flip.ReadAt(p, off)
}

// The mutant shows that TestC4_01FlippingMemoryChangesNothing can fail: with
// two fetches the device is told something else, and the double fetch is named.
func TestC4_01MutantIsCaught(t *testing.T) {
	m := newImage()
	m.ccws(codeAt, f1, c(0x12, cc|ida, 80, listAt), c(0x11, ida, 80, listAt+8))
	m.idaw2(listAt, dataAt+0x2000, dataAt+0x3000)
	p := ccwtest.Program{ORB: orbOf(f1 | h), Storage: m.Storage}
	var flip *translatetest.Flip
	good, data := runOver(t, p, func(base addr.IOVA, b []byte) translate.RemoteMemory {
		flip = translatetest.NewFlip(base, b)
		return flip
	})
	require.False(t, data)
	require.Empty(t, flip.DoubleFetches())
	bad, _ := runOver(t, p, func(base addr.IOVA, b []byte) translate.RemoteMemory {
		flip = translatetest.NewFlip(base, b)
		return twice{flip}
	})
	require.NotEqual(t, good, bad)
	require.Equal(t, addr.IOVA(codeAt), flip.DoubleFetches()[0].Start())
}

// C4 #1: the count and the first IDAW change right after they were read; what
// was checked is what runs.
func TestC4_01FirstIDAW(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1 | h, f1 | h2k, f1, f0 | h, f0} {
		m := newImage()
		m.ccws(codeAt, f, c(0x22, ida, 4100, listAt))
		if f&h != 0 {
			m.idaw2(listAt, dataAt+1000, dataAt+0x1000, dataAt+0x2000, dataAt+0x3000)
		} else {
			m.idaw1(listAt, dataAt+1000, dataAt+0x1000, dataAt+0x2000, dataAt+0x3000)
		}
		p := ccwtest.Program{ORB: orbOf(f), Storage: m.Storage}
		want, _ := runOver(t, p, func(_ addr.IOVA, b []byte) translate.RemoteMemory { return still(b) })
		for _, with := range []byte{0x00, 0xFF, 0x80, 0x07} {
			var flip *translatetest.Flip
			got, _ := runOver(t, p, func(base addr.IOVA, b []byte) translate.RemoteMemory {
				flip = translatetest.NewFlip(base, b)
				flip.Mutate(func(int64, int, byte) byte { return with })
				return flip
			})
			require.Equal(t, want, got)
			require.Empty(t, flip.DoubleFetches())
		}
	}
}

// The format of errors: position, reason, errno [DESIGN.md invariant 8].
func TestErrorText(t *testing.T) {
	g := newRig(t, func(s *setup) {
		for i := range uint64(3) {
			s.mem.ccws(0x1ff8+i*8, f1, c(0x12, cc, 80, dataAt))
		}
		s.mem.ccws(0x2010, f1, c(0x02, ida, 5000, listAt))
		s.mem.idaw2(listAt, dataAt+2048, dataAt+0x1000, 0x15000)
	})
	o := orbOf(f1 | h2k)
	o.SetProgram(0x1ff8)
	s := g.start(&o)
	require.Equal(t, status{0x2018, ok, cio.ProgramCheck, 0}, statusOf(s))
	err := g.d.Err()
	require.EqualError(t, err, "ccw[3] at 0x2010: IDAW 2: iova 0x15000: not mapped")
	require.ErrorIs(t, err, errs.ErrNotMapped)
	require.EqualValues(t, 22, errs.Errno(err))
	o.SetProgram(0x1ff8 + 8)
	o.SetPrefetch(false)
	g.start(&o)
	require.EqualError(t, g.d.Err(), "ccw[2] at 0x2010: IDAW 2: iova 0x15000: not mapped")
	o = orbOf(f1 | h2k)
	o.SetProgram(0x1ff8)
	g.mem.ccws(0x2010, f1, c(0x02, ida, 4096, listAt)) // needs two words
	g.start(&o)
	require.NoError(t, g.d.Err(), "the error of the last program is gone")
}

// Where no error could be told in a status, Start says it, with the position.
func TestRefusalText(t *testing.T) {
	g := newRig(t, func(s *setup) {
		s.pin.Limit = addr.PageSize
		s.mem.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), c(0x02, 0, 4097, highAt))
	})
	o := orbOf(f1)
	_, err := g.d.Start(&o)
	require.EqualError(t, err, "program at 0x1000: ccw[1] at 0x1008: iova 0x18000: dut holds 0x1000 bytes, all hold 0x1000 of 0x1000: locked-memory limit exceeded")
	require.Equal(t, err, g.d.Err())
}

// Property: no byte of an IRB or a SCHIB depends on where the host has things.
// The same program gives the same bytes in host spaces that have nothing in
// common, so that no host address is in them.
func TestNoHostAddressIsVisible(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 50
	}
	r := rand.New(rand.NewPCG(2, 2))
	for range n {
		in := make([]byte, 40+r.IntN(400))
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		var first []byte
		for shift := range addr.Len(2) {
			var seen []byte
			var g *rig
			p := ccwtest.Decode(in)
			s := newSetup()
			s.mem = image{p.Storage}
			s.space.Seed = uint64(shift)
			s.ccw.Limits = job.Limits{Steps: 500}
			look := func() {
				var irb cio.IRB
				var schib cio.SCHIB
				g.d.Store(&schib)
				g.d.Test(&irb)
				a, b := schib.Encode(), irb.Encode()
				seen = append(append(seen, a[:]...), b[:]...)
			}
			s.ccw.Interrupt = look
			g = s.groundShifted(t, shift*37<<16)
			o := p.ORB
			_, err := g.d.Start(&o)
			look()
			_, _ = g.d.Resume()
			look()
			if err != nil {
				seen = append(seen, err.Error()...)
			}
			if err := g.d.Err(); err != nil {
				seen = append(seen, err.Error()...)
			}
			if shift == 0 {
				first = seen
			} else {
				require.True(t, bytes.Equal(first, seen), "%v:\n%x\n%x", p.ORB, first, seen)
			}
			g.d.Clear()
			require.NoError(t, g.d.Close())
		}
	}
}

// groundShifted builds the rig in a host space where n bytes are taken first.
func (s *setup) groundShifted(t testing.TB, n addr.Len) *rig {
	s.before = func(g *rig) {
		if n > 0 {
			f, err := g.space.Alloc(n, cio.Limit1)
			require.NoError(t, err)
			t.Cleanup(f.Free)
		}
	}
	return s.build(t)
}
