package dasd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/mdev/errs"
)

const cylinderSize = dasd.Heads * dasd.SlotSize

// blankImage is the image file of a new volume of one cylinder.
func blankImage(t testing.TB) []byte {
	m, err := dasd.Blank(dasd.CreateConfig{Cylinders: 1, Serial: "ABC123456789"})
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = m.WriteTo(&b)
	require.NoError(t, err)
	return b.Bytes()
}

// A file that is no image, or not of a 3390, is refused with one line that
// says what is wrong with it.
func TestBadImages(t *testing.T) {
	good := blankImage(t)
	for _, row := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "0 bytes, too short for a device header"},
		{"header only", good[:512], "too short for one cylinder"},
		{"half a header", good[:100], "100 bytes, too short for a device header"},
		{"truncated in a cylinder", append(bytes.Clone(good), good[512:1000]...), "truncated"},
		{"one byte short", good[:len(good)-1], "too short for one cylinder"},
		{"magic", patch(good, 0, 'X'), `magic "XKD_P370"`},
		{"compressed", patch(good, 4, 'C'), "compressed CKD"},
		{"shadow", patch(good, 4, 'S'), "shadow file"},
		{"heads", patch(good, 8, 16), "16 heads, want 15"},
		{"track size", patch(good, 13, 0), "track size 0, want 56832"},
		{"3380", patch(good, 16, 0x80), "device type 0x3380"},
		{"split volume", patch(good, 17, 1), "split over several files"},
		{"home address", patch(good, 512+2, 1), "home address of another track"},
		{"last home address", patch(good, len(good)-dasd.SlotSize+4, 0), "cylinder 0 head 14"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := dasd.FromBytes(row.b)
			require.ErrorIs(t, err, dasd.ErrImage)
			require.ErrorIs(t, err, errs.ErrInvalid)
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "\n")

			path := filepath.Join(t.TempDir(), "bad.ckd")
			require.NoError(t, os.WriteFile(path, row.b, 0o600))
			_, err = dasd.OpenFile(path, nil)
			require.ErrorIs(t, err, dasd.ErrImage)
			require.True(t, strings.HasPrefix(err.Error(), path+": "), err)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, cfg := range []dasd.CreateConfig{
		{Cylinders: 0}, {Cylinders: dasd.MaxCylinders + 1}, {Cylinders: 1, Serial: "short"}, {Cylinders: 1, Serial: "12345678901-"},
	} {
		_, err := dasd.Blank(cfg)
		require.ErrorIs(t, err, errs.ErrInvalid)
		path := filepath.Join(t.TempDir(), "new.ckd")
		_, err = dasd.Create(path, cfg)
		require.ErrorIs(t, err, errs.ErrInvalid)
		require.NoFileExists(t, path)
	}
	path := filepath.Join(t.TempDir(), "there.ckd")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := dasd.Create(path, dasd.CreateConfig{Cylinders: 1})
	require.ErrorIs(t, err, os.ErrExist)
}

// A created file is the image that a blank volume in memory writes.
func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.ckd")
	f, err := dasd.Create(path, dasd.CreateConfig{Cylinders: 1, Serial: "ABC123456789"})
	require.NoError(t, err)
	require.NoError(t, dasd.Check(f))
	require.NoError(t, f.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, blankImage(t), b)
	require.Len(t, b, dasd.HeaderSize+cylinderSize)
}

// A large volume costs what is written to it.
func TestBlankIsSparse(t *testing.T) {
	d := blankDisk(t, dasd.MaxCylinders, nil)
	a := track(200_000, 3)
	d.format(a, 12, 0, 4096, 0)
	r := d.ok(out(0x63, extent(dasd.MaskWriteNone, a, a)), out(0x47, located(dasd.OpReadData, 1, a, 7, 0)), in(0x12, 8))
	require.Equal(t, countField(a, 8, 0, 4096), r.data[2])
	// A cylinder above 65,535 shows in the sense as far as there is room.
	r = d.run(out(0x63, extent(dasd.MaskWriteNone, a, a)), out(0x47, located(dasd.OpReadData, 1, a, 13, 0)))
	require.Equal(t, "0e 00 0008 00", r.status())
	require.Equal(t, []byte{0x0D, 0x40, 0x33}, r.sense[29:], "200000 is 3 * 65536 + 0x0D40")
	require.Equal(t, []byte{0xFF, 0xFF}, r.sense[5:7])
}

// What one image shows after a program, the other shows too: memory with and
// without a base, packed and not, and the file, read back from the disk.
func TestImagesAgree(t *testing.T) {
	base := blankImage(t)
	memory, err := dasd.FromBytes(bytes.Clone(base))
	require.NoError(t, err)
	blank, err := dasd.Blank(dasd.CreateConfig{Cylinders: 1, Serial: "ABC123456789"})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "volume.ckd")
	file, err := dasd.Create(path, dasd.CreateConfig{Cylinders: 1, Serial: "ABC123456789"})
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	var disks []*disk
	for _, img := range []dasd.Image{memory, blank, file} {
		v, err := dasd.Open(img, nil)
		require.NoError(t, err)
		disks = append(disks, newDisk(t, v))
	}
	for range 300 {
		a := track(0, uint16(r.IntN(dasd.Heads)))
		n, size, fill := 1+r.IntN(6), r.IntN(9000), byte(r.IntN(3)*0x40)
		for _, d := range disks {
			d.format(a, n, 0, size, fill)
		}
		b := track(0, uint16(r.IntN(dasd.Heads)))
		var first result
		for i, d := range disks {
			got := d.run(out(0x63, extent(dasd.MaskWriteNone, b, b)), out(0x4B, locatedExtended(0x4C, 1, b, 0, 0)), in(0xDE, 57326).sli())
			if i == 0 {
				first = got
			}
			require.Equal(t, first, got)
		}
	}
	require.NoError(t, file.Close())
	reopened, err := dasd.OpenFile(path, &dasd.FileConfig{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, dasd.Check(reopened))
	for n := uint32(0); n < dasd.Heads; n++ {
		x, err := reopened.Track(n)
		require.NoError(t, err)
		for _, img := range []dasd.Image{memory, blank} {
			y, err := img.Track(n)
			require.NoError(t, err)
			used := bytes.Index(x, bytes.Repeat([]byte{0xFF}, 8))
			require.Equal(t, x[:used+8], y[:used+8])
		}
	}
	require.NoError(t, reopened.Close())

	// What the volume in memory changed is not in its base, and goes again.
	memory.Discard()
	var b bytes.Buffer
	_, err = memory.WriteTo(&b)
	require.NoError(t, err)
	require.Equal(t, base, b.Bytes())
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume.ckd")
	require.NoError(t, os.WriteFile(path, blankImage(t), 0o600))
	img, err := dasd.OpenFile(path, &dasd.FileConfig{ReadOnly: true})
	require.NoError(t, err)
	v, err := dasd.Open(img, nil)
	require.NoError(t, err)
	d := newDisk(t, v)
	a := track(0, 1)
	// GA32-0274, sense byte 1 bit 6: write inhibited.
	r := d.run(out(0x63, extent(0, a, a)), out(0x47, located(dasd.OpFormat, 1, a, 0, 0)), out(0x1D, countField(a, 1, 0, 8)).sli())
	require.Equal(t, "0e 00 1002 04", r.status())
	r = d.run(out(0x07, seekTo(a)), out(0x31, recordID(a, 0)), backTIC, out(0x1D, countField(a, 1, 0, 0)))
	require.Equal(t, "0e 00 1002 10", r.status())
	require.NoError(t, v.Err(), "the image did not fail")
	require.NoError(t, v.Close())
}

// A file that becomes shorter under the volume is an equipment check for the
// guest and an error for the operator.
func TestTruncatedUnderneath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume.ckd")
	require.NoError(t, os.WriteFile(path, blankImage(t), 0o600))
	img, err := dasd.OpenFile(path, nil)
	require.NoError(t, err)
	v, err := dasd.Open(img, nil)
	require.NoError(t, err)
	d := newDisk(t, v)
	require.NoError(t, os.Truncate(path, 1000))
	for range 2 {
		r := d.run(out(0x07, seekTo(track(0, 7))))
		require.Equal(t, "0e 00 1000 10", r.status())
		require.ErrorIs(t, v.Err(), errs.ErrFault)
		require.ErrorContains(t, v.Err(), "cylinder 0 head 7")
	}
}

// A track that is none is a unit check, and another track is not affected.
func TestDamagedTracks(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(slot []byte)
		want   string
	}{
		{"home address", func(s []byte) { s[1] = 9 }, "0e 00 0040 00"},
		{"record past the end", func(s []byte) { binary.BigEndian.PutUint16(s[11:], 0xFFF0) }, "0e 00 1000 10"},
		{"no end marker", func(s []byte) { clear(s[29-8:]) }, "0e 00 1000 10"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := blankImage(t)
			row.damage(b[dasd.HeaderSize+dasd.SlotSize:][:dasd.SlotSize])
			img, err := dasd.FromBytes(b)
			require.NoError(t, err)
			require.ErrorIs(t, dasd.Check(img), dasd.ErrImage)
			v, err := dasd.Open(img, nil)
			require.NoError(t, err)
			d := newDisk(t, v)
			r := d.run(out(0x07, seekTo(track(0, 1))), in(0x06, 8).sli())
			require.Equal(t, row.want, r.status())
			r = d.run(out(0x07, seekTo(track(0, 2))), in(0x06, 8).sli())
			require.Equal(t, "0e 00 0008 00", r.status())
		})
	}
}

// failing is an image of which the nth call that can fail does.
type failing struct {
	dasd.Image
	calls, nth int
}

var errBroken = errors.New("head crash")

func (f *failing) hit() bool { f.calls++; return f.calls == f.nth }

func (f *failing) Track(n uint32) ([]byte, error) {
	if f.hit() {
		return nil, errBroken
	}
	return f.Image.Track(n)
}

func (f *failing) Edit(n uint32) ([]byte, error) {
	if f.hit() {
		return nil, errBroken
	}
	return f.Image.Edit(n)
}

func (f *failing) Commit(n uint32, first, end int) error {
	if f.hit() {
		return errBroken
	}
	return f.Image.Commit(n, first, end)
}

// Fail the nth: whichever call of the image fails, the guest gets an equipment
// check, the operator the reason, and the next program works.
func TestImageFails(t *testing.T) {
	for name, ops := range map[string][]op{
		"format":     {out(0x63, all), out(0x47, located(dasd.OpFormat, 2, t1, 0, 0)), out(0x1D, countField(t1, 1, 0, 8)).sli(), out(0x9D, countField(track(0, 2), 1, 0, 8)).sli()},
		"update":     {out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0x85, make([]byte, 16))},
		"erase":      {out(0x07, seekTo(t1)), out(0x31, recordID(t1, 1)), backTIC, out(0x11, countField(t1, 2, 0, 0))},
		"full track": {out(0x63, all), out(0x4B, fullTrack(t1, 1, 0x8000)), out(0x95, wholeTrack(t1, 1, 8, 0))},
		"read":       {out(0x63, none), out(0x47, located(dasd.OpReadData, 4, t1, 1, 0)), in(0x86, 16), in(0x86, 16), in(0x86, 16), in(0x86, 16)},
	} {
		t.Run(name, func(t *testing.T) {
			for nth := 1; ; nth++ {
				img, err := dasd.Blank(dasd.CreateConfig{Cylinders: 2, Serial: "000000000042"})
				require.NoError(t, err)
				f := &failing{Image: img}
				v, err := dasd.Open(f, allFeatures)
				require.NoError(t, err)
				d := newDisk(t, v)
				d.format(t1, 3, 0, 16, 0x10)
				d.format(track(0, 2), 3, 0, 16, 0x20)
				f.calls, f.nth = 0, nth
				r := d.run(ops...)
				if f.calls < nth {
					require.Equal(t, "0c 00", r.status())
					require.Greater(t, nth, 1)
					return
				}
				require.Equal(t, cio.Ended|cio.UnitCheck, r.Device())
				require.Equal(t, []byte{0x10, 0x00}, r.sense[:2], "equipment check")
				require.ErrorIs(t, v.Err(), errBroken)
				require.NoError(t, dasd.Check(img))
				d.format(t1, 3, 0, 16, 0x30)
			}
		})
	}
}
