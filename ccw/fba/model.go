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

// The drives that a volume can be: device types, as SENSE ID tells them.
const (
	Drive3310 = 0x3310
	Drive3370 = 0x3370
	Drive9313 = 0x9313
	Drive9332 = 0x9332
	Drive9335 = 0x9335
	Drive9336 = 0x9336 // what Linux and VM call a fixed-block disk behind a 6310
	Drive0671 = 0x0671
)

// Models are the drives, by type, of each the smallest first. Linux
// drivers/s390/block/dasd_fba.c knows the 3370 behind a 3880 and the 9336 behind
// a 6310; the others are there for what a recording may show. Sizes and
// identification are as SDL-Hyperion (dasdtab.c) tells them.
var Models = [...]Model{
	{"3370-1", 0x3880, 1, Drive3370, 0x00, 0x21, 0x02, 62, 744, 558_000},
	{"3370-2", 0x3880, 1, Drive3370, 0x04, 0x21, 0x05, 62, 744, 712_752},
	{"9336-10", 0x6310, 1, Drive9336, 0x00, 0x21, 0x11, 63, 315, 920_115},
	{"9336-20", 0x6310, 1, Drive9336, 0x10, 0x21, 0x11, 111, 777, 1_672_881},
	{"3310-1", 0x4331, 1, Drive3310, 0x01, 0x21, 0x01, 32, 352, 125_664},
	{"9313-1", 0x6310, 1, Drive9313, 0x00, 0x21, 0x08, 96, 480, 246_240},
	{"9332-400", 0x6310, 1, Drive9332, 0x00, 0x21, 0x07, 73, 292, 360_036},
	{"9332-600", 0x6310, 1, Drive9332, 0x01, 0x21, 0x07, 73, 292, 554_800},
	{"9335-1", 0x6310, 1, Drive9335, 0x01, 0x21, 0x06, 71, 426, 804_714},
	{"0671-1", 0x6310, 1, Drive0671, 0x00, 0x21, 0x12, 63, 504, 574_560},
	{"0671-4", 0x6310, 1, Drive0671, 0x04, 0x21, 0x12, 63, 504, 624_456},
}

// ModelOf is the smallest drive of a type that holds n blocks, the largest one
// if none does: an image may have any size. It is false for a type that is none
// of [Models].
func ModelOf(device uint16, n uint32) (m Model, ok bool) {
	for i := range Models {
		if Models[i].Device != device {
			continue
		}
		m, ok = Models[i], true
		if n <= m.MaxBlocks {
			break
		}
	}
	return m, ok
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
