package mdev

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The ways of a device with all states, as vfio_main.c lists them above
// vfio_from_fsm_table; pairs that are not here have a direct way, or none.
var migWays = []struct {
	way []MigState
}{
	{[]MigState{MigPreCopy, MigPreCopyP2P, MigStopCopy}},
	{[]MigState{MigPreCopy, MigRunning, MigRunningP2P}},
	{[]MigState{MigPreCopy, MigRunning, MigRunningP2P, MigStop}},
	{[]MigState{MigPreCopy, MigRunning, MigRunningP2P, MigStop, MigResuming}},
	{[]MigState{MigPreCopyP2P, MigRunningP2P, MigRunning}},
	{[]MigState{MigPreCopyP2P, MigRunningP2P, MigStop}},
	{[]MigState{MigPreCopyP2P, MigRunningP2P, MigStop, MigResuming}},
	{[]MigState{MigResuming, MigStop, MigRunningP2P}},
	{[]MigState{MigResuming, MigStop, MigRunningP2P, MigPreCopyP2P}},
	{[]MigState{MigResuming, MigStop, MigRunningP2P, MigRunning}},
	{[]MigState{MigResuming, MigStop, MigRunningP2P, MigRunning, MigPreCopy}},
	{[]MigState{MigResuming, MigStop, MigStopCopy}},
	{[]MigState{MigRunning, MigRunningP2P, MigPreCopyP2P}},
	{[]MigState{MigRunning, MigRunningP2P, MigStop}},
	{[]MigState{MigRunning, MigRunningP2P, MigStop, MigResuming}},
	{[]MigState{MigRunning, MigRunningP2P, MigStop, MigStopCopy}},
	{[]MigState{MigRunningP2P, MigRunning, MigPreCopy}},
	{[]MigState{MigRunningP2P, MigStop, MigResuming}},
	{[]MigState{MigRunningP2P, MigStop, MigStopCopy}},
	{[]MigState{MigStop, MigRunningP2P, MigPreCopyP2P}},
	{[]MigState{MigStop, MigRunningP2P, MigRunning}},
	{[]MigState{MigStop, MigRunningP2P, MigRunning, MigPreCopy}},
	{[]MigState{MigStopCopy, MigStop, MigResuming}},
	{[]MigState{MigStopCopy, MigStop, MigRunningP2P}},
	{[]MigState{MigStopCopy, MigStop, MigRunningP2P, MigRunning}},
}

// The direct ways, as vfio_main.c says which a driver must implement.
var migDirect = [][2]MigState{
	{MigResuming, MigStop}, {MigStop, MigResuming}, {MigStop, MigStopCopy}, {MigStopCopy, MigStop},
	{MigRunning, MigRunningP2P}, {MigRunningP2P, MigRunning}, {MigRunningP2P, MigStop}, {MigStop, MigRunningP2P},
	{MigRunning, MigPreCopy}, {MigPreCopy, MigRunning},
	{MigPreCopy, MigPreCopyP2P}, {MigPreCopyP2P, MigPreCopy}, {MigPreCopyP2P, MigRunningP2P},
	{MigPreCopyP2P, MigStopCopy}, {MigRunningP2P, MigPreCopyP2P},
}

// TestMigrationTable is every pair of states under every set of flags: the
// first step of the way above, with states that the device lacks stepped over.
func TestMigrationTable(t *testing.T) {
	ways := map[[2]MigState][]MigState{}
	for _, d := range migDirect {
		ways[d] = d[:]
	}
	for _, w := range migWays {
		key := [2]MigState{w.way[0], w.way[len(w.way)-1]}
		require.NotContains(t, ways, key)
		ways[key] = w.way
	}
	pairs := 0
	for have := range MigrationFlags(8) {
		for from := range numMigStates + 2 {
			for to := range numMigStates + 2 {
				next, ok := migNext(have, from, to)
				what := fmt.Sprintf("%v to %v with %#x", from, to, have)
				var want []MigState // the way, without what the device lacks
				for _, m := range ways[[2]MigState{from, to}] {
					if have&m.needs() == m.needs() {
						want = append(want, m)
					}
				}
				lacks := func(m MigState) bool {
					return m == MigError || m >= numMigStates || have&m.needs() != m.needs()
				}
				switch {
				case lacks(from) || lacks(to):
					require.False(t, ok, what)
				case from == to:
					require.True(t, ok, what)
					require.Equal(t, to, next, what)
				case from == MigStopCopy && (to == MigPreCopy || to == MigPreCopyP2P):
					require.Nil(t, want)
					require.False(t, ok, "%s: blocked", what)
				default:
					pairs++
					require.True(t, ok, what)
					require.GreaterOrEqual(t, len(want), 2, what)
					require.Equal(t, want[1], next, what)
				}
			}
		}
	}
	// With all flags 7 states: 42 pairs but the 2 that are blocked.
	require.Equal(t, 12+20+19+40, pairs, "pairs under the flags 1, 3, 5 and 7")
}

// Without P2P and PRE_COPY: the arcs that vfio_main.c names for that.
func TestMigrationStepsOverWhatIsNotThere(t *testing.T) {
	for _, x := range []struct {
		have           MigrationFlags
		from, to, next MigState
	}{
		{1, MigRunning, MigStop, MigStop},
		{1, MigStop, MigRunning, MigRunning},
		{1, MigRunning, MigStopCopy, MigStop},
		{1, MigStopCopy, MigRunning, MigStop},
		{5, MigPreCopy, MigStopCopy, MigStopCopy},
		{5, MigPreCopy, MigStop, MigRunning},
		{3, MigRunning, MigStop, MigRunningP2P},
	} {
		next, ok := migNext(x.have, x.from, x.to)
		require.True(t, ok)
		require.Equal(t, x.next, next, "%v to %v with %#x", x.from, x.to, x.have)
	}
}

func TestMigrationNames(t *testing.T) {
	// include/uapi/linux/vfio.h, enum vfio_device_mig_state
	for n, name := range []string{"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P", "MigState(8)"} {
		require.Equal(t, name, MigState(n).String())
	}
}
