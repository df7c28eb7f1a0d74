package demo

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/reg"
	"github.com/softmdev/softmdev/translate/addr"
)

// command is the guest's program: what the registers said when it rang. No part
// of it lies in guest memory, from where a mediator would fetch it, each byte
// once, through its job.
type command struct {
	Op, Len, Value, Vector uint32
	Src, Dst               addr.IOVA
}

// written is told of each register that the guest writes. The caller holds mu.
func (d *Device) written(w reg.Write) {
	if w.Reg.Offset != RegCommand {
		return
	}
	get := func(off uint32) uint32 { return uint32(d.bar0.Get(off)) }
	c := command{
		Op: uint32(w.Data), Len: get(RegLen), Value: get(RegValue), Vector: get(RegVector),
		Src: addr.IOVA(d.bar0.Get(RegSrc)), Dst: addr.IOVA(d.bar0.Get(RegDst)),
	}
	d.bar0.Put(RegStatus, uint64(get(RegStatus)|StatusBusy))
	if err := d.Submit(c); err != nil {
		d.complete(&c, err) // its interrupt comes with that of the one that runs
	}
}

// check finds what is wrong with a command by itself.
func (c *command) check() error {
	switch {
	case c.Op < CommandCopy || c.Op > CommandRaise:
		return fmt.Errorf("command %#x: %w", c.Op, errs.ErrInvalid)
	case c.Op != CommandRaise && (c.Len == 0 || c.Len > MaxLen):
		return fmt.Errorf("length %#x: %w", c.Len, errs.ErrInvalid)
	}
	return nil
}
