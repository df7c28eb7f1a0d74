// Package pintest fails a test that ends with pins held: a lease that was not
// released, or a charge that was not given back.
package pintest

import (
	"testing"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
)

// New is [pinning.New] for a test. When the test ends, [Check] must pass, and
// the Pinner is closed. A zero Limit means no limit here: what a test may pin
// should not depend on the machine. Register it after the store, so that it is
// closed before.
func New(t testing.TB, st *translate.Store, space *iommu.Space, cfg *pinning.Config) *pinning.Pinner {
	t.Helper()
	var c pinning.Config
	if cfg != nil {
		c = *cfg
	}
	if c.Limit == 0 {
		c.Limit = pinning.Unlimited
	}
	c.Trace = true
	p, err := pinning.New(st, space, &c)
	if err != nil {
		t.Fatalf("pinning: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		Check(t, p)
		if err := p.Close(); err != nil {
			t.Errorf("closing the pinner: %v", err)
		}
	})
	return p
}

// Check fails the test, without ending it, if p holds anything now: each lease
// is reported with owner, program, what it holds and, if p traces, where it
// began.
func Check(t testing.TB, p *pinning.Pinner) {
	t.Helper()
	for _, l := range p.Leases() {
		t.Errorf("lease of %s program %d is not released, holds %v, began at\n%s", l.Owner, l.Program, l.Holdings, l.Began)
	}
	if n := p.Charged(); n != 0 {
		t.Errorf("%s bytes are still charged", n)
	}
}
