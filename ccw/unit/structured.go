package unit

import (
	"bytes"
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// Structured fields, outbound: a length of two bytes that counts itself, an
// ID, parameters. A length of zero is that of the last field.
//
// Specification: GA23-0059, "Outbound/Inbound Structured Fields" and "Query
// Reply Structured Fields".
const (
	fieldReadPartition = 0x01
	fieldEraseReset    = 0x03
	fieldReplyMode     = 0x09
	fieldDataStream    = 0x40

	readQuery     = 0x02 // operations of read partition
	readQueryList = 0x03

	// Commands of a data-stream field.
	remoteWrite       = 0xF1
	remoteEraseWrite  = 0xF5
	remoteEraseWriteA = 0x7E
	remoteEraseAll    = 0x6F

	queryAll = 0xC0 // kinds of request that are for all

	replyID      = 0x81
	replySummary = 0x80 // which replies there are
	replyUsable  = 0x81 // size of the screen
	replyNull    = 0xFF // none of what was asked for
)

// maxStructured is the longest stream of structured fields that a display
// takes with one command.
const maxStructured = 32 << 10

// structured executes the structured fields of a command.
func (d *Display3270) structured(x *channel.Transfer, ev *events) cio.DeviceStatus {
	x.Accept()
	d.at = 0
	d.field = d.field[:0]
	fits := true
	all := collect(x, d.buf[:], func(p []byte) bool {
		fits = len(d.field)+len(p) <= maxStructured
		if fits {
			d.field = append(d.field, p...)
		}
		return fits
	})
	if fits && !all {
		return cio.Ended // the channel has a check to tell
	}
	for rest := d.field; fits && len(rest) > 0; {
		if len(rest) < 3 {
			fits = false
			break
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n == 0 {
			n = len(rest)
		}
		if fits = n >= 3 && n <= len(rest); fits {
			fits = d.oneField(rest[2], rest[3:n], ev)
			rest = rest[n:]
		}
	}
	if !fits {
		return d.sense.check(operationCheck)
	}
	return cio.Ended
}

// oneField executes a field with its parameters. It reports false for one that
// the display does not know.
func (d *Display3270) oneField(id byte, p []byte, ev *events) bool {
	switch {
	case id == fieldEraseReset && len(p) >= 1:
		if p[0]&0x80 != 0 {
			d.screen.reset(d.cfg.Rows, d.cfg.Cols)
		} else {
			d.screen.reset(defaultRows, defaultCols)
		}
		return true
	case id == fieldReplyMode && len(p) >= 2:
		return p[0] == 0 && p[1] == 0
	case id == fieldReadPartition && len(p) >= 2 && p[0] == 0xFF:
		return d.query(p[1], p[2:], ev)
	case id == fieldDataStream && len(p) >= 2 && p[0] == 0:
		return d.dataStream(p[1], p[2:], ev)
	}
	return false
}

// dataStream executes a write command within a structured field.
func (d *Display3270) dataStream(cmd byte, p []byte, ev *events) bool {
	start := 0
	switch cmd {
	case remoteEraseAll:
		d.eraseAll()
		return true
	case remoteEraseWrite:
		d.screen.reset(defaultRows, defaultCols)
	case remoteEraseWriteA:
		d.screen.reset(d.cfg.Rows, d.cfg.Cols)
	case remoteWrite:
		start = d.screen.cursor
	default:
		return false
	}
	if len(p) == 0 {
		return true
	}
	d.controlBefore(p[0])
	w := newWriter(&d.screen, start)
	ok := w.put(p[1:]) && w.done()
	d.controlAfter(p[0], ev)
	return ok
}

// query makes the answer to a query ready and asks the program to read it. The
// query is for the display as a whole, partition FF.
//
//	op 02   all replies
//	op 03   p: kind of request (00: those listed, 40, 80: all), codes
func (d *Display3270) query(op byte, p []byte, ev *events) bool {
	var wants func(code byte) bool
	switch {
	case op == readQuery && len(p) == 0, op == readQueryList && len(p) >= 1 && p[0]&queryAll != 0:
		wants = func(byte) bool { return true }
	case op == readQueryList && len(p) >= 1:
		wants = func(code byte) bool { return bytes.IndexByte(p[1:], code) >= 0 }
	default:
		return false
	}
	d.reply = append(d.reply[:0], byte(AIDStructured))
	if wants(replySummary) {
		d.reply = append(d.reply, 0, 6, replyID, replySummary, replySummary, replyUsable)
	}
	if wants(replyUsable) {
		d.reply = d.appendUsableArea(d.reply)
	}
	if len(d.reply) == 1 {
		d.reply = append(d.reply, 0, 4, replyID, replyNull)
	}
	ev.attention = true
	return true
}

// appendUsableArea appends the reply that tells the size of the screen.
//
//	byte 0-1 length   2-3 81 81   4 addressing: 12 and 14 bits   5 variable cells
//	     6-7 columns  8-9 rows   10 units: inches   11-14 and 15-18 distances
//	    19   width and 20 height of a character   21-22 buffer size
func (d *Display3270) appendUsableArea(to []byte) []byte {
	var b [23]byte
	binary.BigEndian.PutUint16(b[0:], uint16(len(b)))
	b[2], b[3], b[4] = replyID, replyUsable, 0x01
	binary.BigEndian.PutUint16(b[6:], uint16(d.cfg.Cols))
	binary.BigEndian.PutUint16(b[8:], uint16(d.cfg.Rows))
	copy(b[11:], []byte{0, 1, 0, 100, 0, 1, 0, 100}) // 1/100 inch
	b[19], b[20] = 7, 12
	binary.BigEndian.PutUint16(b[21:], uint16(d.cfg.Cols*d.cfg.Rows))
	return append(to, b[:]...)
}
