package cio

import (
	"encoding/binary"
	"fmt"
)

// SCSWFlags is the high halfword of word 0 of the SCSW, without key and
// deferred condition code. Most bits repeat those of the ORB.
//
//	IBM bit   0-3  4  5  6-7  8  9  10 11 12 13 14 15
//	          key  S  L  cc   F  P  I  A  U  Z  E  N
type SCSWFlags uint16

const (
	SCSWSuspend         SCSWFlags = 0x0800 // S: the ORB allowed suspension
	SCSWLogout          SCSWFlags = 0x0400 // L: the ESW holds a format-0 logout
	SCSWFormat1         SCSWFlags = 0x0080 // F: format-1 CCWs
	SCSWPrefetch        SCSWFlags = 0x0040 // P: prefetch was allowed
	SCSWInitialStatus   SCSWFlags = 0x0020 // I: initial-status interruption was asked for
	SCSWAddressLimit    SCSWFlags = 0x0010 // A: address-limit checking was asked for
	SCSWSuppressSuspend SCSWFlags = 0x0008 // U: no interruption on suspend
	SCSWZero            SCSWFlags = 0x0004 // Z: zero condition code, the device accepted the first command
	SCSWExtended        SCSWFlags = 0x0002 // E: the ECW holds something
	SCSWNotOperational  SCSWFlags = 0x0001 // N: a path was not operational

	scswKeyMask uint32 = 0xF000_0000
	scswCCMask  uint32 = 0x0300_0000
	scswFlags   uint32 = 0x0CFF_0000
)

var scswNames = bitNames{
	{0x0800, "S"}, {0x0400, "L"}, {0x0080, "F"}, {0x0040, "P"}, {0x0020, "I"},
	{0x0010, "A"}, {0x0008, "U"}, {0x0004, "Z"}, {0x0002, "E"}, {0x0001, "N"},
}

// String prints the flags as F|P, none as 0.
func (f SCSWFlags) String() string { return scswNames.text(uint64(f)) }

// Control is the low halfword of word 0 of the SCSW: what the subchannel was
// told to do, what it is doing, and what it has to report.
//
//	IBM bit   16  17-19     20-26     27-31
//	          0   function  activity  status
type Control uint16

const (
	StartFunction Control = 0x4000
	HaltFunction  Control = 0x2000
	ClearFunction Control = 0x1000

	ResumePending    Control = 0x0800
	StartPending     Control = 0x0400
	HaltPending      Control = 0x0200
	ClearPending     Control = 0x0100
	SubchannelActive Control = 0x0080
	DeviceActive     Control = 0x0040
	Suspended        Control = 0x0020

	AlertStatus        Control = 0x0010
	IntermediateStatus Control = 0x0008
	PrimaryStatus      Control = 0x0004
	SecondaryStatus    Control = 0x0002
	StatusPending      Control = 0x0001

	FunctionMask Control = 0x7000 // function control, FC
	ActivityMask Control = 0x0FE0 // activity control, AC
	StatusMask   Control = 0x001F // status control, SC
)

var controlNames = bitNames{
	{0x4000, "start"}, {0x2000, "halt"}, {0x1000, "clear"},
	{0x0800, "resume-pending"}, {0x0400, "start-pending"}, {0x0200, "halt-pending"}, {0x0100, "clear-pending"},
	{0x0080, "subchannel-active"}, {0x0040, "device-active"}, {0x0020, "suspended"},
	{0x0010, "alert"}, {0x0008, "intermediate"}, {0x0004, "primary"}, {0x0002, "secondary"}, {0x0001, "pending"},
}

// String prints the bits as start|primary|pending, none as 0.
func (c Control) String() string { return controlNames.text(uint64(c)) }

// SCSW is the subchannel-status word.
//
// Specification: SA22-7832, "Subchannel-Status Word" (I/O Interruptions).
//
//	word 0   | key, flags, deferred cc | function, activity, status control |
//	word 1   | CCW address                                                  |
//	word 2   | device status | subchannel status | count                    |
type SCSW [12]byte

func (s *SCSW) word0() uint32     { return binary.BigEndian.Uint32(s[:4]) }
func (s *SCSW) setWord0(v uint32) { binary.BigEndian.PutUint32(s[:4], v) }

// Key is the subchannel key, 0 to 15.
func (s *SCSW) Key() uint8 { return uint8(field(s.word0(), scswKeyMask)) }

// SetKey sets the subchannel key, of which 4 bits count.
func (s *SCSW) SetKey(k uint8) { s.setWord0(withField(s.word0(), scswKeyMask, uint32(k))) }

// DeferredCC is the deferred condition code.
func (s *SCSW) DeferredCC() CC { return CC(field(s.word0(), scswCCMask)) }

// SetDeferredCC sets the deferred condition code, 0 to 3.
func (s *SCSW) SetDeferredCC(c CC) { s.setWord0(withField(s.word0(), scswCCMask, uint32(c))) }

// Flags are the flags of the high halfword.
func (s *SCSW) Flags() SCSWFlags { return SCSWFlags(s.word0() & scswFlags >> 16) }

// SetFlags replaces all flags of the high halfword.
func (s *SCSW) SetFlags(f SCSWFlags) {
	s.setWord0(s.word0()&^scswFlags | uint32(f)<<16&scswFlags)
}

// Control is the low halfword: function, activity and status control.
func (s *SCSW) Control() Control { return Control(s.word0()) }

// SetControl replaces the low halfword.
func (s *SCSW) SetControl(c Control) { s.setWord0(s.word0()&^0xFFFF | uint32(c)) }

// FC is the function control.
func (s *SCSW) FC() Control { return s.Control() & FunctionMask }

// AC is the activity control.
func (s *SCSW) AC() Control { return s.Control() & ActivityMask }

// SC is the status control.
func (s *SCSW) SC() Control { return s.Control() & StatusMask }

// CCWAddr is the CCW address: usually 8 beyond the last CCW used.
func (s *SCSW) CCWAddr() uint32 { return binary.BigEndian.Uint32(s[4:8]) }

// SetCCWAddr sets the CCW address.
func (s *SCSW) SetCCWAddr(a uint32) { binary.BigEndian.PutUint32(s[4:8], a) }

// Device is the device status.
func (s *SCSW) Device() DeviceStatus { return DeviceStatus(s[8]) }

// SetDevice sets the device status.
func (s *SCSW) SetDevice(d DeviceStatus) { s[8] = uint8(d) }

// Subchannel is the subchannel status.
func (s *SCSW) Subchannel() SubchannelStatus { return SubchannelStatus(s[9]) }

// SetSubchannel sets the subchannel status.
func (s *SCSW) SetSubchannel(c SubchannelStatus) { s[9] = uint8(c) }

// Count is the residual count in bytes.
func (s *SCSW) Count() uint16 { return binary.BigEndian.Uint16(s[10:]) }

// SetCount sets the residual count.
func (s *SCSW) SetCount(n uint16) { binary.BigEndian.PutUint16(s[10:], n) }

// String prints every field on one line; the CCW address in hexadecimal.
func (s SCSW) String() string {
	return fmt.Sprintf("key %d flags %v %v control %v ccw %#x device %v subchannel %v count %d",
		s.Key(), s.Flags(), s.DeferredCC(), s.Control(), s.CCWAddr(), s.Device(), s.Subchannel(), s.Count())
}
