package mdev

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/softmdev/softmdev/mdev/errs"
)

// MigrationFlags are VFIO_MIGRATION_*: which optional states a device has. 0
// means no migration; otherwise MigrationStopCopy is set.
type MigrationFlags uint64

// The migration flags.
const (
	MigrationStopCopy MigrationFlags = 1 << iota // STOP, STOP_COPY, RESUMING
	MigrationP2P                                 // RUNNING_P2P
	MigrationPreCopy                             // PRE_COPY, and with P2P PRE_COPY_P2P
)

// MigState is enum vfio_device_mig_state (include/uapi/linux/vfio.h).
//
//	             RUNNING <-----> PRE_COPY
//	                ^               ^
//	                v               v
//	           RUNNING_P2P <--> PRE_COPY_P2P
//	                ^               |
//	                v               v
//	RESUMING <---> STOP <------> STOP_COPY
//
//	ERROR is reached when a step fails half-way, left by a reset alone.
//
// Every other pair of states is reached by the shortest way that has none of
// PRE_COPY, PRE_COPY_P2P and STOP_COPY in its middle, unless it begins and
// ends among them; there is no way from STOP_COPY back to the other two.
// States that a device does not have are stepped over.
//
//	state        device runs  regions  stream
//	RUNNING      yes          yes
//	RUNNING_P2P  no (1)       yes
//	PRE_COPY     yes          yes      out: PreCopy
//	PRE_COPY_P2P no (1)       yes      out: PreCopy
//	STOP         no           yes (2)
//	STOP_COPY    no           no (3)   out: what is left of PreCopy, then Save
//	RESUMING     no           no (3)   in:  Load
//	ERROR        no           no
//
// (1) A device here does not know which DMA is peer to peer, so it stops all
// of it, as vfio.h asks for. (2) Registers are accepted and answered; what they
// start waits. (3) An access could tear the state that is being copied.
type MigState uint32

// The migration states.
const (
	MigError MigState = iota
	MigStop
	MigRunning
	MigStopCopy
	MigResuming
	MigRunningP2P
	MigPreCopy
	MigPreCopyP2P
	numMigStates
)

var migNames = [numMigStates]string{"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"}

// String is the kernel's name without its prefix.
func (m MigState) String() string {
	if m < numMigStates {
		return migNames[m]
	}
	return "MigState(" + strconv.FormatUint(uint64(m), 10) + ")"
}

// runs reports whether the device is at work.
func (m MigState) runs() bool { return m == MigRunning || m == MigPreCopy }

// saving reports whether m belongs to the states that share an outgoing
// stream.
func (m MigState) saving() bool { return m == MigPreCopy || m == MigPreCopyP2P || m == MigStopCopy }

// answers reports whether regions may be accessed.
func (m MigState) answers() bool { return m != MigError && m != MigStopCopy && m != MigResuming }

// needs are the flags without which a device does not have the state.
func (m MigState) needs() MigrationFlags {
	switch m {
	case MigRunningP2P:
		return MigrationStopCopy | MigrationP2P
	case MigPreCopy:
		return MigrationStopCopy | MigrationPreCopy
	case MigPreCopyP2P:
		return MigrationStopCopy | MigrationP2P | MigrationPreCopy
	}
	return MigrationStopCopy
}

// migArcs are the direct ways, of a device that has all states.
var migArcs = [numMigStates][]MigState{
	MigRunning:    {MigRunningP2P, MigPreCopy},
	MigRunningP2P: {MigRunning, MigStop, MigPreCopyP2P},
	MigPreCopy:    {MigRunning, MigPreCopyP2P},
	MigPreCopyP2P: {MigRunningP2P, MigPreCopy, MigStopCopy},
	MigStop:       {MigRunningP2P, MigStopCopy, MigResuming},
	MigStopCopy:   {MigStop},
	MigResuming:   {MigStop},
}

// migNext is the first step of the way from one state to another, by the rules
// of [MigState]: vfio_mig_get_next_state of drivers/vfio/vfio_main.c. ok is
// false when there is none, or the device does not have the states.
func migNext(have MigrationFlags, from, to MigState) (next MigState, ok bool) {
	if from >= numMigStates || to >= numMigStates || from == MigError || to == MigError ||
		have&from.needs() != from.needs() || have&to.needs() != to.needs() ||
		from == MigStopCopy && to.saving() && to != from {
		return MigError, false
	}
	for from != to {
		from = migStep(from, to)
		if have&from.needs() == from.needs() {
			break
		}
	}
	return from, true
}

// migStep is a breadth-first search from the end: of the arcs out of from, the
// one that begins the shortest way.
func migStep(from, to MigState) MigState {
	var seen [numMigStates]bool
	seen[to] = true
	for wave := []MigState{to}; len(wave) != 0; {
		var before []MigState
		for _, at := range wave {
			for prev, arcs := range migArcs {
				prev := MigState(prev)
				if seen[prev] || !contains(arcs, at) || at.saving() && at != to && !(from.saving() && to.saving()) {
					continue
				}
				if prev == from {
					return at
				}
				seen[prev] = true
				before = append(before, prev)
			}
		}
		wave = before
	}
	return MigError // not reached: every pair that migNext lets through is connected
}

func contains(arcs []MigState, m MigState) bool {
	for _, a := range arcs {
		if a == m {
			return true
		}
	}
	return false
}

// MigrationState is VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, get: RUNNING for a
// device without migration.
func (s *Session) MigrationState() MigState { return MigState(s.mig.state.Load()) }

// SetMigrationState is VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, set: it takes the
// device to a state, step by step. It excludes accesses, waits for the device
// as long as ctx, or Drain, and is complete when it returns.
//
// When a step fails the device is in the state before that step, or, if that
// cannot be had back, in ERROR. Loading a state that the device refuses ends
// in ERROR, too. To give up a RESUMING, reset the device.
//
// Errors besides the device's: errs.ErrNotSupported without migration,
// errs.ErrInvalid when there is no way, errs.ErrState after a failed reset.
func (s *Session) SetMigrationState(ctx context.Context, to MigState) error {
	if s.info.Migration == 0 {
		return fmt.Errorf("migration of %s: %w", s.name, errs.ErrNotSupported)
	}
	ctx, leave, err := s.alone(ctx, "migration")
	if err != nil {
		return err
	}
	defer leave()
	if st := s.state.load(); st == StateFailed {
		return st.refuse("migration")
	}
	at := s.MigrationState()
	if _, ok := migNext(s.info.Migration, at, to); !ok {
		return fmt.Errorf("migration of %s: no way from %v to %v: %w", s.name, at, to, errs.ErrInvalid)
	}
	for at != to {
		next, _ := migNext(s.info.Migration, at, to)
		back, err := s.migrate(ctx, at, next)
		if err != nil {
			s.mig.state.Store(uint32(back))
			return fmt.Errorf("migration of %s from %v to %v: %w", s.name, at, next, err)
		}
		s.mig.state.Store(uint32(next))
		at = next
	}
	return nil
}

// migrate takes one step. When it fails the device is in state back.
func (s *Session) migrate(ctx context.Context, from, to MigState) (back MigState, err error) {
	if err := s.fault.Hit("migration: step"); err != nil {
		return from, err
	}
	if from.runs() && !to.runs() {
		if err := s.quiesce(ctx, holdMigration); err != nil {
			return from, err
		}
	}
	switch dev := s.dev.(Migrator); {
	case !from.saving() && to == MigStopCopy:
		s.mig.beginOut(&s.tasks, dev.Save)
	case !from.saving() && to.saving():
		s.mig.beginOut(&s.tasks, dev.(PreCopier).PreCopy)
	case to == MigStopCopy:
		s.mig.moreOut(dev.Save)
	case from.saving() && !to.saving():
		s.mig.abort(fmt.Errorf("migration state is %v: %w", to, errs.ErrState))
		if err := s.mig.wait(ctx); err != nil {
			return MigError, waitError("saving", err)
		}
	case to == MigResuming:
		s.mig.beginIn(&s.tasks, dev.Load)
	case from == MigResuming:
		if err := s.mig.finishIn(ctx); err != nil {
			return MigError, err
		}
	}
	if to.runs() {
		s.unquiesce(holdMigration)
	}
	return to, nil
}

// ReadMigration reads on in the device's state, in PRE_COPY, PRE_COPY_P2P and
// STOP_COPY. It fills p unless the stream ends first: a shorter read, or none
// and io.EOF, is the end, which in the first two states is one for now. It
// waits for the device; leaving those states, a reset and Close wake it.
//
// The bytes of one passage through those states are one stream, to be given to
// WriteMigration in order; how they are cut does not matter. At most the
// device's buffer of 64 KiB is held here.
//
// errs.ErrState: another state. Errors of the device come as they are, and the
// stream is of no use then.
func (s *Session) ReadMigration(p []byte) (int, error) {
	out := s.mig.outgoing()
	if out == nil {
		return 0, s.noStream()
	}
	n, err := out.read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("migration of %s: %w", s.name, err)
	}
	return n, err
}

// WriteMigration gives the device more of its new state, in RESUMING. It waits
// until the device has taken it; nothing is kept here. A device that refuses
// its state, or has had enough of it, makes this fail, and the step out of
// RESUMING lead to ERROR.
//
// errs.ErrState: another state.
func (s *Session) WriteMigration(p []byte) error {
	in := s.mig.incoming()
	if in == nil {
		return s.noStream()
	}
	if err := in.write(p); err != nil {
		return fmt.Errorf("migration of %s: %w", s.name, err)
	}
	return nil
}

func (s *Session) noStream() error {
	if err := s.alive("migration"); err != nil {
		return err
	}
	return fmt.Errorf("migration of %s: no stream in state %v: %w", s.name, s.MigrationState(), errs.ErrState)
}
