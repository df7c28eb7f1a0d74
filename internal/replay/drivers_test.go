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
	all, err := Load([]string{file}, &Options{Device: how, Poison: 0xa5}, nil)
	require.NoError(t, err)
	require.Len(t, all, 1)
	var out []*Result
	_, err = all[0].Run(context.Background(), func(r *Result) {
		require.Equal(t, emulated, r.Emulated, r.Name)
		out = append(out, r)
	})
	require.NoError(t, err)
	require.Len(t, out, len(m.recs))
	return out
}

// equalMade requires that nothing of m differs.
func equalMade(t *testing.T, m *made, how Choice, ext string, image []byte, emulated bool) {
	t.Helper()
	for _, r := range replayMade(t, m, how, ext, image, emulated) {
		require.Equal(t, Pass, r.Outcome, "%s: %+v", r.Name, r.Diffs)
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
	img, err := dasd.Blank(dasd.CreateConfig{Cylinders: 2, Serial: "000000000042"})
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = img.WriteTo(&b)
	require.NoError(t, err)
	equalMade(t, prefixSession(t), Emulated, ".ckd", b.Bytes(), true)
	equalMade(t, prefixSession(t), Scripted, "", nil, false)
}
