package mdev

import (
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
)

// State is what a session is at.
//
//	        Open()
//	Closed --------> Open <--Quiesce/Unquiesce--> Quiesced
//	  ^               |  ^                         |  ^
//	  |         Reset |  | done              Reset |  | done, still held
//	  |               v  |                         v  |
//	  |              Resetting <-------------------+--+
//	  |               |    ^
//	  |         fails |    | Reset
//	  |               v    |
//	  |              Failed
//	  |
//	  +-- nothing is left -- Closing <--Close-- any of them
//
// The migration states are a machine of their own, see [MigState]; a device
// that they stop is Quiesced here.
type State uint8

// The states.
const (
	// StateClosed: nothing of the session is left.
	StateClosed State = iota
	// StateOpen: the device runs.
	StateOpen
	// StateQuiesced: the device does no DMA and raises no interrupt. Its
	// registers answer; what they start waits.
	StateQuiesced
	// StateResetting: accesses wait until the reset is done.
	StateResetting
	// StateFailed: a reset failed. Accesses are refused until another one
	// succeeds.
	StateFailed
	// StateClosing: everything is refused.
	StateClosing
	numStates
)

var stateNames = [numStates]string{"closed", "open", "quiesced", "resetting", "failed", "closing"}

// String names the state.
func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// event is what moves a session from state to state.
type event uint8

const (
	evOpen event = iota
	evQuiesce
	evUnquiesce
	evReset
	evResetDone // the device runs
	evResetHeld // the device is still quiesced
	evResetFailed
	evClose
	evClosed
	numEvents
)

var eventNames = [numEvents]string{"open", "quiesce", "unquiesce", "reset", "reset done", "reset done, held", "reset failed", "close", "closed"}

// next is the state after an event; StateClosed where the event does not fit,
// but for evClosed.
func (s State) next(e event) (State, bool) {
	switch {
	case s == StateClosed:
		return StateOpen, e == evOpen
	case s == StateClosing:
		return StateClosed, e == evClosed
	case e == evClose:
		return StateClosing, true
	case s == StateResetting:
		switch e {
		case evResetDone:
			return StateOpen, true
		case evResetHeld:
			return StateQuiesced, true
		case evResetFailed:
			return StateFailed, true
		}
	case e == evReset:
		return StateResetting, true
	case s != StateFailed && e == evQuiesce:
		return StateQuiesced, true
	case s != StateFailed && e == evUnquiesce:
		return StateOpen, true
	}
	return s, false
}

// lifecycle holds a State. A Close may come in the middle of everything, so
// each step looks at the state anew.
type lifecycle struct{ v atomic.Uint32 }

func (l *lifecycle) load() State { return State(l.v.Load()) }

// step does an event. It fails with errs.ErrGone when the session is closing,
// and errs.ErrState when the event does not fit.
func (l *lifecycle) step(e event) error {
	for {
		s := l.load()
		to, ok := s.next(e)
		if !ok {
			return s.refuse(eventNames[e])
		}
		if l.v.CompareAndSwap(uint32(s), uint32(to)) {
			return nil
		}
	}
}

// refuse is the error of what does not fit the state.
func (s State) refuse(what string) error {
	if s == StateClosing || s == StateClosed {
		return fmt.Errorf("%s: session is %v: %w", what, s, errs.ErrGone)
	}
	return fmt.Errorf("%s: session is %v: %w", what, s, errs.ErrState)
}
