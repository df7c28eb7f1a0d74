package dasd

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Image holds the tracks of a volume. [Memory] and [File] are the two there
// are. An Image belongs to one volume at a time and has no lock.
type Image interface {
	// Geometry is the shape of the volume. It never changes.
	Geometry() Geometry
	// Serial is the serial number of the device header.
	Serial() [12]byte
	// ReadOnly reports whether Edit will refuse.
	ReadOnly() bool
	// Track lends the slot of a track, SlotSize bytes, for reading. It is good
	// until the next call of Track or Edit.
	Track(track uint32) ([]byte, error)
	// Edit lends the slot of a track for writing, on the same terms. What is
	// written into it is part of the volume once Commit says so.
	Edit(track uint32) ([]byte, error)
	// Commit ends an edit that changed bytes first to end-1 of the slot. After
	// an error the slot holds what is on the image, and nothing more is known.
	Commit(track uint32, first, end int) error
	// Sync makes what was committed durable.
	Sync() error
	// Close gives the image back.
	Close() error
}

// CreateConfig describes a new volume.
type CreateConfig struct {
	Cylinders uint32 // 1 to MaxCylinders
	Serial    string // 12 digits or capitals; empty: 12 random digits
}

func (c *CreateConfig) header() (Header, Geometry, error) {
	g := Geometry{Cylinders: c.Cylinders}
	if err := g.Validate(); err != nil {
		return Header{}, g, fmt.Errorf("%w: %w", errs.ErrInvalid, err)
	}
	serial := c.Serial
	if serial == "" {
		n, err := rand.Int(rand.Reader, big.NewInt(1e12))
		if err != nil {
			return Header{}, g, err
		}
		serial = fmt.Sprintf("%012d", n)
	}
	h, err := newHeader(serial)
	return h, g, err
}

// blankSize is what a track without records takes: home address, a standard
// record zero, and the end marker.
const blankSize = homeSize + countSize + standardR0 + markerSize

// putBlank writes the track that a new volume has at a: no record but record
// zero.
func putBlank(slot []byte, a Address) {
	b := slot[:blankSize]
	clear(b)
	binary.BigEndian.PutUint32(b[1:], a.Encode())
	binary.BigEndian.PutUint32(b[homeSize:], a.Encode())
	b[homeSize+7] = standardR0
	putMarker(b[homeSize+countSize+standardR0:])
}

// Check reads every track of img and reports the first that is no track: a
// home address that belongs elsewhere, a record that leaves the slot, no end
// marker. A guest meets such a track as a unit check.
func Check(img Image) error {
	n := img.Geometry().Tracks()
	for t := uint32(0); t < n; t++ {
		slot, err := img.Track(t)
		if err != nil {
			return err
		}
		if err := checkSlot(slot, AddressOf(t)); err != nil {
			return fmt.Errorf("%w: %v: %w", ErrImage, AddressOf(t), err)
		}
	}
	return nil
}
