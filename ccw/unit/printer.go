package unit

import (
	"fmt"
	"io"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// LineSize is the number of print positions. What a program writes beyond
// them is taken and lost.
const LineSize = 132

// UCSSize is the length of the character-set buffer.
const UCSSize = 240

// A 1403 writes and moves the form, or only moves it, as bits 0-4 say:
//
//	0000 0001   write, no space            0000 0011   no-operation
//	000n n001   write, space nn lines      000n n011   space nn at once
//	1ccc c001   write, skip to channel c   1ccc c011   skip to channel c
//
// Specification: GA24-3312, IBM 2821 Control Unit, "1403 Commands".
const (
	cmdPrinterBlockCheck cio.Command = 0x73 // block data check
	cmdPrinterAllowCheck cio.Command = 0x7B // allow data check
	cmdPrinterGate       cio.Command = 0xEB // universal character set: gate load
	cmdPrinterFold       cio.Command = 0xF3 // load the character set, fold
	cmdPrinterLoad       cio.Command = 0xFB // load the character set
)

// PrinterConfig says what a printer is connected to. The zero value is a
// printer whose paper nobody keeps.
type PrinterConfig struct {
	// Output receives the print as EBCDIC: lines without the blanks at
	// their end, NL for each line that the form moves, CR where the next
	// line prints over this one, FF for a new form. [TextWriter] makes
	// text of it. Nil drops it. An error is a printer that stops:
	// intervention required.
	Output io.Writer

	// Carriage is the form. Zero: [DefaultCarriage].
	Carriage Carriage

	// SenseID lets the printer answer SENSE ID. A real 1403 is older than
	// the command and rejects it.
	SenseID bool
}

// Printer is a 1403 line printer behind a 2821. All methods belong to the
// subchannel.
//
// The diagnostic commands are rejected. Characters that the chain would lack
// are printed, so there is no data check to block or allow, and the contents
// of the character-set buffer change nothing.
type Printer struct {
	cfg   PrinterConfig
	id    identity
	sense sense

	at       int  // line of the form, from 1
	overType bool // this line holds print that was not spaced away
	gate     bool // the command before opened the character-set buffer

	line [LineSize]byte
	buf  [256]byte
}

// NewPrinter is a printer at the first line of a form. Cfg may be nil. It
// fails if the carriage has a channel below the form or no line.
func NewPrinter(cfg *PrinterConfig) (*Printer, error) {
	p := &Printer{id: makeIdentity(0x2821, 1, 0x1403, 1), sense: sense{size: 2}, at: 1}
	if cfg != nil {
		p.cfg = *cfg
	}
	if p.cfg.Carriage == (Carriage{}) {
		p.cfg.Carriage = DefaultCarriage
	}
	if !p.cfg.Carriage.valid() {
		return nil, fmt.Errorf("carriage of %d lines with channels on lines %v: %w",
			p.cfg.Carriage.Lines, p.cfg.Carriage.Channel, errs.ErrInvalid)
	}
	return p, nil
}

// Line is the line of the form under the print chain, from 1.
func (p *Printer) Line() int { return p.at }

// Begin starts a program.
func (p *Printer) Begin() { p.gate = false }

// Sense takes the sense bytes of the last unit check, nil if there are none.
func (p *Printer) Sense() []byte { return p.sense.take() }

// Reset forgets the sense bytes. The form stays where it is.
func (p *Printer) Reset() { p.sense.held, p.gate = false, false }

// Execute runs one command.
func (p *Printer) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	gate := p.gate
	p.gate = false
	switch cmd {
	case cio.NOP, cmdPrinterBlockCheck, cmdPrinterAllowCheck:
		return cio.Ended
	case cio.BasicSense:
		return p.sense.basic(x)
	case cio.SenseID:
		if p.cfg.SenseID {
			return p.id.store(x)
		}
	case cmdPrinterGate:
		p.gate = true
		return cio.Ended
	case cmdPrinterFold, cmdPrinterLoad:
		if gate {
			return p.loadUCS(x)
		}
	default:
		if m, ok := motionOf(cmd); ok {
			if cmd&2 == 0 {
				return p.write(m, x)
			}
			return p.move(m)
		}
	}
	return p.sense.reject(x)
}

// motion is how a command moves the form: lines, or to a channel.
type motion struct {
	lines   int
	channel int // 0: lines count
}

// motionOf decodes a command that moves the form, written ccccc001 or
// ccccc011. To move by no line at once is no command: that is NOP.
func motionOf(cmd cio.Command) (m motion, ok bool) {
	if low := cmd & 7; low != 1 && low != 3 {
		return motion{}, false
	}
	n := int(cmd >> 3)
	switch {
	case n <= 3:
		return motion{lines: n}, true
	case n >= 0x11 && n <= 0x1C:
		return motion{channel: n - 0x10}, true
	}
	return motion{}, false
}

// write prints a line and then moves the form.
func (p *Printer) write(m motion, x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	n := 0
	if !collect(x, p.buf[:], func(b []byte) bool { n += copy(p.line[n:], b); return true }) {
		return cio.Ended // the line did not come whole
	}
	for n > 0 && (p.line[n-1] == ebcdicSpace || p.line[n-1] == 0) {
		n--
	}
	if !p.put(p.line[:n]) {
		return p.sense.check(cio.InterventionRequired)
	}
	p.overType = p.overType || n > 0
	if m == (motion{}) {
		if n > 0 && !p.put([]byte{ebcdicCR}) {
			return p.sense.check(cio.InterventionRequired)
		}
		return cio.Ended
	}
	if m.channel != 0 && int(p.cfg.Carriage.Channel[m.channel-1]) == p.at {
		// Already there, but the line is full: on to the next form.
		return p.skip(m.channel, true)
	}
	return p.move(m)
}

// move moves the form.
func (p *Printer) move(m motion) cio.DeviceStatus {
	if m.channel != 0 {
		return p.skip(m.channel, p.overType)
	}
	return p.space(m.lines)
}

// space moves the form n lines down, over its end onto the next.
func (p *Printer) space(n int) cio.DeviceStatus {
	c := &p.cfg.Carriage
	for range n {
		if !p.put([]byte{ebcdicNL}) {
			return p.sense.check(cio.InterventionRequired)
		}
	}
	overflow, nine := c.passes(channelOverflow, p.at, n), c.passes(channelNine, p.at, n)
	p.at = (p.at-1+n)%int(c.Lines) + 1
	p.overType = false
	status := cio.Ended
	if nine {
		status = p.sense.check(cio.SenseBit7)
	}
	if overflow {
		status |= cio.UnitException
	}
	return status
}

// skip moves the form to a channel: the next punch of it, or, unless leave,
// the one under the reading brush.
func (p *Printer) skip(ch int, leave bool) cio.DeviceStatus {
	to := int(p.cfg.Carriage.Channel[ch-1])
	if to == 0 {
		// The form would run until the operator stops it.
		return p.sense.check(cio.InterventionRequired)
	}
	if to == p.at && !leave {
		return cio.Ended
	}
	if to <= p.at {
		if !p.put([]byte{ebcdicFF}) {
			return p.sense.check(cio.InterventionRequired)
		}
		p.at = 1
	}
	for ; p.at < to; p.at++ {
		if !p.put([]byte{ebcdicNL}) {
			return p.sense.check(cio.InterventionRequired)
		}
	}
	p.overType = false
	return cio.Ended
}

// loadUCS takes a character set.
func (p *Printer) loadUCS(x *channel.Transfer) cio.DeviceStatus {
	if x.FetchUpTo(p.buf[:UCSSize]) < UCSSize && !x.Terminated() {
		return p.sense.check(cio.CommandReject)
	}
	return cio.Ended
}

func (p *Printer) put(b []byte) bool {
	if p.cfg.Output == nil || len(b) == 0 {
		return true
	}
	_, err := p.cfg.Output.Write(b)
	return err == nil
}
