//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// TestDeviceInfo: specs, "DEVICE_GET_INFO (4)".
func TestDeviceInfo(t *testing.T) {
	negotiated(t, nil).run(t, []wireRow{
		{"flags RESET and PCI, numbers of regions and of interrupts", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16}.Append(nil), 0, 0,
			wire.DeviceInfo{Argsz: 16, Flags: 3, Regions: 10, IRQs: 5}.Append(nil)},
		{"argsz is the room for the reply: more is fine", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 4096}.Append(nil), 0, 0,
			wire.DeviceInfo{Argsz: 16, Flags: 3, Regions: 10, IRQs: 5}.Append(nil)},
		{"argsz 15", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 15}.Append(nil), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16}.Append(nil)[:15], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdDeviceInfo, append(wire.DeviceInfo{Argsz: 17}.Append(nil), 0), 0, unix.EINVAL, nil},
		{"all other fields must be zero: flags", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16, Flags: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"num_regions", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16, Regions: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"num_irqs", wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16, IRQs: 1}.Append(nil), 0, unix.EINVAL, nil},
	})
}

// TestDeviceKinds: the flag of DEVICE_GET_INFO says what kind of device it is.
func TestDeviceKinds(t *testing.T) {
	for api, want := range map[mdev.API]wire.DeviceFlags{
		mdev.APIPCI: wire.DevicePCI, mdev.APICCW: wire.DeviceCCW, mdev.APIPlatform: wire.DevicePlatform,
	} {
		r := negotiated(t, nil, func(d *rigDevice) { d.info.API, d.info.Reset = api, false })
		info := wire.DecodeDeviceInfo((*[16]byte)(r.ok(wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16}.Append(nil))))
		require.Equal(t, want, info.Flags, "without RESET, %s", api)
		require.NotZero(t, r.errno(wire.CmdDeviceReset, nil), "not supported")
		r.end()
	}
}

func regionInfo(argsz, index uint32) []byte {
	return wire.RegionInfo{Argsz: argsz, Index: index}.Append(nil)
}

// TestRegionInfo: specs, "DEVICE_GET_REGION_INFO (5)".
func TestRegionInfo(t *testing.T) {
	sparse := wire.AppendRegionCaps(nil, []wire.SparseArea{{Offset: 0x1000, Size: 0x3000}}, nil)
	whole := wire.AppendRegionCaps(nil, []wire.SparseArea{{Size: 64 << 10}}, nil)
	typ := wire.AppendRegionCaps(nil, nil, &wire.RegionType{Type: 3, Subtype: 9})
	negotiated(t, nil).run(t, []wireRow{
		{"flags READ and WRITE", wire.CmdRegionInfo, regionInfo(32, rigRegs), 0, 0,
			wire.RegionInfo{Argsz: 32, Flags: 3, Index: rigRegs, Size: 4096}.Append(nil)},
		{"READ alone", wire.CmdRegionInfo, regionInfo(32, rigBig), 0, 0,
			wire.RegionInfo{Argsz: 32, Flags: 1, Index: rigBig, Size: 2 << 20}.Append(nil)},
		{"an absent region: size 0, flags 0, success", wire.CmdRegionInfo, regionInfo(32, mdev.ROM), 0, 0,
			wire.RegionInfo{Argsz: 32, Index: mdev.ROM}.Append(nil)},
		{"argsz too small for the capabilities: 32 bytes, argsz what it takes, CAPS clear, cap_offset 0", wire.CmdRegionInfo, regionInfo(32, rigSparse), 0, 0,
			wire.RegionInfo{Argsz: 64, Flags: 7, Index: rigSparse, Size: 64 << 10, Offset: 0x10000}.Append(nil)},
		{"one byte too small", wire.CmdRegionInfo, regionInfo(63, rigSparse), 0, 0,
			wire.RegionInfo{Argsz: 64, Flags: 7, Index: rigSparse, Size: 64 << 10, Offset: 0x10000}.Append(nil)},
		{"one sparse area: payload 64, flags 0xf, cap_offset 32", wire.CmdRegionInfo, regionInfo(64, rigSparse), 0, 0,
			cat(wire.RegionInfo{Argsz: 64, Flags: 15, Index: rigSparse, CapOffset: 32, Size: 64 << 10, Offset: 0x10000}, sparse)},
		{"more room than needed", wire.CmdRegionInfo, regionInfo(4096, rigSparse), 0, 0,
			cat(wire.RegionInfo{Argsz: 64, Flags: 15, Index: rigSparse, CapOffset: 32, Size: 64 << 10, Offset: 0x10000}, sparse)},
		{"a whole region: an explicit one-area list", wire.CmdRegionInfo, regionInfo(64, rigWhole), 0, 0,
			cat(wire.RegionInfo{Argsz: 64, Flags: 15, Index: rigWhole, CapOffset: 32, Size: 64 << 10}, whole)},
		{"a device-specific type", wire.CmdRegionInfo, regionInfo(48, rigTyped), 0, 0,
			cat(wire.RegionInfo{Argsz: 48, Flags: 9, Index: rigTyped, CapOffset: 32, Size: 4096}, typ)},
		{"an index beyond the regions", wire.CmdRegionInfo, regionInfo(32, 10), 0, unix.EINVAL, nil},
		{"index 2^32-1", wire.CmdRegionInfo, regionInfo(32, 1<<32-1), 0, unix.EINVAL, nil},
		{"argsz 31", wire.CmdRegionInfo, regionInfo(31, rigRegs), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdRegionInfo, regionInfo(32, rigRegs)[:31], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdRegionInfo, append(regionInfo(64, rigRegs), make([]byte, 32)...), 0, unix.EINVAL, nil},
		{"all other fields must be zero: flags", wire.CmdRegionInfo, wire.RegionInfo{Argsz: 32, Flags: 8}.Append(nil), 0, unix.EINVAL, nil},
		{"cap_offset", wire.CmdRegionInfo, wire.RegionInfo{Argsz: 32, CapOffset: 32}.Append(nil), 0, unix.EINVAL, nil},
		{"size", wire.CmdRegionInfo, wire.RegionInfo{Argsz: 32, Size: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"offset", wire.CmdRegionInfo, wire.RegionInfo{Argsz: 32, Offset: 1}.Append(nil), 0, unix.EINVAL, nil},
	})
}

// TestRegionFile: "the fd comes ONLY with the complete reply", and is the
// region's.
func TestRegionFile(t *testing.T) {
	r := negotiated(t, nil)
	for _, index := range []uint32{rigSparse, rigWhole} {
		_, _, files := r.call(wire.CmdRegionInfo, regionInfo(32, index))
		require.Empty(t, files)
		_, body, files := r.call(wire.CmdRegionInfo, regionInfo(64, index))
		require.Len(t, files, 1)
		region := r.dev.info.Regions[index]
		sameFile(t, int(region.Memory.Fd()), files[0])
		info := wire.DecodeRegionInfo((*[32]byte)(body))
		area := wire.DecodeSparseArea((*[16]byte)(body[48:]))
		mem, err := unix.Mmap(files[0], int64(info.Offset+area.Offset), int(area.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		mem[5] = 99
		var b [1]byte
		_, err = region.Memory.ReadAt(b[:], int64(region.MemoryOffset+area.Offset)+5)
		require.NoError(t, err)
		require.Equal(t, byte(99), b[0], "file position = region offset + area offset")
		require.NoError(t, unix.Munmap(mem))
	}
	t.Run("a client that takes no file has no mmap", func(t *testing.T) {
		r := newRig(t, nil)
		r.negotiate(`{"capabilities":{"max_msg_fds":0}}` + "\x00")
		h, body, files := r.call(wire.CmdRegionInfo, regionInfo(64, rigSparse))
		require.Zero(t, h.Errno)
		require.Empty(t, files)
		require.Equal(t, wire.RegionInfo{Argsz: 32, Flags: 3, Index: rigSparse, Size: 64 << 10}.Append(nil), body)
	})
}

// TestRegionIOFDs: specs, "DEVICE_GET_REGION_IO_FDS (6)".
func TestRegionIOFDs(t *testing.T) {
	ask := func(argsz, index uint32) []byte { return wire.IOFDs{Argsz: argsz, Index: index}.Append(nil) }
	written := make(chan []byte, 4)
	r := negotiated(t, nil, func(d *rigDevice) {
		d.onWrite = func(region int, off uint64, p []byte) error {
			if region == rigRegs {
				written <- append([]byte{byte(off >> 8)}, p...)
			}
			return nil
		}
	})
	r.run(t, []wireRow{
		{"none: count 0, no files", wire.CmdRegionIOFDs, ask(4096, rigWhole), 0, 0, wire.IOFDs{Argsz: 16, Index: rigWhole}.Append(nil)},
		{"too little room: argsz what it takes, count, no entries", wire.CmdRegionIOFDs, ask(16, rigRegs), 0, 0,
			wire.IOFDs{Argsz: 96, Index: rigRegs, Count: 2}.Append(nil)},
		{"argsz 15", wire.CmdRegionIOFDs, ask(15, rigRegs), 0, unix.EINVAL, nil},
		{"an index beyond the regions", wire.CmdRegionIOFDs, ask(4096, 10), 0, unix.EINVAL, nil},
		{"flags", wire.CmdRegionIOFDs, wire.IOFDs{Argsz: 96, Flags: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"count", wire.CmdRegionIOFDs, wire.IOFDs{Argsz: 96, Count: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdRegionIOFDs, ask(96, rigRegs)[:15], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdRegionIOFDs, append(ask(96, rigRegs), 0), 0, unix.EINVAL, nil},
	})
	for range 2 { // the same ones each time
		h, body, files := r.call(wire.CmdRegionIOFDs, ask(96, rigRegs))
		require.Zero(t, h.Errno)
		require.Equal(t, cat(
			wire.IOFDs{Argsz: 96, Index: rigRegs, Count: 2},
			wire.IOFD{Offset: 0x100, Size: 4, Index: 0},
			wire.IOFD{Offset: 0x200, Size: 2, Index: 1, Flags: wire.IOEventFDMatch, Data: 0x55},
		), body)
		require.Len(t, files, 2)
		signal := func(fd int) {
			_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
			require.NoError(t, err)
		}
		signal(files[1])
		require.Equal(t, []byte{2, 0x55, 0}, <-written, "a signal is a write of what it matches")
		signal(files[0])
		require.Equal(t, []byte{1, 0, 0, 0, 0}, <-written)
		r.alive()
	}
	t.Run("no more files than the client takes", func(t *testing.T) {
		r := newRig(t, nil)
		r.negotiate("") // max_msg_fds 1
		h, body, files := r.call(wire.CmdRegionIOFDs, ask(96, rigRegs))
		require.Zero(t, h.Errno)
		require.Len(t, files, 1)
		require.Equal(t, wire.IOFDs{Argsz: 56, Index: rigRegs, Count: 1}, wire.DecodeIOFDs((*[16]byte)(body)))
		require.Len(t, body, 56)
	})
}

// TestIRQInfo: specs, "DEVICE_GET_IRQ_INFO (7)".
func TestIRQInfo(t *testing.T) {
	ask := func(argsz, index uint32) []byte { return wire.IRQInfo{Argsz: argsz, Index: index}.Append(nil) }
	negotiated(t, nil).run(t, []wireRow{
		{"INTx: EVENTFD, MASKABLE, AUTOMASKED", wire.CmdIRQInfo, ask(16, 0), 0, 0, wire.IRQInfo{Argsz: 16, Flags: 7, Index: 0, Count: 1}.Append(nil)},
		{"MSI: absent", wire.CmdIRQInfo, ask(16, 1), 0, 0, wire.IRQInfo{Argsz: 16, Flags: 1, Index: 1}.Append(nil)},
		{"MSI-X", wire.CmdIRQInfo, ask(4096, 2), 0, 0, wire.IRQInfo{Argsz: 16, Flags: 1, Index: 2, Count: 20}.Append(nil)},
		{"ERR", wire.CmdIRQInfo, ask(16, 3), 0, 0, wire.IRQInfo{Argsz: 16, Flags: 1, Index: 3, Count: 1}.Append(nil)},
		{"REQ", wire.CmdIRQInfo, ask(16, 4), 0, 0, wire.IRQInfo{Argsz: 16, Flags: 1, Index: 4, Count: 1}.Append(nil)},
		{"an index beyond", wire.CmdIRQInfo, ask(16, 5), 0, unix.EINVAL, nil},
		{"argsz 15", wire.CmdIRQInfo, ask(15, 2), 0, unix.EINVAL, nil},
		{"flags", wire.CmdIRQInfo, wire.IRQInfo{Argsz: 16, Flags: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"count", wire.CmdIRQInfo, wire.IRQInfo{Argsz: 16, Count: 1}.Append(nil), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdIRQInfo, ask(16, 2)[:15], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdIRQInfo, append(ask(16, 2), 0), 0, unix.EINVAL, nil},
	})
}
