//go:build linux

package vfiouser

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

const accessRW = wire.MapRead | wire.MapWrite

func reqMap(flags wire.MapFlags, iova, n, off uint64) []byte {
	return wire.DMAMap{Argsz: wire.DMAMapLen, Flags: flags, Offset: off, Address: iova, Size: n}.Append(nil)
}

func reqUnmap(flags wire.UnmapFlags, iova, n uint64) []byte {
	return wire.DMAUnmap{Argsz: wire.DMAUnmapLen, Flags: flags, Address: iova, Size: n}.Append(nil)
}

// test_dma_map.py, and what lib/libvfio-user.c handle_dma_map and lib/dma.c
// dma_controller_add_region do beyond it.
func TestConformDMAMap(t *testing.T) {
	map32 := reqMap(accessRW, 0x10000, 0x1000, 0)
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_dma_map.py: section 4, memory without a file", wire.CmdDMAMap, reqMap(accessRW, 0x10000, 0x2000, 0), 0, 0, 0, "", []byte{}},
		{"handle_dma_map: section 4, with a file", wire.CmdDMAMap, reqMap(accessRW, 0x100000, 0x2000, 0), 1, 0, 0, "", []byte{}},
		{"handle_dma_map: section 4, read only", wire.CmdDMAMap, reqMap(wire.MapRead, 0x200000, 0x2000, 0x1000), 1, 0, 0, "", []byte{}},
		{"handle_dma_map: bit 2, mmap the fd", wire.CmdDMAMap, reqMap(accessRW|wire.MapMmap, 0x300000, 0x2000, 0), 1, 0, 0, "", []byte{}},
		{"handle_dma_map: bit 3, pread and pwrite the fd", wire.CmdDMAMap, reqMap(accessRW|wire.MapFileIO, 0x400000, 0x2000, 0), 1, 0, 0, "", []byte{}},
		{"handle_dma_map: bits 2 and 3 at once", wire.CmdDMAMap, reqMap(accessRW|wire.MapMmap|wire.MapFileIO, 0x500000, 0x2000, 0), 1, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_dma_map: bit 2 and no fd", wire.CmdDMAMap, reqMap(accessRW|wire.MapMmap, 0x500000, 0x2000, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_dma_map: bit 3 and no fd", wire.CmdDMAMap, reqMap(accessRW|wire.MapFileIO, 0x500000, 0x2000, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_dma_map: section 4, other bits", wire.CmdDMAMap, reqMap(accessRW|1<<4, 0x500000, 0x2000, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_dma_map: neither readable nor writable", wire.CmdDMAMap, reqMap(0, 0x500000, 0x2000, 0), 0, unix.EINVAL, 0, "map-no-access", nil},
		{"handle_dma_map: a second fd", wire.CmdDMAMap, reqMap(accessRW, 0x510000, 0x2000, 0), 2, unix.EINVAL, 0, "surplus-files", nil},
		{"handle_dma_map: argsz < 32", wire.CmdDMAMap, append([]byte{31, 0, 0, 0}, map32[4:]...), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_dma_map: a short payload", wire.CmdDMAMap, map32[:31], 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"handle_dma_map: a long payload", wire.CmdDMAMap, append(reqMap(accessRW, 0x520000, 0x2000, 0), 0), 0, unix.EINVAL, 0, "exact-lengths", nil},
		{"dma_controller_add_region: an exact duplicate", wire.CmdDMAMap, reqMap(accessRW, 0x10000, 0x2000, 0), 0, unix.EEXIST, 0, "map-overlap", nil},
		{"dma_controller_add_region: the same range with other parameters", wire.CmdDMAMap, reqMap(wire.MapRead, 0x10000, 0x2000, 0), 0, unix.EEXIST, unix.EINVAL, "map-overlap", nil},
		{"dma_controller_add_region: an overlap at the start", wire.CmdDMAMap, reqMap(accessRW, 0xf000, 0x2000, 0), 0, unix.EEXIST, unix.EINVAL, "map-overlap", nil},
		{"dma_controller_add_region: an overlap at the end", wire.CmdDMAMap, reqMap(accessRW, 0x11000, 0x2000, 0), 0, unix.EEXIST, unix.EINVAL, "map-overlap", nil},
		{"dma_controller_add_region: one inside another", wire.CmdDMAMap, reqMap(accessRW, 0x11000, 0x1000, 0), 0, unix.EEXIST, unix.EINVAL, "map-overlap", nil},
		{"test_dma_region_too_big: section 4, above 8 TiB", wire.CmdDMAMap, reqMap(accessRW, 0x100000000, 8<<40+0x1000, 0), 0, 0, unix.ENOSPC, "map-size", nil},
		{"dma_controller_add_region: a page and no alignment", wire.CmdDMAMap, reqMap(accessRW, 0x600001, 0x1000, 0), 0, unix.EINVAL, 0, "map-alignment", nil},
		{"dma_controller_add_region: half a page", wire.CmdDMAMap, reqMap(accessRW, 0x610000, 0x800, 0), 0, unix.EINVAL, 0, "map-alignment", nil},
		{"dma_controller_add_region: no bytes", wire.CmdDMAMap, reqMap(accessRW, 0x620000, 0, 0), 0, unix.EINVAL, 0, "map-alignment", nil},
		{"dma_controller_add_region: beyond 2^64", wire.CmdDMAMap, reqMap(accessRW, 1<<64-0x1000, 0x2000, 0), 0, unix.EOVERFLOW, unix.EINVAL, "map-overflow", nil},
		{"section 4: the last page of all", wire.CmdDMAMap, reqMap(accessRW, 1<<64-0x1000, 0x1000, 0), 0, 0, 0, "", []byte{}},
		{"section 4: an offset and no file", wire.CmdDMAMap, reqMap(accessRW, 0x630000, 0x1000, 0x1000), 0, unix.EINVAL, 0, "map-offset", nil},
	})
}

// test_dma_map.py: test_dma_region_too_many.
func TestConformDMAMapTooMany(t *testing.T) {
	differs(t, "map-limit") // ENOSPC, as type1; EINVAL there
	d := newDuo(t, &ServerConfig{MaxMaps: 8}, nil, nil)
	require.Equal(t, 8, d.Server().MaxMaps)
	mem := translate.Bytes(make([]byte, 4096))
	for i := range 8 {
		require.NoError(t, d.MapDMA(d.ctx, addr.IOVA(i+1)<<12, 4096, addr.ReadWrite, mem))
	}
	err := d.MapDMA(d.ctx, 9<<12, 4096, addr.ReadWrite, mem)
	require.Equal(t, unix.ENOSPC, errs.Errno(err))
	require.EqualError(t, err, "DMA_MAP iova 0x9000 size 0x1000 rw: refused: no space left on device")
	require.NoError(t, d.UnmapDMA(d.ctx, 1<<12, 4096))
	require.NoError(t, d.MapDMA(d.ctx, 9<<12, 4096, addr.ReadWrite, mem), "there is room again")
}

// busyDevice does not quiesce as long as it is busy.
type busyDevice struct {
	*rigDevice
	busy     atomic.Uintptr // errno; 0 when it is not
	quiesced atomic.Int32   // times it was asked
}

// newBusy makes dev one that answers errno when it is to quiesce.
func newBusy(dev *rigDevice, errno unix.Errno) *busyDevice {
	d := &busyDevice{rigDevice: dev}
	d.busy.Store(uintptr(errno))
	return d
}

func (d *busyDevice) Quiesce(context.Context) error {
	d.quiesced.Add(1)
	if errno := unix.Errno(d.busy.Load()); errno != 0 {
		return errno
	}
	return nil
}

// test_dma_map.py: test_dma_map_busy; test_quiesce.py: test_device_quiesce_error,
// test_device_quiesce_error_after_busy, test_allowed_funcs_in_quiesced_dma_register
// and _unregister, busy or not. There a map waits until the device has
// quiesced, and fails if it does not. Here a device works on while mappings
// come, and an unmap waits for what uses the range, and for nothing else.
func TestConformDMAMapQuiesce(t *testing.T) {
	differs(t, "map-quiesce")
	var busy *busyDevice
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		busy = newBusy(dev, unix.EBUSY)
		return busy
	})
	file := memFile(t, 4096)
	require.NoError(t, d.MapDMAFD(d.ctx, 0x10000, 0x1000, addr.ReadWrite, file, 0))
	require.NoError(t, d.dev.dma(0x10000, []byte("dma"), true))
	b := make([]byte, 3)
	_, err := unix.Pread(file, b, 0)
	require.NoError(t, err)
	require.Equal(t, "dma", string(b))
	require.NoError(t, d.UnmapDMA(d.ctx, 0x10000, 0x1000))
	require.ErrorIs(t, d.dev.dma(0x10000, b, true), errs.ErrNotMapped)
	require.Zero(t, busy.quiesced.Load())
}

// test_dma_map.py: test_dma_map_reply_fail, test_dma_map_busy_reply_fail: the
// client is gone before the reply. The mapping goes with it.
func TestConformDMAMapReplyFails(t *testing.T) {
	r := negotiated(t, nil)
	r.write(frame(1, wire.CmdDMAMap, 0, reqMap(accessRW, 0x10000, 0x1000, 0)), memFile(t, 4096))
	store := r.s.Session().Store()
	_ = r.end() // the reply may or may not have found the socket open
	require.Empty(t, mappings(store))
	require.Equal(t, []mdev.ResetKind{mdev.ResetLost}, look(r.dev, &r.dev.resets))
	require.Equal(t, 1, look(r.dev, &r.dev.closes))
	r.attach(t)
	r.negotiate(rigJSON)
	require.Empty(t, r.mappings())
}

// Section 4: many maps share one memfd at different offsets, and one unmaps and
// remaps them back to back without waiting.
func TestConformDMAMapPipelined(t *testing.T) {
	d := newDuo(t, nil, nil, nil)
	const n = 64
	file := memFile(t, n*4096)
	p := d.Pipeline(d.ctx)
	for i := range int64(n) {
		p.MapDMAFD(addr.IOVA(i<<12), 4096, addr.ReadWrite, file, (n-1-i)<<12)
	}
	for i := 0; i < n; i += 2 {
		p.UnmapDMA(addr.IOVA(i<<12), 4096)
		p.MapDMAFD(addr.IOVA(i<<12), 4096, addr.Read, file, int64(i)<<12)
	}
	require.NoError(t, p.Wait())
	require.Len(t, mappings(d.s.Session().Store()), n)
	for i := range int64(n) {
		_, err := unix.Pwrite(file, []byte{byte(i)}, i<<12)
		require.NoError(t, err)
	}
	b := make([]byte, 1)
	for i := range n {
		require.NoError(t, d.dev.dma(addr.IOVA(i<<12), b, false))
		if i%2 == 0 {
			require.Equal(t, byte(i), b[0])
			require.ErrorIs(t, d.dev.dma(addr.IOVA(i<<12), b, true), errs.ErrPermission)
		} else {
			require.Equal(t, byte(n-1-i), b[0])
		}
	}
}
