package translate_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/translate/translatetest"
)

// arenas is fresh memory for a duel, page-aligned, outside the Go heap: a file
// and a mapping of it.
func arenas(t testing.TB) translatetest.Arenas {
	const size = translatetest.ArenaLen
	fd, err := unix.MemfdCreate("translate-arena", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "translate-arena")
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	require.NoError(t, file.Truncate(int64(size)))
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mem)) })
	return translatetest.Arenas{
		Process: mem, ProcessCopy: make([]byte, size),
		Remote: make([]byte, size), RemoteCopy: make([]byte, size),
		File: file,
	}
}

// mapped is n bytes outside the Go heap, page-aligned, until the test ends.
func mapped(t testing.TB, n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}

// Model: whatever is done to the store, it answers as the reference model
// does, and after each step everything that can be seen of the two is equal -
// mappings, limits, memory, look-ups at every edge, the dirty log - and the
// store finds itself consistent. rapid prints the operations on failure and
// shrinks them.
func TestStoreAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &closer{TB: t, rt: rt}
		defer c.close()
		duel(rt, c, func(cfg *translatetest.Config) translatetest.Store { return translatetest.OpenReal(c, cfg) })
	})
}

func duel(rt *rapid.T, t testing.TB, open func(*translatetest.Config) translatetest.Store) {
	source := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
	cfg := translatetest.ChooseConfig(source)
	d := translatetest.NewDuel(open(cfg), cfg, arenas(t), source)
	actions := map[string]func(*rapid.T){"": func(rt *rapid.T) {
		if err := d.Compare(source); err != nil {
			rt.Fatalf("%v\nconfig %+v, after:\n%s", err, *cfg, d.Log())
		}
	}}
	for _, op := range translatetest.Ops {
		actions[op] = func(rt *rapid.T) {
			if err := d.Do(op, source); err != nil {
				rt.Fatalf("%s: %v\nconfig %+v, after:\n%s", op, err, *cfg, d.Log())
			}
		}
	}
	rt.Repeat(actions)
}

// closer runs clean-ups when one case of a property ends, not when the test
// does: a property opens a hundred stores.
type closer struct {
	testing.TB
	rt  *rapid.T // takes the failures, so that rapid shrinks them
	fns []func()
}

func (c *closer) Errorf(format string, args ...any) { c.rt.Errorf(format, args...) }
func (c *closer) Fatalf(format string, args ...any) { c.rt.Fatalf(format, args...) }

func (c *closer) Cleanup(fn func()) { c.fns = append(c.fns, fn) }

func (c *closer) close() {
	for i := len(c.fns) - 1; i >= 0; i-- {
		c.fns[i]()
	}
}
