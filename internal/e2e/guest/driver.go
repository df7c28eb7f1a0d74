//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The demo device as its documentation describes it: a driver is written from
// that, not from the device's source, and so is this one.
const (
	regID        = 0x00
	regVersion   = 0x04
	regScratch   = 0x08
	regStatus    = 0x0c
	regSource    = 0x10
	regDest      = 0x18
	regLength    = 0x20
	regValue     = 0x24
	regVector    = 0x28
	regDoorbell  = 0x2c
	regCompleted = 0x30
	regCounter   = 0x34

	demoID      = 0x6f6d6564
	demoVersion = 1

	statusBusy  = 1 << 0
	statusError = 1 << 1

	doCopy     = 1
	doFill     = 2
	doChecksum = 3
	doRaise    = 4

	longest = 1 << 20
)

// patience is how long one command may take. An emulated processor shares two
// real ones with everything else.
const patience = 20 * time.Second

// A driver drives the device of a machine.
type driver struct {
	machine
	regs  *window
	ready int     // vectors that are armed
	next  uint32  // the vector of the next command: they take turns
	proof *buffer // what alive writes into
}

func newDriver(m machine) (*driver, error) {
	regs, err := m.bar(0)
	if err != nil {
		return nil, err
	}
	d := &driver{machine: m, regs: regs}
	return d, d.arm()
}

func (d *driver) arm() (err error) {
	d.next = 0
	d.ready, err = d.machine.arm()
	return err
}

// A deviceError is what the status register says of a command.
type deviceError unix.Errno

func (e deviceError) Error() string {
	return fmt.Sprintf("the device says %v", unix.Errno(e))
}

func (d *driver) copy(dst, src uint64, n uint32) error {
	d.regs.write64(regSource, src)
	d.regs.write64(regDest, dst)
	d.regs.write32(regLength, n)
	return d.command(doCopy)
}

func (d *driver) fill(dst uint64, value byte, n uint32) error {
	d.regs.write64(regDest, dst)
	d.regs.write32(regLength, n)
	d.regs.write32(regValue, uint32(value))
	return d.command(doFill)
}

func (d *driver) checksum(src uint64, n uint32) (uint32, error) {
	d.regs.write64(regSource, src)
	d.regs.write32(regLength, n)
	if err := d.command(doChecksum); err != nil {
		return 0, err
	}
	return d.regs.read32(regValue), nil
}

// command starts a command, waits until its interrupt arrives and until the
// device counts it as finished, and returns what the device says of it.
func (d *driver) command(code uint32) error {
	vector := d.next
	d.next = (d.next + 1) % uint32(d.ready)
	before, err := d.interrupts()
	if err != nil {
		return err
	}
	done := d.regs.read32(regCompleted)
	d.regs.write32(regVector, vector)
	d.regs.write32(regDoorbell, code)
	err = waitFor(patience, fmt.Sprintf("interrupt %d of command %d", vector, code), func() (bool, error) {
		now, err := d.interrupts()
		return now[vector] > before[vector], err
	})
	if err != nil {
		return fmt.Errorf("%w (status %#x, %d commands finished, %d before)",
			err, d.regs.read32(regStatus), d.regs.read32(regCompleted), done)
	}
	if now := d.regs.read32(regCompleted); now != done+1 {
		return fmt.Errorf("%d commands finished, %d before", now, done)
	}
	status := d.regs.read32(regStatus)
	switch {
	case status&statusBusy != 0:
		return fmt.Errorf("status %#x: busy after the interrupt", status)
	case status&statusError != 0:
		return deviceError(status >> 16)
	case status != 0:
		return fmt.Errorf("status %#x without an error", status)
	}
	return nil
}

// alive is the least that a healthy device does.
func (d *driver) alive() error {
	if id := d.regs.read32(regID); id != demoID {
		return fmt.Errorf("ID %#x", id)
	}
	if d.proof == nil {
		var err error
		if d.proof, err = d.buffer(pageSize); err != nil {
			return err
		}
	}
	clear(d.proof.mem)
	if err := d.fill(d.proof.addr, 0x5a, pageSize); err != nil {
		return err
	}
	return uniform(d.proof.mem, 0x5a)
}

func uniform(mem []byte, value byte) error {
	for i, b := range mem {
		if b != value {
			return fmt.Errorf("byte %#x is %#x, not %#x", i, b, value)
		}
	}
	return nil
}
