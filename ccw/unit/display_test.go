package unit_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
)

// query is what Linux raw3270.c asks: the reply with the size of the screen.
var query = []byte{0, 7, 0x01, 0xFF, 0x03, 0x00, 0x81}

// screen is the rows of a screen down to the last that is not empty.
func screen(d *unit.Display3270) string { return strings.TrimRight(d.Screen(), "\n") }

func e(s string) string { return string(unit.EBCDIC(s)) }

// TestDisplayWrite has a row for each order of GA23-0059, "Orders".
func TestDisplayWrite(t *testing.T) {
	for _, row := range []struct {
		name   string
		stream string
		screen string
		check  bool // operation check
	}{
		{"text", "\xC3" + e("hello"), "hello", false},
		{"set buffer address, 12 bits", "\xC3\x11\xC1\x50" + e("x"), "\nx", false},
		{"set buffer address, 14 bits", "\xC3\x11\x00\x50" + e("x"), "\nx", false},
		{"address off the screen", "\xC3\x11\x07\x80", "", true},
		{"address of a reserved form", "\xC3\x11\x80\x00", "", true},
		{"start field", "\xC3\x1D\xF0" + e("a"), " a", false},
		{"hidden field", "\xC3\x1D\x4C" + e("secret") + "\x1D\xF0" + e("a"), "        a", false},
		{"start field extended", "\xC3\x29\x02\xC0\x4C\x42\xF2" + e("secret"), "", false},
		{"start field extended, no pair", "\xC3\x29\x00" + e("a"), " a", false},
		{"set attribute is skipped", "\xC3\x28\x42\xF2" + e("a"), "a", false},
		{"modify field", "\xC3\x1D\x4C" + e("b") + "\x11\x40\x40\x2C\x01\xC0\x40", " b", false},
		{"repeat to address", "\xC3\x3C\x40\xC5" + e("*"), "*****", false},
		{"repeat a graphic escape", "\xC3\x3C\x40\xC5\x08" + e("*"), "*****", false},
		{"graphic escape", "\xC3\x08" + e("a"), "a", false},
		{"erase unprotected to address", "\xC3" + e("abcdef") + "\x11\x40\xC2\x12\x40\xC4", "ab  ef", false},
		{"erase leaves protected fields", "\xC3\x1D\xF0" + e("ab") + "\x1D\x40" + e("cd") + "\x11\x40\x40\x12\x40\x40", " ab", false},
		{"program tab", "\xC3\x1D\xF0" + e("ab") + "\x1D\x40\x11\x40\x40\x05" + e("x"), " ab x", false},
		{"program tab without a field", "\xC3" + e("ab") + "\x05" + e("x"), "xb", false},
		{"the end wraps", "\xC3\x11\x5D\x7F" + e("ab"), "b", false},
		{"a code that is no order", "\xC3\x02", "", true},
		{"the stream ends in an order", "\xC3\x11\x40", "", true},
		{"the stream ends between pairs", "\xC3\x29\x02\xC0\x40", "", true},
		{"nothing", "", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := unit.NewDisplay3270(nil)
			require.NoError(t, err)
			w := want{}
			if row.check {
				w = want{device: unitCheck, sense0: 0x01}
			}
			check(t, machine(d), w, op{Cmd: 0x05, Out: []byte(row.stream)})
			if !row.check {
				got := strings.ReplaceAll(screen(d), "\n\n", "\n")
				if strings.Contains(row.name, "wraps") {
					got = got[:1]
				}
				require.Equal(t, row.screen, got)
			}
		})
	}
}

// TestDisplayBudget: repeat orders that would fill the screen without end are
// an operation check.
func TestDisplayBudget(t *testing.T) {
	d, err := unit.NewDisplay3270(nil)
	require.NoError(t, err)
	m := machine(d)
	fill := "\x3C\x40\x40" + e("*")
	check(t, m, want{}, op{Cmd: 0x05, Out: []byte("\xC3" + strings.Repeat(fill, 60))})
	check(t, m, want{device: unitCheck, sense0: 0x01}, op{Cmd: 0x05, Out: []byte("\xC3" + strings.Repeat(fill, 70))})
	check(t, m, want{device: unitCheck, sense0: 0x01}, op{Cmd: 0x05, Out: []byte("\xC3" + strings.Repeat("\x05", 70))})
}

// TestDisplayDialogue is a dialogue as a 3270 driver has it: a form, input,
// ENTER, read modified.
func TestDisplayDialogue(t *testing.T) {
	var seen []cio.DeviceStatus
	alarms := 0
	d, err := unit.NewDisplay3270(&unit.Display3270Config{
		Attention: func(s cio.DeviceStatus) { seen = append(seen, s) },
		Alarm:     func() { alarms++ },
	})
	require.NoError(t, err)
	m := machine(d)
	form := "\xC7\x1D\xF0" + e("Name") + "\x1D\x40\x13\x11\x40\x4D\x1D\xF0" + e("!")
	check(t, m, want{}, op{Cmd: 0x05, Out: []byte(form)})
	require.Equal(t, 1, alarms)
	require.Equal(t, " Name         !", screen(d))
	row, col := d.Cursor()
	require.Equal(t, [2]int{0, 6}, [2]int{row, col})
	require.False(t, d.Type(nil) && d.SetCursor(0, 2) && d.Type(unit.EBCDIC("x")), "protected")
	d.Tab()
	require.True(t, d.Type(unit.EBCDIC("bob")))
	require.Equal(t, " Name bob     !", screen(d))
	require.False(t, d.Press(0x01), "no key")
	require.True(t, d.Press(unit.AIDEnter))
	require.False(t, d.Press(unit.AIDEnter), "locked")
	require.False(t, d.Type([]byte{0xC1}), "locked")
	require.Equal(t, []cio.DeviceStatus{cio.Attention}, seen)

	in := "\x7D\x40\xC9\x11\x40\xC6" + e("bob")
	check(t, m, want{count: 100 - len(in), in: []byte(in)}, op{Cmd: 0x06, Flags: sli, In: 100})
	// The write resets the modified bits and unlocks.
	check(t, m, want{}, op{Cmd: 0x01, Out: []byte{0xC3}})
	check(t, m, want{count: 97, in: []byte("\x60\x40\xC9")}, op{Cmd: 0x06, Flags: sli, In: 100})
	check(t, m, want{}, op{Cmd: 0x0F})
	require.Equal(t, " Name         !", screen(d))

	require.True(t, d.Press(unit.AIDPA1))
	check(t, m, want{count: 99, in: []byte{0x6C}}, op{Cmd: 0x06, Flags: sli, In: 100})
	check(t, m, want{}, op{Cmd: 0x01, Out: []byte{0xC3}})
	require.True(t, d.Press(unit.AIDClear))
	require.Empty(t, screen(d))
	check(t, m, want{}, op{Cmd: 0x01, Out: []byte{0xC3}})
	// Without fields the whole screen counts.
	require.True(t, d.Type(unit.EBCDIC("hi")))
	check(t, m, want{count: 95, in: []byte("\x60\x40\xC2" + e("hi"))}, op{Cmd: 0x06, Flags: sli, In: 100})
}

// TestDisplayReadBuffer: attributes and all positions, from the address that a
// chained write left.
func TestDisplayReadBuffer(t *testing.T) {
	d, err := unit.NewDisplay3270(nil)
	require.NoError(t, err)
	m := machine(d)
	write := op{Cmd: 0x05, Flags: cc, Out: []byte("\xC3\x1D\xF0" + e("ab"))}
	check(t, m, want{}, write)
	check(t, m, want{count: 4000 - 1924, in: []byte("\x60\x40\x40\x1D\xF0" + e("ab") + "\x00")},
		op{Cmd: 0x02, Flags: sli, In: 4000})
	check(t, m, want{at: 1, count: 4000 - 1920, in: []byte("\x60\x40\x40\x00\x00")},
		write, op{Cmd: 0x02, Flags: sli, In: 4000})
}

// TestDisplayQuery is what raw3270.c does to learn the size of the screen.
func TestDisplayQuery(t *testing.T) {
	var seen []cio.DeviceStatus
	d, err := unit.NewDisplay3270(&unit.Display3270Config{Rows: 43, Cols: 80, Attention: func(s cio.DeviceStatus) { seen = append(seen, s) }})
	require.NoError(t, err)
	m := machine(d)
	usable := []byte{0, 23, 0x81, 0x81, 1, 0, 0, 80, 0, 43, 0, 0, 1, 0, 100, 0, 1, 0, 100, 7, 12, 0x0D, 0x70}
	summary := []byte{0, 6, 0x81, 0x80, 0x80, 0x81}
	for _, row := range []struct {
		name string
		out  []byte
		want []byte
	}{
		{"list", query, usable},
		{"all by list", []byte{0, 6, 0x01, 0xFF, 0x03, 0x80}, join(summary, usable)},
		{"all", []byte{0, 5, 0x01, 0xFF, 0x02}, join(summary, usable)},
		{"none of the list", []byte{0, 7, 0x01, 0xFF, 0x03, 0x00, 0x99}, []byte{0, 4, 0x81, 0xFF}},
	} {
		check(t, m, want{}, op{Cmd: 0x11, Out: row.out})
		in := append([]byte{0x88}, row.want...)
		check(t, m, want{count: 100 - len(in), in: in}, op{Cmd: 0x06, Flags: sli, In: 100})
	}
	require.Len(t, seen, 4)
	check(t, m, want{}, op{Cmd: 0x0D, Out: []byte("\xC3")})
	require.Equal(t, 43, strings.Count(d.Screen(), "\n"))
	check(t, m, want{}, op{Cmd: 0x05, Out: []byte("\xC3")})
	require.Equal(t, 24, strings.Count(d.Screen(), "\n"))
}

// TestDisplayStructured: the other structured fields, and what is none.
func TestDisplayStructured(t *testing.T) {
	for _, row := range []struct {
		name   string
		out    []byte
		ok     bool
		screen string
	}{
		{"write", []byte("\x00\x09\x40\x00\xF1\xC3" + e("abc")), true, "abc"},
		{"erase write, the last field", []byte("\x00\x00\x40\x00\xF5\xC3" + e("abc")), true, "abc"},
		{"two fields", []byte("\x00\x07\x40\x00\xF5\xC3" + e("a") + "\x00\x05\x40\x00\x6F"), true, ""},
		{"erase reset", []byte("\x00\x04\x03\x80"), true, ""},
		{"reply mode", []byte("\x00\x05\x09\x00\x00"), true, ""},
		{"reply mode, extended", []byte("\x00\x05\x09\x00\x01"), false, ""},
		{"another partition", []byte("\x00\x06\x40\x01\xF1\xC3"), false, ""},
		{"unknown command", []byte("\x00\x06\x40\x00\xF2\xC3"), false, ""},
		{"unknown field", []byte("\x00\x03\x77"), false, ""},
		{"length beyond the end", []byte("\x00\x09\x40\x00"), false, ""},
		{"length of nothing", []byte("\x00\x02\x40\x00"), false, ""},
		{"cut length", []byte("\x00\x05"), false, ""},
		{"data stream cut", []byte("\x00\x08\x40\x00\xF1\xC3\x11\x40"), false, ""},
		{"too long", make([]byte, 40000), false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := unit.NewDisplay3270(nil)
			require.NoError(t, err)
			r := machine(d).Run(t, op{Cmd: 0x11, Flags: sli, Out: row.out})
			if !row.ok {
				require.Equal(t, unitCheck, r.Device)
				require.Equal(t, []byte{0x01}, r.Sense)
				return
			}
			require.Equal(t, cio.Ended, r.Device)
			require.Equal(t, row.screen, screen(d))
		})
	}
}

// TestDisplayOthers: the commands that move no screen.
func TestDisplayOthers(t *testing.T) {
	d, err := unit.NewDisplay3270(nil)
	require.NoError(t, err)
	m := machine(d)
	check(t, m, want{in: []byte{0xff, 0x32, 0x74, 0x1D, 0x32, 0x78, 0x02}}, op{Cmd: 0xE4, In: 7})
	check(t, m, want{count: 1}, op{Cmd: 0x0B, Flags: sli, Count: 1})
	check(t, m, want{count: 1}, op{Cmd: 0x03, Flags: sli, Count: 1})
	check(t, m, want{in: []byte{0}}, op{Cmd: 0x04, In: 1})
	check(t, m, want{device: unitCheck, sense0: 0x80}, op{Cmd: 0x21, Count: 1})
	d.Reset()
	require.Nil(t, d.Sense())
	require.False(t, d.SetCursor(24, 0))
	for _, c := range []unit.Display3270Config{{Rows: 10, Cols: 80}, {Rows: 24}, {Rows: 1000, Cols: 1000}, {Rows: math.MaxInt, Cols: math.MaxInt}} {
		_, err := unit.NewDisplay3270(&c)
		require.Error(t, err)
	}
	for aid, name := range map[unit.AID]string{unit.AIDEnter: "ENTER", unit.AIDClear: "CLEAR", unit.AIDPA1: "PA1", unit.AIDPA2: "PA2",
		unit.AIDPA3: "PA3", unit.AIDPF1 + 8: "PF9", unit.AIDPF10: "PF10", unit.AIDPF13: "PF13", unit.AIDPF22 + 2: "PF24", unit.AIDNone: "none", 0x99: "AID 0x99"} {
		require.Equal(t, name, aid.String())
	}
}
