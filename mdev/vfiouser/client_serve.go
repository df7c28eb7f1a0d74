//go:build linux

package vfiouser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// serve does a command of the server's and answers it on the socket it came
// from. An error ends the connection.
func (c *Client) serve(in *inbox, h wire.Header, body []byte) error {
	a, err := c.access(in, h, body)
	if h.Flags&wire.NoReply != 0 {
		if err != nil {
			c.cfg.Log.Debug("vfio-user server's command failed", "message", h.String(), "error", err)
		}
		return nil
	}
	r := wire.Header{ID: h.ID, Command: h.Command, Flags: wire.TypeReply}
	var head, data []byte
	if err != nil {
		c.cfg.Log.Debug("vfio-user server's command refused", "message", h.String(), "error", err)
		r.Flags |= wire.Error
		r.Errno = uint32(errs.Errno(err))
	} else {
		head = a.Append(in.ack[:0])
		if h.Command == wire.CmdDMARead {
			data = in.answer[:a.Count]
		}
	}
	if in != &c.in {
		return in.conn.send(r, head, data, nil)
	}
	p := pieces{in.head[:], head, data}
	r.Size = uint32(p.len())
	r.Put(&in.head)
	l := c.limit(context.Background())
	return c.transmit(&l, p, nil, true)
}

// access does the access to memory that a command of the server's asks for.
// What was read is in in.answer.
func (c *Client) access(in *inbox, h wire.Header, body []byte) (a wire.DMAAccess, err error) {
	if h.Command != wire.CmdDMARead && h.Command != wire.CmdDMAWrite {
		// What QEMU says to a command that it does not know.
		return a, fmt.Errorf("%v: %w", h.Command, unix.ENOSYS)
	}
	if len(body) < wire.DMAAccessLen {
		return a, fmt.Errorf("%d bytes of payload: %w", len(body), errs.ErrInvalid)
	}
	a = wire.DecodeDMAAccess((*[wire.DMAAccessLen]byte)(body))
	data := body[wire.DMAAccessLen:]
	if a.Count > uint64(c.cfg.MaxDataXfer) {
		return a, fmt.Errorf("%v: more than %d: %w", a, c.cfg.MaxDataXfer, unix.E2BIG)
	}
	if h.Command == wire.CmdDMAWrite {
		if uint64(len(data)) != a.Count {
			return a, fmt.Errorf("%v: with %d bytes: %w", a, len(data), errs.ErrInvalid)
		}
		return a, in.reader.Write(addr.IOVA(a.Address), data)
	}
	if len(data) != 0 {
		return a, fmt.Errorf("%v: with %d bytes: %w", a, len(data), errs.ErrInvalid)
	}
	if uint64(cap(in.answer)) < a.Count {
		in.answer = make([]byte, max(a.Count, keepBody))
	}
	if a.Count > keepBody {
		in.few = 0
	}
	return a, in.reader.Read(addr.IOVA(a.Address), in.answer[:a.Count])
}

// serveTwin serves the server's own socket.
func (c *Client) serveTwin() {
	for {
		if _, err := c.step(&c.twinIn); err != nil {
			// A server may be done with this socket before the other, also
			// while it is being answered.
			if !errors.Is(err, errs.ErrGone) && !errors.Is(err, io.ErrClosedPipe) {
				c.lose(err)
			}
			return
		}
	}
}

// quiet is how long no command must have been sent before the watcher minds
// the socket again. It bounds how late the first DMA_READ of a server without
// a twin socket is noticed, and how often a busy client is looked after.
const quiet = time.Millisecond

// watch minds the socket while nobody waits for a reply: for the commands of
// the server's, and for its end.
//
// It must not be woken by each reply that a call is waiting for itself. So
// when it finds somebody leading, it does not look again before a moment
// without commands has passed. That changes once the server has sent a
// command on this socket: nobody can say when the next will come, so from then
// on the watcher leads whenever it can, and calls have a hop.
func (c *Client) watch() {
	self := &clientCall{wake: make(chan struct{}, 1)} // never entered: only to wait with
	for {
		var as *clientCall
		if c.served.Load() {
			as = self
		} else if _, err := pollFD(c.conn.fd, unix.POLLIN, -1); err != nil {
			c.lose(fmt.Errorf("poll: %w", err))
		}
		switch c.calls.takeLead(as) {
		case needless:
			return
		case leading:
			c.mind()
		case following:
			if as != nil {
				<-as.wake // of the one who leaves, or of lose
				c.calls.leaveQueue(as, false)
			} else {
				c.calm()
			}
		}
	}
}

// mind receives what there is, and goes on as long as the server may send
// commands. Precondition: the caller leads. It does not any more afterwards.
func (c *Client) mind() {
	defer c.calls.leave()
	for {
		progress, err := c.step(&c.in)
		if err != nil {
			c.lose(err)
			return
		}
		if c.in.whole() {
			continue
		}
		wait := time.Duration(0)
		if c.served.Load() {
			if progress {
				continue
			}
			wait = -1
		}
		got, err := pollFD(c.conn.fd, unix.POLLIN, wait)
		if err != nil {
			c.lose(fmt.Errorf("poll: %w", err))
		}
		if got == 0 && !c.served.Load() {
			return
		}
	}
}

// calm waits until no command has been sent for a while.
func (c *Client) calm() {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		before := c.calls.count()
		select {
		case <-tick.C:
		case <-c.lost:
			return
		}
		if c.calls.count() == before || c.served.Load() {
			return
		}
	}
}
