package wire

import "fmt"

// RegionAccessLen is the length of the fixed part of REGION_READ and
// REGION_WRITE.
const RegionAccessLen = 16

// RegionAccess is the fixed part of REGION_READ and REGION_WRITE, requests and
// replies; the data follows in a write request and a read reply.
//
//	byte  0        8        12      16
//	      | Offset | Region | Count | data ...
type RegionAccess struct {
	Offset uint64
	Region uint32
	Count  uint32 // bytes of data
}

// DecodeRegionAccess decodes the fixed part of REGION_READ and REGION_WRITE.
func DecodeRegionAccess(b *[RegionAccessLen]byte) RegionAccess {
	return RegionAccess{order.Uint64(b[0:]), order.Uint32(b[8:]), order.Uint32(b[12:])}
}

// Put encodes a.
func (a RegionAccess) Put(b *[RegionAccessLen]byte) {
	order.PutUint64(b[0:], a.Offset)
	order.PutUint32(b[8:], a.Region)
	order.PutUint32(b[12:], a.Count)
}

// Append appends the encoding of a.
func (a RegionAccess) Append(b []byte) []byte {
	var x [RegionAccessLen]byte
	a.Put(&x)
	return append(b, x[:]...)
}

// String prints the access for logs.
func (a RegionAccess) String() string {
	return fmt.Sprintf("region %d offset %#x count %d", a.Region, a.Offset, a.Count)
}

// Lengths of REGION_WRITE_MULTI: the number at the start of request and
// reply, and one entry.
const (
	WriteMultiLen = 8
	MultiEntryLen = 24
)

// AppendCount appends the number of writes that begins a REGION_WRITE_MULTI
// request, or of those done, which is its reply.
func AppendCount(b []byte, n uint64) []byte { return order.AppendUint64(b, n) }

// DecodeCount decodes what AppendCount encodes.
func DecodeCount(b *[WriteMultiLen]byte) uint64 { return order.Uint64(b[:]) }

// MultiEntry is one write of REGION_WRITE_MULTI.
//
//	byte  0        8        12      16     24
//	      | Offset | Region | Count | Data |
type MultiEntry struct {
	RegionAccess         // Count is 1 to 8
	Data         [8]byte // the first Count of them
}

// DecodeMultiEntry decodes one write.
func DecodeMultiEntry(b *[MultiEntryLen]byte) MultiEntry {
	return MultiEntry{DecodeRegionAccess((*[RegionAccessLen]byte)(b[:])), [8]byte(b[16:])}
}

// Append appends the encoding of e.
func (e MultiEntry) Append(b []byte) []byte { return append(e.RegionAccess.Append(b), e.Data[:]...) }

// String prints the write for logs.
func (e MultiEntry) String() string { return fmt.Sprintf("%v data %x", e.RegionAccess, e.Data) }

// IOFDsLen is the length of the fixed part of DEVICE_GET_REGION_IO_FDS.
const IOFDsLen = 16

// IOFDs is the fixed part of DEVICE_GET_REGION_IO_FDS: the request has Argsz
// and Index, the reply all, and Count entries behind it.
//
//	byte  0       4       8       12      16
//	      | Argsz | Flags | Index | Count | entries ...
type IOFDs struct {
	Argsz uint32
	Flags uint32
	Index uint32
	Count uint32
}

// DecodeIOFDs decodes the fixed part of DEVICE_GET_REGION_IO_FDS.
func DecodeIOFDs(b *[IOFDsLen]byte) IOFDs {
	return IOFDs{order.Uint32(b[0:]), order.Uint32(b[4:]), order.Uint32(b[8:]), order.Uint32(b[12:])}
}

// Append appends the encoding of f.
func (f IOFDs) Append(b []byte) []byte {
	b = order.AppendUint32(b, f.Argsz)
	b = order.AppendUint32(b, f.Flags)
	b = order.AppendUint32(b, f.Index)
	return order.AppendUint32(b, f.Count)
}

// String prints the message for logs.
func (f IOFDs) String() string {
	return fmt.Sprintf("argsz %d flags %#x index %d count %d", f.Argsz, f.Flags, f.Index, f.Count)
}

// IOFDType says what the file of an IOFD is.
type IOFDType uint32

const (
	IOEventFD  IOFDType = 0
	IORegionFD IOFDType = 1
)

// String names the type.
func (t IOFDType) String() string {
	switch t {
	case IOEventFD:
		return "ioeventfd"
	case IORegionFD:
		return "ioregionfd"
	}
	return fmt.Sprintf("IOFDType(%d)", uint32(t))
}

// IOEventFDMatch is the flag of an ioeventfd that is signalled by writes of
// Data alone: KVM_IOEVENTFD_FLAG_DATAMATCH, to whose flags the text refers.
const IOEventFDMatch = 1 << 0

// IOFDLen is the length of an IOFD.
const IOFDLen = 40

// IOFD is an entry of a DEVICE_GET_REGION_IO_FDS reply in the layout of the
// specification. (libvfio-user's has 48 bytes.)
//
//	byte  0        8      16      20     24      28    32     40
//	      | Offset | Size | Index | Type | Flags | pad | Data |
type IOFD struct {
	Offset uint64
	Size   uint64
	Index  uint32 // of the file among those that come with the reply
	Type   IOFDType
	Flags  uint32
	Pad    uint32
	Data   uint64 // what a write must match, or what an ioregionfd is told
}

// DecodeIOFD decodes an entry.
func DecodeIOFD(b *[IOFDLen]byte) IOFD {
	return IOFD{
		order.Uint64(b[0:]), order.Uint64(b[8:]), order.Uint32(b[16:]), IOFDType(order.Uint32(b[20:])),
		order.Uint32(b[24:]), order.Uint32(b[28:]), order.Uint64(b[32:]),
	}
}

// Append appends the encoding of f.
func (f IOFD) Append(b []byte) []byte {
	b = order.AppendUint64(b, f.Offset)
	b = order.AppendUint64(b, f.Size)
	b = order.AppendUint32(b, f.Index)
	b = order.AppendUint32(b, uint32(f.Type))
	b = order.AppendUint32(b, f.Flags)
	b = order.AppendUint32(b, f.Pad)
	return order.AppendUint64(b, f.Data)
}

// String prints the entry for logs.
func (f IOFD) String() string {
	return fmt.Sprintf("offset %#x size %d fd %d %v flags %#x data %#x", f.Offset, f.Size, f.Index, f.Type, f.Flags, f.Data)
}
