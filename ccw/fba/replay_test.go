package fba_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
)

// TestReplay runs the programs that a Linux with a 3370 issued, in order, from
// the image it started with. Every status, sense byte and byte of storage is
// compared.
func TestReplay(t *testing.T) {
	records := devicetest.Load(t, "fba")
	base, err := fba.Load(devicetest.TestData(t, "init", "fba-v140.fba.gz"), 0)
	require.NoError(t, err)
	img, err := fba.NewMemory(base)
	require.NoError(t, err)
	vol, err := fba.Open(img, nil)
	require.NoError(t, err)
	m := devicetest.MachineFor(vol, &records[0], 512<<20)
	for i := range records {
		require.Empty(t, m.Replay(t, &records[i]), "seq %d", records[i].Seq)
	}
	require.Len(t, records, 141)
}
