package unit

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// trouble is why a tape command did not end normally. The sense bytes of a
// cartridge drive carry it as a number, the error-recovery action.
type trouble uint8

const (
	troubleNone         trouble = 0x00
	troubleRead         trouble = 0x23 // read data check
	troubleWrite        trouble = 0x25 // write data check
	troubleCommand      trouble = 0x27 // command reject
	troubleUnloaded     trouble = 0x2B // rewind unload is done
	troubleProtected    trouble = 0x30 // the tape must not be written
	troubleVoid         trouble = 0x31 // nothing was written here
	troubleEndOfTape    trouble = 0x38 // no more tape
	troubleLoadPoint    trouble = 0x39 // backward at the beginning
	troubleNotReady     trouble = 0x43 // no tape in the drive
	troubleLocate       trouble = 0x44 // the block is not on the tape
	troubleWordZero     trouble = 0x7F // a write without data; ours
	troubleIncompatible trouble = 0x29 // the drive cannot do that
)

// Sense byte 1 of every drive.
const (
	tapeReady     = 0x40 // 3420: status A, ready; cartridge: online
	tapeNotReady  = 0x20 // 3420: status B
	tapeLoadPoint = 0x08
	tapeProtect   = 0x02
)

// fail leaves the sense bytes for a trouble and ends the command.
func (t *Tape) fail(why trouble) cio.DeviceStatus {
	var status cio.DeviceStatus
	if t.traits.set == on3420 {
		status = t.sense3420(why)
	} else {
		status = t.senseCartridge(why)
	}
	t.sense.held = true
	return status
}

// reject ends a command that the drive does not know, or not here. As with
// the other devices the count passes by.
func (t *Tape) reject(x *channel.Transfer) cio.DeviceStatus {
	x.Skip(x.Remaining())
	return t.fail(troubleCommand)
}

// sense3420 fills the sense bytes of a 3420.
//
// Specification: GA32-0021, IBM 3803/3420 Magnetic Tape Subsystems, "Sense
// Bytes"; what the bytes not named here hold is as recorded.
func (t *Tape) sense3420(why trouble) cio.DeviceStatus {
	t.sense.bytes = cio.Sense{}
	b := &t.sense.bytes
	status := unitCheck
	switch why {
	case troubleCommand, troubleIncompatible:
		status = cio.UnitCheck // in the initial status
		b[0], b[4] = uint8(cio.CommandReject), 0x01
	case troubleProtected:
		b[0] = uint8(cio.CommandReject)
	case troubleWordZero:
		b[0] = uint8(cio.SenseBit6)
	case troubleNotReady:
		status = cio.UnitCheck
		b[0] = uint8(cio.InterventionRequired)
	case troubleUnloaded:
		status |= cio.ControlUnitEnd
		b[0] = uint8(cio.InterventionRequired)
	case troubleRead:
		b[0], b[3] = uint8(cio.DataCheck0), 0xC0
	case troubleWrite:
		b[0], b[3] = uint8(cio.DataCheck0), 0x60
	case troubleVoid, troubleEndOfTape, troubleLocate:
		// The tape runs off the reel.
		b[0], b[7] = uint8(cio.EquipmentCheck), 0x60
	}
	if t.tape == nil {
		b[0] |= uint8(cio.InterventionRequired)
		b[1] = tapeNotReady | tapeProtect
	} else {
		b[1] = t.position(tapeReady)
		if t.tape.nearEnd(t.at) {
			b[4] |= 0x40 // tape indicate
		}
	}
	b[5] |= 0xC0
	b[6] |= 0x03
	b[13], b[14], b[16] = 0x80, 0x01, 0x01
	b[19], b[20] = 0xFF, 0xFF
	return status
}

// senseCartridge fills the sense bytes of a 3480, 3490 or 3590.
//
// Specification: GA32-0127, IBM 3490E Hardware Reference, "Sense Bytes";
// Linux drivers/s390/char/tape_34xx.c acts on byte 3.
//
//	byte 0 as everywhere   1 state   2 reporting channel   3 action
//	     7 format: 20, at the end of a volume 22   8-23 zero
//	    25 features   27 control-unit features   28-30 serial number
func (t *Tape) senseCartridge(why trouble) cio.DeviceStatus {
	t.sense.bytes = cio.Sense{}
	b := &t.sense.bytes
	status := unitCheck
	format := uint8(0x20)
	b[3] = uint8(why)
	switch why {
	case troubleCommand:
		status = cio.UnitCheck
		b[0] = uint8(cio.CommandReject)
	case troubleWordZero:
		b[0], b[3] = uint8(cio.CommandReject), uint8(troubleCommand)
	case troubleProtected, troubleIncompatible:
		b[0] = uint8(cio.CommandReject)
	case troubleNotReady:
		status = cio.UnitCheck
		b[0] = uint8(cio.InterventionRequired)
	case troubleUnloaded:
		b[0] = uint8(cio.InterventionRequired)
		format = 0x22
	case troubleRead, troubleWrite, troubleVoid:
		b[0] = uint8(cio.DataCheck0)
	case troubleEndOfTape, troubleLocate:
		b[0] = uint8(cio.EquipmentCheck)
	}
	b[1] = tapeReady // the drive is there; the tape may not be
	if t.tape == nil {
		b[0] |= uint8(cio.InterventionRequired)
		b[1] |= tapeProtect
	} else {
		b[1] = t.position(tapeReady)
	}
	b[2] = 0x20 // channel A
	if t.traits.set == on3590 {
		b[2] |= recovery3590(why)
	}
	b[7] = format
	if format == 0x20 {
		b[25] = 0x06
	}
	s := t.cfg.Serial
	b[27] = t.traits.sense27 | 0x0C
	b[28], b[29], b[30] = byte(s>>12), byte(s>>4), byte(s&0xF)*0x11
	return status
}

// recovery3590 are the bits of byte 2 by which a 3590 tells the program what to
// do, where programs of other drives go by the action in byte 3: bits 0-1 the
// recovery (none, continue, reissue, reissue later), bits 3-4 what to log.
//
// Specification: GA32-0331, IBM 3590 Hardware Reference, "Sense Bytes", as
// SDL-Hyperion (tapeccws.c) assigns them to the actions.
func recovery3590(why trouble) uint8 {
	const goOn, later, logPermanent = 0x40, 0xC0, 0x10
	switch why {
	case troubleUnloaded:
		return goOn
	case troubleNotReady:
		return later
	case troubleRead, troubleWrite, troubleVoid:
		return logPermanent
	}
	return 0
}

// position is byte 1 for a drive with a tape.
func (t *Tape) position(ready uint8) uint8 {
	b := ready
	if t.at == 0 {
		b |= tapeLoadPoint
	}
	if t.tape.ReadOnly() {
		b |= tapeProtect
	}
	return b
}

// Sense takes the sense bytes of the last unit check, nil if there are none.
func (t *Tape) Sense() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sense.take()
}
