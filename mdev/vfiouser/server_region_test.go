//go:build linux

package vfiouser

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

func access(region uint32, off uint64, n uint32, data ...byte) []byte {
	return append(wire.RegionAccess{Offset: off, Region: region, Count: n}.Append(nil), data...)
}

// TestRegionRead: specs, "REGION_READ (9)".
func TestRegionRead(t *testing.T) {
	config := access(mdev.Config, 0, 256)
	for i := range 256 {
		config = append(config, byte(i)+mdev.Config<<4)
	}
	negotiated(t, nil).run(t, []wireRow{
		{"1 byte: offset and region echoed, data behind", wire.CmdRegionRead, access(mdev.Config, 3, 1), 0, 0, access(mdev.Config, 3, 1, 0x73)},
		{"2 bytes", wire.CmdRegionRead, access(mdev.Config, 2, 2), 0, 0, access(mdev.Config, 2, 2, 0x72, 0x73)},
		{"8 bytes", wire.CmdRegionRead, access(rigWhole, 8, 8), 0, 0, access(rigWhole, 8, 8, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f)},
		{"all of config space, as QEMU at realize", wire.CmdRegionRead, access(mdev.Config, 0, 256), 0, 0, config},
		{"also of what may be mapped", wire.CmdRegionRead, access(rigSparse, 0x1000, 1), 0, 0, access(rigSparse, 0x1000, 1, 0x20)},
		{"count 0 succeeds", wire.CmdRegionRead, access(rigRegs, 0, 0), 0, 0, access(rigRegs, 0, 0)},
		{"up to the last byte", wire.CmdRegionRead, access(mdev.Config, 255, 1), 0, 0, access(mdev.Config, 255, 1, 0x6f)},
		{"one byte beyond", wire.CmdRegionRead, access(mdev.Config, 255, 2), 0, unix.EINVAL, nil},
		{"offset+count passes 2^64", wire.CmdRegionRead, access(mdev.Config, 1<<64-1, 2), 0, unix.EINVAL, nil},
		{"an absent region", wire.CmdRegionRead, access(mdev.ROM, 0, 4), 0, unix.EINVAL, nil},
		{"a region beyond", wire.CmdRegionRead, access(10, 0, 4), 0, unix.EINVAL, nil},
		{"region 2^32-1", wire.CmdRegionRead, access(1<<32-1, 0, 4), 0, unix.EINVAL, nil},
		{"count above max_data_xfer_size", wire.CmdRegionRead, access(rigBig, 0, 1<<20+1), 0, unix.EINVAL, nil},
		{"count 2^32-1", wire.CmdRegionRead, access(rigBig, 0, 1<<32-1), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdRegionRead, access(rigRegs, 0, 4)[:15], 0, unix.EINVAL, nil},
		{"a long payload", wire.CmdRegionRead, access(rigRegs, 0, 4, 0), 0, unix.EINVAL, nil},
	})
	r := negotiated(t, nil)
	body := r.ok(wire.CmdRegionRead, access(rigBig, 4096, 1<<20))
	require.Len(t, body, 16+1<<20, "as much as max_data_xfer_size")
	require.Equal(t, byte(rigBig<<4+5), body[16+5])
}

// TestRegionWrite: specs, "REGION_WRITE (10)".
func TestRegionWrite(t *testing.T) {
	r := negotiated(t, nil)
	r.run(t, []wireRow{
		{"the reply has 16 bytes with the count written", wire.CmdRegionWrite, access(rigRegs, 16, 4, 1, 2, 3, 4), 0, 0, access(rigRegs, 16, 4)},
		{"and it is there", wire.CmdRegionRead, access(rigRegs, 16, 4), 0, 0, access(rigRegs, 16, 4, 1, 2, 3, 4)},
		{"1 byte", wire.CmdRegionWrite, access(mdev.Config, 4, 1, 6), 0, 0, access(mdev.Config, 4, 1)},
		{"count 0 succeeds", wire.CmdRegionWrite, access(rigRegs, 0, 0), 0, 0, access(rigRegs, 0, 0)},
		{"more count than data", wire.CmdRegionWrite, access(rigRegs, 0, 5, 1, 2, 3, 4), 0, unix.EINVAL, nil},
		{"less count than data", wire.CmdRegionWrite, access(rigRegs, 0, 3, 1, 2, 3, 4), 0, unix.EINVAL, nil},
		{"read only", wire.CmdRegionWrite, access(rigBig, 0, 1, 1), 0, unix.EINVAL, nil},
		{"out of bounds", wire.CmdRegionWrite, access(rigRegs, 4095, 2, 1, 2), 0, unix.EINVAL, nil},
		{"an absent region", wire.CmdRegionWrite, access(mdev.ROM, 0, 1, 1), 0, unix.EINVAL, nil},
		{"a region beyond", wire.CmdRegionWrite, access(10, 0, 1, 1), 0, unix.EINVAL, nil},
		{"a short payload", wire.CmdRegionWrite, access(rigRegs, 0, 0)[:15], 0, unix.EINVAL, nil},
	})
	big := access(rigWhole, 0, 64<<10, bytes.Repeat([]byte{1}, 64<<10)...)
	require.Equal(t, big[:16], r.ok(wire.CmdRegionWrite, big))
	largest := access(rigWhole, 0, 1<<20, make([]byte, 1<<20)...)
	require.Equal(t, unix.EINVAL, r.errno(wire.CmdRegionWrite, largest), "framed: 1 MiB + 32 bytes is the largest message")
	r.alive()
}

// TestDeviceRefuses: the errno of the device is that of the reply.
func TestDeviceRefuses(t *testing.T) {
	r := negotiated(t, nil, func(d *rigDevice) {
		d.onRead = func(_ int, off uint64, _ []byte) error {
			if off == 8 {
				return errs.ErrState
			}
			return nil
		}
		d.onWrite = func(_ int, off uint64, _ []byte) error {
			if off == 8 {
				return unix.ENXIO
			}
			return nil
		}
	})
	require.Equal(t, unix.EIO, r.errno(wire.CmdRegionRead, access(rigRegs, 8, 4)))
	require.Equal(t, unix.ENXIO, r.errno(wire.CmdRegionWrite, access(rigRegs, 8, 1, 1)))
	r.alive()
}

func multi(n uint64, writes ...wire.MultiEntry) []byte {
	b := wire.AppendCount(nil, n)
	for _, w := range writes {
		b = w.Append(b)
	}
	return b
}

func entry(region uint32, off uint64, n uint32, data ...byte) wire.MultiEntry {
	e := wire.MultiEntry{RegionAccess: wire.RegionAccess{Offset: off, Region: region, Count: n}}
	copy(e.Data[:], data)
	return e
}

// TestWriteMulti: specs, "REGION_WRITE_MULTI (15)".
func TestWriteMulti(t *testing.T) {
	var mu sync.Mutex
	var written []uint64 // guarded by mu
	r := negotiated(t, nil, func(d *rigDevice) {
		d.onWrite = func(_ int, off uint64, _ []byte) error {
			if off == 0x800 {
				return unix.ENXIO
			}
			mu.Lock()
			written = append(written, off)
			mu.Unlock()
			return nil
		}
	})
	count := func(n uint64) []byte { return wire.AppendCount(nil, n) }
	a, b, c := entry(rigRegs, 1, 1, 0xa), entry(rigRegs, 2, 2, 0xb, 0xc), entry(rigRegs, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8)
	r.run(t, []wireRow{
		{"in order; the reply has the number done", wire.CmdWriteMulti, multi(3, a, b, c), 0, 0, count(3)},
		{"none", wire.CmdWriteMulti, multi(0), 0, 0, count(0)},
		{"count 0 in an entry: nothing is done", wire.CmdWriteMulti, multi(2, a, entry(rigRegs, 0, 0)), 0, unix.EINVAL, nil},
		{"count 9 in an entry", wire.CmdWriteMulti, multi(2, a, entry(rigRegs, 0, 9)), 0, unix.EINVAL, nil},
		{"fewer entries than claimed", wire.CmdWriteMulti, multi(4, a, b, c), 0, unix.EINVAL, nil},
		{"more", wire.CmdWriteMulti, multi(2, a, b, c), 0, unix.EINVAL, nil},
		{"2^64-1 entries", wire.CmdWriteMulti, multi(1<<64-1, a), 0, unix.EINVAL, nil},
		{"so many that their size wraps", wire.CmdWriteMulti, multi(1<<61, a), 0, unix.EINVAL, nil},
		{"half an entry", wire.CmdWriteMulti, multi(1, a)[:20], 0, unix.EINVAL, nil},
		{"an entry and a half", wire.CmdWriteMulti, multi(1, a, b)[:8+36], 0, unix.EINVAL, nil},
		{"7 bytes", wire.CmdWriteMulti, count(0)[:7], 0, unix.EINVAL, nil},
		{"the first fails: so does the message", wire.CmdWriteMulti, multi(2, entry(rigRegs, 0x800, 1), a), 0, unix.ENXIO, nil},
		{"a later one fails: those before are done, those after not", wire.CmdWriteMulti, multi(3, b, entry(rigRegs, 0x800, 1), c), 0, 0, count(1)},
		{"out of bounds", wire.CmdWriteMulti, multi(1, entry(rigRegs, 4096, 1)), 0, unix.EINVAL, nil},
	})
	mu.Lock()
	require.Equal(t, []uint64{1, 2, 8, 2}, written)
	mu.Unlock()
	require.Equal(t, []byte{0, 0xa, 0xb, 0xc, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, r.ok(wire.CmdRegionRead, regRead(0, 16))[16:])

	// QEMU sends 200 at a time, NO_REPLY, between other writes.
	var all []wire.MultiEntry
	for i := range 200 {
		all = append(all, entry(rigRegs, uint64(4*i), 4, byte(i), 1, 2, 3))
	}
	payload := multi(200, all...)
	require.Len(t, frame(0, wire.CmdWriteMulti, wire.NoReply, payload), 4824)
	r.write(frame(0, wire.CmdWriteMulti, wire.NoReply, payload))
	r.write(frame(0, wire.CmdRegionWrite, wire.NoReply, regWrite(796, 0xff)))
	require.Equal(t, []byte{0xff, 1, 2, 3}, r.ok(wire.CmdRegionRead, regRead(796, 4))[16:])
	require.Equal(t, []byte{198, 1, 2, 3}, r.ok(wire.CmdRegionRead, regRead(792, 4))[16:])
}
