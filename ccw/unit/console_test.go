package unit_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
	"github.com/softmdev/softmdev/ccw/unit"
)

// TestConsole has a row for each rule of GA24-3550 that con3215.c relies on.
func TestConsole(t *testing.T) {
	hello := unit.EBCDIC("hello")
	for _, row := range []struct {
		name  string
		typed string
		ops   []op
		want  want
		paper string
	}{
		{"sense ID", "", []op{{Cmd: 0xE4, In: 7}}, want{in: []byte{0xff, 0x32, 0x15, 0, 0x32, 0x15, 0}}, ""},
		{"write", "", []op{{Cmd: 0x01, Out: hello}}, want{}, "hello"},
		{"write, carriage return", "", []op{{Cmd: 0x09, Out: hello}}, want{}, "hello\n"},
		{"write, data chained: one carriage return", "",
			[]op{{Cmd: 0x09, Flags: cd, Out: hello[:2]}, {Cmd: 0x09, Out: hello[2:]}}, want{at: 1}, "hello\n"},
		{"write longer than the buffer", "", []op{{Cmd: 0x01, Out: unit.EBCDIC(strings.Repeat("x", 2000))}}, want{}, strings.Repeat("x", 2000)},
		{"write nothing", "", []op{{Cmd: 0x01}}, want{}, ""},
		{"NOP is immediate [con3215 recording]", "", []op{{Cmd: 0x03, Count: 1}}, want{channel: cio.IncorrectLength, count: 1}, ""},
		{"alarm is immediate", "", []op{{Cmd: 0x0B, Flags: sli, Count: 9}}, want{count: 9}, ""},
		{"read a line", "hello", []op{{Cmd: 0x0A, Flags: sli, In: 160}}, want{count: 155, in: hello}, ""},
		{"read a line, no SLI", "hello", []op{{Cmd: 0x0A, In: 160}}, want{count: 155, channel: cio.IncorrectLength, in: hello}, ""},
		{"read a line of the count", "hello", []op{{Cmd: 0x0A, In: 5}}, want{in: hello}, ""},
		{"read a longer line", "hello", []op{{Cmd: 0x0A, In: 3}}, want{channel: cio.IncorrectLength, in: hello[:3]}, ""},
		{"read an empty line", "", []op{{Cmd: 0x0A, Flags: sli, In: 9}}, want{count: 9}, ""},
		{"unknown command", "", []op{{Cmd: 0x05, Count: 1}}, want{device: unitCheck, sense0: 0x80}, ""},
		{"sense without a check", "", []op{{Cmd: 0x04, In: 1}}, want{in: []byte{0}}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var paper bytes.Buffer
			con := unit.NewConsole3215(&unit.Console3215Config{Output: unit.TextWriter(&paper)})
			require.True(t, con.Type(unit.EBCDIC(row.typed)))
			check(t, machine(con), row.want, row.ops...)
			require.Equal(t, row.paper, paper.String())
		})
	}
}

// TestConsoleOperator: attention for each line, lines in order, CANCEL when
// there is none, a limit on what waits.
func TestConsoleOperator(t *testing.T) {
	var seen []cio.DeviceStatus
	alarms := 0
	con := unit.NewConsole3215(&unit.Console3215Config{
		Attention: func(d cio.DeviceStatus) { seen = append(seen, d) },
		Alarm:     func() { alarms++ },
	})
	m := machine(con)
	require.True(t, con.Type([]byte("one")))
	require.True(t, con.Type([]byte("two")))
	require.Equal(t, []cio.DeviceStatus{cio.Attention, cio.Attention}, seen)
	check(t, m, want{at: 1, in: []byte("two")}, op{Cmd: 0x0A, Flags: cc, In: 3}, op{Cmd: 0x0A, In: 3})
	check(t, m, want{device: unitException, count: 3}, op{Cmd: 0x0A, Flags: sli, In: 3})
	check(t, m, want{}, op{Cmd: 0x0B})
	require.Equal(t, 1, alarms)

	require.False(t, con.Type(make([]byte, unit.MaxLine+1)))
	for range unit.MaxLines {
		require.True(t, con.Type([]byte{1}))
	}
	require.False(t, con.Type([]byte{1}))
	require.Equal(t, unit.MaxLines, con.Waiting())
	con.Reset()
	require.Equal(t, unit.MaxLines, con.Waiting())
}

// TestConsoleAttention: a typed line is an interruption with alert status, and
// comes while programs run without harm.
func TestConsoleAttention(t *testing.T) {
	var m *devicetest.Machine
	con := unit.NewConsole3215(&unit.Console3215Config{Attention: func(d cio.DeviceStatus) { m.Sub.Attention(d) }})
	m = machine(con)
	require.True(t, con.Type([]byte("hi")))
	require.Len(t, m.IRBs, 1)
	require.Equal(t, cio.Attention, m.Last().SCSW.Device())
	require.Equal(t, cio.AlertStatus|cio.StatusPending, m.Last().SCSW.Control())

	quiet := unit.NewConsole3215(nil)
	m = machine(quiet)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			quiet.Type([]byte("x"))
		}
	}()
	for range 100 {
		m.Run(t, op{Cmd: 0x0A, Flags: sli, In: 1})
	}
	<-done
}

// TestConsolePrompt: a read without a line asks the operator.
func TestConsolePrompt(t *testing.T) {
	answers := [][]byte{[]byte("yes"), make([]byte, unit.MaxLine+1), nil}
	con := unit.NewConsole3215(&unit.Console3215Config{Prompt: func() ([]byte, bool) {
		a := answers[0]
		answers = answers[1:]
		return a, a != nil
	}})
	m := machine(con)
	check(t, m, want{in: []byte("yes")}, op{Cmd: 0x0A, In: 3})
	check(t, m, want{count: 1}, op{Cmd: 0x0A, Flags: sli, In: unit.MaxLine + 1})
	check(t, m, want{device: unitException, count: 3}, op{Cmd: 0x0A, Flags: sli, In: 3})
}

// TestConsoleBroken: paper that tears is for the operator.
func TestConsoleBroken(t *testing.T) {
	con := unit.NewConsole3215(&unit.Console3215Config{Output: broken{}})
	check(t, machine(con), want{device: unitCheck, sense0: 0x40}, op{Cmd: 0x01, Out: []byte{1}})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("torn") }

// TestReadAtBadAddress: a read that the channel refuses before the first byte
// takes nothing away: line, card, block and answer stay.
func TestReadAtBadAddress(t *testing.T) {
	con := unit.NewConsole3215(nil)
	require.True(t, con.Type([]byte("line")))
	rdr := unit.NewReader(&unit.ReaderConfig{Cards: bytes.NewReader(deck(2))})
	tape := newTape(t, unit.Tape3490)
	check(t, machine(tape), want{at: 1}, op{Cmd: 0x01, Flags: cc, Out: []byte("data")}, op{Cmd: 0x07, Flags: sli})
	dsp, err := unit.NewDisplay3270(nil)
	require.NoError(t, err)
	check(t, machine(dsp), want{}, op{Cmd: 0x11, Out: query})
	for _, row := range []struct {
		dev  channel.Device
		cmd  cio.Command
		n    int
		want []byte
	}{
		{con, 0x0A, 4, []byte("line")},
		{rdr, 0x02, 80, deck(1)},
		{tape, 0x02, 4, []byte("data")},
		{dsp, 0x06, 24, []byte{0x88, 0, 23, 0x81, 0x81}},
	} {
		m := machine(row.dev)
		bad := cio.CCW{Command: row.cmd, Flags: sli, Count: 80, Addr: 0x7FFFFF00}.Encode1()
		require.NoError(t, m.Mem.Write(0, bad[:]))
		var orb cio.ORB
		orb.SetFormat1(true)
		orb.SetLPM(0xFF)
		require.Equal(t, cio.CC0, m.Sub.Start(&orb))
		require.Equal(t, cio.ProgramCheck, m.Last().SCSW.Subchannel())
		check(t, m, want{count: 80 - row.n, in: row.want}, op{Cmd: row.cmd, Flags: sli, In: 80})
	}
}

// TestText: EBCDIC and back.
func TestText(t *testing.T) {
	const s = "Hello, World! [x] äöü ¢\n"
	require.Equal(t, s, unit.Text(unit.EBCDIC(s)))
	require.Equal(t, []byte{0xC8, 0x85, 0x93, 0x93, 0x96, 0x6B, 0x40}, unit.EBCDIC("Hello, "))
	require.Equal(t, []byte{0x3F}, unit.EBCDIC("€"))
	require.Equal(t, "\n\n", unit.Text([]byte{0x15, 0x25}))
	n, err := unit.TextWriter(broken{}).Write([]byte{1})
	require.Error(t, err)
	require.Zero(t, n)
}
