package dasd

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// Oracle: every layout decodes all patterns and encodes them back.
func FuzzLayouts(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add(bytes.Repeat([]byte{0xFF}, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(b, make([]byte, 32)...)
		e := DecodeExtent((*[ExtentSize]byte)(b))
		var eb [ExtentSize]byte
		e.Encode(&eb)
		require.Equal(t, b[:ExtentSize], eb[:])

		l := DecodeLocateExtended((*[LocateExtendedSize]byte)(b))
		var lb [LocateExtendedSize]byte
		l.Encode(&lb)
		require.Equal(t, b[:LocateExtendedSize], lb[:])

		p := DecodePrefix((*[prefixExtentAt]byte)(b))
		var pb [prefixExtentAt]byte
		p.Encode(&pb)
		require.Equal(t, b[:prefixExtentAt], pb[:])

		o := DecodeOrder((*[OrderSize]byte)(b))
		var ob [OrderSize]byte
		o.Encode(&ob)
		require.Equal(t, b[:OrderSize], ob[:])

		c := DecodeCount((*[countSize]byte)(b))
		var cb [countSize]byte
		c.Encode(&cb)
		require.Equal(t, b[:countSize], cb[:])
	})
}

// The examples of Linux: dasd_eckd_analysis_ccw and the programs of dasdfmt,
// as the recordings hold them.
func TestLayoutsOfRecordings(t *testing.T) {
	e := DecodeExtent((*[ExtentSize]byte)([]byte("\x40\xc0\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01")))
	require.Equal(t, Extent{Mask: MaskWriteNone, Attributes: 0xC0, Extended: 0x40, Last: 1}, e)
	l := DecodeLocateExtended((*[LocateExtendedSize]byte)([]byte("\x3f\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x04\x00\xff\x00\x00\x00\x11\x00\x02")))
	require.Equal(t, Locate{Operation: OpExtended, Count: 1, Seek: 4, Search: [5]byte{3: 4}, Sector: 0xFF, Extended: OpWriteFullTrack, ParamSize: 2}, l)
	require.Equal(t, OrientHome, Operation(0x4C).Orientation())
	require.Equal(t, OpReadTracks, Operation(0x4C).Code())
}

func TestCapacity(t *testing.T) {
	// GC26-4574, "Track Capacity", and what Linux computes.
	for _, row := range []struct{ key, data, records int }{
		{0, 512, 49}, {0, 1024, 33}, {0, 2048, 21}, {0, 4096, 12}, {0, 56664, 1}, {0, 56665, 0}, {0, 27998, 2}, {0, 27999, 1},
		{44, 96, 50}, {8, 4096, 11}, {0, 0, 86},
	} {
		require.Equal(t, row.records, RecordsPerTrack(row.key, row.data), "key %d data %d", row.key, row.data)
	}
	// No number of records that fit a track leaves its slot.
	for data := 0; data <= MaxRecord; data++ {
		for _, key := range []int{0, 1, 255} {
			if n := RecordsPerTrack(key, data); blankSize+n*(countSize+key+data) > SlotSize {
				t.Fatalf("%d records of key %d data %d", n, key, data)
			}
		}
	}
}

func TestAddress(t *testing.T) {
	for _, row := range []struct {
		cchh uint32
		a    Address
	}{
		{0, Address{}}, {0x0001000E, Address{1, 14}}, {0xFFFF0000, Address{65535, 0}},
		{0x00000010, Address{65536, 0}}, {0x0123456E, Address{0x4560123, 14}}, {0xFFFFFFFF, Address{0xFFFFFFF, 15}},
	} {
		require.Equal(t, row.a, DecodeAddress(row.cchh))
		require.Equal(t, row.cchh, row.a.Encode())
	}
	g := Geometry{Cylinders: 70000}
	for n := uint32(0); n < g.Tracks(); n += 997 {
		a := AddressOf(n)
		require.Equal(t, n, a.Track())
		require.Equal(t, a, DecodeAddress(a.Encode()))
		require.True(t, g.Contains(a))
	}
	require.False(t, g.Contains(Address{70000, 0}))
	require.False(t, g.Contains(Address{0, 15}))
}

func TestModels(t *testing.T) {
	for _, row := range []struct {
		cylinders uint32
		name      string
	}{
		{1, "3390-1"}, {60, "3390-1"}, {1113, "3390-1"}, {1114, "3390-1"}, {1115, "3390-2"}, {2226, "3390-2"}, {3339, "3390-3"},
		{10017, "3390-9"}, {32760, "3390-27"}, {65520, "3390-54"}, {65524, "3390-A"}, {MaxCylinders, "3390-A"},
	} {
		require.Equal(t, row.name, ModelOf(Geometry{row.cylinders}).Name, "%d cylinders", row.cylinders)
	}
}

// Read Device Characteristics of volumes that the recordings do not have.
func TestCharacteristics(t *testing.T) {
	id := newIdentity(Geometry{1114}, [12]byte{}, 0)
	require.Equal(t, []byte{0x04, 0x59}, id.characteristics[12:14], "primary cylinders")
	require.Equal(t, []byte{0x04, 0x59, 0, 15}, id.characteristics[28:32], "alternate tracks")
	id = newIdentity(Geometry{100000}, [12]byte{}, 0)
	require.Equal(t, []byte{0xFF, 0xFE}, id.characteristics[12:14], "cylinders, 16 bits")
	require.Equal(t, []byte{0, 1, 0x86, 0xA0}, id.characteristics[60:64], "cylinders, 32 bits")
	require.Equal(t, byte(0x0C), id.id[6], "model")
}

// Oracle: a slot that is a track unpacks to the same bytes up to its end
// marker, and pack never takes a slot that is none.
func FuzzPack(f *testing.F) {
	f.Add(uint32(7), []byte{0, 0, 0, 0, 1, 0, 0, 4, 1, 2, 3, 4})
	f.Add(uint32(0), bytes.Repeat([]byte{0xFF}, 16))
	f.Fuzz(func(t *testing.T, n uint32, records []byte) {
		slot := make([]byte, SlotSize)
		putBlank(slot, AddressOf(n%1000))
		copy(slot[blankSize-markerSize:], records)
		b, ok := pack(nil, slot)
		valid := checkSlot(slot, AddressOf(n%1000)) == nil
		if !valid {
			require.False(t, ok)
			return
		}
		if !ok {
			return
		}
		require.LessOrEqual(t, len(b), maxPacked)
		got := bytes.Repeat([]byte{0x5A}, SlotSize)
		unpack(got, b)
		used := usedBytes(slot)
		require.Equal(t, slot[:used], got[:used])
	})
}
