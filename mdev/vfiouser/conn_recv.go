//go:build linux

package vfiouser

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// recv receives the next message into m. It waits for the first byte without
// a limit; from then on, a peer that takes longer than connConfig.messageTime
// for the rest (twice that at worst) is errStalled. It returns io.EOF when the
// peer is gone between messages, io.ErrUnexpectedEOF within one.
func (c *conn) recv(m *message) error {
	// The message before this one is done with: what was read ahead becomes
	// the start of this one.
	if c.nnext > 0 {
		c.have, c.nnext = copy(c.win[:], c.next[:c.nnext]), 0
	} else {
		c.have = copy(c.win[:], c.win[c.used:c.have])
	}
	c.used = 0
	c.fds, c.ahead = c.ahead, c.fds[:0]
	c.begun = time.Time{}
	if err := c.recvMessage(m); err != nil {
		c.dropFDs()
		return err
	}
	return nil
}

// pending reports whether recv would find a part of a message that is here
// already.
func (c *conn) pending() bool { return c.nnext > 0 || c.have > c.used }

func (c *conn) recvMessage(m *message) error {
	for c.have < wire.HeaderLen {
		if err := c.fill(); err != nil {
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
		return c.recvBody(m, size-wire.HeaderLen)
	}
	for c.have < size {
		if err := c.fill(); err != nil {
			return err
		}
	}
	if c.have > size { // then the files are those of the next one: see window
		c.fds, c.ahead = c.ahead[:0], c.fds
	}
	c.used = size
	m.body, m.fds = c.win[wire.HeaderLen:size], c.fds
	if c.small++; c.small > dropBody && cap(c.big) > keepBody {
		c.big = nil
	}
	return nil
}

// fill receives more of the window.
func (c *conn) fill() error {
	n, err := c.receive(c.win[c.have:], nil, c.have == 0)
	c.have += n
	return err
}

// recvBody receives the rest of a message with a payload of n bytes, of which
// the window has the first, and in the same system call, if it is there, the
// start of the next message: so a stream of posted writes costs one call each.
func (c *conn) recvBody(m *message, n int) error {
	if cap(c.big) < n {
		c.big = make([]byte, max(n, keepBody))
	}
	if n > keepBody {
		c.small = 0
	} else {
		c.small++
	}
	m.body = c.big[:n]
	got := copy(m.body, c.win[wire.HeaderLen:c.have])
	c.have = 0
	for got < n {
		kept := len(c.fds)
		r, err := c.receive(m.body[got:], c.next[:], false)
		if err != nil {
			return err
		}
		if got += r; got > n {
			c.nnext = got - n
			c.ahead, c.fds = append(c.ahead, c.fds[kept:]...), c.fds[:kept]
		}
	}
	m.fds = c.fds
	return nil
}

// receive receives at least one byte into p and, behind it, q, and adds the
// files that come along to c.fds. idle says that it may take for ever: no byte
// of a message has come yet.
func (c *conn) receive(p, q []byte, idle bool) (int, error) {
	if !idle {
		if err := c.checkTime(); err != nil {
			return 0, err
		}
	}
	for {
		n, errno := c.receiveOnce(p, q)
		switch errno {
		case 0:
			if err := c.takeControl(); err != nil {
				return 0, err
			}
			if n > 0 {
				return n, nil
			}
			if idle {
				return 0, io.EOF
			}
			return 0, io.ErrUnexpectedEOF
		case unix.EINTR:
		case unix.EAGAIN: // messageTime has passed: SO_RCVTIMEO
			if !idle {
				return 0, errStalled
			}
			// Not at once again: another process that has the socket may
			// have made it non-blocking.
			if _, err := c.wait(-1); err != nil {
				return 0, fmt.Errorf("receive: %w", err)
			}
		case unix.ECONNRESET:
			// The peer is gone and had not read all that we sent.
			if idle {
				return 0, io.EOF
			}
			return 0, io.ErrUnexpectedEOF
		default:
			return 0, fmt.Errorf("receive: %w", errno)
		}
	}
}

// checkTime notes the time before the second receive of a message, and from
// the third on looks how long it has taken.
func (c *conn) checkTime() error {
	now := time.Now()
	if c.begun.IsZero() {
		c.begun = now
		return nil
	}
	if now.Sub(c.begun) > c.cfg.messageTime {
		return errStalled
	}
	return nil
}

func (c *conn) receiveOnce(p, q []byte) (int, unix.Errno) {
	setIovec(&c.riov[0], p)
	n := 1
	if len(q) > 0 {
		setIovec(&c.riov[1], q)
		n = 2
	}
	c.rm.Iov = &c.riov[0]
	c.rm.SetIovlen(n)
	c.rm.Control = &c.control[0]
	c.rm.SetControllen(len(c.control))
	return recvmsg(c.fd, &c.rm, unix.MSG_CMSG_CLOEXEC)
}

// takeControl takes the files out of the control messages of the last
// receive. Whatever happens, each is in c.fds or closed.
func (c *conn) takeControl() error {
	n := int(c.rm.Controllen)
	if n == 0 && c.rm.Flags&unix.MSG_CTRUNC == 0 {
		return nil
	}
	tooMany := c.rm.Flags&unix.MSG_CTRUNC != 0
	head, _ := unix.CmsgLen(0), 0
	for b := c.control[:n]; len(b) >= head; {
		length, level, typ := controlHeader(b)
		if length < head || length > len(b) {
			break
		}
		data := b[head:length]
		if level == unix.SOL_SOCKET && (typ == unix.SCM_RIGHTS || typ == scmPIDFD) {
			for ; len(data) >= 4; data = data[4:] {
				fd := int(int32(binary.NativeEndian.Uint32(data)))
				switch {
				case typ == scmPIDFD: // not asked for by us
					unix.Close(fd)
				case len(c.fds) == cap(c.fds):
					tooMany = true
					unix.Close(fd)
				default:
					c.fds = append(c.fds, fd)
				}
			}
		}
		b = b[min(len(b), unix.CmsgSpace(length-head)):]
	}
	if tooMany {
		return errTruncated
	}
	return nil
}

// scmPIDFD is SCM_PIDFD: the kernel adds one file to each message for a
// receiver that turned on SO_PASSPIDFD.
const scmPIDFD = 4

// controlHeader decodes a struct cmsghdr, whose first field is as wide as an
// address.
func controlHeader(b []byte) (length int, level, typ int32) {
	rest := b[4:]
	length = int(binary.NativeEndian.Uint32(b))
	if unix.SizeofCmsghdr == 16 {
		length, rest = int(min(binary.NativeEndian.Uint64(b), 1<<31-1)), b[8:]
	}
	return length, int32(binary.NativeEndian.Uint32(rest)), int32(binary.NativeEndian.Uint32(rest[4:]))
}

// dropFDs closes the files that came for messages nobody will get.
func (c *conn) dropFDs() {
	closeFDs(c.fds)
	closeFDs(c.ahead)
	c.fds, c.ahead = c.fds[:0], c.ahead[:0]
}
