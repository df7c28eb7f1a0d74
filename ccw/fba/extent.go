package fba

import (
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// mask is byte 0 of the DEFINE EXTENT parameters.
//
//	bit  0    1    2   3    4    5    6    7
//	     writes    0   seek      authority PCI
//	                   control             fetch
//
// Seek control, authority and PCI fetch change nothing here.
type mask uint8

const (
	maskWrites   mask = 0xC0 // 00 all but formatting, 01 none, 10 updates, 11 all
	maskReserved mask = 0x20

	writesNoFormat mask = 0x00
	writesNone     mask = 0x40
)

// extent is what DEFINE EXTENT gave a program to work in: the blocks of the
// volume from start, which the program calls first to last.
type extent struct {
	defined     bool
	mask        mask
	start       uint32
	first, last uint32
}

// holds reports whether n blocks from block, in the program's numbers, lie
// inside the extent.
func (e *extent) holds(block uint32, n uint16) bool {
	return n > 0 && block >= e.first && block <= e.last && uint32(n)-1 <= e.last-block
}

// defineExtentSize and locateSize are the lengths of the parameters. Without
// all of them the command is rejected.
const (
	defineExtentSize = 16
	locateSize       = 8
)

// defineExtent sets the extent and what may be done in it.
//
//	byte 0 mask   1 0   2-3 block size   4-7 first block of the volume
//	     8-11 number of that block   12-15 number of the last block
//
// Bytes 1-3 are not checked: Linux writes the block size there, VM does too,
// and the one manual at hand calls them zero.
func (v *Volume) defineExtent(x *channel.Transfer) cio.DeviceStatus {
	p := v.buf[:defineExtentSize]
	if x.FetchUpTo(p) < len(p) {
		return v.short(x)
	}
	if v.extent.defined {
		return v.check(cio.CommandReject, 0) // one for a program
	}
	e := extent{
		mask:  mask(p[0]),
		start: binary.BigEndian.Uint32(p[4:]),
		first: binary.BigEndian.Uint32(p[8:]),
		last:  binary.BigEndian.Uint32(p[12:]),
	}
	if e.mask&maskReserved != 0 ||
		e.last < e.first || e.start >= v.blocks || e.last-e.first >= v.blocks-e.start {
		return v.check(cio.CommandReject, 0)
	}
	e.defined = true
	v.extent = e
	return cio.Ended
}

// op is the operation of a LOCATE, the low digit of byte 0. Of the high digit
// bits 0-2 must be zero; bit 3 is accepted and does nothing.
type op uint8

const (
	opWrite        op = 1
	opReadRepeated op = 2 // read data that are stored more than once
	opFormat       op = 4 // format a defective block
	opWriteVerify  op = 5
	opRead         op = 6

	opCode     = 0x0F
	opReserved = 0xE0
)

func (o op) writes() bool { return o == opWrite || o == opWriteVerify }
func (o op) reads() bool  { return o == opRead || o == opReadRepeated }

// locate is where LOCATE put the drive: count blocks of the volume from next
// are to be read or written.
type locate struct {
	op    op
	next  uint32
	count uint32
}

// doLocate moves to a block of the extent.
//
//	byte 0 operation   1 replication count   2-3 blocks   4-7 first block,
//	     in the numbers of the extent
func (v *Volume) doLocate(x *channel.Transfer) cio.DeviceStatus {
	p := v.buf[:locateSize]
	if x.FetchUpTo(p) < len(p) {
		return v.short(x)
	}
	var (
		o      = op(p[0] & opCode)
		copies = p[1]
		count  = binary.BigEndian.Uint16(p[2:])
		block  = binary.BigEndian.Uint32(p[4:])
		e      = &v.extent
	)
	if !e.defined || p[0]&opReserved != 0 || !e.holds(block, count) {
		return v.check(cio.CommandReject, 0)
	}
	switch {
	case o.writes():
		if e.mask&maskWrites == writesNone {
			return v.check(cio.CommandReject, 0)
		}
	case o == opFormat:
		if m := e.mask & maskWrites; m == writesNoFormat || m == writesNone {
			return v.check(cio.CommandReject, 0)
		}
	case o == opReadRepeated:
		if copies == 0 || uint16(copies)%count != 0 {
			return v.check(cio.CommandReject, 0)
		}
	case !o.reads():
		return v.check(cio.CommandReject, 0)
	}
	if !o.reads() && v.image.ReadOnly() {
		return v.check(cio.CommandReject, cio.WriteInhibited)
	}
	v.locate = locate{op: o, next: e.start + (block - e.first), count: uint32(count)}
	return cio.Ended
}

// short ends a command whose parameters did not come whole. If the channel
// found a check it has its own status, and the volume has none to add.
func (v *Volume) short(x *channel.Transfer) cio.DeviceStatus {
	if x.Terminated() {
		return cio.Ended
	}
	return v.check(cio.CommandReject, 0)
}
