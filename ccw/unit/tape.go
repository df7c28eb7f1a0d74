package unit

import (
	"sync"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// TapeConfig says which drive it is and what is in it. The zero value is an
// empty 3490.
type TapeConfig struct {
	// Model is the type of the drive. Zero: [Tape3490].
	Model TapeModel

	// Cartridge is the tape in the drive at the start. Nil: none.
	Cartridge *Cartridge

	// Serial is the number that the sense bytes show, 20 bits; device
	// numbers serve well.
	Serial uint32

	// Characteristics is what READ DEVICE CHARACTERISTICS returns, at most
	// 64 bytes. Nil: what the model can do here.
	Characteristics []byte

	// Attention is called with device end when a tape was put into an
	// empty drive. Nil tells nobody.
	Attention func(cio.DeviceStatus)

	// Display is called when a program changes the eight characters of
	// the display of a cartridge drive, with no lock held that the drive
	// needs. Nil shows nothing.
	Display func(TapeDisplay)
}

// Tape is a tape drive with its control unit.
//
// A tape holds items, blocks and tape marks, and the drive stands between two
// of them. Reading and spacing end with unit exception behind a tape mark, in
// either direction; writing erases all behind. Load and Unload may be called
// from any goroutine; the other methods belong to the subchannel.
type Tape struct {
	cfg    TapeConfig // immutable but for Cartridge, which moves to tape
	traits tapeTraits // immutable
	rdc    [tapeRDCSize]byte

	mu    sync.Mutex
	tape  *Cartridge // guarded by mu, as all below; nil: the drive is empty
	at    int        // the item under the head when the tape moves forward
	sense sense

	group pathGroup
	shown *TapeDisplay // what the command that runs wants shown

	// State of a program, reset by Begin.
	chained   bool        // a command of the program has run
	previous  cio.Command // that command
	inhibited bool        // mode set: supervisor commands are rejected

	buf   []byte // the block in transfer, maxBlock bytes, made on first use
	param [32]byte
}

// NewTape is a drive. Cfg may be nil. It fails if there is no such model.
func NewTape(cfg *TapeConfig) (*Tape, error) {
	t := new(Tape)
	if cfg != nil {
		t.cfg = *cfg
	}
	if t.cfg.Model == 0 {
		t.cfg.Model = Tape3490
	}
	var err error
	if t.traits, err = t.cfg.Model.traits(); err != nil {
		return nil, err
	}
	t.rdc = t.traits.characteristics()
	if c := t.cfg.Characteristics; len(c) > 0 {
		clear(t.rdc[copy(t.rdc[:], c):])
	}
	t.sense.size = t.traits.senseSize
	t.tape, t.cfg.Cartridge = t.cfg.Cartridge, nil
	return t, nil
}

// Load puts a tape, rewound, into the drive and returns the one that was in
// it, nil if none. It waits for the command that runs.
func (t *Tape) Load(c *Cartridge) (old *Cartridge) {
	t.mu.Lock()
	old, t.tape, t.at = t.tape, c, 0
	t.mu.Unlock()
	if old == nil && c != nil && t.cfg.Attention != nil {
		t.cfg.Attention(cio.DeviceEnd)
	}
	return old
}

// Unload takes the tape out and returns it, nil if there is none.
func (t *Tape) Unload() *Cartridge { return t.Load(nil) }

// Position is the number of items before the head.
func (t *Tape) Position() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

// Begin starts a program: the modes of the one before are over.
func (t *Tape) Begin() {
	t.mu.Lock()
	t.begin()
	t.mu.Unlock()
}

func (t *Tape) begin() { t.chained, t.previous, t.inhibited = false, 0, false }

// Reset forgets sense and program. The tape stays where it is, and a selective
// reset ends neither assignment nor path group.
func (t *Tape) Reset() {
	t.mu.Lock()
	t.begin()
	t.sense.held = false
	t.mu.Unlock()
}

// tapeCommand is what a drive makes of a command code.
type tapeCommand struct {
	on         models // drives that know it
	loaded     bool   // needs a tape
	supervisor bool   // rejected after a mode set that inhibits them
	run        func(*Tape, *channel.Transfer) cio.DeviceStatus
}

// tapeCommands are the commands, as the reference summaries of the drives
// list them (GX20-1850, GA32-0127) and Linux drivers/s390/char/tape_std.h
// names them.
var tapeCommands = func() (c [256]tapeCommand) {
	for _, code := range []cio.Command{ // mode sets of reel drives
		0x13, 0x23, 0x33, 0x3B, 0x53, 0x63, 0x6B, 0x7B, 0x93, 0xA3, 0xAB, 0xB3, 0xBB, 0xD3,
	} {
		c[code] = tapeCommand{on: onAll, run: (*Tape).noop}
	}
	c[0x73] = tapeCommand{on: onAll, run: (*Tape).noop} // set interface identifier of a 3490
	c[0xC3] = tapeCommand{on: onAll, run: (*Tape).noop} // tape write immediate: always is
	c[0xCB] = tapeCommand{on: on3420 | on3480 | on3590, run: (*Tape).noop}
	c[0xEB] = tapeCommand{on: on3420, run: (*Tape).noop}
	c[0x2B] = tapeCommand{on: onCartridge, run: (*Tape).noop}

	c[0x01] = tapeCommand{on: onAll, loaded: true, run: (*Tape).write}
	c[0x02] = tapeCommand{on: onAll, loaded: true, run: (*Tape).read}
	// The books do not say whether an empty drive executes a no-operation; the
	// control unit that recordings come from does not.
	c[0x03] = tapeCommand{on: onAll, loaded: true, run: (*Tape).noop}
	c[0x04] = tapeCommand{on: onAll, run: (*Tape).basicSense}
	c[0x06] = tapeCommand{on: on3590, loaded: true, run: (*Tape).read}
	c[0x07] = tapeCommand{on: onAll, loaded: true, run: (*Tape).rewind}
	c[0x0A] = tapeCommand{on: on3590, loaded: true, run: (*Tape).readPrevious}
	c[0x0C] = tapeCommand{on: on3420 | on3480 | on3490, loaded: true, run: (*Tape).readBackward}
	c[0x0F] = tapeCommand{on: onAll, loaded: true, run: (*Tape).rewindUnload}
	c[0x12] = tapeCommand{on: onCartridge, loaded: true, run: (*Tape).readBuffer}
	c[0x17] = tapeCommand{on: onAll, loaded: true, run: (*Tape).eraseGap}
	c[0x1F] = tapeCommand{on: onAll, loaded: true, run: (*Tape).writeMark}
	c[0x22] = tapeCommand{on: onCartridge, loaded: true, run: (*Tape).readBlockID}
	c[0x24] = tapeCommand{on: onCartridge, run: (*Tape).readLog}
	c[0x27] = tapeCommand{on: onAll, loaded: true, run: (*Tape).backBlock}
	c[0x2F] = tapeCommand{on: onAll, loaded: true, run: (*Tape).backFile}
	c[0x34] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).sensePathGroup}
	c[0x37] = tapeCommand{on: onAll, loaded: true, run: (*Tape).forwardBlock}
	c[0x3F] = tapeCommand{on: onAll, loaded: true, run: (*Tape).forwardFile}
	c[0x43] = tapeCommand{on: onCartridge, loaded: true, run: (*Tape).noop} // synchronize: always is
	c[0x4F] = tapeCommand{on: onCartridge, loaded: true, run: (*Tape).locate}
	c[0x5B] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).noop} // suspend multipath
	c[0x64] = tapeCommand{on: onCartridge, run: (*Tape).readCharacteristics}
	c[0x97] = tapeCommand{on: onAll, loaded: true, run: (*Tape).eraseRest}
	c[0x9F] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).loadDisplay}
	c[0xAF] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).setPathGroup}
	c[0xB7] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).assign}
	c[0xC2] = tapeCommand{on: on3590, run: (*Tape).mediumSense}
	c[0xC7] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).unassign}
	c[0xDB] = tapeCommand{on: onCartridge, supervisor: true, run: (*Tape).modeSet}
	c[0xE4] = tapeCommand{on: onCartridge, run: (*Tape).senseID}
	return c
}()

// Execute runs one command.
func (t *Tape) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	t.mu.Lock()
	status, show := t.execute(cmd, x)
	t.chained, t.previous = true, cmd
	t.mu.Unlock()
	if show != nil && t.cfg.Display != nil {
		t.cfg.Display(*show)
	}
	return status
}

func (t *Tape) execute(cmd cio.Command, x *channel.Transfer) (cio.DeviceStatus, *TapeDisplay) {
	c := &tapeCommands[cmd]
	switch {
	case c.on&t.traits.set == 0, c.supervisor && t.inhibited:
		return t.reject(x), nil
	case c.loaded && t.tape == nil:
		return t.fail(troubleNotReady), nil
	}
	t.shown = nil
	status := c.run(t, x)
	return status, t.shown
}

func (t *Tape) noop(*channel.Transfer) cio.DeviceStatus { return cio.Ended }

// basicSense hands out the sense bytes, the state of the drive if there are
// none.
func (t *Tape) basicSense(x *channel.Transfer) cio.DeviceStatus {
	if !t.sense.held {
		t.fail(troubleNone)
	}
	return t.sense.basic(x)
}

func (t *Tape) senseID(x *channel.Transfer) cio.DeviceStatus { return t.traits.id.store(x) }

func (t *Tape) readCharacteristics(x *channel.Transfer) cio.DeviceStatus {
	x.Store(t.rdc[:])
	return cio.Ended
}

// readLog returns the buffered log. The drive counts no errors.
func (t *Tape) readLog(x *channel.Transfer) cio.DeviceStatus {
	clear(t.param[:])
	t.param[7] = 0x21 // format of a buffered log
	x.Store(t.param[:])
	return cio.Ended
}

// mediumSense tells a 3590's program whether a tape is in the drive: 128
// bytes, of which Linux drivers/s390/char/tape_3590.h knows the first.
func (t *Tape) mediumSense(x *channel.Transfer) cio.DeviceStatus {
	const size = 128
	b := t.block()[:size]
	clear(b)
	if t.tape != nil {
		b[0] = 0x01
	}
	x.Store(b)
	return cio.Ended
}

// block is the buffer for a block.
func (t *Tape) block() []byte {
	if t.buf == nil {
		t.buf = make([]byte, t.traits.maxBlock)
	}
	return t.buf
}
