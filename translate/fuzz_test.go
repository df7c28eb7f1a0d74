package translate_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// maxFuzz bounds an input, because the model is quadratic and shrinking a long
// input takes the fuzzer's whole time; some thirty operations fit.
const maxFuzz = 400

// fuzzArenas is memory for one process: a fuzz worker runs one case at a time.
func fuzzArenas(f *testing.F) func() translatetest.Arenas {
	all := arenas(f)
	return func() translatetest.Arenas {
		clear(all.Process)
		clear(all.ProcessCopy)
		clear(all.Remote)
		clear(all.RemoteCopy)
		return all
	}
}

// Oracle: after every operation that the input encodes, the store's answer and
// everything that can be seen of it equal the reference model's, and the store
// finds itself consistent; nothing panics.
func FuzzStoreAgainstModel(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	fresh := fuzzArenas(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzz {
			return
		}
		src, more := translatetest.Bytes(data)
		cfg := translatetest.ChooseConfig(src)
		d := translatetest.NewDuel(translatetest.OpenReal(t, cfg), cfg, fresh(), src)
		for more() {
			if err := d.Step(src); err != nil {
				t.Fatalf("%v\nconfig %+v, after:\n%s", err, *cfg, d.Log())
			}
		}
	})
}

// Oracle: a batch whose last step must fail fails there, and leaves the store
// equal to what it was before: mappings, their identities, limits, memory, the
// dirty log and the generation's promise (what was found is still found); and
// the same batch without its last step then succeeds as the model says.
func FuzzApplyRollsBack(f *testing.F) {
	for _, seed := range seeds {
		f.Add(uint8(1), seed)
		f.Add(uint8(5), seed)
	}
	fresh := fuzzArenas(f)
	f.Fuzz(func(t *testing.T, k uint8, data []byte) {
		if len(data) > maxFuzz {
			return
		}
		src, more := translatetest.Bytes(data)
		cfg := translatetest.ChooseConfig(src)
		real := translatetest.OpenReal(t, cfg)
		d := translatetest.NewDuel(real, cfg, fresh(), src)
		for range 12 { // a store with something in it
			require.NoError(t, d.Step(src), d.Log())
		}
		// A batch of up to k steps that the model accepts ...
		var good []translatetest.Op
		for range min(k, 32) {
			op := d.DrawOp(src)
			if d.Model.WouldApply(append(slices.Clone(good), op)...) == nil {
				good = append(good, op)
			}
			if !more() {
				break
			}
		}
		// ... and one that nothing makes legal.
		bad := append(slices.Clone(good), translatetest.Op{IOVA: 0x1001, Len: addr.PageSize, Access: addr.Read})
		before := slices.Collect(real.Store.Mappings())
		err := real.Apply(context.Background(), bad...)
		require.Error(t, err)
		require.NoError(t, d.Compare(src), "%v failed, the store is not as before: %s", bad, d.Log())
		require.Equal(t, before, slices.Collect(real.Store.Mappings()), "mappings have other identities")
		require.NoError(t, real.Apply(context.Background(), good...))
		require.NoError(t, d.Model.Apply(context.Background(), good...))
		require.NoError(t, d.Compare(src), d.Log())
	})
}

// seeds are inputs that reach deep: they were drawn by a generator and kept
// because each of them makes mappings, suspends, batches and writes.
var seeds = [][]byte{
	{},
	[]byte("\x03\x03\x03\x03\x00\x00\x00"),
	grow(1, 100), grow(2, 200), grow(3, 300), grow(4, 400), grow(5, 400), grow(77, 400),
}

// grow is n bytes of a fixed sequence, the same on every machine.
func grow(seed uint32, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}
