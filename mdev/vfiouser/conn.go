//go:build linux

package vfiouser

import (
	"errors"
	"fmt"
	"io"
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
	win     [window]byte // start of the current message, then of the next
	have    int          // valid bytes of win
	used    int          // of those, how many the current message had
	next    [window]byte // start of the next message, read with the end of this one
	nnext   int
	big     []byte // bodies that do not fit in win
	small   int    // messages since big was needed
	fds     []int  // of the current message
	ahead   []int  // of the next message

	sendMu  sync.Mutex
	sm      unix.Msghdr    // guarded by sendMu, as all down to scratch
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

// recv receives the next message into m. It waits for the first byte without
// a limit, for the rest connConfig.messageTime at most (once more, where the
// peer sends nothing at all). It returns io.EOF when the peer is gone between
// messages, io.ErrUnexpectedEOF within one.
func (c *conn) recv(m *message) error {
	// The message before this one is done with: what was read ahead becomes
	// the start of this one.
	if c.nnext > 0 {
		c.have = copy(c.win[:], c.next[:c.nnext])
		c.nnext = 0
	} else {
		c.have = copy(c.win[:], c.win[c.used:c.have])
	}
	c.used = 0
	c.fds, c.ahead = c.ahead, c.fds[:0]
	if err := c.recvMessage(m); err != nil {
		c.dropFDs()
		return err
	}
	return nil
}

func (c *conn) recvMessage(m *message) error {
	var begun time.Time // the zero time until it had to wait within a message
	for c.have < wire.HeaderLen {
		if err := c.fill(&begun); err != nil {
			return err
		}
	}
	m.Header = wire.DecodeHeader((*[wire.HeaderLen]byte)(c.win[:]))
	switch {
	case m.Size < wire.HeaderLen:
		return fmt.Errorf("%v: size below that of a header: %w", m.Header, errFraming)
	case uint64(m.Size) > uint64(c.cfg.maxMessage):
		return fmt.Errorf("%v: more than %d: %w", m.Header, c.cfg.maxMessage, errTooLong)
	}
	size := int(m.Size)
	if size > window {
		return c.recvBody(m, size, &begun)
	}
	for c.have < size {
		if err := c.fill(&begun); err != nil {
			return err
		}
	}
	if c.have > size { // see window
		c.fds, c.ahead = c.ahead[:0], c.fds
	}
	c.used = size
	m.body, m.fds = c.win[wire.HeaderLen:size], c.fds
	if c.small++; c.small > dropBody && cap(c.big) > keepBody {
		c.big = nil
	}
	return nil
}

// recvBody receives the rest of a message that is longer than the window, and
// in the same system call, when it is there, the start of the next one: so a
// stream of posted writes costs one call each.
func (c *conn) recvBody(m *message, size int, begun *time.Time) error {
	n := size - wire.HeaderLen
	if cap(c.big) < n {
		c.big = make([]byte, max(n, keepBody))
	}
	if n > keepBody {
		c.small = 0
	}
	body := c.big[:n]
	got := copy(body, c.win[wire.HeaderLen:c.have])
	c.have = 0
	for got < n {
		r, err := c.receive(body[got:], c.next[:], begun)
		if err != nil {
			return err
		}
		if got += r; got > n {
			c.nnext, got = got-n, n
			c.ahead = append(c.ahead, c.fds[c.kept:]...)
			c.fds = c.fds[:c.kept]
		}
	}
	m.body, m.fds = body, c.fds
	return nil
}

// fill receives more of the window.
func (c *conn) fill(begun *time.Time) error {
	n, err := c.receive(c.win[c.have:], nil, begun)
	c.have += n
	return err
}

// receive receives at least one byte into p and then q; files are added to
// c.fds behind the c.kept that were there.
func (c *conn) receive(p, q []byte, begun *time.Time) (int, error) {
	idle := c.have == 0 && len(p) == window
	for {
		n, err := c.receiveOnce(p, q)
		switch {
		case err == nil && n > 0:
			if !idle && n < len(p) || !begun.IsZero() { // TIME
				if err := c.slow(begun); err != nil {
					return n, err
				}
			}
			return n, nil
		case err == nil: // end of file
			if idle {
				return 0, io.EOF
			}
			return 0, io.ErrUnexpectedEOF
		case err == unix.EINTR:
		case err == unix.EAGAIN: // SO_RCVTIMEO has passed
			if idle {
				// Someone with the same socket may have made it
				// non-blocking: no spinning then.
				if err := c.poll(-1); err != nil {
					return 0, err
				}
				continue
			}
			if err := c.slow(begun); err != nil {
				return 0, err
			}
		default:
			return 0, err
		}
	}
}
