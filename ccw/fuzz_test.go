package ccw_test

import (
	"testing"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/mdev/job"
)

func build(h *ccwtest.Host) (ccwtest.Translator, error) {
	return ccw.New(h.Device, ccw.Config{
		Name: "fuzz", Store: h.Store, Pinner: h.Pinner, Space: h.Space,
		PMCW: &h.PMCW, Limits: job.Limits{Steps: h.Steps},
	})
}

// Oracle: whatever the program, the mediator's result is that of the channel
// subsystem on the guest's own memory; nothing outside the leases is touched,
// nothing is left, nothing panics.
func FuzzDifferential(f *testing.F) { ccwtest.Fuzz(f, build) }
