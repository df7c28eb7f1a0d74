package pinning_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
)

// C4 #5: fail every step of every way to pin; nothing is left behind: no
// lease, no charge, no reach, nothing in the way of an unmap. With the error
// left unhandled by the program but for its release.
func TestFailTheNth(t *testing.T) {
	scenarios := map[string]func(e *env, l pinning.Lease) error{
		"one page": func(e *env, l pinning.Lease) error {
			_, err := l.Pin(0x1_0000, 1, rw)
			return err
		},
		"several blocks and mappings": func(e *env, l pinning.Lease) error {
			_, err := l.Pin(0x1_0800, 33*page-0x800, r)
			return err
		},
		"a list": func(e *env, l pinning.Lease) error {
			reqs := []pinning.Request{{0x1_0000, 1, r}, {0x1_0000, 2 * page, w}, {0x3_1000, 1, w}, {top, 0x30 * page, r}}
			_, err := l.PinEach(reqs, make([]pinning.Pin, len(reqs)))
			return err
		},
		"pin by pin, twice the same": func(e *env, l pinning.Lease) error {
			for range 2 {
				if _, err := l.Pin(0x1_e000, 4*page, rw); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, backend := range []pinning.Backend{pinning.Emulated, pinning.Locked} {
		for name, run := range scenarios {
			t.Run(backend.String()+"/"+name, func(t *testing.T) {
				if backend == pinning.Locked {
					needLocked(t, 40)
				}
				var e *env
				points := map[string]bool{}
				for _, p := range fault.Sweep(t, func(p *fault.Points) error {
					e = newEnv(t, iommu.Scattered, &pinning.Config{Backend: backend, Fault: p})
					l := e.o.Begin(1)
					err := run(e, l)
					if err != nil {
						require.Zero(t, e.d.FaultCount())
					}
					l.Release()
					return err
				}, func() {
					pintest.Check(t, e.p)
					require.Empty(t, e.p.Holdings())
					require.Zero(t, e.o.Charged())
					require.NoError(t, e.unmap(0x1_0000, 34*page, 0), "nothing is in the way")
					require.NoError(t, e.p.Close())
				}) {
					points[p] = true
				}
				want := map[string]bool{"lookup": true, "window": true, "reach": true, "charge": true}
				if backend == pinning.Locked {
					want["lock"] = true
				}
				require.Equal(t, want, points, "every acquisition step was made to fail")
			})
		}
	}
}

// A range that fails keeps what the lease held before, and all of it.
func TestFailTheNthKeepsEarlierPins(t *testing.T) {
	var e *env
	fault.Sweep(t, func(p *fault.Points) error {
		e = newEnv(t, iommu.Contiguous, &pinning.Config{Fault: p})
		l := e.o.Begin(1)
		defer l.Release()
		first, err := l.Pin(0x1_0000, 3*page, r)
		if err != nil {
			require.Zero(t, e.p.Charged(), "all or nothing")
			return err
		}
		_, err = l.Pin(0x1_1000, 0x20*page, r)
		if err != nil {
			require.Equal(t, 3*page, e.p.Charged(), "all or nothing")
			for off := range first.Runs() {
				require.True(t, e.reads(off.HPA))
			}
		}
		return err
	}, func() { pintest.Check(t, e.p) })
}
