package dasd

import (
	"encoding/binary"
	"fmt"
)

// Identity is what the volume tells about itself. All of it follows from the
// image and the device number; it never changes.
type identity struct {
	id              [24]byte  // Sense ID
	characteristics [64]byte  // Read Device Characteristics
	config          [256]byte // Read Configuration Data
	subsystem       [40]byte  // Sense Subsystem Status
	ssid            uint16
	unit            uint8
}

// The control unit.
const (
	cuType     = 0x2107
	cuModel    = 0xE8
	deviceType = 0x3390
)

// words of command information that Sense ID ends with: which commands read
// the configuration, set the interface identifier, and so on.
//
// Specification: SA22-7204, "Sense ID".
//
//	0   type of word, 0x40
//	1   command
//	2   count
var commandWords = [...]uint32{
	0x40FA0100, // read configuration data, 256 bytes
	0x41270004, // set interface identifier, by function
	0x423E01A0, // read node identifier
	0x433E0008,
}

// subsystemDevices is how many devices share a subsystem identifier.
const subsystemDevices = 32

func newIdentity(g Geometry, serial [12]byte, devno uint16) identity {
	m := ModelOf(g)
	id := identity{unit: uint8(devno), ssid: devno &^ (subsystemDevices - 1)}

	b := id.id[:]
	b[0] = 0xFF
	binary.BigEndian.PutUint16(b[1:], cuType)
	b[3] = cuModel
	binary.BigEndian.PutUint16(b[4:], deviceType)
	b[6] = m.Model
	for i, w := range commandWords {
		binary.BigEndian.PutUint32(b[8+4*i:], w)
	}

	id.putCharacteristics(g, m)
	id.putConfig(m, serial, devno)

	id.subsystem[1] = id.unit
	id.subsystem[2] = subsystemDevices - 1
	binary.BigEndian.PutUint16(id.subsystem[38:], id.ssid)
	return id
}

// putCharacteristics fills what Read Device Characteristics gives.
//
// Specification: GA32-0274, "Read Device Characteristics".
//
//	0   control unit type    2   its model       3   device type
//	5   its model            6   facilities      10  class
//	11  type code            12  cylinders, FFFE: look at 60
//	14  heads                16  sectors         17  bytes per track
//	20  bytes of home address and record zero
//	22  capacity formula and its factors
//	28  first alternate      30  alternates      40  MDR, OBR
//	42  control unit code    43  longest trackset parameter
//	44  largest record zero  47  trackset        48  factors
//	54  functions            57  real device     60  cylinders, 32 bits
func (id *identity) putCharacteristics(g Geometry, m Model) {
	b := id.characteristics[:]
	primary, alternates := g.Cylinders, uint32(0)
	if primary > m.Cylinders {
		primary, alternates = m.Cylinders, g.Cylinders-m.Cylinders
	}
	binary.BigEndian.PutUint16(b[0:], cuType)
	b[2] = cuModel
	binary.BigEndian.PutUint16(b[3:], deviceType)
	b[5] = m.Model
	binary.BigEndian.PutUint32(b[6:], 0x528010B7)
	b[10], b[11] = 0x20, m.Type
	if primary > 65520 {
		binary.BigEndian.PutUint16(b[12:], compatCylinders)
	} else {
		binary.BigEndian.PutUint16(b[12:], uint16(primary))
	}
	binary.BigEndian.PutUint16(b[14:], Heads)
	b[16] = Sectors
	binary.BigEndian.PutUint16(b[18:], TrackBytes)
	binary.BigEndian.PutUint16(b[20:], 1428)
	copy(b[22:], []byte{2, 34, 19, 9, 6, 116})
	if alternates > 0 {
		binary.BigEndian.PutUint16(b[28:], uint16(primary))
		binary.BigEndian.PutUint16(b[30:], uint16(alternates*Heads))
	}
	b[40], b[41] = m.Type, m.Type
	b[42], b[43] = 0x1F, 0x02
	binary.BigEndian.PutUint16(b[44:], MaxR0)
	b[47] = 0x01
	b[48] = 6
	binary.BigEndian.PutUint16(b[49:], 0x7708)
	b[54] = 0x48
	b[57] = 0xFF // an array stands behind the device: no alternate tracks
	binary.BigEndian.PutUint32(b[60:], primary)
}

// putConfig fills what Read Configuration Data gives: descriptors of 32 bytes,
// first those of the nodes from the device to the subsystem, last a qualifier.
//
// Specification: SA22-7204, "Node Descriptor".
//
//	0   flags           1   type            2   class     3   relative path
//	4   type number     10  model           13  manufacturer
//	16  plant           18  serial, 12      30  tag
func (id *identity) putConfig(m Model, serial [12]byte, devno uint16) {
	for i, c := range serial {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if !alphanumeric(c) {
			c = '0'
		}
		serial[i] = c
	}
	device := fmt.Sprintf("  %04X0%02X", deviceType, m.Model)
	control := fmt.Sprintf("  %04X", cuType)
	b := id.config[:]
	putNode(b[0:], 0xDC010100, "00"+device[2:], string(serial[:]), devno)
	putNode(b[32:], 0xD4020000, device, "000000000003", 0)
	putNode(b[64:], 0xD0000000, control+fmt.Sprintf("0%02X", cuModel), "000000000002", devno>>8)
	putNode(b[96:], 0xF0000001, control+"   ", "000000000001", 0)

	q := b[224:]
	path := uint8(devno / subsystemDevices & 7)
	q[0] = 0x80 // general qualifier
	q[3] = path
	q[6] = 0x1E // seconds until an interrupt is missed
	binary.BigEndian.PutUint16(q[8:], id.ssid)
	q[10] = 0x80
	q[11], q[12], q[13] = id.unit, id.unit, id.unit
	q[14] = path
	q[17], q[18] = 0x80, 0x80
	q[19] = id.unit
}

func putNode(b []byte, head uint32, typ, serial string, tag uint16) {
	binary.BigEndian.PutUint32(b, head)
	toEBCDIC(b[4:30], typ+"HRCZZ"+serial)
	binary.BigEndian.PutUint16(b[30:], tag)
}

// toEBCDIC writes digits, capitals and blanks of s.
func toEBCDIC(b []byte, s string) {
	for i := range b {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			b[i] = 0xF0 + c - '0'
		case c >= 'A' && c <= 'I':
			b[i] = 0xC1 + c - 'A'
		case c >= 'J' && c <= 'R':
			b[i] = 0xD1 + c - 'J'
		case c >= 'S' && c <= 'Z':
			b[i] = 0xE2 + c - 'S'
		default:
			b[i] = 0x40
		}
	}
}
