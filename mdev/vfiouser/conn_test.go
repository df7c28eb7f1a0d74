//go:build linux

package vfiouser

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// testConn is a conn with a raw peer at its other end. No descriptor may be
// left when the test ends.
func testConn(t testing.TB, cfg connConfig) (*conn, *socketEnd) {
	t.Helper()
	noLeaks(t)
	a, b := socketPair(t)
	if cfg.maxMessage == 0 {
		cfg.maxMessage = 1<<20 + 32
	}
	if cfg.maxFDs == 0 {
		cfg.maxFDs = 16
	}
	if cfg.messageTime == 0 {
		cfg.messageTime = 10 * time.Second
	}
	if cfg.sendTime == 0 {
		cfg.sendTime = 10 * time.Second
	}
	p := newSocketEnd(t, b)
	c, err := newConn(a, cfg)
	require.NoError(t, err)
	t.Cleanup(c.close)
	return c, p
}

// TestReceiveInPieces: "cope with short reads of the body" - and of anything
// else: every message arrives whole however it is cut.
func TestReceiveInPieces(t *testing.T) {
	sizes := []int{0, 1, 8, 15, 16, 17, 20, 32, 100, 5000}
	for _, step := range []int{1, 3, 15, 16, 17, 31, 32, 33, 47, 48, 4096, 1 << 20} {
		c, p := testConn(t, connConfig{})
		var stream []byte
		for i, n := range sizes {
			stream = append(stream, frame(uint16(i), wire.CmdMigDataWrite, 0, bytes.Repeat([]byte{byte(i + 1)}, n))...)
		}
		background(t, func() {
			for len(stream) > 0 {
				n := min(step, len(stream))
				if p.tryWrite(stream[:n]) != nil {
					return
				}
				stream = stream[n:]
			}
		})
		var m message
		for i, n := range sizes {
			require.NoError(t, c.recv(&m), "step %d", step)
			require.Equal(t, uint16(i), m.ID, "step %d", step)
			require.Equal(t, bytes.Repeat([]byte{byte(i + 1)}, n), append([]byte{}, m.body...), "step %d message %d", step, i)
			require.Empty(t, m.fds)
		}
	}
}

// TestFilesBelongToTheirMessage: "a server must ... not read past the current
// message (fds would be attributed to the wrong message)": files stay with the
// message that they were sent with, whatever waits in the socket around it.
func TestFilesBelongToTheirMessage(t *testing.T) {
	short := frame(1, wire.CmdDeviceReset, 0, nil)                        // 16 bytes
	stop := frame(2, wire.CmdFeature, 0, make([]byte, 8))                 // 24
	read := frame(3, wire.CmdRegionRead, 0, make([]byte, 16))             // 32
	disarm := frame(4, wire.CmdSetIRQs, 0, make([]byte, wire.SetIRQsLen)) // 36
	mapping := frame(5, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen))  // 48
	long := frame(6, wire.CmdRegionWrite, 0, make([]byte, 16+9000))       // beyond any buffer
	posted := frame(7, wire.CmdRegionWrite, wire.NoReply, make([]byte, 16+4))

	type sent struct {
		b     []byte
		files int
	}
	rows := []struct {
		name string
		sent []sent
	}{
		{"a map alone", []sent{{mapping, 1}}},
		{"behind a reset", []sent{{short, 0}, {mapping, 1}}},
		{"behind many resets", []sent{{short, 0}, {short, 0}, {short, 0}, {short, 0}, {short, 0}, {mapping, 1}, {short, 0}}},
		{"behind a feature", []sent{{stop, 0}, {mapping, 1}, {stop, 0}, {stop, 0}, {mapping, 1}}},
		{"behind a read", []sent{{read, 0}, {mapping, 1}, {read, 0}}},
		{"behind a disarm, which could have files", []sent{{disarm, 0}, {mapping, 1}, {disarm, 0}, {disarm, 3}}},
		{"two maps", []sent{{mapping, 1}, {mapping, 1}}},
		{"with and without", []sent{{mapping, 1}, {mapping, 0}, {mapping, 1}, {mapping, 0}, {mapping, 0}, {mapping, 1}}},
		{"behind posted writes", []sent{{posted, 0}, {posted, 0}, {mapping, 1}, {posted, 0}, {disarm, 16}, {posted, 0}}},
		{"behind a long message", []sent{{long, 0}, {mapping, 1}, {long, 0}, {short, 0}, {mapping, 1}}},
		{"files of a message that should have none", []sent{{short, 2}, {mapping, 1}, {short, 1}, {short, 0}, {read, 1}, {short, 0}}},
		{"16 and 16, one after the other", []sent{{disarm, 16}, {disarm, 16}, {disarm, 16}, {mapping, 1}}},
		{"16 behind a message of which some was read ahead", []sent{{posted, 0}, {stop, 16}, {short, 16}, {disarm, 16}, {disarm, 16}}},
		{"a write, a reset and the start of a map at once", []sent{{posted, 0}, {short, 0}, {mapping, 1}}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			c, p := testConn(t, connConfig{})
			file := memFile(t, 4096)
			for _, s := range r.sent { // all of it before the first is received
				fds := make([]int, s.files)
				for i := range fds {
					fds[i] = file
				}
				p.write(s.b, fds...)
			}
			var m message
			for i, s := range r.sent {
				require.NoError(t, c.recv(&m))
				require.Equal(t, wire.DecodeHeader((*[16]byte)(s.b)).ID, m.ID)
				require.Len(t, m.fds, s.files, "message %d", i)
				for _, fd := range m.fds {
					sameFile(t, file, fd)
					flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
					require.NoError(t, err)
					require.Equal(t, unix.FD_CLOEXEC, flags, `"set close-on-exec (MSG_CMSG_CLOEXEC)"`)
				}
				closeFDs(m.fds)
			}
		})
	}
}

// TestFilesOfPieces: a message that is sent in pieces has the files of all of
// them.
func TestFilesOfPieces(t *testing.T) {
	c, p := testConn(t, connConfig{})
	file := memFile(t, 4096)
	b := frame(1, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen))
	for _, cut := range []int{1, 16, 20, 32, 40} {
		for _, first := range []bool{true, false} {
			if first {
				p.write(b[:cut], file)
				p.write(b[cut:])
			} else {
				p.write(b[:cut])
				p.write(b[cut:], file)
			}
			p.write(frame(2, wire.CmdDeviceReset, 0, nil))
			var m message
			require.NoError(t, c.recv(&m))
			require.Len(t, m.fds, 1, "cut at %d", cut)
			closeFDs(m.fds)
			require.NoError(t, c.recv(&m))
			require.Empty(t, m.fds)
		}
	}
}

// TestFilesOfShortPieces: files of a message that is shorter than what is asked
// for at first, in pieces, with another behind it.
func TestFilesOfShortPieces(t *testing.T) {
	c, p := testConn(t, connConfig{})
	file := memFile(t, 4096)
	b := frame(1, wire.CmdFeature, 0, make([]byte, 8)) // 24 bytes
	p.write(b[:10], file)
	background(t, func() {
		time.Sleep(20 * time.Millisecond)
		_ = p.tryWrite(append(append([]byte{}, b[10:]...), frame(2, wire.CmdDeviceReset, 0, nil)...))
	})
	var m message
	require.NoError(t, c.recv(&m))
	require.Len(t, m.fds, 1)
	closeFDs(m.fds)
	require.NoError(t, c.recv(&m))
	require.Equal(t, uint16(2), m.ID)
	require.Empty(t, m.fds)
}

// TestReceiveEnds: what ends a connection, and that it takes the files along.
func TestReceiveEnds(t *testing.T) {
	reset := frame(1, wire.CmdDeviceReset, 0, nil)
	sized := func(n uint32) []byte {
		return wire.Header{ID: 9, Command: wire.CmdDMAMap, Size: n}.Append(nil)
	}
	rows := []struct {
		name  string
		b     []byte
		files int
		want  error
	}{
		{"the peer is gone", nil, 0, io.EOF},
		{"within a header", reset[:7], 0, io.ErrUnexpectedEOF},
		{"within a header, with files", reset[:7], 3, io.ErrUnexpectedEOF},
		{"within a body", sized(48), 0, io.ErrUnexpectedEOF},
		{"within a body, with files", sized(48), 2, io.ErrUnexpectedEOF},
		{"msg_size 0", sized(0), 1, errFraming},
		{"msg_size 15: < 16 is a protocol error", sized(15), 1, errFraming},
		{"msg_size one too many: capped before allocating", sized(1<<20 + 33), 1, errFraming},
		{"msg_size 2^32-1", sized(1<<32 - 1), 1, errFraming},
		{"17 files: MSG_CTRUNC is fatal", reset, 17, errTruncated},
		{"100 files", reset, 100, errTruncated},
		{"200 files", reset, 200, errTruncated},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			c, p := testConn(t, connConfig{})
			file := memFile(t, 0)
			fds := make([]int, r.files)
			for i := range fds {
				fds[i] = file
			}
			if len(r.b) > 0 {
				p.write(r.b, fds...)
			}
			p.close()
			var m message
			require.ErrorIs(t, c.recv(&m), r.want)
			require.Empty(t, m.fds)
		})
	}
}

// TestReceiveAheadOfEnd: files that came ahead of a message that never came
// whole are closed with the connection.
func TestReceiveAheadOfEnd(t *testing.T) {
	c, p := testConn(t, connConfig{})
	file := memFile(t, 0)
	p.write(frame(1, wire.CmdDeviceReset, 0, nil))
	p.write(frame(2, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen))[:20], file)
	var m message
	require.NoError(t, c.recv(&m))
	require.Empty(t, m.fds)
	require.Len(t, c.aheadFDs, 1)
} // and testConn looks

// TestReceiveTime: idle for ever, but not in the middle of a message.
func TestReceiveTime(t *testing.T) {
	const limit = 50 * time.Millisecond
	t.Run("idle", func(t *testing.T) {
		c, p := testConn(t, connConfig{messageTime: limit})
		background(t, func() {
			time.Sleep(4 * limit)
			_ = p.tryWrite(frame(1, wire.CmdDeviceReset, 0, nil))
		})
		var m message
		require.NoError(t, c.recv(&m))
	})
	t.Run("non-blocking behind our back", func(t *testing.T) {
		c, p := testConn(t, connConfig{messageTime: limit})
		require.NoError(t, unix.SetNonblock(c.fd, true))
		background(t, func() {
			time.Sleep(2 * limit)
			_ = p.tryWrite(frame(1, wire.CmdDeviceReset, 0, nil))
		})
		var m message
		require.NoError(t, c.recv(&m))
	})
	for name, b := range map[string][]byte{
		"one byte":         {1},
		"a header":         frame(1, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen))[:16],
		"half a body":      frame(1, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen))[:33],
		"a long body":      frame(1, wire.CmdRegionWrite, 0, make([]byte, 100000))[:50000],
		"a header of next": append(frame(1, wire.CmdDeviceReset, 0, nil), 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			c, p := testConn(t, connConfig{messageTime: limit})
			p.write(b)
			var m message
			err := c.recv(&m)
			if err == nil {
				err = c.recv(&m)
			}
			require.ErrorIs(t, err, errStalled)
		})
	}
	t.Run("a byte now and then", func(t *testing.T) {
		c, p := testConn(t, connConfig{messageTime: limit})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, x := range frame(1, wire.CmdRegionWrite, 0, make([]byte, 1000)) {
				if p.tryWrite([]byte{x}) != nil {
					return
				}
				time.Sleep(limit / 5)
			}
		}()
		var m message
		begun := time.Now()
		require.ErrorIs(t, c.recv(&m), errStalled)
		require.Less(t, time.Since(begun), 20*limit)
		c.close()
		<-done
	})
}

// TestSend: messages of all sizes arrive, with their files, also through a
// socket that takes little at a time.
func TestSend(t *testing.T) {
	c, p := testConn(t, connConfig{})
	require.NoError(t, unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
	file := memFile(t, 0)
	sizes := []int{0, 1, 16, 4096, 100_000, 1 << 20}
	background(t, func() {
		for i, n := range sizes {
			b := bytes.Repeat([]byte{byte(i)}, n)
			if c.send(wire.Header{ID: uint16(i), Command: wire.CmdRegionRead, Flags: wire.TypeReply}, b[:n/3], b[n/3:], []int{file, file}[:i%3]) != nil {
				return
			}
			if c.sendBytes(frame(99, wire.CmdRegionRead, 0, b)) != nil {
				return
			}
		}
	})
	for i, n := range sizes {
		h, body, files := p.next()
		require.Equal(t, wire.Header{ID: uint16(i), Command: wire.CmdRegionRead, Flags: wire.TypeReply, Size: uint32(16 + n)}, h)
		require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, n), body))
		require.Len(t, files, i%3)
		h, body, files = p.next()
		require.Equal(t, uint16(99), h.ID)
		require.Len(t, body, n)
		require.Empty(t, files, "files go with their message alone")
	}
}

// TestSendEnds: a peer that does not read does not hold us for ever, and after
// a failure no half message is followed by another.
func TestSendEnds(t *testing.T) {
	t.Run("gone", func(t *testing.T) {
		c, p := testConn(t, connConfig{})
		p.close()
		require.ErrorIs(t, c.send(wire.Header{}, nil, nil, nil), io.ErrClosedPipe)
		require.ErrorIs(t, c.sendBytes(make([]byte, 16)), io.ErrClosedPipe)
	})
	t.Run("does not read", func(t *testing.T) {
		c, _ := testConn(t, connConfig{sendTime: 50 * time.Millisecond})
		begun := time.Now()
		require.ErrorIs(t, c.send(wire.Header{}, make([]byte, 8<<20), nil, nil), errStalled)
		require.Less(t, time.Since(begun), 5*time.Second)
		require.ErrorIs(t, c.send(wire.Header{}, nil, nil, nil), errStalled, "the stream is cut")
	})
	t.Run("reads slowly", func(t *testing.T) {
		c, p := testConn(t, connConfig{sendTime: 50 * time.Millisecond})
		require.NoError(t, unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 1024)
			for {
				if n, err := unix.Read(p.fd, b); err != nil || n == 0 {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		require.ErrorIs(t, c.send(wire.Header{}, make([]byte, 8<<20), nil, nil), errStalled)
		c.close()
		<-done
	})
	t.Run("more files than a message takes", func(t *testing.T) {
		c, p := testConn(t, connConfig{})
		require.ErrorIs(t, c.send(wire.Header{}, nil, nil, make([]int, maxSendFDs+1)), errManyFDs)
		require.NoError(t, c.send(wire.Header{ID: 5}, nil, nil, nil), "nothing was sent")
		h, _, _ := p.next()
		require.Equal(t, uint16(5), h.ID)
	})
}

// TestShutdown: whoever waits in recv returns, and shutdown may come at any
// time.
func TestShutdown(t *testing.T) {
	c, _ := testConn(t, connConfig{})
	background(t, func() {
		time.Sleep(20 * time.Millisecond)
		c.shutdown()
	})
	var m message
	require.ErrorIs(t, c.recv(&m), io.EOF)
	c.close()
	c.shutdown()
	c.close()
}

// TestNewConnRefuses: only a UNIX stream socket carries files.
func TestNewConnRefuses(t *testing.T) {
	noLeaks(t)
	dgram, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(dgram[1])
	inet, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	var pipe [2]int
	require.NoError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	defer unix.Close(pipe[1])
	for name, fd := range map[string]int{"datagram": dgram[0], "inet": inet, "pipe": pipe[0]} {
		_, err := newConn(fd, connConfig{maxFDs: 1})
		require.Error(t, err, name)
		_, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.Equal(t, unix.EBADF, err, "%s: taken over, and closed", name)
	}
	_, err = newConn(-1, connConfig{})
	require.Error(t, err)
}

// TestExtraControl: credentials, time stamps and pidfds that somebody turned
// on for the socket do not disturb, nor stay open.
func TestExtraControl(t *testing.T) {
	c, p := testConn(t, connConfig{})
	const soPassPIDFD = 76
	require.NoError(t, unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, soPassPIDFD, 1); err != nil {
		t.Log("SO_PASSPIDFD:", err)
	}
	file := memFile(t, 0)
	fds := make([]int, 16)
	for i := range fds {
		fds[i] = file
	}
	for range 3 {
		p.write(frame(1, wire.CmdSetIRQs, 0, make([]byte, wire.SetIRQsLen)), fds...)
		p.write(frame(1, wire.CmdDeviceReset, 0, nil))
		var m message
		require.NoError(t, c.recv(&m))
		require.Len(t, m.fds, 16)
		closeFDs(m.fds)
		require.NoError(t, c.recv(&m))
		require.Empty(t, m.fds)
	}
}

// TestConnAllocs: a message in and one out cost no allocation.
func TestConnAllocs(t *testing.T) {
	c, p := testConn(t, connConfig{})
	in := append(frame(1, wire.CmdRegionRead, 0, make([]byte, 16)), frame(2, wire.CmdRegionWrite, 0, make([]byte, 20))...)
	out := make([]byte, 36)
	sink := make([]byte, 4096)
	var m message
	require.Zero(t, testing.AllocsPerRun(200, func() {
		unix.Write(p.fd, in)
		for range 2 {
			if c.recv(&m) != nil || c.sendBytes(out) != nil {
				panic("lost")
			}
		}
		unix.Read(p.fd, sink)
	}))
}
