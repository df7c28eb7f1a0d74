package cio

import (
	"encoding/binary"
	"fmt"
)

// Sizes and blocks of indirect addressing, in bytes. A list begins on a
// multiple of its word size.
const (
	IDAW1Size = 4
	IDAW2Size = 8
	MIDAWSize = 16

	Block2K = 2048 // every format-1 IDAW; format 2 with the ORB's T bit
	Block4K = 4096 // format 2
)

// IDAW1 is a format-1 indirect-data-address word: a 31-bit address. The top
// bit must be zero in a valid one.
//
// Specification: SA22-7832, "Indirect-Data-Address Word".
type IDAW1 uint32

// DecodeIDAW1 reads a format-1 IDAW.
func DecodeIDAW1(b *[IDAW1Size]byte) IDAW1 { return IDAW1(binary.BigEndian.Uint32(b[:])) }

// Encode is the word as it stands in storage.
func (w IDAW1) Encode() (b [IDAW1Size]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(w))
	return b
}

// Reserved reports whether bit 0, which must be zero, is one.
func (w IDAW1) Reserved() bool { return w&Limit1 != 0 }

// String prints the word in hexadecimal.
func (w IDAW1) String() string { return fmt.Sprintf("%#x", uint32(w)) }

// IDAW2 is a format-2 indirect-data-address word: a 64-bit address.
//
// Specification: SA22-7832, "Indirect-Data-Address Word".
type IDAW2 uint64

// DecodeIDAW2 reads a format-2 IDAW.
func DecodeIDAW2(b *[IDAW2Size]byte) IDAW2 { return IDAW2(binary.BigEndian.Uint64(b[:])) }

// Encode is the word as it stands in storage.
func (w IDAW2) Encode() (b [IDAW2Size]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(w))
	return b
}

// String prints the word in hexadecimal.
func (w IDAW2) String() string { return fmt.Sprintf("%#x", uint64(w)) }

// IDAWs is the number of words that count bytes from first need, with blocks
// of block bytes (a power of two): the first word reaches to the end of its
// block, every other covers one. No byte needs no word.
//
// 65,535 bytes need at most 33 words of 2 KiB or 17 of 4 KiB.
func IDAWs(first uint64, count uint16, block uint32) int {
	if count == 0 {
		return 0
	}
	in := uint32(first) & (block - 1)
	return int((in + uint32(count) + block - 1) / block)
}

// IDAWsBackward is IDAWs for a read backward, whose first word names the last
// byte of the data and reaches down to the start of its block.
func IDAWsBackward(first uint64, count uint16, block uint32) int {
	return IDAWs(^first, count, block)
}

// MIDAWFlags is byte 5 of a modified IDAW.
//
//	IBM bit of the word   40    41    42   43-47
//	                      last  skip  DTI  zero
type MIDAWFlags uint8

const (
	MIDAWLast      MIDAWFlags = 0x80 // the last word of its list
	MIDAWSkip      MIDAWFlags = 0x40 // input counts but is not stored
	MIDAWInterrupt MIDAWFlags = 0x20 // data-transfer interruption, a feature of some models

	midawReserved MIDAWFlags = 0x1F
)

var midawNames = bitNames{{0x80, "LAST"}, {0x40, "SKIP"}, {0x20, "DTI"}}

// String prints the flags as LAST|SKIP, none as 0.
func (f MIDAWFlags) String() string { return midawNames.text(uint64(f)) }

// MIDAW is a modified indirect-data-address word: count bytes at any 64-bit
// address.
//
// Specification: SA22-7832, "Modified-CCW-Indirect-Data-Addressing Facility".
//
//	| zero           | flags | count   | data address              |
//	  0  1  2  3  4    5       6    7    8                     15
type MIDAW struct {
	Zero  [5]uint8 // must be zero; kept
	Flags MIDAWFlags
	Count uint16 // bytes
	Addr  uint64
}

// DecodeMIDAW reads a modified IDAW. Every pattern decodes.
func DecodeMIDAW(b *[MIDAWSize]byte) MIDAW {
	return MIDAW{
		Zero:  [5]uint8(b[:5]),
		Flags: MIDAWFlags(b[5]),
		Count: binary.BigEndian.Uint16(b[6:]),
		Addr:  binary.BigEndian.Uint64(b[8:]),
	}
}

// Encode is the word as it stands in storage.
func (w MIDAW) Encode() (b [MIDAWSize]byte) {
	copy(b[:], w.Zero[:])
	b[5] = uint8(w.Flags)
	binary.BigEndian.PutUint16(b[6:], w.Count)
	binary.BigEndian.PutUint64(b[8:], w.Addr)
	return b
}

// Reserved reports whether a bit that must be zero is one. The
// data-transfer-interruption flag is not among them.
func (w MIDAW) Reserved() bool { return w.Zero != [5]uint8{} || w.Flags&midawReserved != 0 }

// String prints address, count and flags.
func (w MIDAW) String() string {
	return fmt.Sprintf("%#x count %d %v", w.Addr, w.Count, w.Flags)
}
