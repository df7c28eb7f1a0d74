package replay

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// want is what vec0 is expected to differ in, by seq, on any device, in format
// 0 and in format 1 (ccw.md section 10 and its notes on Hercules).
var vecRules = map[int]string{
	13: "immediate-length", 17: "immediate-length", 18: "immediate-length",
	22: "zero-count", 23: "zero-count", 24: "zero-count", 30: "tic-first", 51: "storage-key",
	70: "midaw-sum", 72: "midaw-reserved", 75: "midaw-last", 90: "read-backward-list",
}

func runAll(t testing.TB, opt *Options, paths ...string) map[string][]*Result {
	all, err := Load(paths, opt, nil)
	require.NoError(t, err)
	out := make(map[string][]*Result)
	for _, s := range all {
		sum, err := s.Run(context.Background(), func(r *Result) { out[s.Name] = append(out[s.Name], r) })
		require.NoError(t, err)
		require.Equal(t, s.Records(), sum.Programs)
	}
	return out
}

// Every recording of testdata is equal, or different as a rule says.
func TestTestdata(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  Options
	}{
		{"emulated where there is a model, contiguous frames", Options{Poison: 0xa5}},
		{"scripted, scattered frames", Options{Poison: 0x5a, Device: Scripted, Layout: iommu.Scattered, Seed: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, results := range runAll(t, &tt.opt, testdata) {
				for _, r := range results {
					switch {
					case name == "qemu":
						require.Equal(t, Expected, r.Outcome, "qemu %d", r.Seq)
						require.Equal(t, "prefetch-bit", r.Rules[0].Name)
					case name == "vec0":
						var rules []string
						for _, x := range r.Rules {
							rules = append(rules, x.Name)
						}
						if w := vecRules[r.Seq]; w != "" {
							require.Equal(t, []string{w}, rules, "vec0 %d", r.Seq)
						}
						require.NotEqual(t, Fail, r.Outcome, "vec0 %d: %+v", r.Seq, r.Diffs)
					default:
						require.Equal(t, Pass, r.Outcome, "%s %d: %+v", name, r.Seq, r.Diffs)
					}
				}
			}
		})
	}
}

// one runs a scenario made of records on the scripted device.
func one(t testing.TB, recs []*recording.Record, opt Options) []*Result {
	opt.Device = Scripted
	lines := make([]int, len(recs))
	all, err := group("made.jsonl", recs, lines, &opt)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.NoError(t, all[0].reset())
	var out []*Result
	_, err = all[0].Run(context.Background(), func(r *Result) { out = append(out, r) })
	require.NoError(t, err)
	return out
}

// A recorded value that is changed in any byte is a failure, also in a record
// with an expected difference: a rule corrects to one value, it does not look
// away. The architecture leaves open what a rule's reason says; those bytes are
// listed.
func TestEveryRecordedByteCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("every program many times")
	}
	recs := load(t, "vec0")
	for seq := range recs {
		rec := recs[seq]
		if rec.Op == recording.ResumeSubchannel {
			continue
		}
		base := one(t, []*recording.Record{rec}, Options{Poison: 0xa5})[0]
		require.NotEqual(t, Fail, base.Outcome, "%d %s: %+v", seq, rec.Name, base.Diffs)
		for i := range 12 {
			bad := clone(rec)
			raw := *rec.Expect.SCSW
			raw[i] ^= 0x80
			bad.Expect.SCSW = &raw
			bad.Expect.IRB = nil
			got := one(t, []*recording.Record{bad}, Options{Poison: 0xa5})[0]
			require.Equal(t, Fail, got.Outcome, "%d %s: SCSW byte %d", seq, rec.Name, i)
		}
		for i := range rec.Expect.Memory {
			s := &rec.Expect.Memory[i]
			for _, off := range []addr.Len{0, s.Len() - 1} {
				bad := clone(rec)
				var b [1]byte
				s.CopyTo(b[:], off)
				b[0] ^= 1
				poke(bad.Expect.Memory, s.GPA+addr.GPA(off), b[:])
				// The scripted device takes its data from the
				// expectation; so the translator's side is
				// changed: the recorded device delivered
				// something else.
				opt := Options{Poison: 0xa5}
				r := compareOnly(t, rec, bad, opt)
				if base.Outcome == Pass {
					require.Equal(t, Fail, r.Outcome, "%d %s: memory %#x", seq, rec.Name, uint64(s.GPA)+uint64(off))
				}
			}
		}
		// A store more than was recorded.
		if n := len(rec.Expect.Memory); n > 0 && base.Outcome == Pass {
			bad := clone(rec)
			bad.Expect.Memory = bad.Expect.Memory[:n-1]
			require.Equal(t, Fail, compareOnly(t, rec, bad, Options{Poison: 0xa5}).Outcome, "%d %s", seq, rec.Name)
		}
	}
}

// compareOnly runs rec and compares with what bad expects.
func compareOnly(t testing.TB, rec, bad *recording.Record, opt Options) *Result {
	opt.Device = Scripted
	all, err := group("made.jsonl", []*recording.Record{bad}, []int{1}, &opt)
	require.NoError(t, err)
	s := all[0]
	require.NoError(t, s.reset())
	ops := newProgram(rec).script()
	s.models[rec.Device.Key()].before = nil
	d := newScripted(KindUnknown)
	r := &prepared{script: ops}
	d.before(r)
	d.before = nil
	s.models[rec.Device.Key()] = d
	var out *Result
	_, err = s.Run(context.Background(), func(r *Result) { out = r })
	require.NoError(t, err)
	return out
}

// toFormat1 rewrites a format-0 record as its format-1 twin: the same program,
// and, where the format makes no difference, the same results.
func toFormat1(rec *recording.Record) *recording.Record {
	c := clone(rec)
	orb := cio.ORB{Raw: rec.ORB}
	orb.SetFormat1(true)
	c.ORB = orb.Raw
	done := map[addr.GPA]bool{}
	for i := range rec.Trace {
		s := &rec.Trace[i]
		if done[s.At] {
			continue
		}
		done[s.At] = true
		ccw := stepCCW(s)
		b := ccw.Encode1()
		poke(c.Memory, s.At, b[:])
	}
	w := cio.SCSW(*rec.Expect.SCSW)
	w.SetFlags(w.Flags() | cio.SCSWFormat1)
	raw := [12]byte(w)
	c.Expect.SCSW = &raw
	if len(rec.Expect.IRB) != 0 {
		c.Expect.IRB = slices.Concat(raw[:], rec.Expect.IRB[12:])
	}
	return c
}

// The format-1 twin of vec0 classifies like vec0: rules are not a list of
// records. Left out are the programs to which format 1 gives another meaning.
func TestFormat1Twin(t *testing.T) {
	other := map[int]string{
		12: "a transfer with a count is a program check", 27: "command 18 is invalid", 34: "a transfer with flags is a program check",
		22: "a zero count is allowed", 38: "the program address is in reach", 83: "an immediate command has incorrect length",
		44: "", 45: "", 46: "", 47: "",
	}
	recs := load(t, "vec0")
	for seq, rec := range recs {
		if _, no := other[seq]; no {
			continue
		}
		r := one(t, []*recording.Record{toFormat1(rec)}, Options{Poison: 0xa5, Memory: 4 << 20})[0]
		if want := vecRules[seq]; want != "" {
			require.Equal(t, Expected, r.Outcome, "%d %s: %+v", seq, rec.Name, r.Diffs)
			require.Equal(t, want, r.Rules[0].Name)
		} else if r.Outcome != Pass {
			require.Equal(t, Expected, r.Outcome, "%d %s: %+v", seq, rec.Name, r.Diffs)
			require.Equal(t, "reject-residual", r.Rules[0].Name, "%d %s", seq, rec.Name)
		}
	}
}

// A resumed program runs after the one that suspended, and alone from where
// it was suspended.
func TestResume(t *testing.T) {
	recs := load(t, "vec0")
	require.Equal(t, recording.ResumeSubchannel, recs[45].Op)
	both := one(t, recs[44:46], Options{})
	require.Equal(t, []Outcome{Pass, Pass}, []Outcome{both[0].Outcome, both[1].Outcome}, "%+v", both[1].Diffs)
	require.Empty(t, both[1].Note)
	alone := one(t, recs[45:46], Options{})[0]
	require.Equal(t, Pass, alone.Outcome, "%+v", alone.Diffs)
	require.Contains(t, alone.Note, "nothing is suspended")
	// A suspended program that nobody resumes is no obstacle.
	require.Equal(t, Pass, one(t, []*recording.Record{recs[44], recs[48]}, Options{})[1].Outcome)
}

// Halt and clear stop a program at its last recorded operation; what then is
// expected comes from the architecture: the function bits of the SCSW.
func TestHaltedAndCleared(t *testing.T) {
	for end, control := range map[recording.End]cio.Control{
		recording.Halted:  cio.StartFunction | cio.HaltFunction,
		recording.Cleared: cio.ClearFunction,
	} {
		rec := clone(load(t, "vec0")[13])
		rec.End = end
		rec.Trace = rec.Trace[:2]
		rec.Trace[1].Ended, rec.Trace[1].DStat, rec.Trace[1].CStat, rec.Trace[1].Resid = false, 0, 0, 0
		rec.Expect.IRB = nil
		r := one(t, []*recording.Record{rec}, Options{})[0]
		require.Equal(t, Fail, r.Outcome)
		var got cio.SCSW
		for _, d := range r.Diffs {
			switch d.Element {
			case "scsw":
				got = cio.SCSW(d.Got)
			case "esw":
				rec.Expect.ESW = (*[20]byte)(d.Got)
			}
		}
		require.Equal(t, control, got.FC(), "%s: %v", end, got)
		raw := [12]byte(got)
		rec.Expect.SCSW, rec.Expect.Memory = &raw, nil
		for _, d := range r.Diffs {
			require.NotEqual(t, "start", d.Element)
		}
		r = one(t, []*recording.Record{rec}, Options{})[0]
		require.Equal(t, Pass, r.Outcome, "%s: %+v", end, r.Diffs)
	}
}

// Without an expectation a record runs and is not passed.
func TestUnchecked(t *testing.T) {
	rec := clone(load(t, "con3215")[0])
	rec.Expect = nil
	require.Equal(t, Unchecked, one(t, []*recording.Record{rec}, Options{})[0].Outcome)
	rec = clone(load(t, "con3215")[0])
	rec.Expect.HasMemory, rec.Expect.Memory = false, nil
	require.Equal(t, Unchecked, one(t, []*recording.Record{rec}, Options{})[0].Outcome, "a status alone is no verdict")
	raw := *rec.Expect.SCSW
	raw[11]++
	rec.Expect.SCSW = &raw
	require.Equal(t, Fail, one(t, []*recording.Record{rec}, Options{})[0].Outcome, "but a wrong one is")
}

// A store into a page that no program of the recording names is found by the
// sweep at the end and pinned on its program by the second, careful pass.
func TestStrayStore(t *testing.T) {
	recs := load(t, "con3215")[:6]
	opt := Options{Device: Scripted, Poison: 0xa5}
	all, err := group("made.jsonl", recs, make([]int, len(recs)), &opt)
	require.NoError(t, err)
	s := all[0]
	s.hook = func(m *machine, seq int) {
		if seq == 3 {
			m.ram.mem[0x700007] = 1
		}
	}
	require.NoError(t, s.reset())
	var failed []*Result
	sum, err := s.Run(context.Background(), func(r *Result) {
		if r.Outcome == Fail {
			failed = append(failed, r)
		}
	})
	require.NoError(t, err)
	require.Equal(t, 1, sum.Outcomes[Fail])
	require.Len(t, failed, 1)
	require.Equal(t, 3, failed[0].Seq)
	require.Equal(t, addr.GPA(0x700000), failed[0].Diffs[0].GPA)
}

func TestKnownFile(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, KnownFile)
	m, err := loadKnown(p)
	require.NoError(t, err)
	require.Empty(t, m)
	good := Known{Scenario: "s", Seq: 3, Elements: []string{"scsw"}, Reason: "because"}
	for _, tt := range []struct {
		list []Known
		want string
	}{
		{[]Known{good}, ""},
		{[]Known{good, good}, "entry 1: s 3 is listed twice"},
		{[]Known{{Scenario: "s", Seq: 1, Elements: []string{"scsw"}}}, "entry 0: scenario, elements and reason are needed"},
		{[]Known{{Scenario: "s", Seq: 1, Elements: []string{"all"}, Reason: "r"}}, `entry 0: unknown element "all"`},
	} {
		b, err := json.Marshal(tt.list)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(p, b, 0o644))
		m, err := loadKnown(p)
		if tt.want == "" {
			require.NoError(t, err)
			require.Equal(t, good, m["s"][3])
			continue
		}
		require.ErrorContains(t, err, KnownFile+": "+tt.want)
	}
	require.True(t, good.covers([]Difference{{Element: "scsw"}}))
	require.False(t, good.covers([]Difference{{Element: "scsw"}, {Element: "memory"}}))
}

// The smallest recording still shows the difference, and only that.
func TestMinimize(t *testing.T) {
	recs := load(t, "vec0")[:20]
	bad := clone(recs[12])
	poke(bad.Expect.Memory, bad.Expect.Memory[1].GPA+7, []byte{0xee})
	poke(bad.Expect.Memory, bad.Expect.Memory[1].GPA+9, []byte{0xee})
	recs[12] = bad
	opt := Options{Poison: 0xa5}
	all, err := group(filepath.Join(testdata, "vec0.jsonl.gz"), recs, make([]int, len(recs)), &opt)
	require.NoError(t, err)
	m, err := all[0].Minimize(context.Background(), 12, nil)
	require.NoError(t, err)
	require.Equal(t, Fail, m.Result.Outcome)
	require.LessOrEqual(t, len(m.Records), 2)
	require.Len(t, m.Result.Diffs, 1, "%+v", m.Result.Diffs)
	require.Equal(t, bad.Expect.Memory[1].GPA+7, m.Result.Diffs[0].GPA)
	_, err = all[0].Minimize(context.Background(), 11, nil)
	require.ErrorIs(t, err, ErrNoDifference)
}

func TestDDMin(t *testing.T) {
	// Items 3 and 11 of 16 are needed.
	items := make([]int, 16)
	for i := range items {
		items[i] = i
	}
	ddmin(len(items), func(from, to int) bool {
		rest := slices.Delete(slices.Clone(items), from, to)
		if slices.Contains(rest, 3) && slices.Contains(rest, 11) {
			items = rest
			return true
		}
		return false
	})
	require.Equal(t, []int{3, 11}, items)
}

// FuzzReplay: a recording is hostile input. Whatever it says, replaying it ends
// with a verdict and leaves every page of the guest poison that it does not
// name, without a panic.
func FuzzReplay(f *testing.F) {
	for _, name := range []string{"vec0", "con3215", "dasdipl", "qemu"} {
		recs := load(f, name)
		for i := 0; i < len(recs); i += 1 + len(recs)/24 {
			if b := recording.Append(nil, recs[i]); len(b) < 20000 {
				f.Add(b)
			}
		}
	}
	lim := &recording.Limits{Line: 1 << 20, Image: 1 << 20}
	f.Fuzz(func(t *testing.T, line []byte) {
		rec, err := recording.Decode(line, lim)
		if err != nil {
			return
		}
		opt := Options{Device: Scripted, Poison: 0xa5, Memory: 8 << 20}
		all, err := group("fuzz.jsonl", []*recording.Record{rec}, []int{1}, &opt)
		if err != nil {
			return
		}
		require.NoError(t, all[0].reset())
		n := 0
		_, err = all[0].Run(context.Background(), func(r *Result) {
			n++
			for _, d := range r.Diffs {
				require.NotEqual(t, "reach", d.Element, "%s", d.Text)
			}
		})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

func BenchmarkReplayDASD(b *testing.B) {
	all, err := Load([]string{filepath.Join(testdata, "dasd.jsonl.gz")}, &Options{Poison: 0xa5}, nil)
	require.NoError(b, err)
	for b.Loop() {
		sum, err := all[0].Again(context.Background())
		require.NoError(b, err)
		b.ReportMetric(float64(sum.CCWs)/float64(sum.RunNS)*1e9, "CCW/s")
		b.ReportMetric(float64(sum.CCWs)/float64(sum.AllNS)*1e9, "all-CCW/s")
	}
}
