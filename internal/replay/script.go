package replay

import (
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// script is the device side of a recorded program: for each operation its
// status, the bytes it delivered and how many it took.
//
// The delivered bytes are looked up where the program's data areas lead. They
// have their final values: when two operations fill the same area, the first
// delivers what the second did, which ends the same. Bytes that were delivered
// but never got into memory (a check ended the operation, storage was protected
// by a key, a list was too short) are made up as zeros: should our channel store
// them where the recorded one did not, that shows.
func (p *program) script() []scripted.Op {
	ops := make([]scripted.Op, 0, len(p.ops))
	for k := range p.ops {
		// An operation that was checked before it reached the recorded
		// device may be checked later here: with its first byte.
		if op := &p.ops[k]; op.cmd.Class(p.f1) != cio.ClassInvalid {
			ops = append(ops, p.scriptOp(op, k == len(p.ops)-1))
		}
	}
	return ops
}

// scriptOp is one operation; last says that the program ended with it.
func (p *program) scriptOp(op *operation, last bool) scripted.Op {
	s := p.status(op, last)
	count, status := p.opCount(op), cio.DeviceStatus(s.DStat)
	out := scripted.Op{Command: op.cmd, Status: status, Moved: max(0, count-int(s.Resid))}
	channel := cio.SubchannelStatus(s.CStat)
	checked := channel&anyCheck != 0
	chained := cio.Flags(p.rec.Trace[op.last].Flags)&cio.ChainData != 0
	// Where SLI hides it, nobody knows whether the device had more; that it
	// had shows only where the channel should have asked for it.
	hidden := cio.Flags(p.rec.Trace[op.last].Flags)&cio.SuppressLength != 0 && op.first != op.last
	out.More = s.Resid == 0 && !chained && (hidden || channel&cio.IncorrectLength != 0)
	if status == 0 {
		out.Status = cio.Ended // the check was found before the device ended
	}
	if status&cio.UnitCheck != 0 {
		out.Sense = p.senseLeft()
	}
	if checked {
		// The residual of a check says nothing: the device would have
		// moved it all, had the channel let it.
		out.Moved = count
		if s := &p.rec.Trace[op.last]; op.last != op.first && (s.Count == 0 || p.isTIC(s)) {
			// The CCW that is wrong has no count of its own: the device
			// must want a byte more to get there.
			out.Moved++
		}
	}
	list, _ := p.opAreas(op)
	if op.cmd.Class(p.f1).Input() {
		out.Data = p.delivered(list, out.Moved)
		if p.rec.Source == recording.LiveSource && !checked {
			return out // what is not in memory was passed over
		}
		if status&cio.UnitCheck != 0 && !checked {
			// A rejected command leaves a residual of zero in some
			// recordings, but moved nothing.
			out.Moved = len(out.Data)
		}
		out.Data = append(out.Data, make([]byte, out.Moved-len(out.Data))...)
		return out
	}
	switch n := p.taken(list, out.Moved); {
	case checked:
		out.Fetch = out.Moved
	case p.rec.Source == recording.LiveSource:
		out.Fetch = n // likewise
	case op.cmd.Class(p.f1) == cio.ClassControl && n == 0 && out.Moved > 0 && len(list) > 0:
		// Nothing was fetched, so this is an immediate operation, whatever
		// residual was recorded.
		out.Moved = 0
	default:
		out.Fetch = out.Moved
	}
	out.Accept = out.Moved == 0 && channel&cio.IncorrectLength != 0 && !p.f1
	return out
}

// stepStatus is the status of an operation as the trace has it or, under
// QEMU, as the SCSW tells it.
type stepStatus struct {
	DStat, CStat byte
	Resid        uint16
}

func (p *program) status(op *operation, last bool) stepStatus {
	if s := &p.rec.Trace[op.last]; op.ended {
		return stepStatus{s.DStat, s.CStat, s.Resid}
	}
	if p.rec.End == recording.Halted || p.rec.End == recording.Cleared {
		// The device was at work when it was stopped, and would have gone on.
		return stepStatus{DStat: byte(cio.Ended)}
	}
	if e := p.rec.Expect; last && e != nil && e.SCSW != nil {
		w := cio.SCSW(*e.SCSW)
		return stepStatus{byte(w.Device()), byte(w.Subchannel() &^ cio.PCI), w.Count()}
	}
	return stepStatus{DStat: byte(cio.Ended)}
}

// senseLeft is the sense of the unit check with which the program ended.
func (p *program) senseLeft() []byte {
	e := p.rec.Expect
	if e == nil {
		return nil
	}
	if e.ESW != nil && e.ECW != nil {
		esw := cio.ESW(*e.ESW)
		if w := esw.ERW(); w&cio.ERWConcurrentSense != 0 {
			return e.ECW[:min(w.SenseCount(), len(e.ECW))]
		}
	}
	if e.SenseAfter != nil {
		return e.SenseAfter[:]
	}
	return nil
}

// delivered is the first n bytes that an input operation delivered, as far as
// they are known; skipped bytes are zeros.
func (p *program) delivered(list []area, n int) []byte {
	data := make([]byte, 0, n)
	for _, x := range list {
		k := min(int(x.n), n-len(data))
		if k == 0 {
			break
		}
		if x.skip {
			data = append(data, make([]byte, k)...)
			continue
		}
		b := data[len(data) : len(data)+k]
		got := 0
		if x.backward {
			for got < k && readSegments(p.stored, x.a+addr.GPA(x.n)-1-addr.GPA(got), b[got:got+1]) == 1 {
				got++
			}
		} else {
			got = readSegments(p.stored, x.a, b)
		}
		data = data[:len(data)+got]
		if got < k {
			break
		}
	}
	return data
}

// taken is how many of the first n bytes of an output operation the record
// shows to have been fetched.
func (p *program) taken(list []area, n int) int {
	total := 0
	for _, x := range list {
		k := min(int(x.n), n-total)
		if k == 0 {
			break
		}
		b := make([]byte, k)
		got := readSegments(p.known, x.a, b)
		total += got
		if got < k {
			break
		}
	}
	return total
}

// reads is the data of each input operation of cmd, for models whose input
// comes from outside: the lines typed at a console, the cards of a reader.
func (p *program) reads(is func(cio.Command) bool) (data [][]byte, status []cio.DeviceStatus) {
	for k := range p.ops {
		op := &p.ops[k]
		if !op.device || !is(op.cmd) {
			continue
		}
		s := p.scriptOp(op, k == len(p.ops)-1)
		data, status = append(data, s.Data), append(status, s.Status)
	}
	return data, status
}
