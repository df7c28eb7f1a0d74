package replay

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
)

// stopped is record 13 of vec0, NOP, read 80, NOP, ended by a halt or a clear
// at some point.
func stopped(t *testing.T, end recording.End, change func(r *recording.Record, s *cio.SCSW)) *recording.Record {
	r := clone(load(t, "vec0")[13])
	s := cio.SCSW(*r.Expect.SCSW)
	s.SetControl(cio.StartFunction | cio.HaltFunction | cio.StatusPending)
	r.End, r.Expect.IRB = end, nil
	change(r, &s)
	raw := [12]byte(s)
	r.Expect.SCSW = &raw
	return r
}

// A program that a halt or a clear ended is stopped where it was when it was
// recorded, on every way to the device: what the device then records replays
// equal, and is recorded the same again.
func TestStoppedWhereItWas(t *testing.T) {
	unended := func(s *recording.Step) { s.Ended, s.DStat, s.CStat, s.Resid = false, 0, 0, 0 }
	for _, tt := range []struct {
		name   string
		change func(r *recording.Record, s *cio.SCSW)
		steps  int
		stored int
	}{
		{"before hardware begins it", func(r *recording.Record, s *cio.SCSW) { r.Trace = nil }, 0, 0},
		{"before its first CCW", func(r *recording.Record, s *cio.SCSW) {
			r.Trace = nil
			s.SetControl(s.Control() | cio.PrimaryStatus)
		}, 0, 0},
		{"between two commands", func(r *recording.Record, s *cio.SCSW) { r.Trace = r.Trace[:1] }, 1, 0},
		{"before a command moved data", func(r *recording.Record, s *cio.SCSW) {
			r.Trace = r.Trace[:2]
			unended(&r.Trace[1])
			s.SetCount(80)
			r.Expect.Memory = nil
		}, 2, 0},
		{"in the middle of its data", func(r *recording.Record, s *cio.SCSW) {
			r.Trace = r.Trace[:2]
			unended(&r.Trace[1])
			s.SetCount(48)
			r.Expect.Memory = []recording.Segment{r.Expect.Memory[0].Sub(0, 32)}
		}, 2, 32},
		{"when it had ended", func(r *recording.Record, s *cio.SCSW) {}, 3, 80},
	} {
		for _, end := range []recording.End{recording.Halted, recording.Cleared} {
			t.Run(tt.name+", "+string(end), func(t *testing.T) {
				first := stopped(t, end, tt.change)
				var last *recording.Record
				for _, via := range []Via{Direct, Shared, Messages, Direct} {
					path := filepath.Join(t.TempDir(), "again.jsonl")
					live, err := recording.NewRecorder(path, nil)
					require.NoError(t, err)
					opt := Options{Via: via, Record: live, Poison: 0xa5}
					rec := first
					if last != nil {
						rec = last
					}
					part, err := group("made.jsonl", []*recording.Record{rec}, make([]int, 1), &opt)
					require.NoError(t, err)
					require.NoError(t, part[0].reset())
					_, err = part[0].Run(context.Background(), func(r *Result) {
						if last != nil {
							require.Equal(t, Pass, r.Outcome, "%+v", r.Diffs)
						}
					})
					require.NoError(t, err)
					require.NoError(t, live.Close())
					recs, _, err := recording.ReadFile(path, nil)
					require.NoError(t, err)
					require.Len(t, recs, 1)
					now := recs[0]
					now.HostNS = nil
					if last != nil {
						now.PMCW = last.PMCW // in which the last path used is told
						require.Equal(t, last, now)
					}
					last = now
				}
				require.Equal(t, end, last.End)
				require.Len(t, last.Trace, tt.steps)
				require.Len(t, bytesOf(last.Expect.Memory), tt.stored)
			})
		}
	}
}
