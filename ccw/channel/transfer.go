package channel

import (
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// Transfer is the data side of one operation, as the device sees it. It is
// valid during Execute, for the goroutine that Execute runs on.
//
// An operation during which the device calls no method that moves or accepts
// is an immediate one: it ends with the command itself.
type Transfer struct {
	s *Subchannel

	class    cio.Class // of the command, for every CCW of the operation
	chained  bool      // the command was reached by command chaining
	accepted bool      // not an immediate operation
	moved    bool      // at least one byte moved
	more     bool      // the device wanted to move more than it was given
	stopped  bool      // by halt, clear or close

	check     cio.SubchannelStatus // what ended the data; 0 = nothing
	checkAddr uint32               // the CCW address it leaves
	inCCW     bool                 // the check is one of a CCW, not of its data

	// The CCW in control.
	at       uint32
	flags    cio.Flags
	addr     uint32 // as in the CCW
	count    uint32 // bytes left
	dataNext bool   // reached by data chaining

	cursor cursor
	turned *[addr.PageSize]byte // bytes in the order of storage, for read backward
}

// begin sets x up for the operation that c begins.
func (x *Transfer) begin(c *cio.CCW, at uint32, format1, chained bool) {
	*x = Transfer{s: x.s, turned: x.turned, class: c.Command.Class(format1), chained: chained}
	x.control(c, at)
}

// control puts c in control.
func (x *Transfer) control(c *cio.CCW, at uint32) {
	x.at, x.flags, x.addr, x.count = at, c.Flags, c.Addr, uint32(c.Count)
	x.cursor = cursor{}
}

// Store moves p from the device into memory and returns how much of it found
// room. Less than len(p) means that the count, data chaining included, is used
// up and the device had more, or that the transfer is terminated. In a read
// backward p is in the order in which the device delivers it, and goes to
// descending addresses.
func (x *Transfer) Store(p []byte) int {
	if !x.direction(true) {
		return 0
	}
	n := 0
	for n < len(p) {
		k := min(x.span(true), len(p)-n)
		if k == 0 {
			break
		}
		if !x.cursor.skip {
			if err := x.put(p[n : n+k]); err != nil {
				x.refuse(err)
				break
			}
		}
		if n += k; !x.advance(k) {
			break
		}
	}
	return n
}

// Fetch moves len(p) bytes from memory into the device and returns how many
// there were. Less means that the count, data chaining included, is used up
// and the device wanted more, or that the transfer is terminated.
func (x *Transfer) Fetch(p []byte) int { return x.fetch(p, true) }

// FetchUpTo is Fetch for a device that takes what it is offered, up to
// len(p), and wants no more: less than len(p) is not an incorrect length.
func (x *Transfer) FetchUpTo(p []byte) int { return x.fetch(p, false) }

func (x *Transfer) fetch(p []byte, want bool) int {
	if !x.direction(false) {
		return 0
	}
	n := 0
	for n < len(p) {
		k := min(x.span(want), len(p)-n)
		if k == 0 {
			break
		}
		if err := x.s.mem.Read(addr.HPA(x.cursor.addr), p[n:n+k]); err != nil {
			x.refuse(err)
			break
		}
		if n += k; !x.advance(k) {
			break
		}
	}
	return n
}

// Skip lets n bytes of the count pass without touching storage, and returns
// how many passed; data chaining included. It is for a device that counts
// bytes which it does not deliver or look at.
func (x *Transfer) Skip(n int) int {
	done := 0
	for done < n && x.available(true) {
		x.initialStatus()
		k := min(int(x.count), n-done)
		x.cursor.behind += uint64(k)
		x.count -= uint32(k)
		x.moved = true
		done += k
	}
	return done
}

// Accept says that the device accepted the command as one that has data,
// though it moves none: the operation is not immediate.
func (x *Transfer) Accept() {
	x.accepted = true
	x.initialStatus()
}

// Remaining is the number of bytes left in the CCW in control. Data chaining
// may add to it.
func (x *Transfer) Remaining() int { return int(x.count) }

// Terminated reports that a check, a halt or a clear ended the transfer. The
// device ends the operation at once, and acts on no data it did not get.
func (x *Transfer) Terminated() bool { return x.check != 0 || x.stopped }

// Chained reports whether the command was reached by command chaining.
func (x *Transfer) Chained() bool { return x.chained }

// direction accepts the command and reports whether data may move the way the
// device asks for. A device that moves data against its command is broken.
func (x *Transfer) direction(input bool) bool {
	x.accepted = true
	if x.class.Input() != input && x.check == 0 {
		x.fail(cio.InterfaceCheck, false)
	}
	return x.check == 0
}

// initialStatus tells that the device accepted the first command, if the
// program asked to be told.
func (x *Transfer) initialStatus() {
	if p := &x.s.prog; p.initial {
		p.initial = false
		x.s.intermediate(cio.SCSWZero, 0, x.at, uint16(x.count))
	}
}

// fail ends the data with a check of the CCW in control.
func (x *Transfer) fail(check cio.SubchannelStatus, inCCW bool) {
	x.check, x.checkAddr, x.inCCW = check, nextCCW(x.at), inCCW
}

// available reports whether the CCW in control has bytes left, after fetching
// the next one of a data chain if need be. want says that it is an incorrect
// length if there are none.
func (x *Transfer) available(want bool) bool {
	x.accepted = true
	if x.check != 0 || x.stopped {
		return false
	}
	if x.s.stop.Load() {
		x.stopped = true
		return false
	}
	if x.count != 0 {
		return true
	}
	if x.flags&cio.ChainData == 0 {
		x.more = x.more || want
		return false
	}
	if x.class != cio.ClassControl {
		x.s.prog.backward = 0 // the CCW in control moved its data
	}
	// One CCW is enough: by data chaining only one with a count is reached.
	var c cio.CCW
	at, f := x.s.fetch(&c, true)
	if f.stopped {
		x.stopped = true
		return false
	}
	if f.channel != 0 {
		x.check, x.checkAddr, x.inCCW = f.channel, f.ccwAddr, true
		return false
	}
	x.control(&c, at)
	x.dataNext = true
	if c.Flags&cio.ProgramControlled != 0 {
		x.s.intermediate(0, cio.PCI, at, c.Count)
	}
	return true
}

// span is the number of bytes that can move at x.cursor.addr now, 0 if none.
func (x *Transfer) span(want bool) int {
	if !x.available(want) {
		return 0
	}
	if x.cursor.piece == 0 || x.cursor.behind != 0 {
		if !x.locate() {
			return 0
		}
		x.initialStatus()
	}
	return int(min(x.cursor.piece, uint64(x.count)))
}

// advance counts n bytes that moved. It reports whether the data can go on.
func (x *Transfer) advance(n int) bool {
	x.moved = true
	x.count -= uint32(n)
	x.cursor.advance(uint64(n), x.class == cio.ClassReadBackward)
	if m := x.s.cfg.Moved; m != nil {
		if x.s.prog.err = m(n); x.s.prog.err != nil {
			x.fail(cio.ProgramCheck, false)
			return false
		}
	}
	if x.count == 0 && x.flags&cio.Modified != 0 && !x.cursor.last {
		x.fail(cio.ProgramCheck, false) // the count is used up before the list
		return false
	}
	return true
}

// put writes p at the cursor; backward, p[0] goes to the cursor and the rest
// below it.
func (x *Transfer) put(p []byte) error {
	a := x.cursor.addr
	if x.class != cio.ClassReadBackward {
		return x.s.mem.Write(addr.HPA(a), p)
	}
	if x.turned == nil {
		x.turned = new([addr.PageSize]byte)
	}
	// A piece never crosses a page, so that p fits.
	b := x.turned[:len(p)]
	for i, v := range p {
		b[len(b)-1-i] = v
	}
	return x.s.mem.Write(addr.HPA(a-uint64(len(p)-1)), b)
}

// refuse ends the data with the check of an error of the memory at data.
// Storage that is not there counts as an error of a direct CCW itself, if
// the operation began with it and none of its bytes moved.
func (x *Transfer) refuse(err error) {
	check := checkOf(err)
	direct := x.flags&(cio.Indirect|cio.Modified) == 0
	x.fail(check, check == cio.ProgramCheck && direct && !x.dataNext && !x.moved)
}
