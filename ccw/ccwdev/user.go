package ccwdev

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// user is a device while somebody has it open.
type user struct {
	dev     *Device
	at      *mdev.Attachment
	worker  *worker
	far     far
	regions *ccw.Regions
	warn    sync.Once // of the first program that could not be recorded

	// A reset may outlast the call that asked for it.
	resets   sync.WaitGroup
	oneReset sync.Mutex
}

// newUser builds the mediator on what a VMM brought along.
func newUser(d *Device, at *mdev.Attachment) (*user, error) {
	if at.Store == nil || at.Pinner == nil || at.Space == nil || at.IRQs == nil {
		return nil, fmt.Errorf("attachment without store, pinner, space or interrupts: %w", errs.ErrInvalid)
	}
	if err := d.cfg.Fault.Hit("ccwdev: regions"); err != nil {
		return nil, err
	}
	u := &user{dev: d, at: at, worker: newWorker(), far: far{store: at.Store}}
	cfg := ccw.Config{
		Name: at.Name, Store: at.Store, Pinner: at.Pinner, Space: at.Space, Log: at.Log,
		PMCW: d.cfg.PMCW, Limits: d.cfg.Limits, Dispatch: u.worker.do, Account: d.counts.program,
	}
	if before := d.cfg.Before; before != nil {
		cfg.Dispatch = func(run func()) { u.worker.do(func() { before(); run() }) }
	}
	if at.Record != nil {
		cfg.Observe = u.record
	}
	var err error
	u.regions, err = ccw.NewRegions(d.cfg.Unit.Device, cfg, d.cfg.Order, func(irq int) { at.IRQs.Trigger(irq, 0) })
	if err != nil {
		u.worker.close()
		return nil, err
	}
	u.regions.Defer(u.later, u.worker.do)
	if err = d.cfg.Fault.Hit("ccwdev: enable"); err == nil {
		err = u.regions.Open()
	}
	if err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

// later reports whether a program is to be taken after the write that asks
// for it: its memory may be with who waits for the write, or nothing is to be
// fetched now.
func (u *user) later() bool { return u.worker.isPaused() || u.far.any() }

// withdraw ends what the device has been asked for and may not begin, because
// the worker is paused, and lets the worker go on with what is left of it,
// which touches no memory.
func (u *user) withdraw() (paused bool) {
	if paused = u.worker.isPaused(); !paused {
		return false
	}
	if u.regions.State() == ccw.StatePending {
		var clear [8]byte
		u.dev.cfg.Order.PutUint32(clear[:], ccw.AsyncClear)
		_ = u.regions.Write(ccw.RegionAsync, 0, clear[:]) // a subchannel that is gone has nothing to end
	}
	u.worker.resume()
	return true
}

// reset is Close and Open of the subchannel. It goes on when ctx is done.
func (u *user) reset(ctx context.Context) error {
	done := make(chan error, 1)
	u.resets.Go(func() {
		u.oneReset.Lock()
		defer u.oneReset.Unlock()
		paused := u.withdraw()
		err := u.regions.Reset()
		if paused { // nothing is there that could be under way
			err = joined(err, u.worker.pause(context.Background()))
		}
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("reset waits for the program under way: %w: %w", errs.ErrDeadline, context.Cause(ctx))
	}
}

func joined(err, next error) error {
	if err != nil {
		return err
	}
	return next
}

// close ends all that the user does and gives back all it holds.
func (u *user) close() {
	u.resets.Wait() // for one that was given up
	u.withdraw()
	u.regions.Close()
	_ = u.regions.Device().Close() // it always succeeds
	u.worker.close()
}

// record hands a program to the recorder.
func (u *user) record(s *ccw.Submission) {
	err := s.Err
	if err == nil {
		err = u.at.Record.Record(NewRecord(s, cmp.Or(u.dev.cfg.Name, u.at.Name), u.dev.record))
	}
	if err == nil {
		u.dev.counts.recorded.Add(1)
		return
	}
	u.dev.counts.unrecorded.Add(1)
	u.at.Log.Debug("program not recorded", "device", u.at.Name, "program", s.Program, "err", err)
	u.warn.Do(func() {
		u.at.Log.Warn("a program could not be recorded; later ones are logged at level debug", "device", u.at.Name, "err", err)
	})
}
