package dasd

import (
	"bytes"
	"fmt"
	"io"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Memory is an image in memory that copies a track before its first change:
// the base it stands on is shared with whoever else reads it. A blank volume
// needs no base; its tracks come into being when they are looked at.
//
// A changed track is kept packed, without data that are zero, as long as that
// makes it small: a volume that a guest formats takes a thousandth of its size.
// A packed track is unpacked to be looked at.
type Memory struct {
	header   Header
	geometry Geometry
	base     []byte // whole image with header, read-only; nil for a blank volume
	own      []*cylinder
	work     [4]work
	next     int    // of work, to give up next
	packed   []byte // on its way to own
	readOnly bool
}

// cylinder has the changed tracks of a cylinder: for each head nil where the
// base counts, a slot, or something shorter: a packed track.
type cylinder [Heads][]byte

// changed is the changed track, nil where the base counts.
func (m *Memory) changed(track uint32) []byte {
	if c := m.own[track/Heads]; c != nil {
		return c[track%Heads]
	}
	return nil
}

func (m *Memory) change(track uint32, b []byte) {
	c := &m.own[track/Heads]
	if *c == nil {
		*c = new(cylinder)
	}
	(*c)[track%Heads] = b
}

// work is a slot in which a track is unpacked. Beside being looked at it may
// be changed; then it goes back when the slot is given to another track.
type work struct {
	track uint32
	dirty bool
	slot  []byte
}

var _ Image = (*Memory)(nil)

// FromBytes is a volume whose first state is the image b, as it stands in a
// file. b is only read, may be shared by volumes, and must not change.
func FromBytes(b []byte) (*Memory, error) {
	if len(b) < HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes, too short for a device header", ErrImage, len(b))
	}
	h, err := DecodeHeader((*[HeaderSize]byte)(b))
	if err != nil {
		return nil, err
	}
	g, err := h.Validate(int64(len(b)))
	if err != nil {
		return nil, err
	}
	m := &Memory{header: h, geometry: g, base: b, own: make([]*cylinder, g.Cylinders)}
	if err := checkEnds(m); err != nil {
		return nil, err
	}
	return m, nil
}

// Blank is a new volume in memory, every track formatted and none with a
// record of the user's. It takes memory for the tracks that are written only.
func Blank(cfg CreateConfig) (*Memory, error) {
	h, g, err := cfg.header()
	if err != nil {
		return nil, err
	}
	return &Memory{header: h, geometry: g, own: make([]*cylinder, g.Cylinders)}, nil
}

// Geometry implements [Image].
func (m *Memory) Geometry() Geometry { return m.geometry }

// Serial implements [Image].
func (m *Memory) Serial() [12]byte { return m.header.Serial }

// SetReadOnly makes the volume refuse writes from the next program on.
func (m *Memory) SetReadOnly(on bool) { m.readOnly = on }

// ReadOnly implements [Image].
func (m *Memory) ReadOnly() bool { return m.readOnly }

// Track implements [Image]. It fails for no track that the volume has.
func (m *Memory) Track(track uint32) ([]byte, error) {
	if track >= m.geometry.Tracks() {
		return nil, trackErr(track, errs.ErrNotFound)
	}
	if w := m.working(track); w != nil {
		return w.slot, nil
	}
	switch o := m.changed(track); {
	case len(o) == SlotSize:
		return o, nil
	case o == nil && m.base != nil:
		at := HeaderSize + int(track)*SlotSize
		return m.base[at : at+SlotSize : at+SlotSize], nil
	}
	return m.unpack(track).slot, nil
}

// Edit implements [Image].
func (m *Memory) Edit(track uint32) ([]byte, error) {
	if m.readOnly {
		return nil, trackErr(track, errs.ErrPermission)
	}
	s, err := m.Track(track)
	if err != nil || len(m.changed(track)) == SlotSize {
		return s, err
	}
	w := m.working(track)
	if w == nil {
		w = m.take(track)
		copy(w.slot, s[:usedBytes(s)])
	}
	w.dirty = true
	return w.slot, nil
}

// working is where track is unpacked, nil if it is not.
func (m *Memory) working(track uint32) *work {
	for i := range m.work {
		if w := &m.work[i]; w.track == track && w.slot != nil {
			return w
		}
	}
	return nil
}

// take gives a work slot to track, after putting back what is in it.
func (m *Memory) take(track uint32) *work {
	w := &m.work[m.next]
	m.next = (m.next + 1) % len(m.work)
	if w.dirty {
		var ok bool
		if m.packed, ok = pack(m.packed[:0], w.slot); ok {
			m.change(w.track, bytes.Clone(m.packed))
		} else {
			m.change(w.track, w.slot)
			w.slot = nil
		}
	}
	if w.slot == nil {
		w.slot = make([]byte, SlotSize)
	}
	w.track, w.dirty = track, false
	return w
}

// unpack brings a track that is packed, or blank, into a work slot.
func (m *Memory) unpack(track uint32) *work {
	w := m.take(track)
	if o := m.changed(track); o != nil {
		unpack(w.slot, o)
	} else {
		putBlank(w.slot, AddressOf(track))
	}
	return w
}

// Commit implements [Image].
func (m *Memory) Commit(uint32, int, int) error { return nil }

// Sync implements [Image]. Memory is as durable as it will be.
func (m *Memory) Sync() error { return nil }

// Close implements [Image].
func (m *Memory) Close() error { return nil }

// Discard forgets all changes: the volume is as it was at first. No program
// may be running.
func (m *Memory) Discard() {
	clear(m.own)
	for i := range m.work {
		m.work[i].track, m.work[i].dirty = noTrack, false
	}
}

// WriteTo writes the volume as an image file, changes included.
func (m *Memory) WriteTo(w io.Writer) (int64, error) {
	var head [HeaderSize]byte
	m.header.Encode(&head)
	n, err := w.Write(head[:])
	total := int64(n)
	for t := uint32(0); err == nil && t < m.geometry.Tracks(); t++ {
		var s []byte
		if s, err = m.Track(t); err != nil {
			break
		}
		n, err = w.Write(s)
		total += int64(n)
	}
	return total, err
}

// checkEnds looks at the first and the last track, so that an image whose
// header lies about its content is refused at once.
func checkEnds(img Image) error {
	for _, t := range []uint32{0, img.Geometry().Tracks() - 1} {
		s, err := img.Track(t)
		if err != nil {
			return err
		}
		if !homeMatches(s, AddressOf(t)) {
			return fmt.Errorf("%w: %v: %w", ErrImage, AddressOf(t), errHome)
		}
	}
	return nil
}
