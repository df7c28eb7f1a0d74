//go:build linux

package vfiouser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// link is the server's end of one connection, from VERSION on. Its methods are
// for the serving goroutine, but for transfer.
type link struct {
	srv  *Server
	ctx  context.Context // ends when the server is closed
	log  *slog.Logger
	c    *conn
	main *demux // the client's commands
	dma  *demux // ours: main, or that of the twin socket

	s      *mdev.Session
	info   *mdev.Info
	maxFDs int // files that the client takes in a message
	maxDMA int // bytes of a DMA access that it takes

	maps map[uint64]mapping // by first address
	kept int                // of them, those with a file

	out    []byte // the reply: header, payload
	outFDs []int  // files that go with it; not ours to close
	small  int    // replies since much of out was needed
	bits   []byte // scratch of dirty bitmaps
}

// refuse is a request that cannot be taken as it is.
func refuse(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...)
}

// exactly refuses a payload of another length.
func exactly(m *message, n int) error {
	if len(m.body) != n {
		return refuse("payload of %d bytes, not %d", len(m.body), n)
	}
	return nil
}

// run serves the connection until it ends, and returns why: nil when the client
// is gone between messages.
func (l *link) run() error {
	var own message
	for {
		m, err := l.main.next(&own)
		if err == nil {
			err = l.handle(m)
		} else if m != nil && m.Size != 0 && errors.Is(err, errFraming) {
			// Whoever wrote this may want to know; what follows it cannot be
			// read any more.
			l.lastWords(&m.Header)
		}
		switch {
		case err == nil:
		case err == io.EOF:
			return nil
		default:
			return err
		}
	}
}

// handle executes one message and replies.
func (l *link) handle(m *message) error {
	if l.log.Enabled(l.ctx, slog.LevelDebug) {
		l.log.Debug("received", "message", wire.Text(m.Header, m.body), "files", len(m.fds))
	}
	if m.Flags.Type() != wire.TypeCommand {
		closeFDs(m.fds)
		return fmt.Errorf("%v: %w", m.Header, errFraming)
	}
	l.out, l.outFDs = l.room(), l.outFDs[:0]
	err := l.execute(m)
	closeFDs(m.fds) // before the reply: who gets it may count
	m.fds = m.fds[:0]
	l.srv.count.in(m.Command, int(m.Size), err != nil)
	if err != nil {
		l.refused(m, err)
	}
	if m.Flags&wire.NoReply != 0 {
		return nil
	}
	return l.reply(m.Header, err)
}

// room is the buffer of the reply, with the header's place taken.
func (l *link) room() []byte {
	if cap(l.out) > keepBody {
		if l.small++; l.small > dropBody {
			l.out = nil
		}
	}
	if l.out == nil {
		l.out = make([]byte, 0, keepBody)
	}
	return l.out[:wire.HeaderLen]
}

// reply answers a command with what is in l.out, or with an error.
func (l *link) reply(h wire.Header, failure error) error {
	r := wire.Header{ID: h.ID, Command: h.Command, Flags: wire.TypeReply}
	if failure != nil {
		r.Flags |= wire.Error
		r.Errno = uint32(errs.Errno(failure))
		l.out, l.outFDs = l.out[:wire.HeaderLen], l.outFDs[:0]
	}
	if len(l.out) > keepBody {
		l.small = 0
	}
	r.Size = uint32(len(l.out))
	r.Put((*[wire.HeaderLen]byte)(l.out))
	if l.log.Enabled(l.ctx, slog.LevelDebug) {
		l.log.Debug("sends", "message", wire.Text(r, l.out[wire.HeaderLen:]), "files", len(l.outFDs))
	}
	l.srv.count.bytesOut.Add(uint64(len(l.out)))
	if len(l.outFDs) == 0 {
		return l.c.sendBytes(l.out)
	}
	return l.c.send(r, l.out[wire.HeaderLen:], nil, l.outFDs)
}

// lastWords answers the header of a message that cannot be received.
func (l *link) lastWords(h *wire.Header) {
	if h.Flags.Type() == wire.TypeCommand && h.Flags&wire.NoReply == 0 {
		l.out, l.outFDs = l.room(), l.outFDs[:0]
		_ = l.reply(*h, errs.ErrInvalid) // the connection ends anyway
	}
}

// refused logs a command that failed.
func (l *link) refused(m *message, err error) {
	level := slog.LevelDebug
	if errors.Is(err, errs.ErrBusy) {
		level = slog.LevelWarn // somebody does not let go: the text says who
	}
	if l.log.Enabled(l.ctx, level) {
		l.log.Log(l.ctx, level, "refused", "message", m.Header, "error", err)
	}
}

// knownFlags are the flags that a command may have.
const knownFlags = wire.TypeMask | wire.NoReply

// execute executes a command. The reply's payload is in l.out behind the
// header's place, its files in l.outFDs. Files of m that are kept are taken out
// of m.fds.
func (l *link) execute(m *message) error {
	if m.Flags&^knownFlags != 0 {
		return refuse("flags %v of a command", m.Flags)
	}
	switch m.Command {
	case wire.CmdRegionRead:
		return l.regionRead(m)
	case wire.CmdRegionWrite:
		return l.regionWrite(m)
	case wire.CmdDMAMap:
		return l.dmaMap(m)
	case wire.CmdSetIRQs:
		return l.setIRQs(m)
	}
	if len(m.fds) != 0 {
		return refuse("%d files", len(m.fds))
	}
	switch m.Command {
	case wire.CmdDMAUnmap:
		return l.dmaUnmap(m)
	case wire.CmdDeviceInfo:
		return l.deviceInfo(m)
	case wire.CmdRegionInfo:
		return l.regionInfo(m)
	case wire.CmdRegionIOFDs:
		return l.regionIOFDs(m)
	case wire.CmdIRQInfo:
		return l.irqInfo(m)
	case wire.CmdDeviceReset:
		return l.deviceReset(m)
	case wire.CmdWriteMulti:
		return l.writeMulti(m)
	case wire.CmdFeature:
		return l.feature(m)
	case wire.CmdMigDataRead:
		return l.migDataRead(m)
	case wire.CmdMigDataWrite:
		return l.migDataWrite(m)
	case wire.CmdVersion:
		return refuse("a second time")
	case wire.CmdDMARead, wire.CmdDMAWrite:
		return refuse("from the client")
	}
	return refuse("unknown command")
}

// deviceReset executes DEVICE_RESET.
func (l *link) deviceReset(m *message) error {
	if err := exactly(m, 0); err != nil {
		return err
	}
	return l.s.Reset(l.ctx)
}

// close ends what the connection began. The sockets go first: accesses by
// message then fail at once, and the session is soon closed.
func (l *link) close() {
	gone := fmt.Errorf("client: %w", unix.EPIPE)
	l.main.close(gone)
	if l.dma != l.main {
		l.dma.close(gone)
	}
	if l.s != nil {
		// Not l.ctx, which may have ended: the session bounds the wait.
		if err := l.s.Close(context.WithoutCancel(l.ctx)); err != nil {
			l.log.Error("session does not close", "error", err)
		}
	}
	for _, e := range l.maps {
		e.close()
	}
}
