// Package fault makes the nth step of an operation fail, for tests that prove
// an operation leaves nothing behind wherever it fails.
//
// Code under test calls [Points.Hit] at every step that can fail in the field
// (an allocation against a limit, a system call, a grant) with a name for the
// step. In production the Points are nil and a Hit is one comparison. A test
// injects [Inject](n), and the nth Hit returns [ErrInjected]. [Sweep] reruns a
// scenario that passes with n = 1, 2, 3, ... until no point fires any more:
// the sweep of Linux's iommufd_fail_nth.c, without its need of a kernel built
// for it.
package fault

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// ErrInjected is what an injected failure wraps. Like the failures it stands
// for, it carries ENOMEM.
var ErrInjected = fmt.Errorf("injected failure: %w", syscall.ENOMEM)

// Points counts the points that an operation passes and fails one of them. A
// nil *Points never fails. Points may be shared by goroutines.
type Points struct {
	mu    sync.Mutex
	nth   int            // fail this hit, 0: none; immutable
	hits  int            // guarded by mu
	fired string         // name of the point that failed; guarded by mu
	names map[string]int // hits by name; guarded by mu
}

// Inject returns Points whose nth hit fails, counting from 1, once. With n = 0
// they only count.
func Inject(n int) *Points { return &Points{nth: n, names: make(map[string]int)} }

// Hit passes the point called name: nil, or an error that wraps [ErrInjected]
// and names the point if it is this one's turn to fail.
func (p *Points) Hit(name string) error {
	if p == nil {
		return nil
	}
	return p.hit(name)
}

func (p *Points) hit(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits++
	p.names[name]++
	if p.hits != p.nth {
		return nil
	}
	p.fired = name
	return fmt.Errorf("%s: %w", name, ErrInjected)
}

// Fired is the name of the point that failed, empty if none has.
func (p *Points) Fired() string {
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired
}

// Hits is the number of times that the point called name was passed.
func (p *Points) Hits(name string) int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[name]
}

// TB is the part of testing.TB that Sweep needs. Naming it here keeps package
// testing out of the binaries that carry fault points.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// sweepLimit bounds a Sweep whose scenario never stops passing new points.
const sweepLimit = 100_000

// Sweep runs run with the first point failing, then with the second, and so
// on, until a run passes no further point. run builds its own objects, hands
// them the Points and returns the error of the operation; check, which may be
// nil, is called after each run, failed or not, and asserts that nothing was
// left behind.
//
// The test fails if a run in which a point fired returns nil (a swallowed
// error), another error than the injected one, or if the last run, in which
// none fired, returns an error. Sweep returns the names of the points that
// were made to fail, in order.
func Sweep(t TB, run func(p *Points) error, check func()) []string {
	t.Helper()
	var fired []string
	for n := 1; n <= sweepLimit; n++ {
		p := Inject(n)
		err := run(p)
		name := p.Fired()
		switch {
		case name == "" && err != nil:
			t.Fatalf("no point fired, and the scenario fails: %v", err)
		case name != "" && err == nil:
			t.Fatalf("point %d (%s) failed, and the scenario succeeds", n, name)
		case name != "" && !errors.Is(err, ErrInjected):
			t.Fatalf("point %d (%s) failed, and the scenario fails otherwise: %v", n, name, err)
		}
		if check != nil {
			check()
		}
		if name == "" {
			if n == 1 {
				t.Fatalf("the scenario passes no point")
			}
			return fired
		}
		fired = append(fired, name)
	}
	t.Fatalf("the scenario still passes new points after %d runs", sweepLimit)
	return nil
}
