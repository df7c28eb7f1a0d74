package fault

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHit(t *testing.T) {
	var none *Points
	require.NoError(t, none.Hit("a"))
	require.Empty(t, none.Fired())
	require.Zero(t, none.Hits("a"))

	p := Inject(2)
	require.NoError(t, p.Hit("a"))
	err := p.Hit("b")
	require.ErrorIs(t, err, ErrInjected)
	require.ErrorIs(t, err, syscall.ENOMEM)
	require.ErrorContains(t, err, "b: injected failure")
	require.NoError(t, p.Hit("b"), "a point fails once")
	require.Equal(t, "b", p.Fired())
	require.Equal(t, 2, p.Hits("b"))
}

func TestHitAllocatesNothingWithoutPoints(t *testing.T) {
	var none *Points
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = none.Hit("a") }))
}

// recorder stands in for a test that Sweep may fail.
type recorder struct{ failed string }

func (r *recorder) Helper()             {}
func (r *recorder) Logf(string, ...any) {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}

func sweep(run func(*Points) error, check func()) (fired []string, failed string) {
	r := new(recorder)
	defer func() {
		if p := recover(); p != nil && p != any(r) {
			panic(p)
		}
		failed = r.failed
	}()
	return Sweep(r, run, check), ""
}

func TestSweep(t *testing.T) {
	checks := 0
	fired, failed := sweep(func(p *Points) error {
		for _, name := range []string{"charge", "lock", "grant"} {
			if err := p.Hit(name); err != nil {
				return fmt.Errorf("pin: %w", err)
			}
		}
		return nil
	}, func() { checks++ })
	require.Empty(t, failed)
	require.Equal(t, []string{"charge", "lock", "grant"}, fired)
	require.Equal(t, 4, checks, "one check for each failure and one for the pass")
}

func TestSweepFindsMistakes(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(*Points) error
		want string
	}{
		{"error swallowed", func(p *Points) error { _ = p.Hit("a"); return nil }, "point 1 (a) failed, and the scenario succeeds"},
		{"error replaced", func(p *Points) error {
			if p.Hit("a") != nil {
				return errors.New("other")
			}
			return nil
		}, "point 1 (a) failed, and the scenario fails otherwise: other"},
		{"never passes", func(*Points) error { return errors.New("broken") }, "no point fired, and the scenario fails: broken"},
		{"no point", func(*Points) error { return nil }, "the scenario passes no point"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, failed := sweep(tt.run, nil)
			require.Equal(t, tt.want, failed)
		})
	}
}
