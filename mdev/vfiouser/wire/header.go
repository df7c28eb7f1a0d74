package wire

import (
	"encoding/binary"
	"fmt"
)

var order = binary.NativeEndian

// HeaderLen is the length of a header in bytes, and the least size of a
// message.
const HeaderLen = 16

// Command is the kind of a message.
//
// Spec: vfio-user.rst, "Commands".
type Command uint16

// The commands. Those up to RegionWrite and from DeviceReset on go from client
// to server, DMARead and DMAWrite from server to client. 14 was DIRTY_PAGES
// and is free.
const (
	CmdVersion      Command = 1
	CmdDMAMap       Command = 2
	CmdDMAUnmap     Command = 3
	CmdDeviceInfo   Command = 4
	CmdRegionInfo   Command = 5
	CmdRegionIOFDs  Command = 6
	CmdIRQInfo      Command = 7
	CmdSetIRQs      Command = 8
	CmdRegionRead   Command = 9
	CmdRegionWrite  Command = 10
	CmdDMARead      Command = 11
	CmdDMAWrite     Command = 12
	CmdDeviceReset  Command = 13
	CmdWriteMulti   Command = 15
	CmdFeature      Command = 16
	CmdMigDataRead  Command = 17
	CmdMigDataWrite Command = 18
)

// MaxCommand is the highest command there is: tables indexed by command have
// MaxCommand+1 entries.
const MaxCommand = CmdMigDataWrite

var commandNames = [MaxCommand + 1]string{
	CmdVersion: "VERSION", CmdDMAMap: "DMA_MAP", CmdDMAUnmap: "DMA_UNMAP",
	CmdDeviceInfo: "DEVICE_GET_INFO", CmdRegionInfo: "DEVICE_GET_REGION_INFO",
	CmdRegionIOFDs: "DEVICE_GET_REGION_IO_FDS", CmdIRQInfo: "DEVICE_GET_IRQ_INFO",
	CmdSetIRQs: "DEVICE_SET_IRQS", CmdRegionRead: "REGION_READ", CmdRegionWrite: "REGION_WRITE",
	CmdDMARead: "DMA_READ", CmdDMAWrite: "DMA_WRITE", CmdDeviceReset: "DEVICE_RESET",
	CmdWriteMulti: "REGION_WRITE_MULTI", CmdFeature: "DEVICE_FEATURE",
	CmdMigDataRead: "MIG_DATA_READ", CmdMigDataWrite: "MIG_DATA_WRITE",
}

// Known reports whether the protocol has the command.
func (c Command) Known() bool { return c <= MaxCommand && commandNames[c] != "" }

// String is the name of the command in the specification.
func (c Command) String() string {
	if c.Known() {
		return commandNames[c]
	}
	return fmt.Sprintf("Command(%d)", uint16(c))
}

// Flags are the flags of a header.
//
// Spec: vfio-user.rst, "Header".
//
//	bit  31          6   5     4         3      0
//	     | reserved  |ERROR|NO_REPLY|   type    |
type Flags uint32

const (
	TypeMask    Flags = 0xf
	TypeCommand Flags = 0x0
	TypeReply   Flags = 0x1
	NoReply     Flags = 0x10 // the sender wants no reply, neither success nor error
	Error       Flags = 0x20 // in a reply: Header.Errno says why
)

// Type is the type of the message: TypeCommand, TypeReply, or one that the
// protocol does not have.
func (f Flags) Type() Flags { return f & TypeMask }

// String prints command, reply or type(n), and the other bits by name.
func (f Flags) String() string {
	var s string
	switch f.Type() {
	case TypeCommand:
		s = "command"
	case TypeReply:
		s = "reply"
	default:
		s = fmt.Sprintf("type(%d)", uint32(f.Type()))
	}
	if f &^= TypeMask; f != 0 {
		s += "|" + flagNames.text(uint64(f))
	}
	return s
}

var flagNames = bitNames{{uint64(NoReply), "NO_REPLY"}, {uint64(Error), "ERROR"}}

// Header begins every message.
//
// Spec: vfio-user.rst, "Header".
//
//	byte  0    2         4           8       12      16
//	      | ID | Command |   Size    | Flags | Errno |
type Header struct {
	ID      uint16 // chosen by the sender of the command, echoed in the reply
	Command Command
	Size    uint32 // of the whole message, the header included
	Flags   Flags
	Errno   uint32 // in a reply that has Error: Linux errno, positive
}

// DecodeHeader decodes a header.
func DecodeHeader(b *[HeaderLen]byte) Header {
	return Header{
		order.Uint16(b[0:]), Command(order.Uint16(b[2:])), order.Uint32(b[4:]),
		Flags(order.Uint32(b[8:])), order.Uint32(b[12:]),
	}
}

// Put encodes h.
func (h Header) Put(b *[HeaderLen]byte) {
	order.PutUint16(b[0:], h.ID)
	order.PutUint16(b[2:], uint16(h.Command))
	order.PutUint32(b[4:], h.Size)
	order.PutUint32(b[8:], uint32(h.Flags))
	order.PutUint32(b[12:], h.Errno)
}

// Append appends the encoding of h.
func (h Header) Append(b []byte) []byte {
	var x [HeaderLen]byte
	h.Put(&x)
	return append(b, x[:]...)
}

// String prints the header for logs.
func (h Header) String() string {
	s := fmt.Sprintf("%v id %d %v size %d", h.Command, h.ID, h.Flags, h.Size)
	if h.Errno != 0 || h.Flags&Error != 0 {
		s += fmt.Sprintf(" errno %d", h.Errno)
	}
	return s
}
