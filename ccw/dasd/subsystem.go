package dasd

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The orders of Perform Subsystem Function, and how many bytes each needs.
// Others, of the cache and of copy services, are unknown here once they are
// complete; for most two bytes are enough to see that.
//
// Specification: GA32-0274, "Perform Subsystem Function"; the Linux header
// dasd_eckd.h for the suborders.
const (
	orderPrepareRead     = 0x18 // prepare for Read Subsystem Data
	orderSetIntercept    = 0x1B
	orderCharacteristics = 0x1D // set subsystem characteristics
	orderInterface       = 0xB0 // set interface identifier

	subPathStatus = 0x00
	subStatistics = 0x01
	subMessage    = 0x03
	subUnits      = 0x0E // unit address configuration
	subHostAccess = 0x1C
	subFeatures   = 0x41

	maxOrder = 66
)

func orderSize(order uint8) int {
	switch order {
	case orderPrepareRead:
		return OrderSize
	case orderCharacteristics:
		return maxOrder
	case orderInterface, 0x13, 0x14, 0x16:
		return 4
	case 0x10:
		return 14
	case 0x11:
		return 12
	case 0x12:
		return 5
	}
	return 2
}

// subsystemFunction is Perform Subsystem Function, and Define Subsystem
// Operation, which takes the same orders but only at the start or after
// subsystem data.
func (v *Volume) subsystemFunction(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	const define, read = 0xF7, 0x3E
	if cmd == define && p.commands > 0 && p.prev != define && p.prev != read &&
		(p.prev != suspendReconnection || p.commands > 1) {
		return v.reject(badSequence)
	}
	n := params(x, v.buf[:2])
	if n == 2 {
		n += x.FetchUpTo(v.buf[2:orderSize(v.buf[0])])
	}
	if x.Terminated() {
		return cio.Ended
	}
	return v.order(cmd, x, v.buf[:n])
}

// order does the order b, of which nothing is checked yet.
func (v *Volume) order(_ cio.Command, x *channel.Transfer, b []byte) cio.DeviceStatus {
	p := &v.prog
	if len(b) < 2 || len(b) < orderSize(b[0]) {
		return v.reject(badCount)
	}
	if p.has(answered) && b[0] != orderPrepareRead {
		return v.reject(badSequence)
	}
	p.state &^= answered
	switch flags := b[1]; b[0] {
	case orderPrepareRead:
		o := DecodeOrder((*[OrderSize]byte)(b))
		return v.prepareRead(&o)
	case orderSetIntercept:
		if p.commands > 1 || p.commands == 1 && p.prev != suspendReconnection || x.Chains() {
			return v.reject(badSequence)
		}
		if flags != 0 {
			return v.reject(badParameter)
		}
	case orderCharacteristics:
		if flags != 0 {
			return v.reject(badParameter)
		}
	case orderInterface:
		if flags&0xFE != 0 {
			return v.reject(badParameter)
		}
		v.prepareNode(flags&1 != 0)
	default:
		return v.reject(badParameter)
	}
	return cio.Ended
}

// prepareRead prepares the answer to Read Subsystem Data.
func (v *Volume) prepareRead(o *Order) cio.DeviceStatus {
	bad := o.Flags != 0
	switch o.Suborder {
	case subStatistics:
		bad = bad || o.Modifier != 0 && o.Modifier != 0xFF || o.Param&0x00FFFFFF != 0 || o.Param>>24 > 1
	case subMessage, 0x05:
		bad = bad || o.Modifier != 0
	default:
		bad = bad || o.Modifier != 0 || o.Param != 0
	}
	if o.Suborder == subHostAccess {
		bad = bad || o.Device>>16 != 0
	} else {
		bad = bad || o.Device != 0
	}
	if bad {
		return v.reject(badParameter)
	}
	switch o.Suborder {
	case subPathStatus:
		b := v.answerOf(16)
		b[0] = 0xC0 // path valid and attached
		b[1] = 0x80 // the one logical path
	case subStatistics:
		size := 96
		if o.Param>>24 != 0 {
			size = 192
		}
		b := v.answerOf(size)
		b[1] = v.identity.unit
		binary.BigEndian.PutUint16(b[94:], v.identity.ssid)
	case subMessage:
		b := v.answerOf(9)
		b[1] = 9 // there is no message
		binary.BigEndian.PutUint32(b[4:], o.Param)
	case subUnits:
		v.answerOf(512) // no other unit: all entries zero
	case subHostAccess:
		b := v.answerOf(16 + 4 + 32)
		b[17], b[19] = 32, 1 // one entry of 32 bytes
	case subFeatures:
		copy(v.answerOf(len(v.cfg.Features)), v.cfg.Features[:])
	default:
		return v.reject(badParameter)
	}
	return cio.Ended
}

// answerOf is a cleared answer of n bytes, to be read next.
func (v *Volume) answerOf(n int) []byte {
	p := &v.prog
	p.answer = p.answerBuf[:n]
	clear(p.answer)
	return p.answer
}

// prepareNode prepares the descriptors of the subsystem's node.
func (v *Volume) prepareNode(short bool) {
	b := v.answerOf(96)
	binary.BigEndian.PutUint32(b, 0x00000100)
	toEBCDIC(b[4:30], fmt.Sprintf("00%04X   HRCZZ000000000001", cuType))
	for i, w := range []uint32{0x41010000, 0x41010001, 0x41010010, 0x41010011} {
		binary.BigEndian.PutUint32(b[40+4*i:], w)
	}
	if short {
		v.prog.answer = b[:32]
	}
}

// readSubsystemData gives what an order prepared.
func (v *Volume) readSubsystemData(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if p.answer == nil {
		return v.reject(badSequence)
	}
	x.Store(p.answer)
	p.answer = nil
	p.state |= answered
	return cio.Ended
}

// readMessage gives the identifier of a message that never comes.
func (v *Volume) readMessage(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	const order, mode = 0x27, 0x87
	if p.commands > 0 && p.prev != order && p.prev != mode {
		return v.reject(badSequence)
	}
	p.state = p.state&^messageWaits | nothingMore
	copy(v.buf[:4], "\xFF\xFF\xFF\xFF")
	x.Store(v.buf[:4])
	return cio.Ended
}

// subsystemStatus gives the status of the subsystem.
func (v *Volume) subsystemStatus(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if !v.afterAsking() {
		return v.reject(badSequence)
	}
	x.Store(v.identity.subsystem[:])
	return cio.Ended
}

// afterAsking reports whether nothing but questions about the device came
// before.
func (v *Volume) afterAsking() bool {
	p := &v.prog
	const characteristics, configuration = 0x64, 0xFA
	switch p.prev {
	case characteristics, configuration:
		return true
	case suspendReconnection:
		return p.commands == 1
	}
	return p.commands == 0
}

// readLog gives the log of errors, of which there are none.
func (v *Volume) readLog(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if !v.afterAsking() {
		return v.reject(badSequence)
	}
	clear(v.buf[:32])
	x.Store(v.buf[:32])
	return cio.Ended
}

// setSubsystemMode turns parts of the cache on and off. There is none; the
// parameters are checked and forgotten.
//
//	0  bits 0-2 cache, 3-5 cache fast write, 6 zero, 7 message wanted
//	1  bits 0-2 fast write, 3-4 record cache, 5-7 zero
func (v *Volume) setSubsystemMode(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if params(x, v.buf[:2]) < 2 {
		return v.shortOf(x)
	}
	a, b := v.buf[0], v.buf[1]
	orders, slow := 0, false
	for _, field := range []struct{ value, slow uint8 }{
		// slow: a set of the values that take time, and may send a message
		{a >> 5, 1<<2 | 1<<3 | 1<<4},
		{a >> 2 & 7, 1 << 4},
		{b >> 5, 1<<2 | 1<<4 | 1<<5},
		{b >> 3 & 3, 0},
	} {
		if field.value != 0 {
			orders++
			slow = slow || field.slow>>field.value&1 != 0
		}
	}
	message := a&0x01 != 0
	if a&0x02 != 0 || b&0x07 != 0 || orders > 1 || message && !slow {
		return v.reject(badParameter)
	}
	if message {
		v.prog.state |= messageWaits
	} else {
		v.prog.state |= nothingMore
	}
	return cio.Ended
}

// diagnose is Diagnostic Control, of which there is the one function that asks
// for nothing.
func (v *Volume) diagnose(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	const query = 0x12
	if params(x, v.buf[:4]) < 4 {
		return v.shortOf(x)
	}
	switch b := v.buf[:4]; {
	case b[0] != query || b[2] != 0 || b[3] != 0:
		return v.reject(badParameter)
	case v.prog.mask&MaskAuthorization == 0:
		return v.reject(badMask)
	}
	return cio.Ended
}

// resetSummary acknowledges a summary unit check. There never is one.
func (v *Volume) resetSummary(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	params(x, v.buf[:16])
	return cio.Ended
}
