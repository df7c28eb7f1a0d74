package demo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/errs"
)

// A state in which more commands wait than can is refused in time and memory
// that do not depend on how many: the VMM waits for the answer, and with it
// everybody who waits for the VMM.
func TestAttackLoadManyCommands(t *testing.T) {
	from := withRAM(t)
	require.NoError(t, from.SetMigrationState(from.ctx, mdev.MigStopCopy))
	var state map[string]any
	require.NoError(t, json.Unmarshal(from.stream(), &state))
	for name, n := range map[string]int{"as many as fit": demo.MaxQueue, "one more": demo.MaxQueue + 1, "many": 200_000, "too many bytes": 400_000} {
		t.Run(name, func(t *testing.T) {
			to := newRig(t, nil)
			require.NoError(t, to.SetMigrationState(to.ctx, mdev.MigResuming))
			delete(state, "Queue")
			b, err := json.Marshal(state)
			require.NoError(t, err)
			b = append(b[:len(b)-1], `,"Queue":[`+strings.TrimSuffix(strings.Repeat("{},", n), ",")+`]}`...)
			begun := time.Now()
			err = to.WriteMigration(b)
			if err == nil {
				err = to.SetMigrationState(to.ctx, mdev.MigStop)
			}
			if n <= demo.MaxQueue {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.Less(t, len(err.Error()), 1000, "an error says what is wrong once")
			require.Less(t, time.Since(begun), 10*time.Second)
			require.NoError(t, to.Reset(to.ctx))
			require.Equal(t, uint32(0), to.read(demo.RegStatus)&demo.StatusBusy)
		})
	}
}

// Nothing that a stream says of a command lets it do what a guest's could not.
func TestAttackLoadForgedCommands(t *testing.T) {
	from := withRAM(t)
	require.NoError(t, from.SetMigrationState(from.ctx, mdev.MigStopCopy))
	var state map[string]any
	require.NoError(t, json.Unmarshal(from.stream(), &state))
	state["Ring"] = uint32(1<<32 - 1)
	state["Queue"] = []map[string]any{
		{"Op": uint32(math.MaxUint32), "Len": uint32(math.MaxUint32), "Vector": uint32(math.MaxUint32)},
		{"Op": 1, "Len": uint32(math.MaxUint32), "Src": base, "Dst": base},
		{"Op": 2, "Len": 4096, "Dst": uint64(1<<64 - 1), "Vector": uint32(1 << 31)},
		{"Op": 3, "Len": 1 << 20, "Src": uint64(1<<64 - 1<<20)},
	}
	state["Registers"] = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, len(mustDecode(t, state["Registers"]))))
	b, err := json.Marshal(state)
	require.NoError(t, err)
	to := withRAM(t)
	before := bytes.Clone(to.ram)
	require.NoError(t, to.SetMigrationState(to.ctx, mdev.MigResuming))
	err = to.WriteMigration(b)
	if err == nil {
		err = to.SetMigrationState(to.ctx, mdev.MigRunning)
	}
	if err != nil {
		require.ErrorIs(t, err, errs.ErrInvalid)
		require.NoError(t, to.Reset(to.ctx))
	}
	require.NoError(t, to.Quiesce(to.ctx))
	require.Equal(t, before, to.ram)
}

func mustDecode(t *testing.T, v any) []byte {
	b, err := base64.StdEncoding.DecodeString(v.(string))
	require.NoError(t, err)
	return b
}
