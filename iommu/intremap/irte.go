package intremap

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// IRTE is an entry of the table: 128 bits, little-endian in memory. Every bit
// pattern is one; [IRTE.Validate] says which mean something. Bit IM chooses
// between two forms, [Remapped] and [Posted].
//
// Spec: VT-d rev 4, "Interrupt Remapping Table Entry (IRTE) for Remapped
// Interrupts", "... for Posted Interrupts".
//
//	bits     remapped form          posted form
//	0        P                      P
//	1        FPD                    FPD
//	2        DM                     reserved
//	3        RH                     reserved
//	4        TM                     reserved
//	7:5      DLM                    reserved
//	11:8     AVAIL                  AVAIL
//	13:12    reserved               reserved
//	14       reserved               URG
//	15       IM = 0                 IM = 1
//	23:16    vector                 virtual vector
//	31:24    reserved               reserved
//	37:32    DST                    reserved
//	63:38    DST                    PDA[31:6]
//	79:64    SID                    SID
//	81:80    SQ                     SQ
//	83:82    SVT                    SVT
//	95:84    reserved               reserved
//	127:96   reserved               PDA[63:32]
type IRTE struct {
	Lo, Hi uint64
}

// Bits of an entry's low half, and where its fields lie.
const (
	irteP     = 1 << 0
	irteFPD   = 1 << 1
	irteDM    = 1 << 2
	irteRH    = 1 << 3
	irteTM    = 1 << 4
	irteDLM   = 5
	irteAvail = 8
	irteURG   = 1 << 14
	irteIM    = 1 << 15
	irteVec   = 16
	irteDest  = 32
	// In the high half.
	irteSQ  = 16
	irteSVT = 18
)

// The reserved bits of either form.
var (
	reservedRemapped = IRTE{Lo: 0x0000_0000_ff00_7000, Hi: 0xffff_ffff_fff0_0000}
	reservedPosted   = IRTE{Lo: 0x0000_003f_ff00_30fc, Hi: 0x0000_0000_fff0_0000}
)

// reservedDest are the bits of DST and NDST that are reserved without
// extended interrupt mode: an APIC id of 8 bits stands in 15:8.
const reservedDest uint32 = 0xffff_00ff

// Present is bit P.
func (e IRTE) Present() bool { return e.Lo&irteP != 0 }

// FaultsDisabled is bit FPD: faults of requests for this entry are not to be
// recorded.
func (e IRTE) FaultsDisabled() bool { return e.Lo&irteFPD != 0 }

// IsPosted is bit IM: the entry has the posted form.
func (e IRTE) IsPosted() bool { return e.Lo&irteIM != 0 }

// Source is who may use the entry.
func (e IRTE) Source() Verification {
	return Verification{SID: SourceID(e.Hi), SQ: SQ(e.Hi >> irteSQ & 3), SVT: SVT(e.Hi >> irteSVT & 3)}
}

// Validate refuses what the unit would refuse whoever asks: a present entry
// with reserved bits or reserved codes. An entry that is not present may hold
// anything. eim is extended interrupt mode.
func (e IRTE) Validate(eim bool) error {
	switch {
	case !e.Present():
		return nil
	case e.reservedSet(eim):
		return fmt.Errorf("irte %v: reserved bits or delivery mode: %w", e, errs.ErrInvalid)
	case e.Source().SVT == svtReserved:
		return fmt.Errorf("irte %v: source validation %v: %w", e, svtReserved, errs.ErrInvalid)
	}
	return nil
}

// reservedSet reports whether a present entry has reserved fields set. (The
// reserved validation type is no such field: it fails verification.)
func (e IRTE) reservedSet(eim bool) bool {
	r := reservedPosted
	if !e.IsPosted() {
		r = reservedRemapped
		if !eim {
			r.Lo |= uint64(reservedDest) << irteDest
		}
		if DeliveryMode(e.Lo >> irteDLM & 7).reserved() {
			return true
		}
	}
	return e.Lo&r.Lo|e.Hi&r.Hi != 0
}

// DecodeIRTE reads an entry as it lies in memory.
func DecodeIRTE(b *[16]byte) IRTE {
	return IRTE{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// Encode is the inverse of [DecodeIRTE].
func (e IRTE) Encode() (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:8], e.Lo)
	binary.LittleEndian.PutUint64(b[8:], e.Hi)
	return b
}

func (e IRTE) String() string { return fmt.Sprintf("%#x:%#x", e.Hi, e.Lo) }

// Common are the fields that both forms have.
type Common struct {
	Present        bool
	FaultsDisabled bool  // FPD
	Avail          uint8 // 4 bits, software's
	// Vector is the CPU's vector in the remapped form, the guest's in the
	// posted one.
	Vector   uint8
	Source   Verification
	Reserved IRTE // reserved bits, in place; 0 in an entry that is used
}

// Remapped is an entry of the remapped form: the unit sends the CPU's
// interrupt that the entry describes.
type Remapped struct {
	Common
	Logical  bool // DM
	Redirect bool // RH
	Level    bool // TM
	Mode     DeliveryMode
	// Dest is DST as it stands in the entry. Without extended interrupt
	// mode the APIC id is in its bits 15:8; see [Destination].
	Dest uint32
}

// Posted is an entry of the posted form: the unit notes the guest's vector in
// a descriptor in memory, and notifies whoever the descriptor names.
type Posted struct {
	Common
	Urgent     bool     // URG: notify even if the descriptor suppresses it
	Descriptor addr.HPA // PDA, a multiple of 64
}

// Destination is what to write into DST for an APIC id.
func Destination(apic uint32, eim bool) uint32 {
	if eim {
		return apic
	}
	return apic & 0xff << 8
}

// apicID is the inverse of Destination.
func apicID(dest uint32, eim bool) uint32 {
	if eim {
		return dest
	}
	return dest >> 8 & 0xff
}

func (e IRTE) common(reserved IRTE) Common {
	return Common{
		Present: e.Present(), FaultsDisabled: e.FaultsDisabled(),
		Avail: uint8(e.Lo >> irteAvail & 0xf), Vector: uint8(e.Lo >> irteVec),
		Source: e.Source(), Reserved: IRTE{e.Lo & reserved.Lo, e.Hi & reserved.Hi},
	}
}

func (c Common) irte(reserved IRTE) IRTE {
	return IRTE{
		Lo: bit[uint64](c.Present, 0) | bit[uint64](c.FaultsDisabled, 1) |
			uint64(c.Avail&0xf)<<irteAvail | uint64(c.Vector)<<irteVec | c.Reserved.Lo&reserved.Lo,
		Hi: uint64(c.Source.SID) | uint64(c.Source.SQ&3)<<irteSQ | uint64(c.Source.SVT&3)<<irteSVT |
			c.Reserved.Hi&reserved.Hi,
	}
}

// Remapped reads the entry in the remapped form, which it must have (see
// [IRTE.IsPosted]) for the result to mean anything.
func (e IRTE) Remapped() Remapped {
	return Remapped{
		Common:  e.common(reservedRemapped),
		Logical: e.Lo&irteDM != 0, Redirect: e.Lo&irteRH != 0, Level: e.Lo&irteTM != 0,
		Mode: DeliveryMode(e.Lo >> irteDLM & 7), Dest: uint32(e.Lo >> irteDest),
	}
}

// IRTE is the inverse of [IRTE.Remapped].
func (r Remapped) IRTE() IRTE {
	e := r.irte(reservedRemapped)
	e.Lo |= bit[uint64](r.Logical, 2) | bit[uint64](r.Redirect, 3) | bit[uint64](r.Level, 4) |
		uint64(r.Mode&7)<<irteDLM | uint64(r.Dest)<<irteDest
	return e
}

// Posted reads the entry in the posted form, which it must have for the
// result to mean anything.
func (e IRTE) Posted() Posted {
	return Posted{
		Common: e.common(reservedPosted), Urgent: e.Lo&irteURG != 0,
		Descriptor: addr.HPA(e.Lo>>38<<6 | e.Hi>>32<<32),
	}
}

// IRTE is the inverse of [IRTE.Posted]. The low six bits of the descriptor's
// address have no place in an entry.
func (p Posted) IRTE() IRTE {
	e := p.irte(reservedPosted)
	e.Lo |= irteIM | bit[uint64](p.Urgent, 14) | uint64(uint32(p.Descriptor)>>6)<<38
	e.Hi |= uint64(p.Descriptor) >> 32 << 32
	return e
}

// DeliveryMode says what kind of interrupt a CPU gets.
type DeliveryMode uint8

const (
	Fixed          DeliveryMode = 0
	LowestPriority DeliveryMode = 1
	SMI            DeliveryMode = 2
	NMI            DeliveryMode = 4
	INIT           DeliveryMode = 5
	ExtINT         DeliveryMode = 7
)

// reserved: codes 3 and 6. In an entry the unit takes them for reserved
// fields; the specification lists them as reserved and says no more.
func (m DeliveryMode) reserved() bool { return m == 3 || m == 6 }

func (m DeliveryMode) String() string {
	switch m {
	case Fixed:
		return "fixed"
	case LowestPriority:
		return "lowest-priority"
	case SMI:
		return "smi"
	case NMI:
		return "nmi"
	case INIT:
		return "init"
	case ExtINT:
		return "extint"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}
