package mdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
)

// defaultDrain bounds a wait whose context has no deadline.
const defaultDrain = 5 * time.Second

// SessionConfig configures a [Session]. A nil one is the zero value.
type SessionConfig struct {
	// Name names the VMM's hold in logs, ledgers and errors; "device" if
	// empty.
	Name string
	// Log gets a line for what an operator should know, and at level Debug
	// for what a guest can cause any number of. Nil is silent.
	Log *slog.Logger

	// Store, Pinner and Space, if set, are a container that is shared and
	// outlives the session: all three, or none. Without them the session has
	// its own, made with Translate and Pinning; Space alone may be given
	// for those.
	Store     *translate.Store
	Pinner    *pinning.Pinner
	Space     *iommu.Space
	Translate *translate.Config
	Pinning   *pinning.Config

	// Drain bounds a wait for the device whose context has no deadline; 0
	// means 5 s.
	Drain time.Duration

	Record Recorder // handed to the device; may be nil
	// Closed is called once, when the session has closed and nothing of it
	// is left; may be nil. Close returns after it.
	Closed func()
	// Fault fails steps in tests; nil never does.
	Fault *fault.Points
}

// Session is one VMM's hold on a device, and all that front ends talk to. It
// checks each request before the device sees it; devices check none of that
// again. All methods may be called from any goroutine, also while the session
// closes. Make one with [Open].
type Session struct {
	dev      Device
	info     *Info
	name     string
	log      *slog.Logger
	drain    time.Duration
	fault    *fault.Points
	onClosed func()
	store    *translate.Store
	pinner   *pinning.Pinner
	space    *iommu.Space
	shared   bool // the container is not ours
	irqs     *IRQs
	regions  []regionCounters
	refused  atomic.Uint64 // accesses to regions that there are not

	life    context.Context // ends with errs.ErrGone when closing begins
	endLife context.CancelCauseFunc
	state   lifecycle

	// gate lets region accesses in together; reset, quiesce, migration and
	// closing alone.
	gate  gate
	holds hold // changed by whoever is alone behind gate

	mig   migration
	dirty deviceLog
	io    ioEvents

	fds   fdCount
	tasks tasks

	closing  sync.Once
	closed   chan struct{} // closed when nothing is left
	closeErr error         // valid when closed is closed
	waits    atomic.Value  // string: what closing waits for
}

// tasks counts the goroutines of a session.
type tasks struct{ n atomic.Int64 }

func (t *tasks) start(f func()) {
	t.n.Add(1)
	go func() {
		defer t.n.Add(-1)
		f()
	}()
}

// Open opens dev for a VMM. A device must not be open twice at a time; who
// owns it sees to that (package registry). On an error nothing is left.
//
// Besides the errors of the device and of what it needs: errs.ErrInvalid for a
// configuration, or a description of the device, that contradicts itself.
func Open(ctx context.Context, dev Device, cfg *SessionConfig) (*Session, error) {
	if cfg == nil {
		cfg = &SessionConfig{}
	}
	s, err := newSession(dev, cfg)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if err := s.container(cfg); err != nil {
		return nil, fmt.Errorf("open %s: %w", s.name, err)
	}
	err = s.fault.Hit("open: device")
	if err == nil {
		err = dev.Open(ctx, &Attachment{
			Name: s.name, Store: s.store, Pinner: s.pinner, Space: s.space,
			IRQs: s.irqs, Log: s.log, Record: cfg.Record,
		})
	}
	if err != nil {
		s.irqs.close()
		return nil, errors.Join(fmt.Errorf("open %s: %w", s.name, err), s.freeContainer())
	}
	return s, s.state.step(evOpen)
}

func newSession(dev Device, cfg *SessionConfig) (*Session, error) {
	s := &Session{
		dev: dev, info: dev.Info(),
		name:  cmp.Or(cfg.Name, "device"),
		log:   cfg.Log,
		drain: cmp.Or(cfg.Drain, defaultDrain),
		fault: cfg.Fault, onClosed: cfg.Closed,
		shared: cfg.Store != nil,
		closed: make(chan struct{}),
	}
	if s.info == nil {
		return nil, fmt.Errorf("%s: device without a description: %w", s.name, errs.ErrInvalid)
	}
	if err := s.info.check(dev); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if s.drain < 0 {
		return nil, fmt.Errorf("%s: drain of %v: %w", s.name, s.drain, errs.ErrInvalid)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.life, s.endLife = context.WithCancelCause(context.Background())
	s.gate.init(s.life.Done())
	s.regions = make([]regionCounters, len(s.info.Regions))
	s.irqs = newIRQs(s.info, &s.fds, s.watcher, s.fault)
	s.mig.state.Store(uint32(MigRunning))
	return s, nil
}

// container makes, or takes, what DMA goes through.
func (s *Session) container(cfg *SessionConfig) (err error) {
	s.store, s.pinner, s.space = cfg.Store, cfg.Pinner, cfg.Space
	if s.shared != (s.pinner != nil) || s.shared && s.space == nil {
		return fmt.Errorf("store, pinner and space that do not come together: %w", errs.ErrInvalid)
	}
	if s.shared {
		return nil
	}
	if s.space == nil {
		s.space = iommu.NewSpace(nil)
	}
	if err := s.fault.Hit("open: store"); err != nil {
		return err
	}
	if s.store, err = translate.New(cfg.Translate); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err = s.fault.Hit("open: pinner"); err == nil {
		s.pinner, err = pinning.New(s.store, s.space, cfg.Pinning)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pinner: %w", err), s.store.Close())
	}
	return nil
}

// freeContainer gives back the session's own container. A lease that the
// device left is ended here, and is an error.
func (s *Session) freeContainer() error {
	if s.shared {
		return nil
	}
	var left error
	if leases := s.pinner.Leases(); len(leases) != 0 {
		left = fmt.Errorf("device left %d leases, one of %s program %d: %w", len(leases), leases[0].Owner, leases[0].Program, errs.ErrState)
	}
	if err := s.pinner.Close(); err != nil {
		left = errors.Join(left, fmt.Errorf("pinner: %w", err))
	}
	if err := s.store.Close(); err != nil {
		left = errors.Join(left, fmt.Errorf("store: %w", err))
	}
	return left
}

// Info describes the device; it must not be changed.
func (s *Session) Info() *Info { return s.info }

// Name is the name the session was given.
func (s *Session) Name() string { return s.name }

// Store is what DMA goes through. Front ends that change it behind the
// session's back do so at their own risk; see Map and Unmap.
func (s *Session) Store() *translate.Store { return s.store }

// Pinner keeps the leases on the store's pages.
func (s *Session) Pinner() *pinning.Pinner { return s.pinner }

// Shared reports whether the container is shared: store and pinner may hold
// what is others', and outlive the session.
func (s *Session) Shared() bool { return s.shared }

// IRQs are the session's interrupts.
func (s *Session) IRQs() *IRQs { return s.irqs }

// State is what the session is at; it may be another one by the time it is
// looked at.
func (s *Session) State() State { return s.state.load() }

// bound is ctx with the session's own bounds: it ends when the session
// closes, and after Drain if it has no deadline.
func (s *Session) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() { stop(); cancel(nil) }
	}
	ctx, end := context.WithTimeout(ctx, s.drain)
	return ctx, func() { end(); stop(); cancel(nil) }
}

// waitError is the error of a wait that ended with its context. While the
// session closes that is errs.ErrGone; otherwise errs.ErrDeadline, whatever
// ended the wait.
func waitError(what string, cause error) error {
	if errors.Is(cause, errs.ErrGone) {
		return fmt.Errorf("%s: session is closing: %w", what, errs.ErrGone)
	}
	return fmt.Errorf("%s: %w: %w", what, errs.ErrDeadline, cause)
}

// alone enters the gate as the only one, for an operation that changes what
// the device is at, and says how to leave. It fails when ctx ends while
// accesses are under way, and when the session closes.
func (s *Session) alone(ctx context.Context, what string) (context.Context, func(), error) {
	ctx, end := s.bound(ctx)
	if err := s.gate.lock(ctx); err != nil {
		end()
		return nil, nil, waitError(what+" of "+s.name+" behind accesses under way", err)
	}
	if st := s.state.load(); st == StateClosing || st == StateClosed {
		s.gate.unlock()
		end()
		return nil, nil, st.refuse(what)
	}
	return ctx, func() { s.gate.unlock(); end() }, nil
}
