package recording

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("RECORD_UNTIL_KILLED"); path != "" {
		recordUntilKilled(path)
	}
	os.Exit(m.Run())
}

// program is a record with n bytes of memory.
func program(scenario string, n int) *Record {
	return &Record{
		Scenario: scenario, Op: StartSubchannel, End: Ended, Source: LiveSource,
		Memory: []Segment{{GPA: 0x1000, Data: bytes.Repeat([]byte{1, 2, 3, 4}, (n+3)/4)[:n]}},
		Expect: &Expect{SCSW: &[12]byte{1}, HasMemory: true},
	}
}

func recorder(t testing.TB, path string, cfg *RecorderConfig) *Recorder {
	t.Helper()
	r, err := NewRecorder(path, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func recorded(t testing.TB, path string) []*Record {
	t.Helper()
	recs, _, err := ReadFile(path, nil)
	require.NoError(t, err)
	return recs
}

// What was recorded reads as it was, numbered within its scenario; a recorder
// that comes later goes on.
func TestRecorder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	var want []*Record
	for round := range 3 {
		r := recorder(t, path, nil)
		for i := range 4 {
			for _, s := range []string{"a", "b"} {
				p := program(s, 8+i)
				require.NoError(t, r.Record(p))
				require.Zero(t, p.Seq, "the caller's record stays as it is")
				p.Seq = 4*round + i
				want = append(want, p)
			}
		}
		st, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, RecorderStats{Written: 8, Size: st.Size()}, r.Stats())
		require.NoError(t, r.Close())
		require.ErrorIs(t, r.Record(program("a", 8)), os.ErrClosed)
	}
	require.Equal(t, want, recorded(t, path))
}

// A recording that ends anywhere in its last line, as a killed recorder leaves
// it, is told from one that is wrong, and the next recorder goes on behind the
// last whole line.
func TestRecorderGoesOnAfterAnyCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	first := append(Append(nil, program("s", 8)), '\n')
	second := Append(nil, program("s", 9))
	for n := range len(second) + 1 {
		require.NoError(t, os.WriteFile(path, append(bytes.Clone(first), second[:n]...), 0o600))
		whole := 1
		recs, _, err := ReadFile(path, nil)
		switch {
		case n == 0:
			require.NoError(t, err)
		case n == len(second):
			require.ErrorContains(t, err, "seq: 0 follows 0")
			continue
		default:
			require.ErrorIs(t, err, ErrUnfinished, "%d bytes", n)
			require.ErrorContains(t, err, "live.jsonl:2: ")
			require.ErrorContains(t, err, "line is cut off")
			require.Len(t, recs, 1)
		}
		r := recorder(t, path, nil)
		require.NoError(t, r.Record(program("s", 10)))
		require.NoError(t, r.Close())
		got := recorded(t, path)
		require.Len(t, got, whole+1)
		require.Equal(t, whole, got[whole].Seq)
		require.Len(t, got[whole].Memory[0].Data, 10)
	}
}

// A last line that lacks nothing but its newline is a record.
func TestRecorderEndsTheLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	require.NoError(t, os.WriteFile(path, Append(nil, program("s", 8)), 0o600))
	r := recorder(t, path, nil)
	require.NoError(t, r.Record(program("s", 9)))
	require.NoError(t, r.Close())
	require.Len(t, recorded(t, path), 2)
}

// Files that are no recording to go on with stay as they are.
func TestRecorderRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	line := string(Append(nil, program("s", 8))) + "\n"
	for _, tt := range []struct{ name, content, want string }{
		{"text", "a shopping list\n", "not a recording to go on with"},
		{"text without an end", "a shopping list", "not a recording to go on with"},
		{"other json", `{"a":1`, `unknown field "a"`},
		{"wrong in the middle", line + "{\n" + line, "line is cut off"},
		{"gzip", string(compressed(t, "gzip", []byte(line))), "is compressed"},
		{"zstd", string(compressed(t, "zstd", []byte(line))), "is compressed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "f")
			require.NoError(t, os.WriteFile(path, []byte(tt.content), 0o600))
			_, err := NewRecorder(path, nil)
			require.ErrorContains(t, err, tt.want)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, tt.content, string(b))
		})
	}
	_, err := NewRecorder(dir, nil)
	require.ErrorIs(t, err, unix.EISDIR)
	_, err = NewRecorder(filepath.Join(dir, "no", "f"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = NewRecorder("/dev/null", nil)
	require.ErrorIs(t, err, errs.ErrInvalid)
}

func TestRecorderHasTheFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	r := recorder(t, path, nil)
	_, err := NewRecorder(path, nil)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.NoError(t, r.Close())
	recorder(t, path, nil)
}

// No record goes into the file that its reader would refuse, and one that is
// refused leaves room for the next.
func TestRecorderLimits(t *testing.T) {
	lim := &Limits{Line: 600, Image: 100, Total: 2000}
	big := func(in string) *Record {
		p := program("s", 8)
		segs := []Segment{{GPA: 0, Fill: 1, N: 60}, {GPA: 100, Fill: 2, N: 60}}
		if in == "expect" {
			p.Expect.Memory = segs
		} else {
			p.Memory = segs
		}
		return p
	}
	long := program("s", 90)
	long.Name = strings.Repeat("x", 300)
	for _, tt := range []struct {
		name string
		p    any
		want error
	}{
		{"image", big("memory"), errs.ErrBudget},
		{"expected image", big("expect"), errs.ErrBudget},
		{"line", long, errs.ErrBudget},
		{"no scenario", program("", 8), errs.ErrInvalid},
		{"something else", "ssch", errs.ErrInvalid},
		{"nothing", nil, errs.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "live.jsonl")
			r := recorder(t, path, &RecorderConfig{Limits: lim})
			require.ErrorIs(t, r.Record(tt.p), tt.want)
			require.NoError(t, r.Record(program("s", 8)))
			require.Len(t, recorded(t, path), 1)
		})
	}
	t.Run("total", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "live.jsonl")
		r := recorder(t, path, &RecorderConfig{Limits: lim})
		n := 0
		for ; r.Record(program("s", 8)) == nil; n++ {
		}
		require.ErrorIs(t, r.Record(program("s", 8)), errs.ErrBudget)
		require.EqualValues(t, 2, r.Stats().Refused)
		recs, _, err := ReadFile(path, lim)
		require.NoError(t, err)
		require.Len(t, recs, n)
	})
	t.Run("scenarios", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "live.jsonl")
		r := recorder(t, path, nil)
		for i := range maxScenarios {
			require.NoError(t, r.Record(program(fmt.Sprint(i), 8)))
		}
		require.ErrorIs(t, r.Record(program("one more", 8)), errs.ErrBudget)
		require.NoError(t, r.Record(program("7", 8)))
		require.Len(t, recorded(t, path), maxScenarios+1)
	})
}

// Wherever a step fails the file holds whole records.
func TestRecorderFailNth(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "live.jsonl")
	begin := append(Append(nil, program("s", 8)), "\n{\"v\":1"...)
	fired := fault.Sweep(t, func(p *fault.Points) error {
		if err := os.WriteFile(path, begin, 0o600); err != nil {
			return err
		}
		r, err := NewRecorder(path, &RecorderConfig{Fault: p})
		if err != nil {
			return err
		}
		for range 3 {
			err = errors.Join(err, r.Record(program("s", 9)))
		}
		return errors.Join(err, r.Close())
	}, func() {
		recs, _, err := ReadFile(path, nil)
		if err != nil {
			require.ErrorIs(t, err, ErrUnfinished, "the cut that was there before")
		}
		require.GreaterOrEqual(t, len(recs), 1)
	})
	require.Equal(t, []string{"open", "scan", "truncate", "write", "write", "write"}, fired)
}

// When half a line can neither be finished nor taken back, nothing is put
// behind it.
func TestRecorderStopsBehindHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	r := recorder(t, path, nil)
	require.NoError(t, r.Record(program("s", 8)))
	r.mu.Lock()
	ro, err := os.Open(path) // a file that cannot be written or cut
	require.NoError(t, err)
	r.f, ro = ro, r.f
	r.mu.Unlock()
	defer ro.Close()
	require.ErrorIs(t, r.Record(program("s", 8)), unix.EBADF)
	require.ErrorContains(t, r.Record(program("s", 8)), "ends in half a line")
	require.Equal(t, uint64(2), r.Stats().Refused)
	require.Len(t, recorded(t, path), 1)
}

// Records of many devices do not mix, and each scenario counts for itself.
func TestRecorderConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	r := recorder(t, path, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 50 {
				if err := r.Record(program(fmt.Sprint(i), 1+k)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	count := map[string]int{}
	for _, rec := range recorded(t, path) {
		require.Equal(t, count[rec.Scenario], rec.Seq)
		require.Len(t, rec.Memory[0].Data, 1+rec.Seq)
		count[rec.Scenario]++
	}
	require.Len(t, count, 8)
}

// recordUntilKilled is the other process of TestRecorderKilled: lines of up to
// 2 MiB, as fast as they go.
func recordUntilKilled(path string) {
	r, err := NewRecorder(path, nil)
	for err == nil {
		err = r.Record(program("s", 1+rand.IntN(1<<20)))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A recorder that is killed at any moment leaves whole records, and at most
// one unfinished line behind them; the next one goes on.
func TestRecorderKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	path := filepath.Join(t.TempDir(), "live.jsonl")
	rounds, torn := 12, 0
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "RECORD_UNTIL_KILLED="+path)
		require.NoError(t, cmd.Start())
		for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
			if st, err := os.Stat(path); err == nil && st.Size() > 4<<20 {
				break
			}
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())

		recs, _, err := ReadFile(path, nil)
		if err != nil {
			require.ErrorIs(t, err, ErrUnfinished)
			torn++
		}
		for i, rec := range recs {
			require.Equal(t, i, rec.Seq)
		}
		r, err := NewRecorder(path, nil)
		require.NoError(t, err)
		require.NoError(t, r.Record(program("s", 8)))
		require.NoError(t, r.Close())
		require.Len(t, recorded(t, path), len(recs)+1)
		require.NoError(t, os.Truncate(path, 0))
	}
	t.Logf("%d of %d killed in the middle of a write", torn, rounds)
}

// A line that has room is made without allocating.
func TestAppendAllocatesNothing(t *testing.T) {
	p := program("s", 4096)
	p.PMCW, p.SenseBefore = new([28]byte), new([32]byte)
	p.Trace = []Step{{At: 0x1000, Cmd: 2, Ended: true}}
	b := Append(nil, p)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = Append(b[:0], p) }))
}

// The record of a hex line is its memory twice, not more.
func TestRecorderKeepsNoLargeLine(t *testing.T) {
	r := recorder(t, filepath.Join(t.TempDir(), "live.jsonl"), nil)
	require.NoError(t, r.Record(program("s", 1<<20)))
	require.Nil(t, r.buf)
	require.NoError(t, r.Record(program("s", 1<<10)))
	require.NotNil(t, r.buf)
}

func BenchmarkRecord(b *testing.B) {
	for _, n := range []int{512, 4096, 64 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, err := NewRecorder(filepath.Join(b.TempDir(), "live.jsonl"), &RecorderConfig{Limits: &Limits{Total: 1 << 50}})
			require.NoError(b, err)
			defer r.Close()
			p := program("s", n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Record(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
