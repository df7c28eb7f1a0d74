package wire

import "fmt"

// DeviceFlags are the flags of DEVICE_GET_INFO: VFIO_DEVICE_FLAGS_*.
//
// Spec: Linux include/uapi/linux/vfio.h, struct vfio_device_info. vfio-user.rst
// defines bits 0 and 1; the others say what else a device may be.
type DeviceFlags uint32

const (
	DeviceReset    DeviceFlags = 1 << 0
	DevicePCI      DeviceFlags = 1 << 1
	DevicePlatform DeviceFlags = 1 << 2
	DeviceAMBA     DeviceFlags = 1 << 3
	DeviceCCW      DeviceFlags = 1 << 4
	DeviceAP       DeviceFlags = 1 << 5
	DeviceFSLMC    DeviceFlags = 1 << 6
	DeviceCaps     DeviceFlags = 1 << 7
	DeviceCDX      DeviceFlags = 1 << 8
)

var deviceFlagNames = bitNames{
	{1, "RESET"}, {2, "PCI"}, {4, "PLATFORM"}, {8, "AMBA"}, {0x10, "CCW"},
	{0x20, "AP"}, {0x40, "FSL_MC"}, {0x80, "CAPS"}, {0x100, "CDX"},
}

// String prints the flags by name, none as 0.
func (f DeviceFlags) String() string { return deviceFlagNames.text(uint64(f)) }

// DeviceInfoLen is the length of the payload of DEVICE_GET_INFO.
const DeviceInfoLen = 16

// DeviceInfo is the payload of DEVICE_GET_INFO, request (Argsz alone) and
// reply.
//
//	byte  0       4       8         12     16
//	      | Argsz | Flags | Regions | IRQs |
type DeviceInfo struct {
	Argsz   uint32
	Flags   DeviceFlags
	Regions uint32
	IRQs    uint32
}

// DecodeDeviceInfo decodes the payload of DEVICE_GET_INFO.
func DecodeDeviceInfo(b *[DeviceInfoLen]byte) DeviceInfo {
	return DeviceInfo{order.Uint32(b[0:]), DeviceFlags(order.Uint32(b[4:])), order.Uint32(b[8:]), order.Uint32(b[12:])}
}

// Append appends the encoding of d.
func (d DeviceInfo) Append(b []byte) []byte {
	b = order.AppendUint32(b, d.Argsz)
	b = order.AppendUint32(b, uint32(d.Flags))
	b = order.AppendUint32(b, d.Regions)
	return order.AppendUint32(b, d.IRQs)
}

// String prints the message for logs.
func (d DeviceInfo) String() string {
	return fmt.Sprintf("argsz %d flags %v regions %d irqs %d", d.Argsz, d.Flags, d.Regions, d.IRQs)
}

// RegionFlags are the flags of DEVICE_GET_REGION_INFO: VFIO_REGION_INFO_FLAG_*.
type RegionFlags uint32

const (
	RegionRead  RegionFlags = 1 << 0
	RegionWrite RegionFlags = 1 << 1
	RegionMmap  RegionFlags = 1 << 2
	RegionCaps  RegionFlags = 1 << 3
)

var regionFlagNames = bitNames{{1, "READ"}, {2, "WRITE"}, {4, "MMAP"}, {8, "CAPS"}}

// String prints the flags by name, none as 0.
func (f RegionFlags) String() string { return regionFlagNames.text(uint64(f)) }

// RegionInfoLen is the length of the fixed part of DEVICE_GET_REGION_INFO.
const RegionInfoLen = 32

// RegionInfo is the payload of DEVICE_GET_REGION_INFO: the request has Argsz
// and Index, the reply all, and capabilities behind it.
//
//	byte  0       4       8       12          16     24       32
//	      | Argsz | Flags | Index | CapOffset | Size | Offset | caps ...
type RegionInfo struct {
	Argsz     uint32 // request: room for the payload of the reply; reply: what it needs
	Flags     RegionFlags
	Index     uint32
	CapOffset uint32 // of the first capability, from the start of the payload; 0: none
	Size      uint64
	Offset    uint64 // of the region in the file that comes with the reply
}

// DecodeRegionInfo decodes the fixed part of DEVICE_GET_REGION_INFO.
func DecodeRegionInfo(b *[RegionInfoLen]byte) RegionInfo {
	return RegionInfo{
		order.Uint32(b[0:]), RegionFlags(order.Uint32(b[4:])), order.Uint32(b[8:]),
		order.Uint32(b[12:]), order.Uint64(b[16:]), order.Uint64(b[24:]),
	}
}

// Append appends the encoding of r.
func (r RegionInfo) Append(b []byte) []byte {
	b = order.AppendUint32(b, r.Argsz)
	b = order.AppendUint32(b, uint32(r.Flags))
	b = order.AppendUint32(b, r.Index)
	b = order.AppendUint32(b, r.CapOffset)
	b = order.AppendUint64(b, r.Size)
	return order.AppendUint64(b, r.Offset)
}

// String prints the message for logs.
func (r RegionInfo) String() string {
	return fmt.Sprintf("argsz %d flags %v index %d caps at %d size %#x offset %#x",
		r.Argsz, r.Flags, r.Index, r.CapOffset, r.Size, r.Offset)
}

// IRQFlags are the flags of DEVICE_GET_IRQ_INFO: VFIO_IRQ_INFO_*.
type IRQFlags uint32

const (
	IRQEventFD    IRQFlags = 1 << 0
	IRQMaskable   IRQFlags = 1 << 1
	IRQAutoMasked IRQFlags = 1 << 2
	IRQNoResize   IRQFlags = 1 << 3
)

var irqFlagNames = bitNames{{1, "EVENTFD"}, {2, "MASKABLE"}, {4, "AUTOMASKED"}, {8, "NORESIZE"}}

// String prints the flags by name, none as 0.
func (f IRQFlags) String() string { return irqFlagNames.text(uint64(f)) }

// IRQInfoLen is the length of the payload of DEVICE_GET_IRQ_INFO.
const IRQInfoLen = 16

// IRQInfo is the payload of DEVICE_GET_IRQ_INFO: the request has Argsz and
// Index, the reply all.
//
//	byte  0       4       8       12      16
//	      | Argsz | Flags | Index | Count |
type IRQInfo struct {
	Argsz uint32
	Flags IRQFlags
	Index uint32
	Count uint32
}

// DecodeIRQInfo decodes the payload of DEVICE_GET_IRQ_INFO.
func DecodeIRQInfo(b *[IRQInfoLen]byte) IRQInfo {
	return IRQInfo{order.Uint32(b[0:]), IRQFlags(order.Uint32(b[4:])), order.Uint32(b[8:]), order.Uint32(b[12:])}
}

// Append appends the encoding of i.
func (i IRQInfo) Append(b []byte) []byte {
	b = order.AppendUint32(b, i.Argsz)
	b = order.AppendUint32(b, uint32(i.Flags))
	b = order.AppendUint32(b, i.Index)
	return order.AppendUint32(b, i.Count)
}

// String prints the message for logs.
func (i IRQInfo) String() string {
	return fmt.Sprintf("argsz %d flags %v index %d count %d", i.Argsz, i.Flags, i.Index, i.Count)
}

// SetFlags are the flags of DEVICE_SET_IRQS: VFIO_IRQ_SET_*. Exactly one of
// the data types and one of the actions is to be set.
type SetFlags uint32

const (
	SetDataNone      SetFlags = 1 << 0
	SetDataBool      SetFlags = 1 << 1
	SetDataEventFD   SetFlags = 1 << 2
	SetActionMask    SetFlags = 1 << 3
	SetActionUnmask  SetFlags = 1 << 4
	SetActionTrigger SetFlags = 1 << 5
)

var setFlagNames = bitNames{
	{1, "NONE"}, {2, "BOOL"}, {4, "EVENTFD"}, {8, "MASK"}, {0x10, "UNMASK"}, {0x20, "TRIGGER"},
}

// String prints the flags by name, none as 0.
func (f SetFlags) String() string { return setFlagNames.text(uint64(f)) }

// SetIRQsLen is the length of the fixed part of a DEVICE_SET_IRQS request. The
// reply has no payload.
const SetIRQsLen = 20

// SetIRQs is the fixed part of a DEVICE_SET_IRQS request. With SetDataBool,
// Count bytes follow; eventfds travel beside the message.
//
//	byte  0       4       8       12      16      20
//	      | Argsz | Flags | Index | Start | Count | bools ...
type SetIRQs struct {
	Argsz uint32
	Flags SetFlags
	Index uint32
	Start uint32
	Count uint32
}

// DecodeSetIRQs decodes the fixed part of a DEVICE_SET_IRQS request.
func DecodeSetIRQs(b *[SetIRQsLen]byte) SetIRQs {
	return SetIRQs{
		order.Uint32(b[0:]), SetFlags(order.Uint32(b[4:])), order.Uint32(b[8:]),
		order.Uint32(b[12:]), order.Uint32(b[16:]),
	}
}

// Append appends the encoding of s.
func (s SetIRQs) Append(b []byte) []byte {
	b = order.AppendUint32(b, s.Argsz)
	b = order.AppendUint32(b, uint32(s.Flags))
	b = order.AppendUint32(b, s.Index)
	b = order.AppendUint32(b, s.Start)
	return order.AppendUint32(b, s.Count)
}

// String prints the request for logs.
func (s SetIRQs) String() string {
	return fmt.Sprintf("argsz %d flags %v index %d start %d count %d", s.Argsz, s.Flags, s.Index, s.Start, s.Count)
}

// Capabilities of a region: VFIO_REGION_INFO_CAP_*.
const (
	CapSparseMmap = 1
	CapType       = 2
)

// CapHeaderLen is the length of a CapHeader.
const CapHeaderLen = 8

// CapHeader begins a capability.
//
//	byte  0    2         4      8
//	      | ID | Version | Next | ...
type CapHeader struct {
	ID      uint16
	Version uint16
	Next    uint32 // offset of the next one from the start of the payload; 0: last
}

// DecodeCapHeader decodes the header of a capability.
func DecodeCapHeader(b *[CapHeaderLen]byte) CapHeader {
	return CapHeader{order.Uint16(b[0:]), order.Uint16(b[2:]), order.Uint32(b[4:])}
}

// Append appends the encoding of h.
func (h CapHeader) Append(b []byte) []byte {
	b = order.AppendUint16(b, h.ID)
	b = order.AppendUint16(b, h.Version)
	return order.AppendUint32(b, h.Next)
}

// SparseLen and SparseAreaLen are the lengths of what follows the header of a
// sparse mmap capability: a number with padding, then so many areas.
const (
	SparseLen     = 8
	SparseAreaLen = 16
)

// SparseArea is a part of a region that may be mapped. Byte 0 of the area is
// byte RegionInfo.Offset + Offset of the file.
type SparseArea struct{ Offset, Size uint64 }

// DecodeSparseArea decodes an area.
func DecodeSparseArea(b *[SparseAreaLen]byte) SparseArea {
	return SparseArea{order.Uint64(b[0:]), order.Uint64(b[8:])}
}

// DecodeSparseCount decodes the number of areas.
func DecodeSparseCount(b *[SparseLen]byte) uint32 { return order.Uint32(b[:]) }

// RegionTypeLen is the length of a RegionType.
const RegionTypeLen = 8

// RegionType is what follows the header of a type capability.
type RegionType struct{ Type, Subtype uint32 }

// DecodeRegionType decodes a RegionType.
func DecodeRegionType(b *[RegionTypeLen]byte) RegionType {
	return RegionType{order.Uint32(b[0:]), order.Uint32(b[4:])}
}

// AppendRegionCaps appends the capabilities that follow a RegionInfo: areas if
// there are any, and a type if there is one.
func AppendRegionCaps(b []byte, areas []SparseArea, typ *RegionType) []byte {
	if len(areas) > 0 {
		h := CapHeader{ID: CapSparseMmap, Version: 1}
		if typ != nil {
			h.Next = uint32(RegionInfoLen + CapHeaderLen + SparseLen + len(areas)*SparseAreaLen)
		}
		b = h.Append(b)
		b = order.AppendUint32(b, uint32(len(areas)))
		b = order.AppendUint32(b, 0)
		for _, a := range areas {
			b = order.AppendUint64(b, a.Offset)
			b = order.AppendUint64(b, a.Size)
		}
	}
	if typ != nil {
		b = CapHeader{ID: CapType, Version: 1}.Append(b)
		b = order.AppendUint32(b, typ.Type)
		b = order.AppendUint32(b, typ.Subtype)
	}
	return b
}
