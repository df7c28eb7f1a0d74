package dasd

import "bytes"

// maxPacked is the size up to which a packed track is worth it: unpacking
// costs the time of a copy.
const maxPacked = SlotSize / 8

// The record of a packed track: its count field, then whether key and data
// follow or are zero.
const (
	packedZero = 0
	packedData = 1
)

// pack appends to b the slot without the zeros: the home address and, for each
// record, count field, packedZero or packedData, and for the latter key and
// data. ok is false if that is not small, or the slot is no track. What lies
// behind the end marker is lost; it means nothing.
func pack(b, slot []byte) (_ []byte, ok bool) {
	b = append(b, slot[:homeSize]...)
	for off := homeSize; ; {
		_, end, ok := countAt(slot, off)
		switch {
		case !ok:
			return b, false
		case end == 0:
			return b, true
		}
		fields := slot[off+countSize : end]
		b = append(b, slot[off:off+countSize]...)
		if zero(fields) {
			b = append(b, packedZero)
		} else if b = append(b, packedData); len(b)+len(fields) <= maxPacked {
			b = append(b, fields...)
		} else {
			return b, false
		}
		if len(b) > maxPacked {
			return b, false
		}
		off = end
	}
}

// unpack is the reverse of pack. b is one of its results.
func unpack(slot, b []byte) {
	off := copy(slot, b[:homeSize])
	b = b[homeSize:]
	for len(b) > 0 {
		c := DecodeCount((*[countSize]byte)(b))
		off += copy(slot[off:], b[:countSize])
		fields := slot[off:][:int(c.Key)+int(c.Data)]
		off += len(fields)
		if b[countSize] == packedZero {
			clear(fields)
			b = b[countSize+1:]
		} else {
			b = b[countSize+1+copy(fields, b[countSize+1:]):]
		}
	}
	putMarker(slot[off:])
}

// zero reports whether all of b is: it begins so, and each byte is like the
// one before.
func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
