package cio

import (
	"encoding/binary"
	"fmt"
)

// PMCWFlags are the single bits of the PMCW: those of word 1 in the high
// halfword, those of word 6 in the low one.
//
//	IBM bit of word 1   0  1  2-4  5-7  8  9-10  11-12  13 14 15  16-31
//	                    Q  0  ISC  0    E  LM    MM     D  T  V   device number
//	IBM bit of word 6   0-7  8-10  11-28  29 30 31
//	                    0    type  0      F  X  S
type PMCWFlags uint32

const (
	PMCWQDIO            PMCWFlags = 0x8000_0000 // Q: a QDIO subchannel
	PMCWEnabled         PMCWFlags = 0x0080_0000 // E: the subchannel takes instructions
	PMCWMultipath       PMCWFlags = 0x0004_0000 // D: multipath mode
	PMCWTiming          PMCWFlags = 0x0002_0000 // T: a timing facility is there
	PMCWValid           PMCWFlags = 0x0001_0000 // V: the device number is valid
	PMCWMeasureFormat   PMCWFlags = 0x0000_0004 // F: measurement-block format 1
	PMCWMeasureExtended PMCWFlags = 0x0000_0002 // X: the IRB gets a measurement word
	PMCWConcurrentSense PMCWFlags = 0x0000_0001 // S: sense goes into the ECW

	pmcwWord1Flags uint32 = 0x8087_0000
	pmcwWord6Flags uint32 = 0x0000_0007
	pmcwISC        uint32 = 0x3800_0000
	pmcwLM         uint32 = 0x0060_0000
	pmcwMM         uint32 = 0x0018_0000
	pmcwType       uint32 = 0x00E0_0000
	pmcwReserved1  uint32 = 0x4700_0000
	pmcwReserved6  uint32 = 0xFF1F_FFF8
)

var pmcwNames = bitNames{
	{0x8000_0000, "Q"}, {0x0080_0000, "E"}, {0x0004_0000, "D"}, {0x0002_0000, "T"}, {0x0001_0000, "V"},
	{0x4, "F"}, {0x2, "X"}, {0x1, "S"},
}

// String prints the flags as E|V|S, none as 0.
func (f PMCWFlags) String() string { return pmcwNames.text(uint64(f)) }

// SubchannelType is the kind of a subchannel.
type SubchannelType uint8

// The subchannel types.
const (
	TypeIO      SubchannelType = 0
	TypeCHSC    SubchannelType = 1
	TypeMessage SubchannelType = 2
	TypeADM     SubchannelType = 3
)

// PMCW is the path-management-control word, the part of a SCHIB that says
// what a subchannel is and how it is set.
//
// Specification: SA22-7832, "Path-Management-Control Word" (I/O Overview).
//
//	word 0    | interruption parameter         |
//	word 1    | flags, ISC     | device number |
//	word 2    | LPM  | PNOM    | LPUM  | PIM   |
//	word 3    | MBI            | POM   | PAM   |
//	word 4-5  | CHPID 0-7                      |
//	word 6    | type, flags                    |
type PMCW [28]byte

func (p *PMCW) word(i int) uint32       { return binary.BigEndian.Uint32(p[4*i:]) }
func (p *PMCW) setWord(i int, v uint32) { binary.BigEndian.PutUint32(p[4*i:], v) }

// Flags are all single bits that have a name.
func (p *PMCW) Flags() PMCWFlags {
	return PMCWFlags(p.word(1)&pmcwWord1Flags | p.word(6)&pmcwWord6Flags)
}

// SetFlags replaces all single bits that have a name.
func (p *PMCW) SetFlags(f PMCWFlags) {
	p.setWord(1, p.word(1)&^pmcwWord1Flags|uint32(f)&pmcwWord1Flags)
	p.setWord(6, p.word(6)&^pmcwWord6Flags|uint32(f)&pmcwWord6Flags)
}

// Param is the interruption parameter.
func (p *PMCW) Param() uint32 { return p.word(0) }

// SetParam sets the interruption parameter.
func (p *PMCW) SetParam(v uint32) { p.setWord(0, v) }

// ISC is the interruption subclass, 0 to 7.
func (p *PMCW) ISC() uint8 { return uint8(field(p.word(1), pmcwISC)) }

// SetISC sets the interruption subclass, of which 3 bits count.
func (p *PMCW) SetISC(v uint8) { p.setWord(1, withField(p.word(1), pmcwISC, uint32(v))) }

// LimitMode is how data addresses compare with the address limit: 0 not at
// all, 1 below it is refused, 2 from it on is refused, 3 invalid.
func (p *PMCW) LimitMode() uint8 { return uint8(field(p.word(1), pmcwLM)) }

// SetLimitMode sets the limit mode, of which 2 bits count.
func (p *PMCW) SetLimitMode(v uint8) { p.setWord(1, withField(p.word(1), pmcwLM, uint32(v))) }

// MeasureMode is the measurement-mode enable, 2 bits.
func (p *PMCW) MeasureMode() uint8 { return uint8(field(p.word(1), pmcwMM)) }

// SetMeasureMode sets the measurement-mode enable, of which 2 bits count.
func (p *PMCW) SetMeasureMode(v uint8) { p.setWord(1, withField(p.word(1), pmcwMM, uint32(v))) }

// DeviceNumber is the device number, meaningful with PMCWValid.
func (p *PMCW) DeviceNumber() uint16 { return uint16(p.word(1)) }

// SetDeviceNumber sets the device number.
func (p *PMCW) SetDeviceNumber(v uint16) { p.setWord(1, withField(p.word(1), 0xFFFF, uint32(v))) }

// LPM is the logical-path mask: the paths the program may use.
func (p *PMCW) LPM() uint8 { return p[8] }

// SetLPM sets the logical-path mask.
func (p *PMCW) SetLPM(m uint8) { p[8] = m }

// PNOM is the path-not-operational mask.
func (p *PMCW) PNOM() uint8 { return p[9] }

// SetPNOM sets the path-not-operational mask.
func (p *PMCW) SetPNOM(m uint8) { p[9] = m }

// LPUM is the last-path-used mask.
func (p *PMCW) LPUM() uint8 { return p[10] }

// SetLPUM sets the last-path-used mask.
func (p *PMCW) SetLPUM(m uint8) { p[10] = m }

// PIM is the path-installed mask.
func (p *PMCW) PIM() uint8 { return p[11] }

// SetPIM sets the path-installed mask.
func (p *PMCW) SetPIM(m uint8) { p[11] = m }

// MBI is the measurement-block index.
func (p *PMCW) MBI() uint16 { return binary.BigEndian.Uint16(p[12:]) }

// SetMBI sets the measurement-block index.
func (p *PMCW) SetMBI(v uint16) { binary.BigEndian.PutUint16(p[12:], v) }

// POM is the path-operational mask.
func (p *PMCW) POM() uint8 { return p[14] }

// SetPOM sets the path-operational mask.
func (p *PMCW) SetPOM(m uint8) { p[14] = m }

// PAM is the path-available mask.
func (p *PMCW) PAM() uint8 { return p[15] }

// SetPAM sets the path-available mask.
func (p *PMCW) SetPAM(m uint8) { p[15] = m }

// CHPID is the channel-path identifier of path i, 0 to 7.
func (p *PMCW) CHPID(i int) uint8 { return p[16+i] }

// SetCHPID sets the channel-path identifier of path i, 0 to 7.
func (p *PMCW) SetCHPID(i int, v uint8) { p[16+i] = v }

// Type is the subchannel type.
func (p *PMCW) Type() SubchannelType { return SubchannelType(field(p.word(6), pmcwType)) }

// SetType sets the subchannel type, of which 3 bits count.
func (p *PMCW) SetType(v SubchannelType) { p.setWord(6, withField(p.word(6), pmcwType, uint32(v))) }

// Reserved reports whether a bit that must be zero is one.
func (p *PMCW) Reserved() bool {
	return p.word(1)&pmcwReserved1 != 0 || p.word(6)&pmcwReserved6 != 0
}

// String prints the fields a program sets and the paths.
func (p PMCW) String() string {
	return fmt.Sprintf("param %#x device %04x isc %d flags %v lpm %#x pim %#x pom %#x pam %#x lpum %#x",
		p.Param(), p.DeviceNumber(), p.ISC(), p.Flags(), p.LPM(), p.PIM(), p.POM(), p.PAM(), p.LPUM())
}

// SCHIBSize is the length of a SCHIB in bytes.
const SCHIBSize = 52

// SCHIB is the subchannel-information block, what STORE SUBCHANNEL stores and
// MODIFY SUBCHANNEL takes. Its fields lie in it as in storage, without gaps.
//
// Specification: SA22-7832, "Subchannel-Information Block" (I/O Overview).
//
//	byte 0 PMCW   28 SCSW   40 measurement-block address   48 model   52
type SCHIB struct {
	PMCW  PMCW
	SCSW  SCSW
	MBA   [8]byte // measurement-block address, with PMCWMeasureFormat
	Model [4]byte // model-dependent
}

// DecodeSCHIB reads a block.
func DecodeSCHIB(b *[SCHIBSize]byte) SCHIB {
	return SCHIB{PMCW(b[0:28]), SCSW(b[28:40]), [8]byte(b[40:48]), [4]byte(b[48:52])}
}

// Encode is the block as it stands in storage.
func (s *SCHIB) Encode() (b [SCHIBSize]byte) {
	copy(b[0:], s.PMCW[:])
	copy(b[28:], s.SCSW[:])
	copy(b[40:], s.MBA[:])
	copy(b[48:], s.Model[:])
	return b
}

// String prints path management and status.
func (s SCHIB) String() string { return fmt.Sprintf("%v; %v", s.PMCW, s.SCSW) }

// DefaultPMCW is the path-management-control word of a device that says
// nothing else: valid, enabled, one path (80), concurrent sense.
func DefaultPMCW() PMCW {
	var p PMCW
	p.SetFlags(PMCWEnabled | PMCWValid | PMCWConcurrentSense)
	p.SetLPM(0x80)
	p.SetPIM(0x80)
	p.SetPOM(0xFF)
	p.SetPAM(0x80)
	return p
}
