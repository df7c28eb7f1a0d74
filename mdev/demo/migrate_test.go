package demo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// stream reads the migration stream to its end for now.
func (r *rig) stream() (all []byte) {
	p := make([]byte, 1000)
	for {
		n, err := r.ReadMigration(p)
		all = append(all, p[:n]...)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(r, err)
	}
}

// regions is what a guest sees of the device, BAR 0 to configuration space.
func (r *rig) regions() (all []byte) {
	for _, i := range []int{mdev.BAR0, mdev.BAR1, mdev.BAR2, mdev.Config} {
		p := make([]byte, r.Info().Regions[i].Size)
		require.NoError(r, r.Read(r.ctx, i, 0, p))
		all = append(all, p...)
	}
	return all
}

// A device moves with everything a guest can see, commands that wait included,
// and does those where it comes to; with and without PRE_COPY.
func TestMigration(t *testing.T) {
	for name, early := range map[string]bool{"STOP_COPY": false, "PRE_COPY": true} {
		t.Run(name, func(t *testing.T) {
			from := withRAM(t)
			from.dirty()
			require.Zero(t, from.do(cmd{op: demo.CommandChecksum, src: base, length: 4096}))
			require.NoError(t, from.Write(from.ctx, mdev.Config, pci.RegInterruptLine, []byte{11}))
			var state []byte
			if early {
				require.NoError(t, from.SetMigrationState(from.ctx, mdev.MigPreCopy))
				state = from.stream()
				require.NotEmpty(t, state)
			}
			require.NoError(t, from.Write(from.ctx, mdev.BAR2, 100, []byte("late")))
			from.write(demo.RegCounter, 4, 77)
			require.NoError(t, from.Quiesce(from.ctx))
			from.ring(cmd{op: demo.CommandFill, dst: base, length: 8, value: 0xa5, vector: 1})
			for range demo.MaxQueue - 1 {
				from.ring(cmd{op: demo.CommandRaise, vector: 2})
			}
			from.ring(cmd{op: demo.CommandRaise, vector: 3}) // finds the queue full
			seen := from.regions()
			require.NoError(t, from.SetMigrationState(from.ctx, mdev.MigStopCopy))
			state = append(state, from.stream()...)

			to := withRAM(t)
			before := bytes.Clone(to.ram)
			to.dirty()
			to.do(cmd{op: demo.CommandRaise, vector: 1})
			require.NoError(t, to.SetMigrationState(to.ctx, mdev.MigResuming))
			for len(state) > 0 {
				n := min(len(state), 777)
				require.NoError(t, to.WriteMigration(state[:n]))
				state = state[n:]
			}
			require.NoError(t, to.SetMigrationState(to.ctx, mdev.MigStop))
			require.Equal(t, seen, to.regions())
			to.silent()
			require.True(t, bytes.Equal(before, to.ram))
			require.NoError(t, to.SetMigrationState(to.ctx, mdev.MigRunning))
			to.interrupted(1)
			to.interrupted(3)
			for range demo.MaxQueue - 1 {
				to.interrupted(2)
			}
			to.silent()
			require.Equal(t, bytes.Repeat([]byte{0xa5}, 8), to.ram[:8])
			require.EqualValues(t, 77, to.read(demo.RegCounter))
			require.EqualValues(t, 1+1+demo.MaxQueue, to.read(demo.RegCompleted))
			require.Zero(t, to.read(demo.RegStatus))
			require.NotEqual(t, to.ram[:8], from.ram[:8], "it was not done where it came from")
		})
	}
}

// saved is the state of a device, by itself.
func saved(t testing.TB) []byte {
	r := withRAM(t)
	r.dirty()
	require.NoError(t, r.Quiesce(r.ctx))
	r.ring(cmd{op: demo.CommandCopy, src: base, dst: base + 4096, length: 1, vector: 1})
	var b bytes.Buffer
	require.NoError(t, r.dev.Save(r.ctx, &b))
	r.close()
	return b.Bytes()
}

// State that is none is refused, and a reset makes the device usable again.
func TestLoadRefuses(t *testing.T) {
	good := saved(t)
	change := func(f func(m map[string]any)) []byte {
		var m map[string]any
		require.NoError(t, json.Unmarshal(good, &m))
		f(m)
		b, err := json.Marshal(m)
		require.NoError(t, err)
		return b
	}
	command := map[string]any{"Op": 4}
	for name, state := range map[string][]byte{
		"nothing":                nil,
		"half of it":             good[:len(good)/2],
		"an array":               []byte("[1]"),
		"another version":        change(func(m map[string]any) { m["Version"] = 2 }),
		"the memory alone":       change(func(m map[string]any) { delete(m, "Registers"); delete(m, "Function"); delete(m, "Queue") }),
		"less memory":            change(func(m map[string]any) { m["Memory"] = "AAAA" }),
		"no registers":           change(func(m map[string]any) { m["Registers"] = "" }),
		"no function":            change(func(m map[string]any) { m["Function"] = "AAAA" }),
		"a vector that is none":  change(func(m map[string]any) { m["Queue"] = []any{map[string]any{"Vector": -1}} }),
		"too many commands":      change(func(m map[string]any) { m["Queue"] = slices.Repeat([]any{command}, demo.MaxQueue+1) }),
		"the memory behind all":  append(bytes.Clone(good), change(func(m map[string]any) { delete(m, "Function") })...),
		"more than a state has":  append([]byte(strings.Repeat(" ", 5<<20)), good...),
		"not base64":             change(func(m map[string]any) { m["Memory"] = "@@@@" }),
		"another kind of number": change(func(m map[string]any) { m["Ring"] = "1" }),
	} {
		t.Run(name, func(t *testing.T) {
			r := withRAM(t)
			require.NoError(t, r.Quiesce(r.ctx))
			require.ErrorIs(t, r.dev.Load(r.ctx, bytes.NewReader(state)), errs.ErrInvalid)
			require.NoError(t, r.Reset(r.ctx))
			r.Unquiesce()
			r.fresh()
			r.alive()
		})
	}
}

// FuzzLoad's oracle: whatever is loaded, registers that are read-only read as
// they did, no command waits that could not, the engine is refused nothing by
// package iommu, memory outside the guest's is untouched, and after a reset
// everything is as it was in the beginning.
func FuzzLoad(f *testing.F) {
	// The memory is most of a state, and says nothing: inputs have a word for it.
	short := []byte(`"MEM"`)
	long := []byte(`"` + base64.StdEncoding.EncodeToString(make([]byte, demo.BAR2Size)) + `"`)
	good := saved(f)
	from := bytes.Index(good, []byte(`"Memory":`)) + len(`"Memory":`)
	to := bytes.Index(good, []byte(`,"Registers"`))
	good = slices.Concat(good[:from], short, good[to:])
	f.Add(good)
	f.Add(append([]byte(`{"Version":1,"Memory":"MEM"}`), good...))
	f.Add([]byte(`{"Version":1,"Memory":"MEM","Queue":[{"Op":1,"Len":4096,"Src":1048576,"Dst":1052672}]}`))
	f.Fuzz(func(t *testing.T, state []byte) {
		state = bytes.ReplaceAll(state, short, long)
		r := newRig(t, nil)
		all := noise(3 * 4096)
		want := bytes.Clone(all)
		r.ram = all[4096:8192]
		require.NoError(t, r.Map(base, 4096, translate.Bytes(r.ram), addr.ReadWrite))
		require.NoError(t, r.Quiesce(r.ctx))
		_ = r.dev.Load(r.ctx, bytes.NewReader(state))
		require.EqualValues(t, demo.IDValue, r.read(demo.RegID))
		require.Zero(t, r.read(demo.RegVector)&^3)
		config := make([]byte, 4096)
		require.NoError(t, r.Read(r.ctx, mdev.Config, 0, config))
		found, err := pci.Walk(config)
		require.NoError(t, err)
		require.Equal(t, r.dev.Space.Capabilities(), found)
		r.Unquiesce()
		require.NoError(t, r.Quiesce(r.ctx))
		require.LessOrEqual(t, r.dev.Waiting(), demo.MaxQueue)
		require.NoError(t, r.Reset(r.ctx))
		r.Unquiesce()
		r.fresh()
		require.Zero(t, r.dev.Domain().FaultCount())
		require.Equal(t, want[:4096], all[:4096])
		require.Equal(t, want[8192:], all[8192:])
		for v := range r.irqs {
			for len(r.irqs[v]) > 0 {
				<-r.irqs[v]
			}
		}
		r.alive()
		r.close()
	})
}
