package runner

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate/addr"
)

// Config says how programs of type P are run. Lock, Depth, Run and Done are
// needed.
type Config[P any] struct {
	// Lock is the device's.
	Lock sync.Locker
	// Depth is how many programs may wait, besides the one that runs.
	Depth int
	// Limits bound the work of each.
	Limits job.Limits

	// Run does a program. It ends soon after a charge of j has failed: every
	// access of the hardware should be charged. It is called with no lock
	// held, on one goroutine at a time.
	Run func(j *job.Job, p *P) error
	// Done is told that a program has ended, and how, once its pins are gone.
	// The lock is held.
	Done func(p *P, err error)
	// Tell follows Done with no lock held: the place for the interrupt. It may
	// be nil.
	Tell func(p *P)
	// Active is told that programs begin to run, and that none runs any more.
	// The lock is held. It may be nil.
	Active func(some bool)
}

// Runner runs the programs of a device while it is open. Methods that say so are
// called with the lock held, all others without.
type Runner[P any] struct {
	cfg    Config[P]
	at     *mdev.Attachment
	domain *iommu.Domain
	owner  *pinning.Owner
	job    *job.Job        // of the goroutine that runs, but for Cancel
	frames []*iommu.Frames // of Alloc

	// All that follows is guarded by cfg.Lock.
	queue    []P
	number   uint64 // of the program that runs, or ran last
	epoch    uint64 // counts calls of Drop
	active   bool   // the goroutine is there
	quiesced bool
	closed   bool
	changed  chan struct{} // closed when a program or the goroutine ends; nil while nobody waits
}

// New returns a runner without programs. Its pins are those of a new owner, its
// hardware's reach is a new domain, both of the attachment's name.
func New[P any](at *mdev.Attachment, cfg Config[P]) *Runner[P] {
	r := &Runner[P]{cfg: cfg, at: at, domain: at.Space.NewDomain(at.Name)}
	r.owner = at.Pinner.NewOwner(at.Name, r.domain, r.unmapping)
	r.job = job.New(at.Store, r.owner)
	return r
}

// Domain is the reach of the hardware that runs the programs.
func (r *Runner[P]) Domain() *iommu.Domain { return r.domain }

// Alloc allots memory of ours that the hardware may reach for access: room for
// host programs. Close frees it. It fails as [iommu.Space.Alloc] does, and
// after Close; it must not be called while another Alloc or Close is.
func (r *Runner[P]) Alloc(n addr.Len, access addr.Access) (*iommu.Frames, error) {
	f, err := r.at.Space.Alloc(n, 0)
	if err != nil {
		return nil, fmt.Errorf("%#x bytes for host programs: %w", uint64(n), err)
	}
	if err := r.domain.GrantFrames(f, access); err != nil {
		f.Free()
		return nil, fmt.Errorf("host programs: %w", err)
	}
	r.frames = append(r.frames, f)
	return f, nil
}

// Submit puts a program into the queue. It fails with errs.ErrBusy when as many
// wait as may, and with errs.ErrGone after Close. The lock is held.
func (r *Runner[P]) Submit(p P) error {
	switch {
	case r.closed:
		return errs.ErrGone
	case len(r.queue) >= r.cfg.Depth:
		return fmt.Errorf("%d programs wait: %w", len(r.queue), errs.ErrBusy)
	}
	r.queue = append(r.queue, p)
	r.start()
	return nil
}

// Waiting is how many programs wait. The lock is held.
func (r *Runner[P]) Waiting() int { return len(r.queue) }

// Queue is a copy of the programs that wait, for Submit elsewhere. The lock is
// held.
func (r *Runner[P]) Queue() []P { return slices.Clone(r.queue) }

// Cancel ends the program that runs, if any, with err at its next charge. The
// lock is held.
func (r *Runner[P]) Cancel(err error) {
	if r.active {
		r.job.Cancel(err)
	}
}

// Drop forgets the programs that wait, and cancels the one that runs: nobody
// will be told of them. The lock is held.
func (r *Runner[P]) Drop() {
	r.queue = slices.Delete(r.queue, 0, len(r.queue))
	r.epoch++
	r.Cancel(errs.ErrGone)
}

// start starts the goroutine, if there is something for it to do. The lock is
// held.
func (r *Runner[P]) start() {
	if r.active || r.quiesced || r.closed || len(r.queue) == 0 {
		return
	}
	r.active = true
	if r.cfg.Active != nil {
		r.cfg.Active(true)
	}
	go r.run()
}

// run runs programs until none is left, or none may.
func (r *Runner[P]) run() {
	r.cfg.Lock.Lock()
	defer r.cfg.Lock.Unlock()
	for len(r.queue) > 0 && !r.quiesced && !r.closed {
		p := r.queue[0]
		r.queue = slices.Delete(r.queue, 0, 1)
		r.number++
		r.one(r.number, r.epoch, &p)
		r.wake()
	}
	if r.cfg.Active != nil {
		r.cfg.Active(false)
	}
	r.active = false
	r.wake()
}

// one runs a program. The lock is held before and after.
func (r *Runner[P]) one(number, epoch uint64, p *P) {
	r.job.Begin(number, r.cfg.Limits) // under the lock: Cancel ends this one or none
	r.cfg.Lock.Unlock()
	err := r.cfg.Run(r.job, p)
	r.job.End()
	if err != nil {
		r.at.Log.Debug("program failed", "device", r.at.Name, "program", number, "err", err)
	}
	r.cfg.Lock.Lock()
	if epoch != r.epoch {
		return
	}
	r.cfg.Done(p, err)
	if r.cfg.Tell != nil {
		r.cfg.Lock.Unlock()
		r.cfg.Tell(p)
		r.cfg.Lock.Lock()
	}
}

// unmapping is called by the pinner when memory of a program is to go.
func (r *Runner[P]) unmapping(program uint64, iovas addr.Range[addr.IOVA]) {
	r.cfg.Lock.Lock()
	defer r.cfg.Lock.Unlock()
	if program == r.number {
		r.Cancel(fmt.Errorf("%v is being unmapped: %w", iovas, errs.ErrBusy))
	}
}

// wake tells who waits that something has ended. The lock is held.
func (r *Runner[P]) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// wait waits until something is so, which is asked with the lock held each time
// that a program has ended.
func (r *Runner[P]) wait(ctx context.Context, so func() bool) error {
	r.cfg.Lock.Lock()
	defer r.cfg.Lock.Unlock()
	for !so() {
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.cfg.Lock.Unlock()
		select {
		case <-changed:
			r.cfg.Lock.Lock()
		case <-ctx.Done():
			r.cfg.Lock.Lock()
			return fmt.Errorf("%s program %d is under way: %w: %w", r.at.Name, r.number, errs.ErrBusy, context.Cause(ctx))
		}
	}
	return nil
}

// Idle waits until the program that runs has ended. When ctx is done first it
// fails with errs.ErrBusy, naming the program, and the cause.
func (r *Runner[P]) Idle(ctx context.Context) error {
	var number uint64
	return r.wait(ctx, func() bool {
		if number == 0 {
			number = r.number
		}
		return !r.active || r.number != number
	})
}

// Quiesce lets the program that runs end, and starts no other until Unquiesce.
// It fails as Idle does; then programs run as before.
func (r *Runner[P]) Quiesce(ctx context.Context) error {
	r.cfg.Lock.Lock()
	r.quiesced = true
	r.cfg.Lock.Unlock()
	err := r.wait(ctx, func() bool { return !r.active })
	if err != nil {
		r.Unquiesce()
	}
	return err
}

// Unquiesce undoes Quiesce.
func (r *Runner[P]) Unquiesce() {
	r.cfg.Lock.Lock()
	defer r.cfg.Lock.Unlock()
	r.quiesced = false
	r.start()
}

// Close drops all programs, waits for the one that runs, and gives back what the
// runner holds. Closing twice is harmless. It must not be called from Run or
// Tell.
func (r *Runner[P]) Close() {
	r.cfg.Lock.Lock()
	r.closed = true
	r.Drop()
	r.cfg.Lock.Unlock()
	_ = r.wait(context.Background(), func() bool { return !r.active })
	r.job.Close()
	r.owner.Close()
	for _, f := range r.frames {
		f.Free()
	}
	r.domain.Close()
}
