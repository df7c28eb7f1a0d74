package ccwdev

import (
	"errors"
	"sync/atomic"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// counts is what a device has done since it was made, whoever used it.
type counts struct {
	programs   atomic.Uint64 // that hardware took
	ccws       atomic.Uint64 // executed
	elements   atomic.Uint64 // CCWs and list words examined
	bytes      atomic.Uint64 // of program fetched and of data moved
	pins       atomic.Uint64 // pages
	rejected   [len(reasons)]atomic.Uint64
	recorded   atomic.Uint64
	unrecorded atomic.Uint64
}

// reasons are those for which a program is rejected: what the mediator refused
// it for, or the check that hardware found. The first that applies counts.
var reasons = [...]struct {
	name  string
	err   error                // of a program that was refused
	check cio.SubchannelStatus // of one that ended in a check
}{
	{name: "chain too long", err: errs.ErrChainTooLong},
	{name: "budget", err: errs.ErrBudget},
	{name: "locked memory", err: errs.ErrMemlock},
	{name: "memory suspended", err: errs.ErrSuspended},
	{name: "memory being unmapped", err: errs.ErrBusy},
	{name: "not supported", err: errs.ErrNotSupported},
	{name: "withdrawn", err: errs.ErrAgain},
	{name: "device gone", err: errs.ErrGone},
	{name: "invalid", err: errs.ErrInvalid},
	{name: "program check", check: cio.ProgramCheck},
	{name: "protection check", check: cio.ProtectionCheck},
	{name: "data check", check: cio.DataCheck},
	{name: "control check", check: cio.ControlCheck},
	{name: "other"},
}

// reason is the index of the reason for which a was rejected, -1 if it was
// not.
func reason(a *ccw.Account) int {
	if !a.Refused && a.Check == 0 {
		return -1
	}
	for i := range reasons {
		r := &reasons[i]
		if a.Refused && r.err != nil && errors.Is(a.Err, r.err) || !a.Refused && a.Check&r.check != 0 {
			return i
		}
	}
	return len(reasons) - 1
}

// program counts one program.
func (c *counts) program(a ccw.Account) {
	if !a.Refused {
		c.programs.Add(1)
	}
	c.ccws.Add(a.Usage.Steps)
	c.elements.Add(a.Usage.Elements)
	c.bytes.Add(a.Usage.Bytes)
	c.pins.Add(a.Usage.Pins)
	if i := reason(&a); i >= 0 {
		c.rejected[i].Add(1)
	}
}

// Report implements [mdev.Reporter]: what the device has done since it was
// made.
//
//	programs     that hardware took
//	rejected     programs by reason: refused by the mediator, ended in a check
//	ccws         executed, transfers included
//	elements     CCWs, IDAWs and MIDAWs that the mediator examined
//	bytes        of program that it fetched, of data that hardware moved
//	pins         pages that were pinned for programs
//	recorded     programs that the recorder took
//	unrecorded   programs that it did not
//
// A reason that never applied is left out.
func (d *Device) Report() []mdev.Metric {
	c := &d.counts
	all := make([]mdev.Metric, 0, 8)
	for _, m := range []struct {
		name string
		n    *atomic.Uint64
	}{
		{"programs", &c.programs}, {"ccws", &c.ccws}, {"elements", &c.elements}, {"bytes", &c.bytes}, {"pins", &c.pins},
		{"recorded", &c.recorded}, {"unrecorded", &c.unrecorded},
	} {
		all = append(all, mdev.Metric{Name: m.name, Value: float64(m.n.Load())})
	}
	for i := range reasons {
		if n := c.rejected[i].Load(); n != 0 {
			all = append(all, mdev.Metric{Name: "rejected", Labels: []mdev.Label{{Name: "reason", Value: reasons[i].name}}, Value: float64(n)})
		}
	}
	return all
}
