package fba

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The commands. Their low bits tell the direction of the data.
const (
	cmdReadIPL             cio.Command = 0x02
	cmdUnconditionalRes    cio.Command = 0x14
	cmdWrite               cio.Command = 0x41
	cmdRead                cio.Command = 0x42
	cmdLocate              cio.Command = 0x43
	cmdDefineExtent        cio.Command = 0x63
	cmdReadCharacteristics cio.Command = 0x64
	cmdRelease             cio.Command = 0x94
	cmdReadBufferedLog     cio.Command = 0xA4
	cmdReserve             cio.Command = 0xB4
)

// unitCheck is how a command ends that left sense.
const unitCheck = cio.Ended | cio.UnitCheck

// Config says how a volume looks. The zero value is good.
type Config struct {
	// Model is the drive to be. Zero: the smallest 3370 of [Models] that
	// holds the image.
	Model Model
}

// Volume is an emulated drive. Its methods are called by one subchannel, one
// at a time.
type Volume struct {
	image  Image
	view   viewer // image, if it can be looked at; else nil
	blocks uint32

	id  [SenseIDSize]byte
	rdc [CharacteristicsSize]byte

	// Sense, held until it is taken or the next check replaces it.
	sense    [SenseSize]byte
	hasSense bool

	reserved bool

	// State of a program, reset by Begin.
	first    bool        // no command of the program has run
	previous cio.Command // the command before this one, 0 for none
	extent   extent
	locate   locate

	buf [BlockSize]byte // the block or the parameters in transfer
}

// Open is a volume on img, which it uses alone until the caller drops it. It
// fails if img has no whole number of blocks or too many.
func Open(img Image, cfg *Config) (*Volume, error) {
	if err := checkSize(img.Size()); err != nil {
		return nil, err
	}
	v := &Volume{image: img, blocks: uint32(img.Size() / BlockSize)}
	v.view, _ = img.(viewer)
	model, _ := ModelOf(Drive3370, v.blocks)
	if cfg != nil && cfg.Model != (Model{}) {
		model = cfg.Model
	}
	v.id = model.senseID()
	v.rdc = model.characteristics(v.blocks)
	return v, nil
}

// Image is what the volume is stored on.
func (v *Volume) Image() Image { return v.image }

// SenseID are the bytes that SENSE ID returns.
func (v *Volume) SenseID() []byte { return append([]byte(nil), v.id[:]...) }

// Blocks is the number of blocks.
func (v *Volume) Blocks() uint32 { return v.blocks }

// Reserved reports whether a program reserved the volume and none released
// it.
func (v *Volume) Reserved() bool { return v.reserved }

// Begin forgets the extent and the location: they hold within one program.
func (v *Volume) Begin() {
	v.first, v.previous = true, 0
	v.extent, v.locate = extent{}, locate{}
}

// Sense returns the sense bytes of the last unit check if nothing took them
// yet, and nil otherwise; the volume then has none. They stay valid until the
// next unit check.
func (v *Volume) Sense() []byte {
	if !v.hasSense {
		return nil
	}
	v.hasSense = false
	return v.sense[:]
}

// Reset forgets sense and program. A selective reset does not end a
// reservation.
func (v *Volume) Reset() {
	v.Begin()
	v.hasSense = false
}

// Execute runs one command.
func (v *Volume) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	status := v.execute(cmd, x)
	v.first, v.previous = false, cmd
	return status
}

func (v *Volume) execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	switch cmd {
	case cmdRead:
		return v.read(x)
	case cmdWrite:
		return v.write(x)
	case cmdLocate:
		return v.doLocate(x)
	case cmdDefineExtent:
		return v.defineExtent(x)
	case cmdReadIPL:
		return v.readIPL(x)
	case cio.NOP:
		return cio.Ended
	case cio.BasicSense:
		return v.basicSense(x)
	case cio.SenseID:
		x.Store(v.id[:])
		return cio.Ended
	case cmdReadCharacteristics:
		x.Store(v.rdc[:])
		return cio.Ended
	case cmdReadBufferedLog:
		log := v.buf[:SenseSize] // nothing is counted, so nothing is logged
		clear(log)
		x.Store(log)
		return cio.Ended
	case cmdReserve, cmdRelease:
		if v.extent.defined {
			return v.reject(x)
		}
		return v.reserve(cmd != cmdRelease, x)
	case cmdUnconditionalRes:
		if !v.first {
			return v.reject(x)
		}
		return v.reserve(true, x)
	}
	return v.reject(x)
}

// reserve takes or gives back the volume; like the commands of every
// direct-access device, these answer with the sense bytes.
func (v *Volume) reserve(on bool, x *channel.Transfer) cio.DeviceStatus {
	v.reserved = on
	return v.basicSense(x)
}

// basicSense hands out the sense bytes, zeros if there are none.
func (v *Volume) basicSense(x *channel.Transfer) cio.DeviceStatus {
	if !v.hasSense {
		clear(v.sense[:])
	}
	v.hasSense = false
	x.Store(v.sense[:])
	return cio.Ended
}

// reject ends a command that may not come, or not here. The count passes by
// without data: in the recordings the control unit of a rejected command leaves
// no residual count, and no incorrect length.
func (v *Volume) reject(x *channel.Transfer) cio.DeviceStatus {
	x.Skip(x.Remaining())
	return v.check(cio.CommandReject, 0)
}

// check ends a command with unit check and leaves sense bytes 0 and 1.
func (v *Volume) check(b0 cio.Sense0, b1 cio.Sense1) cio.DeviceStatus {
	clear(v.sense[:])
	v.sense[0], v.sense[1] = uint8(b0), uint8(b1)
	v.hasSense = true
	return unitCheck
}
