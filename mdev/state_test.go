package mdev

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
)

// The life cycle, whole: what each event does in each state. What is not
// listed is refused, with errs.ErrGone once the session closes and
// errs.ErrState before.
var transitions = map[State]map[event]State{
	StateClosed: {
		evOpen: StateOpen,
	},
	StateOpen: {
		evQuiesce:   StateQuiesced,
		evUnquiesce: StateOpen,
		evReset:     StateResetting,
		evClose:     StateClosing,
	},
	StateQuiesced: {
		evQuiesce:   StateQuiesced,
		evUnquiesce: StateOpen,
		evReset:     StateResetting,
		evClose:     StateClosing,
	},
	StateResetting: {
		evResetDone:   StateOpen,
		evResetHeld:   StateQuiesced,
		evResetFailed: StateFailed,
		evClose:       StateClosing,
	},
	StateFailed: {
		evReset: StateResetting,
		evClose: StateClosing,
	},
	StateClosing: {
		evClosed: StateClosed,
	},
}

func TestLifeCycle(t *testing.T) {
	for s := range numStates {
		for e := range numEvents {
			t.Run(fmt.Sprintf("%v/%s", s, eventNames[e]), func(t *testing.T) {
				var l lifecycle
				l.v.Store(uint32(s))
				err := l.step(e)
				want, ok := transitions[s][e]
				switch {
				case ok:
					require.NoError(t, err)
					require.Equal(t, want, l.load())
				case s == StateClosed || s == StateClosing:
					require.ErrorIs(t, err, errs.ErrGone)
					require.Equal(t, s, l.load(), "a refused event changes nothing")
				default:
					require.ErrorIs(t, err, errs.ErrState)
					require.Equal(t, s, l.load(), "a refused event changes nothing")
				}
			})
		}
	}
}

func TestStateNames(t *testing.T) {
	seen := map[string]bool{}
	for s := range numStates {
		require.False(t, seen[s.String()], "%v", s)
		seen[s.String()] = true
	}
	require.Equal(t, "State(9)", State(9).String())
}
