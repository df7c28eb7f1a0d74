//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// rawPeer is an end of a connection that says what a test wants said, well
// formed or not, a message at a time.
type rawPeer struct {
	*socketEnd
	lastID uint16
}

// rawPair is a connection: the peer, and the descriptor for the other end, which
// belongs to whoever it is given to.
func rawPair(t testing.TB) (*rawPeer, int) {
	t.Helper()
	a, b := socketPair(t)
	return newRawPeer(t, a), b
}

func newRawPeer(t testing.TB, fd int) *rawPeer { return &rawPeer{socketEnd: newSocketEnd(t, fd)} }

// rawMsg is a message as a test sees it.
type rawMsg struct {
	wire.Header
	body []byte
	fds  []int // the receiver's to close
}

// send sends a message; a Size of 0 is filled in.
func (p *rawPeer) send(h wire.Header, body []byte, fds ...int) {
	p.t.Helper()
	if h.Size == 0 {
		h.Size = uint32(wire.HeaderLen + len(body))
	}
	p.write(append(h.Append(nil), body...), fds...)
}

// recv receives a message. Its files are the caller's, unlike those of
// socketEnd's.
func (p *rawPeer) recv() (m rawMsg, err error) {
	var head [wire.HeaderLen]byte
	for got := 0; got < len(head); {
		n, fds, err := p.receive(head[got:])
		m.fds = append(m.fds, fds...)
		if err != nil {
			return m, err
		}
		got += n
	}
	m.Header = wire.DecodeHeader(&head)
	if m.Size < wire.HeaderLen || m.Size > 1<<28 {
		return m, fmt.Errorf("%v", m.Header)
	}
	m.body = make([]byte, m.Size-wire.HeaderLen)
	for got := 0; got < len(m.body); {
		n, fds, err := p.receive(m.body[got:])
		m.fds = append(m.fds, fds...)
		if err != nil {
			return m, err
		}
		got += n
	}
	return m, nil
}

func (p *rawPeer) receive(b []byte) (n int, fds []int, err error) {
	control := make([]byte, unix.CmsgSpace(4*scmMaxFD))
	n, nc, _, _, err := unix.Recvmsg(p.fd, b, control, unix.MSG_CMSG_CLOEXEC)
	switch {
	case err == unix.EINTR:
		return 0, nil, nil
	case err != nil:
		return 0, nil, err
	case n == 0:
		return 0, nil, io.EOF
	}
	msgs, err := unix.ParseSocketControlMessage(control[:nc])
	for i := range msgs {
		var more []int
		if more, err = unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	return n, fds, err
}

// expect receives a command of that kind.
func (p *rawPeer) expect(cmd wire.Command) rawMsg {
	p.t.Helper()
	m, err := p.recv()
	require.NoError(p.t, err)
	require.Equal(p.t, cmd, m.Command, "%v", m.Header)
	require.Equal(p.t, wire.TypeCommand, m.Flags.Type())
	return m
}

// reply answers m.
func (p *rawPeer) reply(m rawMsg, body []byte, fds ...int) {
	p.t.Helper()
	p.send(wire.Header{ID: m.ID, Command: m.Command, Flags: wire.TypeReply}, body, fds...)
}

// refuse answers m with an error.
func (p *rawPeer) refuse(m rawMsg, errno unix.Errno) {
	p.t.Helper()
	p.send(wire.Header{ID: m.ID, Command: m.Command, Flags: wire.TypeReply | wire.Error, Errno: uint32(errno)}, nil)
}

// call sends a command and receives its reply.
func (p *rawPeer) call(cmd wire.Command, body []byte, fds ...int) rawMsg {
	p.t.Helper()
	p.lastID++
	id := p.lastID
	p.send(wire.Header{ID: id, Command: cmd}, body, fds...)
	m, err := p.recv()
	require.NoError(p.t, err)
	require.Equal(p.t, wire.Header{ID: id, Command: cmd, Size: m.Size, Flags: m.Flags, Errno: m.Errno}, m.Header)
	require.Equal(p.t, wire.TypeReply, m.Flags.Type())
	return m
}

// outcome is what a test expects of a reply: an errno, or 0 and the payload.
func (p *rawPeer) outcome(m rawMsg, errno unix.Errno) {
	p.t.Helper()
	if errno == 0 {
		require.Equal(p.t, wire.TypeReply, m.Flags, "%v: %v", m.Header, unix.Errno(m.Errno))
		require.Zero(p.t, m.Errno)
		return
	}
	// Section 1: flags 0x21, header only, no files.
	require.Equal(p.t, wire.TypeReply|wire.Error, m.Flags, "%v", m.Header)
	require.Equal(p.t, errno, unix.Errno(m.Errno), "%v", unix.Errno(m.Errno))
	require.Equal(p.t, uint32(wire.HeaderLen), m.Size)
	require.Empty(p.t, m.fds)
}

// versionBody is the payload of VERSION.
func versionBody(major, minor uint16, json string) []byte {
	b := wire.Version{Major: major, Minor: minor}.Append(nil)
	if json != "" {
		b = append(append(b, json...), 0)
	}
	return b
}

// leaves fails the test if it ends with a goroutine or a descriptor more than
// it began with. Call it before anything else is made.
func leaves(t testing.TB) {
	t.Helper()
	noLeaks(t)
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

// init has the runtime open what it polls with, and never closes, before
// anything is counted.
func init() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	r.Close()
	w.Close()
}

// bg is a context with the time that a test has.
func bg(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// guestRAM is n bytes outside Go's heap. The race detector does not watch them:
// that a message through a socket came between two accesses is nothing that it
// could know.
func guestRAM(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}
