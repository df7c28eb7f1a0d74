package dasd

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// Commands about the device as a whole.

// done is a command without effect.
func (v *Volume) done(cio.Command, *channel.Transfer) cio.DeviceStatus { return cio.Ended }

// nop does nothing, but not in the midst of a domain; only that of Read IPL
// bears it.
func (v *Volume) nop(cio.Command, *channel.Transfer) cio.DeviceStatus {
	if p := &v.prog; p.domain.count > 0 && p.prev != readIPL {
		return v.reject(badSequence)
	}
	return cio.Ended
}

func (v *Volume) senseID(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Store(v.identity.id[:])
	return cio.Ended
}

func (v *Volume) readCharacteristics(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Store(v.identity.characteristics[:])
	return cio.Ended
}

func (v *Volume) readConfiguration(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Store(v.identity.config[:])
	return cio.Ended
}

// basicSense gives the sense bytes of the last unit check, once. Without one
// they only tell where the heads are.
func (v *Volume) basicSense(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if !v.pending {
		v.setSense(0, 0, 0)
	}
	x.Store(v.sense[:])
	v.pending = false
	return cio.Ended
}

// reserve is Reserve and Unconditional Reserve. With one host there is nobody
// to take the volume from.
func (v *Volume) reserve(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	v.reserved = true
	return v.basicSense(cmd, x)
}

func (v *Volume) release(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if v.prog.has(extentDefined | maskSet | loaded) {
		return v.reject(badSequence)
	}
	v.reserved = false
	return v.basicSense(cmd, x)
}

// resetAllegiance tells whether the volume is reserved, and by whom.
func (v *Volume) resetAllegiance(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	b := v.buf[:32]
	clear(b)
	b[0], b[1] = 0x80, 0x20
	if v.reserved {
		b[0] |= 0x10
	}
	copy(b[5:], v.group[:])
	x.Store(b)
	return cio.Ended
}

// groupSize is the size of path group parameters: a byte of state or function,
// and the identifier.
const groupSize = 12

// sensePathGroup gives state and identifier of the path group. The state is
// that of a path reset: the one path there is needs no group.
func (v *Volume) sensePathGroup(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	b := v.buf[:groupSize]
	b[0] = 0
	if v.reserved {
		b[0] = 0x30
	}
	copy(b[1:], v.group[:])
	v.prog.state |= nothingMore
	x.Store(b)
	return cio.Ended
}

// setPathGroup establishes, disbands or resigns from the path group.
//
//	0  bit 0 multipath, 1-2 function, 3-7 zero
//	1  identifier
func (v *Volume) setPathGroup(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if params(x, v.buf[:groupSize]) < groupSize {
		return v.shortOf(x)
	}
	const functions, establish, invalid, zero = 0x60, 0x00, 0x60, 0x1F
	function := v.buf[0] & functions
	id := [11]byte(v.buf[1:groupSize])
	none := [11]byte{}
	if function == invalid || v.buf[0]&zero != 0 || id == none || v.group != none && v.group != id {
		return v.reject(badParameter)
	}
	v.group = id
	if function != establish {
		v.group = none
	}
	v.prog.state |= nothingMore
	return cio.Ended
}
