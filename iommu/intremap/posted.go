package intremap

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/softmdev/softmdev/translate/addr"
)

// Descriptor is a posted-interrupt descriptor: 64 bytes of memory that the
// unit and the CPU's side share, every word of it little-endian and touched by
// atomic operations only.
//
// Spec: VT-d, "Posted Interrupt Descriptor (PID)".
//
//	255:0    PIR   one bit per vector: requested
//	256      ON    a notification is outstanding
//	257      SN    suppress notifications, but of urgent entries
//	271:258        reserved
//	279:272  NV    vector of the notification
//	287:280        reserved
//	319:288  NDST  APIC id of whom to notify; without extended interrupt
//	               mode in bits 15:8 of the field
//	511:320        reserved
type Descriptor [8]atomic.Uint64

// DescriptorSize is the size and the alignment of a descriptor in bytes.
const DescriptorSize = 64

const (
	pidControl  = 4 // word with ON, SN, NV, NDST
	pidON       = 1 << 0
	pidSN       = 1 << 1
	pidNV       = 16
	pidNDST     = 32
	pidReserved = 0x0000_0000_ff00_fffc
)

// le turns a word as it is written above into one as it lies in memory, and
// back.
func le(x uint64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], x)
	return binary.NativeEndian.Uint64(b[:])
}

// Memory is memory by host-physical address, as the unit reaches it.
type Memory interface {
	// Descriptor is the descriptor at a, a multiple of DescriptorSize, or an
	// error if the unit may not write there. The memory stays until no
	// entry names it any more. It must not block.
	Descriptor(a addr.HPA) (*Descriptor, error)
}

// Notify says whom to notify: vector and DST-like destination
// (see [Destination]). It is the CPU's side's.
func (d *Descriptor) Notify(vector uint8, ndst uint32) {
	for {
		old := d[pidControl].Load()
		x := le(old)&(pidON|pidSN) | uint64(vector)<<pidNV | uint64(ndst)<<pidNDST
		if d[pidControl].CompareAndSwap(old, le(x)) {
			return
		}
	}
}

// Suppress sets SN, or clears it. Who clears it looks for what is requested
// afterwards: it was not notified.
func (d *Descriptor) Suppress(on bool) {
	if on {
		d[pidControl].Or(le(pidSN))
	} else {
		d[pidControl].And(le(^uint64(pidSN)))
	}
}

// Take ends the outstanding notification and takes the requested vectors, bit
// v%64 of word v/64. What is posted meanwhile is in the result, or notified
// anew, or both.
func (d *Descriptor) Take() (pir [4]uint64) {
	d[pidControl].And(le(^uint64(pidON)))
	for i := range pir {
		pir[i] = le(d[i].Swap(0))
	}
	return pir
}

// Outstanding reports ON.
func (d *Descriptor) Outstanding() bool { return le(d[pidControl].Load())&pidON != 0 }

// post notes a vector as the unit does. notify: one is due, as n says.
//
// The bit of PIR is set before ON is looked at: who takes PIR clears ON first,
// so either that one finds the bit or the unit finds ON clear.
func (d *Descriptor) post(vector uint8, urgent, eim bool) (n Interrupt, notify bool, why Reason) {
	reserved := uint64(pidReserved)
	if !eim {
		reserved |= uint64(reservedDest) << pidNDST
	}
	if le(d[pidControl].Load())&reserved != 0 || d[5].Load()|d[6].Load()|d[7].Load() != 0 {
		return n, false, ReasonDescriptorReserved
	}
	d[vector/64].Or(le(1 << (vector % 64)))
	for {
		old := d[pidControl].Load()
		x := le(old)
		if x&pidON != 0 || x&pidSN != 0 && !urgent {
			return n, false, 0
		}
		if d[pidControl].CompareAndSwap(old, le(x|pidON)) {
			return Interrupt{Vector: uint8(x >> pidNV), Dest: apicID(uint32(x>>pidNDST), eim)}, true, 0
		}
	}
}
