package unit_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/mdev/errs"
)

// chunk is an AWSTAPE chunk.
func chunk(flags byte, before int, data string) []byte {
	h := make([]byte, 6, 6+len(data))
	binary.LittleEndian.PutUint16(h, uint16(len(data)))
	binary.LittleEndian.PutUint16(h[2:], uint16(before))
	h[4] = flags
	return append(h, data...)
}

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

// TestAWS reads and refuses images, one row for each rule of the format.
func TestAWS(t *testing.T) {
	for _, row := range []struct {
		name  string
		image []byte
		items []string // a tape mark is ""
		err   string
	}{
		{"empty", nil, []string{}, ""},
		{"block", chunk(0xA0, 0, "ab"), []string{"ab"}, ""},
		{"marks", join(chunk(0x40, 0, ""), chunk(0xA0, 0, "ab"), chunk(0x40, 2, "")), []string{"", "ab", ""}, ""},
		{"block of three chunks", join(chunk(0x80, 0, "a"), chunk(0, 1, "b"), chunk(0x20, 1, "c")), []string{"abc"}, ""},
		{"cut header", chunk(0xA0, 0, "ab")[:5], nil, "chunk at 0x0: 5 bytes are no header"},
		{"cut data", join(chunk(0x40, 0, ""), chunk(0xA0, 0, "ab")[:7]), nil, "chunk at 0x6: 2 bytes of data, the file ends after 1"},
		{"wrong previous length", join(chunk(0xA0, 0, "ab"), chunk(0x40, 3, "")), nil, "chunk at 0x8: says that the chunk before has 3 bytes, it has 2"},
		{"unknown flag", chunk(0xA1, 0, "ab"), nil, "unknown flags 0xa1"},
		{"mark with data", chunk(0x40, 0, "ab"), nil, "tape mark with data"},
		{"mark with other flags", chunk(0xC0, 0, ""), nil, "tape mark with data"},
		{"mark inside a block", join(chunk(0x80, 0, "a"), chunk(0x40, 1, "")), nil, "inside a block"},
		{"no start", chunk(0x20, 0, "a"), nil, "never started"},
		{"start inside a block", join(chunk(0x80, 0, "a"), chunk(0x80, 1, "a")), nil, "starts inside a block"},
		{"no data", chunk(0xA0, 0, ""), nil, "no data and no tape mark"},
		{"no end", chunk(0x80, 0, "a"), nil, "block at 0x0 has no end"},
		{"too long", join(chunk(0x80, 0, long), chunk(0, 65535, long), chunk(0, 65535, long), chunk(0, 65535, long), chunk(0x20, 65535, long)), nil, "block of more than 262144 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := unit.ParseCartridge(row.image)
			if row.err != "" {
				require.ErrorContains(t, err, row.err)
				require.ErrorIs(t, err, errs.ErrInvalid)
				return
			}
			require.NoError(t, err)
			require.Equal(t, len(row.items), c.Len())
			for i, want := range row.items {
				b, err := c.Block(i)
				require.NoError(t, err)
				require.Equal(t, want, string(b))
			}
			_, err = c.Block(c.Len())
			require.Error(t, err)
			var out bytes.Buffer
			n, err := c.WriteTo(&out)
			require.NoError(t, err)
			require.Equal(t, int64(len(row.image)), n)
			require.Equal(t, string(row.image), out.String())
		})
	}
}

var long = string(make([]byte, 65535))

// TestCartridgeFile: what a program writes is in the file, in AWSTAPE format;
// a tape that cannot be written says so; a file that others change is a data
// check.
func TestCartridgeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tape.aws")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	c, err := unit.OpenCartridge(path, false)
	require.NoError(t, err)
	tape, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3590, Cartridge: c})
	require.NoError(t, err)
	m := machine(tape)
	big := bytes.Repeat([]byte("0123456789"), 6000)
	check(t, m, want{at: 3}, wr("ab"), wtm, op{Cmd: 0x01, Flags: cd, Out: big}, op{Cmd: 0x01, Out: big})
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	two := join(big, big)
	require.Equal(t, join(chunk(0xA0, 0, "ab"), chunk(0x40, 2, ""),
		chunk(0x80, 0, string(two[:65535])), chunk(0x20, 65535, string(two[65535:]))), image)
	r := check(t, m, want{at: 2, in: big}, bsb, op{Cmd: 0x02, Flags: cd, In: len(big)}, op{Cmd: 0x02, In: len(big)})
	require.Equal(t, big, r.In[1])
	check(t, m, want{}, op{Cmd: 0x27})
	check(t, m, want{}, wr("z"))
	image, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, join(chunk(0xA0, 0, "ab"), chunk(0x40, 2, ""), chunk(0xA0, 0, "z")), image)

	check(t, m, want{}, op{Cmd: 0x07})
	image[0] = 1
	require.NoError(t, os.WriteFile(path, image, 0o600))
	check(t, m, want{device: unitCheck, count: 2, sense0: 0x08}, rd(2))
	require.NoError(t, os.Truncate(path, 3))
	check(t, m, want{at: 1, device: unitCheck, count: 2, sense0: 0x08}, bsb, rd(2))
	require.NoError(t, tape.Unload().Close())

	require.NoError(t, os.WriteFile(path, chunk(0xA0, 0, "ab"), 0o600))
	c, err = unit.OpenCartridge(path, true)
	require.NoError(t, err)
	defer c.Close()
	require.True(t, c.ReadOnly())
	tape.Load(c)
	for _, o := range []op{wr("x"), wtm, {Cmd: 0x17}} {
		o.Flags = sli
		r := m.Run(t, o)
		require.Equal(t, unitCheck, r.Device)
		require.Equal(t, []byte{0x80, 0x4A, 0x20, 0x30}, r.Sense[:4])
	}
	check(t, m, want{in: []byte("ab")}, op{Cmd: 0x02, In: 2})

	_, err = unit.OpenCartridge(filepath.Dir(path), true)
	require.ErrorContains(t, err, "not a regular file")
	_, err = unit.OpenCartridge(path+"x", false)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte("hello, world"), 0o600))
	_, err = unit.OpenCartridge(path, false)
	require.ErrorContains(t, err, path)
}

// TestTapeModel compares a tape with a slice of strings. Oracle: the slice,
// after each step; and the image reads back as the same tape.
func TestTapeModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := unit.NewCartridge(0)
		tape, err := unit.NewTape(&unit.TapeConfig{Cartridge: c})
		require.NoError(t, err)
		m := machine(tape)
		var items []string
		at := 0
		run := func(cmd cio.Command, out string, in int) (cio.DeviceStatus, string) {
			r := m.Run(t, op{Cmd: cmd, Flags: sli, Out: []byte(out), In: in})
			return r.Device, string(r.In[0][:max(in-r.Count, 0)])
		}
		status := func(ok, mark bool) cio.DeviceStatus {
			switch {
			case !ok:
				return unitCheck
			case mark:
				return unitException
			}
			return cio.Ended
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				s := rapid.StringMatching(`[a-z]{1,20}`).Draw(rt, "data")
				d, _ := run(0x01, s, 0)
				require.Equal(rt, cio.Ended, d)
				items = append(items[:at:at], s)
				at++
			},
			"mark": func(rt *rapid.T) {
				d, _ := run(0x1F, "", 0)
				require.Equal(rt, cio.Ended, d)
				items = append(items[:at:at], "")
				at++
			},
			"read": func(rt *rapid.T) {
				d, s := run(0x02, "", 30)
				ok := at < len(items)
				require.Equal(rt, status(ok, ok && items[at] == ""), d)
				if ok {
					require.Equal(rt, items[at], s)
					at++
				}
			},
			"forward": func(rt *rapid.T) {
				d, _ := run(0x37, "", 0)
				ok := at < len(items)
				require.Equal(rt, status(ok, ok && items[at] == ""), d)
				if ok {
					at++
				}
			},
			"back": func(rt *rapid.T) {
				d, _ := run(0x27, "", 0)
				ok := at > 0
				require.Equal(rt, status(ok, ok && items[at-1] == ""), d)
				if ok {
					at--
				}
			},
			"forward file": func(rt *rapid.T) {
				d, _ := run(0x3F, "", 0)
				for at < len(items) && items[at] != "" {
					at++
				}
				require.Equal(rt, status(at < len(items), false), d)
				at = min(at+1, len(items))
			},
			"back file": func(rt *rapid.T) {
				d, _ := run(0x2F, "", 0)
				for at > 0 && items[at-1] != "" {
					at--
				}
				require.Equal(rt, status(at > 0, false), d)
				at = max(at-1, 0)
			},
			"rewind": func(rt *rapid.T) {
				d, _ := run(0x07, "", 0)
				require.Equal(rt, cio.Ended, d)
				at = 0
			},
			"": func(rt *rapid.T) {
				require.Equal(rt, at, tape.Position())
				require.Equal(rt, len(items), c.Len())
				var image bytes.Buffer
				_, err := c.WriteTo(&image)
				require.NoError(rt, err)
				back, err := unit.ParseCartridge(image.Bytes())
				require.NoError(rt, err)
				for i := range items {
					b, err := back.Block(i)
					require.NoError(rt, err)
					require.Equal(rt, items[i], string(b))
				}
			},
		})
	})
}
