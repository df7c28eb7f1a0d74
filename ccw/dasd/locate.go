package dasd

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// locateCombinations are the operation bytes that Locate Record takes: for
// each orientation, in the order of its code, the operations.
//
// Specification: GA32-0274, "Locate Record", table of operation codes.
var locateCombinations = [4]ops{
	OrientCount >> 6: opSet(OpOrient, OpWriteData, OpFormat, OpReadData, OpWriteTrack, OpReadTracks, OpRead),
	OrientHome >> 6:  opSet(OpOrient, OpFormat, OpReadData, OpReadTracks, OpRead),
	OrientData >> 6:  opSet(OpOrient, OpWriteData, OpReadData, OpRead),
	OrientIndex >> 6: opSet(OpFormat, OpRead),
}

// extendedOps are the operations of Locate Record Extended. Which orientation
// goes with which is not checked: the recordings show operations that the table
// of the reference lacks.
var (
	extendedOps  = opSet(OpWriteData, OpFormat, OpReadData, OpWriteTrack, OpReadTracks, OpRead, OpExtended)
	suffixedOps  = opSet(OpWriteData, OpRead)
	suffixedMore = suffixedOps | opSet(OpReadData, OpReadAny, OpWriteAny)
	anyOps       = opSet(OpReadAny, OpWriteAny)
	firstOps     = anyOps | opSet(OpReadTrackset) // find the first record of the user's
)

// locate is Locate Record: it positions, and announces the commands that
// follow.
func (v *Volume) locate(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if params(x, v.buf[:LocateSize]) < LocateSize {
		return v.shortOf(x)
	}
	l := DecodeLocate((*[LocateSize]byte)(v.buf[:]))
	if !v.prog.has(extentDefined | loaded) {
		return v.reject(badSequence)
	}
	if s := v.checkLocate(&l); s != 0 {
		return s
	}
	return v.orient(cmd, &l)
}

func (v *Volume) checkLocate(l *Locate) cio.DeviceStatus {
	op := l.Operation
	suffix := l.Auxiliary&auxReadCount != 0
	switch {
	case !locateCombinations[op>>6].has(op):
		return v.reject(badParameter)
	case v.inhibited(op):
		return failed
	case l.Auxiliary&^(auxLengthValid|auxReadCount) != 0,
		suffix && !suffixedOps.has(op),
		l.Embedded != 0,
		(op.Code() == OpOrient) != (l.Count == 0),
		suffix && l.Count < 2:
		return v.reject(badParameter)
	}
	return v.checkPlace(l)
}

// inhibited ends a locate that announces writes to a volume that takes none.
func (v *Volume) inhibited(op Operation) bool {
	if !v.img.ReadOnly() || !writeOps.has(op) {
		return false
	}
	v.setSense(cio.EquipmentCheck, cio.WriteInhibited, badParameter)
	return true
}

// checkPlace checks what both forms of locate have in common: where to, and
// the transfer length factor.
func (v *Volume) checkPlace(l *Locate) cio.DeviceStatus {
	p := &v.prog
	if !v.onVolume(l.Seek) {
		return v.reject(badParameter)
	}
	track := DecodeAddress(l.Seek).Track()
	if track < p.first || track > p.last {
		return v.check(cio.FileProtected)
	}
	given := l.Auxiliary&auxLengthValid != 0
	if l.Sector != 0xFF && l.Sector >= Sectors || given != (l.Length != 0) || l.Length > p.blockSize {
		return v.reject(badParameter)
	}
	return 0
}

// locateExtended is Locate Record Extended.
func (v *Volume) locateExtended(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	n := params(x, v.buf[:LocateExtendedSize])
	if n < LocateExtendedSize {
		return v.shortOf(x)
	}
	if more := int(binary.BigEndian.Uint16(v.buf[18:])); more <= maxParams {
		n += x.FetchUpTo(v.buf[LocateExtendedSize:][:more])
	}
	if x.Terminated() {
		return cio.Ended
	}
	return v.extended(cmd, v.buf[:n], true)
}

// extended does Locate Record Extended with the parameters b, at least 20
// bytes. A sender that vouches for them has the reserved bits not checked.
//
// Specification: GA32-0274, "Locate Record Extended".
func (v *Volume) extended(cmd cio.Command, b []byte, strict bool) cio.DeviceStatus {
	p := &v.prog
	if p.domain.count > 0 || !p.has(extentDefined|loaded) {
		return v.reject(badSequence)
	}
	l := DecodeLocateExtended((*[LocateExtendedSize]byte)(b))
	if !extendedOps.has(l.Operation) {
		return v.reject(badParameter)
	}
	size := int(l.ParamSize)
	if l.Operation.Code() == OpExtended {
		if !v.hasExtended(l.Extended, size) {
			return v.reject(badParameter)
		}
		l.Operation = l.Operation.Orientation() | l.Extended&0x3F
	} else if strict && (l.Extended != 0 || size != 0) {
		return v.reject(badParameter)
	}
	op := l.Operation
	suffix := l.Auxiliary&auxReadCount != 0
	allowed := uint8(auxLengthValid | auxReadCount)
	if v.cfg.TrackData {
		allowed |= auxCheckBytes
	}
	switch {
	case v.inhibited(op):
		return failed
	case strict && (l.Auxiliary&^allowed != 0 || l.Embedded != 0),
		suffix && (!suffixedMore.has(op) || l.Count < 2),
		l.Count == 0:
		return v.reject(badParameter)
	}
	if s := v.checkPlace(&l); s != 0 {
		return s
	}
	if len(b) < LocateExtendedSize+size {
		return v.reject(badCount)
	}
	return v.extendedDomain(cmd, &l, b[LocateExtendedSize:][:size])
}

// hasExtended reports whether this control unit has an extended operation, and
// with a parameter of the given bytes.
func (v *Volume) hasExtended(op Operation, size int) bool {
	switch op {
	case OpWriteAny, OpReadAny:
		return size == 1
	case OpReadTrackset:
		return size == 1 || size == 2
	case OpWriteFullTrack:
		return v.cfg.WriteFullTrack && (size == 1 || size == 2)
	case OpWriteTrackData:
		return v.cfg.TrackData && size <= maxParams
	}
	return false
}

// extendedDomain opens the domain of l with its extended parameter.
func (v *Volume) extendedDomain(cmd cio.Command, l *Locate, param []byte) cio.DeviceStatus {
	var set uint16 // one bit for each track, the first leftmost
	for i, c := range param[:min(len(param), 2)] {
		set |= uint16(c) << (8 - 8*i)
	}
	op := l.Operation.Code()
	switch {
	case anyOps.has(op):
		if param[0] != 1 { // the size of a set of records
			return v.reject(badParameter)
		}
		l.Auxiliary |= auxReadCount
	case op == OpReadTrackset, op == OpWriteFullTrack:
		if set&0x8000 == 0 || bits.OnesCount16(set) != int(l.Count) {
			return v.reject(badParameter)
		}
		last := DecodeAddress(l.Seek).Track() + uint32(15-bits.TrailingZeros16(set))
		if last > v.prog.last {
			return v.check(cio.FileProtected)
		}
	}
	s := v.orient(cmd, l)
	if s == cio.Ended {
		d := &v.prog.domain
		switch op {
		case OpReadTrackset:
			d.tracks = set
		case OpWriteFullTrack:
			d.whole = set
		}
	}
	return s
}

// orient opens the domain of l, goes to its track, and finds its record.
func (v *Volume) orient(cmd cio.Command, l *Locate) cio.DeviceStatus {
	p := &v.prog
	p.domain = domain{
		count: int(l.Count), operation: l.Operation, extended: l.Extended,
		auxiliary: l.Auxiliary, length: l.Length,
	}
	if l.Auxiliary&auxLengthValid == 0 {
		p.domain.length = p.blockSize
	}
	if s := v.selectTrack(DecodeAddress(l.Seek).Track()); s != 0 {
		return s
	}
	pos := &v.pos
	switch o := l.Operation.Orientation(); o {
	case OrientHome:
		if binary.BigEndian.Uint32(pos.slot[1:]) != cchh(l.Search[:]) {
			return v.check(cio.NoRecordFound)
		}
	case OrientCount, OrientData:
		if s := v.find(cmd, l); s != 0 {
			return s
		}
		if o == OrientData {
			pos.orient = atData
		}
	}
	p.state |= located
	return cio.Ended
}

// find searches the track for the record that l names. Operations on any record
// take the first of the user's, and the extended form takes the first of all
// with a search argument of zeros.
func (v *Volume) find(cmd cio.Command, l *Locate) cio.DeviceStatus {
	c := &commands[cmd]
	extended := cmd != locateRecord
	for {
		if s := v.nextCount(c); s != 0 {
			return s
		}
		switch {
		case extended && firstOps.has(l.Operation) && v.pos.count.Record != 0,
			extended && l.Search == [5]byte{},
			bytes.Equal(v.pos.slot[v.pos.off:][:5], l.Search[:]):
			return 0
		}
	}
}

// prefix is Prefix: an extent and what belongs to it in one command.
func (v *Volume) prefix(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	n := params(x, v.buf[:PrefixSize])
	if n < PrefixSize {
		return v.shortOf(x)
	}
	h := DecodePrefix((*[prefixExtentAt]byte)(v.buf[:]))
	// What follows: the extended parameter of a locate, or of a function.
	n += x.FetchUpTo(v.buf[PrefixSize:][:maxOrder])
	if x.Terminated() {
		return cio.Ended
	}
	b := v.buf[:n]
	if h.Format > 2 {
		return v.reject(badParameter)
	}
	if h.Validity&prefixExtentValid != 0 {
		e := DecodeExtent((*[ExtentSize]byte)(b[prefixExtentAt:]))
		l := DecodeLocateExtended((*[LocateExtendedSize]byte)(b[prefixLocateAt:]))
		anyTrack := h.Format == 1 && l.Operation.Code() == OpExtended && anyOps.has(l.Extended)
		if s := v.setExtent(&e, anyTrack); s != cio.Ended {
			return s
		}
	}
	switch h.Format {
	case 1:
		return v.extended(cmd, b[prefixLocateAt:], h.Auxiliary&prefixChecked == 0)
	case 2:
		if v.prog.domain.count > 0 {
			return v.reject(badSequence)
		}
		return v.order(cmd, x, b[prefixOrderAt:])
	}
	return cio.Ended
}
