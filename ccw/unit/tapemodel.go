package unit

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/softmdev/softmdev/mdev/errs"
)

// TapeModel is the type of a tape drive.
type TapeModel uint16

// The drives. Between reel and cartridge drives the sense bytes and the
// commands differ, between cartridge drives little.
const (
	Tape3420 TapeModel = 0x3420 // reel, behind a 3803
	Tape3480 TapeModel = 0x3480 // cartridge
	Tape3490 TapeModel = 0x3490 // cartridge
	Tape3590 TapeModel = 0x3590 // cartridge, 32-bit block numbers
)

// String is the type: 3480.
func (m TapeModel) String() string { return fmt.Sprintf("%04x", uint16(m)) }

// models is a set of drives.
type models uint8

const (
	on3420 models = 1 << iota
	on3480
	on3490
	on3590

	onCartridge = on3480 | on3490 | on3590
	onAll       = on3420 | onCartridge
)

// tapeTraits is what tells one drive from another.
type tapeTraits struct {
	set       models
	id        identity
	hasID     bool // answers SENSE ID and READ DEVICE CHARACTERISTICS
	senseSize int
	maxBlock  int
	feature1  uint32 // characteristics bytes 6-9
	feature2  uint32 // characteristics bytes 12-15
	mdr, obr  uint8  // record IDs of error logs
	mvs       uint8
	class     uint8
	sense27   uint8 // control-unit features in the sense bytes
}

// Bits of the characteristics.
const (
	rdcNTP         = 0x01000000 // feature 1: bytes 19-29 count
	rdcBlockID     = 0x00004000 // feature 1: all 32 bits of a block ID count
	rdcCompaction  = 0x00000040 // feature 1: improved data recording
	rdcReadForward = 0x00800000 // feature 2: command 06
	rdcMediumSense = 0x00000400 // feature 2: command C2
)

// traits returns what drive m is like.
func (m TapeModel) traits() (tapeTraits, error) {
	switch m {
	case Tape3420:
		return tapeTraits{
			set: on3420, senseSize: 24, maxBlock: math.MaxUint16,
		}, nil
	case Tape3480:
		return tapeTraits{
			set: on3480, id: makeIdentity(0x3480, 0x31, 0x3480, 0x31), hasID: true,
			senseSize: 24, maxBlock: math.MaxUint16,
			feature1: rdcCompaction, mdr: 0x41, obr: 0x80, class: 0x80, sense27: 0xF0,
		}, nil
	case Tape3490:
		return tapeTraits{
			set: on3490, id: makeIdentity(0x3490, 0x50, 0x3490, 0x50), hasID: true,
			senseSize: 32, maxBlock: math.MaxUint16,
			feature1: rdcCompaction, mdr: 0x42, obr: 0x81, class: 0x80, sense27: 0xE0,
		}, nil
	case Tape3590:
		return tapeTraits{
			set: on3590, id: makeIdentity(0x3590, 0x11, 0x3590, 0x60), hasID: true,
			senseSize: 32, maxBlock: MaxTapeBlock,
			feature1: rdcNTP | rdcBlockID | rdcCompaction,
			feature2: rdcReadForward | rdcMediumSense,
			mdr:      0x46, obr: 0x83, mvs: 0x80, sense27: 0xE0,
		}, nil
	}
	return tapeTraits{}, fmt.Errorf("no tape drive %v: %w", m, errs.ErrInvalid)
}

// tapeRDCSize is the length of the device characteristics.
const tapeRDCSize = 64

// characteristics is the answer to READ DEVICE CHARACTERISTICS:
//
//	byte 0-5  control unit and device, as bytes 1-6 of the sense ID
//	     6-9  features   10 class   11 type   12-15 features
//	    24-29 control unit and device again   40 MDR ID   41 OBR ID
//	    42    MVS class   43-46 longest block   47-50 recommended block
func (t *tapeTraits) characteristics() (b [tapeRDCSize]byte) {
	copy(b[0:], t.id[1:])
	binary.BigEndian.PutUint32(b[6:], t.feature1)
	b[10], b[11] = t.class, t.class
	binary.BigEndian.PutUint32(b[12:], t.feature2)
	copy(b[24:], t.id[1:])
	b[40], b[41], b[42] = t.mdr, t.obr, t.mvs
	binary.BigEndian.PutUint32(b[43:], uint32(t.maxBlock))
	binary.BigEndian.PutUint32(b[47:], uint32(t.maxBlock))
	return b
}
