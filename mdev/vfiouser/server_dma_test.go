//go:build linux

package vfiouser

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// TestDMAMap: specs, "DMA_MAP (2)".
func TestDMAMap(t *testing.T) {
	dmaMap := func(flags wire.MapFlags, off, iova, n uint64) []byte {
		return wire.DMAMap{Argsz: 32, Flags: flags, Offset: off, Address: iova, Size: n}.Append(nil)
	}
	none := []byte{}
	r := negotiated(t, nil)
	r.run(t, []wireRow{
		{"with a file, readable and writable; the reply is a header", wire.CmdDMAMap, dmaMap(3, 0, 0x100000, 0x10000), 1, 0, none},
		{"without: ROM, flags 1", wire.CmdDMAMap, dmaMap(1, 0, 0xfffc0000, 0x40000), 0, 0, none},
		{"without: the device's own BAR, flags 3", wire.CmdDMAMap, dmaMap(3, 0, 0xe0000000, 0x3000), 0, 0, none},
		{"read-only, of a file opened for both", wire.CmdDMAMap, dmaMap(1, 0x1000, 0x200000, 0x1000), 1, 0, none},
		{"write-only", wire.CmdDMAMap, dmaMap(2, 0, 0x300000, 0x1000), 1, 0, none},
		{"libvfio-user's MMAP bit", wire.CmdDMAMap, dmaMap(3|wire.MapMmap, 0, 0x400000, 0x1000), 1, 0, none},
		{"libvfio-user's FILE_IO bit", wire.CmdDMAMap, dmaMap(3|wire.MapFileIO, 0x1000, 0x500000, 0x1000), 1, 0, none},
		{"up to the last byte of 64 bits", wire.CmdDMAMap, dmaMap(3, 0, ^uint64(0xfff), 0x1000), 0, 0, none},
		{"a mapping longer than the file", wire.CmdDMAMap, dmaMap(3, 0, 0x8000000, 0x4000000), 1, 0, none},
		{"argsz above 32 says nothing new", wire.CmdDMAMap, wire.DMAMap{Argsz: 64, Flags: 1, Address: 0x600000, Size: 0x1000}.Append(nil), 0, 0, none},

		{"over an existing range: EEXIST", wire.CmdDMAMap, dmaMap(3, 0, 0x100000, 0x10000), 1, unix.EEXIST, nil},
		{"over its last page", wire.CmdDMAMap, dmaMap(3, 0, 0x10f000, 0x2000), 1, unix.EEXIST, nil},
		{"over it and more", wire.CmdDMAMap, dmaMap(1, 0, 0, 0x1000000), 0, unix.EEXIST, nil},
		{"both MMAP and FILE_IO", wire.CmdDMAMap, dmaMap(3|wire.MapMmap|wire.MapFileIO, 0, 0x700000, 0x1000), 1, unix.EINVAL, nil},
		{"MMAP without a file", wire.CmdDMAMap, dmaMap(3|wire.MapMmap, 0, 0x700000, 0x1000), 0, unix.EINVAL, nil},
		{"FILE_IO without a file", wire.CmdDMAMap, dmaMap(3|wire.MapFileIO, 0, 0x700000, 0x1000), 0, unix.EINVAL, nil},
		{"an offset without a file", wire.CmdDMAMap, dmaMap(3, 0x1000, 0x700000, 0x1000), 0, unix.EINVAL, nil},
		{"other bits", wire.CmdDMAMap, dmaMap(3|1<<4, 0, 0x700000, 0x1000), 1, unix.EINVAL, nil},
		{"the highest bit", wire.CmdDMAMap, dmaMap(3|1<<31, 0, 0x700000, 0x1000), 0, unix.EINVAL, nil},
		{"neither readable nor writable", wire.CmdDMAMap, dmaMap(0, 0, 0x700000, 0x1000), 1, unix.EINVAL, nil},
		{"two files", wire.CmdDMAMap, dmaMap(3, 0, 0x700000, 0x1000), 2, unix.EINVAL, nil},
		{"16 files", wire.CmdDMAMap, dmaMap(3, 0, 0x700000, 0x1000), 16, unix.EINVAL, nil},
		{"size 0", wire.CmdDMAMap, dmaMap(3, 0, 0x700000, 0), 1, unix.EINVAL, nil},
		{"size 0 without a file", wire.CmdDMAMap, dmaMap(3, 0, 0x700000, 0), 0, unix.EINVAL, nil},
		{"address+size passes 2^64", wire.CmdDMAMap, dmaMap(3, 0, ^uint64(0xfff), 0x2000), 0, unix.EOVERFLOW, nil},
		{"offset+size passes 2^63", wire.CmdDMAMap, dmaMap(3, 1<<63-0x1000, 0x700000, 0x2000), 1, unix.EOVERFLOW, nil},
		{"offset passes 2^63", wire.CmdDMAMap, dmaMap(3, 1<<63, 0x700000, 0x1000), 1, unix.EOVERFLOW, nil},
		{"an address that is not aligned", wire.CmdDMAMap, dmaMap(3, 0, 0x700001, 0x1000), 1, unix.EINVAL, nil},
		{"a size that is not", wire.CmdDMAMap, dmaMap(3, 0, 0x700000, 0x1001), 1, unix.EINVAL, nil},
		{"an offset that is not", wire.CmdDMAMap, dmaMap(3, 1, 0x700000, 0x1000), 1, unix.EINVAL, nil},
		{"argsz < 32", wire.CmdDMAMap, wire.DMAMap{Argsz: 31, Flags: 1, Address: 0x700000, Size: 0x1000}.Append(nil), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdDMAMap, dmaMap(3, 0, 0x700000, 0x1000)[:31], 1, unix.EINVAL, nil},
		{"a long payload", wire.CmdDMAMap, append(dmaMap(3, 0, 0x700000, 0x1000), 0), 1, unix.EINVAL, nil},
	})
	kinds := map[addr.IOVA]translate.Kind{}
	for _, m := range r.mappings() {
		kinds[m.Range.Start()] = m.Kind
	}
	require.Equal(t, map[addr.IOVA]translate.Kind{
		0x100000: translate.KindFile, 0xfffc0000: translate.KindRemote, 0xe0000000: translate.KindRemote,
		0x200000: translate.KindFile, 0x300000: translate.KindFile, 0x400000: translate.KindFile,
		0x500000: translate.KindRemote, ^addr.IOVA(0xfff): translate.KindRemote,
		0x8000000: translate.KindFile, 0x600000: translate.KindRemote,
	}, kinds, "what was refused is not there")
}

// TestDMAMapFiles: what cannot be mapped is refused with mmap's errno; its
// descriptor is closed all the same.
func TestDMAMapFiles(t *testing.T) {
	r := negotiated(t, nil)
	sealed := func(seals int) int {
		fd := memFile(t, 1<<20)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
		require.NoError(t, err)
		return fd
	}
	opened := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	regular := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(regular, make([]byte, 8192), 0o600))
	socket, other := socketPair(t)
	defer unix.Close(socket)
	defer unix.Close(other)
	rows := []struct {
		name  string
		fd    int
		flags wire.MapFlags
		want  unix.Errno
	}{
		{"a sealed memfd, size fixed", sealed(unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL), 3, 0},
		{"one sealed against writing, read-only", sealed(unix.F_SEAL_WRITE), 1, 0},
		{"one sealed against writing", sealed(unix.F_SEAL_WRITE), 3, unix.EPERM},
		{"one sealed against future writing", sealed(unix.F_SEAL_FUTURE_WRITE), 3, unix.EPERM},
		{"a regular file", opened(regular, unix.O_RDWR), 3, 0},
		{"a regular file opened for reading, read-only", opened(regular, unix.O_RDONLY), 1, 0},
		{"one opened for reading", opened(regular, unix.O_RDONLY), 3, unix.EACCES},
		{"one opened for reading, by FILE_IO", opened(regular, unix.O_RDONLY), 1 | wire.MapFileIO, 0},
		{"a directory", opened("/", unix.O_RDONLY|unix.O_DIRECTORY), 1, unix.ENODEV},
		{"a socket", socket, 3, unix.ENODEV},
		{"a socket, by FILE_IO", socket, 3 | wire.MapFileIO, unix.EINVAL},
		{"an eventfd", eventFDs(t, 1)[0], 3, unix.ENODEV},
	}
	before := openFiles(t)
	for i, row := range rows {
		got := r.mapFile(uint64(i)<<20, 0x1000, 0, row.flags, row.fd)
		if row.want == unix.ENODEV && got == unix.EINVAL || got == unix.EACCES && row.want == unix.ENODEV {
			continue // refused before or by mmap, as the kernel happens to look
		}
		require.Equal(t, row.want, got, row.name)
		if got == 0 && row.flags&wire.MapFileIO == 0 {
			require.Zero(t, r.unmap(uint64(i)<<20, 0x1000), row.name)
		}
	}
	after := openFiles(t)
	require.LessOrEqual(t, len(after), len(before)+1, "but for the one that is read by file I/O: %v became %v", before, after)
}

// TestDMAMapKeepsFewFiles: files that are mapped are not kept, those that are
// read and written are, and are few; what goes makes room.
func TestDMAMapKeepsFewFiles(t *testing.T) {
	r := negotiated(t, nil)
	fd := memFile(t, 1<<20)
	before := len(openFiles(t))
	const fileIO = 3 | wire.MapFileIO
	at := func(i int) uint64 { return uint64(i) << 20 }
	for range 2 {
		for i := range maxKeptFiles {
			require.Zero(t, r.mapFile(at(i), 0x1000, 0, fileIO, fd))
		}
		require.Equal(t, unix.ENOSPC, r.mapFile(at(maxKeptFiles), 0x1000, 0, fileIO, fd))
		require.Zero(t, r.mapFile(at(maxKeptFiles), 0x1000, 0, 3, fd), "mapped")
		require.Len(t, openFiles(t), before+maxKeptFiles)
		require.Zero(t, r.unmap(at(7), 0x1000))
		require.Equal(t, unix.EEXIST, r.mapFile(at(8), 0x1000, 0, fileIO, fd))
		require.Zero(t, r.mapFile(at(7), 0x1000, 0, fileIO, fd))
		require.Zero(t, r.unmap(0, at(maxKeptFiles+1)), "all at once")
		require.Len(t, openFiles(t), before)
	}
}

// TestDMAUnmap: specs, "DMA_UNMAP (3)".
func TestDMAUnmap(t *testing.T) {
	unmap := func(argsz uint32, flags wire.UnmapFlags, iova, n uint64) []byte {
		return wire.DMAUnmap{Argsz: argsz, Flags: flags, Address: iova, Size: n}.Append(nil)
	}
	bits := func(u []byte, pageSize, size uint64) []byte {
		return wire.Bitmap{PageSize: pageSize, Size: size}.Append(u)
	}
	r := negotiated(t, nil)
	for i := range uint64(8) {
		require.Zero(t, r.mapFile(i<<20, 0x2000, 0, 3, memFile(t, 1<<20)))
	}
	require.Zero(t, r.mapNothing(8<<20, 0x2000, 3))
	const dirty = wire.UnmapDirtyBitmap
	r.run(t, []wireRow{
		{"the reply is the same 24 bytes", wire.CmdDMAUnmap, unmap(24, 0, 0, 0x2000), 0, 0, unmap(24, 0, 0, 0x2000)},
		{"again: ENOENT", wire.CmdDMAUnmap, unmap(24, 0, 0, 0x2000), 0, unix.ENOENT, nil},
		{"without a file", wire.CmdDMAUnmap, unmap(4096, 0, 8<<20, 0x2000), 0, 0, unmap(4096, 0, 8<<20, 0x2000)},
		{"nothing is there", wire.CmdDMAUnmap, unmap(24, 0, 0x500000000, 0x1000), 0, unix.ENOENT, nil},
		{"no splitting: the first page", wire.CmdDMAUnmap, unmap(24, 0, 1<<20, 0x1000), 0, unix.ENOENT, nil},
		{"the last page", wire.CmdDMAUnmap, unmap(24, 0, 1<<20+0x1000, 0x1000), 0, unix.ENOENT, nil},
		{"one and half of another", wire.CmdDMAUnmap, unmap(24, 0, 1<<20, 0x101000), 0, unix.ENOENT, nil},
		{"size 0", wire.CmdDMAUnmap, unmap(24, 0, 1<<20, 0), 0, unix.ENOENT, nil},
		{"address+size passes 2^64", wire.CmdDMAUnmap, unmap(24, 0, 1<<20, ^uint64(0xfff)), 0, unix.ENOENT, nil},
		{"argsz < 24", wire.CmdDMAUnmap, unmap(23, 0, 1<<20, 0x2000), 0, unix.EINVAL, nil},
		{"an unknown flag", wire.CmdDMAUnmap, unmap(24, 4, 1<<20, 0x2000), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdDMAUnmap, unmap(24, 0, 1<<20, 0x2000)[:23], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdDMAUnmap, append(unmap(25, 0, 1<<20, 0x2000), 0), 0, unix.EINVAL, nil},
		{"a file", wire.CmdDMAUnmap, unmap(24, 0, 1<<20, 0x2000), 1, unix.EINVAL, nil},
		{"several whole ones, as type1 has it", wire.CmdDMAUnmap, unmap(24, 0, 1<<20-0x1000, 0x200000), 0, 0, unmap(24, 0, 1<<20-0x1000, 0x200000)},
		{"ALL with an address", wire.CmdDMAUnmap, unmap(24, wire.UnmapAll, 0x1000, 0), 0, unix.EINVAL, nil},
		{"ALL with a size", wire.CmdDMAUnmap, unmap(24, wire.UnmapAll, 0, 0x1000), 0, unix.EINVAL, nil},
		{"ALL with a bitmap", wire.CmdDMAUnmap, bits(unmap(48, wire.UnmapAll|dirty, 0, 0), 4096, 8), 0, unix.EINVAL, nil},
		{"a bitmap while nothing is logged", wire.CmdDMAUnmap, bits(unmap(48, dirty, 3<<20, 0x2000), 4096, 8), 0, unix.EINVAL, nil},
		{"a bitmap of which nothing is said", wire.CmdDMAUnmap, unmap(24, dirty, 3<<20, 0x2000), 0, unix.EINVAL, nil},
		{"start the log", wire.CmdFeature, cat(wire.DeviceFeature{Argsz: 24, Flags: wire.FeatureSet | 6}, wire.LogStart{PageSize: 4096}), 0, 0, nil},
		{"a bitmap that is too small", wire.CmdDMAUnmap, bits(unmap(48, dirty, 3<<20, 0x2000), 4096, 0), 0, unix.EINVAL, nil},
		{"argsz that does not cover it", wire.CmdDMAUnmap, bits(unmap(47, dirty, 3<<20, 0x2000), 4096, 8), 0, unix.EINVAL, nil},
		{"argsz that would wrap", wire.CmdDMAUnmap, bits(unmap(40, dirty, 3<<20, 0x2000), 4096, 1<<64-40+8), 0, unix.EINVAL, nil},
		{"a bitmap too large to send", wire.CmdDMAUnmap, bits(unmap(1<<31, dirty, 3<<20, 0x2000), 4096, 1<<20+8), 0, unix.EINVAL, nil},
		{"a page size that is none", wire.CmdDMAUnmap, bits(unmap(48, dirty, 3<<20, 0x2000), 0, 8), 0, unix.EINVAL, nil},
		{"one that is no power of 2", wire.CmdDMAUnmap, bits(unmap(48, dirty, 3<<20, 0x2000), 0x3000, 8), 0, unix.EINVAL, nil},
		{"one below the smallest", wire.CmdDMAUnmap, bits(unmap(48, dirty, 3<<20, 0x2000), 2048, 8), 0, unix.EINVAL, nil},
		{"a bitmap of nothing", wire.CmdDMAUnmap, bits(unmap(48, dirty, 0, 0x2000), 4096, 8), 0, unix.ENOENT, nil},
		{"a bitmap", wire.CmdDMAUnmap, bits(unmap(48, dirty, 3<<20, 0x2000), 4096, 8), 0, 0,
			append(bits(unmap(48, dirty, 3<<20, 0x2000), 4096, 8), make([]byte, 8)...)},
		{"one longer than needed", wire.CmdDMAUnmap, bits(unmap(64, dirty, 4<<20, 0x2000), 4096, 24), 0, 0,
			append(bits(unmap(64, dirty, 4<<20, 0x2000), 4096, 24), make([]byte, 24)...)},
		{"ALL", wire.CmdDMAUnmap, unmap(24, wire.UnmapAll, 0, 0), 0, 0, unmap(24, wire.UnmapAll, 0, 0)},
		{"ALL of nothing", wire.CmdDMAUnmap, unmap(24, wire.UnmapAll, 0, 0), 0, 0, unmap(24, wire.UnmapAll, 0, 0)},
	})
	require.Empty(t, r.mappings())
	for range 2 { // and all can be mapped again
		require.Zero(t, r.mapFile(0, 1<<30, 0, 3, memFile(t, 1<<20)))
		require.Zero(t, r.unmap(0, 1<<30))
	}
}

// TestMaxMaps: the number of mappings is limited, by what was said in VERSION.
func TestMaxMaps(t *testing.T) {
	r := newRig(t, &ServerConfig{MaxMaps: 3})
	require.Equal(t, uint64(3), *r.negotiate(rigJSON + "").MaxDMAMaps)
	for i := range uint64(3) {
		require.Zero(t, r.mapNothing(i<<20, 0x1000, 1))
	}
	require.Equal(t, unix.ENOSPC, r.mapNothing(3<<20, 0x1000, 1))
	require.Equal(t, unix.ENOSPC, r.mapFile(3<<20, 0x1000, 0, 1, memFile(t, 4096)))
	require.Zero(t, r.unmap(0, 0x1000))
	require.Zero(t, r.mapNothing(3<<20, 0x1000, 1))
}

// TestDMAReaches: the device reaches the client's memory at the right offsets,
// with no more access than given.
func TestDMAReaches(t *testing.T) {
	r := negotiated(t, nil)
	fd := memFile(t, 1<<20)
	_, err := unix.Pwrite(fd, []byte("hello"), 0x3010)
	require.NoError(t, err)
	require.Zero(t, r.mapFile(0xc3000, 0x2000, 0x3000, 3, fd))
	require.Zero(t, r.mapFile(0x200000, 0x1000, 0x3000, 1, fd))
	require.Zero(t, r.mapFile(0x300000, 0x1000, 0x3000, 3|wire.MapFileIO, fd))
	require.Zero(t, r.mapFile(0x400000, 0x4000, 0xfe000, 3, fd)) // the second half is beyond the file
	require.Zero(t, r.mapFile(0x500000, 0x4000, 0xfe000, 3|wire.MapFileIO, fd))
	b := make([]byte, 5)
	for _, at := range []addr.IOVA{0xc3010, 0x200010, 0x300010} {
		require.NoError(t, r.dev.dma(at, b, false))
		require.Equal(t, "hello", string(b))
	}
	require.NoError(t, r.dev.dma(0xc3010, []byte("HELLO"), true))
	require.NoError(t, r.dev.dma(0x300010, b, false))
	require.Equal(t, "HELLO", string(b))
	require.NoError(t, r.dev.dma(0x300010, []byte("hallo"), true))
	require.NoError(t, r.dev.dma(0xc3010, b, false))
	require.Equal(t, "hallo", string(b))
	require.ErrorIs(t, r.dev.dma(0x200010, b, true), unix.EPERM)
	for _, at := range []addr.IOVA{0x402000, 0x501ffe, 0x502000} {
		require.ErrorIs(t, r.dev.dma(at, b, false), unix.EFAULT, "no file there")
		require.ErrorIs(t, r.dev.dma(at, b, true), unix.EFAULT)
	}
	// "A client that truncates its memory": an error for the device, no more.
	require.NoError(t, unix.Ftruncate(fd, 0))
	require.ErrorIs(t, r.dev.dma(0xc3010, b, false), unix.EFAULT)
	require.ErrorIs(t, r.dev.dma(0x300010, b, false), unix.EFAULT)
	r.alive()
	for _, m := range [][2]uint64{{0xc3000, 0x2000}, {0x200000, 0x1000}, {0x300000, 0x1000}, {0x400000, 0x4000}, {0x500000, 0x4000}} {
		require.Zero(t, r.unmap(m[0], m[1]))
		require.Error(t, r.dev.dma(addr.IOVA(m[0]), b, false), "nothing is used after the reply")
	}
}

// TestDirtyBitmap: specs, "GET_DIRTY_BITMAP": what the device wrote.
func TestDirtyBitmap(t *testing.T) {
	r := negotiated(t, nil)
	require.Zero(t, r.mapFile(0x100000, 100<<12, 0, 3, memFile(t, 1<<20)))
	r.ok(wire.CmdFeature, cat(wire.DeviceFeature{Argsz: 24, Flags: wire.FeatureSet | 6}, wire.LogStart{PageSize: 4096}))
	for _, page := range []addr.IOVA{0, 63, 64, 99} {
		require.NoError(t, r.dev.dma(0x100000+page<<12+5, []byte{1}, true))
	}
	body := r.ok(wire.CmdDMAUnmap, cat(
		wire.DMAUnmap{Argsz: 40 + 16, Flags: wire.UnmapDirtyBitmap, Address: 0x100000, Size: 100 << 12},
		wire.Bitmap{PageSize: 4096, Size: 16}))
	require.Equal(t, wire.AppendBits(nil, []uint64{1 | 1<<63, 1 | 1<<35}), body[40:])
}

// TestUnmapWaits: "the reply may be sent only when the server has stopped using
// the range"; who does not stop is named, and the mapping stays.
func TestUnmapWaits(t *testing.T) {
	space := iommu.NewSpace(nil)
	r := negotiated(t, &ServerConfig{Session: mdev.SessionConfig{Space: space, Translate: &translate.Config{Deadline: 100 * time.Millisecond}}})
	require.Zero(t, r.mapFile(0, 1<<20, 0, 3, memFile(t, 1<<20)))
	at := r.dev.attachment()
	domain := at.Space.NewDomain("stubborn engine")
	owner := at.Pinner.NewOwner("stubborn engine", domain, nil)
	defer owner.Close()
	lease := owner.Begin(42)
	_, err := lease.Pin(0x5000, 0x1000, addr.Read)
	require.NoError(t, err)

	begun := time.Now()
	require.Equal(t, unix.EBUSY, r.unmap(0, 1<<20))
	require.GreaterOrEqual(t, time.Since(begun), 100*time.Millisecond)
	require.Contains(t, r.log.String(), "stubborn engine program 42", "an operator has to know")
	require.Len(t, r.mappings(), 1)

	// The order of things: unmap waits, the lease ends, the reply comes; what
	// was sent behind the unmap comes after.
	r.write(frame(1, wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Size: 1 << 20}.Append(nil)))
	r.write(frame(2, wire.CmdDMAMap, 0, wire.DMAMap{Argsz: 32, Flags: 1, Size: 1 << 20}.Append(nil)))
	background(t, func() {
		time.Sleep(20 * time.Millisecond)
		lease.Release()
	})
	h, _, _ := r.next()
	require.Equal(t, wire.Header{ID: 1, Command: wire.CmdDMAUnmap, Flags: wire.TypeReply, Size: 40}, h)
	h, _, _ = r.next()
	require.Equal(t, wire.Header{ID: 2, Command: wire.CmdDMAMap, Flags: wire.TypeReply, Size: 16}, h)
}

// TestManyMaps: as many maps of one file as there may be, without a descriptor
// each.
func TestManyMaps(t *testing.T) {
	n := uint64(specMaxMaps)
	if testing.Short() || raceEnabled {
		n = 2000
	}
	r := negotiated(t, &ServerConfig{Log: discard})
	fd := memFile(t, int64(n)<<12)
	open := len(openFiles(t))
	background(t, func() {
		for i := range n {
			m := wire.DMAMap{Argsz: 32, Flags: 3, Offset: i << 12, Address: i << 13, Size: 4096}
			if r.tryWrite(frame(uint16(i), wire.CmdDMAMap, 0, m.Append(nil)), fd) != nil {
				return
			}
		}
	})
	for i := range n {
		h, _, _ := r.next()
		require.Equal(t, wire.Header{ID: uint16(i), Command: wire.CmdDMAMap, Flags: wire.TypeReply, Size: 16}, h)
	}
	require.LessOrEqual(t, len(openFiles(t)), open+1)
	if n == specMaxMaps {
		require.Equal(t, unix.ENOSPC, r.mapFile(1<<40, 4096, 0, 3, fd))
	}
	require.NoError(t, r.dev.dma(addr.IOVA(n/2)<<13, []byte("x"), true))
	var b [1]byte
	_, err := unix.Pread(fd, b[:], int64(n/2)<<12)
	require.NoError(t, err)
	require.Equal(t, "x", string(b[:]))
	require.Zero(t, r.unmap(0, 4096))
	require.Empty(t, bytes.Trim(r.ok(wire.CmdDMAUnmap, wire.DMAUnmap{Argsz: 24, Flags: wire.UnmapAll}.Append(nil)), "\x00\x18\x02"))
	require.Empty(t, r.mappings())
}

// TestHugePages: parts of a file in huge pages, of which the machine may have
// none: then nothing can be reached, but mapped and unmapped all the same.
func TestHugePages(t *testing.T) {
	fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB)
	if err != nil {
		t.Skip("no huge pages on this machine:", err)
	}
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 4<<20))
	r := negotiated(t, nil)
	require.Zero(t, r.mapFile(0, 0xa0000, 0, 3, fd), "RAM below the shadow area, as QEMU maps it")
	require.Zero(t, r.mapFile(0xc0000, 0x340000, 0xc0000, 3, fd), "and above")
	require.Zero(t, r.mapFile(1<<30, 0x1000, 0x1000, 1, fd), "a page, as with an IOMMU of the VMM's")
	for _, at := range []addr.IOVA{0x1000, 0xc0000, 0x200000, 1 << 30} {
		if err := r.dev.dma(at, make([]byte, 8), at == 0xc0000); err != nil {
			require.ErrorIs(t, err, unix.EFAULT)
		}
	}
	require.Zero(t, r.unmap(0, 0xa0000))
	require.Zero(t, r.unmap(0xc0000, 0x340000))
	require.Zero(t, r.unmap(1<<30, 0x1000))
}
