package unit_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
)

// deck is n cards; card i is full of the byte i+1.
func deck(n int) []byte {
	b := make([]byte, n*unit.CardSize)
	for i := range b {
		b[i] = byte(i/unit.CardSize) + 1
	}
	return b
}

func card(i int) []byte { return bytes.Repeat([]byte{byte(i) + 1}, unit.CardSize) }

// TestReader has a row for each rule of GA21-9124.
func TestReader(t *testing.T) {
	for _, row := range []struct {
		name string
		ops  []op
		want want
	}{
		{"read", []op{{Cmd: 0x02, In: 80}}, want{in: card(0)}},
		{"read, feed, each card once", []op{{Cmd: 0x02, Flags: cc, In: 80}, {Cmd: 0x02, In: 80}}, want{at: 1, in: card(1)}},
		{"read to stacker 2", []op{{Cmd: 0x42, In: 80}}, want{in: card(0)}},
		{"read to stacker 3", []op{{Cmd: 0x82, In: 80}}, want{in: card(0)}},
		{"read, data mode 2", []op{{Cmd: 0x22, In: 80}}, want{in: card(0)}},
		{"read, data mode 2, stacker 2", []op{{Cmd: 0x62, In: 80}}, want{in: card(0)}},
		{"read without feed", []op{{Cmd: 0xC2, Flags: cc, In: 80}, {Cmd: 0x02, In: 80}}, want{at: 1, in: card(0)}},
		{"read without feed, then feed", []op{{Cmd: 0xC2, Flags: cc, In: 80}, {Cmd: 0x23, Flags: cc | sli}, {Cmd: 0x02, In: 80}}, want{at: 2, in: card(1)}},
		{"feed", []op{{Cmd: 0x63, Flags: cc | sli}, {Cmd: 0x02, In: 80}}, want{at: 1, in: card(1)}},
		{"feed is immediate", []op{{Cmd: 0x23, Flags: sli, Count: 5}}, want{count: 5}},
		{"short read", []op{{Cmd: 0x02, In: 40}}, want{channel: cio.IncorrectLength, in: card(0)[:40]}},
		{"long read", []op{{Cmd: 0x02, In: 100}}, want{channel: cio.IncorrectLength, count: 20, in: card(0)}},
		{"data chained", []op{{Cmd: 0x02, Flags: cd, In: 30}, {Cmd: 0x02, In: 50}}, want{at: 1, in: card(0)[:50]}},
		{"three cards are all", []op{{Cmd: 0x23, Flags: cc}, {Cmd: 0x23, Flags: cc}, {Cmd: 0x23, Flags: cc}, {Cmd: 0x02, Flags: sli, In: 80}},
			want{at: 3, device: unitException, count: 80}},
		{"a feed behind them", []op{{Cmd: 0x23, Flags: cc}, {Cmd: 0x23, Flags: cc}, {Cmd: 0x23, Flags: cc}, {Cmd: 0x23, Flags: sli}},
			want{at: 3, device: unitException}},
		{"sense ID [vec0 recording: rejected]", []op{{Cmd: 0xE4, In: 7}}, want{device: unitCheck, sense0: 0x80}},
		{"unknown command", []op{{Cmd: 0x01, Count: 7}}, want{device: unitCheck, sense0: 0x80}},
		{"feed without a stacker", []op{{Cmd: 0xE3}}, want{device: unitCheck, sense0: 0x80}},
		{"sense: 4 bytes", []op{{Cmd: 0x04, In: 4}}, want{in: []byte{0, 0, 0, 0}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			rdr := unit.NewReader(&unit.ReaderConfig{Cards: bytes.NewReader(deck(3))})
			r := check(t, machine(rdr), row.want, row.ops...)
			if row.want.device == unitCheck {
				require.Len(t, r.Sense, 4)
			}
		})
	}
}

// TestReaderEnds: how decks end, break and come.
func TestReaderEnds(t *testing.T) {
	read := op{Cmd: 0x02, Flags: sli, In: 80}
	var ready []cio.DeviceStatus
	rdr := unit.NewReader(&unit.ReaderConfig{SenseID: true, Attention: func(d cio.DeviceStatus) { ready = append(ready, d) }})
	m := machine(rdr)
	check(t, m, want{in: []byte{0xff, 0x35, 0x05, 1, 0x35, 0x05, 1}}, op{Cmd: 0xE4, In: 7})
	check(t, m, want{device: unitCheck, count: 80, sense0: 0x40}, read)
	rdr.Load(bytes.NewReader(deck(1)))
	require.Equal(t, []cio.DeviceStatus{cio.DeviceEnd}, ready)
	check(t, m, want{in: card(0)}, read)
	check(t, m, want{device: unitException, count: 80}, read)
	check(t, m, want{device: unitCheck, count: 80, sense0: 0x40}, read)

	rdr = unit.NewReader(&unit.ReaderConfig{Cards: bytes.NewReader(nil), End: unit.Intervention})
	check(t, machine(rdr), want{device: unitCheck, count: 80, sense0: 0x40}, read)
	for _, bad := range []io.Reader{bytes.NewReader(deck(1)[:79]), iotest.ErrReader(errors.New("jam"))} {
		rdr = unit.NewReader(&unit.ReaderConfig{Cards: bad})
		check(t, machine(rdr), want{device: unitCheck, count: 80, sense0: 0x10}, read)
	}
	rdr.Reset()
	require.Nil(t, rdr.Sense())
}

// TestPrinter has a row for each rule of GA24-3312.
func TestPrinter(t *testing.T) {
	line := unit.EBCDIC("line")
	for _, row := range []struct {
		name  string
		ops   []op
		want  want
		paper string
		at    int
	}{
		{"write, space 1", []op{{Cmd: 0x09, Out: line}}, want{}, "line\n", 2},
		{"write, space 2", []op{{Cmd: 0x11, Out: line}}, want{}, "line\n\n", 3},
		{"write, space 3", []op{{Cmd: 0x19, Out: line}}, want{}, "line\n\n\n", 4},
		{"write, no space: the next prints over it", []op{{Cmd: 0x01, Flags: cc, Out: line}, {Cmd: 0x09, Out: unit.EBCDIC("____")}}, want{at: 1}, "line\r____\n", 2},
		{"blanks at the end are not printed", []op{{Cmd: 0x09, Out: unit.EBCDIC("a b  ")}}, want{}, "a b\n", 2},
		{"an empty line", []op{{Cmd: 0x09, Out: unit.EBCDIC(" ")}}, want{}, "\n", 2},
		{"longer than a line [vec0 recording: no incorrect length]", []op{{Cmd: 0x09, Out: bytes.Repeat([]byte{0xC1}, 200)}}, want{}, string(bytes.Repeat([]byte{'A'}, 132)) + "\n", 2},
		{"data chained", []op{{Cmd: 0x09, Flags: cd, Out: line[:1]}, {Cmd: 0x09, Out: line[1:]}}, want{at: 1}, "line\n", 2},
		{"space 1 at once, the count stays", []op{{Cmd: 0x0B, Flags: sli, Count: 1}}, want{count: 1}, "\n", 2},
		{"space 3 at once", []op{{Cmd: 0x1B}}, want{}, "\n\n\n", 4},
		{"skip to channel 2", []op{{Cmd: 0x93}}, want{}, "\n\n\n\n\n\n", 7},
		{"write, skip to channel 1: next form", []op{{Cmd: 0x89, Out: line}}, want{}, "line\f", 1},
		{"skip to channel 1 when there", []op{{Cmd: 0x8B}}, want{}, "", 1},
		{"skip to channel 1 after print that was not spaced", []op{{Cmd: 0x01, Flags: cc, Out: line}, {Cmd: 0x8B}}, want{at: 1}, "line\r\f", 1},
		{"skip to channel 13", []op{{Cmd: 0xEB - 8 + 8 + 8}}, want{device: unitCheck, sense0: 0x80}, "", 1},
		{"NOP", []op{{Cmd: 0x03, Flags: sli, Count: 9}}, want{count: 9}, "", 1},
		{"load a character set", []op{{Cmd: 0xEB, Flags: cc}, {Cmd: 0xFB, Out: make([]byte, 240)}}, want{at: 1}, "", 1},
		{"load a short character set", []op{{Cmd: 0xEB, Flags: cc}, {Cmd: 0xF3, Out: make([]byte, 239)}}, want{at: 1, device: unitCheck, sense0: 0x80}, "", 1},
		{"load without a gate", []op{{Cmd: 0xFB, Out: make([]byte, 240)}}, want{device: unitCheck, sense0: 0x80}, "", 1},
		{"the gate is for the next command", []op{{Cmd: 0xEB, Flags: cc}, {Cmd: 0x73, Flags: cc}, {Cmd: 0xFB, Out: make([]byte, 240)}}, want{at: 2, device: unitCheck, sense0: 0x80}, "", 1},
		{"sense ID", []op{{Cmd: 0xE4, In: 7}}, want{device: unitCheck, sense0: 0x80}, "", 1},
		{"space 4", []op{{Cmd: 0x23}}, want{device: unitCheck, sense0: 0x80}, "", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			var paper bytes.Buffer
			prt, err := unit.NewPrinter(&unit.PrinterConfig{Output: unit.TextWriter(&paper)})
			require.NoError(t, err)
			check(t, machine(prt), row.want, row.ops...)
			require.Equal(t, row.paper, paper.String())
			require.Equal(t, row.at, prt.Line())
		})
	}
}

// TestPrinterForm: channels 9 and 12 tell that the page is full, each in its
// way; the form wraps.
func TestPrinterForm(t *testing.T) {
	prt, err := unit.NewPrinter(&unit.PrinterConfig{SenseID: true})
	require.NoError(t, err)
	m := machine(prt)
	check(t, m, want{in: []byte{0xff, 0x28, 0x21, 1, 0x14, 0x03, 1}}, op{Cmd: 0xE4, In: 7})
	check(t, m, want{}, op{Cmd: 0xDB}) // channel 11, line 55
	require.Equal(t, 55, prt.Line())
	check(t, m, want{}, op{Cmd: 0x1B})
	check(t, m, want{device: unitException}, op{Cmd: 0x1B}) // over 12 to 61
	require.Equal(t, 61, prt.Line())
	check(t, m, want{device: unitCheck, sense0: 0x01}, op{Cmd: 0x13}) // over 9 to 63
	check(t, m, want{}, op{Cmd: 0x1B})
	check(t, m, want{}, op{Cmd: 0x0B})
	require.Equal(t, 1, prt.Line())

	prt, err = unit.NewPrinter(&unit.PrinterConfig{Output: broken{}, Carriage: unit.Carriage{Lines: 255, Channel: [12]uint8{1, 255}}})
	require.NoError(t, err)
	m = machine(prt)
	check(t, m, want{device: unitCheck, sense0: 0x40}, op{Cmd: 0x09, Out: []byte{0xC1}})
	check(t, m, want{device: unitCheck, sense0: 0x40}, op{Cmd: 0x0B})
	check(t, m, want{device: unitCheck, sense0: 0x40}, op{Cmd: 0x9B}) // channel 3 is not punched
	prt.Reset()
	require.Nil(t, prt.Sense())
	for _, bad := range []unit.Carriage{{Lines: 10, Channel: [12]uint8{11}}, {Channel: [12]uint8{1}}} {
		_, err = unit.NewPrinter(&unit.PrinterConfig{Carriage: bad})
		require.Error(t, err)
	}
}
