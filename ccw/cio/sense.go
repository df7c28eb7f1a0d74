package cio

import "fmt"

// Sense0 is sense byte 0, whose bits mean the same for every device.
//
// Specification: SA22-7204, ESA/390 Common I/O-Device Commands, "Sense".
type Sense0 uint8

const (
	CommandReject        Sense0 = 0x80 // the device cannot do this command
	InterventionRequired Sense0 = 0x40 // somebody must go there
	BusOutCheck          Sense0 = 0x20 // parity error from the channel
	EquipmentCheck       Sense0 = 0x10 // the device is broken
	DataCheck0           Sense0 = 0x08 // the medium's data are wrong
	Overrun              Sense0 = 0x04 // the channel was late
	SenseBit6            Sense0 = 0x02 // belongs to the device type
	SenseBit7            Sense0 = 0x01 // belongs to the device type
)

var sense0Names = bitNames{
	{0x80, "REJECT"}, {0x40, "INTERVENTION"}, {0x20, "BUSOUT"}, {0x10, "EQUIPMENT"},
	{0x08, "DATA"}, {0x04, "OVERRUN"},
}

// String prints the bits by name, none as 0.
func (s Sense0) String() string { return sense0Names.text(uint64(s)) }

// Sense1 is sense byte 1 of a direct-access storage device.
//
// Specification: GA32-0274, IBM 3990 Storage Control Reference, "Sense Bytes".
type Sense1 uint8

const (
	PermanentError     Sense1 = 0x80 // trying again is no use
	InvalidTrackFormat Sense1 = 0x40 // the data do not fit the track
	EndOfCylinder      Sense1 = 0x20 // a multitrack operation ran off
	OperatorMessage    Sense1 = 0x10 // message to the operator
	NoRecordFound      Sense1 = 0x08 // the search found nothing
	FileProtected      Sense1 = 0x04 // outside the extent or against its mask
	WriteInhibited     Sense1 = 0x02 // the volume is read-only
	Imprecise          Sense1 = 0x01 // imprecise ending
)

var sense1Names = bitNames{
	{0x80, "PERMANENT"}, {0x40, "FORMAT"}, {0x20, "ENDCYL"}, {0x10, "OPERATOR"},
	{0x08, "NOTFOUND"}, {0x04, "PROTECTED"}, {0x02, "INHIBITED"}, {0x01, "IMPRECISE"},
}

// String prints the bits by name, none as 0.
func (s Sense1) String() string { return sense1Names.text(uint64(s)) }

// SenseSize is the number of sense bytes of a modern device, and what fits the
// ECW.
const SenseSize = 32

// Sense are the sense bytes of a device.
type Sense [SenseSize]byte

// Byte0 is byte 0, for every device.
func (s *Sense) Byte0() Sense0 { return Sense0(s[0]) }

// SetByte0 sets byte 0.
func (s *Sense) SetByte0(b Sense0) { s[0] = uint8(b) }

// Byte1 is byte 1, for a direct-access storage device.
func (s *Sense) Byte1() Sense1 { return Sense1(s[1]) }

// SetByte1 sets byte 1.
func (s *Sense) SetByte1(b Sense1) { s[1] = uint8(b) }

// Format is the format of bytes 8 to 23, byte 7 bits 0-3, for a direct-access
// storage device.
func (s *Sense) Format() uint8 { return s[7] >> 4 }

// Message is the message code, byte 7 bits 4-7, for a direct-access storage
// device.
func (s *Sense) Message() uint8 { return s[7] & 0x0F }

// SetFormatMessage sets byte 7, of each of whose parts 4 bits count.
func (s *Sense) SetFormatMessage(format, message uint8) { s[7] = format<<4 | message&0x0F }

// Compatible24 reports byte 27 bit 0: the first 24 bytes are those of a device
// that has no more.
func (s *Sense) Compatible24() bool { return s[27]&0x80 != 0 }

// SetCompatible24 sets byte 27 bit 0.
func (s *Sense) SetCompatible24(on bool) { s[27] = uint8(withBit(uint32(s[27]), 0x80, on)) }

// String prints bytes 0 and 1 by name and all bytes in hexadecimal.
func (s Sense) String() string { return fmt.Sprintf("%v %v %x", s.Byte0(), s.Byte1(), s[:]) }
