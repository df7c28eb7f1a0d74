package wire_test

import (
	"bytes"
	"testing"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// FuzzWire: whatever the bytes, decoding and encoding give them back, and a
// line about them can be printed.
func FuzzWire(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add(wire.Header{ID: 1, Command: wire.CmdDMAMap, Size: 48}.Append(nil))
	f.Add(append(wire.Header{Command: wire.CmdRegionRead, Size: 32}.Append(nil),
		wire.RegionAccess{Region: 7, Count: 4}.Append(nil)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= wire.HeaderLen {
			h := wire.DecodeHeader((*[wire.HeaderLen]byte)(data))
			if wire.Text(h, data[wire.HeaderLen:]) == "" {
				t.Fatal("no text")
			}
			h.Flags &^= wire.Error
			h.Command %= wire.MaxCommand + 1
			_ = wire.Text(h, data[wire.HeaderLen:])
		}
		check(t, data, wire.DecodeHeader)
		check(t, data, wire.DecodeVersion)
		check(t, data, wire.DecodeDMAMap)
		check(t, data, wire.DecodeDMAUnmap)
		check(t, data, wire.DecodeBitmap)
		check(t, data, wire.DecodeDMAAccess)
		check(t, data, wire.DecodeDeviceInfo)
		check(t, data, wire.DecodeRegionInfo)
		check(t, data, wire.DecodeCapHeader)
		check(t, data, wire.DecodeIRQInfo)
		check(t, data, wire.DecodeSetIRQs)
		check(t, data, wire.DecodeRegionAccess)
		check(t, data, wire.DecodeMultiEntry)
		check(t, data, wire.DecodeIOFDs)
		check(t, data, wire.DecodeIOFD)
		check(t, data, wire.DecodeDeviceFeature)
		check(t, data, wire.DecodeMigration)
		check(t, data, wire.DecodeMigState)
		check(t, data, wire.DecodeLogStart)
		check(t, data, wire.DecodeLogRange)
		check(t, data, wire.DecodeLogReport)
		check(t, data, wire.DecodeMigData)
	})
}

// array is the arrays that structures decode from.
type array interface {
	[4]byte | [8]byte | [16]byte | [20]byte | [24]byte | [32]byte | [40]byte
}

func check[A array, S appender](t *testing.T, data []byte, decode func(*A) S) {
	t.Helper()
	var a A
	raw := bytesOf(&a)
	if copy(raw, data) < len(raw) {
		return
	}
	setBytes(&a, raw)
	if got := decode(&a).Append(nil); !bytes.Equal(got, raw) {
		t.Fatalf("%T: %x became %x", decode(&a), raw, got)
	}
}

// bytesOf is a copy of the bytes of an array, setBytes the way back.
func bytesOf[A array](a *A) []byte {
	switch a := any(a).(type) {
	case *[4]byte:
		return bytes.Clone(a[:])
	case *[8]byte:
		return bytes.Clone(a[:])
	case *[16]byte:
		return bytes.Clone(a[:])
	case *[20]byte:
		return bytes.Clone(a[:])
	case *[24]byte:
		return bytes.Clone(a[:])
	case *[32]byte:
		return bytes.Clone(a[:])
	case *[40]byte:
		return bytes.Clone(a[:])
	}
	return nil
}

func setBytes[A array](a *A, b []byte) {
	switch a := any(a).(type) {
	case *[4]byte:
		copy(a[:], b)
	case *[8]byte:
		copy(a[:], b)
	case *[16]byte:
		copy(a[:], b)
	case *[20]byte:
		copy(a[:], b)
	case *[24]byte:
		copy(a[:], b)
	case *[32]byte:
		copy(a[:], b)
	case *[40]byte:
		copy(a[:], b)
	}
}
