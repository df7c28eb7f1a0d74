//go:build linux

package vfiouser

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

func reqAccess(region uint32, off uint64, count uint32, data ...byte) []byte {
	return append(wire.RegionAccess{Offset: off, Region: region, Count: count}.Append(nil), data...)
}

// test_setup_region.py, the part of it that goes over the wire.
func TestConformRegionAccess(t *testing.T) {
	multi := func(n uint64, e ...wire.MultiEntry) []byte {
		b := wire.AppendCount(nil, n)
		for _, x := range e {
			b = x.Append(b)
		}
		return b
	}
	entry := func(region uint32, off uint64, count uint32) wire.MultiEntry {
		return wire.MultiEntry{RegionAccess: wire.RegionAccess{Offset: off, Region: region, Count: count}, Data: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	}
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_setup_region_cfg_always_cb: section 11, the device answers for its configuration space", wire.CmdRegionRead, reqAccess(mdev.Config, 0, 2), 0, 0, 0, "",
			reqAccess(mdev.Config, 0, 2, 0x70, 0x71)},
		{"test_region_offset_overflow: section 11", wire.CmdRegionRead, reqAccess(mdev.Config, 1<<64-1, 256), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_access_region_zero_count: section 11, a read; there a bare header", wire.CmdRegionRead, reqAccess(rigRegs, 0, 0), 0, 0, 0, "count-zero", reqAccess(rigRegs, 0, 0)},
		{"test_access_region_zero_count: section 11, a write", wire.CmdRegionWrite, reqAccess(rigRegs, 0, 0), 0, 0, 0, "count-zero", reqAccess(rigRegs, 0, 0)},
		{"test_access_region_large_count: section 11", wire.CmdRegionRead, reqAccess(mdev.Config, 0, 1<<20+8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_region_offset_too_short: section 11", wire.CmdRegionWrite, make([]byte, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"is_valid_region_access: section 11, a write with less data than count", wire.CmdRegionWrite, reqAccess(rigRegs, 0, 4, 1, 2, 3), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"is_valid_region_access: section 11, with more", wire.CmdRegionWrite, reqAccess(rigRegs, 0, 2, 1, 2, 3), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"is_valid_region_access: section 11, a read with data", wire.CmdRegionRead, reqAccess(rigRegs, 0, 1, 1), 0, unix.EINVAL, 0, "exact-lengths", nil},
		{"is_valid_region_access: section 11, a bad index", wire.CmdRegionRead, reqAccess(10, 0, 4), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"is_valid_region_access: section 11, over the end", wire.CmdRegionRead, reqAccess(rigRegs, 4094, 4), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"is_valid_region_access: section 11, the last bytes", wire.CmdRegionWrite, reqAccess(rigRegs, 4092, 4, 1, 2, 3, 4), 0, 0, 0, "", reqAccess(rigRegs, 4092, 4)},
		{"region_access: section 11, an absent region", wire.CmdRegionRead, reqAccess(mdev.BAR1, 0, 1), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"region_access: a write to what is read only", wire.CmdRegionWrite, reqAccess(rigBig, 0, 1, 1), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_region_offset_too_short: with a file", wire.CmdRegionRead, reqAccess(rigRegs, 0, 4), 1, unix.EINVAL, 0, "surplus-files", nil},
		// Command 15: libvfio-user does not know it.
		{"handle_request: section 14, writes in order", wire.CmdWriteMulti, multi(2, entry(rigRegs, 0, 4), entry(rigRegs, 2, 8)), 0, 0, unix.EINVAL, "write-multi", wire.AppendCount(nil, 2)},
		{"handle_request: section 14, fewer than said", wire.CmdWriteMulti, multi(3, entry(rigRegs, 0, 4)), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_request: section 14, count 9", wire.CmdWriteMulti, multi(1, entry(rigRegs, 0, 9)), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_request: section 14, the second fails", wire.CmdWriteMulti, multi(2, entry(rigRegs, 0, 4), entry(rigRegs, 4096, 1)), 0, 0, unix.EINVAL, "write-multi", wire.AppendCount(nil, 1)},
	})
}

// Our client: reads, writes, posted ones and many at once leave the registers
// as they should be, and a read is the fence (section 15).
func TestConformRegionAccessClient(t *testing.T) {
	d := newDuo(t, nil, nil, nil)
	want := make([]byte, 4096)
	put := func(off uint64, b ...byte) []byte { copy(want[off:], b); return b }
	require.NoError(t, d.Write(d.ctx, rigRegs, 0, put(0, 1, 2, 3, 4, 5, 6, 7, 8)))
	for i := range uint64(100) {
		require.NoError(t, d.PostWrite(d.ctx, rigRegs, 16+i, put(16+i, byte(i), ^byte(i))))
	}
	got := make([]byte, 4096)
	require.NoError(t, d.Read(d.ctx, rigRegs, 0, got))
	require.Equal(t, want, got)

	// Section 14, more than fit in a message of QEMU's.
	var many []wire.MultiEntry
	for i := range uint64(3*MaxMulti + 7) {
		e := wire.MultiEntry{RegionAccess: wire.RegionAccess{Offset: 256 + i, Region: rigRegs, Count: uint32(1 + i%8)}}
		binary.NativeEndian.PutUint64(e.Data[:], i*0x0101010101010101)
		many = append(many, e)
		put(e.Offset, e.Data[:e.Count]...)
	}
	n, err := d.WriteMulti(d.ctx, many)
	require.NoError(t, err)
	require.Equal(t, len(many), n)
	require.NoError(t, d.Read(d.ctx, rigRegs, 0, got))
	require.Equal(t, want, got)

	for i := range many {
		binary.NativeEndian.PutUint64(many[i].Data[:], ^uint64(i))
		put(many[i].Offset, many[i].Data[:many[i].Count]...)
	}
	require.NoError(t, d.PostWriteMulti(d.ctx, many))
	require.NoError(t, d.Read(d.ctx, rigRegs, 0, got))
	require.Equal(t, want, got)

	// What fails: none, some.
	many[MaxMulti+3].Offset = 4096
	n, err = d.WriteMulti(d.ctx, many)
	require.Equal(t, MaxMulti+3, n)
	require.ErrorIs(t, err, errs.ErrInvalid)
	n, err = d.WriteMulti(d.ctx, many[MaxMulti+3:])
	require.Zero(t, n)
	require.Equal(t, unix.EINVAL, errs.Errno(err))
	require.Equal(t, unix.EINVAL, errs.Errno(d.Read(d.ctx, -1, 0, got)))
	require.NoError(t, d.Read(d.ctx, rigRegs, 0, nil), "section 11: count 0 succeeds")
	require.NoError(t, d.Write(d.ctx, rigRegs, 0, nil))

	// Larger than the server transfers at a time: in pieces.
	big := make([]byte, 2<<20)
	require.NoError(t, d.Read(d.ctx, rigBig, 0, big))
	for _, off := range []int{0, 1<<20 - 1, 1 << 20, 2<<20 - 1} {
		require.Equal(t, byte(off%(1<<20))+4<<4, big[off], "%#x", off)
	}
}

// The error of a device reaches the client as it is: there with any callback's
// errno, here too.
func TestConformRegionAccessFails(t *testing.T) {
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		dev.onRead = func(int, uint64, []byte) error { return unix.ENOSPC }
		dev.onWrite = func(int, uint64, []byte) error { return errs.ErrNoPath }
		return dev
	})
	require.Equal(t, unix.ENOSPC, errs.Errno(d.Read(d.ctx, rigRegs, 0, make([]byte, 4))))
	require.Equal(t, unix.EACCES, errs.Errno(d.Write(d.ctx, rigRegs, 0, make([]byte, 4))))
	require.NoError(t, d.PostWrite(d.ctx, rigRegs, 0, make([]byte, 4)), "nobody is told")
	require.NoError(t, d.Reset(d.ctx))
}
