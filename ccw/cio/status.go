package cio

import "strconv"

// DeviceStatus is the status a device presents, byte 8 of the SCSW.
//
// Specification: SA22-7832, "Device-Status Field" (I/O Interruptions).
type DeviceStatus uint8

const (
	Attention      DeviceStatus = 0x80 // asynchronous: the device wants service
	StatusModifier DeviceStatus = 0x40 // with device end: chaining skips one CCW
	ControlUnitEnd DeviceStatus = 0x20 // the control unit is free again
	Busy           DeviceStatus = 0x10 // the command was not executed
	ChannelEnd     DeviceStatus = 0x08 // the channel is not needed any more
	DeviceEnd      DeviceStatus = 0x04 // the device is done
	UnitCheck      DeviceStatus = 0x02 // sense tells why
	UnitException  DeviceStatus = 0x01 // something usual, as a tape mark
)

// Ended is channel end with device end: how an operation normally ends.
const Ended = ChannelEnd | DeviceEnd

var deviceNames = bitNames{
	{0x80, "ATTN"}, {0x40, "SM"}, {0x20, "CUE"}, {0x10, "BUSY"},
	{0x08, "CE"}, {0x04, "DE"}, {0x02, "UC"}, {0x01, "UX"},
}

// String prints the status as CE|DE, none as 0.
func (s DeviceStatus) String() string { return deviceNames.text(uint64(s)) }

// SubchannelStatus is what the channel subsystem found, byte 9 of the SCSW.
//
// Specification: SA22-7832, "Subchannel-Status Field" (I/O Interruptions).
type SubchannelStatus uint8

const (
	PCI             SubchannelStatus = 0x80 // a CCW with the PCI flag took control
	IncorrectLength SubchannelStatus = 0x40 // count and data of the device differ
	ProgramCheck    SubchannelStatus = 0x20 // the program is wrong
	ProtectionCheck SubchannelStatus = 0x10 // storage refused the access
	DataCheck       SubchannelStatus = 0x08 // channel-data check: storage failed
	ControlCheck    SubchannelStatus = 0x04 // channel-control check: the channel failed
	InterfaceCheck  SubchannelStatus = 0x02 // interface-control check: the path failed
	ChainingCheck   SubchannelStatus = 0x01 // data chaining came too late
)

var subchannelNames = bitNames{
	{0x80, "PCI"}, {0x40, "IL"}, {0x20, "PROG"}, {0x10, "PROT"},
	{0x08, "CDC"}, {0x04, "CCC"}, {0x02, "ICC"}, {0x01, "CHNG"},
}

// String prints the status as PCI|IL, none as 0.
func (s SubchannelStatus) String() string { return subchannelNames.text(uint64(s)) }

// CC is the condition code of an I/O instruction, or the deferred one.
type CC uint8

// The condition codes as most I/O instructions use them. TEST SUBCHANNEL and
// CANCEL SUBCHANNEL read 1 and 2 in their own way; the methods of the
// subchannel say how.
const (
	CC0 CC = iota // done
	CC1           // status pending
	CC2           // busy
	CC3           // not operational
)

// String prints the condition code as cc 0.
func (c CC) String() string { return "cc " + strconv.Itoa(int(c)) }
