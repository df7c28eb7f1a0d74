package cio

import (
	"strconv"

	"github.com/softmdev/softmdev/translate/addr"
)

// Command is the command code of a CCW. Its low bits tell the class, and so
// the direction of the data; the others belong to the device.
//
// Specification: SA22-7832, "Command Code" (Basic I/O Functions).
//
//	bits 0-7    class
//	xxxx 0000   invalid
//	mmmm mm01   write
//	mmmm mm10   read
//	mmmm mm11   control
//	mmmm 0100   sense
//	mmmm 1100   read backward
//	0000 1000   transfer in channel, format 1
//	xxxx 1000   transfer in channel, format 0
type Command uint8

// Command codes that are the same for every device.
const (
	NOP        Command = 0x03 // control, no operation
	BasicSense Command = 0x04 // sense, takes the pending sense bytes
	TIC        Command = 0x08 // transfer in channel
	SenseID    Command = 0xE4 // sense, tells control unit and device type
)

// Class is what a command code means to the channel subsystem.
type Class uint8

// The classes. ClassInvalid is the zero value.
const (
	ClassInvalid      Class = iota
	ClassWrite              // memory to device
	ClassRead               // device to memory
	ClassControl            // memory to device, orders rather than data
	ClassSense              // device to memory, about the device
	ClassReadBackward       // device to memory, descending addresses
	ClassTIC                // no command to the device
)

// Class is the class of c in a program of format 1 or, with format1 false, of
// format 0, where any high digit goes with a transfer in channel.
func (c Command) Class(format1 bool) Class {
	switch c & 0x03 {
	case 1:
		return ClassWrite
	case 2:
		return ClassRead
	case 3:
		return ClassControl
	}
	switch c & 0x0F {
	case 0x04:
		return ClassSense
	case 0x0C:
		return ClassReadBackward
	case 0x08:
		if !format1 || c == TIC {
			return ClassTIC
		}
	}
	return ClassInvalid
}

// IsTIC reports whether c is a transfer in channel in its format.
func (c Command) IsTIC(format1 bool) bool { return c.Class(format1) == ClassTIC }

// Access is what c does to memory when it moves data: read, read backward and
// sense write it, write and control read it. Zero for the others.
func (c Command) Access() addr.Access { return c.Class(true).Access() }

// Access is what a command of class c does to memory when it moves data.
func (c Class) Access() addr.Access {
	switch c {
	case ClassWrite, ClassControl:
		return addr.Read
	case ClassRead, ClassSense, ClassReadBackward:
		return addr.Write
	}
	return 0
}

// Input reports whether data of class c goes into memory.
func (c Class) Input() bool { return c.Access() == addr.Write }

var classNames = [...]string{"invalid", "write", "read", "control", "sense", "read backward", "TIC"}

// String is the name of the class, in lower case but for TIC.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "class " + strconv.Itoa(int(c))
}

// String is the class and the code, or the name of a command that every device
// has: "read 0x06", "NOP", "TIC". The high digit of a format-0 TIC shows.
func (c Command) String() string {
	switch c {
	case NOP:
		return "NOP"
	case BasicSense:
		return "SENSE"
	case TIC:
		return "TIC"
	case SenseID:
		return "SENSE ID"
	}
	s := "0x" + strconv.FormatUint(uint64(c)+0x100, 16)[1:]
	return c.Class(false).String() + " " + s
}
