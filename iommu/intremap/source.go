package intremap

import "fmt"

// SourceID is a PCI requester id: bus in 15:8, device in 7:3, function in 2:0.
type SourceID uint16

func (s SourceID) String() string {
	return fmt.Sprintf("%02x:%02x.%d", uint8(s>>8), uint8(s>>3)&0x1f, uint8(s)&7)
}

// VMID is the identity that the isolation is between: a PASID for a device
// that shares its source id between guests, a virtual machine's number
// elsewhere. The host itself has one, if it takes interrupts. 0 is nobody's:
// it owns nothing, and nothing that it writes is delivered, so that who
// forgets to stamp a message gains nothing.
type VMID uint32

// Requester is who writes a message. The hardware stamps it; no byte of it
// may come from a guest.
type Requester struct {
	Source SourceID
	VM     VMID
}

func (r Requester) String() string { return fmt.Sprintf("%v of vm %d", r.Source, r.VM) }

// SVT is the source validation type of an entry.
type SVT uint8

const (
	// SVTNone: any source may use the entry.
	SVTNone SVT = 0
	// SVTSource: sources equal to SID where SQ looks.
	SVTSource SVT = 1
	// SVTBus: sources on buses SID[15:8] to SID[7:0], inclusive. (QEMU
	// reads the two bounds the other way round; Linux writes them this way,
	// which is the specification's.)
	SVTBus SVT = 2

	svtReserved SVT = 3 // verification fails
)

func (t SVT) String() string {
	switch t {
	case SVTNone:
		return "none"
	case SVTSource:
		return "source"
	case SVTBus:
		return "bus"
	}
	return fmt.Sprintf("svt(%d)", uint8(t))
}

// SQ is the source-id qualifier: which bits of the function number are not
// compared.
type SQ uint8

const (
	SQAll     SQ = 0 // compare all 16 bits
	SQIgnore1 SQ = 1 // not bit 2
	SQIgnore2 SQ = 2 // not bits 2:1
	SQIgnore3 SQ = 3 // not bits 2:0
)

// mask has the bits that are compared.
func (q SQ) mask() SourceID { return [4]SourceID{0xffff, 0xfffb, 0xfff9, 0xfff8}[q&3] }

// Verification says which sources may use an entry.
type Verification struct {
	SID SourceID
	SQ  SQ
	SVT SVT
}

// OnlySource admits one source.
func OnlySource(s SourceID) Verification { return Verification{SID: s, SVT: SVTSource} }

// OnlyBuses admits the sources of a range of buses.
func OnlyBuses(first, last uint8) Verification {
	return Verification{SID: SourceID(first)<<8 | SourceID(last), SVT: SVTBus}
}

// Admits reports whether a source may use the entry.
func (v Verification) Admits(s SourceID) bool {
	c := v.compile()
	return c.admits(s)
}

// admission is a Verification made ready: one comparison and one range, of
// which the type leaves at most one with any effect.
type admission struct {
	mask, value SourceID
	first, last uint8 // buses; first > last admits none
}

func (v Verification) compile() admission {
	switch v.SVT {
	case SVTNone:
		return admission{last: 0xff}
	case SVTSource:
		m := v.SQ.mask()
		return admission{mask: m, value: v.SID & m, last: 0xff}
	case SVTBus:
		return admission{first: uint8(v.SID >> 8), last: uint8(v.SID)}
	}
	return admission{first: 1, last: 0}
}

func (a *admission) admits(s SourceID) bool {
	bus := uint8(s >> 8)
	return s&a.mask == a.value && bus >= a.first && bus <= a.last
}
