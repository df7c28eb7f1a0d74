package replay

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

const testdata = "../../testdata/ccw"

func load(t testing.TB, scenario string) []*recording.Record {
	recs, _, err := recording.ReadFile(filepath.Join(testdata, scenario+".jsonl.gz"), nil)
	require.NoError(t, err)
	return recs
}

// recording-ccw.md, "Replay recipe": 512 MiB, for dasd 1 GiB; vec0 ran on a
// machine of 4 MiB, beyond whose end some of its programs reach on purpose.
func TestMemorySize(t *testing.T) {
	for scenario, want := range map[string]addr.Len{
		"vec0": 4 << 20, "dasd": 1 << 30, "zipl": 512 << 20, "dasdipl": 4 << 20, "qemu": 32 << 20,
	} {
		got, _, ok := MemorySize(load(t, scenario))
		require.True(t, ok)
		require.Equal(t, want, got, scenario)
	}
}

func TestOperations(t *testing.T) {
	vec := load(t, "vec0")
	for _, tt := range []struct {
		seq  int
		name string
		ops  []operation
		lens []addr.Len // of the areas of the last operation
	}{
		{5, "fmt0 CD 30+50", []operation{{0, 1, 0x02, true, true}}, []addr.Len{30, 50}},
		{12, "fmt0 CD via TIC", []operation{{0, 2, 0x02, true, true}}, []addr.Len{30, 50}},
		{11, "fmt0 CD skip middle, bad skip address", []operation{{0, 2, 0x02, true, true}}, []addr.Len{10, 20, 50}},
		{29, "fmt0 TIC forward", []operation{{0, 0, 0x03, true, true}, {2, 2, 0x02, true, true}}, []addr.Len{80}},
		{25, "fmt0 invalid command 00", []operation{{0, 0, 0x00, true, false}}, []addr.Len{80}},
		{53, "fmt0 IDAW1 split at 2K", []operation{{0, 0, 0x02, true, true}}, []addr.Len{30, 50}},
		{54, "fmt0 IDAW1 second not on 2K", []operation{{0, 0, 0x02, true, true}}, []addr.Len{30}},
		{61, "fmt0 IDAW2 split at 4K", []operation{{0, 0, 0x02, true, true}}, []addr.Len{30, 50}},
		{66, "fmt0 MIDAW 3 pieces", []operation{{0, 0, 0x02, true, true}}, []addr.Len{10, 30, 40}},
		{90, "fmt0 tape read backward IDAW1", []operation{{0, 0, 0x0c, true, true}}, []addr.Len{40, 60}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.name, vec[tt.seq].Name)
			p := newProgram(vec[tt.seq])
			require.Equal(t, tt.ops, p.ops)
			list, _ := p.opAreas(&p.ops[len(p.ops)-1])
			var lens []addr.Len
			for _, a := range list {
				lens = append(lens, a.n)
			}
			require.Equal(t, tt.lens, lens)
		})
	}
}
