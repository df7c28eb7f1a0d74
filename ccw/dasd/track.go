package dasd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of what is in a slot.
const (
	homeSize   = 5 // home address: flag, CC, HH
	countSize  = 8 // count field
	markerSize = 8 // end marker
	standardR0 = 8 // data of a standard record zero
)

// marker is the end marker as a number.
const marker = ^uint64(0)

func putMarker(b []byte) { binary.BigEndian.PutUint64(b, marker) }

// Count is a count field.
//
//	0   CCHH   4 bytes
//	4   record 1 byte
//	5   key length, bytes
//	6   data length, bytes, big-endian 16 bits
type Count struct {
	CCHH   uint32
	Record uint8
	Key    uint8
	Data   uint16
}

// DecodeCount reads a count field; every eight bytes are one, but eight FF are
// the end marker.
func DecodeCount(b *[countSize]byte) Count {
	w := binary.BigEndian.Uint64(b[:])
	return Count{uint32(w >> 32), uint8(w >> 24), uint8(w >> 16), uint16(w)}
}

// Encode writes c.
func (c Count) Encode(b *[countSize]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(c.CCHH)<<32|uint64(c.Record)<<24|uint64(c.Key)<<16|uint64(c.Data))
}

// String prints the record as the guest names it.
func (c Count) String() string {
	return fmt.Sprintf("%v record %d key %d data %d", DecodeAddress(c.CCHH), c.Record, c.Key, c.Data)
}

// Errors of a slot that is no track.
var (
	errHome   = errors.New("home address of another track")
	errRecord = errors.New("record passes the end of the track")
)

// homeMatches reports whether the slot begins with the home address of a.
func homeMatches(slot []byte, a Address) bool {
	return slot[0] == 0 && binary.BigEndian.Uint32(slot[1:]) == a.Encode()
}

// countAt reads the count field at off. end is the offset behind its record
// and zero at the end marker; ok is false where there is neither.
func countAt(slot []byte, off int) (c Count, end int, ok bool) {
	if off < 0 || off > SlotSize-countSize || len(slot) < SlotSize {
		return Count{}, 0, false
	}
	b := (*[countSize]byte)(slot[off:])
	if binary.BigEndian.Uint64(b[:]) == marker {
		return Count{}, 0, true
	}
	c = DecodeCount(b)
	end = off + countSize + int(c.Key) + int(c.Data)
	if end > SlotSize-markerSize {
		return Count{}, 0, false
	}
	return c, end, true
}

// checkSlot walks a whole slot.
func checkSlot(slot []byte, a Address) error {
	if len(slot) != SlotSize || !homeMatches(slot, a) {
		return errHome
	}
	for off := homeSize; ; {
		_, end, ok := countAt(slot, off)
		switch {
		case !ok:
			return errRecord
		case end == 0:
			return nil
		}
		off = end
	}
}

// usedBytes is how much of a slot means something: what comes before the end
// marker, and the marker. Of a slot that is no track it is all.
func usedBytes(slot []byte) int {
	for off := homeSize; ; {
		_, end, ok := countAt(slot, off)
		switch {
		case !ok:
			return len(slot)
		case end == 0:
			return off + markerSize
		}
		off = end
	}
}
