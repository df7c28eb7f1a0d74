package ccw

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Regions of a vfio-ccw device, by index.
//
// Specification: linux/include/uapi/linux/vfio_ccw.h, vfio.h.
const (
	RegionIO    = iota // start a program, read its IRB: 124 bytes
	RegionAsync        // halt or clear: 8 bytes
	RegionSCHIB        // STORE SUBCHANNEL: 52 bytes, read-only
	RegionCRW          // channel reports, one per read: 8 bytes, read-only
	NumRegions
)

// Interrupts of a vfio-ccw device, by index; each has one vector.
const (
	IRQIO      = iota // the IRB in the I/O region is new
	IRQCRW            // a channel report waits
	IRQRequest        // the device is to be given back
	NumIRQs
)

// Layout of the I/O region, packed.
const (
	ioORB    = 0   // 12 bytes
	ioSCSW   = 12  // 12 bytes
	ioIRB    = 24  // 96 bytes
	ioRet    = 120 // int32, host order: 0 or a negated errno
	ioSize   = 124
	asyncCmd = 0 // uint32, host order
	asyncRet = 4 // int32, host order
	asyncLen = 8
	crwLen   = 8
)

// Commands of the async region.
const (
	AsyncHalt  = 1 << 0
	AsyncClear = 1 << 1
)

// maxCRWs bounds the channel reports that wait; a guest that reads none loses
// the newest, and sees it by the overflow bit of the last.
const maxCRWs = 32

// RegionSize is the size of region index in bytes, 0 if there is none.
func RegionSize(index int) int {
	switch index {
	case RegionIO:
		return ioSize
	case RegionAsync:
		return asyncLen
	case RegionSCHIB:
		return cio.SCHIBSize
	case RegionCRW:
		return crwLen
	}
	return 0
}

// State is the state of a vfio-ccw device.
//
// Specification: linux/drivers/s390/cio/vfio_ccw_fsm.c.
//
//	            Open              a program is taken     hardware has it
//	Standby ----------> Idle ----> Processing ----------> Pending
//	   ^                 |  ^           | refused            | ends
//	   +------ Close ----+  +-----------+--------------------+
//
// From each of them, a device that is gone leads to NotOperational, from
// where only Close leads anywhere, to the same state.
type State uint8

const (
	StateNotOperational State = iota
	StateStandby
	StateIdle
	StateProcessing
	StatePending
)

var stateNames = [...]string{"not operational", "standby", "idle", "processing", "pending"}

// String is the name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Regions serves a device as vfio-ccw does: through four regions and three
// interrupts. All methods may be called by any goroutine.
type Regions struct {
	dev    *Device
	order  binary.ByteOrder
	notify func(irq int)

	// life is held by what opens and closes, from its beginning to its end.
	// It is taken before mu.
	life sync.Mutex

	when  func() bool       // immutable after Defer; nil: never
	queue func(work func()) // likewise
	claim atomic.Uint64     // changes when a deferred program is withdrawn or answered

	// All that follows is guarded by mu, which is never held while the device
	// is called.
	mu    sync.Mutex
	state State
	ended bool // the program in hand ended while it was being started
	// What of the status is told to the user; see interrupt.
	telling bool // somebody is at it
	again   bool // and has to look again
	unread  bool // the IRB has not been read
	held    bool // status waits for that
	later   deferred
	io      [ioSize]byte
	async   [asyncLen]byte
	crws    []cio.CRW
}

// NewRegions makes a mediated device in front of dev, in state Standby.
//
// order is the byte order in which the VMM's host keeps the ORB and SCSW that
// it writes and the codes that it reads: big-endian on s390x. QEMU under TCG
// on a little-endian host writes them as structures of that host; the IRB is
// big-endian everywhere.
//
// notify is called when interrupt irq is to be raised. It may call Read and
// Write, and must not call Open, Close, Reset and Gone, which wait for it. It
// takes the place of cfg.Interrupt.
func NewRegions(dev channel.Device, cfg Config, order binary.ByteOrder, notify func(irq int)) (*Regions, error) {
	r := &Regions{order: order, notify: notify, state: StateStandby}
	if r.notify == nil {
		r.notify = func(int) {}
	}
	cfg.Interrupt = r.interrupt
	pmcw := cio.DefaultPMCW()
	if cfg.PMCW != nil {
		pmcw = *cfg.PMCW
	}
	pmcw.SetFlags(pmcw.Flags() &^ cio.PMCWEnabled) // Open does that
	cfg.PMCW = &pmcw
	var err error
	r.dev, err = New(dev, cfg)
	return r, err
}

// Device is the subchannel behind the regions.
func (r *Regions) Device() *Device { return r.dev }

// State is the present state.
func (r *Regions) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Open enables the subchannel for its user.
func (r *Regions) Open() error {
	r.life.Lock()
	defer r.life.Unlock()
	return r.open()
}

// open is Open. The caller holds life.
func (r *Regions) open() error {
	r.mu.Lock()
	state := r.state
	if state == StateStandby {
		r.state = StateIdle // before status is told that waited for this
	}
	r.mu.Unlock()
	switch state {
	case StateStandby:
	case StateNotOperational:
		return errs.ErrGone
	default:
		return fmt.Errorf("open in state %v: %w", state, errs.ErrBusy)
	}
	err := r.enable(true)
	if err != nil {
		r.mu.Lock()
		r.state = StateStandby
		r.mu.Unlock()
	}
	return err
}

// Close takes the subchannel from its user: what runs is cleared, waiting
// status is dropped. It may be called in any state.
func (r *Regions) Close() {
	r.life.Lock()
	defer r.life.Unlock()
	r.close()
}

// close is Close. The caller holds life.
func (r *Regions) close() {
	r.mu.Lock()
	if r.state == StateNotOperational || r.state == StateStandby {
		r.mu.Unlock()
		return
	}
	r.state = StateStandby
	r.io, r.async, r.crws = [ioSize]byte{}, [asyncLen]byte{}, nil
	r.unread, r.held = false, false
	r.claim.Add(1)
	r.mu.Unlock()
	r.dev.quiesce()
	_ = r.enable(false)
}

// Reset is Close and Open.
func (r *Regions) Reset() error {
	r.life.Lock()
	defer r.life.Unlock()
	r.close()
	return r.open()
}

// Gone makes the device not operational.
func (r *Regions) Gone() {
	r.life.Lock()
	defer r.life.Unlock()
	r.mu.Lock()
	r.state = StateNotOperational
	r.claim.Add(1)
	r.mu.Unlock()
	r.dev.quiesce()
}

// enable sets or clears the enable bit of the subchannel.
func (r *Regions) enable(on bool) error {
	var s cio.SCHIB
	if cc := r.dev.Store(&s); cc != 0 {
		return errs.ErrGone
	}
	f := s.PMCW.Flags() &^ cio.PMCWEnabled
	if on {
		f |= cio.PMCWEnabled
	}
	s.PMCW.SetFlags(f)
	switch r.dev.Modify(&s) {
	case 0:
		return nil
	case cio.CC3:
		return errs.ErrGone
	}
	return errs.ErrBusy
}

// Read reads len(p) bytes at off of a region.
func (r *Regions) Read(region int, off int64, p []byte) error {
	if err := bounds(region, off, p); err != nil {
		return err
	}
	switch region {
	case RegionSCHIB:
		var s cio.SCHIB
		if r.State() == StateNotOperational || r.dev.Store(&s) != 0 {
			return errs.ErrGone
		}
		b := s.Encode()
		copy(p, b[off:])
		return nil
	case RegionCRW:
		r.readCRW(off, p)
		return nil
	}
	r.mu.Lock()
	if region == RegionIO {
		copy(p, r.io[off:])
	} else {
		copy(p, r.async[off:])
	}
	r.mu.Unlock()
	if region == RegionIO && off < ioRet && off+int64(len(p)) > ioIRB {
		r.moveOn()
	}
	return nil
}

// Write writes p at off of a region, which is a request. Its error is also in
// the return code of the region, negated, as an errno; but errs.ErrAgain, which
// says that the region was left as it is.
func (r *Regions) Write(region int, off int64, p []byte) error {
	if err := bounds(region, off, p); err != nil {
		return err
	}
	switch region {
	case RegionIO:
		return r.request(off, p)
	case RegionAsync:
		return r.asyncRequest(off, p)
	}
	return fmt.Errorf("region %d is read-only: %w", region, errs.ErrInvalid)
}

func bounds(region int, off int64, p []byte) error {
	size := int64(RegionSize(region))
	if size == 0 {
		return fmt.Errorf("region %d: %w", region, errs.ErrInvalid)
	}
	if off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("region %d of %d bytes: %d bytes at %#x: %w", region, size, len(p), off, errs.ErrInvalid)
	}
	return nil
}

// request is a write to the I/O region.
func (r *Regions) request(off int64, p []byte) error {
	wait := r.when != nil && r.when()
	r.moveOn()
	r.mu.Lock()
	if r.state == StateProcessing {
		r.mu.Unlock()
		return fmt.Errorf("a program is being taken: %w", errs.ErrAgain)
	}
	copy(r.io[off:], p)
	var err error
	switch fctl := r.functions(); {
	case r.state == StateNotOperational || r.state == StateStandby:
		err = fmt.Errorf("start in state %v: %w", r.state, errs.ErrState)
	case r.state == StatePending:
		err = errs.ErrBusy
	case fctl&cio.StartFunction == 0:
		err = fmt.Errorf("%v through the I/O region: %w", fctl, errs.ErrNotSupported)
	}
	if err != nil {
		r.result(r.io[ioRet:], err)
		r.mu.Unlock()
		return err
	}
	orb := r.orb()
	if wait {
		r.state = StatePending
		r.result(r.io[ioRet:], nil)
		r.takeLater(orb) // unlocks mu
		return nil
	}
	r.state, r.ended = StateProcessing, false
	r.mu.Unlock()

	cc, err := r.dev.Start(&orb)
	if err == nil {
		err = r.startError(cc, &orb)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.result(r.io[ioRet:], err)
	if r.state == StateProcessing { // not closed meanwhile
		r.state = StatePending
		if err != nil || r.ended {
			r.state = StateIdle
		}
	}
	return err
}

// startError is what a condition code of START SUBCHANNEL means to the user.
func (r *Regions) startError(cc cio.CC, orb *cio.ORB) error {
	switch cc {
	case 0:
		return nil
	case cio.CC3:
		var s cio.SCHIB
		if r.dev.Store(&s) == 0 && s.PMCW.LPM()&s.PMCW.PAM()&^orb.LPM() != 0 {
			return errs.ErrNoPath // another path is left
		}
		return errs.ErrGone
	}
	return errs.ErrBusy
}

// asyncRequest is a write to the async region.
func (r *Regions) asyncRequest(off int64, p []byte) error {
	r.moveOn()
	r.mu.Lock()
	state := r.state
	if state == StateProcessing {
		r.mu.Unlock()
		return fmt.Errorf("a program is being taken: %w", errs.ErrAgain)
	}
	copy(r.async[off:], p)
	cmd := r.order.Uint32(r.async[asyncCmd:])
	r.mu.Unlock()

	var err error
	var cc cio.CC
	switch {
	case state == StateNotOperational || state == StateStandby:
		err = fmt.Errorf("command in state %v: %w", state, errs.ErrState)
	case cmd == AsyncHalt:
		r.withdraw()
		cc = r.dev.Halt()
	case cmd == AsyncClear:
		r.withdraw()
		cc = r.dev.Clear()
	default:
		err = fmt.Errorf("async command %#x: %w", cmd, errs.ErrInvalid)
	}
	switch {
	case err != nil || cc == 0:
	case cc == cio.CC3:
		err = errs.ErrGone
	default:
		err = errs.ErrBusy
	}
	r.mu.Lock()
	r.result(r.async[asyncRet:], err)
	r.mu.Unlock()
	return err
}

// result writes the return code for err.
func (r *Regions) result(b []byte, err error) {
	r.order.PutUint32(b, uint32(-int32(errs.Errno(err))))
}

// functions is the function control in the SCSW area, which says what a write
// to the I/O region asks for.
func (r *Regions) functions() cio.Control {
	// Big-endian this is the halfword at byte 2; a little-endian host writes
	// its two halfwords each in its own order.
	return cio.Control(r.order.Uint16(r.io[ioSCSW+2:])) & cio.FunctionMask
}

// orb is the ORB in the I/O region, of which vfio-ccw takes 12 bytes: a word,
// a halfword, two bytes, a word.
func (r *Regions) orb() cio.ORB {
	var orb cio.ORB
	in, out := r.io[ioORB:ioSCSW], orb.Raw[:]
	binary.BigEndian.PutUint32(out[0:], r.order.Uint32(in[0:]))
	binary.BigEndian.PutUint16(out[4:], r.order.Uint16(in[4:]))
	out[6], out[7] = in[6], in[7]
	binary.BigEndian.PutUint32(out[8:], r.order.Uint32(in[8:]))
	orb.SetExtended(false)
	return orb
}

// interrupt takes the status of the subchannel into the I/O region and tells
// the user. One goroutine at a time does, so that the region has the statuses
// in the order in which they arose; the others leave theirs to it.
//
// The region holds one IRB. Status that nobody asked for does not take the place
// of one that the user has not read: it stays pending until that is read, or
// the user goes on without. The user is told all the same, in case it has not
// heard of the first, and once more when the second is there.
func (r *Regions) interrupt() {
	r.mu.Lock()
	if r.again = r.telling; r.again {
		r.mu.Unlock()
		return
	}
	r.telling = true
	for {
		r.again = false
		unread := r.unread
		r.mu.Unlock()
		if r.take(unread) {
			r.notify(IRQIO)
		}
		r.mu.Lock()
		if !r.again {
			break
		}
	}
	r.telling = false
	r.mu.Unlock()
}

// take takes the status of the subchannel into the I/O region, if it may. unread
// says that an IRB is there that the user has not read. It reports whether the
// user is to be told.
func (r *Regions) take(unread bool) bool {
	if unread {
		var s cio.SCHIB
		if r.dev.Store(&s) != 0 || s.SCSW.Control()&cio.StatusPending == 0 {
			return false
		}
		if !solicited(&s.SCSW) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if !r.unread { // it was read meanwhile
				r.again = true
				return false
			}
			told := r.held
			r.held = true
			return !told
		}
	}
	var irb cio.IRB
	if r.dev.Test(&irb) != 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == StateNotOperational || r.state == StateStandby {
		return false // nobody is there to hear it
	}
	b := irb.Encode()
	copy(r.io[ioIRB:], b[:])
	r.unread, r.held = true, false
	if solicited(&irb.SCSW) && irb.SCSW.AC()&(cio.SubchannelActive|cio.DeviceActive|cio.StartPending|cio.Suspended) == 0 {
		switch r.state {
		case StatePending:
			r.state = StateIdle
		case StateProcessing:
			r.ended = true
		}
	}
	return true
}

// moveOn is called when the user has read the IRB, or does something else: what
// was held back for it is told.
func (r *Regions) moveOn() {
	r.mu.Lock()
	held := r.held
	r.unread, r.held = false, false
	r.mu.Unlock()
	if held {
		r.interrupt()
	}
}

// solicited reports whether s answers something the program asked for: status
// of another kind does not end a program that is being taken.
func solicited(s *cio.SCSW) bool {
	return s.DeferredCC() != 0 || s.SC() != cio.AlertStatus|cio.StatusPending
}

// Report queues a channel report word and raises its interrupt.
func (r *Regions) Report(w cio.CRW) {
	r.mu.Lock()
	if len(r.crws) < maxCRWs {
		r.crws = append(r.crws, w)
	} else {
		r.crws[maxCRWs-1] |= cio.CRWOverflow
	}
	r.mu.Unlock()
	r.notify(IRQCRW)
}

// readCRW takes the oldest report; zero when there is none.
func (r *Regions) readCRW(off int64, p []byte) {
	var b [crwLen]byte
	r.mu.Lock()
	if len(r.crws) > 0 {
		r.order.PutUint32(b[:], uint32(r.crws[0]))
		r.crws = append(r.crws[:0], r.crws[1:]...)
	}
	left := len(r.crws)
	r.mu.Unlock()
	copy(p, b[off:])
	if left > 0 {
		r.notify(IRQCRW)
	}
}
