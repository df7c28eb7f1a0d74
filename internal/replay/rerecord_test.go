package replay

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// rerecord replays s and returns what its devices submitted, with the results.
func rerecord(t testing.TB, s *Scenario) ([]*recording.Record, []*Result) {
	var again []*recording.Record
	var results []*Result
	byKey := map[string]recording.Device{}
	for _, rec := range s.recs {
		byKey[rec.Device.Key()] = rec.Device
	}
	s.observe = func(seq int, key string, x *ccw.Submission) {
		require.NoError(t, x.Err)
		r := ccwdev.NewRecord(x, s.Name, byKey[key])
		r.Seq = seq
		again = append(again, r)
	}
	require.NoError(t, s.reset())
	_, err := s.Run(context.Background(), func(r *Result) { results = append(results, r) })
	require.NoError(t, err)
	return again, results
}

// Every program of the recordings is recorded again by the device that it is
// replayed on. Where the replay is equal to the recording, so is the new record:
// the same CCWs with the same status, the same memory stored, the same IRB, and
// of memory fetched all that the first recorder saw; and the new recording
// replays equal, on models and on the device side that it recorded itself.
func TestRecordedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("every program four times")
	}
	for _, tt := range []struct {
		name string
		opt  Options
	}{
		{"models", Options{Poison: 0xa5}},
		{"scripted, scattered frames", Options{Poison: 0x5a, Device: Scripted, Layout: iommu.Scattered, Seed: 5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all, err := Load([]string{testdata}, &tt.opt, nil)
			require.NoError(t, err)
			for _, s := range all {
				again, results := rerecord(t, s)
				require.Len(t, again, len(s.recs), s.Name)
				for i, r := range again {
					require.Equal(t, s.recs[i].Seq, r.Seq, s.Name)
					if results[i].Outcome == Pass {
						sameRecord(t, fmt.Sprintf("%s %d", s.Name, r.Seq), s.recs[i], r)
					}
				}
				opt := tt.opt
				if s.Name != "vec0" {
					// There the operator moved the deck between programs, as
					// the first recorder's machine had read it.
					replayAgain(t, s, again, opt)
				}
				opt.Device = Scripted
				replayAgain(t, s, again, opt)
			}
		})
	}
}

// replayAgain replays the records that s made anew, from the lines that a
// recorder would write.
func replayAgain(t testing.TB, s *Scenario, again []*recording.Record, opt Options) {
	t.Helper()
	var lines bytes.Buffer
	w := recording.NewWriter(&lines)
	for _, r := range again {
		require.NoError(t, w.Write(r))
	}
	in, err := recording.NewReader("again", &lines, nil)
	require.NoError(t, err)
	var recs []*recording.Record
	for range again {
		r, err := in.Next()
		require.NoError(t, err)
		recs = append(recs, r)
	}
	part, err := group(s.File, recs, make([]int, len(recs)), &opt)
	require.NoError(t, err)
	require.NoError(t, chain(part, &opt))
	require.Len(t, part, 1)
	require.NoError(t, part[0].reset())
	_, err = part[0].Run(context.Background(), func(r *Result) {
		require.Equal(t, Pass, r.Outcome, "%s %d again, %+v: %+v", s.Name, r.Seq, r.Err, r.Diffs)
	})
	require.NoError(t, err)
}

// sameRecord requires that got, which was recorded while want was replayed, says
// what want does.
func sameRecord(t testing.TB, where string, want, got *recording.Record) {
	t.Helper()
	require.Equal(t, want.Op, got.Op, where)
	require.Equal(t, want.Expect.SCSW, got.Expect.SCSW, where)
	require.Equal(t, want.Expect.ESW, got.Expect.ESW, where)
	require.Equal(t, want.Expect.ECW, got.Expect.ECW, where)
	require.Equal(t, bytesOf(want.Expect.Memory), bytesOf(got.Expect.Memory), where)
	scsw := cio.SCSW(*want.Expect.SCSW)
	fetched := bytesOf(got.Memory)
	for a, v := range bytesOf(want.Memory) {
		now, ok := fetched[a]
		// A command that is rejected may have taken its data, or not.
		require.True(t, ok || scsw.Device()&cio.UnitCheck != 0, "%s: %#x was fetched", where, uint64(a))
		require.True(t, !ok || v == now, "%s: %#x", where, uint64(a))
	}
	sameTrace(t, where, want, got)
}

func bytesOf(segs []recording.Segment) map[addr.GPA]byte {
	m := make(map[addr.GPA]byte)
	for i := range segs {
		b := make([]byte, segs[i].Len())
		segs[i].CopyTo(b, 0)
		for k, v := range b {
			m[segs[i].GPA+addr.GPA(k)] = v
		}
	}
	return m
}

// sameTrace compares the CCWs executed. Of a chain of data the recorders tell
// the status in different places; what ends an operation they agree on.
func sameTrace(t testing.TB, where string, want, got *recording.Record) {
	t.Helper()
	if strings.Contains(want.Name, "endless loop") {
		return // how often a channel goes round is its own affair
	}
	w, g := newProgram(want), newProgram(got)
	require.Equal(t, len(w.ops), len(g.ops), "%s: operations", where)
	for i := range w.ops {
		a, b := &want.Trace[w.ops[i].last], &got.Trace[g.ops[i].last]
		if a.Ended && cio.SubchannelStatus(a.CStat)&anyCheck != 0 {
			require.Equal(t, a.CStat, b.CStat, where) // at the CCW, or at one made up
			continue
		}
		require.Equal(t, w.ops[i].cmd, g.ops[i].cmd, where)
		if !a.Ended {
			continue
		}
		x := *b
		if w.ops[i].cmd.Class(w.f1) == cio.ClassControl {
			x.Resid = a.Resid // of immediate commands, see immediate-length
		}
		require.Equal(t, *a, x, "%s: operation %d", where, i)
	}
}
