package channel

import (
	"sync"
	"sync/atomic"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// Memory is what the channel subsystem reaches. Both calls move all of p or
// nothing of it; an error is one of package errs, see the package comment for
// what each becomes. *iommu.Domain is one.
type Memory interface {
	Read(a addr.HPA, p []byte) error
	Write(a addr.HPA, p []byte) error
}

// Checker is a Memory that can say whether storage is there without touching
// it. The range of a direct CCW is checked whole by it before the first byte
// moves; without it only the pages that data really move to are checked.
type Checker interface {
	Check(a addr.HPA, n addr.Len, want addr.Access) error
}

// Device is what stands at the end of the path. The goroutine that serves the
// subchannel makes all calls, one at a time.
type Device interface {
	// Begin tells that a new program reaches the device: the next command is
	// not chained to the last one. Also after a resume.
	Begin()
	// Execute does one operation, whose data move through x, and returns the
	// ending status. It must include DeviceEnd, or ChannelEnd when DeviceEnd
	// follows by [Subchannel.Attention]; command chaining needs both. x is
	// valid until Execute returns.
	Execute(cmd cio.Command, x *Transfer) cio.DeviceStatus
	// Sense takes the sense bytes that a unit check left; the device holds
	// none afterwards. nil if there is none. The slice is copied at once.
	Sense() []byte
	// Reset is a clear or selective reset: nothing of a program is left.
	Reset()
}

// MaxBackwardTIC is the number of transfers to a lower or the same address
// that a program may make without moving data in between, unless the Config
// says otherwise [SDL-Hyperion channel.c; the architecture lets the channel end
// a long sequence without data, and gives no number].
const MaxBackwardTIC = 255

// Config is how a subchannel is built. The zero value is usable.
type Config struct {
	// Interrupt is called when the subchannel becomes status-pending, with no
	// lock held. It may call every method but Close. nil = nobody is told.
	Interrupt func()
	// Dispatch hands work to another goroutine; it must run it sooner or
	// later, once. nil = a program runs before Start or Resume returns, or,
	// when another goroutine serves the subchannel right then, on that one.
	Dispatch func(run func())
	// Steps is the work meter: it is called for every CCW that is fetched,
	// transfers included, with the number of steps. Its error ends the program
	// with a program check, and Err returns it. nil = no limit.
	Steps func(n int) error
	// Fetching is called on the serving goroutine before a CCW is fetched, once
	// for it and the transfer in channel that leads to it, and tells whether
	// data chaining leads there (or command chaining, or the start). nil =
	// nobody wants to know.
	Fetching func(dataChaining bool)
	// Moved is the meter of data: it is called for every piece of data that
	// moved, with its bytes. Its error ends the program as that of Steps does.
	// nil = no limit.
	Moved func(n int) error
	// Stopped is called on the serving goroutine, with no lock held, when the
	// start function is over or suspended, before anybody can see that in the
	// status: memory and device are not touched for it any more. It is called
	// also for a start that a halt or clear ended before it ran, and may then
	// be called when nothing was started at all.
	Stopped func(Stop)
	// Concluded is called on the serving goroutine, with no lock held, when an
	// operation is over, and when a check ends the program before one is
	// begun. nil = nobody wants to know.
	Concluded func(Conclusion)
	// MaxBackwardTIC replaces the constant of the same name when positive.
	MaxBackwardTIC int
	// AddressLimit is what SET ADDRESS LIMIT set. With the A bit of the ORB
	// and a limit mode in the PMCW, data addresses are compared with it.
	AddressLimit addr.HPA
}

// Subchannel is one emulated subchannel with its device. All methods may be
// called concurrently.
type Subchannel struct {
	mem   Memory  // immutable
	check Checker // immutable; nil if mem is none
	dev   Device  // immutable; called by the serving goroutine alone
	cfg   Config  // immutable
	serve func()  // immutable; s.service, bound once so that starting allocates nothing

	// stop asks a running program to end at the next element: a halt, a clear
	// or a close is pending. Set and reset under mu, read without.
	stop atomic.Bool

	mu        sync.Mutex
	pmcw      cio.PMCW         // guarded by mu
	mba       [8]byte          // guarded by mu
	orb       cio.ORB          // guarded by mu; of the start function
	st        status           // guarded by mu
	attention cio.DeviceStatus // guarded by mu; what the device wants to tell and could not yet
	err       error            // guarded by mu; see Err
	queued    bool             // guarded by mu; handed to Dispatch and not begun
	serving   bool             // guarded by mu; a goroutine is in service
	closed    bool             // guarded by mu
	idle      sync.Cond        // of mu; serving became false

	prog program  // owned by the serving goroutine
	x    Transfer // owned by the serving goroutine
}

// New makes a subchannel for dev. pmcw tells the paths, the device number and
// whether it is enabled and valid; cfg may be nil.
func New(mem Memory, dev Device, pmcw cio.PMCW, cfg *Config) *Subchannel {
	s := &Subchannel{mem: mem, dev: dev, pmcw: pmcw}
	if cfg != nil {
		s.cfg = *cfg
	}
	if s.cfg.MaxBackwardTIC <= 0 {
		s.cfg.MaxBackwardTIC = MaxBackwardTIC
	}
	s.check, _ = mem.(Checker)
	s.serve = s.service
	s.idle.L = &s.mu
	s.x.s = s
	return s
}

// Err is the error of the work meter that ended the last program, nil if none
// did.
func (s *Subchannel) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop is how a start function stopped.
type Stop struct {
	Suspended  bool                 // it can be resumed
	Subchannel cio.SubchannelStatus // as the SCSW is going to show it
	CCWAddr    uint32               // likewise
	Err        error                // of the work meter
}

// Conclusion is how one operation ended.
type Conclusion struct {
	Device     cio.DeviceStatus     // with which the device ended; zero if it did not get the command
	Subchannel cio.SubchannelStatus // what the channel found: incorrect length, a check
	CCWAddr    uint32               // 8 beyond the last CCW that was used, as the SCSW would show it
	Count      uint16               // residual count of that CCW
	Stopped    bool                 // a halt, a clear or a close cut it short
}

// stopped tells that the start function has stopped.
func (s *Subchannel) stopped(st Stop) {
	if s.cfg.Stopped != nil {
		s.cfg.Stopped(st)
	}
}

// Wait returns when no goroutine serves the subchannel, nor is to by Dispatch.
// It must not be called from where Close must not.
func (s *Subchannel) Wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.serving || s.queued {
		s.idle.Wait()
	}
}

// Close ends a running program, waits for the serving goroutine to be done and
// takes no further instruction: each gives condition code 3. It must not be
// called from within Interrupt, Steps or a device, which would wait for itself.
func (s *Subchannel) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.stop.Store(true)
	for s.serving {
		s.idle.Wait()
	}
}
