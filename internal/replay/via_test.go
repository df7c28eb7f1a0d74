package replay

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/iommu"
)

// The recordings through devices that are served over vfio-user give what they
// give in this process: every record the same outcome, the same differences, the
// same rules, the same work.
func TestServed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		opt   Options
		files []string
	}{
		{"memory shared", Options{Via: Shared, Poison: 0xa5}, nil},
		{"memory shared, scripted, scattered", Options{Via: Shared, Poison: 0x5a, Device: Scripted, Layout: iommu.Scattered, Seed: 3}, nil},
		{"memory by messages", Options{Via: Messages, Poison: 0xa5}, []string{"con3215", "dasdipl", "vec0", "fba"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && tt.files == nil {
				t.Skip("every program twice")
			}
			paths := []string{testdata}
			if tt.files != nil {
				paths = nil
				for _, f := range tt.files {
					paths = append(paths, filepath.Join(testdata, f+".jsonl.gz"))
				}
			}
			direct := tt.opt
			direct.Via = Direct
			want, got := runAll(t, &direct, paths...), runAll(t, &tt.opt, paths...)
			for name, list := range want {
				for i, w := range list {
					require.Equal(t, told(w), told(got[name][i]), "%s %d", name, w.Seq)
				}
			}
		})
	}
}

// told is a result without what may differ: times, and the note on how a program
// was resumed.
func told(r *Result) string {
	x := *r
	x.RunNS, x.AllNS, x.Note, x.Rules = 0, 0, "", nil
	names := ""
	for _, rule := range r.Rules {
		names += " " + rule.Name
	}
	return fmt.Sprintf("%+v%s", x, names)
}

// What served devices record while the recordings are replayed on them is, byte
// for byte, the guest's submissions: it replays equal, on models and from the
// device side that was recorded, in this process and served.
func TestLiveRecording(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.jsonl")
	live, err := recording.NewRecorder(path, nil)
	require.NoError(t, err)
	files := []string{"con3215", "dasdipl", "zipl", "fba"}
	var paths []string
	for _, f := range files {
		paths = append(paths, filepath.Join(testdata, f+".jsonl.gz"))
	}
	want := runAll(t, &Options{Via: Shared, Poison: 0xa5, Record: live}, paths...)
	require.NoError(t, live.Close())
	recs, _, err := recording.ReadFile(path, nil)
	require.NoError(t, err)
	byName := map[string][]*recording.Record{}
	for _, r := range recs {
		byName[r.Scenario] = append(byName[r.Scenario], r)
	}
	for _, name := range files {
		old, again := load(t, name), byName[name]
		require.Len(t, again, len(old), name)
		for i := range old {
			require.Equal(t, Pass, want[name][i].Outcome)
			require.Equal(t, old[i].Seq, again[i].Seq)
			sameRecord(t, name, old[i], again[i])
			if old[i].ORB != [32]byte{} { // of an initial program load, which has none
				require.Equal(t, old[i].ORB[:12], again[i].ORB[:12])
			}
		}
	}
	for _, opt := range []Options{
		{Poison: 0xa5, Device: Scripted},
		{Poison: 0x5a, Device: Scripted, Layout: iommu.Scattered, Seed: 9, Via: Shared},
	} {
		for name, list := range runAll(t, &opt, path) {
			require.Len(t, list, len(byName[name]))
			for _, r := range list {
				require.Equal(t, Pass, r.Outcome, "%s %d, %v: %+v", name, r.Seq, r.Err, r.Diffs)
			}
		}
	}
}
