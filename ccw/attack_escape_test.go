package ccw_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// Attacks that try to make hardware execute, or read, something of the host
// program that the guest did not write.

// recorder is a device that keeps what it was sent, and ends each command as
// the script says.
type recorder struct {
	sent   []string // "cmd: data" of each command that got data
	cmds   []cio.Command
	status map[cio.Command]cio.DeviceStatus // of an immediate end; others move data
	buf    [1 << 16]byte
}

func (d *recorder) Begin()        {}
func (d *recorder) Reset()        {}
func (d *recorder) Sense() []byte { return nil }
func (d *recorder) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d.cmds = append(d.cmds, cmd)
	if s, ok := d.status[cmd]; ok {
		return s
	}
	if cmd.Class(true).Input() {
		x.Store(make([]byte, x.Remaining()))
	} else if n := x.FetchUpTo(d.buf[:]); n > 0 {
		d.sent = append(d.sent, hex.EncodeToString(d.buf[:n]))
	}
	return cio.Ended
}

// A command with CD and CC that ends at once goes by CC [ccw.md 1: "on an
// immediate operation CD is treated as off"], and its status modifier skips a
// CCW: here past the end of the chain, where the host program has a list. The
// guest writes a MIDAW whose reserved bytes are a CCW, so that hardware that
// got there would execute a CCW of the guest's choice, with a host address.
func TestStatusModifierBehindImmediateCDandCCNeverRunsIntoAList(t *testing.T) {
	forged := cio.MIDAW{Flags: 0x01, Count: 0x0000, Addr: 0x5555} // address 0x010000: the arena
	forged.Zero = [5]uint8{0x01, uint8(sli), 0x00, 0x40, 0x00}    // write, 64 bytes
	make := func(m image) {
		m.ccws(codeAt, f1,
			c(0x93, cd|cc|sli|mida, 64, listAt), // immediate, status modifier
			c(0x01, sli, 8, dataAt),
			c(0x03, sli, 1, 0)) // the guest's own third CCW: NOP
		m.midaws(listAt, forged)
	}
	d := &recorder{status: map[cio.Command]cio.DeviceStatus{
		0x93: cio.Ended | cio.StatusModifier, 0x03: cio.Ended}}
	g := newRig(t, func(s *setup) { make(s.mem); s.dev = d })
	g.run(f1 | mid)
	require.Equal(t, []cio.Command{0x93, 0x03}, d.cmds, "sent %v", d.sent)
	require.Empty(t, d.sent, "what hardware fetched from the host program")

	m := newImage()
	make(m)
	ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(f1 | mid), Storage: m.Storage}, build)
}

// The same for data of every class, so that the exit is there whatever the
// class of the command that turns out to be immediate.
func TestStatusModifierPastTheEndOfEveryShape(t *testing.T) {
	for name, cs := range map[string][]cio.CCW{
		"write CD|CC":         {c(0x91, cd|cc|sli, 8, dataAt), c(0x11, 0, 80, dataAt)},
		"read CD|CC":          {c(0x92, cd|cc|sli, 8, dataAt), c(0x12, 0, 80, dataAt)},
		"control CD|CC":       {c(0x93, cd|cc|sli, 8, dataAt), c(0x13, sli, 80, dataAt)},
		"sense CD|CC":         {c(0x94, cd|cc|sli, 8, dataAt), c(0x12, 0, 80, dataAt)},
		"read backward CD|CC": {c(0x9C, cd|cc|sli, 8, dataAt), c(0x1C, 0, 80, dataAt)},
		"CC":                  {c(0x93, cc|sli, 8, dataAt), c(0x12, 0, 80, dataAt)},
		"CC before a TIC":     {c(0x93, cc|sli, 8, dataAt), tic(codeAt)},
		"CD|CC before a TIC":  {c(0x93, cd|cc|sli, 8, dataAt), tic(codeAt)},
		"SEARCH TIC":          {c(0x31, cc|sli, 5, dataAt), tic(codeAt)},
		"write CD|CC TIC":     {c(0x91, cd|cc|sli, 8, dataAt), tic(codeAt)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range []cio.ORBFlags{f1, f0, f1p, f0p, f1 | cio.ORBSuspend} {
				m := newImage()
				if name == "read backward CD|CC" && f != f1 && f != f0 {
					continue // see TestBackwardOrForwardIsRefused
				}
				m.put(dataAt, 1, 0, 0, 0, 0) // the search succeeds
				m.ccws(codeAt, f, append(cs, c(0x22, sli, 4100, dataAt+0x1000))...)
				ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(f), Storage: m.Storage}, build)
			}
		})
	}
}

// Whether the second CCW is reached by data chaining from a read, or as a
// command of its own because the read ended at once, is seen only when it
// happens. SKIP means something in the first case and nothing in the second:
// there the address is used, and must be the guest's.
func TestSkipThatMayBeAWriteReadsTheGuest(t *testing.T) {
	for name, first := range map[string]cio.Command{"read": 0x42, "sense": 0x44, "write": 0x41, "control": 0x43} {
		for _, f := range []cio.ORBFlags{f1, f1p, f0, f0p} {
			for _, count := range []uint16{64, 4096} {
				t.Run(name, func(t *testing.T) {
					text := strings.Repeat("guest ", 700)
					d := &recorder{status: map[cio.Command]cio.DeviceStatus{first: cio.Ended}}
					g := newRig(t, func(s *setup) {
						s.dev = d
						s.mem.ccws(codeAt, f, c(first, cd|cc|sli, 8, dataAt), c(0x01, skip, count, dataAt+8))
						s.mem.put(dataAt+8, []byte(text)...)
					})
					s := g.run(f)
					require.Equal(t, status{codeAt + 16, ok, 0, 0}, statusOf(s), "%v, %v", s, g.d.Err())
					require.Equal(t, []string{hex.EncodeToString([]byte(text[:count]))}, d.sent)
				})
			}
		}
	}
}

// The same, one CCW further: the second CCW has CD as well, so that the third
// is reached by data chaining of one direction or the other.
func TestDirectionStaysOpenAlongADataChain(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		for _, first := range []cio.Command{0x42, 0x02} { // ends at once, or reads on
			for _, third := range []cio.Flags{0, skip} {
				m := newImage()
				m.ccws(codeAt, f,
					c(first, cd|cc|sli, 8, dataAt),
					c(0x01, cd, 16, dataAt+0x100),
					c(0x01, third|sli, 64, dataAt+0x200))
				ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(f), Storage: m.Storage}, build)
				d := &recorder{status: map[cio.Command]cio.DeviceStatus{0x42: cio.Ended}}
				newRig(t, func(s *setup) { s.dev = d; s.mem = m }).run(f)
				for _, data := range d.sent {
					require.Equal(t, strings.Repeat("a5", len(data)/2), data, "not the guest's")
				}
			}
		}
	}
}

// A list of MIDAWs where SKIP of a word depends on the same.
func TestMIDAWSkipThatMayBeAWrite(t *testing.T) {
	for _, first := range []cio.Command{0x42, 0x02} {
		m := newImage()
		m.ccws(codeAt, f1, c(first, cd|cc|sli, 8, dataAt), c(0x01, mida, 64, listAt))
		m.midaws(listAt,
			cio.MIDAW{Flags: cio.MIDAWSkip, Count: 32, Addr: dataAt + 0x100},
			cio.MIDAW{Flags: cio.MIDAWLast, Count: 32, Addr: dataAt + 0x200})
		ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(f1 | mid), Storage: m.Storage}, build)
	}
}

// What an unreached CCW gets for an address is memory of the host program.
// Nothing can make hardware use it.
func TestHostProgramIsNeverData(t *testing.T) {
	m := newImage()
	m.ccws(codeAt, f1,
		c(0x03, 0, 1, 0), // ends here
		c(0x01, sli, 4096, 0))
	d := &recorder{status: map[cio.Command]cio.DeviceStatus{0x03: cio.Ended | cio.StatusModifier}}
	newRig(t, func(s *setup) { s.mem, s.dev = m, d }).run(f1)
	require.Empty(t, d.sent)
}

// A CCW behind one with both chaining flags is reached by data chaining from a
// read backward or, if that ended at once, as a command of its own: what it
// pins is what the way that hardware took needs, and no more.
func TestBackwardOrForward(t *testing.T) {
	for _, first := range []cio.Command{0x0C, 0x4C, 0x5C} { // moves data, ends at once, moves none
		for _, f := range []cio.ORBFlags{f0, f1, f0p, f1p} {
			m := newImage()
			m.ccws(codeAt, f, c(first, cd|cc|sli, 8, dataAt), c(0x01, 0, 8, dataAt+0x100))
			ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(f), Storage: m.Storage}, build)
		}
	}
}

// A transfer in channel to eight zero bytes, which format 0 decodes as a CCW:
// the check is that of the CCW, which could be fetched, not of the transfer.
func TestTransferToZeros(t *testing.T) {
	for _, f := range []cio.ORBFlags{f0, f1, f0p, f1p} {
		m := newImage()
		m.ccws(codeAt, f, c(0x03, cc|sli, 1, 0), tic(0x2000))
		m.put(0x2000, make([]byte, 8)...)
		ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(f), Storage: m.Storage}, build)
	}
}
