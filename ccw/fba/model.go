package fba

import "encoding/binary"

// Model says what a drive tells about itself. The block counts of the real
// drives are in [Models]; a volume may have any number of blocks.
type Model struct {
	Name      string
	ControlU  uint16 // control-unit type
	ControlM  uint8  // control-unit model
	Device    uint16 // device type
	DeviceM   uint8  // device model
	Class     uint8  // device class of the characteristics
	Unit      uint8  // unit type of the characteristics
	Group     uint32 // blocks per cyclical group (a track)
	Position  uint32 // blocks per access position (a cylinder)
	MaxBlocks uint32 // blocks of the real drive
}

// Models are the drives of the 3370 family, smallest first.
var Models = [...]Model{
	{"3370-1", 0x3880, 1, 0x3370, 0, 0x21, 0x02, 62, 744, 558_000},
	{"3370-2", 0x3880, 1, 0x3370, 4, 0x21, 0x05, 62, 744, 712_752},
}

// modelFor is the smallest drive that holds n blocks, the largest one if none
// does.
func modelFor(n uint32) Model {
	for _, m := range Models {
		if n <= m.MaxBlocks {
			return m
		}
	}
	return Models[len(Models)-1]
}

// SenseIDSize, CharacteristicsSize and SenseSize are the bytes that the
// commands of these names offer.
const (
	SenseIDSize         = 7
	CharacteristicsSize = 32
	SenseSize           = 24
)

// senseID is the answer to SENSE ID:
//
//	byte 0   1  2    3     4  5    6
//	     FF  CU type CU    device  device
//	                 model type    model
func (m *Model) senseID() (b [SenseIDSize]byte) {
	b[0] = 0xff
	binary.BigEndian.PutUint16(b[1:], m.ControlU)
	b[3] = m.ControlM
	binary.BigEndian.PutUint16(b[4:], m.Device)
	b[6] = m.DeviceM
	return b
}

// characteristics is the answer to READ DEVICE CHARACTERISTICS; Linux reads
// it as struct dasd_fba_characteristics.
//
//	byte 0 operation modes   1 features     2 class         3 unit type
//	     4 block size (2)    6 blocks per cyclical group (4)
//	    10 blocks per access position (4)  14 blocks under movable heads (4)
//	    18 blocks under fixed heads (4), spare areas, times: zero, as recorded
func (m *Model) characteristics(blocks uint32) (b [CharacteristicsSize]byte) {
	b[0] = 0x30 // burst mode, data chaining
	b[1] = 0x08 // movable access mechanism
	b[2] = m.Class
	b[3] = m.Unit
	binary.BigEndian.PutUint16(b[4:], BlockSize)
	binary.BigEndian.PutUint32(b[6:], m.Group)
	binary.BigEndian.PutUint32(b[10:], m.Position)
	binary.BigEndian.PutUint32(b[14:], blocks)
	return b
}
