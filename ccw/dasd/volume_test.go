package dasd_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
)

// wholeTrack is what a full-track write of n records of size bytes sends.
func wholeTrack(a dasd.Address, n, size int, fill byte) []byte {
	b := append(countField(a, 0, 0, 8), make([]byte, 8)...)
	for r := 1; r <= n; r++ {
		b = append(b, countField(a, uint8(r), 0, size)...)
		b = append(b, bytes.Repeat([]byte{fill + byte(r)}, size)...)
	}
	return append(b, bytes.Repeat([]byte{0xFF}, 8)...)
}

// fullTrack announces a write of the tracks of set, beginning with a.
func fullTrack(a dasd.Address, count uint8, set uint16) []byte {
	b := patch(patch(locatedExtended(dasd.OpExtended, count, a, 0, 0), 17, 0x11), 19, 2)
	return append(b, byte(set>>8), byte(set))
}

// Raw track access as Linux does it: 4B 3F/11 and 95 for each track, then DE.
func TestWriteFullTrack(t *testing.T) {
	d := blankDisk(t, 2, allFeatures)
	a, c := track(0, 14), track(1, 1)
	x, y := wholeTrack(a, 3, 100, 0x10), wholeTrack(c, 12, 4096, 0x40)
	// Tracks 0/14 and 1/1, with 1/0 left alone. The padding of a raw track is
	// behind the end marker.
	d.ok(out(0x63, all), out(0x4B, fullTrack(a, 2, 0xA000)), out(0x95, append(bytes.Clone(x), make([]byte, 500)...)), out(0x95, y))
	r := d.ok(out(0x63, none), out(0x4B, locatedExtended(0x4C, 3, a, 0, 0)), in(0xDE, len(x)), in(0xDE, 24), in(0xDE, len(y)))
	require.Equal(t, x, r.data[2])
	require.Equal(t, y, r.data[4])

	for _, row := range []struct {
		name string
		b    []byte
	}{
		{"no end marker", x[:len(x)-8]},
		{"nothing", x[:0]},
		{"record zero missing", wholeTrack(a, 1, 100, 0)[16:]},
		{"longer than the track", wholeTrack(a, 13, 4096, 0)},
		{"record cut short", x[:50]},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := d.run(out(0x63, all), out(0x4B, fullTrack(a, 1, 0x8000)), op{cmd: 0x95, data: append(row.b[:len(row.b):len(row.b)], 0)}.sli())
			require.Equal(t, "0e 00 0040 00", r.status())
			r = d.ok(out(0x63, none), out(0x4B, locatedExtended(0x4C, 1, a, 0, 0)), in(0xDE, len(x)))
			require.Equal(t, x, r.data[2], "the track as it was")
		})
	}
	r = d.run(out(0x63, extent(dasd.MaskWriteUpdate, a, c)), out(0x4B, fullTrack(a, 1, 0x8000)), out(0x95, x).sli())
	require.Equal(t, "0e 00 8000 02", r.status(), "a mask that allows updates only")
}

// Track data: commands A5 and A6 move the data of records one after the other.
func TestTrackData(t *testing.T) {
	d := blankDisk(t, 2, allFeatures)
	a, b := track(0, 1), track(0, 2)
	for _, x := range []dasd.Address{a, b} {
		d.format(x, 3, 0, 16, 0)
	}
	data := make([]byte, 64)
	for i := range data {
		data[i] = byte(i + 1)
	}
	d.ok(out(0x63, all), out(0x4B, patch(locatedExtended(dasd.OpExtended, 4, a, 2, 16), 17, 0x23)), out(0xA5, data))
	r := d.ok(out(0x63, none), out(0x4B, locatedExtended(dasd.OpReadTracks, 2, a, 2, 64)), in(0xA6, 64))
	require.Equal(t, data, r.data[2])
	r = d.ok(out(0x63, none), out(0x47, located(dasd.OpReadData, 2, b, 1, 0)), in(0x86, 16), in(0x86, 16))
	require.Equal(t, data[32:48], r.data[2], "third and fourth record are on the next track")
}

// Other codes for Write Update Data and Read Data where track data are no
// feature.
func TestTrackDataWithout(t *testing.T) {
	d := prepared(t)
	d.ok(out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0xA5, bytes.Repeat([]byte{7}, 16)))
	r := d.ok(out(0x63, none), out(0x47, located(dasd.OpReadData, 1, t1, 1, 0)), in(0xA6, 16))
	require.Equal(t, bytes.Repeat([]byte{7}, 16), r.data[2])
}

func TestWriteTrackEnds(t *testing.T) {
	// A Write Track domain of one record zero leaves the track without others.
	d := prepared(t)
	d.ok(out(0x63, all), out(0x47, located(dasd.OpWriteTrack, 1, t1, 0, 8)), out(0x05, make([]byte, 8)))
	r := d.run(out(0x07, seekTo(t1)), in(0x12, 8).sli())
	require.Equal(t, "0e 00 0008 00", r.status())
}

func TestErase(t *testing.T) {
	d := prepared(t)
	d.ok(out(0x07, seekTo(t1)), out(0x31, recordID(t1, 1)), backTIC, out(0x11, countField(t1, 2, 0, 0)))
	r := d.ok(out(0x63, none), out(0x47, located(dasd.OpReadData, 2, t1, 0, 0)), in(0x12, 8), in(0x12, 8))
	require.Equal(t, r.data[2], r.data[3], "one record is left")
}

// A track takes as many records as its real capacity, not its slot, allows.
func TestTrackIsFull(t *testing.T) {
	for _, size := range []int{512, 1024, 2048, 4096} {
		d := blankDisk(t, 1, nil)
		n := dasd.RecordsPerTrack(0, size)
		d.format(t1, n, 0, size, 0)
		r := d.run(out(0x07, seekTo(t1)), out(0x31, recordID(t1, uint8(n))), backTIC, out(0x1D, countField(t1, uint8(n+1), 0, size)).sli())
		require.Equal(t, "0e 00 0040 00", r.status(), "record %d of %d bytes", n+1, size)
	}
}

// With concurrent sense off, the device keeps its sense for the Sense command,
// which gives it once.
func TestBasicSense(t *testing.T) {
	d := blankDisk(t, 2, nil)
	pmcw := cio.PMCW(unhex("00c4c00018850120800080800000ff80010000000000000000000000"))
	d.sch = channel.New(d.mem, d.v, pmcw, nil)
	defer d.sch.Close()
	d.ok(out(0x07, seekTo(track(1, 3))))
	r := d.run(out(0x07, seekTo(track(2, 0))))
	require.Equal(t, "0e 00", r.status())
	r = d.ok(in(0x04, 32))
	want := make([]byte, 32)
	want[0], want[7], want[27] = 0x80, 0x04, 0x80
	want[5], want[6], want[30], want[31] = 1, 3, 1, 3
	require.Equal(t, want, r.data[0])
	r = d.ok(in(0x04, 24).sli())
	want[0], want[7] = 0, 0
	require.Equal(t, want[:24], r.data[0], "nothing but where the heads are")
}

func TestPathGroup(t *testing.T) {
	d := blankDisk(t, 1, nil)
	id := append([]byte{0}, "0123456789a"...)
	d.ok(out(0xAF, id))
	r := d.ok(in(0x34, 12))
	require.Equal(t, id, r.data[0])
	require.Equal(t, "0e 00 8000 04", d.run(out(0xAF, patch(id, 5, 'x'))).status(), "another identifier")
	d.ok(in(0xB4, 32))
	require.Equal(t, byte(0x30), d.ok(in(0x34, 12)).data[0][0], "reserved")
	require.Equal(t, byte(0x90), d.ok(in(0x44, 32)).data[0][0], "reserved")
	d.ok(in(0x94, 32))
	require.Equal(t, byte(0), d.ok(in(0x34, 12)).data[0][0])
	d.ok(out(0xAF, patch(id, 0, 0x20)))
	require.Equal(t, make([]byte, 12), d.ok(in(0x34, 12)).data[0], "disbanded")
	d.ok(out(0xAF, patch(id, 5, 'x')))
	d.v.SystemReset()
	require.Equal(t, make([]byte, 12), d.ok(in(0x34, 12)).data[0], "after a system reset")
}

func TestFeatures(t *testing.T) {
	cfg := &dasd.Config{}
	cfg.Features[8] = 0x01 // Prefix
	d := blankDisk(t, 1, cfg)
	r := d.ok(out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0}), in(0x3E, 256))
	require.Equal(t, cfg.Features[:], r.data[1])
}

func TestNames(t *testing.T) {
	require.Equal(t, "DEFINE EXTENT", dasd.Name(0x63))
	require.Equal(t, "", dasd.Name(0x13))
	seen := map[string]cio.Command{}
	for c := range 256 {
		if n := dasd.Name(cio.Command(c)); n != "" {
			require.NotContains(t, seen, n)
			seen[n] = cio.Command(c)
		}
	}
}

// An unformatted volume in memory, of which a guest reads the identification.
func ExampleOpen() {
	img, err := dasd.Blank(dasd.CreateConfig{Cylinders: 100, Serial: "000000000001"})
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := dasd.Open(img, &dasd.Config{DeviceNumber: 0x120})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(v.Serial(), dasd.ModelOf(v.Geometry()).Name)
	fmt.Printf("%x\n", v.SenseID())
	// Output:
	// 000000000001 3390-1
	// ff2107e83390020040fa010041270004423e01a0433e0008
}

func ExampleFromBytes() {
	_, err := dasd.FromBytes(append([]byte("CKD_P370"), make([]byte, 1000)...))
	fmt.Println(err)
	// Output:
	// not a usable 3390 image: invalid argument: device type 0x3300, want 0x3390
}

func ExampleDecodeAddress() {
	fmt.Println(dasd.DecodeAddress(0x0001000E))
	fmt.Println(dasd.DecodeAddress(0x00010012), "of a volume above 65,535 cylinders")
	// Output:
	// cylinder 1 head 14
	// cylinder 65537 head 2 of a volume above 65,535 cylinders
}
