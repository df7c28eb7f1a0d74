//go:build linux

package vfiouser

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// test_dma_unmap.py.
func TestConformDMAUnmap(t *testing.T) {
	dirty := func(argsz uint32, iova, n, pageSize, bits uint64) []byte {
		u := wire.DMAUnmap{Argsz: argsz, Flags: wire.UnmapDirtyBitmap, Address: iova, Size: n}.Append(nil)
		return wire.Bitmap{PageSize: pageSize, Size: bits}.Append(u)
	}
	argsz := func(n uint32, p []byte) []byte { return append(wire.MigData{Argsz: n}.Append(nil)[:4], p[4:]...) }
	r := negotiated(t, nil)
	require.Zero(t, r.mapNothing(0, 0x1000, accessRW))
	require.Zero(t, r.mapNothing(0x1000, 0x1000, accessRW))
	require.Zero(t, r.mapNothing(0x2000, 0x1000, accessRW))
	require.Zero(t, r.mapNothing(0x10000, 0x4000, accessRW))
	r.scenarios(t, []scenario{
		{"test_dma_unmap_short_write: section 5", wire.CmdDMAUnmap, make([]byte, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dma_unmap_bad_argsz: section 5", wire.CmdDMAUnmap, argsz(8, reqUnmap(0, 0x1000, 0x1000)), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dma_unmap_bad_argsz2: section 5, argsz above 1 MiB", wire.CmdDMAUnmap, argsz(1<<20+8, reqUnmap(0, 0x9000, 0x1000)), 0, unix.ENOENT, unix.EINVAL, "argsz-room", nil},
		{"test_dma_unmap_dirty_bad_argsz: section 5, argsz must cover the bitmap", wire.CmdDMAUnmap, dirty(40, 0x1000, 0x1000, 4096, 1<<64-1-40+8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dma_unmap_dirty_not_tracking: section 5", wire.CmdDMAUnmap, dirty(48, 0x1000, 0x1000, 4096, 8), 0, unix.EINVAL, unix.EINVAL, "", nil},
		// The test sends the room for the bitmap along.
		{"test_dma_unmap_dirty_not_tracking: with 8 bytes behind", wire.CmdDMAUnmap, append(dirty(48, 0x1000, 0x1000, 4096, 8), make([]byte, 8)...), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dma_unmap_invalid_flags: section 5", wire.CmdDMAUnmap, reqUnmap(4, 0x1000, 0x1000), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dma_unmap_invalid_addr: section 5, ENOENT", wire.CmdDMAUnmap, reqUnmap(0, 0x90000, 0x1000), 0, unix.ENOENT, unix.ENOENT, "", nil},
		{"dma_controller_remove_region: a part of one, ENOENT", wire.CmdDMAUnmap, reqUnmap(0, 0x10000, 0x1000), 0, unix.ENOENT, unix.ENOENT, "", nil},
		{"dma_controller_remove_region: one and a part of the next", wire.CmdDMAUnmap, reqUnmap(0, 0x2000, 0xf000), 0, unix.ENOENT, unix.ENOENT, "", nil},
		{"test_dma_unmap: section 5, the reply echoes the request", wire.CmdDMAUnmap, reqUnmap(0, 0, 0x1000), 0, 0, 0, "", reqUnmap(0, 0, 0x1000)},
		{"test_dma_unmap: twice", wire.CmdDMAUnmap, reqUnmap(0, 0, 0x1000), 0, unix.ENOENT, unix.ENOENT, "", nil},
		{"dma_controller_remove_region: two whole ones", wire.CmdDMAUnmap, reqUnmap(0, 0x1000, 0x2000), 0, 0, unix.ENOENT, "unmap-covers", reqUnmap(0, 0x1000, 0x2000)},
		{"test_dma_unmap_all_invalid_addr: section 5", wire.CmdDMAUnmap, reqUnmap(wire.UnmapAll, 0x10000, 0x1000), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_dma_unmap_all_invalid_flags: section 5", wire.CmdDMAUnmap, reqUnmap(wire.UnmapAll|wire.UnmapDirtyBitmap, 0, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"section 5: files", wire.CmdDMAUnmap, reqUnmap(wire.UnmapAll, 0, 0), 1, unix.EINVAL, 0, "surplus-files", nil},
		{"test_dma_unmap_all: section 5", wire.CmdDMAUnmap, reqUnmap(wire.UnmapAll, 0, 0), 0, 0, 0, "", nil},
	})
	require.Empty(t, r.mappings())
}

// test_dma_unmap.py: test_dma_unmap_all, by our client.
func TestConformDMAUnmapAll(t *testing.T) {
	d := newDuo(t, nil, nil, nil)
	mem := translate.Bytes(make([]byte, 4096))
	for i := range 16 {
		require.NoError(t, d.MapDMA(d.ctx, addr.IOVA(i<<12), 4096, addr.ReadWrite, mem))
	}
	require.Len(t, mappings(d.s.Session().Store()), 16)
	require.NoError(t, d.UnmapAllDMA(d.ctx))
	require.Empty(t, mappings(d.s.Session().Store()))
	require.Empty(t, mappings(d.Memory()))
	require.NoError(t, d.UnmapAllDMA(d.ctx), "of nothing")
}

// test_dma_unmap.py: test_dma_unmap_async. There the reply waits for the device
// to quiesce; here for those who use the range (section 5: the reply may be
// sent only when the server has stopped using it).
func TestConformDMAUnmapWaits(t *testing.T) {
	d := newDuo(t, nil, nil, nil)
	require.NoError(t, d.MapDMAFD(d.ctx, 0x1000, 0x1000, addr.ReadWrite, memFile(t, 4096), 0))
	require.NoError(t, d.MapDMA(d.ctx, 0x4000, 0x1000, addr.ReadWrite, translate.Bytes(make([]byte, 4096))))
	at := d.dev.attachment()
	in := at.Store.NewReader()
	in.Enter()
	_, ok := in.Lookup(0x1000)
	require.True(t, ok)
	unmapped := make(chan error, 1)
	go func() { unmapped <- d.UnmapDMA(d.ctx, 0x1000, 0x1000) }()
	select {
	case err := <-unmapped:
		t.Fatalf("unmapped under a reader: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	in.Exit()
	require.NoError(t, <-unmapped)
	in.Close()
	require.ErrorIs(t, d.dev.dma(0x1000, make([]byte, 1), false), errs.ErrNotMapped)
	require.NoError(t, d.dev.dma(0x4000, make([]byte, 1), false), "the other one is there")
}
