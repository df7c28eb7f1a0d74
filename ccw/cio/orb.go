package cio

import (
	"encoding/binary"
	"fmt"
)

// ORBFlags is word 1 of the ORB without key and logical-path mask.
//
//	IBM bit   0-3  4 5 6 7 8 9 10 11 12 13 14 15  16-23  24 25 26-30 31
//	          key  S C M Y F P I  A  U  B  H  T   LPM    L  D  zero  X
type ORBFlags uint32

const (
	ORBSuspend         ORBFlags = 0x0800_0000 // S: the program may suspend itself
	ORBStreaming       ORBFlags = 0x0400_0000 // C: streaming-mode control
	ORBModification    ORBFlags = 0x0200_0000 // M: modification control
	ORBSync            ORBFlags = 0x0100_0000 // Y: synchronisation control
	ORBFormat1         ORBFlags = 0x0080_0000 // F: format-1 CCWs
	ORBPrefetch        ORBFlags = 0x0040_0000 // P: CCWs, IDAWs and output may be fetched ahead
	ORBInitialStatus   ORBFlags = 0x0020_0000 // I: interrupt when the device accepted the first command
	ORBAddressLimit    ORBFlags = 0x0010_0000 // A: check data addresses against the limit
	ORBSuppressSuspend ORBFlags = 0x0008_0000 // U: no interruption on suspend
	ORBTransport       ORBFlags = 0x0004_0000 // B: the program address is that of a TCW
	ORBIDAW2           ORBFlags = 0x0002_0000 // H: format-2 IDAWs
	ORBBlock2K         ORBFlags = 0x0001_0000 // T: 2 KiB blocks for format-2 IDAWs; ignored without H
	ORBSuppressIL      ORBFlags = 0x0000_0080 // L: no incorrect length for immediate operations
	ORBMIDAW           ORBFlags = 0x0000_0040 // D: the program may use MIDAWs
	ORBExtended        ORBFlags = 0x0000_0001 // X: the ORB has 32 bytes

	orbKeyMask  uint32 = 0xF000_0000
	orbLPMMask  uint32 = 0x0000_FF00
	orbReserved uint32 = 0x0000_003E
	orbFlags    uint32 = ^(orbKeyMask | orbLPMMask)
)

var orbNames = bitNames{
	{0x0800_0000, "S"}, {0x0400_0000, "C"}, {0x0200_0000, "M"}, {0x0100_0000, "Y"},
	{0x0080_0000, "F"}, {0x0040_0000, "P"}, {0x0020_0000, "I"}, {0x0010_0000, "A"},
	{0x0008_0000, "U"}, {0x0004_0000, "B"}, {0x0002_0000, "H"}, {0x0001_0000, "T"},
	{0x0000_0080, "L"}, {0x0000_0040, "D"}, {0x0000_0001, "X"},
}

// String prints the flags as F|P|H, none as 0.
func (f ORBFlags) String() string { return orbNames.text(uint64(f)) }

// Lengths of an ORB in bytes, without and with the extension.
const (
	ORBSize         = 12
	ORBExtendedSize = 32
)

// ORB is the operation-request block, the operand of START SUBCHANNEL. It
// always has room for the extension; without the X bit what follows byte 12
// means nothing.
//
// Specification: SA22-7832, "Operation-Request Block" (I/O Instructions).
//
//	word 0    | interruption parameter                        |
//	word 1    | key, flags          | LPM      | flags        |
//	word 2    |0| channel-program address                     |
//	word 3    | CSS priority | zero | CU priority | zero      |
//	word 4-7  | zero                                          |
type ORB struct{ Raw [ORBExtendedSize]byte }

func (o *ORB) word1() uint32     { return binary.BigEndian.Uint32(o.Raw[4:]) }
func (o *ORB) setWord1(v uint32) { binary.BigEndian.PutUint32(o.Raw[4:], v) }

func (o *ORB) has(f ORBFlags) bool     { return o.word1()&uint32(f) != 0 }
func (o *ORB) set(f ORBFlags, on bool) { o.setWord1(withBit(o.word1(), uint32(f), on)) }

// Flags are all single bits of word 1, unknown ones included.
func (o *ORB) Flags() ORBFlags { return ORBFlags(o.word1() & orbFlags) }

// SetFlags replaces all single bits of word 1.
func (o *ORB) SetFlags(f ORBFlags) { o.setWord1(o.word1()&^orbFlags | uint32(f)&orbFlags) }

// Param is the interruption parameter, given back with the interruption.
func (o *ORB) Param() uint32 { return binary.BigEndian.Uint32(o.Raw[0:]) }

// SetParam sets the interruption parameter.
func (o *ORB) SetParam(v uint32) { binary.BigEndian.PutUint32(o.Raw[0:], v) }

// Key is the subchannel key, 0 to 15.
func (o *ORB) Key() uint8 { return uint8(field(o.word1(), orbKeyMask)) }

// SetKey sets the subchannel key, of which 4 bits count.
func (o *ORB) SetKey(k uint8) { o.setWord1(withField(o.word1(), orbKeyMask, uint32(k))) }

// LPM is the logical-path mask: the paths the program may use.
func (o *ORB) LPM() uint8 { return uint8(field(o.word1(), orbLPMMask)) }

// SetLPM sets the logical-path mask.
func (o *ORB) SetLPM(m uint8) { o.setWord1(withField(o.word1(), orbLPMMask, uint32(m))) }

// Program is the address of the first CCW, with bit 0 kept.
func (o *ORB) Program() uint32 { return binary.BigEndian.Uint32(o.Raw[8:]) }

// SetProgram sets the address of the first CCW.
func (o *ORB) SetProgram(a uint32) { binary.BigEndian.PutUint32(o.Raw[8:], a) }

// Suspend reports S: a CCW's suspend flag is honoured.
func (o *ORB) Suspend() bool { return o.has(ORBSuspend) }

// SetSuspend sets S.
func (o *ORB) SetSuspend(on bool) { o.set(ORBSuspend, on) }

// Streaming reports C.
func (o *ORB) Streaming() bool { return o.has(ORBStreaming) }

// SetStreaming sets C.
func (o *ORB) SetStreaming(on bool) { o.set(ORBStreaming, on) }

// Modification reports M.
func (o *ORB) Modification() bool { return o.has(ORBModification) }

// SetModification sets M.
func (o *ORB) SetModification(on bool) { o.set(ORBModification, on) }

// Sync reports Y.
func (o *ORB) Sync() bool { return o.has(ORBSync) }

// SetSync sets Y.
func (o *ORB) SetSync(on bool) { o.set(ORBSync, on) }

// Format1 reports F: the CCWs are of format 1.
func (o *ORB) Format1() bool { return o.has(ORBFormat1) }

// SetFormat1 sets F.
func (o *ORB) SetFormat1(on bool) { o.set(ORBFormat1, on) }

// Prefetch reports P: the program does not change itself, so CCWs, IDAWs and
// output data may be fetched ahead.
func (o *ORB) Prefetch() bool { return o.has(ORBPrefetch) }

// SetPrefetch sets P.
func (o *ORB) SetPrefetch(on bool) { o.set(ORBPrefetch, on) }

// InitialStatus reports I.
func (o *ORB) InitialStatus() bool { return o.has(ORBInitialStatus) }

// SetInitialStatus sets I.
func (o *ORB) SetInitialStatus(on bool) { o.set(ORBInitialStatus, on) }

// AddressLimit reports A.
func (o *ORB) AddressLimit() bool { return o.has(ORBAddressLimit) }

// SetAddressLimit sets A.
func (o *ORB) SetAddressLimit(on bool) { o.set(ORBAddressLimit, on) }

// SuppressSuspend reports U.
func (o *ORB) SuppressSuspend() bool { return o.has(ORBSuppressSuspend) }

// SetSuppressSuspend sets U.
func (o *ORB) SetSuppressSuspend(on bool) { o.set(ORBSuppressSuspend, on) }

// Transport reports B: a transport-mode program.
func (o *ORB) Transport() bool { return o.has(ORBTransport) }

// SetTransport sets B.
func (o *ORB) SetTransport(on bool) { o.set(ORBTransport, on) }

// IDAW2 reports H: IDAWs are of format 2.
func (o *ORB) IDAW2() bool { return o.has(ORBIDAW2) }

// SetIDAW2 sets H.
func (o *ORB) SetIDAW2(on bool) { o.set(ORBIDAW2, on) }

// Block2K reports T. It means something only with H; see Block.
func (o *ORB) Block2K() bool { return o.has(ORBBlock2K) }

// SetBlock2K sets T.
func (o *ORB) SetBlock2K(on bool) { o.set(ORBBlock2K, on) }

// Block is the number of bytes that one IDAW of this ORB's program covers:
// 2048 in format 1, in format 2 what T says.
func (o *ORB) Block() uint32 {
	if o.Flags()&(ORBIDAW2|ORBBlock2K) == ORBIDAW2 {
		return Block4K
	}
	return Block2K
}

// SuppressIL reports L: immediate operations of format-1 CCWs never show
// incorrect length.
func (o *ORB) SuppressIL() bool { return o.has(ORBSuppressIL) }

// SetSuppressIL sets L.
func (o *ORB) SetSuppressIL(on bool) { o.set(ORBSuppressIL, on) }

// MIDAW reports D: the program may use MIDAWs.
func (o *ORB) MIDAW() bool { return o.has(ORBMIDAW) }

// SetMIDAW sets D.
func (o *ORB) SetMIDAW(on bool) { o.set(ORBMIDAW, on) }

// Extended reports X: the ORB has 32 bytes.
func (o *ORB) Extended() bool { return o.has(ORBExtended) }

// SetExtended sets X.
func (o *ORB) SetExtended(on bool) { o.set(ORBExtended, on) }

// Priority is the channel-subsystem priority and the control-unit priority,
// both zero without the extension.
func (o *ORB) Priority() (css, cu uint8) {
	if !o.Extended() {
		return 0, 0
	}
	return o.Raw[12], o.Raw[14]
}

// Reserved reports whether a bit that must be zero is one: START SUBCHANNEL
// then ends with an operand exception. Bytes without meaning do not count.
func (o *ORB) Reserved() bool {
	if o.word1()&orbReserved != 0 || o.Program()&Limit1 != 0 {
		return true
	}
	if !o.Extended() {
		return false
	}
	rest := o.Raw[13] | o.Raw[15]
	for _, b := range o.Raw[16:] {
		rest |= b
	}
	return rest != 0
}

// String prints the fields that have a meaning on one line.
func (o ORB) String() string {
	return fmt.Sprintf("param %#x key %d flags %v lpm %#x program %#x",
		o.Param(), o.Key(), o.Flags(), o.LPM(), o.Program())
}
