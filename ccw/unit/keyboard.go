package unit

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// AID is the attention identifier: the key that made the display ask for a
// read.
//
// Specification: GA23-0059, "Attention Identification".
type AID byte

// The keys. Of the PF keys the first of each run is named.
const (
	AIDNone       AID = 0x60 // no key
	AIDEnter      AID = 0x7D
	AIDClear      AID = 0x6D
	AIDPA1        AID = 0x6C
	AIDPA2        AID = 0x6E
	AIDPA3        AID = 0x6B
	AIDPF1        AID = 0xF1 // to AIDPF1+8 for PF9
	AIDPF10       AID = 0x7A // to AIDPF10+2 for PF12
	AIDPF13       AID = 0xC1 // to AIDPF13+8 for PF21
	AIDPF22       AID = 0x4A // to AIDPF22+2 for PF24
	AIDStructured AID = 0x88 // not a key: structured fields follow
)

// String names the key.
func (a AID) String() string {
	switch {
	case a == AIDNone:
		return "none"
	case a == AIDEnter:
		return "ENTER"
	case a == AIDClear:
		return "CLEAR"
	case a == AIDPA1:
		return "PA1"
	case a == AIDPA2:
		return "PA2"
	case a == AIDPA3:
		return "PA3"
	case a >= AIDPF1 && a < AIDPF1+9:
		return fmt.Sprintf("PF%d", a-AIDPF1+1)
	case a >= AIDPF10 && a < AIDPF10+3:
		return fmt.Sprintf("PF%d", a-AIDPF10+10)
	case a >= AIDPF13 && a < AIDPF13+9:
		return fmt.Sprintf("PF%d", a-AIDPF13+13)
	case a >= AIDPF22 && a < AIDPF22+3:
		return fmt.Sprintf("PF%d", a-AIDPF22+22)
	}
	return fmt.Sprintf("AID %#x", byte(a))
}

// key reports whether an operator can press it.
func (a AID) key() bool {
	return a == AIDEnter || a.short() ||
		a >= AIDPF1 && a < AIDPF1+9 || a >= AIDPF10 && a < AIDPF10+3 ||
		a >= AIDPF13 && a < AIDPF13+9 || a >= AIDPF22 && a < AIDPF22+3
}

// short reports whether a key sends no data, only itself.
func (a AID) short() bool {
	return a == AIDClear || a == AIDPA1 || a == AIDPA2 || a == AIDPA3
}

// Screen is what the operator sees, one line for each row.
func (d *Display3270) Screen() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.screen.text()
}

// Cursor is where the cursor stands, from 0.
func (d *Display3270) Cursor() (row, col int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.screen.cursor / d.screen.cols, d.screen.cursor % d.screen.cols
}

// SetCursor moves the cursor. It reports false for a place off the screen.
func (d *Display3270) SetCursor(row, col int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.screen
	if row < 0 || row >= s.rows || col < 0 || col >= s.cols {
		return false
	}
	s.cursor = row*s.cols + col
	return true
}

// Tab moves the cursor to the next field that can be typed in, to the first
// position if there is none.
func (d *Display3270) Tab() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.screen.cursor, _ = d.screen.nextInput(d.screen.cursor)
}

// Type types EBCDIC text at the cursor, a character after the other; one that
// comes to the end of a field skips to the next. It reports false, having
// typed up to there, when the keyboard is locked or the cursor in a protected
// field.
func (d *Display3270) Type(text []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.screen
	for _, b := range text {
		if d.locked || s.protected(s.cursor) {
			return false
		}
		if f, ok := s.fieldOf(s.cursor); ok {
			s.cells[f].value |= byte(attrModified)
		}
		s.cells[s.cursor].value = b
		if s.cursor = s.next(s.cursor); s.cells[s.cursor].field {
			if at, ok := s.nextInput(s.cursor); ok {
				s.cursor = at
			}
		}
	}
	return true
}

// Press presses a key that the program is to know of: it locks the keyboard
// and raises attention. CLEAR also empties the screen. It reports false when
// the keyboard is locked, or there is no such key.
func (d *Display3270) Press(key AID) bool {
	d.mu.Lock()
	ok := !d.locked && key.key()
	if ok {
		d.aid, d.locked = key, true
		if key == AIDClear {
			d.screen.reset(d.screen.rows, d.screen.cols)
		}
	}
	d.mu.Unlock()
	if ok && d.cfg.Attention != nil {
		d.cfg.Attention(cio.Attention)
	}
	return ok
}

// readModified sends the key and what was typed: the contents of the fields
// that were modified, or of the whole screen if it has no fields, without the
// positions that hold nothing.
func (d *Display3270) readModified(x *channel.Transfer) cio.DeviceStatus {
	s := &d.screen
	if d.reply != nil {
		return d.sendReply(x)
	}
	out := append(d.inbound[:0], byte(d.aid))
	if !d.aid.short() {
		out = d.appendCursor(out)
		start := d.from()
		if _, formatted := s.fieldOf(0); !formatted {
			for _, c := range s.cells[start:] {
				if c.value != 0 {
					out = append(out, c.value)
				}
			}
		}
		for at := start; at < s.size(); at++ {
			if c := s.cells[at]; c.field && attribute(c.value)&attrModified != 0 {
				out = d.appendField(out, s.next(at))
			}
		}
	}
	d.inbound = out
	d.at = 0
	x.Store(out)
	return cio.Ended
}

// from is where a read starts.
func (d *Display3270) from() int {
	if d.chained {
		return d.at
	}
	return 0
}

func (d *Display3270) appendCursor(out []byte) []byte {
	a := encodeAddress(d.screen.cursor)
	return append(out, a[0], a[1])
}

// appendField appends a field that starts at a position.
func (d *Display3270) appendField(out []byte, at int) []byte {
	s := &d.screen
	a := encodeAddress(at)
	out = append(out, orderSBA, a[0], a[1])
	for ; !s.cells[at].field; at = s.next(at) {
		if v := s.cells[at].value; v != 0 {
			out = append(out, v)
		}
	}
	return out
}

// readBuffer sends the key and the whole screen, with the attributes.
func (d *Display3270) readBuffer(x *channel.Transfer) cio.DeviceStatus {
	if d.reply != nil {
		return d.sendReply(x)
	}
	out := d.appendCursor(append(d.inbound[:0], byte(d.aid)))
	for _, c := range d.screen.cells[d.from():] {
		if c.field {
			out = append(out, orderSF)
		}
		out = append(out, c.value)
	}
	d.inbound = out
	d.at = 0
	x.Store(out)
	return cio.Ended
}

// sendReply sends the answer to a query, once. If the channel finds a check
// before the first byte the answer stays.
func (d *Display3270) sendReply(x *channel.Transfer) cio.DeviceStatus {
	if x.Store(d.reply) > 0 || !x.Terminated() {
		d.reply = nil
	}
	return cio.Ended
}
