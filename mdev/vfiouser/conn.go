//go:build linux

package vfiouser

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// Errors of a connection. After any of them but a refusal by limits of ours in
// send, the stream is unusable.
var (
	errFraming   = errors.New("framing is lost")
	errTooLong   = fmt.Errorf("message too long: %w", errFraming)
	errTruncated = fmt.Errorf("more files than fit: %w", errFraming)
	errStalled   = errors.New("peer is too slow")
	errClosed    = errors.New("connection is closed")
)

// window is how many bytes of a message are asked for before its size is
// known: a header and the fixed part of the most frequent requests, so that
// those take one system call.
//
// It can reach past a message that is shorter, so its size is chosen with the
// attribution of files in mind. The kernel ends a receive behind the piece
// that carried files, so files that come with bytes of two messages belong to
// the later one - unless one sendmsg(2) sent both. And a message below 32
// bytes never carries files: VERSION, GET_INFO, DEVICE_RESET, the fixed
// features, DMA replies. The two that do, DMA_MAP and SET_IRQS, are longer.
const window = 32

// connConfig are the limits of a connection.
type connConfig struct {
	maxMessage  int           // bytes of a message that is received, header included
	maxFDs      int           // files of a message that is received
	messageTime time.Duration // from the first byte of a message to its last
	sendTime    time.Duration // for a message to be taken by the peer
}

// message is a received message.
type message struct {
	wire.Header
	body []byte // valid until the next recv
	// fds are the files that came with it; they belong to whoever got the
	// message, the slice is valid until the next recv.
	fds []int
}

// conn is one end of a socket that carries vfio-user messages. recv is for one
// goroutine at a time, send for any.
//
// The socket is blocking. A goroutine that serves it for long should be locked
// to its thread: there is then no hop between receive and send.
type conn struct {
	fd  int        // immutable
	cfg connConfig // immutable

	// Of the receiver:
	rm      unix.Msghdr
	riov    [2]unix.Iovec
	control []byte
	begun   time.Time    // when the second receive of the current message began
	win     [window]byte // start of the current message, then of the next
	have    int          // valid bytes of win
	used    int          // of those, how many the current message had
	next    [window]byte // start of the next message, read with the end of this one
	nnext   int
	big     []byte // bodies that do not fit in win
	small   int    // messages since much of big was needed
	fds     []int  // of the current message
	ahead   []int  // of the next message, which has begun in win or next

	sendMu  sync.Mutex
	sm      unix.Msghdr // guarded by sendMu, as all down to scratch
	siov    [3]unix.Iovec
	rights  []byte
	scratch [wire.HeaderLen]byte
	broken  error // no further send makes sense

	closeMu sync.Mutex
	closed  bool        // guarded by closeMu
	down    atomic.Bool // shutdown was called
}

// Received bodies up to keepBody bytes stay allocated, longer ones until
// dropBody messages have not needed them.
const (
	keepBody = 16 << 10
	dropBody = 64
)

// newConn makes a conn of the connected UNIX stream socket fd, which it owns
// from then on; on an error fd is closed.
func newConn(fd int, cfg connConfig) (_ *conn, err error) {
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := checkSocket(fd); err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	for opt, d := range map[int]time.Duration{unix.SO_RCVTIMEO: cfg.messageTime, unix.SO_SNDTIMEO: cfg.sendTime} {
		tv := unix.NsecToTimeval(int64(d))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &tv); err != nil {
			return nil, fmt.Errorf("socket: time limit: %w", err)
		}
	}
	c := &conn{
		fd: fd, cfg: cfg,
		// Room for a few control messages that nobody asked for: whoever
		// made the socket may have turned on credentials or time stamps.
		control: make([]byte, unix.CmsgSpace(4*cfg.maxFDs)+256),
		fds:     make([]int, 0, cfg.maxFDs),
		ahead:   make([]int, 0, cfg.maxFDs),
	}
	return c, nil
}

func checkSocket(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	if domain != unix.AF_UNIX || typ != unix.SOCK_STREAM {
		return fmt.Errorf("descriptor %d: not a UNIX stream socket: %w", fd, unix.ESOCKTNOSUPPORT)
	}
	return nil
}

// shutdown ends the traffic in both directions: whoever waits in recv or send
// returns. It may be called from any goroutine, also after close.
func (c *conn) shutdown() {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	c.down.Store(true)
	if !c.closed {
		// Fails when the peer is gone already, which serves as well.
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
}

// close closes the socket and the files of messages not yet received. Nobody
// may be in recv or send.
func (c *conn) close() {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.dropFDs()
	unix.Close(c.fd)
}

// wait waits until there is something to receive, for d at most; negative is
// without a limit. It returns false when the time is up.
func (c *conn) wait(d time.Duration) (bool, error) {
	if c.pending() {
		return true, nil
	}
	ms := -1
	if d >= 0 {
		ms = int((d + time.Millisecond - 1) / time.Millisecond)
	}
	fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], ms)
	if err == unix.EINTR {
		return true, nil // let the caller look at its clock
	}
	return n > 0, err
}

// closeFDs closes files that were received and are not kept.
func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
