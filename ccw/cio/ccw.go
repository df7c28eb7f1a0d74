package cio

import (
	"encoding/binary"
	"fmt"
)

// CCWSize is the length and the alignment of a channel-command word in bytes.
const CCWSize = 8

// Reach of the words: the first address that a program of the format cannot
// name with a CCW address or a direct data address.
const (
	Limit0 = 1 << 24 // format 0: 16 MiB
	Limit1 = 1 << 31 // format 1: 2 GiB
)

// Flags are the flag bits of a CCW, the same values in both formats.
//
// Specification: SA22-7832, "Channel-Command Word".
//
//	IBM bit of format 1   8    9    10   11   12   13   14   15
//	                      CD   CC   SLI  SKP  PCI  IDA  S    MIDA
type Flags uint8

const (
	ChainData         Flags = 0x80 // CD: the next CCW goes on with the data of this one
	ChainCommand      Flags = 0x40 // CC: the next CCW is a command of its own; CD overrides it
	SuppressLength    Flags = 0x20 // SLI: no incorrect-length indication
	Skip              Flags = 0x10 // SKP: input counts but is not stored
	ProgramControlled Flags = 0x08 // PCI: interrupt when the CCW takes control
	Indirect          Flags = 0x04 // IDA: the address is that of a list of IDAWs
	Suspend           Flags = 0x02 // S: suspend before this CCW
	Modified          Flags = 0x01 // MIDA: the address is that of a list of MIDAWs
)

var flagNames = bitNames{
	{0x80, "CD"}, {0x40, "CC"}, {0x20, "SLI"}, {0x10, "SKP"},
	{0x08, "PCI"}, {0x04, "IDA"}, {0x02, "S"}, {0x01, "MIDA"},
}

// String prints the flags as CD|SLI, none as 0.
func (f Flags) String() string { return flagNames.text(uint64(f)) }

// CCW is a channel-command word of either format.
//
// Specification: SA22-7832, "Channel-Command Word".
//
//	format 0   | cmd | data address     | flags | xxx | count       |
//	byte         0     1    2    3        4       5     6    7
//
//	format 1   | cmd | flags | count    |0| data address            |
//	byte         0     1       2    3    4    5    6    7
type CCW struct {
	Command Command
	Flags   Flags
	Count   uint16 // bytes
	// Addr is the data address, the address of a list, or the target of a
	// transfer. Format 0 has 24 bits of it. Format 1 has 31; the top bit must
	// be zero in a valid program, and is kept when it is not.
	Addr uint32
	// Ignored is byte 5 of format 0, which has no meaning. It is kept so that
	// encoding gives back what was decoded. Zero in format 1.
	Ignored uint8
}

// DecodeCCW0 reads a format-0 CCW. Every pattern decodes.
func DecodeCCW0(b *[CCWSize]byte) CCW {
	return CCW{
		Command: Command(b[0]),
		Addr:    binary.BigEndian.Uint32(b[:4]) & (Limit0 - 1),
		Flags:   Flags(b[4]),
		Ignored: b[5],
		Count:   binary.BigEndian.Uint16(b[6:]),
	}
}

// DecodeCCW1 reads a format-1 CCW. Every pattern decodes.
func DecodeCCW1(b *[CCWSize]byte) CCW {
	return CCW{
		Command: Command(b[0]),
		Flags:   Flags(b[1]),
		Count:   binary.BigEndian.Uint16(b[2:]),
		Addr:    binary.BigEndian.Uint32(b[4:]),
	}
}

// DecodeCCW reads a CCW of format 1 or, with format1 false, of format 0.
func DecodeCCW(b *[CCWSize]byte, format1 bool) CCW {
	if format1 {
		return DecodeCCW1(b)
	}
	return DecodeCCW0(b)
}

// Encode0 is c in format 0. Bits of Addr beyond 24 do not fit and are lost.
func (c CCW) Encode0() (b [CCWSize]byte) {
	binary.BigEndian.PutUint32(b[:], c.Addr)
	b[0] = uint8(c.Command)
	b[4] = uint8(c.Flags)
	b[5] = c.Ignored
	binary.BigEndian.PutUint16(b[6:], c.Count)
	return b
}

// Encode1 is c in format 1. Ignored does not fit and is lost.
func (c CCW) Encode1() (b [CCWSize]byte) {
	b[0] = uint8(c.Command)
	b[1] = uint8(c.Flags)
	binary.BigEndian.PutUint16(b[2:], c.Count)
	binary.BigEndian.PutUint32(b[4:], c.Addr)
	return b
}

// Encode is c in format 1 or, with format1 false, in format 0.
func (c CCW) Encode(format1 bool) [CCWSize]byte {
	if format1 {
		return c.Encode1()
	}
	return c.Encode0()
}

// Chains reports whether another CCW follows c, by data or command chaining.
func (c CCW) Chains() bool { return c.Flags&(ChainData|ChainCommand) != 0 }

// String prints command, flags, count and address on one line. Both formats
// read alike.
func (c CCW) String() string {
	return fmt.Sprintf("%v %v count %d addr %#x", c.Command, c.Flags, c.Count, c.Addr)
}
