package mdev

import (
	"context"
	"errors"
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Close ends the session, in this order: interrupts are silenced, so that
// nobody is told of what follows; accesses and the device are drained; DMA is
// unmapped. Afterwards no lease, charge, mapping, descriptor or goroutine of
// the session is left, and every request is refused with errs.ErrGone.
//
// The wait ends with ctx, or after SessionConfig.Drain if ctx has no deadline,
// with errs.ErrDeadline and the name of what it waited for. The closing goes
// on, and another Close waits for the rest of it. Close may be called from
// anywhere but the device and functions that interrupts call; it returns the
// same each time: nil, or what the device left behind.
func (s *Session) Close(ctx context.Context) error {
	s.closing.Do(func() {
		_ = s.state.step(evClose) // fits, as a session that Open returned is not closed
		s.endLife(fmt.Errorf("session is closing: %w", errs.ErrGone))
		go s.shutDown()
	})
	if _, ok := ctx.Deadline(); !ok {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, s.drain)
		defer end()
	}
	select {
	case <-s.closed:
		return s.closeErr
	case <-ctx.Done():
	}
	select {
	case <-s.closed: // both, and this is the better news
		return s.closeErr
	default:
	}
	what, _ := s.waits.Load().(string)
	return fmt.Errorf("close of %s: %s: %w: %w", s.name, what, errs.ErrDeadline, context.Cause(ctx))
}

func (s *Session) shutDown() {
	s.waits.Store("interrupts are being silenced")
	s.irqs.close()
	s.mig.abort(errs.ErrGone)
	s.waits.Store("writes by eventfd are under way")
	s.io.close()
	s.waits.Store("accesses are under way")
	if err := s.gate.lock(context.Background()); err == nil {
		s.gate.unlock() // whoever comes now is refused
	}
	s.waits.Store("a migration stream is under way")
	s.mig.abort(errs.ErrGone) // one that a migration step began since
	_ = s.mig.wait(context.Background())
	s.closeErr = errors.Join(s.closeDevice(), s.closeMemory())
	if s.closeErr != nil {
		s.closeErr = fmt.Errorf("close of %s: %w", s.name, s.closeErr)
		s.log.Error("session did not close cleanly", "device", s.name, "err", s.closeErr)
	}
	_ = s.state.step(evClosed)
	if s.onClosed != nil {
		s.onClosed()
	}
	close(s.closed)
}

// closeDevice has the device drop its work, then end.
func (s *Session) closeDevice() error {
	s.waits.Store("the device is being reset")
	ctx, end := context.WithTimeout(context.Background(), s.drain)
	err := s.dev.Reset(ctx, ResetLost)
	end()
	if err != nil {
		err = fmt.Errorf("reset: %w", err)
	}
	s.waits.Store("the device is closing")
	s.dev.Close()
	return err
}

func (s *Session) closeMemory() error {
	s.waits.Store("memory is being unmapped")
	s.dirty.close(s.store)
	return s.freeContainer()
}
