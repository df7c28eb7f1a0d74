package unit_test

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
	"github.com/softmdev/softmdev/ccw/unit"
)

// TestReplayConsole runs what a Linux printed on its 3215 and read from it.
// What the operator typed is what the recorded reads brought.
func TestReplayConsole(t *testing.T) {
	records := devicetest.Load(t, "con3215")
	var paper bytes.Buffer
	con := unit.NewConsole3215(&unit.Console3215Config{Output: &paper})
	m := devicetest.MachineFor(con, &records[0], 512<<20)
	for i := range records {
		r := &records[i]
		if r.Trace[0].Cmd == "0a" {
			_, line := r.Expect.Memory[0].Bytes(t)
			require.True(t, con.Type(line))
		}
		require.Empty(t, m.Replay(t, r), "seq %d", r.Seq)
	}
	require.Len(t, records, 21)
	require.Contains(t, unit.Text(paper.Bytes()), "got: hello 3215\n")
	require.Contains(t, unit.Text(paper.Bytes()), "=== DONE con ===\n")
}

// Why a recorded result is not what must come out: the architecture says
// otherwise, or the recording emulator had something that is out of scope.
const (
	nopTakesCount = "NOP is immediate, so that the count stays; the recorded device model takes it"
	zeroCount     = "a zero count in format 0 is a program check"
	ticFirst      = "a transfer in channel as the first CCW is a program check"
	noKeys        = "storage has no keys here"
	midawSkip     = "a MIDAW with skip drops data; the recording emulator keeps them for the next"
	midawSum      = "the counts of the MIDAWs must add up to that of the CCW"
	midawFlag     = "a reserved MIDAW flag is a program check"
	midawLast     = "the last MIDAW must say that it is the last"
	backwardList  = "the list is valid, the recording emulator misreads it"
)

// different are the programs of vec0 whose recorded result is not to be
// matched.
var different = map[int]string{
	13: nopTakesCount,
	17: nopTakesCount,
	18: nopTakesCount,
	22: zeroCount,
	23: zeroCount,
	24: zeroCount,
	30: ticFirst,
	51: noKeys,
	67: midawSkip,
	70: midawSum,
	72: midawFlag,
	75: midawLast,
	90: backwardList,
}

// cardOf is the first card that the recording shows a program to have
// read, or -1 if it shows none: a card has its number in columns 6 to 9.
func cardOf(t *testing.T, r *devicetest.Record) int {
	for i := range r.Expect.Memory {
		_, b := r.Expect.Memory[i].Bytes(t)
		if text := string(b); len(text) >= 9 && text[:5] == "CARD " {
			n, err := strconv.Atoi(text[5:9])
			require.NoError(t, err)
			return n
		}
	}
	return -1
}

// TestReplayVectors runs the conformance programs of vec0, which were recorded
// on another emulator. Where a program reads another number of cards here than
// it did there, the deck is put right before the next one.
func TestReplayVectors(t *testing.T) {
	records := devicetest.Load(t, "vec0")
	deck, err := os.ReadFile(devicetest.TestData(t, "init", "vec-cards.bin"))
	require.NoError(t, err)
	rdr := unit.NewReader(nil)
	prt, err := unit.NewPrinter(nil)
	require.NoError(t, err)
	tape, err := unit.NewTape(&unit.TapeConfig{Model: unit.Tape3420, Cartridge: unit.NewCartridge(0)})
	require.NoError(t, err)
	devices := map[string]channel.Device{"000c": rdr, "000e": prt, "0580": tape}
	machines := map[string]*devicetest.Machine{}
	rdr.Load(bytes.NewReader(deck))
	moved := false
	for i := range records {
		r := &records[i]
		m := machines[r.Device.Devno]
		if m == nil {
			m = devicetest.MachineFor(devices[r.Device.Devno], r, 4<<20)
			machines[r.Device.Devno] = m
		}
		if n := cardOf(t, r); moved && n >= 0 {
			rdr.Load(bytes.NewReader(deck[n*unit.CardSize:]))
		}
		diffs := m.Replay(t, r)
		moved = moved || different[r.Seq] != ""
		if why := different[r.Seq]; why != "" {
			require.NotEmpty(t, diffs, "seq %d %s is equal, though %s", r.Seq, r.Name, why)
		} else {
			require.Empty(t, diffs, "seq %d %s", r.Seq, r.Name)
		}
	}
	require.Len(t, records, 94)
}
