//go:build linux

package vfiouser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// maxSendFDs bounds the files of one message that is sent: SCM_MAX_FD is 253.
const maxSendFDs = 64

var errManyFDs = errors.New("too many files for a message")

// send sends one message: the header h, whose Size it sets, then a and b, which
// may be empty. The files fds go with the first byte; they stay the
// caller's. The peer must take the message within connConfig.sendTime (twice
// that at worst), or it is errStalled. After an error the connection sends no
// more, since the peer may have a part of the message. It may be called from
// any goroutine; messages do not mix.
func (c *conn) send(h wire.Header, a, b []byte, fds []int) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	if len(fds) > maxSendFDs {
		return errManyFDs
	}
	h.Size = uint32(wire.HeaderLen + len(a) + len(b))
	h.Put(&c.scratch)
	c.broken = c.sendLocked(c.scratch[:], a, b, fds)
	clear(c.siov[:]) // keep nothing of the caller's
	return c.broken
}

// sendBytes sends b, which is one or more whole messages without files.
func (c *conn) sendBytes(b []byte) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	if len(b) <= sendWhole {
		// Nearly every reply, in one system call that is given no more than
		// it needs.
		switch n, errno := sendto(c.fd, b, unix.MSG_NOSIGNAL); errno {
		case 0:
			if b = b[n:]; len(b) == 0 {
				return nil
			}
		case unix.EAGAIN: // SO_SNDTIMEO has passed
			c.broken = errStalled
			return errStalled
		}
	}
	c.broken = c.sendLocked(b, nil, nil, nil)
	clear(c.siov[:])
	return c.broken
}

// sendWhole is how long a message may be to be left to one system call. The
// kernel takes up to so much in one piece, and limits the wait for each piece,
// not for all of a message.
const sendWhole = 16 << 10

func (c *conn) sendLocked(h, a, b []byte, fds []int) error {
	c.setRights(fds)
	var deadline time.Time // set where a message is not sent at once
	for {
		n, total := 0, 0
		for _, p := range [3][]byte{h, a, b} {
			if len(p) > 0 {
				setIovec(&c.siov[n], p)
				n++
				total += len(p)
			}
		}
		if total == 0 {
			return nil
		}
		c.sm.Iov = &c.siov[0]
		c.sm.SetIovlen(n)
		flags := unix.MSG_NOSIGNAL
		if total > sendWhole {
			flags |= unix.MSG_DONTWAIT
		}
		sent, errno := sendmsg(c.fd, &c.sm, flags)
		switch errno {
		case 0:
			if sent == total {
				return nil
			}
			c.setRights(nil) // they went with the first byte
			for _, p := range [3]*[]byte{&h, &a, &b} {
				k := min(sent, len(*p))
				*p, sent = (*p)[k:], sent-k
			}
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if total <= sendWhole { // SO_SNDTIMEO has passed
				return errStalled
			}
		case unix.EPIPE, unix.ECONNRESET:
			return io.ErrClosedPipe
		default:
			return fmt.Errorf("send: %w", errno)
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(c.cfg.sendTime)
		}
		if err := c.waitToSend(time.Until(deadline)); err != nil {
			return err
		}
	}
}

// waitToSend waits until more can be sent, for d at most.
func (c *conn) waitToSend(d time.Duration) error {
	if d <= 0 {
		return errStalled
	}
	fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds[:], int((d+time.Millisecond-1)/time.Millisecond))
	switch {
	case err == unix.EINTR || n > 0:
		return nil
	case err != nil:
		return fmt.Errorf("send: %w", err)
	}
	return errStalled
}

// setRights puts fds into the control message of what is sent next.
func (c *conn) setRights(fds []int) {
	if len(fds) == 0 {
		c.sm.Control = nil
		c.sm.SetControllen(0)
		return
	}
	if c.rights == nil {
		c.rights = make([]byte, unix.CmsgSpace(4*maxSendFDs))
	}
	head, length := unix.CmsgLen(0), unix.CmsgLen(4*len(fds))
	at := 4
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(c.rights, uint64(length))
		at = 8
	} else {
		binary.NativeEndian.PutUint32(c.rights, uint32(length))
	}
	binary.NativeEndian.PutUint32(c.rights[at:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(c.rights[at+4:], unix.SCM_RIGHTS)
	for i, fd := range fds {
		binary.NativeEndian.PutUint32(c.rights[head+4*i:], uint32(fd))
	}
	c.sm.Control = &c.rights[0]
	c.sm.SetControllen(unix.CmsgSpace(4 * len(fds)))
}
