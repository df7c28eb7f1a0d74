package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// fields is a structure as the specification lays it out: one entry a field,
// its width in bytes and a value that no other field has.
type field struct {
	name  string
	width int
	value uint64
}

// encode is the structure in the byte order of the host.
func encode(t *testing.T, fields []field) []byte {
	t.Helper()
	var b []byte
	for _, f := range fields {
		switch f.width {
		case 2:
			b = binary.NativeEndian.AppendUint16(b, uint16(f.value))
		case 4:
			b = binary.NativeEndian.AppendUint32(b, uint32(f.value))
		case 8:
			b = binary.NativeEndian.AppendUint64(b, f.value)
		default:
			t.Fatalf("field %s of %d bytes", f.name, f.width)
		}
	}
	return b
}

// TestLayouts: every structure of the protocol, field by field.
func TestLayouts(t *testing.T) {
	rows := []struct {
		name   string
		length int
		fields []field
		encode func() []byte
		decode func(b []byte) any
		value  any
	}{
		{
			name: `"Header": message ID 2, command 2, size 4, flags 4, error 4`, length: 16,
			fields: []field{{"ID", 2, 0x1122}, {"Command", 2, 9}, {"Size", 4, 0x33445566}, {"Flags", 4, 0x31}, {"Error", 4, 0x778899aa}},
			value:  wire.Header{ID: 0x1122, Command: wire.CmdRegionRead, Size: 0x33445566, Flags: wire.TypeReply | wire.NoReply | wire.Error, Errno: 0x778899aa},
			decode: func(b []byte) any { return wire.DecodeHeader((*[wire.HeaderLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_VERSION": major 2, minor 2`, length: 4,
			fields: []field{{"major", 2, 0x1122}, {"minor", 2, 0x3344}},
			value:  wire.Version{Major: 0x1122, Minor: 0x3344},
			decode: func(b []byte) any { return wire.DecodeVersion((*[wire.VersionLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DMA_MAP": argsz 4, flags 4, offset 8, address 8, size 8`, length: 32,
			fields: []field{{"argsz", 4, 1}, {"flags", 4, 0x12345}, {"offset", 8, 1 << 63}, {"address", 8, 3 << 40}, {"size", 8, 4 << 50}},
			value:  wire.DMAMap{Argsz: 1, Flags: 0x12345, Offset: 1 << 63, Address: 3 << 40, Size: 4 << 50},
			decode: func(b []byte) any { return wire.DecodeDMAMap((*[wire.DMAMapLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DMA_UNMAP": argsz 4, flags 4, address 8, size 8`, length: 24,
			fields: []field{{"argsz", 4, 1}, {"flags", 4, 2}, {"address", 8, 3 << 40}, {"size", 8, 4 << 50}},
			value:  wire.DMAUnmap{Argsz: 1, Flags: wire.UnmapAll, Address: 3 << 40, Size: 4 << 50},
			decode: func(b []byte) any { return wire.DecodeDMAUnmap((*[wire.DMAUnmapLen]byte)(b)) },
		},
		{
			name: `vfio-user.h struct vfio_user_bitmap: pgsize 8, size 8`, length: 16,
			fields: []field{{"pgsize", 8, 1 << 40}, {"size", 8, 1 << 41}},
			value:  wire.Bitmap{PageSize: 1 << 40, Size: 1 << 41},
			decode: func(b []byte) any { return wire.DecodeBitmap((*[wire.BitmapLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DEVICE_GET_INFO": argsz, flags, num_regions, num_irqs, 4 each`, length: 16,
			fields: []field{{"argsz", 4, 1}, {"flags", 4, 3}, {"num_regions", 4, 9}, {"num_irqs", 4, 5}},
			value:  wire.DeviceInfo{Argsz: 1, Flags: wire.DeviceReset | wire.DevicePCI, Regions: 9, IRQs: 5},
			decode: func(b []byte) any { return wire.DecodeDeviceInfo((*[wire.DeviceInfoLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DEVICE_GET_REGION_INFO": argsz, flags, index, cap_offset, 4 each, size 8, offset 8`, length: 32,
			fields: []field{{"argsz", 4, 1}, {"flags", 4, 0xf}, {"index", 4, 7}, {"cap_offset", 4, 32}, {"size", 8, 1 << 40}, {"offset", 8, 1 << 50}},
			value:  wire.RegionInfo{Argsz: 1, Flags: 0xf, Index: 7, CapOffset: 32, Size: 1 << 40, Offset: 1 << 50},
			decode: func(b []byte) any { return wire.DecodeRegionInfo((*[wire.RegionInfoLen]byte)(b)) },
		},
		{
			name: `"VFIO cap header format": id 2, version 2, next 4`, length: 8,
			fields: []field{{"id", 2, 0x1122}, {"version", 2, 0x3344}, {"next", 4, 0x55667788}},
			value:  wire.CapHeader{ID: 0x1122, Version: 0x3344, Next: 0x55667788},
			decode: func(b []byte) any { return wire.DecodeCapHeader((*[wire.CapHeaderLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DEVICE_GET_REGION_IO_FDS": argsz, flags, index, count, 4 each`, length: 16,
			fields: []field{{"argsz", 4, 1}, {"flags", 4, 2}, {"index", 4, 3}, {"count", 4, 4}},
			value:  wire.IOFDs{Argsz: 1, Flags: 2, Index: 3, Count: 4},
			decode: func(b []byte) any { return wire.DecodeIOFDs((*[wire.IOFDsLen]byte)(b)) },
		},
		{
			name: `"Sub-Region IO FD info format (ioeventfd)": offset 8, size 8, fd_index 4, type 4, flags 4, padding 4, datamatch 8`, length: 40,
			fields: []field{{"offset", 8, 1 << 40}, {"size", 8, 4}, {"fd_index", 4, 3}, {"type", 4, 1}, {"flags", 4, 5}, {"padding", 4, 6}, {"datamatch", 8, 1 << 50}},
			value:  wire.IOFD{Offset: 1 << 40, Size: 4, Index: 3, Type: wire.IORegionFD, Flags: 5, Pad: 6, Data: 1 << 50},
			decode: func(b []byte) any { return wire.DecodeIOFD((*[wire.IOFDLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DEVICE_GET_IRQ_INFO": argsz, flags, index, count, 4 each`, length: 16,
			fields: []field{{"argsz", 4, 1}, {"flags", 4, 9}, {"index", 4, 2}, {"count", 4, 2048}},
			value:  wire.IRQInfo{Argsz: 1, Flags: wire.IRQEventFD | wire.IRQNoResize, Index: 2, Count: 2048},
			decode: func(b []byte) any { return wire.DecodeIRQInfo((*[wire.IRQInfoLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DEVICE_SET_IRQS": argsz, flags, index, start, count, 4 each, data at 20`, length: 20,
			fields: []field{{"argsz", 4, 20}, {"flags", 4, 0x24}, {"index", 4, 2}, {"start", 4, 7}, {"count", 4, 8}},
			value:  wire.SetIRQs{Argsz: 20, Flags: wire.SetDataEventFD | wire.SetActionTrigger, Index: 2, Start: 7, Count: 8},
			decode: func(b []byte) any { return wire.DecodeSetIRQs((*[wire.SetIRQsLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_REGION_READ": offset 8, region 4, count 4, data at 16`, length: 16,
			fields: []field{{"offset", 8, 1 << 40}, {"region", 4, 7}, {"count", 4, 256}},
			value:  wire.RegionAccess{Offset: 1 << 40, Region: 7, Count: 256},
			decode: func(b []byte) any { return wire.DecodeRegionAccess((*[wire.RegionAccessLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DMA_READ": address 8, count 8, data at 16`, length: 16,
			fields: []field{{"address", 8, 1 << 40}, {"count", 8, 1 << 33}},
			value:  wire.DMAAccess{Address: 1 << 40, Count: 1 << 33},
			decode: func(b []byte) any { return wire.DecodeDMAAccess((*[wire.DMAAccessLen]byte)(b)) },
		},
		{
			name: `"Single Device Write Format": offset 8, region 4, count 4, data 8`, length: 24,
			fields: []field{{"offset", 8, 1 << 40}, {"region", 4, 7}, {"count", 4, 8}, {"data", 8, 0x0807060504030201}},
			value: wire.MultiEntry{
				RegionAccess: wire.RegionAccess{Offset: 1 << 40, Region: 7, Count: 8},
				Data:         [8]byte(binary.NativeEndian.AppendUint64(nil, 0x0807060504030201)),
			},
			decode: func(b []byte) any { return wire.DecodeMultiEntry((*[wire.MultiEntryLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_DEVICE_FEATURE": argsz 4, flags 4, data at 8`, length: 8,
			fields: []field{{"argsz", 4, 16}, {"flags", 4, 0x60002}},
			value:  wire.DeviceFeature{Argsz: 16, Flags: wire.FeatureProbe | wire.FeatureSet | 2},
			decode: func(b []byte) any { return wire.DecodeDeviceFeature((*[wire.DeviceFeatureLen]byte)(b)) },
		},
		{
			name: `"VFIO_DEVICE_FEATURE_MIGRATION": flags 8`, length: 8,
			fields: []field{{"flags", 8, 5 | 1<<40}},
			value:  wire.MigrationStopCopy | wire.MigrationPreCopy | 1<<40,
			decode: func(b []byte) any { return wire.DecodeMigration((*[wire.MigrationLen]byte)(b)) },
		},
		{
			name: `"VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE": device_state 4, data_fd 4`, length: 8,
			fields: []field{{"device_state", 4, 3}, {"data_fd", 4, 9}},
			value:  wire.MigState{State: 3, DataFD: 9},
			decode: func(b []byte) any { return wire.DecodeMigState((*[wire.MigStateLen]byte)(b)) },
		},
		{
			name: `"VFIO_DEVICE_FEATURE_DMA_LOGGING_START": page_size 8, num_ranges 4, reserved 4, ranges at 16`, length: 16,
			fields: []field{{"page_size", 8, 1 << 40}, {"num_ranges", 4, 3}, {"reserved", 4, 4}},
			value:  wire.LogStart{PageSize: 1 << 40, NumRanges: 3, Reserved: 4},
			decode: func(b []byte) any { return wire.DecodeLogStart((*[wire.LogStartLen]byte)(b)) },
		},
		{
			name: `vfio_user_device_feature_dma_logging_range: iova 8, length 8`, length: 16,
			fields: []field{{"iova", 8, 1 << 40}, {"length", 8, 1 << 41}},
			value:  wire.LogRange{IOVA: 1 << 40, Length: 1 << 41},
			decode: func(b []byte) any { return wire.DecodeLogRange((*[wire.LogRangeLen]byte)(b)) },
		},
		{
			name: `"VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT": iova 8, length 8, page_size 8, bitmap at 24`, length: 24,
			fields: []field{{"iova", 8, 1 << 40}, {"length", 8, 1 << 41}, {"page_size", 8, 1 << 42}},
			value:  wire.LogReport{IOVA: 1 << 40, Length: 1 << 41, PageSize: 1 << 42},
			decode: func(b []byte) any { return wire.DecodeLogReport((*[wire.LogReportLen]byte)(b)) },
		},
		{
			name: `"VFIO_USER_MIG_DATA_READ": argsz 4, size 4, data at 8`, length: 8,
			fields: []field{{"argsz", 4, 16}, {"size", 4, 8}},
			value:  wire.MigData{Argsz: 16, Size: 8},
			decode: func(b []byte) any { return wire.DecodeMigData((*[wire.MigDataLen]byte)(b)) },
		},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			raw := encode(t, r.fields)
			require.Len(t, raw, r.length)
			require.Equal(t, r.value, r.decode(raw))
			require.Equal(t, raw, r.value.(appender).Append(nil))
			require.Equal(t, append([]byte("x"), raw...), r.value.(appender).Append([]byte("x")), "appends")
			// No field shares a bit with another, and none is left out: each
			// bit of the bytes shows in the value, and back.
			for i := range raw {
				for bit := range 8 {
					flipped := bytes.Clone(raw)
					flipped[i] ^= 1 << bit
					v := r.decode(flipped)
					require.NotEqual(t, r.value, v, "byte %d bit %d", i, bit)
					require.Equal(t, flipped, v.(appender).Append(nil))
				}
			}
		})
	}
}

type appender interface{ Append([]byte) []byte }

// TestCommandNumbers: vfio-user.rst, "Commands".
func TestCommandNumbers(t *testing.T) {
	table := map[int]string{
		1: "VERSION", 2: "DMA_MAP", 3: "DMA_UNMAP", 4: "DEVICE_GET_INFO", 5: "DEVICE_GET_REGION_INFO",
		6: "DEVICE_GET_REGION_IO_FDS", 7: "DEVICE_GET_IRQ_INFO", 8: "DEVICE_SET_IRQS", 9: "REGION_READ",
		10: "REGION_WRITE", 11: "DMA_READ", 12: "DMA_WRITE", 13: "DEVICE_RESET", 15: "REGION_WRITE_MULTI",
		16: "DEVICE_FEATURE", 17: "MIG_DATA_READ", 18: "MIG_DATA_WRITE",
	}
	for i := range 1 << 16 {
		c := wire.Command(i)
		name, known := table[i]
		require.Equal(t, known, c.Known(), i)
		if known {
			require.Equal(t, name, c.String())
		} else {
			require.Contains(t, c.String(), "Command(")
		}
	}
}

// TestFlagText: names for known bits, numbers for the rest, 0 for none.
func TestFlagText(t *testing.T) {
	rows := []struct {
		flags interface{ String() string }
		want  string
	}{
		{wire.TypeCommand, "command"},
		{wire.TypeReply | wire.Error, "reply|ERROR"},
		{wire.NoReply | 0x40, "command|NO_REPLY|0x40"},
		{wire.Flags(0x7), "type(7)"},
		{wire.MapRead | wire.MapWrite | wire.MapMmap | wire.MapFileIO, "READ|WRITE|MMAP|FILE_IO"},
		{wire.MapFlags(0), "0"},
		{wire.UnmapAll | wire.UnmapDirtyBitmap, "GET_DIRTY_BITMAP|ALL"},
		{wire.DeviceReset | wire.DeviceCCW | 1<<31, "RESET|CCW|0x80000000"},
		{wire.RegionRead | wire.RegionCaps, "READ|CAPS"},
		{wire.IRQEventFD | wire.IRQAutoMasked, "EVENTFD|AUTOMASKED"},
		{wire.SetDataEventFD | wire.SetActionTrigger, "EVENTFD|TRIGGER"},
		{wire.FeatureGet | wire.FeatureProbe | 8, "DMA_LOGGING_REPORT GET|PROBE"},
		{wire.FeatureFlags(77), "Feature(77) 0"},
		{wire.MigrationStopCopy | wire.MigrationP2P | wire.MigrationPreCopy, "STOP_COPY|P2P|PRE_COPY"},
		{wire.IOEventFD, "ioeventfd"}, {wire.IORegionFD, "ioregionfd"}, {wire.IOFDType(2), "IOFDType(2)"},
	}
	for _, r := range rows {
		require.Equal(t, r.want, r.flags.String())
	}
}

// TestRegionCaps: the example of a region with one mappable area, and chains.
func TestRegionCaps(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the example is of a little-endian host")
	}
	one := []wire.SparseArea{{Offset: 0x1000, Size: 0x3000}}
	require.Equal(t,
		"0100010000000000"+"0100000000000000"+"0010000000000000"+"0030000000000000",
		hex.EncodeToString(wire.AppendRegionCaps(nil, one, nil)), "one area: 32 bytes behind the fixed 32")
	require.Empty(t, wire.AppendRegionCaps(nil, nil, nil))
	typ := &wire.RegionType{Type: 3, Subtype: 9}
	require.Equal(t, "0200010000000000"+"0300000009000000", hex.EncodeToString(wire.AppendRegionCaps(nil, nil, typ)))

	both := wire.AppendRegionCaps(nil, one, typ)
	require.Len(t, both, 48)
	first := wire.DecodeCapHeader((*[8]byte)(both))
	require.Equal(t, wire.CapHeader{ID: wire.CapSparseMmap, Version: 1, Next: 64}, first, "next counts from the payload's start")
	at := both[first.Next-wire.RegionInfoLen:]
	require.Equal(t, wire.CapHeader{ID: wire.CapType, Version: 1}, wire.DecodeCapHeader((*[8]byte)(at)))
	require.Equal(t, *typ, wire.DecodeRegionType((*[8]byte)(at[8:])))
	require.Equal(t, uint32(1), wire.DecodeSparseCount((*[8]byte)(both[8:])))
	require.Equal(t, one[0], wire.DecodeSparseArea((*[16]byte)(both[16:])))
}

// TestText: a line about any message, whole or not.
func TestText(t *testing.T) {
	read := wire.RegionAccess{Offset: 0x10, Region: 7, Count: 4}.Append(nil)
	rows := []struct {
		name string
		h    wire.Header
		body []byte
		want string
	}{
		{"request", wire.Header{ID: 3, Command: wire.CmdRegionRead, Size: 32}, read,
			"REGION_READ id 3 command size 32: region 7 offset 0x10 count 4"},
		{"reply with data", wire.Header{ID: 3, Command: wire.CmdRegionRead, Size: 36, Flags: wire.TypeReply}, append(bytes.Clone(read), 1, 2, 3, 4),
			"REGION_READ id 3 reply size 36: region 7 offset 0x10 count 4 data 01020304"},
		{"error", wire.Header{ID: 3, Command: wire.CmdRegionRead, Size: 16, Flags: wire.TypeReply | wire.Error, Errno: 22}, nil,
			"REGION_READ id 3 reply|ERROR size 16 errno 22"},
		{"short payload", wire.Header{ID: 3, Command: wire.CmdDMAMap, Size: 17}, []byte{1},
			"DMA_MAP id 3 command size 17: 1 bytes"},
		{"unknown command", wire.Header{Command: 99, Size: 18}, []byte{1, 2}, "Command(99) id 0 command size 18: 2 bytes"},
		{"no payload", wire.Header{Command: wire.CmdDeviceReset, Size: 16}, nil, "DEVICE_RESET id 0 command size 16"},
		{"version", wire.Header{Command: wire.CmdVersion, Size: 16}, append(wire.Version{Minor: 1}.Append(nil), "{\"capabilities\":{\"max_msg_fds\":8, \"evil\":\"\x1b\"}}\x00"...),
			`VERSION id 0 command size 16: 0.1, bad JSON`},
		{"version", wire.Header{Command: wire.CmdVersion, Size: 16}, append(wire.Version{Minor: 1}.Append(nil), "{\"capabilities\":{\"max_msg_fds\":8, \"other\":\"x\"}}\x00"...),
			`VERSION id 0 command size 16: 0.1 {"capabilities":{"max_msg_fds":8}}`},
	}
	for _, r := range rows {
		require.Equal(t, r.want, wire.Text(r.h, r.body), r.name)
	}
	for c := range wire.MaxCommand + 2 {
		for n := range 64 {
			require.NotPanics(t, func() {
				s := wire.Text(wire.Header{Command: c, Size: uint32(n)}, make([]byte, n))
				require.True(t, strings.HasPrefix(s, c.String()), s)
				wire.Text(wire.Header{Command: c, Flags: wire.TypeReply}, make([]byte, n))
			})
		}
	}
}
