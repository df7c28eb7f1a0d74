package fba_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/mdev/errs"
)

// TestBadImages: each kind of file that is no image gets its own reason.
func TestBadImages(t *testing.T) {
	dir := t.TempDir()
	pack := func(n int) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(make([]byte, n))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return b.Bytes()
	}
	cut := pack(512)
	pad := func(s string) []byte { return append([]byte(s), make([]byte, 512-len(s))...) }
	for _, row := range []struct {
		name    string
		content []byte
		open    string // error of OpenFile
		load    string // error of Load
	}{
		{"empty", nil, "holds no block", "holds no block"},
		{"half", make([]byte, 700), "ends inside a block", "ends inside a block"},
		{"ckd", pad("CKD_P370"), "a CKD image, not a raw image", "a CKD image, not a raw image"},
		{"cfba", pad("FBA_C370"), "a compressed FBA image", "a compressed FBA image"},
		{"zstd", pad("\x28\xb5\x2f\xfd"), "zstd", "zstd"},
		{"gz", pad("\x1f\x8b\x08"), "gzip", "gzip"},
		{"bad.gz", []byte("hello, world"), "ends inside", "gzip: invalid header"},
		{"short.gz", cut[:len(cut)-6], "ends inside", "unexpected EOF"},
		{"large.gz", pack(64 << 10), "ends inside", "more than 4096 bytes"},
	} {
		path := filepath.Join(dir, row.name)
		require.NoError(t, os.WriteFile(path, row.content, 0o600))
		_, err := fba.OpenFile(path, false)
		require.ErrorContains(t, err, row.open, row.name)
		require.ErrorContains(t, err, path)
		_, err = fba.Load(path, 4096)
		require.ErrorContains(t, err, row.load, row.name)
		require.ErrorContains(t, err, path)
	}
	_, err := fba.OpenFile(dir, true)
	require.ErrorContains(t, err, "not a regular file")
	_, err = fba.OpenFile(filepath.Join(dir, "none"), false)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = fba.Load(filepath.Join(dir, "none"), 0)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = fba.NewMemory(make([]byte, 513))
	require.ErrorIs(t, err, errs.ErrInvalid)
	_, err = fba.Open(sizeOnly(-512), nil)
	require.ErrorIs(t, err, errs.ErrInvalid)
	_, err = fba.Open(sizeOnly((fba.MaxBlocks+1)*fba.BlockSize), nil)
	require.ErrorIs(t, err, errs.ErrInvalid)
}

// sizeOnly is an image of a size that holds nothing.
type sizeOnly int64

func (s sizeOnly) Size() int64                       { return int64(s) }
func (s sizeOnly) ReadOnly() bool                    { return false }
func (s sizeOnly) ReadAt([]byte, int64) (int, error) { return 0, os.ErrInvalid }
func (s sizeOnly) WriteAt([]byte, int64) (int, error) {
	return 0, os.ErrInvalid
}

// TestModels: the drive follows the size of the image, unless told.
func TestModels(t *testing.T) {
	for _, row := range []struct {
		blocks int64
		model  uint8
	}{{1, 0}, {558000, 0}, {558001, 4}, {712752, 4}, {fba.MaxBlocks, 4}} {
		vol, err := fba.Open(sizeOnly(row.blocks*fba.BlockSize), nil)
		require.NoError(t, err)
		require.Equal(t, uint32(row.blocks), vol.Blocks())
		id := identify(t, vol)
		require.Equal(t, []byte{0xff, 0x38, 0x80, 0x01, 0x33, 0x70, row.model}, id)
	}
	vol, err := fba.Open(sizeOnly(512), &fba.Config{Model: fba.Model{ControlU: 0x6310, ControlM: 1, Device: 0x9336, DeviceM: 0x10}})
	require.NoError(t, err)
	require.Equal(t, []byte{0xff, 0x63, 0x10, 0x01, 0x93, 0x36, 0x10}, identify(t, vol))
}

// TestModelOf: for each type the drive that SDL-Hyperion (dasdtab.c) makes of an
// image of some size, with the characteristics that follow from it.
func TestModelOf(t *testing.T) {
	for _, row := range []struct {
		name   string
		device uint16
		blocks uint32
		id     [7]byte
		rdc    [14]byte // the first bytes: modes, class, type, block size, group, position
	}{
		{"3370 of any size up to 558000 blocks", fba.Drive3370, 1000, [7]byte{0xff, 0x38, 0x80, 1, 0x33, 0x70, 0}, [14]byte{0x30, 8, 0x21, 2, 2, 0, 0, 0, 0, 62, 0, 0, 2, 0xe8}},
		{"3370 beyond the largest", fba.Drive3370, 1 << 24, [7]byte{0xff, 0x38, 0x80, 1, 0x33, 0x70, 4}, [14]byte{0x30, 8, 0x21, 5, 2, 0, 0, 0, 0, 62, 0, 0, 2, 0xe8}},
		{"9336-10", fba.Drive9336, 920115, [7]byte{0xff, 0x63, 0x10, 1, 0x93, 0x36, 0}, [14]byte{0x30, 8, 0x21, 0x11, 2, 0, 0, 0, 0, 63, 0, 0, 1, 0x3b}},
		{"9336-20", fba.Drive9336, 920116, [7]byte{0xff, 0x63, 0x10, 1, 0x93, 0x36, 0x10}, [14]byte{0x30, 8, 0x21, 0x11, 2, 0, 0, 0, 0, 111, 0, 0, 3, 9}},
		{"9336 beyond the largest", fba.Drive9336, 1 << 24, [7]byte{0xff, 0x63, 0x10, 1, 0x93, 0x36, 0x10}, [14]byte{0x30, 8, 0x21, 0x11, 2, 0, 0, 0, 0, 111, 0, 0, 3, 9}},
		{"3310 behind a 4331", fba.Drive3310, 64, [7]byte{0xff, 0x43, 0x31, 1, 0x33, 0x10, 1}, [14]byte{0x30, 8, 0x21, 1, 2, 0, 0, 0, 0, 32, 0, 0, 1, 0x60}},
		{"0671-4", fba.Drive0671, 600000, [7]byte{0xff, 0x63, 0x10, 1, 0x06, 0x71, 4}, [14]byte{0x30, 8, 0x21, 0x12, 2, 0, 0, 0, 0, 63, 0, 0, 1, 0xf8}},
	} {
		m, ok := fba.ModelOf(row.device, row.blocks)
		require.True(t, ok, row.name)
		vol, err := fba.Open(sizeOnly(int64(row.blocks)*fba.BlockSize), &fba.Config{Model: m})
		require.NoError(t, err, row.name)
		require.Equal(t, row.id[:], vol.SenseID(), row.name)
		require.Equal(t, row.id[:], identify(t, vol), row.name)
		rdc := characteristics(t, vol)
		require.Equal(t, row.rdc[:], rdc[:14], row.name)
		require.Equal(t, row.blocks, binary.BigEndian.Uint32(rdc[14:]), row.name)
		require.Equal(t, make([]byte, 14), rdc[18:], row.name)
	}
	_, ok := fba.ModelOf(0x3390, 1)
	require.False(t, ok)
}

// TestMemory compares a copy-on-write image with a byte slice. Oracle: the
// slice; and the base never changes.
func TestMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.IntRange(1, 400).Draw(t, "blocks")
		base := pattern(blocks)
		img, err := fba.NewMemory(base)
		require.NoError(t, err)
		want := pattern(blocks)
		size := len(want)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				off := rapid.IntRange(0, size-1).Draw(t, "off")
				n := rapid.IntRange(0, min(size-off, 3000)).Draw(t, "n")
				p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "value")}, n)
				done, err := img.WriteAt(p, int64(off))
				require.NoError(t, err)
				require.Equal(t, n, done)
				copy(want[off:], p)
			},
			"zero": func(t *rapid.T) {
				off := rapid.IntRange(0, size-1).Draw(t, "off")
				n := rapid.IntRange(0, size-off).Draw(t, "n")
				require.NoError(t, img.Zero(int64(off), int64(n)))
				clear(want[off : off+n])
			},
			"beyond": func(t *rapid.T) {
				off := rapid.Int64Range(int64(size), 1<<62).Draw(t, "off")
				_, err := img.WriteAt([]byte{1}, off)
				require.Error(t, err)
				require.Error(t, img.Zero(off, 1))
				require.Nil(t, img.View(off, 1))
				n, err := img.ReadAt([]byte{1}, off)
				require.Error(t, err)
				require.Zero(t, n)
			},
			"": func(t *rapid.T) {
				got := make([]byte, size)
				_, err := img.ReadAt(got, 0)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
				require.True(t, bytes.Equal(pattern(blocks), base))
			},
		})
	})
}
