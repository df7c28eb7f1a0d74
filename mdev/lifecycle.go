package mdev

import (
	"context"
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
)

// hold is why a device is quiesced. The device is told once, whatever the
// number of reasons.
type hold uint8

const (
	holdVMM       hold = 1 << iota // Session.Quiesce
	holdMigration                  // a migration state in which it stands still
)

// quiesce adds a reason. Preconditions: the caller is alone behind the gate.
func (s *Session) quiesce(ctx context.Context, why hold) error {
	if s.holds == 0 {
		q, ok := s.dev.(Quiescer)
		if !ok {
			return fmt.Errorf("quiesce: %w", errs.ErrNotSupported)
		}
		if err := s.fault.Hit("session: quiesce"); err != nil {
			return err
		}
		if err := q.Quiesce(ctx); err != nil {
			return fmt.Errorf("quiesce: %w", err)
		}
		// What the device raises all the same, and what the VMM unmasks,
		// waits until it goes on.
		s.irqs.hold()
		if err := s.state.step(evQuiesce); err != nil {
			return err // closing, which ends the device anyway
		}
	}
	s.holds |= why
	return nil
}

// unquiesce removes a reason. Preconditions: the caller is alone behind the
// gate.
func (s *Session) unquiesce(why hold) {
	if s.holds&why == 0 {
		return
	}
	if s.holds &^= why; s.holds != 0 {
		return
	}
	s.irqs.release()
	s.dev.(Quiescer).Unquiesce()
	_ = s.state.step(evUnquiesce) // refused in a reset, which sets its own
}

// Quiesce stops the device: when it returns, no access is under way, and the
// device does no DMA and raises no interrupt until Unquiesce. Its registers
// answer meanwhile; what they start waits. Doing it twice is doing it once.
//
// It waits for accesses under way and for the device as long as ctx, or Drain;
// on an error the device goes on as before. errs.ErrNotSupported: the device
// cannot.
func (s *Session) Quiesce(ctx context.Context) error {
	ctx, leave, err := s.alone(ctx, "quiesce")
	if err != nil {
		return err
	}
	defer leave()
	if st := s.state.load(); st == StateFailed {
		return st.refuse("quiesce")
	}
	return s.quiesce(ctx, holdVMM)
}

// Unquiesce ends Quiesce: what waited is done, unless the migration state keeps
// the device stopped. It does nothing when nothing was quiesced.
func (s *Session) Unquiesce() {
	// Accesses end some time; there is nobody to tell of a timeout.
	if err := s.gate.lock(s.life); err != nil {
		return
	}
	defer s.gate.unlock()
	if st := s.state.load(); st == StateOpen || st == StateQuiesced {
		s.unquiesce(holdVMM)
	}
}

// Reset is VFIO_DEVICE_RESET: when it returns the device is as when it was
// opened, but for what persists, and its migration state is RUNNING. DMA
// mappings, the dirty log, where interrupts lead and what is masked are the
// VMM's and stay; interrupts that were pending are gone. A Quiesce lasts.
//
// It excludes accesses, which wait for it. errs.ErrInvalid: the device has no
// reset. When the device fails to reset, the session is StateFailed: it
// refuses accesses until another Reset succeeds.
func (s *Session) Reset(ctx context.Context) error {
	if !s.info.Reset {
		return fmt.Errorf("device %s has no reset: %w", s.name, errs.ErrInvalid)
	}
	ctx, leave, err := s.alone(ctx, "reset")
	if err != nil {
		return err
	}
	defer leave()
	if err := s.state.step(evReset); err != nil {
		return err
	}
	if err := s.reset(ctx); err != nil {
		_ = s.state.step(evResetFailed) // refused while closing
		return fmt.Errorf("reset of %s: %w", s.name, err)
	}
	if s.holds != 0 {
		return s.state.step(evResetHeld)
	}
	return s.state.step(evResetDone)
}

func (s *Session) reset(ctx context.Context) error {
	s.mig.abort(fmt.Errorf("device was reset: %w", errs.ErrState))
	if err := s.mig.wait(ctx); err != nil {
		return waitError("migration stream", err)
	}
	if err := s.fault.Hit("session: reset"); err != nil {
		return err
	}
	if err := s.dev.Reset(ctx, ResetDevice); err != nil {
		return err
	}
	s.irqs.reset()
	s.mig.state.Store(uint32(MigRunning))
	s.unquiesce(holdMigration)
	return nil
}
