package dasd

import (
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/cio"
)

// orientation is what has just passed under the head.
type orientation uint8

const (
	atNothing orientation = iota // no track selected in this program
	atIndex                      // the home address; the first record comes
	atCount                      // the count field at position.off
	atKey                        // the key behind it
	atData                       // all of the record at position.off
	atEnd                        // the end marker at position.off
)

// position is where on the track the head is. It is valid for one program: the
// slot is borrowed from the image.
type position struct {
	slot   []byte // the track, nil before the first is selected
	edit   bool   // slot may be written
	orient orientation
	off    int // count field of the record, or end marker
	count  Count
}

// next is the offset of the count field that comes next.
func (p *position) next() int {
	switch p.orient {
	case atIndex:
		return homeSize
	case atEnd:
		return p.off
	}
	return p.dataEnd()
}

func (p *position) keyAt() int   { return p.off + countSize }
func (p *position) dataAt() int  { return p.keyAt() + int(p.count.Key) }
func (p *position) dataEnd() int { return p.dataAt() + int(p.count.Data) }

// filled remembers how much of a track is taken, so that formatting a track
// record by record does not add it up anew each time.
type filled struct {
	track uint32
	off   int // end of the records that are counted
	cells int // their space
}

// selectTrack brings the head to the index point of a track.
func (v *Volume) selectTrack(track uint32) cio.DeviceStatus {
	p := &v.pos
	if p.slot != nil && track == v.track {
		p.orient = atIndex
		return 0
	}
	slot, err := v.img.Track(track)
	*p = position{} // what was lent before is not ours any more
	if err != nil {
		return v.broken(err)
	}
	if !homeMatches(slot, AddressOf(track)) {
		return v.check(cio.InvalidTrackFormat)
	}
	v.track = track
	*p = position{slot: slot, orient: atIndex}
	return 0
}

// edit makes the current slot writable.
func (v *Volume) edit() ([]byte, cio.DeviceStatus) {
	p := &v.pos
	if !p.edit {
		slot, err := v.img.Edit(v.track)
		if err != nil {
			p.slot = nil
			return nil, v.broken(err)
		}
		p.slot, p.edit = slot, true
	}
	return p.slot, 0
}

// commit hands bytes first to end-1 of the slot to the image.
func (v *Volume) commit(first, end int) cio.DeviceStatus {
	if err := v.img.Commit(v.track, first, end); err != nil {
		v.pos.slot = nil
		v.pos.orient = atNothing
		return v.broken(err)
	}
	return 0
}

// advance goes n tracks on, as far as extent and file mask allow. Within a
// domain the end of a cylinder is no limit.
func (v *Volume) advance(n uint32) cio.DeviceStatus {
	p := &v.prog
	if p.domain.count == 0 {
		if p.mask&MaskSeek == MaskSeekNone {
			return v.check(cio.FileProtected)
		}
		if v.track%Heads+n >= Heads {
			return v.check(cio.EndOfCylinder)
		}
	}
	to := v.track + n
	if to < p.first || to > p.last {
		return v.check(cio.FileProtected)
	}
	return v.selectTrack(to)
}

// nextCount orients to the next count field, over the index point if the
// command goes on there. It looks at each record of a track no more than
// twice.
func (v *Volume) nextCount(c *command) cio.DeviceStatus {
	p := &v.pos
	if p.slot == nil {
		return v.check(cio.NoRecordFound)
	}
	if p.orient == atEnd {
		// The command before stopped at the end of the track, as Read Multiple
		// CKD does: the next record is on the next track.
		if s := v.advance(1); s != 0 {
			return s
		}
	}
	for {
		off := p.next()
		count, end, ok := countAt(p.slot, off)
		if !ok {
			return v.damaged()
		}
		p.off = off
		if end != 0 {
			p.orient, p.count = atCount, count
			if count.Record != 0 || c.flags&countsR0 != 0 {
				return 0
			}
			continue
		}
		p.orient, p.count = atEnd, Count{}
		if s := v.passIndex(c); s != 0 {
			return s
		}
	}
}

// passIndex decides what happens at the end of a track: no record found, round
// again, or on to the next track.
//
// Specification: GA32-0274, "Index Point Passing", "Multitrack Operations".
func (v *Volume) passIndex(c *command) cio.DeviceStatus {
	p := &v.prog
	d := &p.domain
	mt := c.flags&multitrack != 0
	if c.flags&endsAtIndex != 0 {
		return v.check(cio.NoRecordFound)
	}
	if mt && d.auxiliary&auxReadCount != 0 && d.hasFirst &&
		(d.count == 1 || d.operation.Code() == OpReadAny || d.operation.Code() == OpWriteAny) {
		// The suffixed Read Count tells whether a record was displaced: it goes
		// round the track of the first one instead of on.
		if p.has(indexPassed) {
			return v.check(cio.NoRecordFound)
		}
		p.state |= indexPassed
		return v.selectTrack(d.first)
	}
	// The second end of track ends a search, but multitrack reads and key
	// searches outside a domain may see any number, up to the end of the
	// cylinder.
	searchID := c.flags&(searches|countsR0) == searches|countsR0
	if p.has(indexPassed) && (!mt || d.count > 0 || searchID) {
		return v.check(cio.NoRecordFound)
	}
	if !mt {
		p.state |= indexPassed
		return v.selectTrack(v.track)
	}
	if s := v.advance(1); s != 0 {
		return s
	}
	if c.flags&searches == 0 {
		p.state |= indexPassed
	}
	return 0
}

// used is the space that records take before offset off of the current track,
// record zero of the standard size not counted.
func (v *Volume) used(off int) int {
	f := &v.fill
	if f.track != v.track || f.off > off {
		*f = filled{track: v.track, off: homeSize}
	}
	for f.off < off {
		count, end, ok := countAt(v.pos.slot, f.off)
		if !ok || end == 0 {
			break
		}
		f.add(count, end)
	}
	return f.cells
}

// add counts the record at f.off, which ends at end.
func (f *filled) add(c Count, end int) {
	if f.off != homeSize || c.Record != 0 {
		f.cells += Cells(int(c.Key), int(c.Data))
	}
	f.off = end
}

// cchh reads the CCHH of parameters.
func cchh(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
