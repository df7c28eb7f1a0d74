package dasd

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// params fetches up to len(b) bytes of parameters and reports how many came.
func params(x *channel.Transfer, b []byte) int {
	x.Accept()
	return x.FetchUpTo(b)
}

// setFileMask takes the file mask of a program that defines no extent.
func (v *Volume) setFileMask(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if p.has(extentDefined | maskSet) {
		return v.reject(badSequence)
	}
	if params(x, v.buf[:1]) < 1 {
		return v.shortOf(x)
	}
	m, ok := mask(FileMask(v.buf[0]))
	if !ok {
		return v.reject(badParameter)
	}
	p.mask = m
	p.state |= maskSet
	return cio.Ended
}

// shortOf rejects parameters that are too few, unless it was the channel that
// stopped them.
func (v *Volume) shortOf(x *channel.Transfer) cio.DeviceStatus {
	if x.Terminated() {
		return cio.Ended
	}
	return v.reject(badCount)
}

// mask is the file mask that m stands for: diagnostic authorization is not to
// be had of a 2107, and what includes it is device support.
func mask(m FileMask) (FileMask, bool) {
	if m&MaskReserved != 0 || m&MaskAuthorization == MaskAuthDiagnose {
		return 0, false
	}
	if m&MaskAuthorization == MaskAuthorization {
		m &^= MaskAuthDiagnose
	}
	return m, true
}

// defineExtent takes the extent in which the program may work.
func (v *Volume) defineExtent(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	// The long form brings an extended parameter, a time stamp, which nothing
	// here needs.
	if params(x, v.buf[:ExtentLong]) < ExtentSize {
		return v.shortOf(x)
	}
	e := DecodeExtent((*[ExtentSize]byte)(v.buf[:]))
	return v.setExtent(&e, false)
}

// setExtent makes e the extent of the program. A locate that reads or writes
// one track with any operation (anyTrack) never comes to its end, which is then
// not looked at.
//
// Specification: GA32-0274, "Define Extent".
func (v *Volume) setExtent(e *Extent, anyTrack bool) cio.DeviceStatus {
	p := &v.prog
	if p.domain.count > 0 || p.has(maskSet|loaded) {
		return v.reject(badSequence)
	}
	size := e.BlockSize
	if size == 0 {
		size = MaxR0 + countSize
	}
	m, ok := mask(e.Mask)
	again := p.has(extentDefined)
	bounds := badParameter
	if again {
		// A second extent may only be a smaller one.
		bounds = badSequence
		if m != p.mask || e.Attributes != p.attributes || size != p.blockSize {
			return v.reject(badSequence)
		}
	}
	first, last := DecodeAddress(e.First), DecodeAddress(e.Last)
	switch {
	case e.Attributes&attrMode != attrMode, !ok, size > MaxR0+countSize,
		e.Fast != 0, e.Additional != 0:
		return v.reject(badParameter)
	case !v.onVolume(e.First), first.Track() < p.first, first.Track() > p.last:
		return v.reject(uint8(bounds))
	case anyTrack:
	case !v.onVolume(e.Last), last.Track() < first.Track(), last.Track() > p.last:
		return v.reject(uint8(bounds))
	default:
		p.last = last.Track()
	}
	p.first = first.Track()
	p.mask, p.attributes, p.blockSize = m, e.Attributes, size
	p.state |= extentDefined
	return cio.Ended
}

// onVolume reports whether a CCHH names a track of the volume.
func (v *Volume) onVolume(cchh uint32) bool { return v.img.Geometry().Contains(DecodeAddress(cchh)) }

// seekSize is the size of a seek address: two bytes zero, then CCHH.
const seekSize = 6

// seek is Seek, Seek Cylinder and Seek Head. They differ in what the file mask
// allows; Seek Head keeps the cylinder.
func (v *Volume) seek(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	if params(x, v.buf[:seekSize]) < seekSize {
		return v.shortOf(x)
	}
	const seekCylinder, seekHead = 0x0B, 0x1B
	var ok bool
	switch p.mask & MaskSeek {
	case MaskSeekAll:
		ok = true
	case MaskSeekCylinder:
		ok = cmd == seekCylinder || cmd == seekHead
	case MaskSeekHead:
		ok = cmd == seekHead
	}
	if !ok {
		return v.check(cio.FileProtected)
	}
	to := cchh(v.buf[2:])
	if cmd == seekHead {
		to = to&0x0000000F | Address{Cylinder: v.track / Heads}.Encode()
	}
	if v.buf[0] != 0 || v.buf[1] != 0 || !v.onVolume(to) {
		return v.reject(badParameter)
	}
	track := DecodeAddress(to).Track()
	if track < p.first || track > p.last {
		return v.check(cio.FileProtected)
	}
	if s := v.selectTrack(track); s != 0 {
		return s
	}
	p.state |= sought
	return cio.Ended
}

// setSector takes the angular position before a search. There is none here.
func (v *Volume) setSector(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if params(x, v.buf[:1]) < 1 {
		return v.shortOf(x)
	}
	if s := v.buf[0]; s != 0xFF && s >= Sectors {
		return v.reject(badParameter)
	}
	return cio.Ended
}

// readSector gives the sector of the record last read, which is 0 where a
// track does not turn.
func (v *Volume) readSector(_ cio.Command, x *channel.Transfer) cio.DeviceStatus {
	v.buf[0] = 0
	x.Store(v.buf[:1])
	return cio.Ended
}
