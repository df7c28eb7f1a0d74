//go:build linux

package vfiouser

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
)

// slice is the longest a receive blocks before the one who leads looks at the
// clock and at its context.
const slice = 20 * time.Millisecond

// inbox is what has been received from a socket and not yet been handled. It
// belongs to one goroutine at a time.
//
// A client knows which replies bring files (one at a time: Client.fdCall), so
// it may read as much as there is, and most replies cost one system call.
type inbox struct {
	conn *conn   // of which only receiveOnce and takeControl are used
	got  message // of which only fds is used: the files that came
	buf  []byte
	r, w int // what is in buf
	base []byte
	few  int // messages since much was needed

	reader *translate.Reader // for what the server reads and writes
	answer []byte            // scratch: the data of a reply to DMA_READ
	head   [wire.HeaderLen]byte
	ack    [wire.DMAAccessLen]byte
}

func (b *inbox) init(conn *conn, mem *translate.Store) {
	b.conn, b.reader = conn, mem.NewReader()
	b.base = make([]byte, keepBody)
	b.buf = b.base
}

// close forgets all. Nobody may use b any more.
func (b *inbox) close() {
	b.refuse()
	b.reader.Close()
}

// header is the header of the message that has begun.
func (b *inbox) header() (h wire.Header, ok bool) {
	if b.w-b.r < wire.HeaderLen {
		return h, false
	}
	return wire.DecodeHeader((*[wire.HeaderLen]byte)(b.buf[b.r:])), true
}

// whole reports whether all of a message is here.
func (b *inbox) whole() bool {
	h, ok := b.header()
	return ok && uint64(b.w-b.r) >= uint64(h.Size)
}

// take is the payload of the message with header h, which is whole. It is
// valid until the next receive.
func (b *inbox) take(h wire.Header) []byte {
	p := b.buf[b.r+wire.HeaderLen : b.r+int(h.Size)]
	b.r += int(h.Size)
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
	return p
}

// settle gives large buffers back that have not been needed for a while. A
// message of that size has been handled.
func (b *inbox) settle(size int) {
	if b.few++; size > len(b.base) {
		b.few = 0
	}
	if b.few <= dropBody || b.r != b.w {
		return
	}
	if len(b.buf) > len(b.base) {
		b.buf, b.r, b.w = b.base, 0, 0
	}
	if cap(b.answer) > keepBody {
		b.answer = nil
	}
}

// receive receives once; size is that of the message that has begun, 0 when it
// is not known. It returns false when nothing came for a slice of time.
func (b *inbox) receive(size int) (bool, error) {
	if size > len(b.buf) {
		buf := make([]byte, size)
		b.r, b.w = 0, copy(buf, b.buf[b.r:b.w])
		b.buf = buf
	} else if len(b.buf)-b.r < max(size, wire.HeaderLen) {
		b.r, b.w = 0, copy(b.buf, b.buf[b.r:b.w])
	}
	n, errno := b.conn.receiveOnce(b.buf[b.w:], nil)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return false, nil
	case unix.ECONNRESET: // it had not read all that we sent
		return false, io.EOF
	default:
		return false, fmt.Errorf("receive: %w", errno)
	}
	if err := b.conn.takeControl(&b.got, b.conn.cfg.maxFDs); err != nil {
		return false, err
	}
	if n == 0 {
		return false, io.EOF
	}
	b.w += n
	return true, nil
}

// claim are the files that have come; they are the caller's.
func (b *inbox) claim() []int {
	fds := append([]int(nil), b.got.fds...)
	b.got.fds = b.got.fds[:0]
	return fds
}

// refuse closes files that came with a message that should have had none.
func (b *inbox) refuse() int {
	n := len(b.got.fds)
	closeFDs(b.got.fds)
	b.got.fds = b.got.fds[:0]
	return n
}
