package dasd

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// Commands that other commands ask for by name.
const (
	readIPL             cio.Command = 0x02
	locateRecord        cio.Command = 0x47
	locateExtended      cio.Command = 0x4B
	suspendReconnection cio.Command = 0x5B
	readCountMT         cio.Command = 0x92
	writeCKD            cio.Command = 0x1D
	writeCKDNextTrack   cio.Command = 0x9D
	readTrack           cio.Command = 0xDE
	prefix              cio.Command = 0xE7
	prefixRead          cio.Command = 0xEA
)

// command is one row of the command table: what a command is called, what it
// does, where it may stand, and what it leaves of the program's state.
type command struct {
	name   string
	run    func(v *Volume, cmd cio.Command, x *channel.Transfer) cio.DeviceStatus
	domain ops   // operations of the domains it belongs to
	keeps  state // of the orientation flags, those it does not clear
	flags  flag
}

type flag uint16

const (
	needsSeek    flag = 1 << iota // after a seek, a locate or Read IPL only
	needsDomain                   // within a domain only
	anyDomain                     // decides itself about domains
	opensDomain                   // is no command of the domain
	firstOnly                     // first of its program
	keepsIndex                    // counts as part of a search round the track
	keepsSense                    // the sense of before stays
	multitrack                    // goes on at the next track
	countsR0                      // record zero is a record like others
	searches                      // a multitrack search: any number of index points
	endsAtIndex                   // stops at the end of the track
	takesAnswer                   // Read Subsystem Data
	takesMessage                  // Read Message ID
	givesOrder                    // Perform Subsystem Function and its like
	readsTrack                    // Read Track
)

// oriented are the flags that say what a write may rely on. A command clears
// those that it does not keep.
const oriented = homeEqual | idEqual | keyEqual | wroteCount

// Name is what the storage control reference calls a command, in capitals, and
// empty for a code that is no command of this device.
func Name(cmd cio.Command) string { return commands[cmd].name }

var (
	readOps  = opSet(OpReadData, OpReadAny, OpRead)
	fieldOps = opSet(OpReadData, OpRead)
	dataOps  = opSet(OpWriteData, OpWriteTrack)
)

// commands is the command table. A code without a row is rejected.
//
// Specification: GA32-0274, chapter "Commands"; SA22-1025 for Prefix; the
// Linux header dasd_eckd.h for the track commands.
var commands [256]command

func init() {
	const (
		id  = idEqual
		key = keyEqual
	)
	read := needsSeek
	for cmd, c := range map[cio.Command]command{
		0x01: {"WRITE SPECIAL CKD", (*Volume).writeSpecial, opSet(OpFormat, OpWriteTrack), 0, 0},
		0x02: {"READ IPL", (*Volume).readIPL, 0, 0, 0},
		0x03: {"NOP", (*Volume).nop, 0, 0, anyDomain},
		0x04: {"SENSE", (*Volume).basicSense, 0, 0, keepsSense},
		0x05: {"WRITE DATA", (*Volume).writeData, dataOps, id | key, 0},
		0x06: {"READ DATA", (*Volume).readData, readOps, id | key, read},
		0x07: {"SEEK", (*Volume).seek, 0, 0, 0},
		0x09: {"WRITE SPECIAL HOME ADDRESS", (*Volume).writeHome, opSet(OpFormat), homeEqual, read},
		0x0A: {"READ SPECIAL HOME ADDRESS", (*Volume).readSpecialHome, fieldOps, 0, read},
		0x0B: {"SEEK CYLINDER", (*Volume).seek, 0, 0, 0},
		0x0D: {"WRITE KEY AND DATA", (*Volume).writeKeyData, dataOps, id, 0},
		0x0E: {"READ KEY AND DATA", (*Volume).readKeyData, fieldOps, id, read},
		0x11: {"ERASE", (*Volume).erase, opSet(OpWriteTrack), 0, 0},
		0x12: {"READ COUNT", (*Volume).readCount, readOps | opSet(OpWriteData), 0, read | keepsIndex},
		0x14: {"UNCONDITIONAL RESERVE", (*Volume).reserve, 0, 0, firstOnly | keepsSense},
		0x15: {"WRITE RECORD ZERO", (*Volume).writeR0, opSet(OpFormat), wroteCount, 0},
		0x16: {"READ RECORD ZERO", (*Volume).readR0, fieldOps, 0, read | countsR0},
		0x19: {"WRITE HOME ADDRESS", (*Volume).writeHome, opSet(OpFormat), homeEqual, read},
		0x1A: {"READ HOME ADDRESS", (*Volume).readHome, fieldOps, 0, read},
		0x1B: {"SEEK HEAD", (*Volume).seek, 0, 0, read},
		0x1D: {"WRITE CKD", (*Volume).writeCKD, opSet(OpFormat, OpWriteTrack), wroteCount, 0},
		0x1E: {"READ CKD", (*Volume).readCKD, readOps, 0, read},
		0x1F: {"SET FILE MASK", (*Volume).setFileMask, 0, 0, 0},
		0x22: {"READ SECTOR", (*Volume).readSector, 0, 0, keepsIndex},
		0x23: {"SET SECTOR", (*Volume).setSector, 0, 0, read},
		0x24: {"READ BUFFERED LOG", (*Volume).readLog, 0, 0, 0},
		0x27: {"PERFORM SUBSYSTEM FUNCTION", (*Volume).subsystemFunction, 0, 0, givesOrder},
		0x29: {"SEARCH KEY EQUAL", (*Volume).searchKey, 0, key, read | keepsIndex | searches},
		0x31: {"SEARCH ID EQUAL", (*Volume).searchID, 0, id, read | keepsIndex | searches | countsR0},
		0x34: {"SENSE PATH GROUP ID", (*Volume).sensePathGroup, 0, 0, firstOnly},
		0x39: {"SEARCH HOME ADDRESS EQUAL", (*Volume).searchHome, 0, homeEqual, read | keepsIndex},
		0x3E: {"READ SUBSYSTEM DATA", (*Volume).readSubsystemData, 0, 0, takesAnswer},
		0x44: {"RESET ALLEGIANCE", (*Volume).resetAllegiance, 0, 0, firstOnly},
		0x47: {"LOCATE RECORD", (*Volume).locate, 0, 0, opensDomain | countsR0 | endsAtIndex},
		0x49: {"SEARCH KEY HIGH", (*Volume).searchKey, 0, 0, read | keepsIndex | searches},
		0x4B: {"LOCATE RECORD EXTENDED", (*Volume).locateExtended, 0, 0, opensDomain | countsR0 | endsAtIndex},
		0x4E: {"READ MESSAGE ID", (*Volume).readMessage, 0, 0, takesMessage},
		0x51: {"SEARCH ID HIGH", (*Volume).searchID, 0, 0, read | keepsIndex | searches | countsR0},
		0x54: {"SENSE SUBSYSTEM STATUS", (*Volume).subsystemStatus, 0, 0, 0},
		0x5B: {"SUSPEND MULTIPATH RECONNECTION", (*Volume).done, 0, 0, 0},
		0x5E: {"READ MULTIPLE CKD", (*Volume).readMultiple, 0, 0, read},
		0x63: {"DEFINE EXTENT", (*Volume).defineExtent, 0, 0, 0},
		0x64: {"READ DEVICE CHARACTERISTICS", (*Volume).readCharacteristics, 0, 0, 0},
		0x69: {"SEARCH KEY EQUAL OR HIGH", (*Volume).searchKey, 0, 0, read | keepsIndex | searches},
		0x71: {"SEARCH ID EQUAL OR HIGH", (*Volume).searchID, 0, 0, read | keepsIndex | searches | countsR0},
		0x85: {"WRITE UPDATE DATA", (*Volume).updateData, opSet(OpWriteData, OpWriteAny), id | key, needsDomain | multitrack},
		0x86: {"READ DATA MT", (*Volume).readData, readOps, id | key, read | multitrack},
		0x87: {"SET SUBSYSTEM MODE", (*Volume).setSubsystemMode, 0, 0, firstOnly},
		0x8D: {"WRITE UPDATE KEY AND DATA", (*Volume).updateKeyData, opSet(OpWriteData), id, needsDomain | multitrack},
		0x8E: {"READ KEY AND DATA MT", (*Volume).readKeyData, fieldOps, id, read | multitrack},
		0x92: {"READ COUNT MT", (*Volume).readCount, readOps | opSet(OpWriteData, OpWriteAny), 0, read | multitrack},
		0x94: {"RELEASE", (*Volume).release, 0, 0, keepsSense},
		0x95: {"WRITE FULL TRACK", (*Volume).writeFullTrack, opSet(OpWriteFullTrack), 0, needsDomain},
		0x96: {"READ RECORD ZERO MT", (*Volume).readR0, fieldOps, 0, read | multitrack | countsR0},
		0x9A: {"READ HOME ADDRESS MT", (*Volume).readHome, fieldOps, 0, read | multitrack},
		0x9D: {"WRITE CKD NEXT TRACK", (*Volume).writeCKDNextTrack, opSet(OpFormat), 0, needsDomain | countsR0 | endsAtIndex},
		0x9E: {"READ CKD MT", (*Volume).readCKD, readOps, 0, read | multitrack},
		0xA4: {"READ AND RESET BUFFERED LOG", (*Volume).readLog, 0, 0, 0},
		0xA5: {"WRITE TRACK DATA", (*Volume).writeTrackData, opSet(OpWriteData, OpWriteAny, OpWriteTrackData), id | key, needsDomain | multitrack},
		0xA6: {"READ TRACK DATA", (*Volume).readTrackData, readOps | opSet(OpReadTracks), id | key, read | multitrack},
		0xA9: {"SEARCH KEY EQUAL MT", (*Volume).searchKey, 0, key, read | keepsIndex | searches | multitrack},
		0xAF: {"SET PATH GROUP ID", (*Volume).setPathGroup, 0, 0, firstOnly},
		0xB1: {"SEARCH ID EQUAL MT", (*Volume).searchID, 0, id, read | keepsIndex | searches | multitrack | countsR0},
		0xB4: {"RESERVE", (*Volume).reserve, 0, 0, firstOnly | keepsSense},
		0xB9: {"SEARCH HOME ADDRESS EQUAL MT", (*Volume).searchHome, 0, homeEqual, read | multitrack},
		0xC9: {"SEARCH KEY HIGH MT", (*Volume).searchKey, 0, 0, read | keepsIndex | searches | multitrack},
		0xD1: {"SEARCH ID HIGH MT", (*Volume).searchID, 0, 0, read | keepsIndex | searches | multitrack | countsR0},
		0xDE: {"READ TRACK", (*Volume).readTrack, opSet(OpReadTracks, OpReadTrackset), 0, needsDomain | countsR0 | readsTrack},
		0xE4: {"SENSE ID", (*Volume).senseID, 0, 0, 0},
		0xE7: {"PREFIX", (*Volume).prefix, 0, 0, anyDomain | opensDomain | countsR0 | endsAtIndex},
		0xE9: {"SEARCH KEY EQUAL OR HIGH MT", (*Volume).searchKey, 0, 0, read | keepsIndex | searches | multitrack},
		0xEA: {"PREFIX READ", (*Volume).prefix, 0, 0, anyDomain | opensDomain | countsR0 | endsAtIndex},
		0xF1: {"SEARCH ID EQUAL OR HIGH MT", (*Volume).searchID, 0, 0, read | keepsIndex | searches | multitrack | countsR0},
		0xF3: {"DIAGNOSTIC CONTROL", (*Volume).diagnose, 0, 0, 0},
		0xF7: {"DEFINE SUBSYSTEM OPERATION", (*Volume).subsystemFunction, 0, 0, givesOrder},
		0xF9: {"RESET SUMMARY UNIT CHECK", (*Volume).resetSummary, 0, 0, 0},
		0xFA: {"READ CONFIGURATION DATA", (*Volume).readConfiguration, 0, 0, 0},
	} {
		commands[cmd] = c
	}
}
