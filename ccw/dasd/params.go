package dasd

import "encoding/binary"

// The parameters of the commands that say where and what. Every layout decodes
// all patterns and keeps reserved bits; the commands decide what they accept.

// FileMask is the file mask of Define Extent, byte 0, and of Set File Mask.
//
// Specification: GA32-0274, "Set File Mask".
//
//	bits 0-1  write control    3-4  seek control    5-6  authorization
//	     2    reserved         7    PCI fetch mode
type FileMask uint8

// The fields of a file mask and their values.
const (
	MaskWrite         FileMask = 0xC0
	MaskWriteNoHA     FileMask = 0x00 // all but home address and record zero
	MaskWriteNone     FileMask = 0x40
	MaskWriteUpdate   FileMask = 0x80 // no count field may be written
	MaskWriteAll      FileMask = 0xC0
	MaskReserved      FileMask = 0x20
	MaskSeek          FileMask = 0x18
	MaskSeekAll       FileMask = 0x00
	MaskSeekCylinder  FileMask = 0x08 // Seek Cylinder and Seek Head
	MaskSeekHead      FileMask = 0x10 // Seek Head only
	MaskSeekNone      FileMask = 0x18 // neither, nor multitrack
	MaskAuthorization FileMask = 0x06
	MaskAuthDiagnose  FileMask = 0x04
	MaskAuthSupport   FileMask = 0x02 // device support functions
)

// Operation is the operation byte of a locate record command.
//
// Specification: GA32-0274, "Locate Record".
//
//	bits 0-1  orientation    2-7  operation code
type Operation uint8

// The orientations: after what the next command begins.
const (
	OrientCount Operation = 0x00
	OrientHome  Operation = 0x40
	OrientData  Operation = 0x80
	OrientIndex Operation = 0xC0
)

// The operation codes; those from OpExtended's parameter are in one space with
// the plain ones.
const (
	OpOrient         Operation = 0x00
	OpWriteData      Operation = 0x01
	OpFormat         Operation = 0x03
	OpReadData       Operation = 0x06
	OpWriteAny       Operation = 0x09 // extended
	OpReadAny        Operation = 0x0A // extended
	OpWriteTrack     Operation = 0x0B
	OpReadTracks     Operation = 0x0C
	OpReadTrackset   Operation = 0x0E // extended
	OpWriteFullTrack Operation = 0x11 // extended
	OpRead           Operation = 0x16
	OpWriteTrackData Operation = 0x23 // extended
	OpExtended       Operation = 0x3F // byte 17 has the operation
)

// Code is the operation without the orientation.
func (o Operation) Code() Operation { return o & 0x3F }

// Orientation is the orientation alone.
func (o Operation) Orientation() Operation { return o & 0xC0 }

// ops is a set of operation codes.
type ops uint64

func opSet(codes ...Operation) (s ops) {
	for _, c := range codes {
		s |= 1 << c
	}
	return s
}

func (s ops) has(o Operation) bool { return s>>o.Code()&1 != 0 }

// writeOps are the operations that change the volume.
var writeOps = opSet(OpWriteData, OpFormat, OpWriteAny, OpWriteTrack, OpWriteFullTrack, OpWriteTrackData)

// The auxiliary byte of a locate record command. Locate Record has the first
// and the last only.
const (
	auxLengthValid = 0x80 // the transfer length factor counts
	auxCheckBytes  = 0x18 // for transport mode; no meaning here
	auxReadCount   = 0x01 // a Read Count ends the domain
)

// ExtentSize is the size of [Extent] in storage; its commands take
// [ExtentLong] where the extended parameter comes along.
const (
	ExtentSize = 16
	ExtentLong = 32
)

// Extent are the parameters of Define Extent.
//
// Specification: GA32-0274, "Define Extent".
//
//	0   file mask
//	1   global attributes: mode, CKD conversion, caching
//	2   block size, 0 for none
//	4   fast-write identifier
//	6   additional attributes
//	7   extended attributes
//	8   first CCHH
//	12  last CCHH
type Extent struct {
	Mask       FileMask
	Attributes uint8
	BlockSize  uint16
	Fast       uint16
	Additional uint8
	Extended   uint8
	First      uint32
	Last       uint32
}

// Global attributes of Define Extent.
const (
	attrMode    = 0xC0 // both on: extended CKD
	attrConvert = 0x20 // CKD conversion: lengths are not checked
)

// DecodeExtent reads e.
func DecodeExtent(b *[ExtentSize]byte) Extent {
	return Extent{
		Mask: FileMask(b[0]), Attributes: b[1],
		BlockSize: binary.BigEndian.Uint16(b[2:]), Fast: binary.BigEndian.Uint16(b[4:]),
		Additional: b[6], Extended: b[7],
		First: binary.BigEndian.Uint32(b[8:]), Last: binary.BigEndian.Uint32(b[12:]),
	}
}

// Encode writes e.
func (e *Extent) Encode(b *[ExtentSize]byte) {
	b[0], b[1] = uint8(e.Mask), e.Attributes
	binary.BigEndian.PutUint16(b[2:], e.BlockSize)
	binary.BigEndian.PutUint16(b[4:], e.Fast)
	b[6], b[7] = e.Additional, e.Extended
	binary.BigEndian.PutUint32(b[8:], e.First)
	binary.BigEndian.PutUint32(b[12:], e.Last)
}

// LocateSize and LocateExtendedSize are the sizes of [Locate] in storage; the
// extended parameter follows the latter.
const (
	LocateSize         = 16
	LocateExtendedSize = 20
)

// Locate are the parameters of Locate Record (the first 16 bytes) and of
// Locate Record Extended.
//
// Specification: GA32-0274, "Locate Record", "Locate Record Extended".
//
//	0   operation
//	1   auxiliary
//	2   zero
//	3   count of commands, records or tracks
//	4   seek CCHH
//	8   search CCHHR
//	13  sector, FF for none
//	14  transfer length factor
//	16  zero
//	17  extended operation
//	18  extended parameter length
type Locate struct {
	Operation Operation
	Auxiliary uint8
	Embedded  uint8
	Count     uint8
	Seek      uint32
	Search    [5]byte
	Sector    uint8
	Length    uint16
	Byte16    uint8
	Extended  Operation
	ParamSize uint16
}

// DecodeLocate reads Locate Record parameters.
func DecodeLocate(b *[LocateSize]byte) Locate {
	return Locate{
		Operation: Operation(b[0]), Auxiliary: b[1], Embedded: b[2], Count: b[3],
		Seek: binary.BigEndian.Uint32(b[4:]), Search: [5]byte(b[8:13]),
		Sector: b[13], Length: binary.BigEndian.Uint16(b[14:]),
	}
}

// DecodeLocateExtended reads Locate Record Extended parameters.
func DecodeLocateExtended(b *[LocateExtendedSize]byte) Locate {
	l := DecodeLocate((*[LocateSize]byte)(b[:]))
	l.Byte16 = b[16]
	l.Extended = Operation(b[17])
	l.ParamSize = binary.BigEndian.Uint16(b[18:])
	return l
}

// Encode writes l as Locate Record Extended; its first 16 bytes are a Locate
// Record.
func (l *Locate) Encode(b *[LocateExtendedSize]byte) {
	b[0], b[1], b[2], b[3] = uint8(l.Operation), l.Auxiliary, l.Embedded, l.Count
	binary.BigEndian.PutUint32(b[4:], l.Seek)
	copy(b[8:], l.Search[:])
	b[13] = l.Sector
	binary.BigEndian.PutUint16(b[14:], l.Length)
	b[16], b[17] = l.Byte16, uint8(l.Extended)
	binary.BigEndian.PutUint16(b[18:], l.ParamSize)
}

// Sizes and offsets of Prefix in storage.
const (
	PrefixSize     = 64
	prefixExtentAt = 12
	prefixLocateAt = prefixExtentAt + ExtentLong
	prefixOrderAt  = 62 // format 2: the subsystem function
	maxParams      = 32 // extended parameters that are taken
)

// Prefix is the head of the parameters of Prefix, before the extent.
//
// Specification: SA22-1025, IBM Subsystem Reference Guide, "Prefix".
//
//	0   format: 0 extent, 1 extent and locate, 2 extent and function
//	1   validity: extent 0x80, time stamp 0x40, verify base 0x20
//	2   base address
//	3   auxiliary
//	4   base subsystem
//	12  extent, 32 bytes
//	44  locate record extended, 20 bytes and more
type Prefix struct {
	Format    uint8
	Validity  uint8
	Base      uint8
	Auxiliary uint8
	Subsystem uint8
	Reserved  [7]byte
}

// The bits of a prefix.
const (
	prefixExtentValid = 0x80
	prefixChecked     = 0x08 // auxiliary: the sender vouches for the parameters
)

// DecodePrefix reads p.
func DecodePrefix(b *[prefixExtentAt]byte) Prefix {
	return Prefix{b[0], b[1], b[2], b[3], b[4], [7]byte(b[5:])}
}

// Encode writes p.
func (p *Prefix) Encode(b *[prefixExtentAt]byte) {
	b[0], b[1], b[2], b[3], b[4] = p.Format, p.Validity, p.Base, p.Auxiliary, p.Subsystem
	copy(b[5:], p.Reserved[:])
}

// OrderSize is the size of [Order] in storage, for the order that prepares to
// read subsystem data.
const OrderSize = 12

// Order are the parameters of Perform Subsystem Function.
//
//	0   order
//	1   flags
//	2   volume or device of some suborders
//	6   suborder
//	7   modifier
//	8   parameter of some suborders
type Order struct {
	Order    uint8
	Flags    uint8
	Device   uint32
	Suborder uint8
	Modifier uint8
	Param    uint32
}

// DecodeOrder reads o.
func DecodeOrder(b *[OrderSize]byte) Order {
	return Order{
		Order: b[0], Flags: b[1], Device: binary.BigEndian.Uint32(b[2:]),
		Suborder: b[6], Modifier: b[7], Param: binary.BigEndian.Uint32(b[8:]),
	}
}

// Encode writes o.
func (o *Order) Encode(b *[OrderSize]byte) {
	b[0], b[1] = o.Order, o.Flags
	binary.BigEndian.PutUint32(b[2:], o.Device)
	b[6], b[7] = o.Suborder, o.Modifier
	binary.BigEndian.PutUint32(b[8:], o.Param)
}
