package replay

import (
	"sync"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
)

// gate stands between the channel subsystem and a model. It stops a program
// where the recording says that HALT or CLEAR SUBCHANNEL stopped it: before
// its first operation, behind its last one, or in the middle of that. Then the
// recorded device side takes the model's place for what is left of it, as only
// the recording knows how far it got.
//
// The device may run on another goroutine than the guest.
type gate struct {
	mu    sync.Mutex
	dev   channel.Device // guarded by mu
	halt  func()         // guarded by mu; halts or clears the subchannel
	where stopAt         // guarded by mu
	at    int            // guarded by mu; operation
	op    int            // guarded by mu
	cut   scripted.Op    // guarded by mu
}

// stopAt is where a program is stopped.
type stopAt uint8

const (
	stopNowhere stopAt = iota
	stopPending        // before hardware begins it
	stopBegun          // before its first CCW
	stopBehind         // behind operation at
	stopWithin         // within operation at
)

// arm sets the outside world of the device up for r, and makes g stop its
// program by halt.
func (g *gate) arm(r *prepared, outside func(*prepared), halt func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if outside != nil {
		outside(r)
	}
	g.op, g.halt, g.where, g.at = 0, halt, stopNowhere, len(r.p.ops)-1
	if r.rec.End != recording.Halted && r.rec.End != recording.Cleared {
		return
	}
	switch {
	case g.at < 0 && primary(r.rec.Expect):
		g.where = stopBegun
	case g.at < 0:
		g.where = stopPending
	case r.p.ops[g.at].ended:
		g.where = stopBehind
	default:
		g.where, g.cut = stopWithin, r.p.cut(&r.p.ops[g.at])
	}
}

// pending reports whether the program is to be stopped before hardware begins
// it.
func (g *gate) pending() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.where == stopPending
}

// before is called before hardware begins a program.
func (g *gate) before() {
	if g.pending() {
		g.halt()
	}
}

// Begin implements [channel.Device].
func (g *gate) Begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.where == stopBegun {
		g.halt()
	}
	g.dev.Begin()
}

// Sense implements [channel.Device].
func (g *gate) Sense() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dev.Sense()
}

// Reset implements [channel.Device].
func (g *gate) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dev.Reset()
}

// Execute implements [channel.Device].
func (g *gate) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	op := g.op
	g.op++
	switch {
	case op != g.at:
	case g.where == stopBehind:
		d := g.dev.Execute(cmd, x)
		g.halt()
		return d
	case g.where == stopWithin && g.cut.Command == cmd:
		d := scripted.New([]scripted.Op{g.cut}).Execute(cmd, x)
		g.halt()
		x.Skip(1) // where it finds that it is stopped
		return d
	}
	return g.dev.Execute(cmd, x)
}

// cut is the device side of the operation within which the program was
// stopped: as many bytes as had moved by then.
func (p *program) cut(op *operation) scripted.Op {
	out := p.scriptOp(op, true)
	list, _ := p.opAreas(op)
	input := op.cmd.Class(p.f1).Input()
	switch e := p.rec.Expect; {
	case p.rec.End == recording.Halted && e != nil && e.SCSW != nil:
		w := cio.SCSW(*e.SCSW)
		out.Status = w.Device()
		out.Moved = max(0, p.opCount(op)-int(w.Count()))
	case input:
		out.Moved = len(p.delivered(list, p.opCount(op)))
	default:
		out.Moved = p.taken(list, p.opCount(op))
	}
	out.Data = out.Data[:min(len(out.Data), out.Moved)]
	out.Fetch, out.More, out.Sense = 0, false, nil
	if !input {
		out.Fetch = out.Moved
	}
	return out
}
