package replay

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// tapeSense is the sense of a 3490 with device number 0580 as
// build_sense_3480_etal puts it: bytes 0, 1 and 3; the format is 20 but for the
// end of a volume.
func tapeSense(b0, b1, action byte) string {
	s := make([]byte, 32)
	s[0], s[1], s[2], s[3], s[7], s[27], s[29] = b0, b1, 0x20, action, 0x20, 0xEC, 0x58
	if action == 0x2B {
		s[7] = 0x22
	} else {
		s[25] = 0x06
	}
	return fmt.Sprintf("%x", s)
}

// tapeSession is what tape_34xx.c and tape_std.c do with a 3490: nearly each
// program begins with a mode set and ends with a no-operation of count zero.
func tapeSession(t *testing.T) *made {
	m := &made{scenario: "tape", device: recording.Device{
		SchID: 0x00010003, DevNo: 0x0580, HasDevNo: true, SenseID: []byte{0xff, 0x34, 0x90, 0x50, 0x34, 0x90, 0x50},
	}}
	mode := step{cmd: 0xDB, flags: cc, out: []byte{0x08}}
	nop := step{cmd: 0x03}
	sense, err := hex.DecodeString(tapeSense(0, 0x48, 0))
	require.NoError(t, err)
	data := func(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n) }
	then := func(steps ...step) []step { return append([]step{mode}, steps...) }
	for _, d := range []driver{
		{name: "tape_std_assign: B7 of 11 bytes, 03", steps: []step{{cmd: 0xB7, flags: cc, out: make([]byte, 11)}, nop}},
		{name: "tape_34xx_medium_sense: 04 unsolicited, at the beginning", steps: []step{{cmd: 0x04, in: sense}}},
		{name: "TO_WRI: DB, 01 through a list", steps: then(step{cmd: 0x01, out: data(9000, 0x31), pages: true})},
		{name: "TO_WRI: a second block", steps: then(step{cmd: 0x01, out: data(80, 0x32), pages: true})},
		{name: "MTWEOF 2: DB, 1F x2 of count zero, 03", steps: then(step{cmd: 0x1F, flags: cc}, step{cmd: 0x1F, flags: cc}, nop)},
		{name: "TO_BLOCK: DB, 22, 03: four items before", steps: then(step{cmd: 0x22, flags: cc, in: []byte{1, 0, 0, 4, 1, 0, 0, 4}}, nop)},
		{name: "MTREW: DB, 07, 03", steps: then(step{cmd: 0x07, flags: cc}, nop)},
		{name: "TO_RFO: DB, 02: a shorter block is incorrect length", steps: then(step{cmd: 0x02, count: 12288, in: data(9000, 0x31), pages: true, cstat: 0x40, resid: 3288})},
		{name: "TO_RFO: a longer block is incorrect length without residual", steps: then(step{cmd: 0x02, in: data(60, 0x32), cstat: 0x40})},
		{name: "TO_RFO: a tape mark is unit exception, and incorrect length", steps: then(step{cmd: 0x02, count: 80, dstat: 0x0d, cstat: 0x40, resid: 80})},
		{name: "MTFSF: DB, 3F, 03", steps: then(step{cmd: 0x3F, flags: cc}, nop)},
		{name: "TO_RFO: nothing was written here", steps: then(step{cmd: 0x02, count: 80, dstat: 0x0e, cstat: 0x40, resid: 80}), sense: tapeSense(0x08, 0x40, 0x31)},
		{name: "MTFSR: neither is there a block", steps: then(step{cmd: 0x37, flags: cc, dstat: 0x0e}), sense: tapeSense(0x08, 0x40, 0x31)},
		{name: "MTBSR: DB, 27: over a tape mark, the 03 is not reached", steps: then(step{cmd: 0x27, flags: cc, dstat: 0x0d})},
		{name: "MTSEEK: DB, 4F, 03", steps: then(step{cmd: 0x4F, flags: cc, out: []byte{0, 0, 0, 1}}, nop)},
		{name: "TO_RFO: and there it is", steps: then(step{cmd: 0x02, in: data(80, 0x32)})},
		{name: "TO_RBA: 0C reads it back", steps: then(step{cmd: 0x02, count: 100, dstat: 0x0d, cstat: 0x40, resid: 100})},
		{name: "MTBSF: DB, 2F: no mark before", steps: then(step{cmd: 0x2F, flags: cc}, step{cmd: 0x2F, flags: cc, dstat: 0x0e}), sense: tapeSense(0, 0x48, 0x39)},
		{name: "tape_3490 display: 9F of 17 bytes, 03", steps: []step{{cmd: 0x9F, flags: cc, out: append([]byte{0}, data(16, 0xC1)...)}, nop}},
		{name: "a command that no 3490 has", steps: []step{{cmd: 0x06, count: 80, dstat: 0x02}}, sense: tapeSense(0x80, 0x48, 0x27)},
		{name: "MTOFFL: DB, 0F: unit check, as the driver expects; 03 is not reached", steps: then(step{cmd: 0x0F, flags: cc, dstat: 0x0e}), sense: tapeSense(0x40, 0x42, 0x2B)},
		{name: "tape_std_unassign: C7, and the 03 finds no tape", steps: []step{{cmd: 0xC7, flags: cc, out: make([]byte, 11)}, {cmd: 0x03, dstat: 0x02}}, sense: tapeSense(0x40, 0x42, 0x43)},
	} {
		m.add(t, d)
	}
	return m
}

// A session of the tape driver, on a 3490 with a blank tape and on the recorded
// device side. The expectations are SDL-Hyperion's (tapeccws.c, awstape.c,
// channel.c), read and not run.
func TestTapeSession(t *testing.T) {
	rejectsAside(t, replayMade(t, tapeSession(t), Scripted, "", nil, false))
	rejectsAside(t, replayMade(t, tapeSession(t), Auto, ".aws", []byte{}, true))
}

// A session of raw3270.c: erase/write alternate, the operator presses a key
// (which is no program), read modified, structured fields, and a terminal that
// went away.
func TestDisplaySession(t *testing.T) {
	m := &made{scenario: "con3270", device: recording.Device{
		SchID: 0x00010004, DevNo: 0x0009, HasDevNo: true, SenseID: []byte{0xff, 0x32, 0x74, 0x1d, 0x32, 0x78, 0x02},
	}}
	screen := append([]byte{0xC3, 0x11, 0x40, 0x40, 0x1D, 0xF0}, bytes.Repeat([]byte{0xC1}, 1500)...)
	typed := []byte{0x7D, 0x40, 0xC9, 0x11, 0x40, 0x50, 0x93, 0xA2}
	reply := append([]byte{0x88, 0x00, 0x0E, 0x81, 0x80}, bytes.Repeat([]byte{0x81}, 40)...)
	for _, d := range []driver{
		{name: "raw3270_size_device: 0D, 11 query", steps: []step{{cmd: 0x0D, flags: cc | sli, out: screen[:1]}, {cmd: 0x11, flags: sli, out: []byte{0, 5, 1, 0xFF, 2}}}},
		{name: "raw3270_readpart: 06 after the attention", steps: []step{{cmd: 0x06, flags: sli, count: 2048, in: reply, resid: 2048 - uint16(len(reply))}}},
		{name: "con3270_update: 05, then 01", steps: []step{{cmd: 0x05, flags: cc | sli, out: screen}, {cmd: 0x01, flags: sli, out: screen[:6]}}},
		{name: "con3270_read: 06 with the line typed", steps: []step{{cmd: 0x06, flags: sli, count: 256, in: typed, resid: 256 - uint16(len(typed))}}},
		{name: "fs3270_read: 06 through a list", steps: []step{{cmd: 0x06, flags: sli, count: 8192, in: typed, pages: true, resid: 8192 - uint16(len(typed))}}},
		{name: "0F, 0B are immediate", steps: []step{{cmd: 0x0F, flags: cc | sli, count: 0}, {cmd: 0x0B, flags: sli}}},
		{name: "the terminal is gone", steps: []step{{cmd: 0x05, flags: cc | sli, out: screen, dstat: 0x02}}, sense: "40", size: 1},
	} {
		m.add(t, d)
	}
	require.Equal(t, KindDisplay, KindOf(&m.device, m.recs))
	equalMade(t, m, Auto, "", nil, false)
}

// A 3215 session of con3215.c on the model; where the terminal was not connected
// (console.c, unit check alone in the initial status) it is the recorded side.
func TestConsoleSession(t *testing.T) {
	m := &made{scenario: "con3215", device: recording.Device{
		SchID: 0x00010006, DevNo: 0x0009, HasDevNo: true, SenseID: []byte{0xff, 0x32, 0x15, 0, 0x32, 0x15, 0},
	}}
	m.add(t, driver{name: "raw3215_mk_write_req: 01 with SLI", steps: []step{{cmd: 0x01, flags: sli, out: bytes.Repeat([]byte{0xC1}, 120)}}})
	m.add(t, driver{name: "raw3215_mk_write_req: data in two pieces of a ring", steps: []step{
		{cmd: 0x01, flags: cc | sli, out: bytes.Repeat([]byte{0xC1}, 20)}, {cmd: 0x01, flags: sli, out: []byte{0xC2, 0x15}}}})
	m.add(t, driver{name: "raw3215_mk_read_req: 0A after the attention", steps: []step{{cmd: 0x0A, flags: sli, count: 160, in: []byte{0x93, 0xA2}, resid: 158}}})
	m.add(t, driver{name: "raw3215_mk_read_req: an empty line", steps: []step{{cmd: 0x0A, flags: sli, count: 160, resid: 160}}})
	equalMade(t, m, Emulated, "", nil, true)
	equalMade(t, m, Scripted, "", nil, false)
	m.add(t, driver{name: "the terminal is gone", steps: []step{{cmd: 0x01, flags: sli, out: []byte{0xC1}, dstat: 0x02}}, sense: "40", size: 1})
	equalMade(t, m, Auto, "", nil, false)
}

// A program that ends at a CCW that chains is followed by memory that nobody
// recorded. A mediator that reads ahead must not be led on by it, whatever it is
// filled with, to the end of a page or of memory.
func TestNothingBehindTheProgram(t *testing.T) {
	for _, poison := range []byte{0x00, 0x5a, 0xa5, 0xff} {
		m := &made{scenario: "behind", device: recording.Device{SchID: 0x00010003, DevNo: 0x0580, HasDevNo: true}}
		m.add(t, driver{name: "unit exception", steps: []step{{cmd: 0x27, flags: cc, dstat: 0x0d}}})
		m.add(t, driver{name: "incorrect length", steps: []step{{cmd: 0x02, flags: cc, count: 80, in: []byte{1}, cstat: 0x40, resid: 79}}})
		m.add(t, driver{name: "in a data chain", steps: []step{{cmd: 0x02, flags: cio.ChainData, count: 80, in: []byte{1}, cstat: 0x40, resid: 79}}})
		for _, r := range one(t, m.recs, Options{Poison: poison}) {
			require.Equal(t, Pass, r.Outcome, "%s, poison %#x: %+v", r.Name, poison, r.Diffs)
		}
	}
	rec := &recording.Record{Trace: []recording.Step{{At: 0x3ffff8, Cmd: 0x27, Flags: byte(cc)}}}
	require.Empty(t, behind(rec, 4<<20), "behind it is no memory")
	require.Equal(t, []recording.Segment{{GPA: 0x400000, Data: []byte{3, 0, 0, 0, 0, 0, 0, 1}}}, behind(rec, 8<<20), "format 0")
	rec.Memory = []recording.Segment{{GPA: 0x400002, Data: []byte{9, 9}}}
	require.Equal(t, []recording.Segment{{GPA: 0x400000, Data: []byte{3, 0}}, {GPA: 0x400004, Data: []byte{0, 0, 0, 1}}}, behind(rec, 8<<20), "what is known stays")
	rec.Trace[0].Flags = 0
	require.Empty(t, behind(rec, 8<<20), "the program ends there")
	rec.Trace[0] = recording.Step{At: addr.GPA(0x1000), Cmd: 0x08}
	require.Empty(t, behind(rec, 8<<20), "a transfer goes elsewhere")
}
