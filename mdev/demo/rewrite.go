package demo

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/demo/engine"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate/addr"
)

// limits bound the work of one command: what the longest copy takes.
var limits = job.Limits{Bytes: 2 * MaxLen, Pins: 2 * uint64(engine.MaxSegments)}

// errNoMaster is why a command that needs memory is refused, or ended.
var errNoMaster = fmt.Errorf("bus mastering is off: %w", errs.ErrPermission)

// execute has the hardware do a command.
func (d *Device) execute(j *job.Job, c *command) (err error) {
	if err := c.check(); err != nil || c.Op == CommandRaise {
		return err
	}
	if !d.Space.Master() {
		return errNoMaster
	}
	if err := d.rewrite(j, c); err != nil {
		return err
	}
	c.Value, err = d.engine.Run(d.program.HPA, j.Moved)
	return err
}

// rewrite pins what a command names, for no more than it does there, and makes
// the host program of it.
func (d *Device) rewrite(j *job.Job, c *command) (err error) {
	p := engine.Program{Op: engine.Op(c.Op), Value: c.Value} // their numbers agree
	if c.Op != CommandFill {
		if p.Src, err = pin(j, c.Src, c.Len, addr.Read); err != nil {
			return fmt.Errorf("source: %w", err)
		}
	}
	if c.Op != CommandChecksum {
		if p.Dst, err = pin(j, c.Dst, c.Len, addr.Write); err != nil {
			return fmt.Errorf("destination: %w", err)
		}
	}
	return p.Encode(d.program.Mem)
}

// pin pins a range, which may lie in many mappings, whole or not at all, and
// lists where its bytes are for the hardware.
func pin(j *job.Job, iova addr.IOVA, n uint32, access addr.Access) (list []engine.Segment, err error) {
	pin, err := j.PinRange(iova, addr.Len(n), access)
	if err != nil {
		return nil, err
	}
	for run := range pin.Runs() {
		list = append(list, engine.Segment(run))
	}
	return list, nil
}
