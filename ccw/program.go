package ccw

import (
	"errors"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// program is a guest's channel program as it was fetched: the CCWs that
// execution can reach, and the pieces of memory they name. It holds guest
// addresses only. Walk builds it; after that nothing of the guest is read
// again for it.
type program struct {
	orb     cio.ORB
	format1 bool
	elems   []element
	segs    []segment
	pieces  []piece
	faults  []fault
}

// segment is a run of CCWs at consecutive guest addresses.
type segment struct {
	guest    uint32 // address of its first CCW
	first, n int32  // its elements: elems[first : first+n]

	// exit says that status modifier may carry execution past the last
	// element, to a CCW that was not fetched. The window translates it if
	// that happens.
	exit bool

	host uint32 // address of its first CCW in the host program
}

// element is one CCW.
type element struct {
	at   uint32 // guest address
	ccw  cio.CCW
	way  way
	kind kind
	// hole is the check that hardware is to find: of the CCW itself (stop), of
	// its list address (badList), or of its data range (badDirect).
	hole hole
	// unfetched says that there was no CCW to be had at this address.
	unfetched bool
	// target is where a transfer leads: segment and position in it.
	target struct{ seg, pos int32 }
	// pieces are its data: pieces[first : first+n].
	first, n int32
}

// kind says how the address field of an element is translated.
type kind uint8

const (
	// noData: no storage is named: count zero, skipped input, no command.
	noData kind = iota
	// transfer: the target is another element.
	transfer
	// direct: the pieces are the blocks of one range and become a list.
	direct
	// indirect: the pieces are those of an IDAL.
	indirect
	// modified: the pieces are those of a MIDAL.
	modified
	// asIs: the CCW is wrong in a way that needs no address to be seen, as an
	// unknown combination of flags. Hardware is shown the same CCW.
	asIs
	// badDirect: the range of direct data has no translation as a whole.
	badDirect
	// badList: the list cannot be fetched or is misaligned.
	badList
	// badWord: the first word of the list is wrong in itself, before it names
	// any storage.
	badWord
	// stop: there is no usable CCW here.
	stop
)

// way is how execution can reach an element, and so which way its data moves.
type way uint8

const (
	asCommand way = 1 << iota // by its own command code
	dataOut                   // by data chaining: memory to device
	dataIn                    // by data chaining: device to memory
	dataBack                  // by data chaining from a read backward
)

// direction is the one way in which the data of an element moves, zero for
// none. ok is false when there is more than one.
func (e *element) direction(format1 bool) (d way, ok bool) {
	d = e.way &^ asCommand
	if e.way&asCommand != 0 {
		d |= directionOf(e.ccw.Command.Class(format1))
	}
	return d, d&(d-1) == 0
}

func directionOf(c cio.Class) way {
	switch c {
	case cio.ClassWrite, cio.ClassControl:
		return dataOut
	case cio.ClassRead, cio.ClassSense:
		return dataIn
	case cio.ClassReadBackward:
		return dataBack
	}
	return 0
}

func (d way) access() addr.Access {
	switch d {
	case dataOut:
		return addr.Read
	case dataIn, dataBack:
		return addr.Write
	}
	return 0
}

// piece is memory that one word of a list covers.
type piece struct {
	at    addr.IOVA // first byte to move; of a read backward the last
	n     uint32    // bytes
	hole  hole      // the check to find here instead, if any
	flags cio.MIDAWFlags
	count uint16   // of a MIDAW, as fetched
	zero  [5]uint8 // of a MIDAW, as fetched
}

// hole names a part of the host's space where hardware finds nothing: an
// address that has no translation becomes an address in a hole, so that
// hardware itself reports the check, when and as the architecture says.
type hole uint8

const (
	noHole    hole = iota
	absent         // no such storage: program check
	protected      // storage that refuses the access: protection check
	gone           // storage that failed: channel-data check
	// refused is no place: the mediator could not go on. Channel-control check.
	refused
)

var holeStatus = [...]cio.SubchannelStatus{
	absent:    cio.ProgramCheck,
	protected: cio.ProtectionCheck,
	gone:      cio.DataCheck,
	refused:   cio.ControlCheck,
}

// holeOf is the hole that shows hardware the same failure as err, the answer
// of the store for a guest address. ok is false when err says nothing about
// the address: then the request is refused.
func holeOf(err error) (h hole, ok bool) {
	switch {
	case errors.Is(err, errs.ErrNotMapped), errors.Is(err, errs.ErrOverflow), errors.Is(err, errs.ErrOutsideRange), errors.Is(err, errs.ErrMisaligned):
		return absent, true
	case errors.Is(err, errs.ErrPermission):
		return protected, true
	case errors.Is(err, errs.ErrFault):
		return gone, true
	}
	return noHole, false
}

// fault is what is wrong with an element or, with piece >= 0, with a word of
// its list.
type fault struct {
	elem, piece int32
	err         error
}

func (p *program) fault(elem, pc int, err error) {
	p.faults = append(p.faults, fault{int32(elem), int32(pc), err})
}

// errAt is the positioned error of element i, or nil.
func (p *program) errAt(i int) error {
	for _, f := range p.faults {
		if int(f.elem) == i {
			return p.position(f)
		}
	}
	return nil
}

func (p *program) position(f fault) error {
	e, err := &p.elems[f.elem], f.err
	if f.piece >= 0 {
		err = errs.In(wordName(e.ccw), int(f.piece), err)
	}
	return errs.At("ccw", int(f.elem), uint64(e.at), err)
}

func (p *program) reset(orb *cio.ORB) {
	p.orb, p.format1 = *orb, orb.Format1()
	p.elems, p.segs, p.pieces, p.faults = p.elems[:0], p.segs[:0], p.pieces[:0], p.faults[:0]
}

// limit is the first address that CCWs, lists and direct data of the program
// cannot have.
func (p *program) limit() uint64 {
	if p.format1 {
		return cio.Limit1
	}
	return cio.Limit0
}

// elemAt is the element where a transfer leads, or nil when the segment
// turned out shorter.
func (p *program) elemAt(seg, pos int32) *element {
	s := &p.segs[seg]
	if pos >= s.n {
		return nil
	}
	return &p.elems[s.first+pos]
}
