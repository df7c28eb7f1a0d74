package channel_test

import (
	"testing"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/stretchr/testify/require"
)

// row is one sentence of the specification: a program, what the device has,
// and how the program ends.
type row struct {
	name string // section of ccw.md, and the sentence
	orb  cio.ORBFlags
	prog []cio.CCW
	put  map[uint64][]byte // storage beside the program
	n    int               // bytes the device has, or wants, for each command
	dev  *fake             // instead of n
	set  func(g *rig, pmcw *cio.PMCW)

	end   cio.DeviceStatus
	check cio.SubchannelStatus
	at    uint32 // the CCW address, relative to the program; 0 = 8 per CCW
	count uint16 // residual
	got   map[uint64][]byte
	cmds  []cio.Command // which reached the device; nil = not looked at
}

const (
	cd, cc, sli, skip    = cio.ChainData, cio.ChainCommand, cio.SuppressLength, cio.Skip
	pci, ida, susp, mida = cio.ProgramControlled, cio.Indirect, cio.Suspend, cio.Modified

	f1, f0 = cio.ORBFormat1, cio.ORBFlags(0)
	h, t2k = cio.ORBIDAW2, cio.ORBBlock2K

	rd, wr, ctl, back = cio.Command(0x02), cio.Command(0x01), cio.Command(0x4B), cio.Command(0x0C)

	prog = cio.ProgramCheck
	prot = cio.ProtectionCheck
	il   = cio.IncorrectLength
)

// untouched is what a row expects where nothing was stored.
func untouched(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = poison
	}
	return b
}

func (r *row) run(t *testing.T) {
	dev := r.dev
	if dev == nil {
		dev = unit(r.n)
	}
	g := newRig(dev)
	pmcw := testPMCW()
	if r.set != nil {
		r.set(g, &pmcw)
	}
	g.build(pmcw)
	o := format1()
	o.SetFlags(r.orb)
	g.put(progAt, o.Format1(), r.prog...)
	for a, b := range r.put {
		g.mem.load(a, b)
	}
	require.Equal(t, cio.CC0, g.sub.Start(o))
	irb := g.last(t)
	w := &irb.SCSW
	at := r.at
	if at == 0 {
		at = uint32(8 * len(r.prog))
	}
	want := cio.StartFunction | cio.PrimaryStatus | cio.SecondaryStatus | cio.StatusPending
	if r.end != cio.Ended || r.check != 0 {
		want |= cio.AlertStatus
	}
	require.Equal(t, r.end, w.Device(), "device status %v, all: %v", w.Device(), w)
	require.Equal(t, r.check, w.Subchannel(), "subchannel status %v, all: %v", w.Subchannel(), w)
	require.Equal(t, progAt+at, w.CCWAddr(), "CCW address %#x, all: %v", w.CCWAddr(), w)
	require.Equal(t, r.count, w.Count(), "count")
	require.Equal(t, want, w.Control(), "%v", w.Control())
	require.Equal(t, uint8(0x80), irb.ESW.LPUM())
	for a, b := range r.got {
		require.Equal(t, b, g.mem.bytes(a, len(b)), "storage at %#x", a)
	}
	if r.cmds != nil {
		require.Equal(t, r.cmds, dev.cmds)
	}
}

func runRows(t *testing.T, rows []row) {
	for i := range rows {
		t.Run(rows[i].name, rows[i].run)
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, v := range b {
		out[len(b)-1-i] = v
	}
	return out
}

func TestCCWRules(t *testing.T) {
	runRows(t, []row{
		{name: "1: a format-1 read", orb: f1, prog: []cio.CCW{ccw(rd, 0, 80, dataAt)}, n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt: pattern[:80], dataAt + 80: untouched(8)}},
		{name: "1: a format-0 read", orb: f0, prog: []cio.CCW{ccw(rd, 0, 80, dataAt)}, n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt: pattern[:80]}},
		{name: "1: byte 5 of format 0 is ignored", orb: f0,
			prog: []cio.CCW{{Command: rd, Count: 8, Addr: dataAt, Ignored: 0xFF}}, n: 8, end: cio.Ended},
		{name: "1: the top bit of a format-1 address must be 0", orb: f1, prog: []cio.CCW{ccw(rd, 0, 80, dataAt|1<<31)}, check: prog},
		{name: "1: also when the address is not used", orb: f1, prog: []cio.CCW{ccw(ctl, 0, 0, 1<<31)}, check: prog},
		{name: "1: format-0 data reach below 16 MiB", orb: f0, prog: []cio.CCW{ccw(rd, 0, 16, 0xFFFFF0)}, n: 16, end: cio.Ended},
		{name: "1: and not across it", orb: f0, prog: []cio.CCW{ccw(rd, 0, 17, 0xFFFFF0)}, n: 17, check: prog,
			got: map[uint64][]byte{0xFFFFF0: untouched(17)}},
		{name: "1: where format 1 goes on", orb: f1, prog: []cio.CCW{ccw(rd, 0, 17, 0xFFFFF0)}, n: 17, end: cio.Ended},
		{name: "1: a format-0 zero count is a program check", orb: f0, prog: []cio.CCW{ccw(rd, sli, 0, dataAt)}, n: 80, check: prog, cmds: []cio.Command(nil)},
		{name: "1: also for control", orb: f0, prog: []cio.CCW{ccw(cio.NOP, sli, 0, 0)}, check: prog},
		{name: "1: a format-1 zero count is allowed", orb: f1, prog: []cio.CCW{ccw(ctl, 0, 0, 0)}, end: cio.Ended},
		{name: "1: unless CD is set", orb: f1, prog: []cio.CCW{ccw(rd, cd, 0, dataAt), ccw(rd, 0, 8, dataAt)}, at: 8, check: prog},
		{name: "1: or the CCW was reached by data chaining", orb: f1,
			prog: []cio.CCW{ccw(rd, cd, 8, dataAt), ccw(rd, sli, 0, dataAt)}, n: 80, check: prog,
			got: map[uint64][]byte{dataAt: pattern[:8]}},
		{name: "1: CD overrides CC", orb: f1, prog: []cio.CCW{ccw(rd, cd|cc, 8, dataAt), ccw(wr, 0, 8, dataAt+8)}, n: 16, end: cio.Ended,
			got: map[uint64][]byte{dataAt: pattern[:16]}, cmds: []cio.Command{rd}},
		{name: "1: with CD the SLI bit is ignored", orb: f1, prog: []cio.CCW{ccw(rd, cd|sli, 100, dataAt), ccw(rd, 0, 8, dataAt)}, n: 80,
			end: cio.Ended, check: il, at: 8, count: 20},
		{name: "1: SKIP stores nothing and checks no address", orb: f1, prog: []cio.CCW{ccw(rd, skip, 80, 0x7FFF_FFFF)}, n: 80, end: cio.Ended},
		{name: "1: SKIP in a data chain", orb: f1,
			prog: []cio.CCW{ccw(rd, cd, 10, dataAt), ccw(rd, cd|skip, 20, 0x7FFF_FFF0), ccw(rd, 0, 50, dataAt+10)}, n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt: pattern[:10], dataAt + 10: pattern[30:80]}},
		{name: "1: SKIP means nothing for write", orb: f1, prog: []cio.CCW{ccw(wr, skip, 8, 0x7FFF_FFF0)}, n: 8, check: prog},
		{name: "1: SKIP looks at no list either", orb: f1, prog: []cio.CCW{ccw(rd, skip|ida, 8, 0x7FFF_FFF1)}, n: 8, end: cio.Ended},
		{name: "1: S needs the S control in the ORB", orb: f1, prog: []cio.CCW{ccw(rd, susp, 8, dataAt)}, check: prog, cmds: []cio.Command(nil)},
		{name: "1: S is illegal together with CD", orb: f1 | cio.ORBSuspend, prog: []cio.CCW{ccw(rd, susp|cd, 8, dataAt), ccw(rd, 0, 8, dataAt)}, at: 8, check: prog},
		{name: "1: and on a CCW reached by data chaining", orb: f1 | cio.ORBSuspend,
			prog: []cio.CCW{ccw(rd, cd, 8, dataAt), ccw(rd, susp, 8, dataAt)}, n: 16, check: prog},
		{name: "1: MIDA needs the D control", orb: f1, prog: []cio.CCW{ccw(rd, mida, 8, listAt)}, check: prog},
		{name: "1: MIDA excludes IDA", orb: f1 | cio.ORBMIDAW, prog: []cio.CCW{ccw(rd, mida|ida, 8, listAt)}, check: prog},
		{name: "1: MIDA excludes SKIP", orb: f1 | cio.ORBMIDAW, prog: []cio.CCW{ccw(rd, mida|skip, 8, listAt)}, check: prog},
		{name: "1: an immediate operation uses no data address", orb: f1, prog: []cio.CCW{ccw(ctl, sli|ida, 8, 0x7FFF_FFF1)}, end: cio.Ended, count: 8},
		{name: "1: and treats CD as off", orb: f1, prog: []cio.CCW{ccw(ctl, cd|sli, 8, 0), ccw(rd, 0, 8, dataAt)}, end: cio.Ended, at: 8, count: 8},
		{name: "1: so that CC under it counts", orb: f1, prog: []cio.CCW{ccw(ctl, cd|cc|sli, 8, 0), ccw(rd, 0, 8, dataAt)}, n: 8, end: cio.Ended},
		{name: "1: command 00 is invalid", orb: f1, prog: []cio.CCW{ccw(0x00, 0, 8, dataAt)}, check: prog},
		{name: "1: command 10 is invalid", orb: f0, prog: []cio.CCW{ccw(0x10, 0, 8, dataAt)}, check: prog},
		{name: "1: format-1 x8 with x not 0 is invalid", orb: f1, prog: []cio.CCW{ccw(ctl, cc, 0, 0), ccw(0x18, 0, 0, progAt)}, check: prog},
		{name: "1: under data chaining the command code is ignored", orb: f1,
			prog: []cio.CCW{ccw(rd, cd, 8, dataAt), ccw(0x00, cd, 8, dataAt+8), ccw(0x18, 0, 8, dataAt+16)}, n: 24, end: cio.Ended,
			got: map[uint64][]byte{dataAt: pattern[:24]}},
		{name: "1: unless it is TIC", orb: f1,
			prog: []cio.CCW{ccw(rd, cd, 8, dataAt), ccw(cio.TIC, 0, 0, progAt+24), ccw(0, 0, 0, 0), ccw(rd, 0, 8, dataAt+8)}, n: 16, end: cio.Ended,
			got: map[uint64][]byte{dataAt: pattern[:16]}},
	})
}

func TestTransferInChannelRules(t *testing.T) {
	tic := func(a uint32) cio.CCW { return ccw(cio.TIC, 0, 0, a) }
	nop := ccw(ctl, cc, 0, 0)
	runRows(t, []row{
		{name: "2: the next CCW comes from the address", orb: f1, prog: []cio.CCW{nop, tic(progAt + 24), {}, ccw(rd, 0, 8, dataAt)}, n: 8, end: cio.Ended},
		{name: "2: format 0, any high digit, bytes 4-7 ignored", orb: f0,
			prog: []cio.CCW{ccw(ctl, cc|sli, 1, 0), {Command: 0x58, Flags: 0xFF, Ignored: 0xFF, Count: 0xFFFF, Addr: progAt + 24}, {}, ccw(rd, 0, 8, dataAt)},
			n:    8, end: cio.Ended},
		{name: "2: must be doubleword aligned; the check is the TIC's", orb: f1, prog: []cio.CCW{nop, tic(progAt + 0x104)}, check: prog},
		{name: "2: an invalid target too", orb: f1, prog: []cio.CCW{nop, tic(0x7FFF_FFF8)}, check: prog},
		{name: "2: format 1, flags must be zero", orb: f1, prog: []cio.CCW{nop, ccw(cio.TIC, sli, 0, progAt+16), ccw(rd, 0, 8, dataAt)}, at: 16, check: prog},
		{name: "2: format 1, the count must be zero", orb: f1, prog: []cio.CCW{nop, ccw(cio.TIC, 0, 1, progAt+16), ccw(rd, 0, 8, dataAt)}, at: 16, check: prog},
		{name: "2: format 1, the top bit must be zero", orb: f1, prog: []cio.CCW{nop, tic(1<<31 | (progAt + 16)), ccw(rd, 0, 8, dataAt)}, at: 16, check: prog},
		{name: "2: the first CCW may not be TIC", orb: f1, prog: []cio.CCW{tic(progAt + 8), ccw(rd, 0, 8, dataAt)}, at: 8, check: prog, cmds: []cio.Command(nil)},
		{name: "2: a TIC may not target a TIC", orb: f1, prog: []cio.CCW{nop, tic(progAt + 16), tic(progAt + 24), ccw(rd, 0, 8, dataAt)}, at: 24, check: prog},
		{name: "2: nor itself", orb: f1, prog: []cio.CCW{nop, tic(progAt + 8)}, check: prog},
		{name: "2: it is transparent to data chaining", orb: f1,
			prog: []cio.CCW{ccw(rd, cd, 8, dataAt), tic(progAt + 16), ccw(0, 0, 8, dataAt+8)}, n: 16, end: cio.Ended},
		{name: "2: after data chaining, TIC to TIC", orb: f1,
			prog: []cio.CCW{ccw(rd, cd, 8, dataAt), tic(progAt + 16), tic(progAt)}, n: 16, check: prog},
		{name: "2: a status modifier skips one CCW", orb: f1, prog: []cio.CCW{ccw(0x5F, cc, 0, 0), ccw(0, 0, 0, 0), ccw(rd, 0, 8, dataAt)}, n: 8, end: cio.Ended},
		{name: "2: without chaining it is just status", orb: f1, prog: []cio.CCW{ccw(0x5F, 0, 0, 0)}, end: cio.Ended | cio.StatusModifier},
		{name: "2: more than 255 backward transfers without data", orb: f1, prog: []cio.CCW{nop, tic(progAt)}, check: prog},
		{name: "2: SEARCH, TIC *-8, READ", orb: f1, dev: searcher(300),
			prog: []cio.CCW{ccw(0x31, cc, 5, dataAt), tic(progAt), ccw(rd, 0, 8, dataAt)}, end: cio.Ended},
	})
}

// searcher is unequal n times, and takes its argument each time.
func searcher(n int) *fake {
	d := &fake{}
	d.exec = func(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
		if cmd == rd {
			x.Store(pattern[:8])
			return cio.Ended
		}
		var id [5]byte
		x.Fetch(id[:])
		if n--; n < 0 {
			return cio.Ended | cio.StatusModifier
		}
		return cio.Ended
	}
	return d
}

func TestIndirectRules(t *testing.T) {
	list := func(b []byte) map[uint64][]byte { return map[uint64][]byte{listAt: b} }
	rdi := func(n uint16) []cio.CCW { return []cio.CCW{ccw(rd, ida, n, listAt)} }
	runRows(t, []row{
		{name: "3: format 1, within a block", orb: f1, prog: rdi(80), put: list(words4(dataAt+100, 0xFFFFFFFF)), n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt + 100: pattern[:80]}},
		{name: "3: format 1, always 2 KiB blocks", orb: f1, prog: rdi(80), put: list(words4(dataAt+0x7E2, dataAt+0x1000)), n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt + 0x7E2: pattern[:30], dataAt + 0x800: untouched(8), dataAt + 0x1000: pattern[30:80]}},
		{name: "3: format 1, bit 0 must be 0", orb: f1, prog: rdi(80), put: list(words4(1<<31 | dataAt)), n: 80, end: cio.Ended, check: prog},
		{name: "3: every further one must be on a block boundary", orb: f1, prog: rdi(80), put: list(words4(dataAt+0x7E2, dataAt+0x1004)), n: 80,
			end: cio.Ended, check: prog, got: map[uint64][]byte{dataAt + 0x7E2: pattern[:30], dataAt + 0x1004: untouched(4)}},
		{name: "3: unused entries are never fetched", orb: f1, prog: rdi(5000), put: list(words4(dataAt, 0xFFFFFFFF, 0xFFFFFFFF)), n: 2048,
			end: cio.Ended, check: il, count: 5000 - 2048},
		{name: "3: a list is aligned to its words", orb: f1, prog: []cio.CCW{ccw(rd, ida, 80, listAt+2)}, n: 80, check: prog},
		{name: "3: a list outside storage", orb: f1, prog: []cio.CCW{ccw(rd, ida, 80, 0x7FFF_F000)}, n: 80, check: prog},
		{name: "3: a format-0 list is below 16 MiB", orb: f0, prog: []cio.CCW{ccw(rd, ida, 2049, 0xFFFFFC)}, n: 2049,
			put: map[uint64][]byte{0xFFFFFC: words4(dataAt, dataAt+0x800)}, end: cio.Ended, check: prog,
			got: map[uint64][]byte{dataAt: pattern[:2048], dataAt + 0x800: untouched(1)}},
		{name: "3: a format-1 list goes on there", orb: f1, prog: []cio.CCW{ccw(rd, ida, 2049, 0xFFFFFC)}, n: 2049,
			put: map[uint64][]byte{0xFFFFFC: words4(dataAt, dataAt+0x800)}, end: cio.Ended},
		{name: "3: data outside storage", orb: f1, prog: rdi(80), put: list(words4(0x7F000000)), n: 80, end: cio.Ended, check: prog},
		{name: "3: format 2, 4 KiB blocks", orb: f1 | h, prog: rdi(80), put: list(words8(dataAt+0xFE2, dataAt+0x2000)), n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt + 0xFE2: pattern[:30], dataAt + 0x2000: pattern[30:80]}},
		{name: "3: format 2, not on a 4 KiB boundary", orb: f1 | h, prog: rdi(80), put: list(words8(dataAt+0xFE2, dataAt+0x1800)), n: 80, end: cio.Ended, check: prog},
		{name: "3: format 2, 2 KiB blocks with T", orb: f1 | h | t2k, prog: rdi(80), put: list(words8(dataAt+0x7E2, dataAt+0x1800)), n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt + 0x7E2: pattern[:30], dataAt + 0x1800: pattern[30:80]}},
		{name: "3: T means nothing without H", orb: f1 | t2k, prog: rdi(80), put: list(words4(dataAt)), n: 80, end: cio.Ended},
		{name: "3: format 2, 64-bit addresses", orb: f1 | h, prog: rdi(80), put: list(words8(1 << 40)), n: 80, end: cio.Ended, check: prog},
		{name: "3: format 2, the last block of the address space", orb: f1 | h, prog: rdi(80), put: list(words8(^uint64(0)-9, 0)), n: 80, end: cio.Ended, check: prog},
		{name: "3: format 2, a list on a word boundary", orb: f1 | h, prog: []cio.CCW{ccw(rd, ida, 80, listAt+4)}, n: 80, end: cio.Ended, check: prog},
		{name: "3: format 0 with format-2 IDAWs", orb: f0 | h, prog: rdi(80), put: list(words8(dataAt)), n: 80, end: cio.Ended},
		{name: "3: write through a list", orb: f1 | h, prog: []cio.CCW{ccw(wr, ida, 5000, listAt)}, put: list(words8(dataAt+1, dataAt+0x3000)), n: 5000, end: cio.Ended},
		{name: "3: direct read backward", orb: f1, prog: []cio.CCW{ccw(back, 0, 80, dataAt+79)}, n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt: reversed(pattern[:80]), dataAt - 8: untouched(8)}},
		{name: "3: read backward across a page", orb: f1, prog: []cio.CCW{ccw(back, 0, 80, dataAt+19)}, n: 80, end: cio.Ended,
			got: map[uint64][]byte{dataAt - 60: reversed(pattern[:80])}},
		{name: "3: read backward below address 0", orb: f1, prog: []cio.CCW{ccw(back, 0, 80, 78)}, n: 80, check: prog},
		{name: "3: read backward down to address 0", orb: f1, prog: []cio.CCW{ccw(back, 0, 80, 79)}, n: 80, end: cio.Ended},
		{name: "3: backward, down to the start of the block, then from the last byte of one", orb: f1, prog: []cio.CCW{ccw(back, ida, 100, listAt)},
			put: list(words4(dataAt+39, dataAt+0xFFF)), n: 100, end: cio.Ended,
			got: map[uint64][]byte{dataAt: reversed(pattern[:40]), dataAt + 0x1000 - 60: reversed(pattern[40:100])}},
		{name: "3: backward, not from the last byte of a block", orb: f1, prog: []cio.CCW{ccw(back, ida, 100, listAt)},
			put: list(words4(dataAt+39, dataAt+0xFFE)), n: 100, end: cio.Ended, check: prog},
	})
}

func TestMIDAWRules(t *testing.T) {
	const d = cio.ORBMIDAW
	const last, mskip = cio.MIDAWLast, cio.MIDAWSkip
	list := func(ws ...cio.MIDAW) map[uint64][]byte { return map[uint64][]byte{listAt: midaws(ws...)} }
	m := func(f cio.MIDAWFlags, n uint16, a uint64) cio.MIDAW { return cio.MIDAW{Flags: f, Count: n, Addr: a} }
	rdm := []cio.CCW{ccw(rd, mida, 80, listAt)}
	runRows(t, []row{
		{name: "3: any byte alignment, any pieces", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended,
			put: list(m(0, 10, dataAt+3), m(0, 30, dataAt+100), m(last, 40, dataAt+0x1000)),
			got: map[uint64][]byte{dataAt + 3: pattern[:10], dataAt + 100: pattern[10:40], dataAt + 0x1000: pattern[40:80]}},
		{name: "3: a skipped piece", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended,
			put: list(m(0, 10, dataAt), m(mskip, 30, ^uint64(0)), m(last, 40, dataAt+0x1000)),
			got: map[uint64][]byte{dataAt: pattern[:10], dataAt + 0x1000: pattern[40:80]}},
		{name: "3: skip may cross 4 KiB", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, put: list(m(last|mskip, 80, dataAt+0xFF6))},
		{name: "3: data may not", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(last, 80, dataAt+0xFF6)),
			got: map[uint64][]byte{dataAt + 0xFF6: untouched(80)}},
		{name: "3: the count is not zero", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(0, 0, dataAt), m(last, 80, dataAt))},
		{name: "3: the counts sum up: too few", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(0, 10, dataAt), m(last, 20, dataAt+10)),
			got: map[uint64][]byte{dataAt: pattern[:30], dataAt + 30: untouched(8)}},
		{name: "3: too many", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(0, 50, dataAt), m(last, 50, dataAt+50)),
			got: map[uint64][]byte{dataAt: pattern[:50], dataAt + 50: untouched(8)}},
		{name: "3: last must be on the final one", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(0, 80, dataAt)),
			got: map[uint64][]byte{dataAt: pattern[:80]}},
		{name: "3: what the device does not reach is not checked", orb: f1 | d, prog: rdm, n: 10, end: cio.Ended, check: il, count: 70,
			put: list(m(0, 20, dataAt), m(last, 1, dataAt))},
		{name: "3: reserved flags", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(last|1, 80, dataAt))},
		{name: "3: reserved bytes", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(cio.MIDAW{Zero: [5]uint8{1}, Flags: last, Count: 80, Addr: dataAt})},
		{name: "3: data-transfer interruption is not installed", orb: f1 | d, prog: rdm, n: 80, end: cio.Ended, check: prog, put: list(m(last|cio.MIDAWInterrupt, 80, dataAt))},
		{name: "3: a list is aligned to 16", orb: f1 | d, prog: []cio.CCW{ccw(rd, mida, 80, listAt+8)}, n: 80, check: prog},
		{name: "3: a list may end at a 4 KiB boundary", orb: f1 | d, prog: []cio.CCW{ccw(rd, mida, 80, listAt+0xFF0)}, n: 80, end: cio.Ended,
			put: map[uint64][]byte{listAt + 0xFF0: midaws(m(last, 80, dataAt))}},
		{name: "3: and not cross it", orb: f1 | d, prog: []cio.CCW{ccw(rd, mida, 80, listAt+0xFF0)}, n: 80, end: cio.Ended, check: prog,
			put: map[uint64][]byte{listAt + 0xFF0: midaws(m(0, 40, dataAt), m(last, 40, dataAt))}},
		{name: "3: for output skip means nothing", orb: f1 | d, prog: []cio.CCW{ccw(wr, mida, 80, listAt)}, n: 80, end: cio.Ended, check: prog,
			put: list(m(last|mskip, 80, dataAt+0xFF6))},
		{name: "3: backward", orb: f1 | d, prog: []cio.CCW{ccw(back, mida, 80, listAt)}, n: 80, end: cio.Ended, put: list(m(0, 10, dataAt+9), m(last, 70, dataAt+0x169)),
			got: map[uint64][]byte{dataAt: reversed(pattern[:10]), dataAt + 0x169 - 69: reversed(pattern[10:80])}},
		{name: "3: backward, within a page", orb: f1 | d, prog: []cio.CCW{ccw(back, mida, 80, listAt)}, n: 80, end: cio.Ended, check: prog, put: list(m(last, 80, dataAt+78))},
	})
}

func TestLengthRules(t *testing.T) {
	sense := unit(0)
	sense.sense = []byte{0x80, 1, 2, 3}
	sense.exec = func(cio.Command, *channel.Transfer) cio.DeviceStatus { return cio.Ended | cio.UnitCheck }
	accepting := unit(0)
	accepting.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus { x.Accept(); return cio.Ended }
	counting := unit(0)
	counting.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus { x.Skip(1); return cio.Ended }
	taking := unit(0)
	taking.exec = func(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
		x.FetchUpTo(make([]byte, 100))
		return cio.Ended
	}
	runRows(t, []row{
		{name: "6: the device ends before the count", orb: f1, prog: []cio.CCW{ccw(rd, 0, 100, dataAt)}, n: 80, end: cio.Ended, check: il, count: 20},
		{name: "6: suppressed by SLI", orb: f1, prog: []cio.CCW{ccw(rd, sli, 100, dataAt)}, n: 80, end: cio.Ended, count: 20},
		{name: "6: the device still has data", orb: f1, prog: []cio.CCW{ccw(rd, 0, 40, dataAt)}, n: 80, end: cio.Ended, check: il},
		{name: "6: or wants some", orb: f1, prog: []cio.CCW{ccw(wr, 0, 40, dataAt)}, n: 80, end: cio.Ended, check: il},
		{name: "6: suppressed by SLI too", orb: f1, prog: []cio.CCW{ccw(wr, sli, 40, dataAt)}, n: 80, end: cio.Ended},
		{name: "6: a device that takes what it gets", orb: f1, prog: []cio.CCW{ccw(wr, 0, 40, dataAt)}, dev: taking, end: cio.Ended},
		{name: "6: also across a data chain", orb: f1, prog: []cio.CCW{ccw(wr, cd, 40, dataAt), ccw(0, 0, 20, dataAt)}, dev: taking, end: cio.Ended},
		{name: "6: with CD, ending with residual", orb: f1, prog: []cio.CCW{ccw(rd, cd|sli, 100, dataAt), ccw(rd, 0, 1, dataAt)}, at: 8, n: 80, end: cio.Ended, check: il, count: 20},
		{name: "6: with CD, ending on a non-last CCW", orb: f1, prog: []cio.CCW{ccw(rd, cd|sli, 80, dataAt), ccw(rd, 0, 1, dataAt)}, at: 8, n: 80, end: cio.Ended, check: il},
		{name: "6: the last of a data chain decides by SLI", orb: f1, prog: []cio.CCW{ccw(rd, cd, 30, dataAt), ccw(0, sli, 30, dataAt+30)}, n: 80, end: cio.Ended},
		{name: "6: IL without SLI ends command chaining", orb: f1, prog: []cio.CCW{ccw(rd, cc, 100, dataAt), ccw(rd, 0, 80, dataAt)}, at: 8, n: 80, end: cio.Ended, check: il, count: 20},
		{name: "6: with SLI it goes on", orb: f1, prog: []cio.CCW{ccw(rd, cc|sli, 100, dataAt), ccw(rd, 0, 80, dataAt)}, n: 80, end: cio.Ended},
		{name: "6: immediate, format 1", orb: f1, prog: []cio.CCW{ccw(ctl, 0, 1, 0)}, end: cio.Ended, check: il, count: 1},
		{name: "6: immediate, with CC", orb: f1, prog: []cio.CCW{ccw(ctl, cc, 1, 0), ccw(rd, 0, 8, dataAt)}, at: 8, end: cio.Ended, check: il, count: 1},
		{name: "6: immediate, SLI", orb: f1, prog: []cio.CCW{ccw(ctl, sli, 1, 0)}, end: cio.Ended, count: 1},
		{name: "6: immediate, ORB L=1", orb: f1 | cio.ORBSuppressIL, prog: []cio.CCW{ccw(ctl, 0, 1, 0)}, end: cio.Ended, count: 1},
		{name: "6: immediate, format 0 never", orb: f0, prog: []cio.CCW{ccw(ctl, 0, 1, 0)}, end: cio.Ended, count: 1},
		{name: "6: immediate, zero count never", orb: f1, prog: []cio.CCW{ccw(ctl, 0, 0, 0)}, end: cio.Ended},
		{name: "6: L is for immediate operations alone", orb: f1 | cio.ORBSuppressIL, prog: []cio.CCW{ccw(rd, 0, 100, dataAt)}, n: 80, end: cio.Ended, check: il, count: 20},
		{name: "6: not immediate though nothing moves", orb: f0, prog: []cio.CCW{ccw(wr, 0, 8, 0x10)}, dev: accepting, end: cio.Ended, check: il, count: 8},
		{name: "6: the device counts and looks at nothing", orb: f1, prog: []cio.CCW{ccw(ctl, 0, 1, 0x7FFF_FFFF)}, dev: counting, end: cio.Ended},
		{name: "5: unit check ends chaining, concurrent sense", orb: f1, prog: []cio.CCW{ccw(ctl, cc, 0, 0), ccw(rd, 0, 8, dataAt)}, at: 8, dev: sense, end: cio.Ended | cio.UnitCheck},
		{name: "6: checks take precedence over length", orb: f1, prog: []cio.CCW{ccw(rd, 0, 100, storeAt-50)}, n: 80, check: prog},
	})
}

func TestStorageRules(t *testing.T) {
	refuse := func(a uint64, err error) func(*rig, *cio.PMCW) {
		return func(g *rig, _ *cio.PMCW) { g.mem.refuse[a] = err }
	}
	limit := func(mode uint8) func(*rig, *cio.PMCW) {
		return func(g *rig, p *cio.PMCW) {
			p.SetLimitMode(mode)
			g.cfg.AddressLimit = dataAt
		}
	}
	rd80 := []cio.CCW{ccw(rd, 0, 80, dataAt)}
	const lim = f1 | cio.ORBAddressLimit
	runRows(t, []row{
		{name: "6: a program address outside storage", orb: f1, set: func(g *rig, _ *cio.PMCW) { g.mem.size = progAt }, prog: nil, check: prog, at: 8},
		{name: "6: data outside storage", orb: f1, prog: []cio.CCW{ccw(rd, 0, 80, storeAt)}, n: 80, check: prog},
		{name: "6: the whole range must be there", orb: f1, prog: []cio.CCW{ccw(rd, 0, 80, storeAt-40)}, n: 80, check: prog,
			got: map[uint64][]byte{storeAt - 40: untouched(40)}},
		{name: "6: even if less moves", orb: f1, prog: []cio.CCW{ccw(rd, sli, 80, storeAt-40)}, n: 10, check: prog,
			got: map[uint64][]byte{storeAt - 40: untouched(40)}},
		{name: "6: but not if nothing moves", orb: f1, prog: []cio.CCW{ccw(ctl, sli, 80, storeAt-40)}, end: cio.Ended, count: 80},
		{name: "6: of an IDAW piecewise", orb: f1, prog: []cio.CCW{ccw(rd, ida|sli, 5000, listAt)}, put: map[uint64][]byte{listAt: words4(storeAt-2048, storeAt)}, n: 2048,
			end: cio.Ended, count: 5000 - 2048},
		{name: "6: in a data chain the device has begun", orb: f1, prog: []cio.CCW{ccw(wr, cd, 20, dataAt), ccw(0, 0, 30, storeAt)}, n: 50, end: cio.Ended, check: prog},
		{name: "6: store refused: protection check", orb: f1, prog: rd80, n: 80, set: refuse(dataAt, errs.ErrPermission), end: cio.Ended, check: prot, count: 80},
		{name: "6: residual is what was not stored", orb: f1, prog: []cio.CCW{ccw(rd, 0, 80, dataAt+0xFD8)}, n: 80, set: refuse(dataAt+0x1000, errs.ErrPermission),
			end: cio.Ended, check: prot, count: 40, got: map[uint64][]byte{dataAt + 0xFD8: pattern[:40]}},
		{name: "6: fetch refused", orb: f1, prog: []cio.CCW{ccw(wr, 0, 80, dataAt)}, n: 80, set: refuse(dataAt, errs.ErrPermission), end: cio.Ended, check: prot, count: 80},
		{name: "6: not mapped: program check", orb: f1, prog: rd80, n: 80, set: refuse(dataAt, errs.ErrNotMapped), check: prog},
		{name: "6: memory gone: channel-data check", orb: f1, prog: rd80, n: 80, set: refuse(dataAt, errs.ErrFault), end: cio.Ended, check: cio.DataCheck, count: 80},
		{name: "6: of a CCW", orb: f1, prog: []cio.CCW{ccw(ctl, cc, 0, 0)}, at: 8, set: refuse(progAt, errs.ErrPermission), check: prot},
		{name: "6: of a list", orb: f1, prog: []cio.CCW{ccw(rd, ida, 8, listAt)}, n: 8, set: refuse(listAt, errs.ErrPermission), check: prot, count: 8},
		{name: "6: limit mode 1, at the limit", orb: lim, prog: rd80, n: 80, set: limit(1), end: cio.Ended},
		{name: "6: limit mode 1, below it", orb: lim, prog: []cio.CCW{ccw(rd, 0, 80, dataAt-80)}, n: 80, set: limit(1), check: prog},
		{name: "6: limit mode 2, below it", orb: lim, prog: []cio.CCW{ccw(rd, 0, 80, dataAt-80)}, n: 80, set: limit(2), end: cio.Ended},
		{name: "6: limit mode 2, at the limit", orb: lim, prog: rd80, n: 80, set: limit(2), check: prog},
		{name: "6: limit mode 2, by an IDAW", orb: lim, prog: []cio.CCW{ccw(rd, ida, 80, listAt)}, put: map[uint64][]byte{listAt: words4(dataAt)}, n: 80, set: limit(2),
			end: cio.Ended, check: prog},
		{name: "6: limit mode 1, backward below it", orb: lim, prog: []cio.CCW{ccw(back, 0, 80, dataAt+78)}, n: 80, set: limit(1), check: prog},
		{name: "6: limit mode 0", orb: lim, prog: []cio.CCW{ccw(rd, 0, 80, dataAt-80)}, n: 80, set: limit(0), end: cio.Ended},
		{name: "6: no check without A", orb: f1, prog: rd80, n: 80, set: limit(2), end: cio.Ended},
		{name: "6: a bad CCW that is not reached is not reported", orb: f1, prog: []cio.CCW{ccw(rd, cc, 100, dataAt), ccw(0, 0xFF, 0, 1<<31)}, at: 8, n: 80, end: cio.Ended, check: il, count: 20},
	})
}
