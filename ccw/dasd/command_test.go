package dasd_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
)

// prepared is a disk of two cylinders. Track 0/0 has no user's record; 0/1 has
// three of 16 bytes data; 0/2 one with a key of 4 and 8 bytes data; 0/3 a
// record, an end of file, a record; 0/4 none; 0/5 is like 0/1.
func prepared(t testing.TB) *disk {
	d := blankDisk(t, 2, nil)
	d.format(track(0, 1), 3, 0, 16, 0x10)
	d.format(track(0, 2), 1, 4, 8, 0x20)
	a := track(0, 3)
	d.ok(out(0x63, extent(0, a, a)), out(0x47, located(dasd.OpFormat, 3, a, 0, 0)),
		out(0x1D, append(countField(a, 1, 0, 2), "ab"...)),
		out(0x1D, countField(a, 2, 0, 0)),
		out(0x1D, append(countField(a, 3, 0, 2), "cd"...)))
	d.format(track(0, 5), 3, 0, 16, 0x50)
	return d
}

var (
	t1   = track(0, 1)
	end  = track(1, 14)
	all  = extent(dasd.MaskWriteAll, track(0, 0), end)
	none = extent(dasd.MaskWriteNone, track(0, 0), end)
)

// TestCommands has one row for each rule of GA32-0274 that shows in the status
// of a program: device status, subchannel status, then, after a unit check,
// sense bytes 0 and 1, and byte 7.
func TestCommands(t *testing.T) {
	read1 := located(dasd.OpReadData, 1, t1, 1, 0)
	for _, row := range []struct {
		name string
		ops  []op
		want string
	}{
		{"Seek, Search ID Equal, Read Data", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 2)), backTIC, in(0x06, 16)}, "0c 00"},
		{"Search ID: no record found after two index points", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 9)), backTIC, in(0x06, 16)}, "0e 00 0008 00"},
		{"Search ID: a shorter argument compares only its bytes", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 9)[:4]), backTIC, in(0x06, 8)}, "0c 00"},
		{"Search ID High", []op{out(0x07, seekTo(t1)), out(0x51, recordID(t1, 2)), backTIC, in(0x06, 16)}, "0c 00"},
		{"Search ID Equal multitrack: end of cylinder", []op{out(0x07, seekTo(t1)), out(0xB1, recordID(t1, 9)), backTIC, in(0x06, 16)}, "0e 00 0020 00"},
		{"Search Key Equal", []op{out(0x07, seekTo(track(0, 2))), out(0x29, []byte{0x21, 0x21, 0x21, 0x21}), backTIC, in(0x06, 8)}, "0c 00"},
		{"Search Key: no key satisfies nothing", []op{out(0x07, seekTo(t1)), out(0x69, []byte{0}).sli(), backTIC, in(0x06, 8)}, "0e 00 0008 00"},
		{"Search Key High or Equal multitrack crosses tracks", []op{out(0x07, seekTo(t1)), out(0xE9, []byte{0x20}).sli(), backTIC, in(0x06, 8)}, "0c 00"},
		{"Search Home Address Equal", []op{out(0x07, seekTo(t1)), out(0x39, seekTo(t1)[2:]), backTIC, in(0x1A, 5)}, "0c 00"},
		{"Search Home Address: no record found", []op{out(0x07, seekTo(t1)), out(0x39, []byte{0, 0, 0, 2}), backTIC, in(0x1A, 5)}, "0e 00 0008 00"},
		{"Search Home Address multitrack: end of cylinder", []op{out(0x07, seekTo(t1)), out(0xB9, []byte{0, 0, 0, 1}), backTIC, in(0x1A, 5)}, "0e 00 0020 00"},
		{"a rejected command leaves no count: read", []op{in(0x06, 16)}, "0e 00 8000 02"},
		{"a rejected command leaves no count: write", []op{out(0x85, make([]byte, 16))}, "0e 00 8000 02"},
		{"a rejected command leaves no count: unknown", []op{in(0xC6, 1)}, "0e 00 8000 01"},
		{"Read Data without a seek", []op{in(0x06, 16).sli()}, "0e 00 8000 02"},
		{"Read Data: longer CCW, incorrect length", []op{out(0x07, seekTo(t1)), in(0x06, 20)}, "0c 40"},
		{"Read Data: shorter CCW, incorrect length", []op{out(0x07, seekTo(t1)), in(0x06, 10)}, "0c 40"},
		{"Read Data: suppressed", []op{out(0x07, seekTo(t1)), in(0x06, 20).sli()}, "0c 00"},
		{"Read Data: end of file, unit exception", []op{out(0x07, seekTo(track(0, 3))), in(0x06, 2), in(0x06, 2).sli()}, "0d 00"},
		{"Read Data on an empty track: no record found", []op{out(0x07, seekTo(track(0, 4))), in(0x06, 8).sli()}, "0e 00 0008 00"},
		{"Read Data multitrack goes on", []op{out(0x07, seekTo(track(0, 4))), in(0x86, 16)}, "0c 00"},
		{"Read Data multitrack: seek and multitrack inhibited", []op{out(0x1F, []byte{0x18}), in(0x03, 0)}, "0c 00"},
		{"Read Record Zero", []op{out(0x07, seekTo(t1)), in(0x16, 16)}, "0c 00"},
		{"Read Multiple CKD: to the end of the track", []op{out(0x07, seekTo(t1)), in(0x5E, 72)}, "0c 00"},
		{"Read Track outside its domain", []op{out(0x63, none), out(0x47, read1), in(0xDE, 100).sli()}, "0e 00 8000 02"},
		{"Seek beyond the volume: invalid parameter", []op{out(0x07, seekTo(track(2, 0)))}, "0e 00 8000 04"},
		{"Seek to head 15", []op{out(0x07, seekTo(dasd.Address{Head: 15}))}, "0e 00 8000 04"},
		{"Seek with too few bytes", []op{out(0x07, []byte{0, 0, 0, 0, 0})}, "0e 00 8000 03"},
		{"Seek outside the extent: file protected", []op{out(0x63, extent(0, t1, t1)), out(0x07, seekTo(track(0, 2)))}, "0e 00 0004 00"},
		{"Seek against the file mask", []op{out(0x1F, []byte{0x08}), out(0x07, seekTo(t1))}, "0e 00 0004 00"},
		{"Seek Cylinder with that mask", []op{out(0x1F, []byte{0x08}), out(0x0B, seekTo(t1))}, "0c 00"},
		{"Seek Head keeps the cylinder", []op{out(0x07, seekTo(track(1, 0))), out(0x1B, seekTo(t1)), in(0x1A, 5)}, "0c 00"},
		{"Seek Head without a seek", []op{out(0x1B, seekTo(t1)).sli()}, "0e 00 8000 02"},
		{"Set File Mask twice", []op{out(0x1F, []byte{0}), out(0x1F, []byte{0}).sli()}, "0e 00 8000 02"},
		{"Set File Mask: reserved bit", []op{out(0x1F, []byte{0x20})}, "0e 00 8000 04"},
		{"Set Sector", []op{out(0x07, seekTo(t1)), out(0x23, []byte{223})}, "0c 00"},
		{"Set Sector beyond the track", []op{out(0x07, seekTo(t1)), out(0x23, []byte{224})}, "0e 00 8000 04"},
		{"Recalibrate: not a command of this device", []op{in(0x13, 0)}, "0e 00 8000 01"},
		{"unknown command", []op{in(0xC6, 1).sli()}, "0e 00 8000 01"},

		{"Define Extent with too few bytes", []op{out(0x63, all[:15])}, "0e 00 8000 03"},
		{"Define Extent: long form", []op{out(0x63, append(bytes.Clone(all), make([]byte, 16)...))}, "0c 00"},
		{"Define Extent: no extended CKD mode", []op{out(0x63, patch(all, 1, 0))}, "0e 00 8000 04"},
		{"Define Extent: end before begin", []op{out(0x63, extent(0, track(0, 2), t1))}, "0e 00 8000 04"},
		{"Define Extent: end beyond the volume", []op{out(0x63, extent(0, t1, track(2, 0)))}, "0e 00 8000 04"},
		{"Define Extent: fast write identifier", []op{out(0x63, patch(all, 5, 1))}, "0e 00 8000 04"},
		{"Define Extent again, smaller", []op{out(0x63, all), out(0x63, extent(dasd.MaskWriteAll, t1, t1))}, "0c 00"},
		{"Define Extent again, larger", []op{out(0x63, extent(dasd.MaskWriteAll, t1, t1)), out(0x63, all)}, "0e 00 8000 02"},
		{"Define Extent after Set File Mask", []op{out(0x1F, []byte{0}), out(0x63, all)}, "0e 00 8000 02"},

		{"Locate Record without Define Extent", []op{out(0x47, read1)}, "0e 00 8000 02"},
		{"Locate Record with too few bytes", []op{out(0x63, none), out(0x47, read1[:12])}, "0e 00 8000 03"},
		{"Locate Record in a domain", []op{out(0x63, none), out(0x47, read1), out(0x47, read1).sli()}, "0e 00 8000 02"},
		{"Locate Record: unknown operation", []op{out(0x63, none), out(0x47, patch(read1, 0, 0x3E))}, "0e 00 8000 04"},
		{"Locate Record: write data from the index", []op{out(0x63, all), out(0x47, patch(read1, 0, 0xC1))}, "0e 00 8000 04"},
		{"Locate Record: auxiliary bits", []op{out(0x63, none), out(0x47, patch(read1, 1, 0x02))}, "0e 00 8000 04"},
		{"Locate Record: byte 2", []op{out(0x63, none), out(0x47, patch(read1, 2, 1))}, "0e 00 8000 04"},
		{"Locate Record: count zero", []op{out(0x63, none), out(0x47, patch(read1, 3, 0))}, "0e 00 8000 04"},
		{"Locate Record: orient with a count", []op{out(0x63, none), out(0x47, patch(read1, 0, 0))}, "0e 00 8000 04"},
		{"Locate Record: sector", []op{out(0x63, none), out(0x47, patch(read1, 13, 224))}, "0e 00 8000 04"},
		{"Locate Record: length not valid but given", []op{out(0x63, none), out(0x47, patch(read1, 15, 1))}, "0e 00 8000 04"},
		{"Locate Record: length above the block size", []op{out(0x63, patch(none, 3, 8)), out(0x47, located(dasd.OpReadData, 1, t1, 1, 9))}, "0e 00 8000 04"},
		{"Locate Record outside the extent", []op{out(0x63, extent(0, track(0, 2), end)), out(0x47, read1)}, "0e 00 0004 00"},
		{"Locate Record: no such record", []op{out(0x63, none), out(0x47, located(dasd.OpReadData, 1, t1, 4, 0))}, "0e 00 0008 00"},
		{"Locate Record: home address of another track", []op{out(0x63, none), out(0x47, patch(located(0x46, 1, t1, 0, 0), 11, 2))}, "0e 00 0008 00"},
		{"domain: Read Data", []op{out(0x63, none), out(0x47, read1), in(0x06, 16)}, "0c 00"},
		{"domain: Read Data after data orientation is the next record", []op{out(0x63, none), out(0x47, located(0x86, 1, t1, 1, 0)), in(0x06, 16)}, "0c 00"},
		{"domain: write in a domain of reads", []op{out(0x63, all), out(0x47, read1), out(0x85, make([]byte, 16)).sli()}, "0e 00 8000 02"},
		{"domain: No-Operation", []op{out(0x63, all), out(0x47, read1), in(0x03, 0)}, "0e 00 8000 02"},
		{"domain: left early", []op{out(0x63, none), out(0x47, located(dasd.OpReadData, 2, t1, 1, 0)), in(0x86, 16)}, "0e 00 8100 00"},
		{"domain: crosses to the next track", []op{out(0x63, none), out(0x47, located(dasd.OpReadData, 2, t1, 3, 0)), in(0x86, 16), in(0x86, 8)}, "0c 00"},
		{"domain: not beyond the extent", []op{out(0x63, extent(dasd.MaskWriteNone, t1, t1)), out(0x47, located(dasd.OpReadData, 2, t1, 3, 0)), in(0x86, 16), in(0x86, 8).sli()}, "0e 00 0004 00"},
		{"domain: Read(16) wants multitrack", []op{out(0x63, none), out(0x47, located(dasd.OpRead, 1, t1, 1, 0)), in(0x06, 16).sli()}, "0e 00 8000 02"},
		{"domain: Read CKD", []op{out(0x63, none), out(0x47, located(dasd.OpRead, 1, t1, 1, 0)), in(0x9E, 24)}, "0c 00"},

		{"Write Update Data outside a domain", []op{out(0x63, all), out(0x85, make([]byte, 16)).sli()}, "0e 00 8000 02"},
		{"Write Update Data: length is not that announced", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 8)), out(0x85, make([]byte, 8))}, "0e 00 0040 00"},
		{"Write Update Data", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0x85, make([]byte, 16))}, "0c 00"},
		{"Write Update Data: mask inhibits writes", []op{out(0x63, none), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0x85, make([]byte, 16)).sli()}, "0e 00 8000 02"},
		{"Write Update Data: short CCW wants more", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0x85, make([]byte, 4))}, "0c 40"},
		{"Write Update Data: long CCW", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), out(0x85, make([]byte, 17))}, "0c 40"},
		{"Write Update Data to an end of file", []op{out(0x63, patch(all, 1, 0xE0)), out(0x47, located(dasd.OpWriteData, 1, track(0, 3), 2, 0)), out(0x85, make([]byte, 2)).sli()}, "0d 00"},
		{"Write Update Key and Data", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, track(0, 2), 1, 12)), out(0x8D, make([]byte, 12))}, "0c 00"},
		{"Write Data after Search ID Equal", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 1)), backTIC, out(0x05, make([]byte, 16))}, "0c 00"},
		{"Write Data after an unequal search", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 1)[:4]), backTIC, out(0x05, make([]byte, 16)).sli()}, "0e 00 8000 02"},
		{"Write CKD: update only mask", []op{out(0x63, extent(dasd.MaskWriteUpdate, t1, t1)), out(0x47, located(dasd.OpFormat, 1, t1, 0, 0)), out(0x1D, countField(t1, 1, 0, 0)).sli()}, "0e 00 8000 02"},
		{"Write CKD: longer than the track", []op{out(0x63, all), out(0x47, located(dasd.OpFormat, 1, t1, 0, 0)), out(0x1D, countField(t1, 1, 0, 0xFFFF))}, "0e 00 0040 00"},
		{"Write CKD: data of all FF is no end marker", []op{out(0x63, all), out(0x47, located(dasd.OpFormat, 1, t1, 0, 0)), out(0x1D, bytes.Repeat([]byte{0xFF}, 8))}, "0e 00 0040 00"},
		{"Write CKD after the search of a record", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 1)), backTIC, out(0x1D, append(countField(t1, 2, 0, 1), 1))}, "0c 00"},
		{"Write CKD Next Track first in its domain", []op{out(0x63, all), out(0x47, located(dasd.OpFormat, 1, t1, 0, 0)), out(0x9D, countField(t1, 1, 0, 0)).sli()}, "0e 00 8000 02"},
		{"Write Special CKD: a 3390 has no overflow records", []op{out(0x63, all), out(0x47, located(dasd.OpFormat, 1, t1, 0, 0)), out(0x01, countField(t1, 1, 0, 0)).sli()}, "0e 00 8000 02"},
		{"Write Record Zero after Search Home Address", []op{out(0x1F, []byte{0xC0}), out(0x07, seekTo(t1)), out(0x39, seekTo(t1)[2:]), backTIC, out(0x15, append(countField(t1, 0, 0, 8), make([]byte, 8)...))}, "0c 00"},
		{"Write Record Zero without it", []op{out(0x1F, []byte{0xC0}), out(0x07, seekTo(t1)), out(0x15, countField(t1, 0, 0, 8)).sli()}, "0e 00 8000 02"},
		{"Write Record Zero against the mask", []op{out(0x07, seekTo(t1)), out(0x39, seekTo(t1)[2:]), backTIC, out(0x15, countField(t1, 0, 0, 8)).sli()}, "0e 00 8000 02"},
		{"Erase after Search ID", []op{out(0x07, seekTo(t1)), out(0x31, recordID(t1, 1)), backTIC, out(0x11, countField(t1, 2, 0, 0))}, "0c 00"},

		{"Read IPL from an empty volume", []op{in(0x02, 24).sli()}, "0e 00 0008 00"},
		{"Read IPL after Define Extent", []op{out(0x63, all), in(0x02, 24).sli()}, "0e 00 8000 02"},
		{"Sense Path Group ID must be last", []op{in(0x34, 12), in(0x03, 0)}, "0e 00 8000 02"},
		{"Sense Path Group ID must be first", []op{in(0x03, 0), in(0x03, 0), in(0x34, 12).sli()}, "0e 00 8000 02"},
		{"Set Path Group ID of zeros", []op{out(0xAF, make([]byte, 12))}, "0e 00 8000 04"},
		{"Set Path Group ID with too few bytes", []op{out(0xAF, make([]byte, 11))}, "0e 00 8000 03"},
		{"Perform Subsystem Function: unknown order", []op{out(0x27, []byte{0x99, 0})}, "0e 00 8000 04"},
		{"Perform Subsystem Function: Read Subsystem Data must follow", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0}), in(0x03, 0)}, "0e 00 8000 02"},
		{"Read Subsystem Data without an order", []op{in(0x3E, 10).sli()}, "0e 00 8000 02"},
		{"two orders with their answers", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0}), in(0x3E, 256), out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0x0E, 0, 0, 0, 0, 0}), in(0x3E, 512)}, "0c 00"},
		{"Query Host Access", []op{out(0x27, []byte{0x18, 0, 0, 0, 1, 0x20, 0x1C, 0, 0, 0, 0, 0}), in(0x3E, 52)}, "0c 00"},
		{"Sense Subsystem Status", []op{in(0x64, 64), in(0x54, 40)}, "0c 00"},
		{"Read and Reset Buffered Log", []op{in(0xA4, 32)}, "0c 00"},
		{"Set Subsystem Mode", []op{out(0x87, []byte{0x20, 0})}, "0c 00"},
		{"Set Subsystem Mode: two orders", []op{out(0x87, []byte{0x20, 0x20})}, "0e 00 8000 04"},
		{"Reserve, Release", []op{in(0xB4, 32)}, "0c 00"},
		{"Suspend Multipath Reconnection, Reset Allegiance", []op{in(0x5B, 0), in(0x44, 32)}, "0c 00"},

		{"Read Sector", []op{in(0x22, 1)}, "0c 00"},
		{"Read Special Home Address without authorization", []op{out(0x07, seekTo(t1)), in(0x0A, 28).sli()}, "0e 00 8000 05"},
		{"Read Special Home Address in a domain", []op{out(0x63, none), out(0x47, located(dasd.OpReadData, 1, t1, 1, 0)), in(0x0A, 28)}, "0c 00"},
		{"Write Home Address", []op{out(0x1F, []byte{0xC0}), out(0x07, seekTo(t1)), out(0x19, []byte{0, 0, 0, 0, 1}), out(0x15, append(countField(t1, 0, 0, 8), make([]byte, 8)...)), out(0x1D, append(countField(t1, 1, 0, 2), 1, 2))}, "0c 00"},
		{"Write Home Address against the mask", []op{out(0x07, seekTo(t1)), out(0x19, []byte{0, 0, 0, 0, 1})}, "0e 00 0004 00"},
		{"Write Key and Data after Search ID Equal", []op{out(0x07, seekTo(track(0, 2))), out(0x31, recordID(track(0, 2), 1)), backTIC, out(0x0D, make([]byte, 12))}, "0c 00"},
		{"Write Key and Data without it", []op{out(0x07, seekTo(track(0, 2))), in(0x12, 8), out(0x0D, make([]byte, 12)).sli()}, "0e 00 8000 02"},
		{"Write Key and Data in a domain", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, track(0, 2), 1, 12)), out(0x0D, make([]byte, 12))}, "0c 00"},
		{"Write Data: the last of its domain", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 2, t1, 1, 16)), out(0x05, make([]byte, 16)).sli()}, "0e 00 8000 02"},
		{"Write Data, suffixed Read Count", []op{out(0x63, all), out(0x47, patch(located(dasd.OpWriteData, 2, t1, 1, 16), 1, 0x81)), out(0x05, make([]byte, 16)), in(0x92, 8)}, "0c 00"},
		{"Write Record Zero of a domain", []op{out(0x63, all), out(0x47, located(0x43, 2, t1, 0, 0)), out(0x15, append(countField(t1, 0, 0, 8), make([]byte, 8)...)), out(0x1D, countField(t1, 1, 0, 0))}, "0c 00"},
		{"Set Interface Identifier", []op{out(0x27, []byte{0xB0, 0, 0, 0}), in(0x3E, 96)}, "0c 00"},
		{"Set Interface Identifier, short", []op{out(0x27, []byte{0xB0, 1, 0, 0}), in(0x3E, 32)}, "0c 00"},
		{"Set Special Intercept must be last", []op{out(0x27, []byte{0x1B, 0}), in(0x03, 0)}, "0e 00 8000 02"},
		{"Prepare for Read Subsystem Data: flags", []op{out(0x27, []byte{0x18, 1, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0})}, "0e 00 8000 04"},
		{"Prepare for Read Subsystem Data: device", []op{out(0x27, []byte{0x18, 0, 0, 0, 1, 0x20, 0x41, 0, 0, 0, 0, 0})}, "0e 00 8000 04"},
		{"path status", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), in(0x3E, 16)}, "0c 00"},
		{"statistics", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}), in(0x3E, 96)}, "0c 00"},
		{"statistics of a type", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 1, 0xFF, 1, 0, 0, 0}), in(0x3E, 192)}, "0c 00"},
		{"attention message", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 3, 0, 1, 2, 3, 4}), in(0x3E, 9)}, "0c 00"},
		{"an answer, then no order", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 3, 0, 1, 2, 3, 4}), in(0x3E, 9), in(0x64, 64).sli()}, "0e 00 8000 02"},
		{"an answer, then another order", []op{out(0x27, []byte{0x18, 0, 0, 0, 0, 0, 3, 0, 1, 2, 3, 4}), in(0x3E, 9), out(0x27, []byte{0xB0, 0, 0, 0})}, "0e 00 8000 02"},
		{"Define Subsystem Operation must be first", []op{in(0x03, 0), out(0xF7, []byte{0xB0, 0, 0, 0}).sli()}, "0e 00 8000 02"},
		{"Set Subsystem Mode with message, Read Message ID", []op{out(0x87, []byte{0x41, 0}), in(0x4E, 4)}, "0c 00"},
		{"Set Subsystem Mode: only the message follows", []op{out(0x87, []byte{0x41, 0}), in(0x64, 64).sli()}, "0e 00 8000 02"},
		{"Diagnostic Control", []op{out(0x1F, []byte{0x02}), out(0xF3, []byte{0x12, 0, 0, 0})}, "0c 00"},
		{"Diagnostic Control without authorization", []op{out(0xF3, []byte{0x12, 0, 0, 0})}, "0e 00 8000 05"},
		{"Reset Summary Unit Check", []op{out(0xF9, make([]byte, 16))}, "0c 00"},
		{"Release in an extent", []op{out(0x63, all), in(0x94, 32).sli()}, "0e 00 8000 02"},
		{"Sense Subsystem Status after a seek", []op{out(0x07, seekTo(t1)), in(0x54, 40).sli()}, "0e 00 8000 02"},
		{"Read Home Address multitrack", []op{out(0x07, seekTo(t1)), in(0x9A, 5)}, "0c 00"},
		{"Read Record Zero in a domain that is not at its place", []op{out(0x63, none), out(0x47, located(dasd.OpRead, 1, t1, 1, 0)), in(0x96, 16).sli()}, "0e 00 8000 02"},
		{"Prefix format 2", []op{out(0xE7, append(prefix(2, none, nil)[:62], 0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0)), in(0x3E, 256)}, "0c 00"},

		{"Prefix with too few bytes", []op{out(0xE7, make([]byte, 63))}, "0e 00 8000 03"},
		{"Prefix: unknown format", []op{out(0xE7, prefix(3, all, nil))}, "0e 00 8000 04"},
		{"Prefix format 0, Locate Record, Read Data", []op{out(0xE7, prefix(0, none, nil)), out(0x47, read1), in(0x86, 16)}, "0c 00"},
		{"Prefix format 1, Read Data", []op{out(0xE7, prefix(1, none, locatedExtended(dasd.OpReadData, 1, t1, 1, 0))), in(0x86, 16)}, "0c 00"},
		{"Prefix format 1, Read Track", []op{out(0xE7, prefix(1, none, locatedExtended(0x4C, 1, t1, 0, 0))), in(0xDE, 96)}, "0c 00"},
		{"Prefix format 1 without extent", []op{out(0xE7, patch(prefix(1, none, locatedExtended(dasd.OpReadData, 1, t1, 1, 0)), 1, 0)), in(0x86, 16)}, "0e 00 8000 02"},
		{"Prefix twice", []op{out(0xE7, prefix(1, none, locatedExtended(dasd.OpReadData, 1, t1, 1, 0))), out(0xE7, prefix(0, none, nil)).sli()}, "0e 00 8000 02"},

		{"Locate Record Extended, Read Tracks", []op{out(0x63, none), out(0x4B, locatedExtended(0x4C, 2, t1, 0, 0)), in(0xDE, 96), in(0xDE, 44)}, "0c 00"},
		{"Locate Record Extended: extended operation needs FF", []op{out(0x63, none), out(0x4B, patch(locatedExtended(0x4C, 1, t1, 0, 0), 17, 0x0E))}, "0e 00 8000 04"},
		{"Locate Record Extended, Read Trackset", []op{out(0x63, none), out(0x4B, append(patch(patch(locatedExtended(0x7F, 2, t1, 0, 0), 17, 0x0E), 19, 1), 0x90)), in(0xDE, 96), in(0xDE, 24)}, "0c 00"},
		{"Read Trackset: bits and count differ", []op{out(0x63, none), out(0x4B, append(patch(patch(locatedExtended(0x7F, 3, t1, 0, 0), 17, 0x0E), 19, 1), 0x90))}, "0e 00 8000 04"},
		{"Read Trackset: parameter missing", []op{out(0x63, none), out(0x4B, patch(patch(locatedExtended(0x7F, 2, t1, 0, 0), 17, 0x0E), 19, 1))}, "0e 00 8000 03"},
		{"Locate Record Extended: write full track is a feature", []op{out(0x63, all), out(0x4B, append(patch(patch(locatedExtended(0x3F, 1, t1, 0, 0), 17, 0x11), 19, 2), 0x80, 0))}, "0e 00 8000 04"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := prepared(t)
			require.Equal(t, row.want, d.run(row.ops...).status())
			require.NoError(t, d.v.Err())
		})
	}
}

// patch is b with byte i changed.
func patch(b []byte, i int, v byte) []byte {
	b = bytes.Clone(b)
	b[i] = v
	return b
}

func prefix(format byte, extent, locate []byte) []byte {
	b := make([]byte, dasd.PrefixSize)
	b[0], b[1] = format, 0x80
	copy(b[12:], extent)
	copy(b[44:], locate)
	return b
}

// What the table above cannot show: the bytes.

func TestReadsReturn(t *testing.T) {
	d := prepared(t)
	r := d.ok(out(0x63, none), out(0x47, located(dasd.OpReadData, 3, t1, 1, 0)), in(0x86, 16), in(0x86, 16), in(0x86, 16))
	for i, fill := range []byte{0x11, 0x12, 0x13} {
		require.Equal(t, bytes.Repeat([]byte{fill}, 16), r.data[2+i])
	}
	r = d.ok(out(0x07, seekTo(track(0, 2))), in(0x1E, 20))
	require.Equal(t, append(countField(track(0, 2), 1, 4, 8), bytes.Repeat([]byte{0x21}, 12)...), r.data[1])
	r = d.ok(out(0x07, seekTo(track(0, 2))), in(0x0E, 12))
	require.Equal(t, bytes.Repeat([]byte{0x21}, 12), r.data[1])
	r = d.ok(out(0x07, seekTo(track(1, 2))), in(0x1A, 5), in(0x16, 16))
	require.Equal(t, []byte{0, 0, 1, 0, 2}, r.data[1])
	require.Equal(t, append(countField(track(1, 2), 0, 0, 8), make([]byte, 8)...), r.data[2])
	// After the search of R1 its data follow; without the search, those of R1
	// too; count after data is that of the next record.
	r = d.ok(out(0x07, seekTo(t1)), in(0x06, 16), in(0x12, 8), in(0x06, 16))
	require.Equal(t, countField(t1, 2, 0, 16), r.data[2])
	require.Equal(t, bytes.Repeat([]byte{0x12}, 16), r.data[3])
	// Read Track brings record zero and the end marker.
	r = d.ok(out(0x63, none), out(0x4B, locatedExtended(0x4C, 1, track(0, 4), 0, 0)), in(0xDE, 24))
	require.Equal(t, append(append(countField(track(0, 4), 0, 0, 8), make([]byte, 8)...), bytes.Repeat([]byte{0xFF}, 8)...), r.data[2])
}

func TestShortWriteIsPadded(t *testing.T) {
	d := prepared(t)
	d.ok(out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 2, 16)), out(0x85, []byte{1, 2, 3}).sli())
	r := d.ok(out(0x63, none), out(0x47, located(dasd.OpReadData, 1, t1, 2, 0)), in(0x86, 16))
	require.Equal(t, []byte{1, 2, 3, 15: 0}, r.data[2])
}

func TestWriteThatIsBrokenOffChangesNothing(t *testing.T) {
	d := prepared(t)
	o := out(0x85, make([]byte, 16))
	for _, cmd := range []struct {
		name string
		ops  []op
	}{
		{"update", []op{out(0x63, all), out(0x47, located(dasd.OpWriteData, 1, t1, 1, 16)), o}},
		{"format", []op{out(0x63, all), out(0x47, located(dasd.OpFormat, 1, t1, 0, 0)), out(0x1D, countField(t1, 1, 0, 8))}},
	} {
		t.Run(cmd.name, func(t *testing.T) {
			// An IDAL whose second word is beyond the storage: the transfer
			// breaks off after some bytes.
			last := &cmd.ops[len(cmd.ops)-1]
			list := make([]byte, 16)
			list[5], list[6], list[7] = 0x20, 0x0F, 0xF9
			list[8] = 0xFF
			require.NoError(t, d.mem.Write(0x200FF9, []byte{0xAA, 0xBB, 0xCC, 0xDD, 0, 0, 0xEE}))
			r := d.runIDA(cmd.ops[:len(cmd.ops)-1], last.cmd, 16, list)
			require.NotZero(t, r.Subchannel()&cio.ProgramCheck, "%v", r.SCSW)
			got := d.ok(out(0x63, none), out(0x47, located(dasd.OpReadData, 1, t1, 1, 0)), in(0x86, 16))
			require.Equal(t, bytes.Repeat([]byte{0x11}, 16), got.data[2])
		})
	}
}

func TestSearchStatusModifier(t *testing.T) {
	d := prepared(t)
	// Satisfied, the search skips the CCW behind it.
	r := d.ok(out(0x07, seekTo(t1)), out(0x31, recordID(t1, 0)), in(0x03, 1), in(0x12, 8))
	require.Equal(t, countField(t1, 1, 0, 16), r.data[3])
}

func TestReadCountGoesRoundOnce(t *testing.T) {
	d := prepared(t)
	ops := []op{out(0x63, none), out(0x47, located(dasd.OpReadData, 7, t1, 0, 0))}
	for range 7 {
		ops = append(ops, in(0x12, 8))
	}
	r := d.run(ops...)
	require.Equal(t, "0e 40 0008 00", r.status())
	require.EqualValues(t, 8, r.Count())
	for i, record := range []uint8{1, 2, 3, 1, 2, 3} {
		require.Equal(t, countField(t1, record, 0, 16), r.data[2+i])
	}
}
