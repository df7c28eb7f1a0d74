package demo

import (
	"math/bits"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// complete tells the guest how a command has ended. The caller holds mu.
func (d *Device) complete(c *command, err error) {
	var status uint64
	if d.Waiting() > 0 {
		status |= StatusBusy
	}
	d.ring |= 1 << c.Vector
	d.ended++
	switch errno := errs.Errno(err) & 0xffff; {
	case err != nil:
		status |= StatusError | uint64(errno)<<StatusErrnoShift
		d.failed[errno]++
	case c.Op == CommandChecksum:
		d.bar0.Put(RegValue, uint64(c.Value))
	}
	d.bar0.Put(RegStatus, status)
	d.bar0.Put(RegCompleted, d.bar0.Get(RegCompleted)+1)
}

// interrupt tells the guest that commands have ended.
func (d *Device) interrupt(*command) {
	d.mu.Lock()
	ring := d.ring
	d.ring = 0
	d.mu.Unlock()
	for ; ring != 0; ring &= ring - 1 {
		d.Raise(bits.TrailingZeros32(ring))
	}
}

// Report implements mdev.Reporter.
func (d *Device) Report() []mdev.Metric {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []mdev.Metric{{Name: "commands", Value: float64(d.ended)}}
	for errno, n := range d.failed {
		all = append(all, mdev.Metric{Name: "rejected", Labels: []mdev.Label{{Name: "reason", Value: errno.Error()}}, Value: float64(n)})
	}
	return all
}
