package cio

import (
	"encoding/binary"
	"fmt"
)

// CRW is a channel-report word, by which a machine tells that a subchannel or
// a path changed. Reading none gives zero.
//
// Specification: SA22-7832, "Channel-Report Word" (I/O Support Functions).
//
//	IBM bit   0  1  2  3  4-7  8  9  10-15  16-31
//	          0  S  R  C  RSC  A  0  ERC    reporting-source ID
type CRW uint32

const (
	CRWSolicited CRW = 0x4000_0000 // S: answers something the program did
	CRWOverflow  CRW = 0x2000_0000 // R: words before this one were lost
	CRWChained   CRW = 0x1000_0000 // C: another word belongs to this one
	CRWAncillary CRW = 0x0080_0000 // A: ancillary report

	crwRSC uint32 = 0x0F00_0000
	crwERC uint32 = 0x003F_0000
)

// Reporting sources, RSC.
const (
	SourceSubchannel  uint8 = 3
	SourceChannelPath uint8 = 4
	SourceCSS         uint8 = 11
)

// Error-recovery codes, ERC.
const (
	RecoveryAvailable          uint8 = 1 // available
	RecoveryInitialized        uint8 = 2 // installed, parameters initialised
	RecoveryTerminal           uint8 = 3 // temporary error
	RecoveryInstalledParameter uint8 = 4 // installed parameters initialised
	RecoveryPermanent          uint8 = 6 // permanent error, not initialised
)

var crwNames = bitNames{
	{0x4000_0000, "S"}, {0x2000_0000, "R"}, {0x1000_0000, "C"}, {0x0080_0000, "A"},
}

// MakeCRW is the word of a source, a recovery code (6 bits) and a source ID.
func MakeCRW(flags CRW, rsc, erc uint8, id uint16) CRW {
	w := uint32(flags) &^ (crwRSC | crwERC | 0xFFFF)
	return CRW(withField(withField(w, crwRSC, uint32(rsc)), crwERC, uint32(erc)) | uint32(id))
}

// DecodeCRW reads a channel-report word.
func DecodeCRW(b *[4]byte) CRW { return CRW(binary.BigEndian.Uint32(b[:])) }

// Encode is the word as it stands in storage.
func (w CRW) Encode() (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(w))
	return b
}

// Source is the reporting-source code.
func (w CRW) Source() uint8 { return uint8(field(uint32(w), crwRSC)) }

// Recovery is the error-recovery code.
func (w CRW) Recovery() uint8 { return uint8(field(uint32(w), crwERC)) }

// ID is the reporting-source ID: the subchannel number or the channel path.
func (w CRW) ID() uint16 { return uint16(w) }

// String prints flags, source, recovery code and ID.
func (w CRW) String() string {
	flags := uint64(uint32(w) &^ (crwRSC | crwERC | 0xFFFF))
	return fmt.Sprintf("flags %s source %d recovery %d id %#04x", crwNames.text(flags), w.Source(), w.Recovery(), w.ID())
}
