package dasd

import (
	"errors"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Config is what the image does not say. The zero value is the control unit of
// the recordings with device 0000.
type Config struct {
	// DeviceNumber appears in the configuration data and in the subsystem
	// status, as unit address and subsystem identifier.
	DeviceNumber uint16
	// WriteFullTrack allows the extended operation 11 and command 95. The
	// control unit of the recordings rejects both.
	WriteFullTrack bool
	// TrackData allows commands A5 and A6 to move the data of many records,
	// after operations 23 and 0C. Without it they are other codes for Write
	// Update Data and Read Data multitrack.
	TrackData bool
	// Features are the feature codes that Perform Subsystem Function, suborder
	// 41, prepares. All zero makes Linux use neither Prefix nor track data.
	Features [256]byte
	// PathGroup is the identifier of the path group that is established at
	// the start; all zero is none.
	PathGroup [11]byte
}

// Volume is an emulated volume. It implements [channel.Device].
type Volume struct {
	img      Image
	cfg      Config
	identity identity
	last     uint32 // the last track

	// What outlives a program.
	track    uint32 // under the heads, selected by head
	sense    cio.Sense
	pending  bool // sense is to be fetched
	group    [11]byte
	reserved bool
	err      error

	prog program
	pos  position
	fill filled

	buf [bufferSize]byte // data on its way to the track
}

// bufferSize holds the longest record, and what one CCW can bring.
const bufferSize = 1 << 16

// program is what the volume remembers from one command to the next, and
// forgets at the end of the program.
type program struct {
	commands int         // executed
	prev     cio.Command // the last of them
	state    state

	mask       FileMask
	attributes uint8
	blockSize  uint16
	first      uint32 // extent, tracks
	last       uint32

	domain domain

	answer    []byte // subsystem data that is to be read next
	answerBuf [512]byte
}

// state are flags of a program.
type state uint16

const (
	extentDefined state = 1 << iota
	maskSet
	sought       // Seek, Seek Cylinder, Seek Head
	located      // Locate Record, extended or not
	loaded       // Read IPL
	indexPassed  // a search came round the track once
	homeEqual    // Search Home Address Equal was equal, or Write Home Address
	idEqual      // Search ID Equal was equal
	keyEqual     // Search Key Equal was equal
	wroteCount   // Write Record Zero or Write CKD outside a domain
	nothingMore  // no command may follow
	answered     // subsystem data were read: only the next order may follow
	messageWaits // only Read Message ID may follow
)

func (p *program) has(s state) bool { return p.state&s != 0 }

// domain is the domain of a locate record command: the commands that do what
// it announced.
type domain struct {
	count     int // commands left; 0: not in a domain
	operation Operation
	extended  Operation // of a locate record extended, else 0
	auxiliary uint8
	length    uint16 // transfer length factor
	tracks    uint16 // read trackset: bits of the tracks to come
	whole     uint16 // write full track: bits of the tracks to come
	hasFirst  bool   // first is the count field read first
	first     uint32 // its track
}

const noTrack = ^uint32(0)

// Open makes a volume of an image; cfg nil is the default. The volume owns the
// image from here, and its Close closes it.
func Open(img Image, cfg *Config) (*Volume, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	g := img.Geometry()
	if err := g.Validate(); err != nil {
		return nil, err
	}
	v := &Volume{
		img: img, cfg: *cfg,
		identity: newIdentity(g, img.Serial(), cfg.DeviceNumber),
		last:     g.Tracks() - 1,
		group:    cfg.PathGroup,
	}
	v.Begin()
	return v, nil
}

// Geometry is the shape of the volume.
func (v *Volume) Geometry() Geometry { return v.img.Geometry() }

// Serial is the serial number as Linux shows it.
func (v *Volume) Serial() string { s := v.img.Serial(); return string(s[:]) }

// SenseID are the bytes that Sense ID returns.
func (v *Volume) SenseID() []byte { return append([]byte(nil), v.identity.id[:]...) }

// Err is why the image failed last, nil if it never did. The guest has seen an
// equipment check then.
func (v *Volume) Err() error { return v.err }

// Close syncs and closes the image.
func (v *Volume) Close() error { return errors.Join(v.img.Sync(), v.img.Close()) }

// Begin implements [channel.Device]: what earlier programs set up is
// forgotten, all but the position of the heads.
func (v *Volume) Begin() {
	p := &v.prog
	p.commands, p.prev, p.state = 0, 0, 0
	p.mask, p.attributes, p.blockSize = 0, 0, 0
	p.first, p.last = 0, v.last
	p.domain = domain{}
	p.answer = nil
	v.pos = position{}
	v.fill.track = noTrack
}

// Reset implements [channel.Device]: a selective reset. It ends what runs and
// drops the sense; reservation and path group stay.
func (v *Volume) Reset() {
	v.Begin()
	v.pending = false
}

// SystemReset is what a system reset of the host does: beside [Volume.Reset]
// it releases the volume and dissolves the path group.
func (v *Volume) SystemReset() {
	v.Reset()
	v.reserved = false
	v.group = [11]byte{}
	v.track = 0
}

// Sense implements [channel.Device].
func (v *Volume) Sense() []byte {
	if !v.pending {
		return nil
	}
	v.pending = false
	return v.sense[:]
}

// Execute implements [channel.Device]: one command.
func (v *Volume) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	p := &v.prog
	c := &commands[cmd]
	if c.flags&keepsSense == 0 {
		v.pending = false
	}
	if c.flags&keepsIndex == 0 {
		p.state &^= indexPassed
	}
	status := v.refuse(c)
	if status == 0 {
		status = c.run(v, cmd, x)
	}
	if status&cio.UnitCheck != 0 && v.sense.Byte0()&cio.CommandReject != 0 {
		// The count of a rejected command means nothing; the control unit of
		// the recordings leaves none of it, and so no incorrect length.
		x.Skip(x.Remaining())
	}
	p.state &^= oriented &^ c.keeps
	if p.domain.count > 0 && c.flags&opensDomain == 0 {
		status = v.count(cmd, x, status)
	}
	p.prev = cmd
	p.commands++
	return status
}

// refuse decides what can be said about a command before it runs: whether it
// exists, and whether it may come here. Zero means that it may.
func (v *Volume) refuse(c *command) cio.DeviceStatus {
	p := &v.prog
	switch {
	case p.answer != nil && c.flags&takesAnswer == 0,
		p.domain.tracks != 0 && c.flags&readsTrack == 0,
		p.has(nothingMore),
		p.has(answered) && c.flags&givesOrder == 0,
		p.has(messageWaits) && c.flags&takesMessage == 0:
		return v.reject(badSequence)
	case c.run == nil:
		return v.reject(badCommand)
	case c.flags&needsSeek != 0 && !p.has(sought|located|loaded),
		c.flags&needsDomain != 0 && p.domain.count == 0,
		p.domain.count > 0 && !c.domain.has(p.domain.operation) && c.flags&anyDomain == 0,
		c.flags&firstOnly != 0 && (p.commands > 1 || p.commands == 1 && p.prev != suspendReconnection):
		return v.reject(badSequence)
	}
	return 0
}

// count takes a command off the domain, and rejects the end of a program that
// leaves some of it undone.
func (v *Volume) count(cmd cio.Command, x *channel.Transfer, status cio.DeviceStatus) cio.DeviceStatus {
	d := &v.prog.domain
	chained := x.Chains()
	// Read Count in a domain of Read Any comes as often as it likes.
	if cmd != readCountMT || !chained || d.extended != OpReadAny {
		d.count--
	}
	if d.count > 0 && !chained && cmd != readIPL && status&cio.UnitCheck == 0 {
		v.setSense(cio.CommandReject|cio.SenseBit7, 0, 0)
		return failed
	}
	return status
}

// failed is the status of every command that ends with a unit check: a control
// unit with a cache presents all its status at once.
const failed = cio.Ended | cio.UnitCheck

// Messages of sense format 0: what is wrong with a rejected command.
//
// Specification: GA32-0274, "Format 0 Messages".
const (
	badCommand   = 1 // unknown
	badSequence  = 2 // not here
	badCount     = 3 // fewer bytes than it needs
	badParameter = 4
	badMask      = 5 // the file mask allows no diagnostic command

	badTrack = 0x10 // format 1, device equipment check
)

// reject ends a command with command reject. The channel sees the status
// before any data when the command took none.
func (v *Volume) reject(message uint8) cio.DeviceStatus {
	v.setSense(cio.CommandReject, 0, message)
	return failed
}

// check ends a command with a unit check of sense byte 1.
func (v *Volume) check(b cio.Sense1) cio.DeviceStatus {
	v.setSense(0, b, 0)
	return failed
}

// broken ends a command because the image failed, which is remembered for the
// operator.
func (v *Volume) broken(err error) cio.DeviceStatus {
	if errors.Is(err, errs.ErrPermission) && v.img.ReadOnly() {
		v.setSense(cio.EquipmentCheck, cio.WriteInhibited, badTrack)
		return failed
	}
	v.err = err
	return v.damaged()
}

// damaged ends a command because what is under the head is no track.
func (v *Volume) damaged() cio.DeviceStatus {
	v.setSense(cio.EquipmentCheck, 0, badTrack)
	return failed
}

// setSense builds the sense bytes.
//
// Specification: GA32-0274, "Sense Bytes", as the recordings fill them.
//
//	0,1  conditions          5   cylinder, low 8 bits   27  0x80: 24 bytes
//	7    format and message  6   cylinder bits 4-7,     29  cylinder
//	                             head                   31  head
//	5,6  both FF on a volume of more than 4095 cylinders
func (v *Volume) setSense(b0 cio.Sense0, b1 cio.Sense1, message uint8) {
	a := AddressOf(v.track)
	v.sense = cio.Sense{
		0: uint8(b0), 1: uint8(b1), 7: message, 27: 0x80,
		29: uint8(a.Cylinder >> 8), 30: uint8(a.Cylinder),
		31: uint8(a.Head) | uint8(a.Cylinder>>16)<<4,
	}
	if v.last >= 4095*Heads {
		v.sense[5], v.sense[6] = 0xFF, 0xFF
	} else {
		v.sense[5] = uint8(a.Cylinder)
		v.sense[6] = uint8(a.Cylinder>>8)<<4 | uint8(a.Head)
	}
	v.pending = true
}
