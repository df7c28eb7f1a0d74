//go:build linux

package vfiouser

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// pieces of a message: the header, the start of the payload, the rest of it; or
// whole messages in one piece. Any may be empty.
type pieces [3][]byte

func (p *pieces) len() int { return len(p[0]) + len(p[1]) + len(p[2]) }

// advance drops the first n bytes.
func (p *pieces) advance(n int) {
	for i := range p {
		k := min(n, len(p[i]))
		p[i], n = p[i][k:], n-k
	}
}

// transmit sends p, which is a message, with files, or messages without. When
// it fails nothing was sent, or the connection is lost.
//
// It never blocks in the kernel: a server that cannot take more because it
// wants to be rid of its replies first would wait for us as we for it. In
// place of that the sender receives, if nobody else does. leads says that the
// caller does already, and has no hands free.
func (c *Client) transmit(l *callLimit, p pieces, fds []int, leads bool) error {
	cn := c.conn
	for {
		cn.sendMu.Lock()
		err := cn.broken
		if err == nil {
			var sent int
			cn.setRights(fds)
			if sent, err = cn.trySend(&p); err == nil && sent < p.len() {
				p.advance(sent)
				err = c.transmitRest(l, p, leads)
				cn.sendMu.Unlock()
				if !leads {
					c.drain()
				}
				return err
			}
		}
		cn.sendMu.Unlock()
		if err != errFull {
			return err
		}
		if err := c.waitOutput(l, leads, true); err != nil {
			return err
		}
	}
}

// transmitRest sends what is left of a message. An error loses the connection:
// the stream ends in the middle of it. Precondition: sendMu is held.
func (c *Client) transmitRest(l *callLimit, p pieces, leads bool) error {
	cn := c.conn
	cn.setRights(nil) // they went with the first byte
	for p.len() > 0 {
		n, err := cn.trySend(&p)
		if err == errFull {
			err = c.waitOutput(l, leads, false)
		}
		if err != nil {
			err = fmt.Errorf("in the middle of a message: %w", err)
			c.lose(err)
			cn.broken = c.Err()
			return err
		}
		p.advance(n)
	}
	return nil
}

// errFull says that the socket takes nothing at the moment.
var errFull = fmt.Errorf("send: %w", unix.EAGAIN)

// trySend sends as much of p as fits, and what setRights said. Precondition:
// sendMu is held.
func (c *conn) trySend(p *pieces) (int, error) {
	const flags = unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	simple := len(p[1])+len(p[2]) == 0 && c.sm.Control == nil && len(p[0]) > 0
	if !simple {
		n := 0
		for _, b := range p {
			if len(b) > 0 {
				setIovec(&c.siov[n], b)
				n++
			}
		}
		c.sm.Iov = &c.siov[0]
		c.sm.SetIovlen(n)
		defer clear(c.siov[:]) // keep nothing of the caller's
	}
	for {
		var sent int
		var errno unix.Errno
		if simple { // a call that is given no more than it needs
			sent, errno = sendto(c.fd, p[0], flags)
		} else {
			sent, errno = sendmsg(c.fd, &c.sm, flags)
		}
		switch errno {
		case unix.EINTR:
			continue
		case 0:
			return sent, nil
		case unix.EAGAIN:
			return 0, errFull
		case unix.EPIPE, unix.ECONNRESET:
			return 0, errServerGone
		}
		return 0, fmt.Errorf("send: %w", errno)
	}
}

// waitOutput waits until the socket takes more, or a slice of time has passed;
// it receives in the meantime, if nobody does. Where commands of the server's
// cannot be answered because a message is half sent (whole is false), they are
// left alone until drain.
func (c *Client) waitOutput(l *callLimit, leads, whole bool) error {
	if err := l.passed(); err != nil {
		return err
	}
	if leads || c.calls.takeLead(nil) != leading {
		_, err := pollFD(c.conn.fd, unix.POLLOUT, slice)
		return err
	}
	defer c.calls.leave()
	h, ok := c.in.header()
	events := int16(unix.POLLOUT)
	if whole || !ok || h.Flags.Type() != wire.TypeCommand {
		events |= unix.POLLIN
	}
	got, err := pollFD(c.conn.fd, events, min(slice, l.left()))
	if err != nil || got&events&unix.POLLIN == 0 {
		return err
	}
	_, err = c.step(&c.in)
	for err == nil && whole && c.in.whole() {
		_, err = c.step(&c.in)
	}
	if err != nil {
		c.lose(err)
	}
	return nil
}

// drain handles what waitOutput has received and left: nobody else may come to
// look, since the socket says nothing of it.
func (c *Client) drain() {
	if c.calls.takeLead(nil) != leading {
		return
	}
	defer c.calls.leave()
	for c.in.whole() {
		if _, err := c.step(&c.in); err != nil {
			c.lose(err)
			return
		}
	}
}
