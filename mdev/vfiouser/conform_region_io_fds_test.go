//go:build linux

package vfiouser

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_device_get_region_io_fds.py.
func TestConformRegionIOFDs(t *testing.T) {
	ask := func(argsz, flags, index, count uint32) []byte {
		return wire.IOFDs{Argsz: argsz, Flags: flags, Index: index, Count: count}.Append(nil)
	}
	negotiated(t, nil).scenarios(t, []scenario{
		{"test_device_get_region_io_fds_bad_flags: section 8", wire.CmdRegionIOFDs, ask(16+5*48, 1, rigRegs, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_io_fds_bad_count: section 8", wire.CmdRegionIOFDs, ask(16+5*48, 0, rigRegs, 1), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_io_fds_buffer_too_small: section 8", wire.CmdRegionIOFDs, ask(15, 0, rigRegs, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_io_fds_buffer_too_large: section 8, with a count", wire.CmdRegionIOFDs, ask(1<<20+1, 0, rigRegs, 1), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_device_get_region_io_fds_buffer_too_large: argsz alone", wire.CmdRegionIOFDs, ask(1<<20+1, 0, rigBig, 0), 0, 0, unix.EINVAL, "argsz-room", nil},
		{"test_device_get_region_io_fds_no_fds: section 8", wire.CmdRegionIOFDs, ask(512, 0, rigBig, 0), 0, 0, 0, "", ask(16, 0, rigBig, 0)},
		{"test_device_get_region_io_fds_no_regions_setup: an absent region", wire.CmdRegionIOFDs, ask(512, 0, mdev.BAR1, 0), 0, 0, unix.EINVAL, "io-fds-absent", ask(16, 0, mdev.BAR1, 0)},
		{"test_device_get_region_io_fds_region_no_mmap: section 8", wire.CmdRegionIOFDs, ask(512, 0, mdev.Config, 0), 0, 0, 0, "", ask(16, 0, mdev.Config, 0)},
		{"test_device_get_region_io_fds_region_out_of_range: section 8", wire.CmdRegionIOFDs, ask(512, 0, 512, 0), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_shadow_ioeventfd_none: section 8", wire.CmdRegionIOFDs, ask(16+48, 0, rigWhole, 0), 0, 0, 0, "", ask(16, 0, rigWhole, 0)},
		{"test_device_get_region_io_fds_full: section 8, one byte too few for all: count, argsz, no entries", wire.CmdRegionIOFDs, ask(16+2*40-1, 0, rigRegs, 0), 0, 0, 0, "", ask(16+2*40, 0, rigRegs, 2)},
	})
}

// test_device_get_region_io_fds.py: the files reach the client, and what it
// writes to them the device. The layout of the entries is the
// specification's, of 40 bytes: theirs has 48.
func TestConformRegionIOFDsSignals(t *testing.T) {
	differs(t, "io-fds-layout")
	type write struct {
		off uint64
		val uint64
	}
	writes := make(chan write, 64)
	d := newDuo(t, nil, nil, func(dev *rigDevice) mdev.Device {
		dev.onWrite = func(region int, off uint64, p []byte) error {
			var b [8]byte
			copy(b[:], p)
			writes <- write{off, binary.NativeEndian.Uint64(b[:])}
			return nil
		}
		return dev
	})
	fds, err := d.RegionIOFDs(d.ctx, rigRegs)
	require.NoError(t, err)
	defer CloseIOFDs(fds)
	require.Len(t, fds, 2)
	require.Equal(t, []any{uint64(0x100), uint64(4), wire.IOEventFD, uint32(0), uint64(0)}, []any{fds[0].Offset, fds[0].Size, fds[0].Type, fds[0].Flags, fds[0].Data})
	require.Equal(t, []any{uint64(0x200), uint64(2), wire.IOEventFD, uint32(wire.IOEventFDMatch), uint64(0x55)}, []any{fds[1].Offset, fds[1].Size, fds[1].Type, fds[1].Flags, fds[1].Data})
	for i := range fds {
		_, err := fds[i].File.Write([]byte{10, 0, 0, 0, 0, 0, 0, 0})
		require.NoError(t, err)
	}
	got := map[write]bool{<-writes: true, <-writes: true}
	require.Equal(t, map[write]bool{{0x100, 0}: true, {0x200, 0x55}: true}, got)

	// Each time the same ones, and no more of them: test_device_get_region_io_fds_full.
	again, err := d.RegionIOFDs(d.ctx, rigRegs)
	require.NoError(t, err)
	require.Len(t, again, 2)
	CloseIOFDs(again)
}

// test_device_get_region_io_fds_invalid_fd, test_shadow_ioeventfd.py: what a
// libvfio-user server sends. Its entries may share a file, have none, or have
// memory that the write goes to.
func TestConformRegionIOFDsOfOthers(t *testing.T) {
	entry := func(off uint64, fd, typ, shadow uint32, shadowOff, match uint64) []byte {
		b := wire.IOFD{Offset: off, Size: 8, Index: fd, Type: wire.IOFDType(typ), Pad: shadow, Data: shadowOff}.Append(nil)
		return binary.NativeEndian.AppendUint64(b, match)
	}
	for _, tt := range []struct {
		name    string
		entries [][]byte
		files   int
		want    func(t *testing.T, fds []IOFD)
		err     string
	}{
		{"two files in five entries", [][]byte{
			entry(32, 0, 0, 0, 0, 0), entry(24, noFile, 0, 0, 0, 0), entry(16, 0, 0, 0, 0, 7), entry(8, noFile, 0, 0, 0, 0), entry(0, 1, 0, 0, 0, 0),
		}, 2, func(t *testing.T, fds []IOFD) {
			require.Same(t, fds[0].File, fds[2].File)
			require.NotSame(t, fds[0].File, fds[4].File)
			require.Nil(t, fds[1].File)
			require.Nil(t, fds[3].File)
			require.Equal(t, uint64(7), fds[2].Data)
			require.Equal(t, []uint64{32, 24, 16, 8, 0}, []uint64{fds[0].Offset, fds[1].Offset, fds[2].Offset, fds[3].Offset, fds[4].Offset})
		}, ""},
		{"test_shadow_ioeventfd", [][]byte{entry(8, 0, 2, 1, 0x10, 0)}, 2, func(t *testing.T, fds []IOFD) {
			require.NotNil(t, fds[0].Shadow)
			require.NotSame(t, fds[0].File, fds[0].Shadow)
			require.Equal(t, uint64(0x10), fds[0].ShadowOffset)
			require.Equal(t, lvuIOShadow, fds[0].Type)
		}, ""},
		{"a file that is not there", [][]byte{entry(8, 2, 0, 0, 0, 0)}, 2, nil, "file 2 of 2"},
		{"a shadow that is not there", [][]byte{entry(8, 0, 2, 9, 0, 0)}, 1, nil, "file 9 of 1"},
		{"files that no entry names", [][]byte{entry(8, 0, 0, 0, 0, 0)}, 5, func(t *testing.T, fds []IOFD) { require.Len(t, fds, 1) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaves(t)
			c := scripted(t, nil, func(p *rawPeer) {
				for {
					m, err := p.recv()
					if err != nil {
						return
					}
					r := wire.IOFDs{Argsz: uint32(16 + 48*len(tt.entries)), Index: 3, Count: uint32(len(tt.entries))}
					if q := wire.DecodeIOFDs((*[16]byte)(m.body)); q.Argsz < r.Argsz {
						p.reply(m, r.Append(nil))
						continue
					}
					b := r.Append(nil)
					for _, e := range tt.entries {
						b = append(b, e...)
					}
					p.reply(m, b, eventFDs(t, tt.files)...)
				}
			})
			fds, err := c.RegionIOFDs(bg(t), 3)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			tt.want(t, fds)
			CloseIOFDs(fds)
		})
	}
}

// A client that takes one file gets one event, and two concurrent askers get
// theirs.
func TestConformRegionIOFDsConcurrent(t *testing.T) {
	d := newDuo(t, nil, &ClientConfig{MaxFDs: 1}, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				fds, err := d.RegionIOFDs(context.Background(), rigRegs)
				if err != nil || len(fds) != 1 || fds[0].Offset != 0x100 {
					t.Errorf("%v %v", fds, err)
				}
				CloseIOFDs(fds)
				r, err := d.RegionInfo(context.Background(), rigSparse)
				if err != nil || r.Memory == nil {
					t.Errorf("%v %v", r, err)
					continue
				}
				r.Memory.Close()
			}
		})
	}
	wg.Wait()
}
