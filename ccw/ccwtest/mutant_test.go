package ccwtest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate/addr"
)

func mediator(h *ccwtest.Host) (*ccw.Device, error) {
	return ccw.New(h.Device, ccw.Config{
		Name: "mutant", Store: h.Store, Pinner: h.Pinner, Space: h.Space,
		PMCW: &h.PMCW, Limits: job.Limits{Steps: h.Steps},
	})
}

// probe is a testing.TB that notes a failure instead of failing.
type probe struct {
	testing.TB
	failed string
}

func (p *probe) Helper() {}
func (p *probe) Errorf(format string, args ...any) {
	if p.failed == "" {
		p.failed = fmt.Sprintf(format, args...)
	}
}
func (p *probe) FailNow() { runtime.Goexit() }

// verdict is what the harness says of a translator over the seeds: the first
// objection, or nothing.
func verdict(t *testing.T, build ccwtest.New) string {
	for _, in := range ccwtest.Seeds() {
		p := &probe{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			ccwtest.Differential(p, ccwtest.Decode(in), build)
		}()
		<-done
		if p.failed != "" {
			return p.failed
		}
	}
	return ""
}

// mutant wraps the mediator with one thing that is wrong.
type mutant struct {
	*ccw.Device
	start func(d *ccw.Device, orb *cio.ORB) (cio.CC, error)
	test  func(irb *cio.IRB)
}

func (m *mutant) Start(orb *cio.ORB) (cio.CC, error) {
	if m.start != nil {
		return m.start(m.Device, orb)
	}
	return m.Device.Start(orb)
}

func (m *mutant) Test(irb *cio.IRB) cio.CC {
	code := m.Device.Test(irb)
	if m.test != nil {
		m.test(irb)
	}
	return code
}

// The harness passes what is right, and names what is wrong.
func TestHarnessCatchesMutants(t *testing.T) {
	for _, x := range []struct {
		name string
		make func(h *ccwtest.Host, m *mutant)
		says string // part of the objection
	}{
		{name: "none"},
		{name: "the CCW address is not translated back", says: "status of", make: func(_ *ccwtest.Host, m *mutant) {
			m.test = func(irb *cio.IRB) { irb.SCSW.SetCCWAddr(irb.SCSW.CCWAddr() + 8) }
		}},
		{name: "the residual count is lost", says: "status of", make: func(_ *ccwtest.Host, m *mutant) {
			m.test = func(irb *cio.IRB) { irb.SCSW.SetCount(0) }
		}},
		{name: "blocks of 2 KiB taken for 4 (unit mix, C4 #12)", says: "ORB is the caller's", make: func(_ *ccwtest.Host, m *mutant) {
			m.start = func(d *ccw.Device, orb *cio.ORB) (cio.CC, error) {
				orb.SetBlock2K(false)
				return d.Start(orb)
			}
		}},
		{name: "the same, quietly", says: "status of", make: func(_ *ccwtest.Host, m *mutant) {
			m.start = func(d *ccw.Device, orb *cio.ORB) (cio.CC, error) {
				o := *orb
				o.SetBlock2K(!orb.Block2K())
				o.SetIDAW2(true)
				return d.Start(&o)
			}
		}},
		{name: "a pin is forgotten (C4 #5)", says: "pins left", make: func(h *ccwtest.Host, m *mutant) {
			owner := h.Pinner.NewOwner("forgetful", m.Domain(), nil)
			m.start = func(d *ccw.Device, orb *cio.ORB) (cio.CC, error) {
				_, _ = owner.Begin(1).Pin(0x8000, 8, addr.Read)
				return d.Start(orb)
			}
		}},
		{name: "hardware reaches for more", says: "outside the reach", make: func(_ *ccwtest.Host, m *mutant) {
			m.start = func(d *ccw.Device, orb *cio.ORB) (cio.CC, error) {
				_ = d.Domain().Read(1<<33, make([]byte, 8))
				return d.Start(orb)
			}
		}},
		{name: "never over", says: "over, or suspended", make: func(_ *ccwtest.Host, m *mutant) {
			m.start = func(*ccw.Device, *cio.ORB) (cio.CC, error) { return 0, nil }
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := verdict(t, func(h *ccwtest.Host) (ccwtest.Translator, error) {
				d, err := mediator(h)
				m := &mutant{Device: d}
				if err == nil && x.make != nil {
					x.make(h, m)
				}
				return m, err
			})
			if x.says == "" {
				require.Empty(t, got)
				return
			}
			require.NotEmpty(t, got, "nothing was said")
			require.Contains(t, strings.Join(strings.Fields(got), " "), x.says)
		})
	}
}
