//go:build linux

package vfiouser

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// Errors of a connection. After any of them the stream is unusable.
var (
	errFraming   = errors.New("framing is lost")
	errTruncated = fmt.Errorf("files were lost, being too many or beyond RLIMIT_NOFILE: %w", errFraming)
	errStalled   = errors.New("peer is too slow")
)

// window is how many bytes of a message are asked for before its size is
// known: a header and the fixed part of the most frequent requests, so that
// those take one system call.
//
// It can reach past a message that is shorter, so its size is chosen with the
// attribution of files in mind. The kernel ends a receive behind the piece
// that carried files, so files that come with bytes of two messages belong to
// the later one - unless one sendmsg(2) sent both. And a message below 32
// bytes never carries files: VERSION without JSON, DEVICE_RESET, some
// DEVICE_FEATURE, MIG_DATA_READ, replies without data. Those that do, DMA_MAP,
// SET_IRQS and the replies about regions, are longer.
const window = 32

// connConfig are the limits of a connection.
type connConfig struct {
	maxMessage  int           // bytes of a message that is received, header included
	maxFDs      int           // files of a message that is received
	messageTime time.Duration // from the first byte of a message to its last
	sendTime    time.Duration // for a message to be taken by the peer
}

// message is a received message. It keeps its memory for the next one: use it
// again.
type message struct {
	wire.Header
	body []byte // in head or big; valid until the next recv into this message
	// fds are the files that came with it. They belong to whoever got the
	// message.
	fds []int

	head  [window]byte
	big   []byte // of a body that does not fit in head
	small int    // messages since much of big was needed
}

// Bodies up to keepBody bytes stay allocated, longer ones until dropBody
// messages have not needed them.
const (
	keepBody = 16 << 10
	dropBody = 64
)

// room is n bytes of m's own memory.
func (m *message) room(n int) []byte {
	if n > keepBody {
		m.small = 0
	} else if m.small++; m.small > dropBody && cap(m.big) > keepBody {
		m.big = nil
	}
	if cap(m.big) < n {
		m.big = make([]byte, max(n, keepBody))
	}
	return m.big[:n]
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
	rm       unix.Msghdr
	riov     [2]unix.Iovec
	control  []byte
	begun    time.Time    // when the second receive of the current message began
	ahead    [window]byte // the start of the next message
	nahead   int          // how much of it is here
	aheadFDs []int        // and the files that came with it
	aheadErr error        // or why there will be no next message

	sendMu  sync.Mutex
	sm      unix.Msghdr // guarded by sendMu, as all down to scratch
	siov    [3]unix.Iovec
	rights  []byte
	scratch [wire.HeaderLen]byte
	broken  error // no further send makes sense

	closeMu sync.Mutex
	closed  bool // guarded by closeMu
}

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
	closeFDs(c.aheadFDs)
	c.aheadFDs = nil
	unix.Close(c.fd)
}

// wait waits until there is something to receive, for d at most; negative is
// without a limit. It returns false when the time is up. It is for who may call
// recv.
func (c *conn) wait(d time.Duration) (bool, error) {
	if c.nahead > 0 {
		return true, nil
	}
	until := time.Now().Add(d)
	fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	for {
		ms := -1
		if d >= 0 {
			ms = int((max(time.Until(until), 0) + time.Millisecond - 1) / time.Millisecond)
		}
		n, err := unix.Poll(fds[:], ms)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}

// closeFDs closes files that were received and are not kept.
func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
