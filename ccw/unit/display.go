package unit

import (
	"fmt"
	"sync"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// The commands of a display at a local, non-SNA control unit.
//
// Specification: GA23-0218, IBM 3174 Establishment Controller, "Commands";
// Linux drivers/s390/char/raw3270.h for their use.
const (
	cmd3270Write        cio.Command = 0x01
	cmd3270ReadBuffer   cio.Command = 0x02
	cmd3270EraseWrite   cio.Command = 0x05
	cmd3270ReadModified cio.Command = 0x06
	cmd3270Select       cio.Command = 0x0B
	cmd3270EraseWriteA  cio.Command = 0x0D
	cmd3270EraseAll     cio.Command = 0x0F
	cmd3270Structured   cio.Command = 0x11
)

// Bits of the write-control character.
const (
	wccAlarm         = 0x04
	wccRestore       = 0x02 // unlock the keyboard
	wccResetModified = 0x01
)

// operationCheck is sense bit 7 of a display: the data stream is wrong.
const operationCheck = cio.SenseBit7

// Screen sizes. A write takes the default size, an erase write alternate the
// alternate one.
const (
	defaultRows, defaultCols = 24, 80
	maxScreen                = 0x3FFF // positions that a buffer address reaches
)

// Display3270Config says which display it is. The zero value is a model 2 of
// 24 rows of 80 columns that nobody sits at.
type Display3270Config struct {
	// Rows and Cols are the alternate screen size, at least 24 by 80 and
	// together below 16,384. Zero: 24 by 80.
	Rows, Cols int

	// Attention is called when the operator presses a key that the program
	// should know of, and when the display has an answer to a query. Nil
	// tells nobody.
	Attention func(cio.DeviceStatus)

	// Alarm is called for the audible alarm. Nil keeps quiet.
	Alarm func()
}

// Display3270 is a 3278 display with its part of a control unit.
//
// The screen has fields with their basic attributes. Of the extended ones -
// colour, highlighting, character sets, validation - none is kept, and none is
// told in the answer to a query. Of the structured fields there are erase
// reset, set reply mode for the basic mode, the 3270 data stream with write
// commands for partition 0, and read partition for queries; everything else is
// an operation check. Printing and light pens are not there.
//
// What the operator does may come from any goroutine; the other methods belong
// to the subchannel.
type Display3270 struct {
	cfg Display3270Config // immutable
	id  identity          // immutable

	mu     sync.Mutex
	screen screen // guarded by mu, as all below
	aid    AID    // the key that the operator pressed last
	locked bool   // the keyboard waits for a program
	reply  []byte // to a query, to be read; nil: none
	sense  sense

	chained bool // a command of the program has run
	at      int  // where chained commands go on
	buf     [512]byte
	field   []byte // a structured field that comes
	inbound []byte // what a read sends, made on first use
}

// NewDisplay3270 is a display with an empty screen and an unlocked keyboard.
// Cfg may be nil. It fails for a screen that is too small or too large.
func NewDisplay3270(cfg *Display3270Config) (*Display3270, error) {
	d := &Display3270{
		id:    makeIdentity(0x3274, 0x1D, 0x3278, 0x02),
		sense: sense{size: 1},
		aid:   AIDNone,
	}
	if cfg != nil {
		d.cfg = *cfg
	}
	if d.cfg.Rows == 0 && d.cfg.Cols == 0 {
		d.cfg.Rows, d.cfg.Cols = defaultRows, defaultCols
	}
	r, c := d.cfg.Rows, d.cfg.Cols
	if r < defaultRows || c < defaultCols || r > maxScreen || c > maxScreen || r*c > maxScreen {
		return nil, fmt.Errorf("screen of %d rows of %d columns: %w", r, c, errs.ErrInvalid)
	}
	d.screen.reset(defaultRows, defaultCols)
	return d, nil
}

// Begin starts a program, at the first position of the screen.
func (d *Display3270) Begin() {
	d.mu.Lock()
	d.chained, d.at = false, 0
	d.mu.Unlock()
}

// Sense takes the sense byte of the last unit check, nil if there is none.
func (d *Display3270) Sense() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sense.take()
}

// Reset forgets sense and program. The screen stays.
func (d *Display3270) Reset() {
	d.mu.Lock()
	d.chained, d.at, d.sense.held = false, 0, false
	d.mu.Unlock()
}

// events is what a command makes the host hear of, after it.
type events struct{ attention, alarm bool }

// Execute runs one command.
func (d *Display3270) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	var ev events
	d.mu.Lock()
	status := d.execute(cmd, x, &ev)
	d.chained = true
	d.mu.Unlock()
	if ev.alarm && d.cfg.Alarm != nil {
		d.cfg.Alarm()
	}
	if ev.attention && d.cfg.Attention != nil {
		d.cfg.Attention(cio.Attention)
	}
	return status
}

func (d *Display3270) execute(cmd cio.Command, x *channel.Transfer, ev *events) cio.DeviceStatus {
	switch cmd {
	case cmd3270Write:
		start := d.screen.cursor
		if d.chained {
			start = d.at
		}
		return d.write(x, start, ev)
	case cmd3270EraseWrite:
		d.screen.reset(defaultRows, defaultCols)
		return d.write(x, 0, ev)
	case cmd3270EraseWriteA:
		d.screen.reset(d.cfg.Rows, d.cfg.Cols)
		return d.write(x, 0, ev)
	case cmd3270Structured:
		return d.structured(x, ev)
	case cmd3270ReadModified:
		return d.readModified(x)
	case cmd3270ReadBuffer:
		return d.readBuffer(x)
	case cmd3270EraseAll:
		d.eraseAll()
		return cio.Ended
	case cmd3270Select, cio.NOP:
		d.at = 0
		return cio.Ended
	case cio.BasicSense:
		d.at = 0
		return d.sense.basic(x)
	case cio.SenseID:
		d.at = 0
		return d.id.store(x)
	}
	return d.sense.reject(x)
}

// eraseAll clears all that an operator can type in and lets him type.
func (d *Display3270) eraseAll() {
	s := &d.screen
	s.eraseUnprotected(0, 0, true)
	s.cursor, _ = s.nextInput(s.size() - 1)
	d.locked, d.aid = false, AIDNone
	d.at = 0
}

// write puts a write-control character and a data stream on the screen.
func (d *Display3270) write(x *channel.Transfer, start int, ev *events) cio.DeviceStatus {
	x.Accept()
	w := newWriter(&d.screen, start)
	var wcc byte
	first, ok := true, true
	all := collect(x, d.buf[:], func(p []byte) bool {
		if first {
			first, wcc = false, p[0]
			d.controlBefore(wcc)
			p = p[1:]
		}
		ok = w.put(p)
		return ok
	})
	d.at = w.at
	switch {
	case !ok || all && !w.done():
		return d.sense.check(operationCheck)
	case all:
		d.controlAfter(wcc, ev) // zero, nothing to do, if none came
	}
	return cio.Ended
}

// controlBefore does what a write-control character orders before the data.
func (d *Display3270) controlBefore(wcc byte) {
	if wcc&wccResetModified != 0 {
		d.screen.resetModified()
	}
}

// controlAfter does what it orders with them.
func (d *Display3270) controlAfter(wcc byte, ev *events) {
	if wcc&wccRestore != 0 {
		d.locked, d.aid = false, AIDNone
	}
	ev.alarm = ev.alarm || wcc&wccAlarm != 0
}
