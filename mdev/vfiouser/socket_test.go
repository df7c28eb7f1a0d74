//go:build linux

package vfiouser

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// socketEnd is the other end of a connection, without any of our code between it
// and the socket.
type socketEnd struct {
	t  testing.TB
	fd int
}

// socketPair is two connected UNIX stream sockets; both belong to the caller.
func socketPair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return fds[0], fds[1]
}

// newSocketEnd takes fd over; it is closed when the test ends, at the latest.
func newSocketEnd(t testing.TB, fd int) *socketEnd {
	p := &socketEnd{t, fd}
	tv := unix.NsecToTimeval(int64(20 * time.Second)) // fail rather than hang
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	t.Cleanup(p.close)
	return p
}

// hangUp ends the connection, whoever receives on it.
func (p *socketEnd) hangUp() { _ = unix.Shutdown(p.fd, unix.SHUT_RDWR) }

// close is for when nobody else uses p any more.
func (p *socketEnd) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

// write sends bytes, with files on the first, in one system call.
func (p *socketEnd) write(b []byte, fds ...int) {
	p.t.Helper()
	require.NoError(p.t, p.tryWrite(b, fds...))
}

func (p *socketEnd) tryWrite(b []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for first := true; first || len(b) > 0; first = false {
		n, err := unix.SendmsgN(p.fd, b, rights, nil, unix.MSG_NOSIGNAL)
		if err != nil {
			return err
		}
		b, rights = b[n:], nil
	}
	return nil
}

// frame is a message of the given payload.
func frame(id uint16, c wire.Command, flags wire.Flags, payload []byte) []byte {
	h := wire.Header{ID: id, Command: c, Flags: flags, Size: uint32(wire.HeaderLen + len(payload))}
	return append(h.Append(nil), payload...)
}

// read receives exactly n bytes and whatever files come with them, which
// belong to the test and are closed at its end.
func (p *socketEnd) read(n int) ([]byte, []int, error) {
	b := make([]byte, n)
	control := make([]byte, 1024)
	var files []int
	for got := 0; got < n; {
		k, nc, _, _, err := unix.Recvmsg(p.fd, b[got:], control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return b[:got], files, err
		}
		msgs, err := unix.ParseSocketControlMessage(control[:nc])
		require.NoError(p.t, err)
		for i := range msgs {
			fds, err := unix.ParseUnixRights(&msgs[i])
			require.NoError(p.t, err)
			files = append(files, fds...)
			p.t.Cleanup(func() { closeFDs(fds) })
		}
		if k == 0 {
			return b[:got], files, io.EOF
		}
		got += k
	}
	return b, files, nil
}

// next receives a message.
func (p *socketEnd) next() (wire.Header, []byte, []int) {
	p.t.Helper()
	h, body, files, err := p.tryNext()
	require.NoError(p.t, err)
	return h, body, files
}

func (p *socketEnd) tryNext() (wire.Header, []byte, []int, error) {
	b, files, err := p.read(wire.HeaderLen)
	if err != nil {
		return wire.Header{}, nil, files, err
	}
	h := wire.DecodeHeader((*[wire.HeaderLen]byte)(b))
	if h.Size < wire.HeaderLen {
		return h, nil, files, fmt.Errorf("size %d", h.Size)
	}
	body, more, err := p.read(int(h.Size) - wire.HeaderLen)
	return h, body, append(files, more...), err
}

// eof requires that the other end has closed the connection.
func (p *socketEnd) eof() {
	p.t.Helper()
	h, _, _, err := p.tryNext()
	if err != unix.ECONNRESET {
		require.Equal(p.t, io.EOF, err, "after %v", h)
	}
}

// openFiles are the descriptors of this process by what they lead to, but for
// those of the runtime and of the test itself.
func openFiles(t testing.TB) map[string]string {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	files := make(map[string]string)
	for _, e := range dir {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			files[e.Name()] = to
		}
	}
	return files
}

// noLeaks fails the test if it leaves a descriptor open, at its end or when the
// function it returns is called. Call it first.
func noLeaks(t testing.TB) func() {
	t.Helper()
	before := openFiles(t)
	check := func() {
		t.Helper()
		var after map[string]string
		for range 100 { // what others have closed is gone a moment later
			after = openFiles(t)
			if len(after) <= len(before) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		for fd, to := range after {
			if before[fd] == "" {
				t.Errorf("descriptor %s is left open: %s", fd, to)
			}
		}
	}
	t.Cleanup(check)
	return check
}

// memFile is a memfd of n bytes that the test owns.
func memFile(t testing.TB, n int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, n))
	return fd
}

// sameFile requires that two descriptors lead to one file.
func sameFile(t testing.TB, a, b int) {
	t.Helper()
	var x, y unix.Stat_t
	require.NoError(t, unix.Fstat(a, &x))
	require.NoError(t, unix.Fstat(b, &y))
	require.Equal(t, [2]uint64{x.Dev, x.Ino}, [2]uint64{y.Dev, y.Ino})
}

// background runs f on a goroutine that the test does not outlive.
func background(t testing.TB, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t.Cleanup(func() { <-done })
}
