package unit_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
)

func newTape(t testing.TB, model unit.TapeModel) *unit.Tape {
	tape, err := unit.NewTape(&unit.TapeConfig{Model: model, Cartridge: unit.NewCartridge(0), Serial: 0x0581})
	require.NoError(t, err)
	return tape
}

// Commands that the rows use often.
var (
	rew = op{Cmd: 0x07, Flags: cc | sli, Count: 1}
	wtm = op{Cmd: 0x1F, Flags: cc | sli, Count: 1}
	fsf = op{Cmd: 0x3F, Flags: cc | sli, Count: 1}
	bsf = op{Cmd: 0x2F, Flags: cc | sli, Count: 1}
	fsb = op{Cmd: 0x37, Flags: cc | sli, Count: 1}
	bsb = op{Cmd: 0x27, Flags: cc | sli, Count: 1}
	nop = op{Cmd: 0x03, Flags: sli, Count: 1}
	bid = op{Cmd: 0x22, In: 8}
)

func wr(data string) op { return op{Cmd: 0x01, Flags: cc, Out: []byte(data)} }
func rd(n int) op       { return op{Cmd: 0x02, Flags: cc | sli, In: n} }

// files is a tape with two files: "aaaa", "bb", mark, "cccccc", mark, mark; at
// its beginning.
func files(t testing.TB, model unit.TapeModel) *unit.Tape {
	tape := newTape(t, model)
	r := machine(tape).Run(t, wr("aaaa"), wr("bb"), wtm, wr("cccccc"), wtm, wtm, rew, nop)
	require.Equal(t, 7, r.At)
	require.Equal(t, cio.Ended, r.Device)
	return tape
}

// TestRecoveryOf3590: sense byte 2 tells what to do (GA32-0331, "Sense Bytes";
// SDL-Hyperion tapeccws.c, build_sense_3590), beside the channel A of all
// cartridge drives.
func TestRecoveryOf3590(t *testing.T) {
	for _, row := range []struct {
		name string
		ops  []op
		want byte
	}{
		{"31 tape void: permanent, to be logged", []op{fsf, fsf, fsf, rd(9)}, 0x30},
		{"39 at the beginning", []op{bsb}, 0x20},
		{"27 command reject", []op{{Cmd: 0x0C, In: 4}}, 0x20},
		{"44 block not found", []op{{Cmd: 0x4F, Out: []byte{0, 0, 0, 99}}}, 0x20},
		{"2B unloaded: continue", []op{{Cmd: 0x0F}}, 0x60},
	} {
		tape := files(t, unit.Tape3590)
		r := machine(tape).Run(t, row.ops...)
		require.NotEmpty(t, r.Sense, row.name)
		require.Equal(t, row.want, r.Sense[2], row.name)
	}
	tape := files(t, unit.Tape3590)
	tape.Unload()
	r := machine(tape).Run(t, rd(4))
	require.Equal(t, byte(0xE0), r.Sense[2], "43 not ready: reissue later")
}

// TestEmptyDrive: which commands need no tape, as SDL-Hyperion (tapeccws.c,
// tables of commands) has them; a no-operation is not one of them.
func TestEmptyDrive(t *testing.T) {
	for _, row := range []struct {
		cmd   op
		ready bool
	}{
		{op{Cmd: 0x04, In: 32}, true}, {op{Cmd: 0xE4, In: 7}, true}, {op{Cmd: 0x64, In: 64}, true}, {op{Cmd: 0x24, In: 32}, true},
		{op{Cmd: 0x34, In: 12}, true}, {op{Cmd: 0xB7, Out: make([]byte, 11)}, true}, {op{Cmd: 0xC7, Out: make([]byte, 11)}, true},
		{op{Cmd: 0xDB, Out: []byte{0}}, true}, {op{Cmd: 0x9F, Out: make([]byte, 17)}, true},
		{op{Cmd: 0x03}, false}, {op{Cmd: 0x07}, false}, {op{Cmd: 0x1F}, false}, {op{Cmd: 0x37}, false}, {op{Cmd: 0x2F}, false}, {op{Cmd: 0x43}, false},
		{op{Cmd: 0x01, Flags: sli, Out: []byte{1}}, false}, {op{Cmd: 0x02, Flags: sli, In: 1}, false}, {op{Cmd: 0x22, Flags: sli, In: 8}, false},
		{op{Cmd: 0x4F, Flags: sli, Out: make([]byte, 4)}, false}, {op{Cmd: 0x0F}, false},
	} {
		tape, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3490})
		require.NoError(t, err)
		r := machine(tape).Run(t, row.cmd)
		if row.ready {
			require.Equal(t, cio.Ended, r.Device, "%v", row.cmd.Cmd)
			continue
		}
		require.Equal(t, cio.UnitCheck, r.Device, "%v", row.cmd.Cmd)
		require.Equal(t, []byte{0x40, 0x42, 0x20, 0x43}, r.Sense[:4], "%v", row.cmd.Cmd)
	}
}

// TestCharacteristics: a drive answers what it was told to.
func TestCharacteristics(t *testing.T) {
	tape, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3590, Characteristics: []byte{0x35, 0x90, 0x11}})
	require.NoError(t, err)
	r := machine(tape).Run(t, op{Cmd: 0x64, In: 64})
	require.Equal(t, append([]byte{0x35, 0x90, 0x11}, make([]byte, 61)...), r.In[0])
}

// TestTape has a row for each rule of the drives (GA32-0127, GA32-0021) that
// tape_34xx.c and tape_std.c rely on. era is sense byte 3 of a cartridge
// drive.
func TestTape(t *testing.T) {
	const uc = unitCheck
	for _, row := range []struct {
		name  string
		model unit.TapeModel
		ops   []op
		want  want
		era   byte
		pos   int
	}{
		{"read", unit.Tape3490, []op{{Cmd: 0x02, In: 4}}, want{in: []byte("aaaa")}, 0, 1},
		{"read a shorter block", unit.Tape3490, []op{{Cmd: 0x02, In: 9}}, want{channel: cio.IncorrectLength, count: 5, in: []byte("aaaa")}, 0, 1},
		{"read a longer block", unit.Tape3490, []op{{Cmd: 0x02, In: 3}}, want{channel: cio.IncorrectLength, in: []byte("aaa")}, 0, 1},
		{"what a read leaves is lost", unit.Tape3490, []op{rd(3), rd(9)}, want{at: 1, count: 7, in: []byte("bb")}, 0, 2},
		{"read, data chained", unit.Tape3490, []op{{Cmd: 0x02, Flags: cd, In: 1}, {Cmd: 0x02, In: 3}}, want{at: 1, in: []byte("aaa")}, 0, 1},
		{"read a tape mark", unit.Tape3490, []op{fsb, fsb, rd(9)}, want{at: 2, device: unitException, count: 9}, 0, 3},
		{"read a tape mark without SLI", unit.Tape3490, []op{fsb, fsb, {Cmd: 0x02, In: 9}}, want{at: 2, device: unitException, channel: cio.IncorrectLength, count: 9}, 0, 3},
		{"read behind the end", unit.Tape3490, []op{fsf, fsf, fsf, rd(9)}, want{at: 3, device: uc, count: 9, sense0: 0x08}, 0x31, 6},
		{"read behind the end of a reel", unit.Tape3420, []op{fsf, fsf, fsf, rd(9)}, want{at: 3, device: uc, count: 9, sense0: 0x10}, 0, 6},
		{"read backward", unit.Tape3490, []op{fsb, {Cmd: 0x0C, In: 4}}, want{at: 1, in: []byte("aaaa")}, 0, 0},
		{"read backward, shorter", unit.Tape3490, []op{fsb, {Cmd: 0x0C, Flags: sli, In: 6}}, want{at: 1, count: 2, in: []byte("\xA5\xA5aaaa")}, 0, 0},
		{"read backward over a tape mark", unit.Tape3490, []op{fsf, {Cmd: 0x0C, Flags: sli, In: 6}}, want{at: 1, device: unitException, count: 6}, 0, 2},
		{"read backward at the beginning", unit.Tape3490, []op{{Cmd: 0x0C, Flags: sli, In: 6}}, want{device: uc, count: 6, sense0: 0}, 0x39, 0},
		{"a 3590 reads no tape backward", unit.Tape3590, []op{fsb, {Cmd: 0x0C, In: 4}}, want{at: 1, device: cio.UnitCheck, sense0: 0x80}, 0x27, 1},
		{"a 3590 reads the block before", unit.Tape3590, []op{fsb, fsb, {Cmd: 0x0A, In: 2}}, want{at: 2, in: []byte("bb")}, 0, 1},
		{"a 3590 reads with 06", unit.Tape3590, []op{{Cmd: 0x06, In: 4}}, want{in: []byte("aaaa")}, 0, 1},
		{"others do not", unit.Tape3490, []op{{Cmd: 0x06, In: 4}}, want{device: cio.UnitCheck, sense0: 0x80}, 0x27, 0},
		{"space block", unit.Tape3490, []op{fsb, nop}, want{at: 1, count: 1}, 0, 1},
		{"space over a tape mark", unit.Tape3490, []op{fsb, fsb, fsb}, want{at: 2, device: unitException, count: 1}, 0, 3},
		{"space behind the end", unit.Tape3490, []op{fsf, fsf, fsf, fsb}, want{at: 3, device: uc, count: 1, sense0: 0x08}, 0x31, 6},
		{"back", unit.Tape3490, []op{fsb, bsb, nop}, want{at: 2, count: 1}, 0, 0},
		{"back over a tape mark", unit.Tape3490, []op{fsf, bsb}, want{at: 1, device: unitException, count: 1}, 0, 2},
		{"back at the beginning", unit.Tape3490, []op{bsb}, want{device: uc, count: 1, sense0: 0}, 0x39, 0},
		{"space file", unit.Tape3490, []op{fsf, nop}, want{at: 1, count: 1}, 0, 3},
		{"space file behind the last", unit.Tape3490, []op{fsf, fsf, fsf, fsf}, want{at: 3, device: uc, count: 1, sense0: 0x08}, 0x31, 6},
		{"back file", unit.Tape3490, []op{fsf, fsf, bsf, nop}, want{at: 3, count: 1}, 0, 4},
		{"back file in the first", unit.Tape3490, []op{fsb, bsf}, want{at: 1, device: uc, count: 1, sense0: 0}, 0x39, 0},
		{"a write ends the tape", unit.Tape3490, []op{wr("x"), rd(1)}, want{at: 1, device: uc, count: 1, sense0: 0x08}, 0x31, 1},
		{"a mark ends the tape", unit.Tape3490, []op{wtm, rd(1)}, want{at: 1, device: uc, count: 1, sense0: 0x08}, 0x31, 1},
		{"write of no byte", unit.Tape3490, []op{{Cmd: 0x01, Flags: sli}}, want{device: uc, sense0: 0x80}, 0x27, 0},
		{"write of no byte: word count zero", unit.Tape3420, []op{{Cmd: 0x01, Flags: sli}}, want{device: uc, sense0: 0x02}, 0, 0},
		{"write, data chained", unit.Tape3490, []op{{Cmd: 0x01, Flags: cd, Out: []byte("ab")}, {Cmd: 0x01, Flags: cc, Out: []byte("cd")}, rew, {Cmd: 0x02, In: 4}}, want{at: 3, in: []byte("abcd")}, 0, 1},
		{"erase gap", unit.Tape3490, []op{{Cmd: 0x17, Flags: cc | sli}, {Cmd: 0x02, In: 4}}, want{at: 1, in: []byte("aaaa")}, 0, 1},
		{"data security erase [tape_std.c: DB 17 97 03]", unit.Tape3480, []op{fsb, {Cmd: 0xDB, Flags: cc, Out: []byte{0}}, {Cmd: 0x17, Flags: cc | sli}, {Cmd: 0x97, Flags: cc | sli}, nop},
			want{at: 4, count: 1}, 0, 1},
		{"data security erase alone", unit.Tape3490, []op{{Cmd: 0x97, Flags: sli}}, want{device: cio.UnitCheck, sense0: 0x80}, 0x27, 0},
		{"block ID", unit.Tape3490, []op{fsb, fsb, nopCC, bid}, want{at: 3, in: []byte{1, 0, 0, 2, 1, 0, 0, 2}}, 0, 2},
		{"block ID of a 3590", unit.Tape3590, []op{fsb, fsb, bid}, want{at: 2, in: []byte{0, 0, 0, 2, 0, 0, 0, 2}}, 0, 2},
		{"locate [tape_std.c: DB 4F 03]", unit.Tape3480, []op{{Cmd: 0xDB, Flags: cc, Out: []byte{0}}, {Cmd: 0x4F, Flags: cc, Out: []byte{1, 0, 0, 3}}, {Cmd: 0x02, In: 6}}, want{at: 2, in: []byte("cccccc")}, 0, 4},
		{"locate the end", unit.Tape3490, []op{{Cmd: 0x4F, Out: []byte{1, 0, 0, 6}}}, want{}, 0, 6},
		{"locate behind it", unit.Tape3490, []op{{Cmd: 0x4F, Out: []byte{1, 0, 0, 7}}}, want{device: uc, sense0: 0x10}, 0x44, 0},
		{"locate a reserved format", unit.Tape3490, []op{{Cmd: 0x4F, Out: []byte{1, 0xC0, 0, 0}}}, want{device: cio.UnitCheck, sense0: 0x80}, 0x27, 0},
		{"locate by 3 bytes", unit.Tape3490, []op{{Cmd: 0x4F, Out: []byte{1, 0, 0}}}, want{device: cio.UnitCheck, sense0: 0x80}, 0x27, 0},
		{"mode set", unit.Tape3490, []op{{Cmd: 0xDB, Flags: cc, Out: []byte{0x28}}, nop}, want{at: 1, count: 1}, 0, 0},
		{"a 3480 with sense byte 25 on compacts [tape_std_mtcompression: DB, 03]", unit.Tape3480, []op{{Cmd: 0xDB, Flags: cc, Out: []byte{0x08}}, {Cmd: 0x03}}, want{at: 1}, 0, 0},
		{"mode set inhibits supervisor commands", unit.Tape3490, []op{{Cmd: 0xDB, Flags: cc, Out: []byte{0x10}}, {Cmd: 0xDB, Out: []byte{0}}}, want{at: 1, device: cio.UnitCheck, sense0: 0x80}, 0x27, 0},
		{"and no others", unit.Tape3490, []op{{Cmd: 0xDB, Flags: cc, Out: []byte{0x10}}, {Cmd: 0x02, In: 4}}, want{at: 1}, 0, 1},
		{"synchronize", unit.Tape3490, []op{{Cmd: 0x43, Flags: sli, Count: 1}}, want{count: 1}, 0, 0},
		{"read buffer: empty", unit.Tape3490, []op{{Cmd: 0x12, Flags: sli, In: 9}}, want{count: 9}, 0, 0},
		{"buffered log", unit.Tape3490, []op{{Cmd: 0x24, In: 32}}, want{in: append(make([]byte, 7), 0x21, 0)}, 0, 0},
		{"sense ID", unit.Tape3480, []op{{Cmd: 0xE4, Flags: sli, In: 7}}, want{in: []byte{0xff, 0x34, 0x80, 0x31, 0x34, 0x80, 0x31}}, 0, 0},
		{"a 3420 has none", unit.Tape3420, []op{{Cmd: 0xE4, In: 7}}, want{device: cio.UnitCheck, sense0: 0x80}, 0, 0},
		{"characteristics", unit.Tape3490, []op{{Cmd: 0x64, In: 64}}, want{in: []byte{0x34, 0x90, 0x50, 0x34, 0x90, 0x50, 0, 0, 0, 0x40, 0x80, 0x80}}, 0, 0},
		{"medium sense [tape_3590.h]", unit.Tape3590, []op{{Cmd: 0xC2, In: 128}}, want{in: []byte{1, 0, 0}}, 0, 0},
		{"reel mode set", unit.Tape3420, []op{{Cmd: 0xC3, Flags: cc | sli, Count: 1}, {Cmd: 0xCB, Flags: sli, Count: 1}}, want{at: 1, count: 1}, 0, 0},
		{"unknown command", unit.Tape3490, []op{{Cmd: 0x05, Count: 3}}, want{device: cio.UnitCheck, sense0: 0x80}, 0x27, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			tape := files(t, row.model)
			r := check(t, machine(tape), row.want, row.ops...)
			if row.want.device&cio.UnitCheck != 0 && row.model != unit.Tape3420 {
				require.Equal(t, row.era, r.Sense[3])
			}
			require.Equal(t, row.pos, tape.Position())
		})
	}
}

var nopCC = op{Cmd: 0x03, Flags: cc | sli, Count: 1}

// TestTapeSense: all sense bytes, by model and by state.
func TestTapeSense(t *testing.T) {
	bot := op{Cmd: 0x27, Flags: sli, Count: 1}
	for _, row := range []struct {
		model unit.TapeModel
		want  []byte
	}{
		{unit.Tape3420, []byte{0, 0x48, 0, 0, 0, 0xC0, 0x03, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 1, 0, 0, 0xFF, 0xFF, 0, 0, 0}},
		{unit.Tape3480, append([]byte{0, 0x48, 0x20, 0x39, 0, 0, 0, 0x20}, make([]byte, 16)...)},
		{unit.Tape3490, append(append([]byte{0, 0x48, 0x20, 0x39, 0, 0, 0, 0x20}, make([]byte, 17)...), 0x06, 0, 0xEC, 0x00, 0x58, 0x11, 0)},
		{unit.Tape3590, append(append([]byte{0, 0x48, 0x20, 0x39, 0, 0, 0, 0x20}, make([]byte, 17)...), 0x06, 0, 0xEC, 0x00, 0x58, 0x11, 0)},
	} {
		tape := newTape(t, row.model)
		m := machine(tape)
		require.Equal(t, row.want, m.Run(t, bot).Sense, "%v", row.model)
		// Nothing is pending: BASIC SENSE tells the state.
		state := m.Run(t, op{Cmd: 0x04, In: len(row.want)})
		require.Equal(t, byte(0x48), state.In[0][1])
		tape.Unload()
		state = m.Run(t, op{Cmd: 0x04, In: len(row.want)})
		require.Equal(t, byte(0x40), state.In[0][0], "%v", row.model)
		check(t, m, want{device: cio.UnitCheck, count: 1, sense0: 0x40}, bot)
	}
	_, err := unit.NewTape(&unit.TapeConfig{Model: 0x2400})
	require.ErrorContains(t, err, "no tape drive 2400")
}

// TestTapeUnload: rewind unload ends as tape_34xx.c expects it, and a new tape
// makes the drive ready.
func TestTapeUnload(t *testing.T) {
	var ready []cio.DeviceStatus
	tape, err := unit.NewTape(&unit.TapeConfig{Attention: func(d cio.DeviceStatus) { ready = append(ready, d) }})
	require.NoError(t, err)
	m := machine(tape)
	check(t, m, want{device: cio.UnitCheck, count: 4, sense0: 0x40}, rd(4))
	c := unit.NewCartridge(0)
	require.Nil(t, tape.Load(c))
	require.Equal(t, []cio.DeviceStatus{cio.DeviceEnd}, ready)
	r := check(t, m, want{device: unitCheck, count: 1, sense0: 0x40}, op{Cmd: 0x0F, Flags: sli, Count: 1})
	require.Equal(t, byte(0x2B), r.Sense[3])
	require.Equal(t, byte(0x22), r.Sense[7])
	check(t, m, want{device: cio.UnitCheck, count: 4, sense0: 0x40}, rd(4))
	require.Nil(t, tape.Unload())
	tape.Load(c)
	require.Same(t, c, tape.Unload())

	reel, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3420, Cartridge: c})
	require.NoError(t, err)
	check(t, machine(reel), want{device: unitCheck | cio.ControlUnitEnd, sense0: 0x40}, op{Cmd: 0x0F})
}

// TestTapePathGroup: GA32-0127, path group and assignment.
func TestTapePathGroup(t *testing.T) {
	tape := newTape(t, unit.Tape3490)
	m := machine(tape)
	mine, other := bytes.Repeat([]byte{7}, 11), bytes.Repeat([]byte{8}, 11)
	spid := func(f byte, id []byte) op { return op{Cmd: 0xAF, Out: append([]byte{f}, id...)} }
	snid := op{Cmd: 0x34, In: 12}
	reject := want{device: cio.UnitCheck, sense0: 0x80}

	check(t, m, want{in: make([]byte, 12)}, snid)
	check(t, m, want{}, spid(0, mine))
	check(t, m, want{in: append([]byte{0xC0}, mine...)}, snid)
	check(t, m, reject, spid(0, other))
	check(t, m, reject, op{Cmd: 0xB7, Out: other})
	check(t, m, want{}, op{Cmd: 0xB7, Out: mine})
	check(t, m, want{in: append([]byte{0xF0}, mine...)}, snid)
	check(t, m, want{}, spid(0, mine))
	tape.Reset()
	check(t, m, want{in: append([]byte{0xF0}, mine...)}, snid)
	check(t, m, want{}, spid(0x20, mine))
	check(t, m, want{in: append([]byte{0}, mine...)}, snid)
	check(t, m, want{}, spid(0x40, mine))
	check(t, m, want{in: make([]byte, 12)}, snid)
	check(t, m, reject, spid(0x60, mine))
	check(t, m, reject, spid(0, mine[1:]))
	check(t, m, want{at: 1, device: cio.UnitCheck, sense0: 0x80}, nopCC, snid)
	check(t, m, want{at: 1, device: cio.UnitCheck, sense0: 0x80}, nopCC, spid(0, mine))
	check(t, m, want{}, op{Cmd: 0xB7, Out: make([]byte, 11)})
	check(t, m, want{}, op{Cmd: 0xC7, Out: make([]byte, 11)})
	check(t, m, reject, op{Cmd: 0xC7, Out: make([]byte, 10)})
	check(t, m, reject, op{Cmd: 0xB7, Out: make([]byte, 10)})
}

// TestTapeDisplay: the messages of LOAD DISPLAY reach the host.
func TestTapeDisplay(t *testing.T) {
	var got []unit.TapeDisplay
	tape, err := unit.NewTape(&unit.TapeConfig{Cartridge: unit.NewCartridge(0), Display: func(d unit.TapeDisplay) { got = append(got, d) }})
	require.NoError(t, err)
	m := machine(tape)
	check(t, m, want{}, op{Cmd: 0x9F, Out: append([]byte{0x60}, unit.EBCDIC("MOUNT   VOL001  ")...)})
	check(t, m, want{device: cio.UnitCheck, sense0: 0x80}, op{Cmd: 0x9F, Out: make([]byte, 16)})
	require.Len(t, got, 1)
	require.Equal(t, byte(0x60), got[0].Control)
	require.Equal(t, "MOUNT   |VOL001  ", got[0].String())
}

// TestTapeCapacity: near the end writes go on with unit exception, at the end
// they stop.
func TestTapeCapacity(t *testing.T) {
	tape, err := unit.NewTape(&unit.TapeConfig{Cartridge: unit.NewCartridge(1000)})
	require.NoError(t, err)
	m := machine(tape)
	check(t, m, want{}, op{Cmd: 0x01, Out: make([]byte, 900)})
	check(t, m, want{device: unitException}, op{Cmd: 0x01, Out: make([]byte, 50)})
	check(t, m, want{device: unitException}, op{Cmd: 0x1F})
	r := check(t, m, want{device: unitCheck, sense0: 0x10}, op{Cmd: 0x01, Out: make([]byte, 50)})
	require.Equal(t, byte(0x38), r.Sense[3])
	require.Equal(t, 3, tape.Position())
	reel, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3420, Cartridge: tape.Unload()})
	require.NoError(t, err)
	r = check(t, machine(reel), want{at: 1, device: unitCheck, count: 1, sense0: 0x10}, fsf, fsb)
	require.Equal(t, byte(0x40), r.Sense[4]&0x40, "tape indicate")
}
