package unit

import (
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// Block IDs. Cartridge drives up to the 3490 number items in 22 bits; above
// them stand a wrap, a segment that is not zero, and a format, of which 3 is
// reserved. A 3590 uses all bits.
const (
	blockIDBits   = 22
	blockIDMask   = 1<<blockIDBits - 1
	blockIDFormat = 0x00C00000
	blockIDWrap   = 0x01000000
)

// MaxTapeItems is how many blocks and tape marks a tape holds: as many as a
// block ID of 22 bits can name.
const MaxTapeItems = 1 << blockIDBits

// readBlockID returns the number of the next item twice: as the program sees
// it and, nothing being buffered, as the drive does.
func (t *Tape) readBlockID(x *channel.Transfer) cio.DeviceStatus {
	id := uint32(t.at)
	if t.traits.set != on3590 {
		id = id&blockIDMask | blockIDWrap
	}
	b := t.param[:8]
	binary.BigEndian.PutUint32(b[0:], id)
	binary.BigEndian.PutUint32(b[4:], id)
	x.Store(b)
	return cio.Ended
}

// locate moves to an item by its block ID.
func (t *Tape) locate(x *channel.Transfer) cio.DeviceStatus {
	b, ok := t.parameters(x, 4)
	if !ok {
		return t.short(x)
	}
	id := binary.BigEndian.Uint32(b)
	if t.traits.set != on3590 {
		if id&blockIDFormat == blockIDFormat {
			return t.fail(troubleCommand)
		}
		id &= blockIDMask
	}
	if uint64(id) > uint64(t.tape.Len()) {
		return t.fail(troubleLocate)
	}
	t.at = int(id)
	return cio.Ended
}

// parameters takes n bytes from the program.
func (t *Tape) parameters(x *channel.Transfer, n int) ([]byte, bool) {
	b := t.param[:n]
	return b, x.FetchUpTo(b) == n
}

// short ends a command whose parameters did not come whole.
func (t *Tape) short(x *channel.Transfer) cio.DeviceStatus {
	if x.Terminated() {
		return cio.Ended
	}
	return t.fail(troubleCommand)
}

// Bits of the mode-set byte. To write at once needs no mode here.
const (
	modeInhibit = 0x10 // no more supervisor commands in this program
	modeCompact = 0x08 // compaction, of which a file shows nothing
)

// modeSet sets how the rest of the program runs.
func (t *Tape) modeSet(x *channel.Transfer) cio.DeviceStatus {
	b, ok := t.parameters(x, 1)
	if !ok {
		return t.short(x)
	}
	if b[0]&modeCompact != 0 && t.traits.feature1&rdcCompaction == 0 {
		return t.fail(troubleCommand)
	}
	t.inhibited = b[0]&modeInhibit != 0
	return cio.Ended
}

// Path group and assignment: who may use the drive. There is one path, so
// that nobody is ever locked out, but programs read back what they set.
//
// Specification: GA32-0127, "Set Path Group ID", "Sense Path Group ID",
// "Assign", "Unassign".
type pathGroup struct {
	state byte // as SENSE PATH GROUP ID returns it
	id    [groupIDSize]byte
}

const (
	groupIDSize = 11

	groupGrouped  = 0xC0 // state: the path is in a group
	groupAssigned = 0x30 // state: explicitly enabled

	groupCode      = 0x60 // function bits
	groupEstablish = 0x00
	groupDisband   = 0x20
	groupResign    = 0x40
)

// sensePathGroup must be the only command of its program.
func (t *Tape) sensePathGroup(x *channel.Transfer) cio.DeviceStatus {
	if t.chained {
		return t.reject(x)
	}
	b := t.param[:1+groupIDSize]
	b[0] = t.group.state
	copy(b[1:], t.group.id[:])
	x.Store(b)
	return cio.Ended
}

// setPathGroup must be the only command of its program.
func (t *Tape) setPathGroup(x *channel.Transfer) cio.DeviceStatus {
	if t.chained {
		return t.reject(x)
	}
	b, ok := t.parameters(x, 1+groupIDSize)
	if !ok {
		return t.short(x)
	}
	id := [groupIDSize]byte(b[1:])
	switch g := &t.group; b[0] & groupCode {
	case groupEstablish:
		if g.id != ([groupIDSize]byte{}) && g.id != id {
			return t.fail(troubleCommand)
		}
		g.id = id
		g.state = g.state&groupAssigned | groupGrouped
	case groupDisband:
		g.state = 0
	case groupResign:
		g.state, g.id = 0, [groupIDSize]byte{}
	default:
		return t.fail(troubleCommand)
	}
	return cio.Ended
}

// assign gives the drive to a path group: the one that is set, or none named.
func (t *Tape) assign(x *channel.Transfer) cio.DeviceStatus {
	b, ok := t.parameters(x, groupIDSize)
	if !ok {
		return t.short(x)
	}
	if id := [groupIDSize]byte(b); id != ([groupIDSize]byte{}) && id != t.group.id {
		return t.fail(troubleCommand)
	}
	t.group.state |= groupAssigned
	return cio.Ended
}

// unassign ends assignment and group.
func (t *Tape) unassign(x *channel.Transfer) cio.DeviceStatus {
	if _, ok := t.parameters(x, groupIDSize); !ok {
		return t.short(x)
	}
	t.group.state, t.group.id = 0, [groupIDSize]byte{}
	return cio.Ended
}

// TapeDisplay is what a program asks the drive's display to show: one of two
// messages of eight characters, or both in turn.
//
// Specification: GA32-0127, "Load Display": bits 0-2 of the control byte are
// the kind of message, 3 shows them in turn, 4 blinks, 5 chooses the second.
type TapeDisplay struct {
	Control  byte
	Messages [2][8]byte // EBCDIC
}

// String is the two messages as text, with a bar between them.
func (d TapeDisplay) String() string {
	return Text(d.Messages[0][:]) + "|" + Text(d.Messages[1][:])
}

// loadDisplay hands the messages to the host.
func (t *Tape) loadDisplay(x *channel.Transfer) cio.DeviceStatus {
	b, ok := t.parameters(x, 17)
	if !ok {
		return t.short(x)
	}
	t.shown = &TapeDisplay{
		Control:  b[0],
		Messages: [2][8]byte{[8]byte(b[1:9]), [8]byte(b[9:17])},
	}
	return cio.Ended
}
