package fba_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
)

const (
	cc  = cio.ChainCommand
	cd  = cio.ChainData
	sli = cio.SuppressLength

	unitCheck = cio.Ended | cio.UnitCheck
)

// extent is DEFINE EXTENT with a mask over n blocks from start, which the
// program numbers from first.
func extent(mask byte, start, first, n uint32) devicetest.Op {
	p := make([]byte, 16)
	p[0] = mask
	binary.BigEndian.PutUint32(p[4:], start)
	binary.BigEndian.PutUint32(p[8:], first)
	binary.BigEndian.PutUint32(p[12:], first+n-1)
	return devicetest.Op{Cmd: 0x63, Flags: cc, Out: p}
}

// locate is LOCATE of n blocks from block.
func locate(op byte, n uint16, block uint32) devicetest.Op {
	p := make([]byte, 8)
	p[0] = op
	binary.BigEndian.PutUint16(p[2:], n)
	binary.BigEndian.PutUint32(p[4:], block)
	return devicetest.Op{Cmd: 0x43, Flags: cc, Out: p}
}

// pattern is an image whose block n is full of the byte n+1.
func pattern(blocks int) []byte {
	b := make([]byte, blocks*fba.BlockSize)
	for i := range b {
		b[i] = byte(i/fba.BlockSize) + 1
	}
	return b
}

func block(v byte) []byte { return bytes.Repeat([]byte{v}, fba.BlockSize) }

func newVolume(t testing.TB, img fba.Image) (*fba.Volume, *devicetest.Machine) {
	vol, err := fba.Open(img, nil)
	require.NoError(t, err)
	return vol, devicetest.NewMachine(vol, devicetest.PMCW(0x140), 1<<20)
}

func memory(t testing.TB, base []byte) *fba.Memory {
	img, err := fba.NewMemory(base)
	require.NoError(t, err)
	return img
}

// TestCommands has a row for each rule of the commands. Rows without a source
// are what dasd_fba.c relies on and the recording shows.
func TestCommands(t *testing.T) {
	const blocks = 200
	rdc := []byte{0x30, 0x08, 0x21, 0x02, 2, 0, 0, 0, 0, 62, 0, 0, 2, 0xE8, 0, 0, 0, blocks,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	type op = devicetest.Op
	for _, row := range []struct {
		name    string
		ops     []devicetest.Op
		at      int // CCW that ends the program
		device  cio.DeviceStatus
		channel cio.SubchannelStatus
		count   int
		sense   byte
		in      []byte // data of the last CCW
		written map[int]byte
	}{
		{name: "sense ID: 7 bytes", ops: []op{{Cmd: 0xE4, Flags: sli, In: 10}}, count: 3, device: cio.Ended,
			in: []byte{0xff, 0x38, 0x80, 0x01, 0x33, 0x70, 0x00, 0xA5, 0xA5, 0xA5}},
		{name: "characteristics: 32 bytes", ops: []op{{Cmd: 0x64, In: 32}}, device: cio.Ended, in: rdc},
		{name: "NOP is immediate", ops: []op{{Cmd: 0x03, Flags: sli, Count: 5}}, count: 5, device: cio.Ended},
		{name: "log: 24 zero bytes", ops: []op{{Cmd: 0xA4, In: 24}}, device: cio.Ended, in: make([]byte, 24)},
		{name: "sense without a check is zero", ops: []op{{Cmd: 0x04, In: 24}}, device: cio.Ended, in: make([]byte, 24)},
		{name: "unknown command [fbadasd.c: command reject]", ops: []op{{Cmd: 0x17, Count: 3}}, device: unitCheck, sense: 0x80},
		{name: "read two blocks", ops: []op{extent(0x40, 10, 0, 8), locate(6, 2, 3), {Cmd: 0x42, In: 1024}},
			at: 2, device: cio.Ended, in: append(block(14), block(15)...)},
		{name: "read numbers of the data set", ops: []op{extent(0x40, 10, 1000, 8), locate(6, 1, 1003), {Cmd: 0x42, In: 512}},
			at: 2, device: cio.Ended, in: block(14)},
		{name: "read, data chained inside a block", ops: []op{extent(0, 0, 0, 8), locate(6, 1, 0),
			{Cmd: 0x42, Flags: cd, In: 100}, {Cmd: 0, In: 412}}, at: 3, device: cio.Ended, in: block(1)[100:]},
		{name: "read, count too small", ops: []op{extent(0, 0, 0, 8), locate(6, 2, 0), {Cmd: 0x42, In: 512}},
			at: 2, device: cio.Ended, channel: cio.IncorrectLength, in: block(1)},
		{name: "read, count too large", ops: []op{extent(0, 0, 0, 8), locate(6, 1, 0), {Cmd: 0x42, In: 612}},
			at: 2, device: cio.Ended, channel: cio.IncorrectLength, count: 100},
		{name: "read without locate", ops: []op{extent(0, 0, 0, 8), {Cmd: 0x42, In: 512}}, at: 1, device: unitCheck, sense: 0x80},
		{name: "read after a NOP after locate", ops: []op{extent(0, 0, 0, 8), locate(6, 1, 0), {Cmd: 3, Flags: cc | sli}, {Cmd: 0x42, In: 512}},
			at: 3, device: unitCheck, sense: 0x80},
		{name: "read located for write", ops: []op{extent(0, 0, 0, 8), locate(5, 1, 0), {Cmd: 0x42, In: 512}}, at: 2, device: unitCheck, sense: 0x80},
		{name: "locate without extent", ops: []op{locate(6, 1, 0)}, device: unitCheck, sense: 0x80},
		{name: "locate with 7 bytes", ops: []op{extent(0, 0, 0, 8), {Cmd: 0x43, Out: make([]byte, 7)}}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate reserved bits", ops: []op{extent(0, 0, 0, 8), locate(0x26, 1, 0)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate bit 3 is ignored", ops: []op{extent(0, 0, 0, 8), locate(0x16, 1, 0), {Cmd: 0x42, In: 512}}, at: 2, device: cio.Ended},
		{name: "locate unknown operation", ops: []op{extent(0, 0, 0, 8), locate(3, 1, 0)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate no block", ops: []op{extent(0, 0, 0, 8), locate(6, 0, 0)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate the last block", ops: []op{extent(0, 0, 0, 8), locate(6, 1, 7), {Cmd: 0x42, In: 512}}, at: 2, device: cio.Ended, in: block(8)},
		{name: "locate over the end of the extent", ops: []op{extent(0, 0, 0, 8), locate(6, 2, 7)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate behind the extent", ops: []op{extent(0, 0, 0, 8), locate(6, 1, 8)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate before the extent", ops: []op{extent(0, 0, 5, 8), locate(6, 1, 4)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "locate wraps", ops: []op{extent(0, 0, 0, 8), locate(6, 2, 0xFFFFFFFF)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "replicated needs a multiple", ops: []op{extent(0, 0, 0, 8), locate(2, 1, 0)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "replicated", ops: []op{extent(0, 0, 0, 8), {Cmd: 0x43, Flags: cc, Out: []byte{2, 4, 0, 2, 0, 0, 0, 0}}, {Cmd: 0x42, In: 1024}},
			at: 2, device: cio.Ended},
		{name: "extent of the whole volume", ops: []op{extent(0, 0, 0, blocks), locate(6, 1, blocks-1), {Cmd: 0x42, In: 512}},
			at: 2, device: cio.Ended, in: block(blocks)},
		{name: "extent over the end", ops: []op{extent(0, 1, 0, blocks)}, device: unitCheck, sense: 0x80},
		{name: "extent behind the end", ops: []op{extent(0, blocks, 0, 1)}, device: unitCheck, sense: 0x80},
		{name: "extent last before first", ops: []op{extent(0, 0, 5, 0)}, device: unitCheck, sense: 0x80},
		{name: "extent wraps", ops: []op{extent(0, 0xFFFFFFFF, 0, 2)}, device: unitCheck, sense: 0x80},
		{name: "extent with a reserved mask bit", ops: []op{extent(0x20, 0, 0, 8)}, device: unitCheck, sense: 0x80},
		{name: "extent with 15 bytes", ops: []op{{Cmd: 0x63, Out: make([]byte, 15)}}, device: unitCheck, sense: 0x80},
		{name: "a second extent", ops: []op{extent(0, 0, 0, 8), extent(0, 0, 0, 8)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "write two blocks", ops: []op{extent(0, 10, 0, 8), locate(5, 2, 3), {Cmd: 0x41, Out: append(block(0xAA), block(0xBB)...)}},
			at: 2, device: cio.Ended, written: map[int]byte{13: 0xAA, 14: 0xBB}},
		{name: "write chained inside a block", ops: []op{extent(0, 0, 0, 8), locate(1, 1, 0),
			{Cmd: 0x41, Flags: cd, Out: block(0xAA)[:5]}, {Cmd: 0x41, Out: block(0xAA)[5:]}},
			at: 3, device: cio.Ended, written: map[int]byte{0: 0xAA}},
		{name: "write of no byte discards [dasd_fba.c]", ops: []op{extent(0, 0, 0, blocks), locate(5, blocks, 0), {Cmd: 0x41, Flags: sli}},
			at: 2, device: cio.Ended, written: allZero(blocks)},
		{name: "write against the mask", ops: []op{extent(0x40, 0, 0, 8), locate(5, 1, 0)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "write located for read", ops: []op{extent(0, 0, 0, 8), locate(6, 1, 0), {Cmd: 0x41, Out: block(0)}}, at: 2, device: unitCheck, sense: 0x80},
		{name: "format against the mask", ops: []op{extent(0, 0, 0, 8), locate(4, 1, 0)}, at: 1, device: unitCheck, sense: 0x80},
		{name: "format", ops: []op{extent(0xC0, 0, 0, 8), locate(4, 1, 0), {Cmd: 3, Flags: sli}}, at: 2, device: cio.Ended},
		{name: "read IPL", ops: []op{{Cmd: 0x02, In: 512}}, device: cio.Ended, in: block(1)},
		{name: "read IPL, then on", ops: []op{{Cmd: 0x02, Flags: cc, In: 512}, {Cmd: 0x42, Flags: sli, In: 512}}, at: 1, device: cio.Ended, in: block(2)},
		{name: "read IPL, then locate", ops: []op{{Cmd: 0x02, Flags: cc, In: 512}, locate(6, 1, 5), {Cmd: 0x42, In: 512}}, at: 2, device: cio.Ended, in: block(6)},
		{name: "read IPL not first", ops: []op{{Cmd: 3, Flags: cc | sli}, {Cmd: 0x02, In: 512}}, at: 1, device: unitCheck, sense: 0x80},
		{name: "reserve answers with sense", ops: []op{{Cmd: 0xB4, In: 24}}, device: cio.Ended, in: make([]byte, 24)},
		{name: "release in an extent", ops: []op{extent(0, 0, 0, 8), {Cmd: 0x94, In: 24}}, at: 1, device: unitCheck, sense: 0x80},
		{name: "unconditional reserve not first", ops: []op{{Cmd: 3, Flags: cc | sli}, {Cmd: 0x14, In: 24}}, at: 1, device: unitCheck, sense: 0x80},
	} {
		t.Run(row.name, func(t *testing.T) {
			base := pattern(blocks)
			img := memory(t, base)
			_, m := newVolume(t, img)
			r := m.Run(t, row.ops...)
			require.Equal(t, row.at, r.At)
			require.Equal(t, row.device, r.Device)
			require.Equal(t, row.channel, r.Channel)
			require.Equal(t, row.count, r.Count)
			if row.sense != 0 {
				require.Equal(t, append([]byte{row.sense}, make([]byte, 23)...), r.Sense)
			} else {
				require.Empty(t, r.Sense)
			}
			if row.in != nil {
				require.Equal(t, row.in, r.In[len(r.In)-1])
			}
			want := pattern(blocks)
			for n, v := range row.written {
				copy(want[n*fba.BlockSize:], block(v))
			}
			got := make([]byte, len(want))
			_, err := img.ReadAt(got, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "image")
			require.True(t, bytes.Equal(pattern(blocks), base), "base")
		})
	}
}

func allZero(n int) map[int]byte {
	m := make(map[int]byte)
	for i := range n {
		m[i] = 0
	}
	return m
}

// TestShortWrite: zeros fill the block that the count ends in, and the located
// blocks behind it.
func TestShortWrite(t *testing.T) {
	img := memory(t, pattern(8))
	_, m := newVolume(t, img)
	r := m.Run(t, extent(0, 0, 0, 8), locate(5, 3, 1), devicetest.Op{Cmd: 0x41, Flags: sli, Out: block(9)[:100]})
	require.Equal(t, cio.Ended, r.Device)
	require.Zero(t, r.Channel)
	require.Equal(t, append(block(9)[:100], make([]byte, 412)...), img.View(512, 512))
	require.Equal(t, make([]byte, 1024), img.View(1024, 1024))
	require.Equal(t, block(5), img.View(4*512, 512))
}

// TestWriteCutShort: a write that the channel ends with a check leaves the
// block that it stopped in as it was.
func TestWriteCutShort(t *testing.T) {
	img := memory(t, pattern(8))
	vol, m := newVolume(t, img)
	_ = vol
	r := m.Run(t, extent(0, 0, 0, 8), locate(5, 2, 0),
		devicetest.Op{Cmd: 0x41, Flags: cd, Out: append(block(9), 1, 2, 3)},
		// The zero count is a program check of the chained CCW.
		devicetest.Op{Cmd: 0x41, Count: 0})
	require.Equal(t, cio.ProgramCheck, r.Channel)
	require.Equal(t, block(9), img.View(0, 512))
	require.Equal(t, block(2), img.View(512, 512))
}

// TestReserve: reserved until released; a reset does not release.
func TestReserve(t *testing.T) {
	vol, m := newVolume(t, memory(t, pattern(8)))
	for _, row := range []struct {
		cmd  cio.Command
		want bool
	}{{0xB4, true}, {0x94, false}, {0x14, true}} {
		m.Run(t, devicetest.Op{Cmd: row.cmd, In: 24})
		require.Equal(t, row.want, vol.Reserved(), "%v", row.cmd)
	}
	vol.Reset()
	require.True(t, vol.Reserved())
}

// TestReadOnly: a write is refused when it is located, write inhibited.
func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(path, pattern(8), 0o400))
	img, err := fba.OpenFile(path, true)
	require.NoError(t, err)
	defer img.Close()
	_, m := newVolume(t, img)
	r := m.Run(t, extent(0, 0, 0, 8), locate(5, 1, 0))
	require.Equal(t, unitCheck, r.Device)
	require.Equal(t, []byte{0x80, 0x02}, r.Sense[:2])
	r = m.Run(t, extent(0, 0, 0, 8), locate(6, 1, 2), devicetest.Op{Cmd: 0x42, In: 512})
	require.Equal(t, block(3), r.In[2])
	require.Error(t, img.Zero(0, 512))
}

// TestFile: what a program wrote is in the file when the program ends.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(path, pattern(300), 0o600))
	img, err := fba.OpenFile(path, false)
	require.NoError(t, err)
	defer img.Close()
	_, m := newVolume(t, img)
	r := m.Run(t, extent(0, 0, 0, 300), locate(5, 1, 7), devicetest.Op{Cmd: 0x41, Out: block(0xEE)})
	require.Equal(t, cio.Ended, r.Device)
	want := pattern(300)
	copy(want[7*512:], block(0xEE))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))

	r = m.Run(t, extent(0, 0, 0, 300), locate(5, 290, 5), devicetest.Op{Cmd: 0x41, Flags: sli})
	require.Equal(t, cio.Ended, r.Device)
	clear(want[5*512 : 295*512])
	got, err = os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))

	// A file that shrank is an equipment check, not the end of the process.
	require.NoError(t, os.Truncate(path, 1024))
	r = m.Run(t, extent(0, 0, 0, 300), locate(6, 1, 7), devicetest.Op{Cmd: 0x42, In: 512})
	require.Equal(t, unitCheck, r.Device)
	require.Equal(t, byte(0x10), r.Sense[0])
}
