package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/internal/recording"
)

const (
	cc  = cio.ChainCommand
	sli = cio.SuppressLength
)

// replayMade writes m beside the initial image of its device, if there is one,
// reads it back and replays it. emulated says what the device must be.
func replayMade(t *testing.T, m *made, how Choice, ext string, image []byte, emulated bool) []*Result {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, m.scenario+".jsonl")
	var b bytes.Buffer
	w := recording.NewWriter(&b)
	for _, rec := range m.recs {
		require.NoError(t, w.Write(rec))
	}
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
	if image != nil {
		require.NoError(t, os.Mkdir(filepath.Join(dir, "init"), 0o755))
		name := fmt.Sprintf("%s-v%03x%s", m.scenario, m.device.DevNo, ext)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "init", name), image, 0o644))
	}
	var out []*Result
	for _, poison := range []byte{0x00, 0x5a, 0xff, 0xa5} { // the verdict does not depend on it
		all, err := Load([]string{file}, &Options{Device: how, Poison: poison}, nil)
		require.NoError(t, err)
		require.Len(t, all, 1)
		before := out
		out = nil
		_, err = all[0].Run(context.Background(), func(r *Result) {
			require.Equal(t, emulated, r.Emulated, r.Name)
			out = append(out, r)
		})
		require.NoError(t, err)
		require.Len(t, out, len(m.recs))
		for i := range before {
			require.Equal(t, before[i].Outcome, out[i].Outcome, "%s, poison %#x: %+v, before %+v", out[i].Name, poison, out[i].Diffs, before[i].Diffs)
		}
	}
	return out
}

// equalMade requires that nothing of m differs.
func equalMade(t *testing.T, m *made, how Choice, ext string, image []byte, emulated bool) {
	t.Helper()
	for _, r := range replayMade(t, m, how, ext, image, emulated) {
		require.Equal(t, Pass, r.Outcome, "%s: %+v", r.Name, r.Diffs)
	}
}

// rejectsAside requires that nothing differs but the count of rejected input,
// which the recorded device side leaves.
func rejectsAside(t *testing.T, results []*Result) {
	t.Helper()
	for _, r := range results {
		if len(r.Rules) == 0 {
			require.Equal(t, Pass, r.Outcome, "%s: %+v", r.Name, r.Diffs)
			continue
		}
		require.False(t, r.Emulated, r.Name)
		require.Equal(t, Expected, r.Outcome, "%s: %+v", r.Name, r.Diffs)
		require.Equal(t, "reject-residual", r.Rules[0].Name, r.Name)
	}
}

// Parameters of the ECKD driver (dasd_eckd.c) for track 1 of cylinder 0.

func defineExtent(mask, attributes, extended byte, head byte) []byte {
	b := make([]byte, 32)
	b[0], b[1], b[7] = mask, attributes, extended
	b[11], b[15] = head, head
	return b
}

func locate(op, aux, count, head, record, sector byte, length uint16) []byte {
	b := make([]byte, 20)
	b[0], b[1], b[3], b[7], b[11], b[12], b[13] = op, aux, count, head, head, record, sector
	binary.BigEndian.PutUint16(b[14:], length)
	return b
}

func prefixOf(format byte, extent, locate []byte) []byte {
	b := make([]byte, 64)
	b[0], b[1], b[2] = format, 0x80, 0x20
	copy(b[12:], extent)
	copy(b[44:], locate)
	return b
}

func record(r byte, data []byte) []byte {
	return append([]byte{0, 0, 0, 1, r, 0, byte(len(data) >> 8), byte(len(data))}, data...)
}

// eckdSense is the sense of a 3390 of few cylinders in cylinder 0, as
// ckd_build_sense puts it.
func eckdSense(b0, b1, head, message byte) string {
	s := make([]byte, 32)
	s[0], s[1], s[6], s[7], s[27], s[31] = b0, b1, head, message, 0x80, head
	return fmt.Sprintf("%x", s)
}

// prefixSession is what the driver does when the features say Prefix: format,
// write, read, check the format, raw access, and what the unit refuses.
func prefixSession(t *testing.T) *made {
	m := &made{scenario: "pfx", device: recording.Device{
		SchID: 0x00010000, DevNo: 0x0120, HasDevNo: true,
		SenseID: []byte{0xff, 0x21, 0x07, 0xe8, 0x33, 0x90, 0x02, 0, 0x40, 0xfa, 1, 0, 0x41, 0x27, 0, 4, 0x42, 0x3e, 1, 0xa0, 0x43, 0x3e, 0, 8},
	}}
	const size = 512
	block := func(v byte) []byte { return bytes.Repeat([]byte{v}, size) }
	read, format, update, all := defineExtent(0x40, 0xC0, 0x40, 1), defineExtent(0x00, 0xC4, 0x44, 1), defineExtent(0x80, 0xC0, 0x40, 1), defineExtent(0xC0, 0xC0, 0x40, 1)
	count := func(r byte) []byte { return record(r, block(0))[:8] }

	m.add(t, driver{name: "dasd_eckd_build_format: E7 format 0, 47, 1D of the count field alone", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(0, format, nil)},
		{cmd: 0x47, flags: cc, out: locate(0x03, 0x80, 3, 1, 0, 0, size)[:16]},
		{cmd: 0x1D, flags: cc | sli, out: count(1)},
		{cmd: 0x1D, flags: cc | sli, out: count(2)},
		{cmd: 0x1D, flags: sli, out: count(3)},
	}})
	m.add(t, driver{name: "dasd_eckd_build_cp_cmd_single: E7 format 0, 47, 85 x2", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(0, update, nil)},
		{cmd: 0x47, flags: cc, out: locate(0x01, 0x80, 2, 1, 1, 6, size)[:16]},
		{cmd: 0x85, flags: cc, out: block(0x11)},
		{cmd: 0x85, out: block(0x22), pages: true},
	}})
	m.add(t, driver{name: "prefix_LRE: E7 format 1, 85 from record 3", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, update, locate(0x01, 0x80, 1, 1, 3, 18, size))},
		{cmd: 0x85, out: block(0x33)},
	}})
	m.add(t, driver{name: "dasd_eckd_build_cp_cmd_single: E7 format 0, 47, 86 x3", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(0, read, nil)},
		{cmd: 0x47, flags: cc, out: locate(0x06, 0x80, 3, 1, 1, 6, size)[:16]},
		{cmd: 0x86, flags: cc, in: block(0x11)},
		{cmd: 0x86, flags: cc, in: block(0x22)},
		{cmd: 0x86, in: block(0x33), pages: true},
	}})
	m.add(t, driver{name: "prefix_LRE: E7 format 1, 86 x2", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, read, locate(0x06, 0x80, 2, 1, 2, 12, size))},
		{cmd: 0x86, flags: cc, in: block(0x22)},
		{cmd: 0x86, in: block(0x33)},
	}})
	var whole []byte
	whole = append(whole, record(0, make([]byte, 8))...)
	for r := byte(1); r <= 3; r++ {
		whole = append(whole, record(r, block(0x11*r))...)
	}
	whole = append(whole, bytes.Repeat([]byte{0xff}, 8)...)
	m.add(t, driver{name: "dasd_eckd_build_cp_raw: E7 format 1 operation 4C, DE to the end marker", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, read, locate(0x4C, 0, 1, 1, 0, 0xFF, 0))},
		{cmd: 0xDE, flags: sli, count: 57326, in: whole, pages: true, resid: 57326 - uint16(len(whole))},
	}})
	m.add(t, driver{name: "dasd_eckd_build_check: E7 format 1, 12 round the track once", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, read, locate(0x06, 0, 5, 1, 0, 0, 0))},
		{cmd: 0x12, flags: cc | sli, in: count(1)},
		{cmd: 0x12, flags: cc | sli, in: count(2)},
		{cmd: 0x12, flags: cc | sli, in: count(3)},
		{cmd: 0x12, flags: cc | sli, in: count(1)},
		{cmd: 0x12, flags: sli, in: count(2)},
	}})
	nine := []step{{cmd: 0xE7, flags: cc, out: prefixOf(1, read, locate(0x06, 0, 9, 1, 0, 0, 0))}}
	for r := range byte(6) {
		nine = append(nine, step{cmd: 0x12, flags: cc | sli, in: count(1 + r%3)})
	}
	nine = append(nine, step{cmd: 0x12, flags: cc | sli, count: 8, dstat: 0x0e, resid: 8})
	m.add(t, driver{name: "dasd_eckd_build_check: the second index point is no record found", steps: nine, sense: eckdSense(0, 0x08, 1, 0)})
	m.add(t, driver{name: "dasd_eckd_build_cp_raw: 3F+11 write full track is no operation of Hercules", steps: []step{
		{cmd: 0xE7, flags: cc, out: append(prefixOf(1, all, patched(locate(0x3F, 0, 1, 1, 0, 0xFF, 0), 17, 0x11, 0, 2)), 0x80, 0), dstat: 0x0e},
	}, sense: eckdSense(0x80, 0, 1, 4)})
	m.add(t, driver{name: "E7 without an extent before or in it: sequence", steps: []step{
		{cmd: 0xE7, flags: cc, out: patched(prefixOf(1, read, locate(0x06, 0x80, 1, 1, 1, 0, size)), 1, 0x00), dstat: 0x0e},
	}, sense: eckdSense(0x80, 0, 1, 2)})
	m.add(t, driver{name: "E7 of 63 bytes", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(0, read, nil)[:63], dstat: 0x0e},
	}, sense: eckdSense(0x80, 0, 1, 3)})
	m.add(t, driver{name: "E7 format 3", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(3, read, nil), dstat: 0x0e},
	}, sense: eckdSense(0x80, 0, 1, 4)})
	other := defineExtent(0x40, 0xC0, 0x40, 2)
	m.add(t, driver{name: "a track that was never formatted: 47 finds no record", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(0, other, nil)},
		{cmd: 0x47, flags: cc, out: locate(0x06, 0x80, 1, 2, 1, 6, size)[:16], dstat: 0x0e},
	}, sense: eckdSense(0, 0x08, 2, 0)})
	m.add(t, driver{name: "and E7 format 1 neither", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, other, locate(0x06, 0x80, 1, 2, 1, 6, size)), dstat: 0x0e},
	}, sense: eckdSense(0, 0x08, 2, 0)})
	m.add(t, driver{name: "raw read of a track that was never formatted: record zero and the marker", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, other, locate(0x4C, 0, 1, 2, 0, 0xFF, 0))},
		{cmd: 0xDE, flags: sli, count: 57326, in: append(patched(record(0, make([]byte, 8)), 3, 2), bytes.Repeat([]byte{0xff}, 8)...), resid: 57326 - 24},
	}})
	m.add(t, driver{name: "a read beyond the extent: file protected, with what was not read as incorrect length", steps: []step{
		{cmd: 0xE7, flags: cc, out: prefixOf(1, read, locate(0x06, 0x80, 2, 1, 3, 18, size))},
		{cmd: 0x86, flags: cc, in: block(0x33)},
		{cmd: 0x86, count: size, dstat: 0x0e, cstat: 0x40, resid: size},
	}, sense: eckdSense(0, 0x04, 1, 0)})
	return m
}

func patched(b []byte, at int, with ...byte) []byte {
	c := bytes.Clone(b)
	copy(c[at:], with)
	return c
}

// The programs of the ECKD driver that begin with Prefix. The expectations are
// SDL-Hyperion's (ckddasd.c), read and not run.
func TestPrefixSession(t *testing.T) {
	equalMade(t, prefixSession(t), Emulated, ".ckd", blankVolume(t), true)
	equalMade(t, prefixSession(t), Scripted, "", nil, false)
}

func blankVolume(t *testing.T) []byte {
	img, err := dasd.Blank(dasd.CreateConfig{Cylinders: 2, Serial: "000000000042"})
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = img.WriteTo(&b)
	require.NoError(t, err)
	return b.Bytes()
}

// A path group that an earlier system established is there when the first
// program asks; and the same volume keeps what the programs do to it.
func TestRecordedPathGroup(t *testing.T) {
	group := append([]byte{0}, "softmdev-01"...)
	m := &made{scenario: "grouped", device: prefixSession(t).device}
	m.add(t, driver{name: "ccw_device_sense_pgid: 34", steps: []step{{cmd: 0x34, flags: sli, in: group}}})
	m.add(t, driver{name: "spid_build_cp: AF resign", steps: []step{{cmd: 0xAF, flags: sli, out: patched(group, 0, 0x40)}}})
	m.add(t, driver{name: "34 after it", steps: []step{{cmd: 0x34, flags: sli, in: make([]byte, 12)}}})
	equalMade(t, m, Emulated, ".ckd", blankVolume(t), true)
	equalMade(t, m, Scripted, "", nil, false)
}

// A read without a locate before it has the wrong sense format in recordings of
// SDL-Hyperion (ckd_chaining_check): the architecture's stands, by its rule, and
// no other byte of the sense may differ.
func TestSequenceMessage(t *testing.T) {
	program := func(sense string) *made {
		m := &made{scenario: "sequence", device: prefixSession(t).device}
		m.add(t, driver{name: "86 alone", steps: []step{{cmd: 0x86, count: 512, dstat: 0x0e}}, sense: sense})
		return m
	}
	r := replayMade(t, program(eckdSense(0x80, 0, 0, 0x22)), Emulated, ".ckd", blankVolume(t), true)[0]
	require.Equal(t, Expected, r.Outcome, "%+v", r.Diffs)
	require.Len(t, r.Rules, 1)
	require.Equal(t, "sequence-message", r.Rules[0].Name)
	for _, sense := range []string{eckdSense(0x80, 0, 0, 0x21), eckdSense(0x80, 0, 1, 0x22), eckdSense(0x80, 1, 0, 0x22), eckdSense(0x00, 8, 0, 0x22)} {
		require.Equal(t, Fail, replayMade(t, program(sense), Emulated, ".ckd", blankVolume(t), true)[0].Outcome)
	}
	require.Equal(t, Pass, replayMade(t, program(eckdSense(0x80, 0, 0, 0x02)), Emulated, ".ckd", blankVolume(t), true)[0].Outcome)
}

// A check in fetching has no count; SDL-Hyperion (channel.c) shows the one that
// the CCW before it left, and only that one is corrected.
func TestStaleCount(t *testing.T) {
	program := func(resid uint16) *made {
		m := &made{scenario: "stale", device: recording.Device{SchID: 0x00010002, DevNo: 0x0580, HasDevNo: true}}
		m.add(t, driver{name: "07, then an invalid command", steps: []step{
			{cmd: 0x07, flags: cc | sli, count: 1, resid: 1}, {cmd: 0x00, count: 80, refused: true, cstat: 0x20, resid: resid},
		}})
		return m
	}
	r := replayMade(t, program(1), Scripted, "", nil, false)[0]
	require.Equal(t, Expected, r.Outcome, "%+v", r.Diffs)
	require.Len(t, r.Rules, 1)
	require.Equal(t, "stale-count", r.Rules[0].Name)
	require.Equal(t, Fail, replayMade(t, program(2), Scripted, "", nil, false)[0].Outcome)
	require.Equal(t, Pass, replayMade(t, program(0), Scripted, "", nil, false)[0].Outcome)
}

// A fixed-block drive is the one that the recording names (dasd_fba.c knows the
// 9336 beside the 3370), and one that we do not know has its recorded side.
func TestFixedBlockDrives(t *testing.T) {
	rdc := []byte{0x30, 8, 0x21, 0x11, 2, 0, 0, 0, 0, 63, 0, 0, 1, 0x3B, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	device := recording.Device{SchID: 0x00010005, DevNo: 0x0140, HasDevNo: true, SenseID: []byte{0xff, 0x63, 0x10, 1, 0x93, 0x36, 0}}
	extent, where := make([]byte, 16), []byte{6, 0, 0, 2, 0, 0, 0, 5}
	extent[0], extent[2], extent[15] = 0x40, 2, 63
	update := patched(extent, 0, 0)
	m := &made{scenario: "fba", device: device}
	m.add(t, driver{name: "ccw_device_sense_id: E4", steps: []step{{cmd: 0xE4, flags: sli, count: 256, in: device.SenseID, resid: 249}}})
	m.add(t, driver{name: "read_dev_chars: 64", steps: []step{{cmd: 0x64, count: 32, in: rdc}}})
	m.add(t, driver{name: "dasd_fba_build_cp_regular: 63, 43, 41 through a list", steps: []step{
		{cmd: 0x63, flags: cc, out: update}, {cmd: 0x43, flags: cc, out: patched(where, 0, 5)}, {cmd: 0x41, out: bytes.Repeat([]byte{7}, 1024), pages: true}}})
	m.add(t, driver{name: "dasd_fba_build_cp_regular: 63, 43, 42", steps: []step{
		{cmd: 0x63, flags: cc, out: extent}, {cmd: 0x43, flags: cc, out: where}, {cmd: 0x42, in: bytes.Repeat([]byte{7}, 1024)}}})
	m.add(t, driver{name: "dasd_fba_build_cp_discard: 41 of no bytes writes zeros", steps: []step{
		{cmd: 0x63, flags: cc, out: update}, {cmd: 0x43, flags: cc, out: patched(where, 0, 5)}, {cmd: 0x41, flags: sli}}})
	m.add(t, driver{name: "and so they read", steps: []step{
		{cmd: 0x63, flags: cc, out: extent}, {cmd: 0x43, flags: cc, out: where}, {cmd: 0x42, in: make([]byte, 1024)}}})
	m.add(t, driver{name: "a read in a location of writes", steps: []step{
		{cmd: 0x63, flags: cc, out: update}, {cmd: 0x43, flags: cc, out: patched(where, 0, 5)}, {cmd: 0x42, count: 512, dstat: 0x0e}}, sense: "80", size: 24})
	equalMade(t, m, Emulated, ".fba", make([]byte, 64*512), true)
	rejectsAside(t, replayMade(t, m, Scripted, "", nil, false))

	m.device.SenseID = []byte{0xff, 0x63, 0x10, 2, 0x93, 0x36, 0}
	for _, rec := range m.recs {
		rec.Device.SenseID = m.device.SenseID
	}
	rejectsAside(t, replayMade(t, m, Auto, ".fba", make([]byte, 64*512), false))
}
