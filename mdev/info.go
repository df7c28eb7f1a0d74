package mdev

import "os"

// API names the kind of a device, as mdev's sysfs attribute device_api does.
type API string

// The device APIs.
const (
	APIPCI      API = "vfio-pci"
	APICCW      API = "vfio-ccw"
	APIPlatform API = "vfio-platform"
)

// Region indices of a PCI device.
const (
	BAR0 = iota
	BAR1
	BAR2
	BAR3
	BAR4
	BAR5
	ROM
	Config
	VGA
	NumPCIRegions // how many a PCI device has, at least
)

// Interrupt indices of a PCI device.
const (
	IRQINTx = iota
	IRQMSI
	IRQMSIX
	IRQERR
	IRQREQ
	NumPCIIRQs // how many a PCI device has
)

// Info describes a device. It is constant for the device's life, and checked
// when the device is opened.
type Info struct {
	API       API
	Reset     bool // DEVICE_RESET is supported
	Regions   []RegionInfo
	IRQs      []IRQInfo
	Migration MigrationFlags
}

// RegionFlags are VFIO_REGION_INFO_FLAG_*; the CAPS bit is the front end's.
type RegionFlags uint32

// The region flags.
const (
	RegionRead  RegionFlags = 1 << iota // may be read
	RegionWrite                         // may be written
	RegionMmap                          // may be mapped, in whole or in Areas
)

// RegionInfo describes a region. A region of size 0 is absent.
type RegionInfo struct {
	Name  string
	Size  uint64 // bytes
	Flags RegionFlags

	// Areas are the parts that may be mapped; with RegionMmap and no areas
	// the whole region may.
	Areas []Area
	// Memory is the file behind the areas, needed with RegionMmap. It
	// belongs to the device and lives as long as it. Byte x of the region is
	// byte MemoryOffset+x of the file; MemoryOffset is a multiple of the
	// page size. Clients store to it without the device being told.
	Memory       *os.File
	MemoryOffset uint64

	// Type is set for device-specific regions, which follow the fixed ones.
	Type *RegionType
	// IOEvents are places where a VMM may signal an eventfd instead of
	// writing.
	IOEvents []IOEvent
}

// RegionType is VFIO_REGION_INFO_CAP_TYPE.
type RegionType struct{ Type, Subtype uint32 }

// Area is a part of a region that may be mapped. Both fields are multiples of
// the page size.
type Area struct{ Offset, Size uint64 }

// IOEvent is a write that a VMM may replace with the signal of an eventfd:
// what KVM calls an ioeventfd, a doorbell.
type IOEvent struct {
	Offset uint64
	Size   uint32 // width of the write: 1, 2, 4, 8
	// Match is the only value of the write that may be replaced; nil means
	// any, and the device then sees a write of zero.
	Match *uint64
}

// IRQFlags are VFIO_IRQ_INFO_*.
type IRQFlags uint32

// The interrupt flags.
const (
	IRQEventFD    IRQFlags = 1 << iota // signalled through eventfds
	IRQMaskable                        // mask and unmask are supported
	IRQAutoMasked                      // masks itself when it is signalled; needs IRQMaskable
	IRQNoResize                        // the set of enabled vectors cannot grow
)

// IRQInfo describes an interrupt index and its vectors.
type IRQInfo struct {
	Name  string
	Count uint32 // vectors; 0 means that the index is absent
	Flags IRQFlags
}
