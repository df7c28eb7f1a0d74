//go:build linux

package vfiouser

import (
	"cmp"
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
// peer is gone between messages, io.ErrUnexpectedEOF within one. Where the
// header is not acceptable, m.Header tells what it was.
func (c *conn) recv(m *message) error {
	if err := c.recvMessage(m); err != nil {
		closeFDs(m.fds)
		m.body, m.fds = nil, m.fds[:0]
		return err
	}
	return nil
}

func (c *conn) recvMessage(m *message) error {
	c.begun = time.Time{}
	have := copy(m.head[:], c.ahead[:c.nahead])
	m.fds = append(m.fds[:0], c.aheadFDs...)
	c.nahead, c.aheadFDs = 0, c.aheadFDs[:0]
	m.Header = wire.Header{}
	if c.aheadErr != nil {
		return c.aheadErr
	}

	size, kept := wire.HeaderLen, 0
	var truncated error // what the last receive made of the files
	for known := false; have < size || !known; {
		if have < size {
			if truncated != nil {
				return truncated
			}
			// Those that are here are this message's.
			if err := c.checkFDs(m); err != nil {
				return err
			}
			kept = len(m.fds)
			n, err := c.receive(m, m.head[have:], nil, have == 0)
			if err != nil && err != errTruncated {
				return err
			}
			have, truncated = have+n, err
			continue
		}
		known = true
		m.Header = wire.DecodeHeader((*[wire.HeaderLen]byte)(m.head[:]))
		switch {
		case m.Size < wire.HeaderLen:
			return fmt.Errorf("%v: size below that of a header: %w", m.Header, errFraming)
		case uint64(m.Size) > uint64(c.cfg.maxMessage):
			return fmt.Errorf("%v: more than %d bytes: %w", m.Header, c.cfg.maxMessage, errFraming)
		}
		if size = int(m.Size); size > window {
			if truncated != nil {
				return truncated
			}
			return c.recvBody(m, have)
		}
	}
	if have > size {
		c.nahead = copy(c.ahead[:], m.head[size:have])
		c.postpone(m, kept, truncated)
		truncated = nil
	}
	m.body = m.head[wire.HeaderLen:size]
	m.room(0)
	return cmp.Or(truncated, c.checkFDs(m))
}

// postpone gives the files that the last receive brought, and before which m
// had kept, to the next message, of which it brought bytes as well: see window.
// So with what was wrong with them: m is whole, and good.
func (c *conn) postpone(m *message, kept int, err error) {
	c.aheadFDs, m.fds = append(c.aheadFDs, m.fds[kept:]...), m.fds[:kept]
	c.aheadErr = err
}

// checkFDs refuses more files than a message may have, by way of several
// pieces.
func (c *conn) checkFDs(m *message) error {
	if len(m.fds) > c.cfg.maxFDs {
		return errTruncated
	}
	return nil
}

// recvBody receives the rest of a message that is longer than the window, of
// which the first have bytes are here, and in the same system call, if it is
// there, the start of the next message: so a stream of posted writes costs one
// call each.
func (c *conn) recvBody(m *message, have int) error {
	m.body = m.room(int(m.Size) - wire.HeaderLen)
	for got := copy(m.body, m.head[wire.HeaderLen:have]); got < len(m.body); {
		kept := len(m.fds)
		n, err := c.receive(m, m.body[got:], c.ahead[:], false)
		if err != nil && err != errTruncated {
			return err
		}
		if got += n; got > len(m.body) {
			c.nahead = got - len(m.body)
			c.postpone(m, kept, err)
			err = nil
		}
		if err := cmp.Or(err, c.checkFDs(m)); err != nil {
			return err
		}
	}
	return nil
}

// receive receives at least one byte into p and, behind it, q, and adds the
// files that come along to those of m. idle says that it may take for ever: no
// byte of a message has come yet. With errTruncated, bytes were received.
func (c *conn) receive(m *message, p, q []byte, idle bool) (int, error) {
	if !idle {
		if err := c.checkTime(); err != nil {
			return 0, err
		}
	}
	for {
		n, errno := c.receiveOnce(p, q)
		switch errno {
		case 0:
			err := c.takeControl(m, len(m.fds)+c.cfg.maxFDs)
			if n > 0 {
				return n, err
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
// receive, until m has limit of them: more are an error. Whatever happens, each
// is in m.fds or closed.
func (c *conn) takeControl(m *message, limit int) error {
	n := int(c.rm.Controllen)
	if n == 0 && c.rm.Flags&unix.MSG_CTRUNC == 0 {
		return nil
	}
	tooMany := c.rm.Flags&unix.MSG_CTRUNC != 0
	head := unix.CmsgLen(0)
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
				case len(m.fds) >= limit:
					tooMany = true
					unix.Close(fd)
				default:
					m.fds = append(m.fds, fd)
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
