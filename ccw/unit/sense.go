package unit

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// unitCheck is how a command ends that left sense.
const unitCheck = cio.Ended | cio.UnitCheck

// sense holds the sense bytes of a unit check until a program or the channel
// takes them or the next check replaces them.
type sense struct {
	bytes cio.Sense
	size  int // bytes that the device has, set once
	held  bool
}

// check leaves byte 0 and ends the command.
func (s *sense) check(b0 cio.Sense0) cio.DeviceStatus {
	s.bytes = cio.Sense{}
	s.bytes.SetByte0(b0)
	s.held = true
	return unitCheck
}

// reject ends a command that the device does not know, or not here. The count
// passes by without data: in the recordings a rejected command leaves no
// residual count, and no incorrect length.
func (s *sense) reject(x *channel.Transfer) cio.DeviceStatus {
	x.Skip(x.Remaining())
	return s.check(cio.CommandReject)
}

// take is what channel.Device.Sense returns: nil when there is none.
func (s *sense) take() []byte {
	if !s.held {
		return nil
	}
	s.held = false
	return s.bytes[:s.size]
}

// basic is the command BASIC SENSE: the bytes, or zeros.
func (s *sense) basic(x *channel.Transfer) cio.DeviceStatus {
	if !s.held {
		s.bytes = cio.Sense{}
	}
	s.held = false
	x.Store(s.bytes[:s.size])
	return cio.Ended
}

// identity is the answer to SENSE ID of a device without more to tell:
//
//	byte 0   1  2    3     4  5    6
//	     FF  CU type CU    device  device
//	                 model type    model
type identity [7]byte

func makeIdentity(cu uint16, cuModel uint8, dev uint16, devModel uint8) identity {
	return identity{0xff, byte(cu >> 8), byte(cu), cuModel, byte(dev >> 8), byte(dev), devModel}
}

func (id *identity) store(x *channel.Transfer) cio.DeviceStatus {
	x.Store(id[:])
	return cio.Ended
}

// collect takes all that the program offers, in pieces, and hands each to
// use, until use says no or the channel ends the transfer. It reports whether
// all came and was used.
func collect(x *channel.Transfer, buf []byte, use func(p []byte) bool) bool {
	for {
		n := x.FetchUpTo(buf)
		if x.Terminated() {
			return false
		}
		if n > 0 && !use(buf[:n]) {
			return false
		}
		if n < len(buf) {
			return true
		}
	}
}
