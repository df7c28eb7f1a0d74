package dasd

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Sizes of an image file.
const (
	HeaderSize = 512   // device header
	SlotSize   = 56832 // one track: home address, records, end marker
)

const (
	magicCKD = "CKD_P370"
	serialAt = 20
	serialN  = 12
)

// ErrImage is the cause of every error about the content of an image.
var ErrImage = fmt.Errorf("not a usable 3390 image: %w", errs.ErrInvalid)

// Header is the device header of an image file.
//
//	0   magic, "CKD_P370"
//	8   heads             little-endian 32 bits, 15
//	12  slot size         little-endian 32 bits, 56832
//	16  device type       0x90 for 3390
//	17  file number       0: the volume is one file
//	18  highest cylinder  little-endian 16 bits, 0: the volume ends here
//	20  serial number     12 characters, ASCII
//	32  zero
type Header struct {
	Heads       uint32
	Slot        uint32
	Device      uint8
	File        uint8
	HighestHere uint16
	Serial      [serialN]byte
}

// DecodeHeader reads a header. It fails only where the magic says that this is
// no such header at all, or one of a kind that is not supported, which it
// names; [Header.Validate] decides about the rest.
func DecodeHeader(b *[HeaderSize]byte) (Header, error) {
	switch m := string(b[:8]); m {
	case magicCKD:
	case "CKD_C370", "CKD_C064":
		return Header{}, fmt.Errorf("%w: compressed CKD (%s) is not supported", ErrImage, m)
	case "CKD_S370", "CKD_S064":
		return Header{}, fmt.Errorf("%w: a shadow file (%s) is no volume", ErrImage, m)
	case "CKD_P064":
		return Header{}, fmt.Errorf("%w: 64-bit CKD (%s) is not supported", ErrImage, m)
	default:
		return Header{}, fmt.Errorf("%w: magic %q, want %q", ErrImage, m, magicCKD)
	}
	h := Header{
		Heads:       binary.LittleEndian.Uint32(b[8:]),
		Slot:        binary.LittleEndian.Uint32(b[12:]),
		Device:      b[16],
		File:        b[17],
		HighestHere: binary.LittleEndian.Uint16(b[18:]),
	}
	copy(h.Serial[:], b[serialAt:])
	return h, nil
}

// Encode writes h.
func (h *Header) Encode(b *[HeaderSize]byte) {
	*b = [HeaderSize]byte{}
	copy(b[:], magicCKD)
	binary.LittleEndian.PutUint32(b[8:], h.Heads)
	binary.LittleEndian.PutUint32(b[12:], h.Slot)
	b[16] = h.Device
	b[17] = h.File
	binary.LittleEndian.PutUint16(b[18:], h.HighestHere)
	copy(b[serialAt:], h.Serial[:])
}

// Validate decides whether a file of the given bytes with this header is a
// 3390 volume, and of which geometry.
func (h *Header) Validate(size int64) (Geometry, error) {
	switch {
	case h.Device != 0x90:
		return Geometry{}, fmt.Errorf("%w: device type 0x33%02x, want 0x3390", ErrImage, h.Device)
	case h.Heads != Heads:
		return Geometry{}, fmt.Errorf("%w: %d heads, want %d", ErrImage, h.Heads, Heads)
	case h.Slot != SlotSize:
		return Geometry{}, fmt.Errorf("%w: track size %d, want %d", ErrImage, h.Slot, SlotSize)
	case h.File != 0 || h.HighestHere != 0:
		return Geometry{}, fmt.Errorf("%w: the volume is split over several files", ErrImage)
	}
	const cylinder = Heads * SlotSize
	body := size - HeaderSize
	if body < cylinder {
		return Geometry{}, fmt.Errorf("%w: %d bytes, too short for one cylinder", ErrImage, size)
	}
	if body%cylinder != 0 {
		return Geometry{}, fmt.Errorf("%w: truncated: %d bytes, whole cylinders would be %d or %d",
			ErrImage, size, HeaderSize+body/cylinder*cylinder, HeaderSize+(body/cylinder+1)*cylinder)
	}
	n := body / cylinder
	if n > MaxCylinders {
		return Geometry{}, fmt.Errorf("%w: %d cylinders, a 3390 has at most %d", ErrImage, n, MaxCylinders)
	}
	return Geometry{Cylinders: uint32(n)}, nil
}

// newHeader is the header of a new volume.
func newHeader(serial string) (Header, error) {
	h := Header{Heads: Heads, Slot: SlotSize, Device: 0x90}
	if len(serial) != serialN {
		return h, fmt.Errorf("serial %q: %w: want %d characters", serial, errs.ErrInvalid, serialN)
	}
	for _, c := range []byte(serial) {
		if !alphanumeric(c) {
			return h, fmt.Errorf("serial %q: %w: want digits and capitals", serial, errs.ErrInvalid)
		}
	}
	copy(h.Serial[:], serial)
	return h, nil
}

func alphanumeric(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' }

// trackErr says at which track reading or writing an image failed.
func trackErr(track uint32, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %w: %w", AddressOf(track), errs.ErrFault, err)
}
