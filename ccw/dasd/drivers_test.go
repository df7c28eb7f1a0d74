package dasd_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/dasd"
)

// prefixed is the parameter of Prefix: an extent, and a Locate Record Extended
// in format 1.
func prefixed(format byte, extent, locate []byte) []byte {
	b := make([]byte, dasd.PrefixSize)
	b[0], b[1] = format, 0x80
	copy(b[12:], extent)
	if len(locate) > 20 {
		b = append(b, make([]byte, len(locate)-20)...)
	}
	copy(b[44:], locate)
	return b
}

// TestDrivers has a row for each program that dasd_eckd.c builds with Prefix
// and for what SDL-Hyperion (ckddasd.c) says of it: how it ends, the residual of
// the last CCW, the sense, and what was read last.
func TestDrivers(t *testing.T) {
	t1 := track(0, 1)
	read, write := extent(dasd.MaskWriteNone, t1, track(0, 5)), extent(dasd.MaskWriteUpdate, t1, track(0, 5))
	lre := func(o dasd.Operation, n uint8, r uint8, length uint16) []byte {
		return locatedExtended(o, n, t1, r, length)
	}
	count := func(a dasd.Address, r uint8) []byte { return countField(a, r, 0, 16) }
	row := func(r byte) []byte { return bytes.Repeat([]byte{r}, 16) }
	whole := func() []byte {
		b := append(countField(t1, 0, 0, 8), make([]byte, 8)...)
		for r := byte(1); r <= 3; r++ {
			b = append(append(b, count(t1, r)...), row(0x10+r)...)
		}
		return append(b, bytes.Repeat([]byte{0xff}, 8)...)
	}()
	for _, row := range []struct {
		name   string
		ops    []op
		want   string
		resid  uint16
		data   []byte
		ending int // which of the ops ended the program; 0 is the last
	}{
		{name: "prefix, format 0: 47, 86", ops: []op{out(0xE7, prefixed(0, read, nil)), out(0x47, located(dasd.OpReadData, 1, t1, 2, 16)), in(0x86, 16)},
			want: "0c 00", data: row(0x12)},
		{name: "prefix_LRE, format 1: 86 of two records", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadData, 2, 1, 16))), in(0x86, 16), in(0x86, 16)},
			want: "0c 00", data: row(0x12)},
		{name: "prefix_LRE: a transfer length above the block size", ops: []op{out(0xE7, prefixed(1, patch(read, 3, 8), lre(dasd.OpReadData, 1, 1, 16)))},
			want: "0e 00 8000 04"},
		{name: "prefix_LRE: a record that is not there", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadData, 1, 9, 16)))},
			want: "0e 00 0008 00"},
		{name: "prefix_LRE: a domain left early", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadData, 2, 1, 16))), in(0x86, 16)},
			want: "0e 00 8100 00", data: row(0x11)},
		{name: "prefix_LRE: a read in a domain of track reads", ops: []op{out(0xE7, prefixed(1, read, lre(0x4C, 1, 0, 0))), in(0x86, 16)},
			want: "0e 00 8000 02"},
		{name: "prefix_LRE: 85 in a domain of writes, then the next record", ops: []op{out(0xE7, prefixed(1, write, lre(dasd.OpWriteData, 2, 1, 16))), out(0x85, row(0x11)), out(0x85, row(0x12))},
			want: "0c 00"},
		{name: "prefix_LRE: 85 of another length than announced", ops: []op{out(0xE7, prefixed(1, write, lre(dasd.OpWriteData, 1, 1, 20))), out(0x85, row(0x11))},
			want: "0e 00 0040 00"},
		{name: "prefix_LRE: 85 with a count above the record", ops: []op{out(0xE7, prefixed(1, write, lre(dasd.OpWriteData, 1, 1, 16))), out(0x85, append(row(0x11), 1, 2)).sli()},
			want: "0c 00", resid: 2},
		{name: "dasd_eckd_build_cp_raw: DE, residual of a whole track", ops: []op{out(0xE7, prefixed(1, read, lre(0x4C, 1, 0, 0))), in(0xDE, 57326).sli()},
			want: "0c 00", resid: 57326 - uint16(len(whole)), data: whole},
		{name: "dasd_eckd_build_cp_raw: DE of two tracks", ops: []op{out(0xE7, prefixed(1, read, lre(0x4C, 2, 0, 0))), in(0xDE, 57326).sli(), in(0xDE, 57326).sli()},
			want: "0c 00", resid: 57326 - 8 - 16 - (8 + 4 + 8)},
		{name: "dasd_eckd_build_cp_raw: DE beyond the extent", ops: []op{out(0xE7, prefixed(1, extent(dasd.MaskWriteNone, t1, t1), lre(0x4C, 2, 0, 0))), in(0xDE, 57326).sli(), in(0xDE, 57326).sli()},
			want: "0e 00 0004 00", resid: 57326},
		{name: "DE after something else than a locate", ops: []op{out(0xE7, prefixed(1, read, lre(0x4C, 2, 0, 0))), in(0xDE, 57326).sli(), in(0x03, 0), in(0xDE, 9).sli()},
			want: "0e 00 8000 02", ending: 2},
		{name: "DE without SLI: the rest of the count is incorrect length", ops: []op{out(0xE7, prefixed(1, read, lre(0x4C, 1, 0, 0))), in(0xDE, len(whole)+1)},
			want: "0c 40", resid: 1},
		{name: "DE without SLI: more track than count", ops: []op{out(0xE7, prefixed(1, read, lre(0x4C, 1, 0, 0))), in(0xDE, len(whole)-1)},
			want: "0c 40", data: whole[:len(whole)-1]},
		{name: "dasd_eckd_build_check: 92 goes on at the next track", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadData, 4, 0, 0))), in(0x92, 8), in(0x92, 8), in(0x92, 8), in(0x92, 8)},
			want: "0c 00", data: countField(track(0, 2), 1, 4, 8)},
		{name: "dasd_eckd_build_check: 12 goes round its track, once", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadData, 7, 0, 0))), in(0x12, 8), in(0x12, 8), in(0x12, 8), in(0x12, 8), in(0x12, 8), in(0x12, 8), in(0x12, 8)},
			want: "0e 40 0008 00", resid: 8},
		{name: "dasd_eckd_build_cp_raw: 3F+11 where the unit cannot", ops: []op{out(0xE7, prefixed(1, all, append(patch(patch(lre(dasd.OpExtended, 1, 0, 0), 17, 0x11), 19, 2), 0x80, 0)))},
			want: "0e 00 8000 04"},
		{name: "A6 where the unit cannot: 0C is for DE", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadTracks, 1, 1, 16))), in(0xA6, 48)},
			want: "0e 00 8000 02"},
		{name: "prefix: no extent, none before", ops: []op{out(0xE7, patch(prefixed(1, read, lre(dasd.OpReadData, 1, 1, 16)), 1, 0))}, want: "0e 00 8000 02"},
		{name: "prefix: no extent, one before", ops: []op{out(0x63, read), out(0xE7, patch(prefixed(1, read, lre(dasd.OpReadData, 1, 1, 16)), 1, 0)), in(0x86, 16)}, want: "0c 00"},
		{name: "prefix: verify base and hyper PAV of a base are nothing to do", ops: []op{out(0xE7, patch(prefixed(1, read, lre(dasd.OpReadData, 1, 1, 16)), 1, 0xB0)), in(0x86, 16)}, want: "0c 00"},
		{name: "prefix of 63 bytes", ops: []op{out(0xE7, prefixed(0, read, nil)[:63])}, want: "0e 00 8000 03"},
		{name: "prefix of an unknown format", ops: []op{out(0xE7, prefixed(3, read, nil))}, want: "0e 00 8000 04"},
		{name: "prefix in a domain", ops: []op{out(0xE7, prefixed(1, read, lre(dasd.OpReadData, 2, 1, 16))), out(0xE7, prefixed(0, read, nil))}, want: "0e 00 8000 02"},
		{name: "dasd_eckd_performance: 27, 3E of the subsystem", ops: []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0}), in(0x3E, 192)}, want: "0c 00"},
		{name: "dasd_eckd_read_vol_info: suborder 52 is not known", ops: []op{out(0x27, []byte{0x18, 0, 0, 0, 1, 0x20, 0x52, 0, 0, 0, 0, 0})}, want: "0e 00 8000 04"},
		{name: "dasd_eckd_query_host_access: suborder 1C of a unit", ops: []op{out(0x27, []byte{0x18, 0, 0, 0, 1, 0x20, 0x1C, 0, 0, 0, 0, 0}).sli(), in(0x3E, 4096).sli()}, want: "0c 00", resid: 4096 - 52},
		{name: "an order of the cache, short", ops: []op{out(0x27, make([]byte, 13)).sli(), in(0x03, 0)}, want: "0e 00 8000 04", ending: 0},
		{name: "an order of 14 bytes, short", ops: []op{out(0x27, append([]byte{0x10}, make([]byte, 12)...))}, want: "0e 00 8000 03"},
		{name: "an order of 14 bytes", ops: []op{out(0x27, append([]byte{0x10}, make([]byte, 13)...))}, want: "0e 00 8000 04"},
		{name: "dasd_eckd_reserve: B4 of 32 bytes", ops: []op{in(0xB4, 32).sli()}, want: "0c 00"},
		{name: "dasd_eckd_snid: 34 of 12 bytes", ops: []op{in(0x34, 12).sli()}, want: "0c 00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := prepared(t)
			r := d.run(row.ops...)
			require.Equal(t, row.want, r.status())
			require.Equal(t, row.resid, r.Count(), "residual")
			if row.data != nil {
				require.Equal(t, row.data, r.data[len(row.ops)-1][:len(row.data)])
			}
		})
	}
}

// TestVolumeSizes: what Read Device Characteristics and Sense ID say of volumes
// of all sizes that dasdinit makes, and of odd ones (SDL-Hyperion dasdtab.c), and
// from which size on the sense bytes have no place for the cylinder.
func TestVolumeSizes(t *testing.T) {
	for _, row := range []struct {
		name       string
		cylinders  uint32
		model, typ byte
		primary    uint16
		alternate  []byte // bytes 28 to 31
		sense5     [2]byte
	}{
		{"3390-1", 1113, 0x02, 0x26, 1113, make([]byte, 4), [2]byte{1, 0x02}},
		{"3390-1 with its alternate cylinder", 1114, 0x02, 0x26, 1113, []byte{4, 0x59, 0, 15}, [2]byte{1, 0x02}},
		{"odd: more than a 3390-1 is a 3390-2", 1115, 0x06, 0x27, 1115, make([]byte, 4), [2]byte{1, 0x02}},
		{"3390-2 with its alternate cylinder", 2227, 0x06, 0x27, 2226, []byte{8, 0xB2, 0, 15}, [2]byte{1, 0x02}},
		{"3390-3", 3339, 0x0A, 0x24, 3339, make([]byte, 4), [2]byte{1, 0x02}},
		{"the last with a cylinder in sense bytes 5 and 6", 4095, 0x0C, 0x32, 4095, make([]byte, 4), [2]byte{1, 0x02}},
		{"the first without", 4096, 0x0C, 0x32, 4096, make([]byte, 4), [2]byte{0xff, 0xff}},
		{"3390-9", 10017, 0x0C, 0x32, 10017, make([]byte, 4), [2]byte{0xff, 0xff}},
		{"3390-9 with its alternate cylinders", 10020, 0x0C, 0x32, 10017, []byte{0x27, 0x21, 0, 45}, [2]byte{0xff, 0xff}},
		{"3390-27", 32760, 0x0C, 0x32, 32760, make([]byte, 4), [2]byte{0xff, 0xff}},
		{"3390-54", 65520, 0x0C, 0x32, 65520, make([]byte, 4), [2]byte{0xff, 0xff}},
	} {
		t.Run(row.name, func(t *testing.T) {
			img, err := dasd.Blank(dasd.CreateConfig{Cylinders: row.cylinders, Serial: "000000000042"})
			require.NoError(t, err)
			v, err := dasd.Open(img, nil)
			require.NoError(t, err)
			d := newDisk(t, v)
			rdc := d.ok(in(0x64, 64)).data[0]
			require.Equal(t, row.model, rdc[5])
			require.Equal(t, row.typ, rdc[11])
			require.Equal(t, row.primary, binary.BigEndian.Uint16(rdc[12:]))
			require.Equal(t, uint32(row.primary), binary.BigEndian.Uint32(rdc[60:]))
			require.Equal(t, row.alternate, rdc[28:32])
			require.Equal(t, "20 e0", fmt.Sprintf("%02x %02x", rdc[10], rdc[16]))
			require.Equal(t, row.model, d.ok(in(0xE4, 24)).data[0][6])
			a := track(1, 2)
			r := d.run(out(0x07, seekTo(a)), in(0x06, 8).sli())
			require.Equal(t, "0e 00 0008 00", r.status())
			require.Equal(t, row.sense5[:], r.sense[5:7])
			require.Equal(t, []byte{0, 1, 2}, r.sense[29:32])
		})
	}
}

// A path group that an earlier system left is told, kept, and in the way of
// another one.
func TestPathGroupOfBefore(t *testing.T) {
	group := [11]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	d := blankDisk(t, 1, &dasd.Config{PathGroup: group})
	require.Equal(t, append([]byte{0}, group[:]...), d.ok(in(0x34, 12)).data[0])
	d.ok(out(0xAF, append([]byte{0}, group[:]...)))
	other := group
	other[0]++
	require.Equal(t, "0e 00 8000 04", d.run(out(0xAF, append([]byte{0}, other[:]...))).status())
	d.ok(out(0xAF, append([]byte{0x40}, group[:]...)))
	d.ok(out(0xAF, append([]byte{0}, other[:]...)))
	require.Equal(t, append([]byte{0}, other[:]...), d.ok(in(0x34, 12)).data[0])
}
