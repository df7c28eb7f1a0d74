package dasd

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The write commands. All bring the data into the volume's buffer first and
// change the track when they are complete: a transfer that the channel broke
// off changes nothing. A record for which the program had too few bytes is
// filled with zeros, as the reference demands.

// drop takes what the program offers and ends with a unit check: a control
// unit with a cache finds out only when it has the data.
func (v *Volume) drop(x *channel.Transfer, b cio.Sense1) cio.DeviceStatus {
	x.Accept()
	x.FetchUpTo(v.buf[:])
	return v.check(b)
}

// mayUpdate reports whether the file mask allows writes, and mayFormat whether
// it allows those that write a count field.
func (v *Volume) mayUpdate() bool { return v.prog.mask&MaskWrite != MaskWriteNone }

func (v *Volume) mayFormat() bool {
	w := v.prog.mask & MaskWrite
	return w == MaskWriteAll || w == MaskWriteNoHA
}

// replace overwrites bytes from to end-1 of the current record with what the
// program sends.
func (v *Volume) replace(x *channel.Transfer, from, end int) cio.DeviceStatus {
	n := x.Fetch(v.buf[:end-from])
	if x.Terminated() {
		return cio.Ended
	}
	slot, s := v.edit()
	if s != 0 {
		return s
	}
	copy(slot[from:end], v.buf[:n])
	clear(slot[from+n : end])
	v.pos.orient = atData
	if s := v.commit(from, end); s != 0 {
		return s
	}
	return cio.Ended
}

// lastOfDomain reports whether a plain write may come now: it ends its domain,
// but for the Read Count that may be announced.
func (v *Volume) lastOfDomain() bool {
	d := &v.prog.domain
	if d.count == 0 || d.operation.Code() == OpWriteTrack {
		return true
	}
	if d.auxiliary&auxReadCount != 0 {
		return d.count == 2
	}
	return d.count == 1
}

// wrongLength reports whether n bytes are not what the domain announced; a
// domain in CKD conversion mode announces nothing.
func (v *Volume) wrongLength(n int) bool {
	return v.prog.attributes&attrConvert == 0 && n != int(v.prog.domain.length)
}

func (v *Volume) writeData(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p, d := &v.prog, &v.prog.domain
	if d.count == 0 && !p.has(idEqual|keyEqual) || !v.mayUpdate() || !v.lastOfDomain() {
		return v.reject(badSequence)
	}
	if o := v.pos.orient; o != atCount && o != atKey {
		return v.reject(badSequence)
	}
	track := d.count > 0 && d.operation.Code() == OpWriteTrack
	r0 := track && v.pos.count.Record == 0
	n := int(v.pos.count.Data)
	switch {
	case r0 && n != standardR0 && p.attributes&attrConvert == 0,
		d.count > 0 && !r0 && v.wrongLength(n):
		return v.drop(x, cio.InvalidTrackFormat)
	case n == 0:
		x.Accept()
		return cio.Ended | cio.UnitException
	}
	s := v.replace(x, v.pos.dataAt(), v.pos.dataEnd())
	if s == cio.Ended && r0 && d.count == 1 && !x.Terminated() {
		return v.endTrack(v.pos.dataEnd())
	}
	return s
}

func (v *Volume) writeKeyData(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p, d := &v.prog, &v.prog.domain
	if d.count == 0 && !p.has(idEqual) || !v.mayUpdate() || !v.lastOfDomain() || v.pos.orient != atCount {
		return v.reject(badSequence)
	}
	return v.writeFields(x)
}

// writeFields writes key and data of the record whose count field passed.
func (v *Volume) writeFields(x *channel.Transfer) cio.DeviceStatus {
	c := v.pos.count
	switch {
	case v.prog.domain.count > 0 && v.wrongLength(int(c.Key)+int(c.Data)):
		return v.drop(x, cio.InvalidTrackFormat)
	case c.Data == 0:
		x.Accept()
		return cio.Ended | cio.UnitException
	}
	return v.replace(x, v.pos.keyAt(), v.pos.dataEnd())
}

// toUser orients an update to the next record of the user's.
func (v *Volume) toUser(c *command, x *channel.Transfer) cio.DeviceStatus {
	if v.pos.orient == atCount && v.pos.count.Record != 0 {
		return 0
	}
	s := v.nextCount(c)
	if s != 0 {
		x.Accept()
		x.FetchUpTo(v.buf[:])
	}
	return s
}

func (v *Volume) updateData(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if !v.mayUpdate() {
		return v.reject(badSequence)
	}
	if s := v.toUser(&commands[cmd], x); s != 0 {
		return s
	}
	switch n := int(v.pos.count.Data); {
	case v.wrongLength(n):
		return v.drop(x, cio.InvalidTrackFormat)
	case n == 0:
		x.Accept()
		return cio.Ended | cio.UnitException
	}
	return v.replace(x, v.pos.dataAt(), v.pos.dataEnd())
}

func (v *Volume) updateKeyData(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if !v.mayUpdate() {
		return v.reject(badSequence)
	}
	if s := v.toUser(&commands[cmd], x); s != 0 {
		return s
	}
	return v.writeFields(x)
}

// writeTrackData writes the data of consecutive records, one after the other,
// until the program has no more. Without its operation it is Write Update Data.
func (v *Volume) writeTrackData(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d := &v.prog.domain
	if d.operation.Code() != OpWriteTrackData {
		return v.updateData(cmd, x)
	}
	if !v.mayUpdate() {
		return v.reject(badSequence)
	}
	x.Accept()
	for left := d.count; left > 0; left-- {
		if s := v.toUser(&commands[cmd], x); s != 0 {
			return s
		}
		if v.wrongLength(int(v.pos.count.Data)) {
			return v.drop(x, cio.InvalidTrackFormat)
		}
		if s := v.replace(x, v.pos.dataAt(), v.pos.dataEnd()); s != cio.Ended || x.Terminated() || x.Remaining() == 0 {
			break
		}
	}
	d.count = 1 // the command is all of the domain
	return cio.Ended
}

func (v *Volume) writeCKD(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if p.domain.count == 0 && !p.has(idEqual|keyEqual|wroteCount) || !v.mayFormat() {
		return v.reject(badSequence)
	}
	return v.writeRecord(x)
}

// writeSpecial would write a record that goes on at the next track, which no
// 3390 can.
func (v *Volume) writeSpecial(cio.Command, *channel.Transfer) cio.DeviceStatus {
	return v.reject(badSequence)
}

func (v *Volume) writeR0(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if p.domain.count == 0 && !p.has(homeEqual) || p.mask&MaskWrite != MaskWriteAll {
		return v.reject(badSequence)
	}
	if o := p.domain.operation.Orientation(); p.domain.count > 0 && o != OrientHome && o != OrientIndex {
		return v.reject(badSequence)
	}
	return v.writeRecord(x)
}

func (v *Volume) writeCKDNextTrack(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if prev := v.prog.prev; prev != writeCKD && prev != writeCKDNextTrack {
		return v.reject(badSequence)
	}
	s := v.advance(1)
	if s == 0 {
		s = v.nextCount(&commands[cmd]) // over record zero
	}
	if s != 0 {
		x.Accept()
		x.FetchUpTo(v.buf[:])
		return s
	}
	return v.writeRecord(x)
}

// writeRecord writes a record behind the current one, and the end of the track
// behind it.
func (v *Volume) writeRecord(x *channel.Transfer) cio.DeviceStatus {
	p := &v.pos
	if p.orient == atNothing || p.orient == atEnd {
		return v.reject(badSequence)
	}
	n := x.Fetch(v.buf[:countSize])
	if x.Terminated() {
		return cio.Ended
	}
	clear(v.buf[n:countSize])
	c := DecodeCount((*[countSize]byte)(v.buf[:]))
	off := p.next()
	size := countSize + int(c.Key) + int(c.Data)
	end := off + size
	if !v.fits(c, off, end) {
		return v.drop(x, cio.InvalidTrackFormat)
	}
	n = countSize
	if size > countSize {
		n += x.Fetch(v.buf[countSize:size])
		if x.Terminated() {
			return cio.Ended
		}
	}
	slot, s := v.edit()
	if s != 0 {
		return s
	}
	copy(slot[off:end], v.buf[:n])
	clear(slot[off+n : end])
	putMarker(slot[end:])
	if s := v.commit(off, end+markerSize); s != 0 {
		return s
	}
	v.fill.add(c, end)
	p.orient, p.off, p.count = atData, off, c
	if v.prog.domain.count == 0 {
		v.prog.state |= wroteCount
	}
	return cio.Ended
}

// fits reports whether the track has room for a record from off to end: bytes
// in the slot, and cells on a real track. It leaves v.fill at off.
func (v *Volume) fits(c Count, off, end int) bool {
	if end > SlotSize-markerSize {
		return false
	}
	cells := v.used(off)
	if off == homeSize && c.Record == 0 {
		return true
	}
	return cells+Cells(int(c.Key), int(c.Data)) <= trackCells
}

// erase takes a record that it does not write, and ends the track before it.
func (v *Volume) erase(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if p.domain.count == 0 && !p.has(idEqual|keyEqual|wroteCount) || !v.mayFormat() ||
		v.pos.orient == atNothing || v.pos.orient == atEnd {
		return v.reject(badSequence)
	}
	n := x.Fetch(v.buf[:countSize])
	if x.Terminated() {
		return cio.Ended
	}
	clear(v.buf[n:countSize])
	c := DecodeCount((*[countSize]byte)(v.buf[:]))
	off := v.pos.next()
	size := countSize + int(c.Key) + int(c.Data)
	if off+size > SlotSize-markerSize {
		return v.drop(x, cio.InvalidTrackFormat)
	}
	if size > countSize {
		x.FetchUpTo(v.buf[countSize:size])
		if x.Terminated() {
			return cio.Ended
		}
	}
	if v.pos.orient != atIndex {
		v.pos.orient = atData
	}
	return v.endTrack(off)
}

// endTrack puts the end marker at off.
func (v *Volume) endTrack(off int) cio.DeviceStatus {
	slot, s := v.edit()
	if s != 0 {
		return s
	}
	putMarker(slot[off:])
	if s := v.commit(off, off+markerSize); s != 0 {
		return s
	}
	return cio.Ended
}

// writeHome accepts a home address. That of an emulated track is given, so
// nothing is written.
func (v *Volume) writeHome(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if o := p.domain.operation.Orientation(); p.domain.count > 0 && o != OrientHome && o != OrientIndex {
		return v.reject(badSequence)
	}
	if p.mask&MaskWrite != MaskWriteAll {
		return v.drop(x, cio.FileProtected)
	}
	size := homeSize
	if cmd == 0x09 {
		size = specialHome
	}
	x.Accept()
	x.FetchUpTo(v.buf[:size])
	if s := v.selectTrack(v.track); s != 0 {
		return s
	}
	p.state |= homeEqual
	return cio.Ended
}

// writeFullTrack replaces all records of a track: record zero first, and what
// follows until an end marker.
func (v *Volume) writeFullTrack(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p, d := &v.prog, &v.prog.domain
	if p.mask&MaskWrite != MaskWriteAll {
		return v.reject(badSequence)
	}
	n := x.FetchUpTo(v.buf[homeSize:SlotSize])
	if x.Terminated() {
		return cio.Ended
	}
	if p.prev == 0x95 {
		skip := uint32(1)
		for d.whole != 0 && d.whole&0x8000 == 0 {
			d.whole <<= 1
			skip++
		}
		if s := v.advance(skip); s != 0 {
			return s
		}
	}
	d.whole <<= 1
	// What was not sent must not look like records of an earlier command.
	clear(v.buf[homeSize+n : SlotSize])
	end, ok := wholeTrack(v.buf[:SlotSize], homeSize+n)
	if !ok {
		return v.check(cio.InvalidTrackFormat)
	}
	slot, s := v.edit()
	if s != 0 {
		return s
	}
	copy(slot[homeSize:end], v.buf[homeSize:end])
	v.fill.track = noTrack
	v.pos.orient = atIndex
	if s := v.commit(homeSize, end); s != 0 {
		return s
	}
	return cio.Ended
}

// wholeTrack checks a track of which n bytes are given: record zero, records
// that fit, an end marker. end is the offset behind that.
func wholeTrack(b []byte, n int) (end int, ok bool) {
	cells := 0
	for off := homeSize; ; {
		c, e, ok := countAt(b, off)
		switch {
		case !ok || off+countSize > n:
			return 0, false
		case e == 0:
			return off + markerSize, off > homeSize && off+markerSize <= n
		case e > n, off == homeSize && c.Record != 0:
			return 0, false
		case off > homeSize:
			if cells += Cells(int(c.Key), int(c.Data)); cells > trackCells {
				return 0, false
			}
		}
		off = e
	}
}
