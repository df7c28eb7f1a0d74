package wire

import "fmt"

// MapFlags are the flags of DMA_MAP.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_MAP"; bits 2 and 3 are libvfio-user's
// (include/vfio-user.h), which say how its server is to reach the file.
type MapFlags uint32

const (
	MapRead   MapFlags = 1 << 0 // the device may read
	MapWrite  MapFlags = 1 << 1 // the device may write
	MapMmap   MapFlags = 1 << 2 // mmap the file
	MapFileIO MapFlags = 1 << 3 // use pread and pwrite on the file
)

var mapFlagNames = bitNames{{1, "READ"}, {2, "WRITE"}, {4, "MMAP"}, {8, "FILE_IO"}}

// String prints the flags as READ|WRITE, none as 0.
func (f MapFlags) String() string { return mapFlagNames.text(uint64(f)) }

// DMAMapLen is the length of the payload of a DMA_MAP request. The reply has
// none.
const DMAMapLen = 32

// DMAMap is the payload of a DMA_MAP request. At most one file comes with it.
//
//	byte  0       4       8        16        24     32
//	      | Argsz | Flags | Offset | Address | Size |
type DMAMap struct {
	Argsz   uint32
	Flags   MapFlags
	Offset  uint64 // into the file
	Address uint64 // IOVA
	Size    uint64 // bytes
}

// DecodeDMAMap decodes the payload of a DMA_MAP request.
func DecodeDMAMap(b *[DMAMapLen]byte) DMAMap {
	return DMAMap{
		order.Uint32(b[0:]), MapFlags(order.Uint32(b[4:])),
		order.Uint64(b[8:]), order.Uint64(b[16:]), order.Uint64(b[24:]),
	}
}

// Append appends the encoding of m.
func (m DMAMap) Append(b []byte) []byte {
	b = order.AppendUint32(b, m.Argsz)
	b = order.AppendUint32(b, uint32(m.Flags))
	b = order.AppendUint64(b, m.Offset)
	b = order.AppendUint64(b, m.Address)
	return order.AppendUint64(b, m.Size)
}

// String prints the request for logs.
func (m DMAMap) String() string {
	return fmt.Sprintf("argsz %d flags %v offset %#x address %#x size %#x", m.Argsz, m.Flags, m.Offset, m.Address, m.Size)
}

// UnmapFlags are the flags of DMA_UNMAP.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_UNMAP"; bit 0 is in libvfio-user
// (include/vfio-user.h) and in older versions of the text.
type UnmapFlags uint32

const (
	UnmapDirtyBitmap UnmapFlags = 1 << 0 // return the dirty bitmap of what goes away
	UnmapAll         UnmapFlags = 1 << 1 // everything; address and size are 0
)

var unmapFlagNames = bitNames{{1, "GET_DIRTY_BITMAP"}, {2, "ALL"}}

// String prints the flags by name, none as 0.
func (f UnmapFlags) String() string { return unmapFlagNames.text(uint64(f)) }

// DMAUnmapLen is the length of the payload of a DMA_UNMAP request and of its
// reply, without the bitmap.
const DMAUnmapLen = 24

// DMAUnmap is the payload of a DMA_UNMAP request, and of its reply. With
// UnmapDirtyBitmap a [Bitmap] follows in both, and the bits in the reply.
//
//	byte  0       4       8         16     24
//	      | Argsz | Flags | Address | Size |
type DMAUnmap struct {
	Argsz   uint32 // in the request, the room for the payload of the reply
	Flags   UnmapFlags
	Address uint64
	Size    uint64
}

// DecodeDMAUnmap decodes the fixed part of a DMA_UNMAP payload.
func DecodeDMAUnmap(b *[DMAUnmapLen]byte) DMAUnmap {
	return DMAUnmap{
		order.Uint32(b[0:]), UnmapFlags(order.Uint32(b[4:])),
		order.Uint64(b[8:]), order.Uint64(b[16:]),
	}
}

// Append appends the encoding of u.
func (u DMAUnmap) Append(b []byte) []byte {
	b = order.AppendUint32(b, u.Argsz)
	b = order.AppendUint32(b, uint32(u.Flags))
	b = order.AppendUint64(b, u.Address)
	return order.AppendUint64(b, u.Size)
}

// String prints the message for logs.
func (u DMAUnmap) String() string {
	return fmt.Sprintf("argsz %d flags %v address %#x size %#x", u.Argsz, u.Flags, u.Address, u.Size)
}

// BitmapLen is the length of a Bitmap header.
const BitmapLen = 16

// Bitmap describes the dirty bitmap of DMA_UNMAP with UnmapDirtyBitmap; in the
// reply the bits follow, bit n of the array of u64 for page n.
//
//	byte  0          8      16
//	      | PageSize | Size |
type Bitmap struct {
	PageSize uint64 // bytes that a bit stands for
	Size     uint64 // of the bits, in bytes
}

// DecodeBitmap decodes a bitmap header.
func DecodeBitmap(b *[BitmapLen]byte) Bitmap { return Bitmap{order.Uint64(b[0:]), order.Uint64(b[8:])} }

// Append appends the encoding of m.
func (m Bitmap) Append(b []byte) []byte {
	b = order.AppendUint64(b, m.PageSize)
	return order.AppendUint64(b, m.Size)
}

// String prints the bitmap header for logs.
func (m Bitmap) String() string { return fmt.Sprintf("pgsize %#x bitmap %d bytes", m.PageSize, m.Size) }

// DMAAccessLen is the length of the fixed part of DMA_READ and DMA_WRITE.
const DMAAccessLen = 16

// DMAAccess is the fixed part of DMA_READ and DMA_WRITE, requests and replies;
// the data follows in a write request and a read reply.
//
//	byte  0         8       16
//	      | Address | Count | data ...
//
// The text has a count of 4 bytes in the reply of a write in one place, and
// clients have answered with a bare header: a receiver of that reply takes 0 to
// 16 bytes.
type DMAAccess struct {
	Address uint64 // IOVA
	Count   uint64 // bytes of data
}

// DecodeDMAAccess decodes the fixed part of DMA_READ and DMA_WRITE.
func DecodeDMAAccess(b *[DMAAccessLen]byte) DMAAccess {
	return DMAAccess{order.Uint64(b[0:]), order.Uint64(b[8:])}
}

// Append appends the encoding of a.
func (a DMAAccess) Append(b []byte) []byte {
	b = order.AppendUint64(b, a.Address)
	return order.AppendUint64(b, a.Count)
}

// String prints the access for logs.
func (a DMAAccess) String() string { return fmt.Sprintf("address %#x count %d", a.Address, a.Count) }

// AppendBits appends the words of a dirty bitmap.
func AppendBits(b []byte, words []uint64) []byte {
	for _, w := range words {
		b = order.AppendUint64(b, w)
	}
	return b
}
