package intremap

import "fmt"

// Message is what a device writes to raise an interrupt: a 32-bit store of
// Data at Addr. It is untrusted: a guest may have chosen every bit of it.
type Message struct {
	Addr uint64
	Data uint32
}

func (m Message) String() string { return fmt.Sprintf("%#x at %#x", m.Data, m.Addr) }

// Format says how the bits of a message are to be read.
type Format uint8

const (
	// Outside: the address is not in 0xfee00000..0xfeefffff. Such a store
	// is no interrupt request at all.
	Outside Format = iota
	// Compatibility: the message itself names destination and vector.
	Compatibility
	// RemappableFormat: the message names an entry of the table.
	RemappableFormat
)

func (f Format) String() string {
	switch f {
	case Outside:
		return "outside"
	case Compatibility:
		return "compatibility"
	case RemappableFormat:
		return "remappable"
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

// Bits common to both formats of the address.
const (
	addrWindow   = 0xfee  // bits 31:20; bits 63:32 are 0
	addrFormat   = 1 << 4 // set: remappable
	addrLow      = 3      // bits 1:0, ignored
	addrBase     = 0xfee << 20
	addrWinShift = 20
)

// Format is total: every message has one.
func (m Message) Format() Format {
	switch {
	case m.Addr>>addrWinShift != addrWindow:
		return Outside
	case m.Addr&addrFormat == 0:
		return Compatibility
	}
	return RemappableFormat
}

// Remappable is a message in remappable format.
//
// Spec: VT-d, "Interrupt Requests in Remappable Format".
//
//	address 31:20  19:5          4  3    2           1:0
//	        0xfee  handle[14:0]  1  SHV  handle[15]  ignored
//	data    31:16                   15:0
//	        reserved if SHV         subhandle if SHV
//
// Without SHV the data are ignored.
type Remappable struct {
	Handle         uint16
	SubhandleValid bool // SHV
	Subhandle      uint16
	DataHigh       uint16 // data 31:16: reserved with SHV, else ignored
	Low            uint8  // address 1:0, ignored
}

// Remappable reads the message in remappable format, which it must have for
// the result to mean anything; reserved and ignored bits are kept.
func (m Message) Remappable() Remappable {
	return Remappable{
		Handle:         uint16(m.Addr>>5&0x7fff | m.Addr>>2&1<<15),
		SubhandleValid: m.Addr&(1<<3) != 0,
		Subhandle:      uint16(m.Data),
		DataHigh:       uint16(m.Data >> 16),
		Low:            uint8(m.Addr & addrLow),
	}
}

// Message is the inverse of [Message.Remappable].
func (r Remappable) Message() Message {
	a := uint64(addrBase | addrFormat)
	a |= uint64(r.Handle&0x7fff)<<5 | uint64(r.Handle>>15)<<2 | uint64(r.Low&addrLow)
	if r.SubhandleValid {
		a |= 1 << 3
	}
	return Message{Addr: a, Data: uint32(r.DataHigh)<<16 | uint32(r.Subhandle)}
}

// Index is the entry that the message names. It may lie outside any table: a
// handle and a subhandle of 16 bits each do not wrap.
func (r Remappable) Index() uint32 {
	if r.SubhandleValid {
		return uint32(r.Handle) + uint32(r.Subhandle)
	}
	return uint32(r.Handle)
}

// Compat is a message in compatibility format.
//
// Spec: Intel SDM volume 3, "Message Signalled Interrupts"; bits 11:5 of the
// address are reserved there and carry destination bits 14:8 for guests of
// hypervisors that say so (KVM_FEATURE_MSI_EXT_DEST_ID).
//
//	address 31:20  19:12      11:5        4  3   2   1:0
//	        0xfee  dest[7:0]  dest[14:8]  0  RH  DM  ignored
//	data    31:16  15       14     13:11  10:8           7:0
//	        rsvd   trigger  level  rsvd   delivery mode  vector
type Compat struct {
	Dest     uint16 // 15 bits
	Redirect bool   // RH: to one of several
	Logical  bool   // DM
	Vector   uint8
	Mode     DeliveryMode
	Assert   bool
	Level    bool   // trigger mode
	Reserved uint32 // of the data, in place
	Low      uint8  // address 1:0, ignored
}

const compatReserved = 0xffff3800

// Compat reads the message in compatibility format, which it must have for
// the result to mean anything; reserved and ignored bits are kept.
func (m Message) Compat() Compat {
	return Compat{
		Dest:     uint16(m.Addr>>12&0xff | m.Addr>>5&0x7f<<8),
		Redirect: m.Addr&(1<<3) != 0,
		Logical:  m.Addr&(1<<2) != 0,
		Vector:   uint8(m.Data),
		Mode:     DeliveryMode(m.Data >> 8 & 7),
		Assert:   m.Data&(1<<14) != 0,
		Level:    m.Data&(1<<15) != 0,
		Reserved: m.Data & compatReserved,
		Low:      uint8(m.Addr & addrLow),
	}
}

// Message is the inverse of [Message.Compat].
func (c Compat) Message() Message {
	a := uint64(addrBase)
	a |= uint64(c.Dest&0xff)<<12 | uint64(c.Dest>>8&0x7f)<<5 | uint64(c.Low&addrLow)
	a |= bit[uint64](c.Redirect, 3) | bit[uint64](c.Logical, 2)
	d := uint32(c.Vector) | uint32(c.Mode&7)<<8 | c.Reserved&compatReserved
	d |= bit[uint32](c.Assert, 14) | bit[uint32](c.Level, 15)
	return Message{Addr: a, Data: d}
}

// Interrupt is the interrupt that the message asks for.
func (c Compat) Interrupt() Interrupt {
	return Interrupt{
		Vector: c.Vector, Mode: c.Mode, Level: c.Level,
		Logical: c.Logical, Redirect: c.Redirect, Dest: uint32(c.Dest),
	}
}

func bit[T uint32 | uint64](set bool, at uint) T {
	if set {
		return 1 << at
	}
	return 0
}
