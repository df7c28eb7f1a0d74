package replay

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
)

// Kind is the sort of device that a recording was made on.
type Kind uint8

// The kinds of devices. Emulated models exist for those from ECKD to Tape.
const (
	KindUnknown Kind = iota
	KindECKD
	KindFBA
	KindConsole
	KindReader
	KindPrinter
	KindTape
	KindDisplay
	KindVirtio
)

var kindNames = [...]string{"unknown", "ECKD DASD", "FBA DASD", "3215 console", "card reader", "printer", "tape", "3270 display", "virtio-ccw"}

// String names the kind.
func (k Kind) String() string { return kindNames[k] }

// kinds by device type, or by control-unit type where that decides.
var kinds = map[uint16]Kind{
	0x3380: KindECKD, 0x3390: KindECKD, 0x9345: KindECKD,
	0x3310: KindFBA, 0x3370: KindFBA, 0x9332: KindFBA, 0x9335: KindFBA, 0x9336: KindFBA, 0x0671: KindFBA,
	0x3215: KindConsole, 0x1052: KindConsole,
	0x3505: KindReader, 0x2501: KindReader, 0x1442: KindReader,
	0x1403: KindPrinter, 0x3203: KindPrinter, 0x3211: KindPrinter,
	0x3420: KindTape, 0x3410: KindTape, 0x3430: KindTape, 0x8809: KindTape, 0x9347: KindTape,
	0x3480: KindTape, 0x3490: KindTape, 0x3590: KindTape,
	0x3270: KindDisplay, 0x3278: KindDisplay, 0x3279: KindDisplay,
	0x3832: KindVirtio,
}

// KindOf tells the kind of a record's device: by its SENSE ID, and where it
// has none (devices older than that command) by the commands in recs that only
// one kind has.
func KindOf(d *recording.Device, recs []*recording.Record) Kind {
	types := make([]uint16, 0, 4)
	if id := d.SenseID; len(id) >= 6 {
		types = append(types, binary.BigEndian.Uint16(id[4:]), binary.BigEndian.Uint16(id[1:]))
	} else if len(id) >= 3 {
		types = append(types, binary.BigEndian.Uint16(id[1:]))
	}
	for _, s := range []string{d.Dev, d.CU} {
		name, _, _ := strings.Cut(s, "/")
		if v, err := strconv.ParseUint(name, 16, 16); err == nil {
			types = append(types, uint16(v))
		}
	}
	for _, t := range types {
		if k := kinds[t]; k != KindUnknown {
			return k
		}
	}
	if len(types) > 0 {
		return KindUnknown
	}
	for _, r := range recs {
		if r.Device.Key() != d.Key() {
			continue
		}
		f1 := (&cio.ORB{Raw: r.ORB}).Format1()
		for i := range r.Trace {
			switch c := cio.Command(r.Trace[i].Cmd); {
			case c.Class(f1) == cio.ClassReadBackward, c == 0x1F, c == 0x27, c == 0x2F, c == 0x37, c == 0x3F:
				return KindTape
			}
		}
	}
	return KindUnknown
}

// Command names by kind, ccw.md section 8.
var commandNames = map[Kind]map[cio.Command]string{
	KindECKD: {
		0x02: "read IPL", 0x05: "write data", 0x06: "read data", 0x07: "seek", 0x08: "TIC", 0x09: "write home address",
		0x0A: "read home address", 0x0B: "seek cylinder", 0x0D: "write key and data", 0x0E: "read key and data", 0x11: "erase",
		0x12: "read count", 0x13: "recalibrate", 0x14: "unconditional reserve", 0x15: "write R0", 0x16: "read R0",
		0x17: "restore", 0x1A: "read home address", 0x1B: "seek head", 0x1D: "write CKD", 0x1E: "read CKD", 0x1F: "set file mask",
		0x22: "read sector", 0x23: "set sector", 0x24: "sense statistics", 0x27: "perform subsystem function", 0x29: "search key equal",
		0x31: "search ID equal", 0x34: "sense path group ID", 0x39: "search HA equal", 0x3E: "read subsystem data", 0x47: "locate record",
		0x49: "search key high", 0x4B: "locate record extended", 0x51: "search ID high", 0x54: "sense subsystem status",
		0x5E: "read multiple CKD", 0x63: "define extent", 0x64: "read device characteristics", 0x69: "search key equal or high",
		0x71: "search ID equal or high", 0x85: "write data MT", 0x86: "read data MT", 0x87: "set subsystem mode",
		0x8D: "write key and data MT", 0x8E: "read key and data MT", 0x92: "read count MT", 0x94: "release", 0x95: "write full track",
		0x96: "read R0 MT", 0x9D: "write CKD MT", 0x9E: "read CKD MT", 0xA4: "read and reset log", 0xA5: "write track data",
		0xA6: "read track data", 0xAF: "set path group ID", 0xB1: "search ID equal MT", 0xB4: "reserve", 0xC7: "set interface identifier",
		0xDE: "read track", 0xE7: "prefix", 0xEA: "prefix read", 0xF3: "diagnostic control", 0xF9: "reset summary unit check",
		0xFA: "read configuration data", 0xC4: "diagnostic sense",
	},
	KindFBA: {
		0x02: "read IPL", 0x14: "unconditional reserve", 0x34: "sense path group ID", 0x41: "write", 0x42: "read", 0x43: "locate",
		0x63: "define extent", 0x64: "read device characteristics", 0x94: "release", 0xA4: "read buffered log", 0xAF: "set path group ID",
		0xB4: "reserve", 0xFA: "read configuration data",
	},
	KindConsole: {0x01: "write", 0x09: "write and return", 0x0A: "read inquiry", 0x0B: "alarm"},
	KindReader: {
		0x02: "read, feed", 0x42: "read, feed", 0x82: "read, feed", 0xC2: "read", 0x23: "feed", 0x63: "feed", 0xA3: "feed",
		0x22: "read, feed, column binary",
	},
	KindPrinter: {
		0x01: "write", 0x09: "write, space 1", 0x11: "write, space 2", 0x19: "write, space 3", 0x89: "write, skip to 1", 0x0B: "space 1",
		0x13: "space 2", 0x1B: "space 3", 0x8B: "skip to 1", 0x63: "load FCB", 0xFB: "load UCS, fold", 0xF3: "load UCS",
		0x73: "block data check", 0x7B: "allow data check", 0xEB: "UCS gate load",
	},
	KindTape: {
		0x01: "write", 0x02: "read", 0x07: "rewind", 0x0C: "read backward", 0x0F: "rewind unload", 0x17: "erase gap",
		0x1F: "write tape mark", 0x22: "read block ID", 0x24: "read buffered log", 0x27: "backspace block", 0x2F: "backspace file",
		0x34: "sense path group ID", 0x37: "forward space block", 0x3F: "forward space file", 0x43: "synchronize", 0x4F: "locate block",
		0x64: "read device characteristics", 0x97: "data security erase", 0x9F: "load display", 0xAF: "set path group ID", 0xB7: "assign",
		0xC2: "medium sense", 0xC3: "set diagnose", 0xC7: "unassign", 0xDB: "mode set", 0x3E: "read subsystem data",
		0x77: "perform subsystem function", 0xE3: "control access", 0xFA: "read configuration data",
	},
	KindDisplay: {
		0x01: "write", 0x02: "read buffer", 0x05: "erase/write", 0x06: "read modified", 0x0B: "select", 0x0D: "erase/write alternate",
		0x0F: "erase all unprotected", 0x11: "write structured field",
	},
	KindVirtio: {
		0x11: "write features", 0x12: "read features", 0x13: "set virtqueue", 0x21: "write config", 0x22: "read config",
		0x31: "write status", 0x32: "read virtqueue conf", 0x33: "reset", 0x43: "set indicators", 0x53: "set conf indicators",
		0x72: "read status", 0x73: "set adapter indicators", 0x83: "set revision",
	},
}

// CommandName is what a command is called on a device of kind k.
func CommandName(k Kind, c cio.Command, format1 bool) string {
	if c.IsTIC(format1) {
		return "TIC"
	}
	switch c {
	case cio.NOP:
		return "no operation"
	case cio.BasicSense:
		return "sense"
	case cio.SenseID:
		return "sense ID"
	}
	if n := commandNames[k][c]; n != "" {
		return n
	}
	return c.Class(format1).String()
}
