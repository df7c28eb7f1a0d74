package unit

import (
	"io"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The commands of a 3215.
//
// Specification: GA24-3550, IBM 3215 Console Printer-Keyboard; Linux
// drivers/s390/char/con3215.c for their use.
const (
	cmd3215Write   cio.Command = 0x01 // no carriage return
	cmd3215WriteCR cio.Command = 0x09 // with a carriage return behind
	cmd3215Read    cio.Command = 0x0A // read inquiry
	cmd3215Alarm   cio.Command = 0x0B
)

// Limits of a console: what an operator can have typed ahead.
const (
	// MaxLine is the longest line that one read can return.
	MaxLine = 4096
	// MaxLines is how many lines wait for reads.
	MaxLines = 256
)

// Console3215Config says what a console is connected to. The zero value is a
// console that nobody looks at.
type Console3215Config struct {
	// Output receives what programs print, EBCDIC as it came, a line feed
	// as NL. [TextWriter] makes text of it. Nil drops it. An error makes
	// the write end with unit check, intervention required.
	Output io.Writer

	// Attention is called when the operator enters a line, so that the
	// subchannel can tell the program to read. Nil tells nobody.
	Attention func(cio.DeviceStatus)

	// Prompt is called when a program reads and no line waits, as the
	// operator of a real console sees the PROCEED light. It may wait for
	// the operator, if the subchannel dispatches to a goroutine of its
	// own. It returns a line, or ok false for the CANCEL key. Nil is an
	// operator who cancels at once.
	Prompt func() (line []byte, ok bool)

	// Alarm is called for the audible alarm. Nil keeps quiet.
	Alarm func()
}

// Console3215 is a 3215 console printer-keyboard.
//
// The operator types whole lines: [Console3215.Type] queues one, and a read
// takes one, without a line end behind it. A read that the operator cancels
// ends with unit exception and no data.
//
// Type may be called from any goroutine; the other methods belong to the
// subchannel.
type Console3215 struct {
	cfg   Console3215Config // immutable
	id    identity          // immutable
	sense sense
	buf   [512]byte // output in transfer

	mu    sync.Mutex
	lines [][]byte // guarded by mu: typed, not yet read
}

// NewConsole3215 is a console. Cfg may be nil.
func NewConsole3215(cfg *Console3215Config) *Console3215 {
	c := &Console3215{id: makeIdentity(0x3215, 0, 0x3215, 0), sense: sense{size: 1}}
	if cfg != nil {
		c.cfg = *cfg
	}
	return c
}

// Type enters a line, EBCDIC without a line end, and raises attention. It
// reports false, and nothing happens, when the line is longer than [MaxLine]
// or [MaxLines] wait already.
func (c *Console3215) Type(line []byte) bool {
	if len(line) > MaxLine {
		return false
	}
	c.mu.Lock()
	full := len(c.lines) >= MaxLines
	if !full {
		c.lines = append(c.lines, append([]byte(nil), line...))
	}
	c.mu.Unlock()
	if full {
		return false
	}
	if c.cfg.Attention != nil {
		c.cfg.Attention(cio.Attention)
	}
	return true
}

// Waiting is the number of lines typed and not yet read.
func (c *Console3215) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// next takes the line that a read is to return.
func (c *Console3215) next() (line []byte, ok bool) {
	c.mu.Lock()
	if len(c.lines) > 0 {
		line, c.lines = c.lines[0], c.lines[1:]
		c.mu.Unlock()
		return line, true
	}
	c.mu.Unlock()
	if c.cfg.Prompt == nil {
		return nil, false
	}
	if line, ok = c.cfg.Prompt(); len(line) > MaxLine {
		line = line[:MaxLine]
	}
	return line, ok
}

// Begin starts a program. A console keeps nothing between commands.
func (c *Console3215) Begin() {}

// Sense takes the sense byte of the last unit check, nil if there is none.
func (c *Console3215) Sense() []byte { return c.sense.take() }

// Reset forgets the sense byte. What was typed stays typed.
func (c *Console3215) Reset() { c.sense.held = false }

// Execute runs one command.
func (c *Console3215) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	switch cmd {
	case cmd3215Write:
		return c.write(x, false)
	case cmd3215WriteCR:
		return c.write(x, true)
	case cmd3215Read:
		return c.read(x)
	case cmd3215Alarm:
		if c.cfg.Alarm != nil {
			c.cfg.Alarm()
		}
		return cio.Ended
	case cio.NOP:
		return cio.Ended
	case cio.BasicSense:
		return c.sense.basic(x)
	case cio.SenseID:
		return c.id.store(x)
	}
	return c.sense.reject(x)
}

// write prints all that the program offers; the paper has no end.
func (c *Console3215) write(x *channel.Transfer, lineEnd bool) cio.DeviceStatus {
	x.Accept()
	broken := false
	all := collect(x, c.buf[:], func(p []byte) bool {
		broken = !c.print(p)
		return !broken
	})
	if all && lineEnd {
		c.buf[0] = ebcdicNL
		broken = !c.print(c.buf[:1])
	}
	if broken {
		return c.sense.check(cio.InterventionRequired)
	}
	return cio.Ended
}

func (c *Console3215) print(p []byte) bool {
	if c.cfg.Output == nil {
		return true
	}
	_, err := c.cfg.Output.Write(p)
	return err == nil
}

// read returns one line. What does not fit the count is lost, and the channel
// shows incorrect length. If the channel finds a check before the first byte,
// the program is told that nothing began, so the line waits for the next read.
func (c *Console3215) read(x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	line, ok := c.next()
	if !ok {
		return cio.Ended | cio.UnitException
	}
	if x.Store(line) == 0 && x.Terminated() {
		c.mu.Lock()
		c.lines = slices.Insert(c.lines, 0, line)
		c.mu.Unlock()
	}
	return cio.Ended
}
