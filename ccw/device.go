package ccw

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Config says what a device is made of. Store, Pinner and Space are needed;
// every other field has a default.
type Config struct {
	Name   string // owner of its pins and domain in logs and ledgers
	Store  *translate.Store
	Pinner *pinning.Pinner
	Space  *iommu.Space

	// PMCW is the path-management-control word the subchannel starts with.
	// Default: cio.DefaultPMCW.
	PMCW *cio.PMCW

	// Limits bounds the work of one program.
	Limits job.Limits
	// MaxChain and MaxSegments replace the constants of the same name. At most
	// 8,191 and 30.
	MaxChain, MaxSegments int

	// Dispatch runs a program; nil runs it before Start returns.
	Dispatch func(run func())
	// Interrupt is called when status becomes pending, with no lock held.
	Interrupt func()

	// Account is called once for each program that was refused, or that
	// hardware took and has stopped: with no lock held, and before the guest
	// can know that it has ended.
	Account func(Account)

	// Observe is called with each program that hardware took, as soon as the
	// guest has taken its final status, by the goroutine that took it and with
	// no lock held; Test returns after it. The Submission and all in it belong
	// to the device again when Observe returns. Nil observes nothing, and
	// costs nothing.
	Observe func(*Submission)
	// ObserveBytes bounds the guest memory that is kept of one program, in
	// whole pages; of a larger one the Submission has an error and no more.
	// Default: DefaultObserveBytes.
	ObserveBytes addr.Len

	// Log gets one line per program that ended in a check or was refused, at
	// level Debug: a guest can cause any number of them. Nil is silent.
	Log *slog.Logger
}

// Device is a mediated subchannel: the guest's I/O instructions come in, and
// hardware gets programs that name nothing but what the device has pinned.
//
// All methods may be called by any goroutine. A call that starts a program
// waits for the program only if Config.Dispatch is nil.
type Device struct {
	cfg    Config
	domain *iommu.Domain
	owner  *pinning.Owner
	hw     *channel.Subchannel
	remove []func()

	// mu serialises the guest's instructions as far as they change what the
	// device is at. It is never held while hardware runs.
	mu        sync.Mutex
	phase     phase         // guarded by mu
	program   uint64        // number of the program in hand; guarded by mu
	withdrawn bool          // the program being taken must not start; guarded by mu
	run       func()        // what hardware wants dispatched; guarded by mu
	controls  cio.SCSWFlags // of the program in hand, as the guest sees them; guarded by mu

	// prog guards the program in hand against the look at its addresses that
	// status takes. It is a leaf: nothing is locked under it but the store's
	// and the pinner's own locks.
	prog  sync.Mutex
	job   *job.Job
	walk  walker
	out   rewriter
	win   window
	hosts []addr.HPA
	t     translation
	err   error // why the last program was refused or ended in a check
	usage job.Usage
	host  cio.ORB
	watch *watch // nil when nobody observes
	freed bool   // nothing is left to translate with
}

// phase is what a device is at.
//
//	idle --Start--> taking --> running --(ends)--> idle
//	                  |         |    ^
//	               (refused)    |    +--Resume-- suspended
//	                  v         +-----(suspends)---^
//	                 idle
type phase uint8

const (
	idle      phase = iota
	taking          // a program is being fetched and translated
	running         // hardware has it
	suspended       // hardware keeps its place, or gave it up; nothing is pinned
	closed
)

// New is a mediated device in front of dev.
func New(dev channel.Device, cfg Config) (*Device, error) {
	if cfg.Store == nil || cfg.Pinner == nil || cfg.Space == nil {
		return nil, fmt.Errorf("ccw device %q without store, pinner or space: %w", cfg.Name, errs.ErrInvalid)
	}
	if cfg.MaxChain == 0 {
		cfg.MaxChain = MaxChain
	}
	if cfg.MaxSegments == 0 {
		cfg.MaxSegments = MaxSegments
	}
	if most := chunkSize/cio.CCWSize - 1; cfg.MaxChain < 1 || cfg.MaxChain > most || cfg.MaxSegments < 1 || cfg.MaxSegments > windowRuns-2 {
		return nil, fmt.Errorf("ccw device %q with chains of %d in %d segments: %w", cfg.Name, cfg.MaxChain, cfg.MaxSegments, errs.ErrInvalid)
	}
	pmcw := cio.DefaultPMCW()
	if cfg.PMCW != nil {
		pmcw = *cfg.PMCW
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}

	d := &Device{cfg: cfg, domain: cfg.Space.NewDomain(cfg.Name)}
	d.owner = cfg.Pinner.NewOwner(cfg.Name, d.domain, d.cancel)
	d.job = job.New(cfg.Store, d.owner)
	d.walk = walker{job: d.job, maxChain: cfg.MaxChain, maxSegments: cfg.MaxSegments}
	d.out.space, d.out.domain = cfg.Space, d.domain
	if err := d.lay(); err != nil {
		d.free()
		return nil, fmt.Errorf("ccw device %q: %w", cfg.Name, err)
	}
	hw := &channel.Config{
		Interrupt: d.interrupt,
		Stopped:   d.stopped,
		Dispatch:  func(run func()) { d.run = run },
		Fetching:  d.win.fetching,
		Steps:     d.job.Step,
		Moved:     d.job.Moved,
	}
	mem := channel.Memory(d.domain)
	if cfg.Observe != nil {
		d.watch = newWatch(cfg.ObserveBytes)
		d.job.Watch(d.watch.program)
		mem, hw.Concluded = tap{d}, d.concluded
	}
	d.hw = channel.New(mem, dev, pmcw, hw)
	return d, nil
}

// lay lays out the device's part of the host's space: arena, window, holes.
func (d *Device) lay() error {
	if _, _, err := d.out.alloc(cio.CCWSize, cio.CCWSize, true); err != nil {
		return err
	}
	if err := d.win.init(&d.out, d.walk, d.cfg.Space); err != nil {
		return err
	}
	remove := d.domain.Trap(d.win.place.Range, func(hpa addr.HPA, p []byte) error {
		d.prog.Lock()
		defer d.prog.Unlock()
		return d.win.read(hpa, p)
	})
	d.remove = append(d.remove, remove)
	for _, x := range []struct {
		hole hole
		err  error
	}{
		{absent, errs.ErrNotMapped}, {protected, errs.ErrPermission}, {gone, errs.ErrFault},
	} {
		f, aerr := d.cfg.Space.Reserve(holeSize, cio.Limit1)
		if aerr != nil {
			return aerr
		}
		remove := d.domain.Hole(f.Range, x.err)
		d.remove = append(d.remove, func() { remove(); f.Free() })
		d.out.holes[x.hole] = uint32(f.Start())
	}
	d.t = translation{walk: &d.walk, win: &d.win}
	return nil
}

// Start is START SUBCHANNEL. Condition code 0 means that the program was
// taken; how it went is in the status. An error means that it was refused by
// the mediator and never started: errs.ErrChainTooLong, errs.ErrBudget,
// errs.ErrMemlock, errs.ErrSuspended, errs.ErrBusy (memory being unmapped),
// errs.ErrNotSupported (transport mode), errs.ErrGone; errs.Errno tells what
// vfio-ccw would return.
func (d *Device) Start(orb *cio.ORB) (cio.CC, error) { return d.start(orb, nil) }

// start is Start of a program that may have been withdrawn: allowed, if not
// nil, is asked when withdraw cannot come between.
func (d *Device) start(orb *cio.ORB, allowed func() bool) (cio.CC, error) {
	if cc, err := d.begin(orb, allowed); cc != 0 || err != nil {
		return cc, err
	}
	if err := d.translate(orb); err != nil {
		return 0, d.refuse(refusal(orb, err))
	}
	return d.launch()
}

// refuse ends a program that is not started.
func (d *Device) refuse(err error) error {
	d.prog.Lock()
	var used job.Usage
	if d.job.Active() {
		used = d.job.Used()
	}
	d.job.End()
	d.err = err
	if d.watch != nil {
		d.watch.drop()
	}
	d.prog.Unlock()
	d.settle(idle)
	d.cfg.Log.Debug("program refused", "device", d.cfg.Name, "err", err)
	d.account(Account{Refused: true, Err: err, Usage: used})
	return err
}

// Account is what one program came to.
type Account struct {
	// Refused says that it was never started: Err says why.
	Refused bool
	// Err is also set when the program ended in a check, which is then in
	// Check.
	Err   error
	Check cio.SubchannelStatus
	Usage job.Usage
}

func (d *Device) account(a Account) {
	if d.cfg.Account != nil {
		d.cfg.Account(a)
	}
}

// begin takes the device for a new program, if hardware could take one.
func (d *Device) begin(orb *cio.ORB, allowed func() bool) (cio.CC, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.phase == closed:
		return cio.CC3, errs.ErrGone
	case allowed != nil && !allowed():
		return cio.CC2, errWithdrawn
	case d.phase == taking:
		return cio.CC2, errs.ErrAgain
	case d.phase == running:
		return cio.CC2, nil
	}
	var s cio.SCHIB
	if cc := d.hw.Store(&s); cc != 0 {
		return cc, nil
	}
	switch c := s.SCSW.Control(); {
	case s.PMCW.Flags()&cio.PMCWEnabled == 0:
		return cio.CC3, nil
	case c&cio.StatusPending != 0:
		return cio.CC1, nil
	case c&cio.FunctionMask != 0:
		return cio.CC2, nil
	}
	if err := channel.CheckORB(orb); err != nil {
		return 0, err
	}
	d.phase, d.withdrawn, d.controls = taking, false, controlsOf(orb)
	d.program++
	return 0, nil
}

// translate makes the host program: fetch, pin, write.
func (d *Device) translate(orb *cio.ORB) error {
	d.prog.Lock()
	defer d.prog.Unlock()
	if d.freed {
		return errs.ErrGone
	}
	d.err = nil
	d.job.Begin(d.program, d.cfg.Limits)
	if d.watch != nil {
		var s cio.SCHIB
		_ = d.hw.Store(&s) // it would say that the device is closed
		d.watch.begin(d.program, orb, &s.PMCW, false)
	}
	d.out.reset()
	d.t.orb = *orb
	// A program that may change while it runs is translated as it runs.
	d.t.whole = orb.Prefetch() && !orb.Suspend()
	if err := d.win.reset(orb, !orb.Prefetch()); err != nil {
		return err
	}
	var first uint32
	if d.t.whole {
		whole, err := d.walk.walk(orb)
		if err != nil {
			return err
		}
		d.t.whole = whole
	}
	if d.t.whole {
		hosts, err := d.walk.pinAll(d.hosts)
		d.hosts = hosts
		if err != nil {
			return err
		}
		if first, err = d.out.rewrite(&d.walk.p, hosts, &d.win); err != nil {
			return err
		}
	} else {
		first = d.win.enter(orb.Program())
	}
	d.host = hostORB(orb, first)
	return nil
}

// launch gives the host program to hardware. That hardware took it and that
// the device is running is one step for everybody else; so that it can be,
// hardware does not run the program within it.
func (d *Device) launch() (cio.CC, error) {
	d.mu.Lock()
	switch {
	case d.phase == closed:
		d.mu.Unlock()
		return cio.CC3, d.refuse(errs.ErrGone)
	case d.withdrawn:
		d.mu.Unlock()
		return cio.CC2, d.refuse(fmt.Errorf("reset while the program was taken: %w", errs.ErrAgain))
	}
	cc := d.hw.Start(&d.host)
	if cc == 0 {
		d.phase = running
	}
	d.dispatch() // unlocks mu
	if cc != 0 { // hardware did not take it, so it will not say that it ended
		d.end()
		d.settle(idle)
	}
	return cc, nil
}

// dispatch unlocks mu and has done what hardware asked for meanwhile.
func (d *Device) dispatch() {
	run := d.run
	d.run = nil
	d.mu.Unlock()
	switch {
	case run == nil: // refused, or left to the goroutine that serves hardware
	case d.cfg.Dispatch != nil:
		d.cfg.Dispatch(run)
	default:
		run()
	}
}

// end drops what the program in hand holds.
func (d *Device) end() {
	d.prog.Lock()
	d.job.End()
	if d.watch != nil {
		d.watch.drop()
	}
	d.prog.Unlock()
}

func (d *Device) settle(p phase) {
	d.mu.Lock()
	if d.phase != closed {
		d.phase = p
	}
	d.mu.Unlock()
}

// stopped is called by hardware when a run is over or suspended: no access of
// its program is under way any more, and nobody has been told.
func (d *Device) stopped(st channel.Stop) {
	d.mu.Lock()
	current := d.phase == running
	d.mu.Unlock()
	if !current {
		return // a clear or halt with nothing to end
	}
	d.prog.Lock()
	d.err = d.t.reason(st)
	d.usage = d.job.Used()
	if d.watch != nil {
		d.watch.stopped()
	}
	err, used, check := d.err, d.usage, st.Subchannel&checks
	if check != 0 {
		if p, ok := d.t.at(st.CCWAddr - cio.CCWSize); ok {
			check = p.status(check)
		}
	}
	d.job.End()
	d.prog.Unlock()
	if st.Suspended {
		d.settle(suspended)
	} else {
		d.settle(idle)
	}
	if err != nil {
		d.cfg.Log.Debug("program ended in a check", "device", d.cfg.Name, "err", err)
	}
	d.account(Account{Err: err, Check: check, Usage: used})
}

// interrupt is called by hardware when status becomes pending.
func (d *Device) interrupt() {
	if d.cfg.Interrupt != nil {
		d.cfg.Interrupt()
	}
}

// cancel is called when memory that a program has pinned is being unmapped:
// the program ends at its next CCW.
func (d *Device) cancel(program uint64, r addr.Range[addr.IOVA]) {
	d.mu.Lock()
	defer d.mu.Unlock() // or it could be the next program that ends
	if d.program == program {
		d.job.Cancel(fmt.Errorf("%v is being unmapped: %w", r, errs.ErrBusy))
	}
}

// Err is why the last program was refused or ended in a check, with the
// position of the element; nil when it went through.
func (d *Device) Err() error {
	d.prog.Lock()
	defer d.prog.Unlock()
	return d.err
}

// Usage is the work that the last program did.
func (d *Device) Usage() job.Usage {
	d.prog.Lock()
	defer d.prog.Unlock()
	return d.usage
}

// Domain is the hardware's reach, for its fault log.
func (d *Device) Domain() *iommu.Domain { return d.domain }

// Close ends what the device does and gives back all it holds. It waits for
// a program that is being taken or runs, which ends at its next CCW; so it must
// not be called from Interrupt or by the device. Closing twice is harmless.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.phase == closed {
		d.mu.Unlock()
		return nil
	}
	d.phase = closed
	d.mu.Unlock()
	d.job.Cancel(errs.ErrGone)
	d.hw.Close()
	d.prog.Lock()
	defer d.prog.Unlock()
	d.free()
	return nil
}

// free gives back all the device holds. The caller holds prog.
func (d *Device) free() {
	d.freed = true
	d.t.whole = false
	d.win.forget()
	d.job.Close()
	for _, f := range d.remove {
		f()
	}
	d.win.free()
	d.out.free()
	d.owner.Close()
	d.domain.Close()
}

// quiesce clears the subchannel and drops its status: what a reset of the
// device does. When it returns no program runs, and none that was begun
// before will.
func (d *Device) quiesce() {
	d.mu.Lock()
	d.withdrawn = true
	d.mu.Unlock()
	d.Clear()
	d.hw.Wait()
	var irb cio.IRB
	for d.hw.Test(&irb) == 0 {
		// A clear leaves one status, attention may leave another.
	}
}
