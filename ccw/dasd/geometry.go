package dasd

import "fmt"

// The geometry of a 3390.
//
// Specification: GC26-4574, "Device Characteristics".
const (
	Heads        = 15     // tracks in a cylinder
	Sectors      = 224    // angular positions that can be set
	TrackBytes   = 58786  // what Read Device Characteristics calls bytes per track
	MaxRecord    = 56664  // largest data field of a lone record
	MaxR0        = 57326  // largest record zero
	MaxCylinders = 262668 // 3390-A, the largest volume
)

// trackCells is the capacity of a track in cells of 34 bytes, after home
// address and a standard record zero.
const trackCells = 1729

// compatCylinders is the number in the 16-bit cylinder count of a volume that
// has more: the reader must look at the 32-bit one.
const compatCylinders = 0xFFFE

// Geometry is the shape of a volume: its cylinders. All else is fixed.
type Geometry struct {
	Cylinders uint32
}

// Tracks is the number of tracks.
func (g Geometry) Tracks() uint32 { return g.Cylinders * Heads }

// Contains reports whether the volume has track a.
func (g Geometry) Contains(a Address) bool { return a.Cylinder < g.Cylinders && a.Head < Heads }

// Validate reports a number of cylinders that no 3390 has.
func (g Geometry) Validate() error {
	if g.Cylinders == 0 || g.Cylinders > MaxCylinders {
		return fmt.Errorf("%d cylinders: a 3390 has 1 to %d", g.Cylinders, MaxCylinders)
	}
	return nil
}

// Model is what a control unit tells about a volume of some size.
type Model struct {
	Name       string
	Cylinders  uint32 // primary cylinders
	Alternates uint32 // alternate cylinders behind them
	Model      uint8  // device model of Sense ID
	Type       uint8  // device type code of Read Device Characteristics
}

// models in ascending order. A volume is the smallest model it fits.
var models = [...]Model{
	{"3390-1", 1113, 1, 0x02, 0x26},
	{"3390-2", 2226, 1, 0x06, 0x27},
	{"3390-3", 3339, 1, 0x0A, 0x24},
	{"3390-9", 10017, 3, 0x0C, 0x32},
	{"3390-27", 32760, 3, 0x0C, 0x32},
	{"3390-54", 65520, 3, 0x0C, 0x32},
	{"3390-A", MaxCylinders, 0, 0x0C, 0x32},
}

// ModelOf is the model of a volume of g. A small volume, made for a test, is a
// 3390-1 with fewer cylinders.
func ModelOf(g Geometry) Model {
	for _, m := range models {
		if g.Cylinders <= m.Cylinders+m.Alternates {
			return m
		}
	}
	return models[len(models)-1]
}

// Address names a track.
type Address struct {
	Cylinder uint32
	Head     uint16
}

// DecodeAddress reads CCHH. The cylinder's upper 12 bits stand in the head's
// halfword, above its four bits, which a volume below 65,536 cylinders leaves
// zero.
//
//	0                16           28   31
//	cylinder, low 16 cylinder, high  head
func DecodeAddress(cchh uint32) Address {
	return Address{
		Cylinder: cchh>>16 | cchh<<12&0x0FFF0000,
		Head:     uint16(cchh & 0x0F),
	}
}

// Encode is the CCHH of a.
func (a Address) Encode() uint32 {
	return a.Cylinder<<16 | a.Cylinder>>16<<4&0xFFF0 | uint32(a.Head&0x0F)
}

// Track is the number of track a on the volume, from 0.
func (a Address) Track() uint32 { return a.Cylinder*Heads + uint32(a.Head) }

// AddressOf is the address of the given track.
func AddressOf(track uint32) Address {
	return Address{Cylinder: track / Heads, Head: uint16(track % Heads)}
}

// String prints cylinder and head in decimal.
func (a Address) String() string { return fmt.Sprintf("cylinder %d head %d", a.Cylinder, a.Head) }

// Cells is the space that a record takes on a track, in cells, for a key and
// data of the given bytes.
//
// Specification: GC26-4574, "Track Capacity".
func Cells(key, data int) int {
	n := 10 + fieldCells(data)
	if key > 0 {
		n += fieldCells(key)
	}
	return n
}

func fieldCells(n int) int {
	check := (n+6+231)/232 + 1
	return 9 + (n+6*check+33)/34
}

// RecordsPerTrack is how many equal records fit a track.
func RecordsPerTrack(key, data int) int { return trackCells / Cells(key, data) }
