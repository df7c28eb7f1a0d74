//go:build linux

package vfiouser

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// lead receives for all until the reply of k is here. It fails when the time
// is over; a connection that is lost ends k by itself. Precondition: the
// caller leads. It does not any more afterwards.
func (c *Client) lead(l *callLimit, k *clientCall) error {
	defer c.calls.leave()
	fine := l.fine // a short time needs a finer clock than that of the socket
	for n := 0; ; n++ {
		if k.done() && !c.in.whole() {
			return nil
		}
		if fine {
			if err := c.waitInput(l); err != nil {
				return err
			}
		}
		progress, err := c.step(&c.in)
		if err != nil {
			c.lose(err)
			return nil
		}
		// A server that keeps sending must not keep us longer than silence.
		if !progress || n%64 == 63 {
			if err := l.passed(); err != nil {
				return err
			}
			fine = l.left() < slice
		}
	}
}

// waitInput waits for something to receive until the time is over.
func (c *Client) waitInput(l *callLimit) error {
	if c.in.whole() {
		return nil
	}
	_, err := pollFD(c.conn.fd, unix.POLLIN, l.left())
	if err == nil {
		err = l.passed()
	}
	return err
}

// pollFD waits for events on fd, for d at most; negative is without a limit.
func pollFD(fd int, events int16, d time.Duration) (int16, error) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	var ts *unix.Timespec
	if d >= 0 {
		t := unix.NsecToTimespec(int64(d))
		ts = &t
	}
	_, err := unix.Ppoll(fds[:], ts, nil)
	if err == unix.EINTR {
		err = nil
	}
	return fds[0].Revents, err
}

// step handles the next message that is here, or receives once. It returns
// false when nothing came for a slice of time. An error ends the connection.
func (c *Client) step(in *inbox) (bool, error) {
	h, ok := in.header()
	if ok {
		size, err := c.admit(h)
		if err != nil {
			return false, err
		}
		if in.w-in.r >= size {
			err := c.handle(in, h, in.take(h))
			in.settle(size)
			return true, err
		}
		return in.ended(in.receive(size))
	}
	return in.ended(in.receive(0))
}

// ended names the end of the stream.
func (b *inbox) ended(progress bool, err error) (bool, error) {
	if err == io.EOF {
		err = errServerGone
		if b.w > b.r {
			err = fmt.Errorf("in the middle of a message: %w", errServerGone)
		}
	}
	return progress, err
}

// admit is the size of the message that h begins, if there may be one of that
// size: no more is ever allocated than was asked for.
func (c *Client) admit(h wire.Header) (int, error) {
	switch {
	case h.Flags.Type() > wire.TypeReply:
		return 0, fmt.Errorf("%v: neither command nor reply: %w", h, errFraming)
	case h.Size >= wire.HeaderLen && h.Size <= keepBody:
		// It fits the buffer. If it is too long, whoever handles it will say so.
		return int(h.Size), nil
	}
	most := 0
	switch h.Flags.Type() {
	case wire.TypeCommand:
		most = wire.HeaderLen + wire.DMAAccessLen + c.cfg.MaxDataXfer
	case wire.TypeReply:
		most = c.calls.room(h.ID)
	}
	if h.Size < wire.HeaderLen || uint64(h.Size) > uint64(most) {
		return 0, fmt.Errorf("%v: size is not between %d and %d: %w", h, wire.HeaderLen, most, errFraming)
	}
	return int(h.Size), nil
}

// room is the largest size of the reply with that id.
func (t *callTable) room(id uint16) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.find(id); k != nil {
		return wire.HeaderLen + k.nrep + k.room
	}
	return 0
}

// handle does what a message of the server's asks for.
func (c *Client) handle(in *inbox, h wire.Header, body []byte) error {
	if h.Flags.Type() == wire.TypeCommand {
		c.strayFiles(in, h)
		if in == &c.in {
			c.served.Store(true)
		}
		return c.serve(in, h, body)
	}
	if in != &c.in {
		return fmt.Errorf("%v: reply on the server's own socket: %w", h, errFraming)
	}
	c.reply(in, h, body)
	return nil
}

// strayFiles closes files that nobody asked for.
func (c *Client) strayFiles(in *inbox, h wire.Header) {
	// With a message behind this one they may be that one's.
	if in.r == in.w {
		if n := in.refuse(); n > 0 {
			c.cfg.Log.Warn("vfio-user server sent files that nobody asked for", "message", h.String(), "files", n)
		}
	}
}

// reply gives the reply to its call.
func (c *Client) reply(in *inbox, h wire.Header, body []byte) {
	t := &c.calls
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.find(h.ID)
	if k == nil {
		c.cfg.Log.Warn("vfio-user server replied to nothing", "message", h.String())
		c.strayFiles(in, h)
		return
	}
	t.remove(k)
	if k.files {
		k.fds = in.claim()
		<-c.fdCall
	} else {
		c.strayFiles(in, h)
	}
	if k.state.Load() == callDropped {
		closeFDs(k.fds)
		k.fds = nil
		return
	}
	switch {
	case h.Command != k.cmd:
		k.err = badReply("%v", h)
	case h.Flags&wire.Error != 0:
		k.err = refusalOf(h.Errno)
	case len(body) > k.nrep+len(k.data):
		k.err = badReply("%d bytes of payload, where %d fit", len(body), k.nrep+len(k.data))
	default:
		k.size = len(body)
		if n := copy(k.rep[:k.nrep], body); n == k.nrep {
			copy(k.data, body[n:])
		}
	}
	k.state.Store(callDone)
	if k.waiting {
		k.signal()
	}
}
