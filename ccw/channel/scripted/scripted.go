package scripted

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Op is one operation: what the program asked for and how the device
// answered. An operation is one command with all CCWs chained to it by data
// chaining.
type Op struct {
	Command cio.Command
	Status  cio.DeviceStatus // with which the device ended

	// Moved is the number of bytes of the counts that were used up.
	Moved int
	// Data are the first bytes of an input operation, at most Moved of them;
	// the rest of Moved is counted and not stored.
	Data []byte
	// Fetch is the number of bytes of an output operation that are really
	// fetched, at most Moved; the rest of Moved is counted and not looked at.
	Fetch int
	// More says that the device had or wanted more than the counts allowed.
	More bool
	// Accept says of an output operation without Moved that it was none the
	// less not an immediate one. Input operations never are.
	Accept bool
	// Sense are the sense bytes that a unit check leaves.
	Sense []byte
}

// Device plays operations. The zero Device has none. It is not safe for
// concurrent use: the goroutine that serves the subchannel owns it while a
// program runs, and Load is for when none does.
type Device struct {
	ops   []Op
	next  int
	sense []byte
	err   error
	buf   []byte
	out   []byte
}

var _ channel.Device = (*Device)(nil)

// New makes a device that plays ops. It keeps the slice.
func New(ops []Op) *Device {
	d := new(Device)
	d.Load(ops)
	return d
}

// Load makes the device play ops from now on, and forgets what was left of
// others, their sense and Err.
func (d *Device) Load(ops []Op) {
	d.ops, d.next, d.sense, d.err = ops, 0, nil, nil
	d.out = d.out[:0]
}

// Done is the number of operations played since Load.
func (d *Device) Done() int { return d.next }

// Fetched are the output bytes that the operations since Load took, in order.
// It is valid until the next call of Execute or Load.
func (d *Device) Fetched() []byte { return d.out }

// Err is nil as long as every command was the one that the script had next.
func (d *Device) Err() error { return d.err }

// Begin does nothing: a script holds the operations of programs in order.
func (d *Device) Begin() {}

// Execute plays the next operation. A command that is not the next one in the
// script is rejected with a unit check, and Err tells.
func (d *Device) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if d.next >= len(d.ops) || d.ops[d.next].Command != cmd {
		if d.err == nil {
			d.err = d.astray(cmd)
		}
		d.sense = []byte{uint8(cio.CommandReject)}
		return cio.Ended | cio.UnitCheck
	}
	op := &d.ops[d.next]
	d.next++
	d.sense = op.Sense
	if cmd.Access() == addr.Write {
		d.input(op, x)
	} else {
		d.output(op, x)
	}
	return op.Status
}

func (d *Device) input(op *Op, x *channel.Transfer) {
	// A command that reads is never immediate, unless the device rejects it.
	if op.Moved > 0 || op.Status&cio.UnitCheck == 0 {
		x.Accept()
	}
	data := op.Data[:min(len(op.Data), max(op.Moved, 0))]
	if len(data) > 0 {
		x.Store(data)
	}
	if rest := op.Moved - len(data); rest > 0 {
		x.Skip(rest)
	}
	if op.More {
		x.Skip(1)
	}
}

func (d *Device) output(op *Op, x *channel.Transfer) {
	if op.Accept {
		x.Accept()
	}
	fetch := min(op.Fetch, op.Moved)
	if fetch > 0 {
		if cap(d.buf) < fetch {
			d.buf = make([]byte, fetch)
		}
		n := x.Fetch(d.buf[:fetch])
		d.out = append(d.out, d.buf[:n]...)
	}
	if rest := op.Moved - max(fetch, 0); rest > 0 {
		x.Skip(rest)
	}
	if op.More {
		x.Skip(1)
	}
}

func (d *Device) astray(cmd cio.Command) error {
	if d.next >= len(d.ops) {
		return errs.In("operation", d.next, fmt.Errorf("%v: the script has ended: %w", cmd, errs.ErrInvalid))
	}
	return errs.In("operation", d.next,
		fmt.Errorf("%v: the script has %v: %w", cmd, d.ops[d.next].Command, errs.ErrInvalid))
}

// Sense takes the sense bytes of the last operation.
func (d *Device) Sense() []byte {
	s := d.sense
	d.sense = nil
	return s
}

// Reset forgets the sense. The script goes on where it was.
func (d *Device) Reset() { d.sense = nil }
