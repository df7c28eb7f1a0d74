package ccw

import (
	"errors"
	"fmt"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// checks are the subchannel-status bits by which hardware says that it could
// not go on with a program.
const checks = cio.ProgramCheck | cio.ProtectionCheck | cio.DataCheck | cio.ControlCheck

// translation is the program in hand: what the guest wrote and what hardware
// got for it. It outlives the pins, because status names its addresses until
// the next program is started.
type translation struct {
	orb   cio.ORB
	whole bool // else all of it is in the window
	walk  *walker
	win   *window
}

// place is an element of a program: of a whole one, or of the window.
type place struct {
	e     *element
	at    uint32 // guest address
	index int
	err   error
}

// at finds the element whose host CCW stands at host address a.
func (t *translation) at(a uint32) (place, bool) {
	if slot := t.win.slotOf(a); slot >= 0 {
		r := &t.win.runs[slot/t.win.perRun]
		at, _ := t.win.guest(slot)
		return place{&t.win.elems[slot], at, int(r.index) + slot%t.win.perRun, t.win.err[slot]}, r.used
	}
	if !t.whole {
		return place{}, false
	}
	p := &t.walk.p
	for i := range p.segs {
		s := &p.segs[i]
		if off := a - s.host; off < uint32(s.n)*cio.CCWSize {
			k := int(s.first) + int(off/cio.CCWSize)
			return place{&p.elems[k], p.elems[k].at, k, p.errAt(k)}, true
		}
	}
	return place{}, false
}

// guest is the guest address that stands for host address a of the program.
func (t *translation) guest(a uint32) (uint32, bool) {
	if slot := t.win.slotOf(a); slot >= 0 {
		return t.win.guest(slot)
	}
	if !t.whole {
		return 0, false
	}
	for i := range t.walk.p.segs {
		s := &t.walk.p.segs[i]
		n := uint32(s.n)
		if s.exit {
			n++
		}
		if off := a - s.host; off < n*cio.CCWSize {
			return s.guest + off, true
		}
	}
	return 0, false
}

// behind turns a host address that points behind a CCW, as those in status
// do, into the guest's, of 31 bits; zero if the CCW is none of the program's.
func (t *translation) behind(host uint32) uint32 {
	g, ok := t.guest(host - cio.CCWSize)
	if !ok {
		return 0
	}
	return (g + cio.CCWSize) & (cio.Limit1 - 1)
}

// scsw turns hardware's status word into the guest's: the CCW address back
// into a guest address, the controls as the guest's ORB had them, and a check
// that hardware could find only as a program check into the one it stands
// for.
//
// An address that is none of the program's is not passed on: the guest sees
// zero, never a host address.
func (t *translation) scsw(s *cio.SCSW) {
	if host := s.CCWAddr(); host != 0 {
		s.SetCCWAddr(t.behind(host))
		if p, ok := t.at(host - cio.CCWSize); ok {
			s.SetSubchannel(p.status(s.Subchannel()))
		}
	}
	controls(s, controlsOf(&t.orb))
}

// status is the status that stands for hardware's at p.
func (p *place) status(s cio.SubchannelStatus) cio.SubchannelStatus {
	if p.e.kind == stop && p.e.hole > absent && s&cio.ProgramCheck != 0 {
		return s&^cio.ProgramCheck | holeStatus[p.e.hole]
	}
	return s
}

// translated are the flags of an SCSW that show controls of the ORB which are
// not the same in hardware's.
const translated = cio.SCSWFormat1 | cio.SCSWAddressLimit

// controlsOf is what the guest is to see of orb in these flags.
func controlsOf(orb *cio.ORB) (f cio.SCSWFlags) {
	if orb.Format1() {
		f |= cio.SCSWFormat1
	}
	if orb.AddressLimit() {
		f |= cio.SCSWAddressLimit
	}
	return f
}

// controls puts the guest's controls in place of hardware's, whose programs
// are of format 1; no program was started where that does not show.
func controls(s *cio.SCSW, guest cio.SCSWFlags) {
	if s.Flags()&cio.SCSWFormat1 != 0 {
		s.SetFlags(s.Flags()&^translated | guest)
	}
}

// esw takes host addresses out of an extended-status word: the failing
// storage address is not passed on, the secondary CCW address is translated.
func (t *translation) esw(e *cio.ESW) {
	if w := e.ERW(); w&cio.ERWFailingAddress != 0 {
		e.SetERW(w &^ cio.ERWFailingAddress)
		e.SetFailingAddress(0)
	}
	if host := e.SecondaryCCW(); host != 0 {
		e.SetSecondaryCCW(t.behind(host))
	}
}

// reason is the positioned error behind the check with which hardware
// stopped; nil when there was none.
func (t *translation) reason(st channel.Stop) error {
	if st.Subchannel&checks == 0 {
		return nil
	}
	p, ok := t.at(st.CCWAddr - cio.CCWSize)
	if !ok {
		return fmt.Errorf("program at %#x: %w", t.orb.Program(), checkError(st.Subchannel))
	}
	err := st.Err
	if err == nil {
		if p.err != nil {
			return p.err
		}
		err = fmt.Errorf("%v: %w", p.e.ccw, checkError(st.Subchannel))
	}
	return errs.At("ccw", p.index, uint64(p.at), err)
}

// Errors of checks that hardware found in CCWs that translate well.
var (
	// ErrProgramCheck is a channel program against the architecture.
	ErrProgramCheck = fmt.Errorf("program check: %w", errs.ErrInvalid)
	// ErrProtectionCheck is storage that refused the access.
	ErrProtectionCheck = fmt.Errorf("protection check: %w", errs.ErrPermission)
	// ErrDataCheck is storage that failed.
	ErrDataCheck = fmt.Errorf("channel-data check: %w", errs.ErrFault)
	// ErrControlCheck is a channel that failed.
	ErrControlCheck = errors.New("channel-control check")
)

func checkError(s cio.SubchannelStatus) error {
	switch {
	case s&cio.ProgramCheck != 0:
		return ErrProgramCheck
	case s&cio.ProtectionCheck != 0:
		return ErrProtectionCheck
	case s&cio.DataCheck != 0:
		return ErrDataCheck
	}
	return ErrControlCheck
}
