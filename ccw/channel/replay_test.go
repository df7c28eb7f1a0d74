package channel_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// architecture lists the programs of vec0 that end otherwise here than in
// their recording, and why: ccw.md section 10 names results of the recorded
// machine that contradict the architecture. Nothing else may differ.
var architecture = map[int]struct{ reason, scsw string }{
	22: {"format-0 zero count is a program check", "00004017000114d800200000"},
	23: {"format-0 zero count, with CD, is a program check", "000040170001161000200000"},
	24: {"format-0 zero count, in a data chain whose first CCW used up what the recording shows the device to have moved", "00004017000117500c400000"},
	30: {"TIC as the first CCW is a program check", "0000401700011bd800200000"},
	51: {"storage keys are not modelled; the recorded device moved nothing that was stored", "10004017000128800c400050"},
	70: {"MIDAW: the sum of the counts is too small", "00004017000261b80c200000"},
	72: {"MIDAW: a reserved flag bit is on", "00004017000262680c200000"},
	75: {"MIDAW: last is missing on the final word", "00004017000263580c200000"},
	90: {"read backward through a valid two-entry list", "000040070002d0180c000000"},
}

// recorder lists programs of qemu whose expectation is not that of the
// program.
var recorder = map[int]string{
	12:  "the SCSW belongs to another subchannel: its CCW address is not in the program",
	311: "the residual of a QEMU device is known to the SCSW alone, not to the trace",
}

func TestVectors(t *testing.T) {
	var p replayer
	seen := 0
	for _, r := range records(t, "vec0") {
		irb := p.run(r, 4<<20)
		diffs := p.against(r, &irb)
		want, differs := architecture[r.Seq]
		if !differs {
			require.Empty(t, diffs, "%d %q", r.Seq, r.Name)
			continue
		}
		seen++
		require.NotEmpty(t, diffs, "%d %q is as recorded: %s", r.Seq, r.Name, want.reason)
		require.Equal(t, mustHex(want.scsw), irb.SCSW[:], "%d %q: %s", r.Seq, r.Name, want.reason)
	}
	require.Equal(t, len(architecture), seen)
}

func TestRecordings(t *testing.T) {
	for _, scenario := range []string{"con3215", "qemu", "fba", "zipl", "dasdipl", "dasd"} {
		t.Run(scenario, func(t *testing.T) {
			var p replayer
			for _, r := range records(t, scenario) {
				irb := p.run(r, 1<<30)
				if r.PMCW == nil && irb.SCSW[1]&0x40 != 0 {
					// QEMU does not copy the ORB's P bit to the SCSW, as
					// the architecture says (ccw.md section 9).
					irb.SCSW[1] &^= 0x40
				}
				diffs := p.against(r, &irb)
				if scenario == "qemu" && recorder[r.Seq] != "" {
					require.Len(t, diffs, 1, recorder[r.Seq])
					continue
				}
				require.Empty(t, diffs, "%d %q", r.Seq, r.Name)
			}
		})
	}
}
