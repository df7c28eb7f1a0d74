package ccw_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
)

// Chains, transfers, status: ccw.md 1, 2, 4 and 5, a row for each sentence.
func TestChains(t *testing.T) {
	found := func(m image) { m.put(dataAt+0x3000, 1, 0, 0, 0, 0) } // what makes a search succeed
	prove(t, []row{
		{name: "CCW address = last CCW used + 8, translated back", orb: f1, want: status{codeAt + 24, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), c(0x11, cc, 80, dataAt), c(0x12, 0, 80, dataAt))
			}},
		{name: "translated back in another chain", orb: f1, want: status{0x2010, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(0x2000))
				m.ccws(0x2000, f1, c(0x12, cc, 80, dataAt), c(0x11, 0, 80, dataAt))
			}},
		{name: "translated back of 24 bits", orb: f0, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f0, c(0x12, cc, 80, dataAt), c(0x11, 0, 80, dataAt)) }},
		{name: "data chaining: one operation over CCWs", orb: f1, want: status{codeAt + 24, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cd, 30, dataAt), c(0, cd, 30, dataAt+0x1000), c(0, 0, 20, highAt))
			}},
		{name: "data chaining through a TIC", orb: f1, want: status{0x2008, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x11, cd, 30, dataAt), tic(0x2000))
				m.ccws(0x2000, f1, c(0, 0, 50, highAt))
			}},
		{name: "data chaining with IDALs", orb: f1 | h, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cd|ida, 30, listAt), c(0x12, ida, 50, listAt+8))
				m.idaw2(listAt, farAt, farAt+0x1000)
			}},
		{name: "CD overrides CC, and SLI is ignored with it", orb: f1, want: status{codeAt + 8, ok, cio.IncorrectLength, 20},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cd|cc|sli, 100, dataAt), c(0x12, 0, 100, dataAt)) }},
		{name: "incorrect length ends command chaining", orb: f1, want: status{codeAt + 8, ok, cio.IncorrectLength, 20},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc, 100, dataAt), c(0x12, 0, 80, dataAt)) }},
		{name: "SLI suppresses it", orb: f1, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc|sli, 100, dataAt), c(0x12, 0, 80, dataAt)) }},
		{name: "TIC forward", orb: f1, want: status{codeAt + 32, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(codeAt+24), c(0xFF, 0, 0, 0), c(0x12, 0, 80, dataAt))
			}},
		{name: "TIC to itself", orb: f1, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(codeAt+8)) }},
		{name: "TIC to a TIC", orb: f1, want: status{0x2008, 0, cio.ProgramCheck, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(0x2000))
				m.ccws(0x2000, f1, tic(codeAt))
			}},
		{name: "TIC first", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, tic(0x2000)); m.ccws(0x2000, f1, c(0x12, 0, 80, dataAt)) }},
		{name: "TIC target misaligned: TIC + 8", orb: f1, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(0x2004)) }},
		{name: "TIC target not there: TIC + 8", orb: f1, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(roEnd)) },
			err:  "ccw[1] at 0x1008: transfer to 0x14000: iova 0x14000: not mapped"},
		{name: "format-1 TIC with flags or count", orb: f1, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), c(8, 0, 1, 0x2000)) },
			err:  "ccw[1] at 0x1008: transfer in channel with flags 0, count 1: invalid argument"},
		{name: "format 0: any x8 is a TIC, bytes 4-7 ignored", orb: f0, want: status{0x2008, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f0, c(0x12, cc, 80, dataAt), c(0xF8, 0xFF, 0xFFFF, 0x2000))
				m.ccws(0x2000, f0, c(0x12, 0, 80, dataAt))
			}},
		{name: "format 1: x8 with x not 0 is no command", orb: f1, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), c(0x18, 0, 80, dataAt)) }},
		{name: "SEARCH TIC READ: equal skips the TIC", orb: f1, want: status{codeAt + 24, ok, 0, 0},
			make: func(m image) {
				found(m)
				m.ccws(codeAt, f1, c(0x31, cc, 5, dataAt+0x3000), tic(codeAt), c(0x12, 0, 80, dataAt))
			}},
		{name: "status modifier past the end of a chain", orb: f1, want: status{codeAt + 24, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x92, cc|sli, 8, dataAt), c(0x12, 0, 80, dataAt), c(0x22, 0, 4100, dataAt+0x1010))
			}},
		{name: "and into a TIC there", orb: f1, want: status{0x2010, ok, 0, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x92, cc|sli, 8, dataAt), c(0x12, 0, 80, dataAt), tic(0x2000))
				m.ccws(0x2000, f1, c(0x12, cc, 80, dataAt), c(0x22, 0, 4100, dataAt+0x1010))
			}},
		{name: "and into nothing there", orb: f1,
			make: func(m image) {
				o := uint32(roEnd - 16)
				m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), tic(o))
				m.ccws(uint64(o), f1, c(0x92, cc|sli, 8, dataAt), c(0x12, 0, 80, dataAt))
			}, want: status{roEnd + 8, 0, cio.ProgramCheck, 0}},
		{name: "SKIP: address and list are not looked at", orb: f1, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, skip|cc, 80, roEnd), c(0x12, skip|ida, 80, roEnd+1)) }},
		{name: "SKIP means nothing for output", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x11, skip, 80, roEnd)) }},
		{name: "zero count in format 1", orb: f1, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x42, cc, 0, roEnd), c(0x12, 0, 80, dataAt)) }},
		{name: "zero count in format 0", orb: f0, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f0, c(0x12, cc, 80, dataAt), c(0x42, 0, 0, dataAt)) },
			err:  "ccw[1] at 0x1008: count 0 in format 0: invalid argument"},
		{name: "zero count with CD", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cd, 0, dataAt), c(0x12, 0, 80, dataAt)) }},
		{name: "zero count reached by data chaining", orb: f1, want: status{codeAt + 16, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, cd, 40, dataAt), c(0x12, 0, 0, dataAt)) }},
		{name: "immediate operation: the address is not used", orb: f1, want: status{codeAt + 16, ok, 0, 1},
			make: func(m image) { m.ccws(codeAt, f1, c(0x43, cc|sli, 1, roEnd), c(0x43, ida|sli, 1, roEnd+2)) }},
		{name: "immediate, format 1: incorrect length", orb: f1, want: status{codeAt + 8, ok, cio.IncorrectLength, 1},
			make: func(m image) { m.ccws(codeAt, f1, c(0x43, cc, 1, 0), c(0x12, 0, 80, dataAt)) }},
		{name: "immediate, format 1 with L", orb: f1 | cio.ORBSuppressIL, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x43, cc, 1, 0), c(0x12, 0, 80, dataAt)) }},
		{name: "immediate, format 0 never", orb: f0, want: status{codeAt + 16, ok, 0, 0},
			make: func(m image) { m.ccws(codeAt, f0, c(0x43, cc, 1, 0), c(0x12, 0, 80, dataAt)) }},
		{name: "invalid command", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x30, 0, 80, dataAt)) }},
		{name: "S without the control of the ORB", orb: f1, want: status{codeAt + 8, 0, cio.ProgramCheck, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x12, susp, 80, dataAt)) }},
		{name: "unit check: sense is taken", orb: f1, want: status{codeAt + 8, ok | cio.UnitCheck, cio.IncorrectLength, 80},
			make: func(m image) { m.ccws(codeAt, f1, c(0x62, cc, 80, dataAt), c(0x12, 0, 80, dataAt)) }},
		{name: "an error in a CCW that is not reached is not reported", orb: f1, want: status{codeAt + 8, ok | cio.UnitException, 0, 0},
			make: func(m image) { m.ccws(codeAt, f1, c(0x72, cc, 16, dataAt), c(0x30, ida, 0xFFFF, roEnd+1)) }},
		{name: "an IDAW that is not reached is not reported", orb: f1 | h, want: status{codeAt + 8, ok, 0, 5000 - 80},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, sli|ida, 5000, listAt))
				m.idaw2(listAt, dataAt, roEnd)
			}},
		{name: "an error is reported when execution reaches it", orb: f1, want: status{codeAt + 24, 0, cio.ProgramCheck, 0},
			make: func(m image) {
				m.ccws(codeAt, f1, c(0x12, cc, 80, dataAt), c(0x12, cc, 80, dataAt), c(0x12, cc, 80, roEnd), c(0x12, 0, 80, dataAt))
			}, err: "ccw[2] at 0x1010: iova 0x14000: not mapped",
			then: func(t *testing.T, g *rig) {
				require.Equal(t, 2, bytes.Count([]byte(g.dev.Log()), []byte("moved 80")), "the CCWs before it ran")
			}},
	})
}

// The same tables without prefetch: a chain is translated as it executes, and
// must come to the same end.
func TestKeyAndControlsOfTheGuest(t *testing.T) {
	for _, f := range []cio.ORBFlags{f0, f1, f0p, f1p, f1 | cio.ORBAddressLimit, f0 | cio.ORBInitialStatus, f1 | cio.ORBSuspend | cio.ORBSuppressSuspend} {
		g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f, c(0x12, 0, 80, dataAt)) })
		o := orbOf(f)
		o.SetKey(0xA)
		before := o
		s := g.start(&o)
		require.Equal(t, before, o, "the ORB is the caller's")
		require.EqualValues(t, 0xA, s.Key(), "the storage key is kept")
		for flag, want := range map[cio.SCSWFlags]bool{
			cio.SCSWFormat1: o.Format1(), cio.SCSWPrefetch: o.Prefetch(), cio.SCSWAddressLimit: o.AddressLimit(),
			cio.SCSWSuspend: o.Suspend(), cio.SCSWSuppressSuspend: o.SuppressSuspend(), cio.SCSWInitialStatus: o.InitialStatus(),
		} {
			require.Equal(t, want, s.Flags()&flag != 0, "%v of %v", flag, f)
		}
	}
}

// PCI: intermediate status when the CCW takes control, with its address.
func TestPCI(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p, f0} {
		var seen []cio.SCSW
		var g *rig
		g = newRig(t, func(s *setup) {
			s.ccw.Interrupt = func() {
				var irb cio.IRB
				if g.d.Test(&irb) == 0 {
					seen = append(seen, irb.SCSW)
				}
			}
			s.mem.ccws(codeAt, f, c(0x12, cc, 80, dataAt), c(0x12, pci|cd, 40, dataAt), c(0x12, pci, 40, dataAt))
		})
		o := orbOf(f)
		_, err := g.d.Start(&o)
		require.NoError(t, err)
		require.Len(t, seen, 3)
		require.EqualValues(t, codeAt+16, seen[0].CCWAddr())
		require.EqualValues(t, codeAt+24, seen[1].CCWAddr())
		require.Equal(t, cio.PCI, seen[1].Subchannel()&cio.PCI)
		require.Equal(t, status{codeAt + 24, ok, 0, 0}, statusOf(seen[2]))
	}
}
