package dasd

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The read commands. Count, key and data of a record lie in the slot one after
// the other, so each of them hands the channel one piece of the slot.

// give sends b and ends the command; an empty data field, which is the end of
// a file, ends it with unit exception.
func (v *Volume) give(x *channel.Transfer, b []byte) cio.DeviceStatus {
	x.Store(b)
	if v.pos.count.Data == 0 {
		return cio.Ended | cio.UnitException
	}
	return cio.Ended
}

// atRecord orients to the next record unless the head stands behind a count
// field (or, with key, a key) already.
func (v *Volume) atRecord(c *command, key bool) cio.DeviceStatus {
	if o := v.pos.orient; o == atCount || key && o == atKey {
		return 0
	}
	return v.nextCount(c)
}

// wrongMT reports a command without multitrack in a domain that asks for it.
func (v *Volume) wrongMT(c *command) bool {
	d := &v.prog.domain
	return d.count > 0 && d.operation.Code() == OpRead && c.flags&multitrack == 0
}

func (v *Volume) readData(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	c := &commands[cmd]
	if v.wrongMT(c) {
		return v.reject(badSequence)
	}
	x.Accept()
	if s := v.atRecord(c, true); s != 0 {
		return s
	}
	p := &v.pos
	p.orient = atData
	return v.give(x, p.slot[p.dataAt():p.dataEnd()])
}

func (v *Volume) readKeyData(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	if s := v.atRecord(&commands[cmd], false); s != 0 {
		return s
	}
	p := &v.pos
	p.orient = atData
	return v.give(x, p.slot[p.keyAt():p.dataEnd()])
}

func (v *Volume) readCKD(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	if s := v.nextCount(&commands[cmd]); s != 0 {
		return s
	}
	p := &v.pos
	p.orient = atData
	return v.give(x, p.slot[p.off:p.dataEnd()])
}

func (v *Volume) readCount(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d := &v.prog.domain
	// A domain that writes has a Read Count only as its last command, and only
	// if it was announced.
	if d.count > 0 && writeOps.has(d.operation) && (d.auxiliary&auxReadCount == 0 || d.count != 1) {
		return v.reject(badSequence)
	}
	x.Accept()
	if s := v.nextCount(&commands[cmd]); s != 0 {
		return s
	}
	if !d.hasFirst && d.auxiliary&auxReadCount != 0 {
		d.hasFirst, d.first = true, v.track
	}
	x.Store(v.pos.slot[v.pos.off:v.pos.keyAt()])
	return cio.Ended
}

func (v *Volume) readR0(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	c := &commands[cmd]
	d := &v.prog.domain
	if o := d.operation; d.count > 0 && o.Code() == OpRead &&
		o.Orientation() != OrientHome && o.Orientation() != OrientIndex {
		return v.reject(badSequence)
	}
	x.Accept()
	if s := v.toIndex(c); s != 0 {
		return s
	}
	if s := v.nextCount(c); s != 0 {
		return s
	}
	p := &v.pos
	p.orient = atData
	return v.give(x, p.slot[p.off:p.dataEnd()])
}

// toIndex goes to the index point of the current track or, for a multitrack
// command outside a domain, of the next.
func (v *Volume) toIndex(c *command) cio.DeviceStatus {
	if c.flags&multitrack != 0 && v.prog.domain.count == 0 {
		return v.advance(1)
	}
	return v.selectTrack(v.track)
}

func (v *Volume) readHome(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d := &v.prog.domain
	if o := d.operation; d.count > 0 && o.Code() == OpRead && o.Orientation() != OrientIndex {
		return v.reject(badSequence)
	}
	x.Accept()
	if s := v.toIndex(&commands[cmd]); s != 0 {
		return s
	}
	x.Store(v.pos.slot[:homeSize])
	return cio.Ended
}

// specialHome is the size of a home address with its skip displacements, of
// which this device has none; the usual five bytes come at offset 19.
const specialHome, specialHomeAt = 28, 19

func (v *Volume) readSpecialHome(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d := &v.prog.domain
	switch o := d.operation; {
	case d.count > 0 && o.Code() == OpRead && o.Orientation() != OrientIndex:
		return v.reject(badSequence)
	case d.count == 0 && v.prog.mask&MaskAuthorization != MaskAuthDiagnose:
		return v.reject(badMask)
	}
	x.Accept()
	if s := v.selectTrack(v.track); s != 0 {
		return s
	}
	b := v.buf[:specialHome]
	clear(b)
	copy(b[specialHomeAt:], v.pos.slot[:homeSize])
	x.Store(b)
	return cio.Ended
}

// readIPL reads the first record of the volume. It opens a domain of two reads,
// so that the program it brought can go on without a locate.
func (v *Volume) readIPL(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if p.has(extentDefined | maskSet) {
		return v.reject(badSequence)
	}
	x.Accept()
	p.state |= extentDefined | maskSet
	p.domain = domain{count: 2, operation: OrientData | OpReadData}
	if s := v.selectTrack(0); s != 0 {
		return s
	}
	if s := v.nextCount(&commands[cmd]); s != 0 {
		return s
	}
	p.state |= loaded
	v.pos.orient = atData
	return v.give(x, v.pos.slot[v.pos.dataAt():v.pos.dataEnd()])
}

// readMultiple reads the records from here to the end of the track.
func (v *Volume) readMultiple(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	p := &v.pos
	if p.orient == atEnd {
		if s := v.advance(1); s != 0 {
			return s
		}
	}
	first, end, s := v.toEnd()
	if s != 0 {
		return s
	}
	if c, e, ok := countAt(p.slot, first); ok && e != 0 && c.Record == 0 {
		first = e // record zero is not one of the user's
	}
	x.Store(p.slot[first:end])
	return cio.Ended
}

// readTrack reads all records of a track from where the locate left the head,
// record zero and the end marker with them.
func (v *Volume) readTrack(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	switch p.prev {
	case locateRecord, locateExtended, prefix, prefixRead, readTrack:
	default:
		return v.reject(badSequence)
	}
	x.Accept()
	d := &p.domain
	if p.prev == readTrack {
		n := uint32(1)
		for d.tracks != 0 && d.tracks&0x8000 == 0 {
			d.tracks <<= 1
			n++
		}
		if s := v.advance(n); s != 0 {
			return s
		}
	}
	d.tracks <<= 1
	first, end, s := v.toEnd()
	if s != 0 {
		return s
	}
	x.Store(v.pos.slot[first : end+markerSize])
	return cio.Ended
}

// toEnd goes to the end marker: first is the offset of the next count field and
// end that of the marker.
func (v *Volume) toEnd() (first, end int, s cio.DeviceStatus) {
	p := &v.pos
	if p.slot == nil {
		return 0, 0, v.check(cio.NoRecordFound)
	}
	first = p.next()
	for off := first; ; {
		_, e, ok := countAt(p.slot, off)
		if !ok {
			return 0, 0, v.damaged()
		}
		if e == 0 {
			p.orient, p.off, p.count = atEnd, off, Count{}
			return first, off, 0
		}
		off = e
	}
}

// readTrackData reads the data of records, and goes on over tracks until the
// channel wants no more. In the domain of a read operation it is Read Data.
func (v *Volume) readTrackData(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d := &v.prog.domain
	if d.operation.Code() != OpReadTracks || d.count == 0 {
		return v.readData(cmd, x)
	}
	if !v.cfg.TrackData {
		return v.reject(badSequence)
	}
	x.Accept()
	// The count of the domain is of tracks. The command is all of the domain.
	left := d.count
	d.count = 1
	p := &v.pos
	for {
		if p.orient != atCount {
			off := p.next()
			count, end, ok := countAt(p.slot, off)
			switch {
			case !ok:
				return v.damaged()
			case end == 0:
				if left--; left == 0 {
					return cio.Ended
				}
				if s := v.advance(1); s != 0 {
					return s
				}
				continue
			case count.Record == 0:
				p.orient, p.off, p.count = atData, off, count
				continue
			}
			p.off, p.count = off, count
		}
		p.orient = atData
		if p.count.Data == 0 {
			return cio.Ended | cio.UnitException
		}
		if n := x.Store(p.slot[p.dataAt():p.dataEnd()]); n < int(p.count.Data) || x.Remaining() == 0 {
			return cio.Ended
		}
	}
}
