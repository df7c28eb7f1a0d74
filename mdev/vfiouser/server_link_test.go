//go:build linux

package vfiouser

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

func regRead(off uint64, n uint32) []byte {
	return wire.RegionAccess{Offset: off, Region: rigRegs, Count: n}.Append(nil)
}

func regWrite(off uint64, data ...byte) []byte {
	return append(wire.RegionAccess{Offset: off, Region: rigRegs, Count: uint32(len(data))}.Append(nil), data...)
}

// TestHeader: specs, "Transport and framing": what is refused with the session
// going on, and what ends it.
func TestHeader(t *testing.T) {
	get := wire.DeviceInfo{Argsz: 16}.Append(nil)
	rows := []struct {
		name   string
		b      []byte
		reply  wire.Header // of the first message; zero: none
		closed bool
	}{
		{"an unknown command is answered with an error", frame(7, 19, 0, get),
			wire.Header{ID: 7, Command: 19, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"14, the old DIRTY_PAGES", frame(7, 14, 0, get),
			wire.Header{ID: 7, Command: 14, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"command 0", frame(7, 0, 0, get), wire.Header{ID: 7, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"command 65535", frame(7, 65535, 0, get),
			wire.Header{ID: 7, Command: 65535, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"DMA_READ goes the other way", frame(7, wire.CmdDMARead, 0, get),
			wire.Header{ID: 7, Command: 11, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"DMA_WRITE goes the other way", frame(7, wire.CmdDMAWrite, 0, get),
			wire.Header{ID: 7, Command: 12, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"VERSION a second time", frame(7, wire.CmdVersion, 0, wire.Version{}.Append(nil)),
			wire.Header{ID: 7, Command: 1, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"an unknown flag", frame(7, wire.CmdDeviceInfo, 0x40, get),
			wire.Header{ID: 7, Command: 4, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"the highest flag", frame(7, wire.CmdDeviceInfo, 1<<31, get),
			wire.Header{ID: 7, Command: 4, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"ERROR in a command", frame(7, wire.CmdDeviceInfo, wire.Error, get),
			wire.Header{ID: 7, Command: 4, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, false},
		{"an unknown flag and NO_REPLY: no reply at all", frame(7, wire.CmdDeviceInfo, 0x40|wire.NoReply, get), wire.Header{}, false},
		{"a reply to nothing is dropped", frame(7, wire.CmdDMARead, wire.TypeReply, get), wire.Header{}, false},
		{"an error reply to nothing", frame(7, wire.CmdDMARead, wire.TypeReply|wire.Error, nil), wire.Header{}, false},
		{"a message of type 2 ends it", frame(7, wire.CmdDeviceInfo, 2, get), wire.Header{}, true},
		{"msg_size 15 ends it", wire.Header{ID: 7, Command: 4, Size: 15}.Append(nil),
			wire.Header{ID: 7, Command: 4, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, true},
		{"msg_size 1 MiB + 33 ends it", wire.Header{ID: 7, Command: 10, Size: 1<<20 + 33}.Append(nil),
			wire.Header{ID: 7, Command: 10, Size: 16, Flags: 0x21, Errno: uint32(unix.EINVAL)}, true},
		{"msg_size beyond all, NO_REPLY", wire.Header{ID: 7, Command: 10, Flags: wire.NoReply, Size: 1<<32 - 1}.Append(nil), wire.Header{}, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := negotiated(t, nil)
			r.write(row.b)
			if row.reply != (wire.Header{}) {
				h, body, _ := r.next()
				require.Equal(t, row.reply, h)
				require.Empty(t, body)
			}
			if row.closed {
				r.eof()
				require.ErrorIs(t, r.wait(), errFraming)
				return
			}
			r.alive()
		})
	}
}

// TestEmptyPayload: every command but DEVICE_RESET has a payload.
func TestEmptyPayload(t *testing.T) {
	r := negotiated(t, nil)
	for c := range wire.MaxCommand + 1 {
		if c.Known() && c != wire.CmdDeviceReset {
			require.Equal(t, unix.EINVAL, r.errno(c, nil), c)
		}
	}
	require.Zero(t, r.errno(wire.CmdDeviceReset, nil))
}

// TestSurplusFiles: "close every fd you do not keep, also on every error path":
// files that a message should not have are an error, and are closed.
func TestSurplusFiles(t *testing.T) {
	r := negotiated(t, nil)
	file := memFile(t, 1<<20)
	good := map[wire.Command][]byte{
		wire.CmdVersion:      wire.Version{}.Append(nil),
		wire.CmdDMAMap:       wire.DMAMap{Argsz: 32, Flags: wire.MapRead, Size: 4096}.Append(nil), // two: one is fine
		wire.CmdDMAUnmap:     wire.DMAUnmap{Argsz: 24, Flags: wire.UnmapAll}.Append(nil),
		wire.CmdDeviceInfo:   wire.DeviceInfo{Argsz: 16}.Append(nil),
		wire.CmdRegionInfo:   wire.RegionInfo{Argsz: 32}.Append(nil),
		wire.CmdRegionIOFDs:  wire.IOFDs{Argsz: 16}.Append(nil),
		wire.CmdIRQInfo:      wire.IRQInfo{Argsz: 16}.Append(nil),
		wire.CmdSetIRQs:      wire.SetIRQs{Argsz: 20, Flags: wire.SetDataNone | wire.SetActionTrigger, Index: mdev.IRQMSIX}.Append(nil),
		wire.CmdRegionRead:   regRead(0, 4),
		wire.CmdRegionWrite:  regWrite(0, 1),
		wire.CmdDeviceReset:  nil,
		wire.CmdWriteMulti:   wire.AppendCount(nil, 0),
		wire.CmdFeature:      wire.DeviceFeature{Argsz: 16, Flags: wire.FeatureGet | 1}.Append(nil),
		wire.CmdMigDataRead:  wire.MigData{Argsz: 8}.Append(nil),
		wire.CmdMigDataWrite: wire.MigData{Argsz: 8}.Append(nil),
		99:                   nil,
	}
	before := openFiles(t)
	for c, payload := range good {
		for _, n := range []int{2, 16} {
			fds := make([]int, n)
			for i := range fds {
				fds[i] = file
			}
			require.Equal(t, unix.EINVAL, r.errno(c, payload, fds...), "%v with %d files", c, n)
		}
	}
	r.alive()
	require.Len(t, openFiles(t), len(before))
}

// TestNoReply: "NO_REPLY commands get no reply at all, neither success nor
// error", and have been executed before the reply to what follows.
func TestNoReply(t *testing.T) {
	r := negotiated(t, nil)
	r.write(frame(1, wire.CmdRegionWrite, wire.NoReply, regWrite(8, 0xaa, 0xbb)))
	r.write(frame(2, wire.CmdRegionWrite, wire.NoReply, regWrite(1<<40, 1)))
	r.write(frame(3, wire.CmdRegionRead, wire.NoReply, regRead(0, 4)))
	r.write(frame(4, wire.CmdDeviceReset, wire.NoReply, []byte{1}))
	require.Equal(t, []byte{0xaa, 0xbb}, r.ok(wire.CmdRegionRead, regRead(8, 2))[wire.RegionAccessLen:])
	stats := r.s.Stats()
	require.Contains(t, stats.Current.Commands, CommandStats{wire.CmdRegionWrite, 2, 1})
	require.Contains(t, stats.Current.Commands, CommandStats{wire.CmdDeviceReset, 1, 1})
}

// TestInOrder: "the server must process commands strictly in arrival order.
// The client may pipeline", several to a system call or not, with IDs that
// repeat.
func TestInOrder(t *testing.T) {
	for _, together := range []bool{true, false} {
		r := negotiated(t, nil)
		const n = 500
		var all []byte
		for i := range n {
			id := uint16(i / 2)
			var value [4]byte
			binary.NativeEndian.PutUint32(value[:], uint32(i))
			b := frame(id, wire.CmdRegionWrite, wire.NoReply, regWrite(4, value[:]...))
			b = append(b, frame(id, wire.CmdRegionRead, 0, regRead(4, 4))...)
			if i%7 == 0 {
				b = append(b, frame(id, wire.CmdDeviceReset, 0, nil)...)
			}
			if together {
				all = append(all, b...)
			} else {
				r.write(b)
			}
		}
		if together {
			background(t, func() { _ = r.tryWrite(all) })
		}
		for i := range n {
			h, body, _ := r.next()
			require.Equal(t, wire.Header{ID: uint16(i / 2), Command: wire.CmdRegionRead, Size: 36, Flags: wire.TypeReply}, h)
			require.Equal(t, uint32(i), binary.NativeEndian.Uint32(body[16:]))
			if i%7 == 0 {
				h, _, _ := r.next()
				require.Equal(t, wire.CmdDeviceReset, h.Command)
				require.Zero(t, h.Errno)
			}
		}
	}
}

// TestReset: "no payload either way"; mappings and eventfds survive it.
func TestReset(t *testing.T) {
	r := negotiated(t, nil)
	require.Zero(t, r.mapFile(0, 4096, 0, 3, memFile(t, 4096)))
	require.Empty(t, r.ok(wire.CmdDeviceReset, nil))
	require.Equal(t, unix.EINVAL, r.errno(wire.CmdDeviceReset, []byte{0}))
	require.Len(t, r.mappings(), 1)
	r.dev.mu.Lock()
	require.Equal(t, []mdev.ResetKind{mdev.ResetDevice}, r.dev.resets)
	r.dev.mu.Unlock()
}

// TestClientGone: "server unmaps and closes all client memory, closes all irq
// fds, keeps the device state, listens again", whatever the client was doing.
func TestClientGone(t *testing.T) {
	rows := []struct {
		name string
		last []byte
		want error
	}{
		{"between messages", nil, nil},
		{"in a header", frame(1, wire.CmdRegionRead, 0, regRead(0, 4))[:9], io.ErrUnexpectedEOF},
		{"in a payload", frame(1, wire.CmdRegionRead, 0, regRead(0, 4))[:20], io.ErrUnexpectedEOF},
		{"with replies unread", frame(1, wire.CmdRegionRead, 0, regRead(0, 4)), io.ErrClosedPipe},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := negotiated(t, nil)
			file := memFile(t, 1<<20)
			require.Zero(t, r.mapFile(0, 4096, 0, 3, file))
			require.Zero(t, r.mapNothing(0x10000, 4096, 1))
			event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			require.NoError(t, err)
			defer unix.Close(event)
			require.Zero(t, r.errno(wire.CmdSetIRQs, wire.SetIRQs{
				Argsz: 20, Flags: wire.SetDataEventFD | wire.SetActionTrigger, Index: mdev.IRQMSIX, Count: 1,
			}.Append(nil), event))
			require.Zero(t, r.errno(wire.CmdRegionWrite, regWrite(0, 0x77)))
			session := r.s.Session()
			if len(row.last) > 0 {
				r.write(row.last, file)
			}
			switch err := r.end(); row.want {
			case nil:
				require.NoError(t, err)
			case io.ErrClosedPipe:
				require.Contains(t, []error{nil, io.ErrClosedPipe}, err, "as the client was quick to go")
			default:
				require.ErrorIs(t, err, row.want)
			}
			require.Nil(t, r.s.Session())
			require.Equal(t, mdev.StateClosed, session.State())
			require.Equal(t, [2]int{1, 1}, r.dev.openings())

			r.attach(t) // the next one
			r.negotiate(rigJSON)
			require.Equal(t, byte(0x77), r.ok(wire.CmdRegionRead, regRead(0, 1))[16], "the device keeps its state")
			require.Empty(t, r.mappings())
			require.Equal(t, [2]int{2, 1}, r.dev.openings())
			require.Equal(t, uint64(2), r.s.Stats().Clients)
		})
	}
}

// TestStall: a client that sends half a message, or does not take its replies,
// is lost in bounded time.
func TestStall(t *testing.T) {
	t.Run("half a message", func(t *testing.T) {
		r := negotiated(t, &ServerConfig{MessageTime: 50 * time.Millisecond})
		r.write(frame(1, wire.CmdRegionRead, 0, regRead(0, 4))[:20])
		r.eof()
		require.ErrorIs(t, r.wait(), errStalled)
	})
	t.Run("idle is no stall", func(t *testing.T) {
		r := negotiated(t, &ServerConfig{MessageTime: 20 * time.Millisecond})
		time.Sleep(100 * time.Millisecond)
		r.alive()
	})
	t.Run("does not take its replies", func(t *testing.T) {
		r := negotiated(t, &ServerConfig{SendTime: 50 * time.Millisecond})
		b := frame(1, wire.CmdRegionRead, 0, wire.RegionAccess{Region: rigBig, Count: 1 << 20}.Append(nil))
		for range 4 {
			if r.tryWrite(b) != nil {
				break
			}
		}
		require.ErrorIs(t, r.wait(), errStalled)
	})
	t.Run("never says VERSION", func(t *testing.T) {
		r := newRig(t, &ServerConfig{MessageTime: 50 * time.Millisecond})
		r.eof()
		require.ErrorIs(t, r.wait(), errStalled)
		require.Zero(t, r.dev.openings())
	})
}

// TestRegionReadAllocs: a read and a write of a register cost no allocation.
func TestRegionReadAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := negotiated(t, &ServerConfig{Log: discard})
	in := append(frame(1, wire.CmdRegionRead, 0, regRead(0, 4)), frame(2, wire.CmdRegionWrite, wire.NoReply, regWrite(0, 1, 2, 3, 4))...)
	out := make([]byte, 36)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		unix.Write(r.fd, in)
		for got := 0; got < len(out); {
			n, err := unix.Read(r.fd, out[got:])
			if err != nil && err != unix.EINTR {
				panic(err)
			}
			got += max(n, 0)
		}
	}))
}
