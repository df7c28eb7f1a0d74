package cio

import (
	"encoding/binary"
	"fmt"
)

// ERW is the extended-report word, word 1 of an ESW.
//
// Specification: SA22-7832, "Extended-Report Word" (I/O Interruptions).
//
//	IBM bit   0  1  2  3  4  5  6  7  8-9  10-15  16-31
//	          0  R  L  A  P  T  F  S  C,R  SCNT   zero
type ERW uint32

const (
	ERWRequestLogging   ERW = 0x4000_0000 // log the ESW
	ERWExtendedLogout   ERW = 0x2000_0000 // a logout is pending in the subchannel
	ERWAuthorization    ERW = 0x1000_0000 // authorisation check
	ERWPathVerification ERW = 0x0800_0000 // the program must verify the path
	ERWPathTimeout      ERW = 0x0400_0000 // channel-path timeout
	ERWFailingAddress   ERW = 0x0200_0000 // the ESW names a failing storage address
	ERWConcurrentSense  ERW = 0x0100_0000 // the ECW holds sense bytes

	erwCountMask ERW = 0x003F_0000
)

var erwNames = bitNames{
	{0x4000_0000, "LOG"}, {0x2000_0000, "LOGOUT"}, {0x1000_0000, "AUTH"}, {0x0800_0000, "VERIFY"},
	{0x0400_0000, "TIMEOUT"}, {0x0200_0000, "FSA"}, {0x0100_0000, "SENSE"},
}

// SenseCount is the number of sense bytes in the ECW, meaningful with
// ERWConcurrentSense; at most 63 fit, at most 32 occur.
func (w ERW) SenseCount() int { return int(field(uint32(w), uint32(erwCountMask))) }

// WithSense is w saying that the ECW holds n sense bytes.
func (w ERW) WithSense(n int) ERW {
	return ERW(withField(uint32(w|ERWConcurrentSense), uint32(erwCountMask), uint32(n)))
}

// String prints the flags by name, the count as part of the number left.
func (w ERW) String() string { return erwNames.text(uint64(w)) }

// ESW is the extended-status word. Its format follows from the SCSW: 0 with
// the L bit (a logout of a subchannel error), else 1 when no measurement is
// on, 2 and 3 with it. Byte 1 is the last-path-used mask in all of them.
//
// Specification: SA22-7832, "Extended-Status Word" (I/O Interruptions).
//
//	          format 0                        format 1
//	word 0    | ESF | LPUM | FVF,SA | codes |  | 0 | LPUM | 0 | 0 |
//	word 1    | ERW                         |  | ERW              |
//	word 2-3  | failing-storage address     |  | 0                |
//	word 4    | secondary-CCW address       |  | 0                |
type ESW [20]byte

// LPUM is the last-path-used mask.
func (e *ESW) LPUM() uint8 { return e[1] }

// SetLPUM sets the last-path-used mask.
func (e *ESW) SetLPUM(m uint8) { e[1] = m }

// Subchannel is word 0, the subchannel logout in format 0.
func (e *ESW) Subchannel() uint32 { return binary.BigEndian.Uint32(e[0:]) }

// SetSubchannel sets word 0, the last-path-used mask included.
func (e *ESW) SetSubchannel(v uint32) { binary.BigEndian.PutUint32(e[0:], v) }

// ERW is the extended-report word.
func (e *ESW) ERW() ERW { return ERW(binary.BigEndian.Uint32(e[4:])) }

// SetERW sets the extended-report word.
func (e *ESW) SetERW(w ERW) { binary.BigEndian.PutUint32(e[4:], uint32(w)) }

// FailingAddress is the failing-storage address, meaningful with
// ERWFailingAddress.
func (e *ESW) FailingAddress() uint64 { return binary.BigEndian.Uint64(e[8:]) }

// SetFailingAddress sets the failing-storage address.
func (e *ESW) SetFailingAddress(a uint64) { binary.BigEndian.PutUint64(e[8:], a) }

// SecondaryCCW is the secondary-CCW address of format 0.
func (e *ESW) SecondaryCCW() uint32 { return binary.BigEndian.Uint32(e[16:]) }

// SetSecondaryCCW sets the secondary-CCW address.
func (e *ESW) SetSecondaryCCW(a uint32) { binary.BigEndian.PutUint32(e[16:], a) }

// String prints word 0 and the report word.
func (e ESW) String() string {
	return fmt.Sprintf("subchannel %#08x erw %v", e.Subchannel(), e.ERW())
}

// ECW is the extended-control word: concurrent sense, when the SCSW's E bit
// and the ERW's S bit say so.
//
// Specification: SA22-7832, "Extended-Control Word" (I/O Interruptions).
type ECW [32]byte

// EMW is the extended-measurement word, stored only with extended measurement.
type EMW [32]byte

// Lengths of an IRB in bytes, without and with the measurement word.
const (
	IRBSize         = 64
	IRBExtendedSize = 96
)

// IRB is the interruption-response block, what TEST SUBCHANNEL stores. Its
// fields lie in it as in storage, without gaps.
//
// Specification: SA22-7832, "Interruption-Response Block" (I/O
// Interruptions).
//
//	byte 0 SCSW   12 ESW   32 ECW   64 EMW   96
type IRB struct {
	SCSW SCSW
	ESW  ESW
	ECW  ECW
	EMW  EMW
}

// DecodeIRB reads a block with the measurement word.
func DecodeIRB(b *[IRBExtendedSize]byte) IRB {
	return IRB{SCSW(b[0:12]), ESW(b[12:32]), ECW(b[32:64]), EMW(b[64:96])}
}

// Encode is the block as it stands in storage. TEST SUBCHANNEL stores the
// first IRBSize bytes of it unless extended measurement is on.
func (i *IRB) Encode() (b [IRBExtendedSize]byte) {
	copy(b[0:], i.SCSW[:])
	copy(b[12:], i.ESW[:])
	copy(b[32:], i.ECW[:])
	copy(b[64:], i.EMW[:])
	return b
}

// Sense is the concurrent sense in the ECW, nil when there is none. It is a
// view of i.
func (i *IRB) Sense() []byte {
	erw := i.ESW.ERW()
	if i.SCSW.Flags()&SCSWExtended == 0 || erw&ERWConcurrentSense == 0 {
		return nil
	}
	return i.ECW[:min(erw.SenseCount(), len(i.ECW))]
}

// String prints status word, extended status and sense.
func (i IRB) String() string {
	if s := i.Sense(); s != nil {
		return fmt.Sprintf("%v; %v; sense %x", i.SCSW, i.ESW, s)
	}
	return fmt.Sprintf("%v; %v", i.SCSW, i.ESW)
}
