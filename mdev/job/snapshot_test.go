package job

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// counting is guest memory whose byte at an address tells how often it was
// read before: the first reading of it is value(a), the next is another.
type counting struct {
	reads   map[addr.IOVA]int
	missing func(a addr.IOVA) bool
}

func newCounting() *counting {
	return &counting{reads: map[addr.IOVA]int{}, missing: func(addr.IOVA) bool { return false }}
}

func value(a addr.IOVA) byte { return byte(a) ^ byte(a>>8)*31 ^ byte(a>>12)*7 }

func (c *counting) Read(a addr.IOVA, p []byte) error {
	for i := range p {
		if at := a + addr.IOVA(i); c.missing(at) {
			return errs.Addr("iova", uint64(at), errs.ErrNotMapped)
		}
	}
	for i := range p {
		at := a + addr.IOVA(i)
		p[i] = value(at) + byte(c.reads[at])
		c.reads[at]++
	}
	return nil
}

// A guest byte is fetched at most once between reset and reset, whatever
// overlapping requests for it come, and each sees what the first saw.
func TestSnapshotFetchesOnce(t *testing.T) {
	var s snapshot // reused, as by a job
	rapid.Check(t, func(t *rapid.T) {
		s.reset()
		mem := newCounting()
		bases := rapid.SliceOfN(rapid.SampledFrom([]addr.IOVA{
			0, 0x1000, 0x2000, 0x3000, 0x80000000, 1 << 40, 1<<40 + 0x800000, 1<<64 - 0x1000, 1<<64 - 0x3000, 0x123456000,
			0x4000, 0x5000, 0x6000, 0x7000, 0x8000, 0x9000,
		}), 1, 16).Draw(t, "bases")
		for range rapid.IntRange(1, 40).Draw(t, "fetches") {
			a := rapid.SampledFrom(bases).Draw(t, "base") + addr.IOVA(rapid.IntRange(0, 4095).Draw(t, "off"))
			n := rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 5000)).Draw(t, "n")
			b, err := s.fetch(mem, a, n)
			if _, fits := addr.RangeOf(a, addr.Len(n)); !fits {
				require.ErrorIs(t, err, errs.ErrOverflow)
				continue
			}
			require.NoError(t, err)
			require.Len(t, b, n)
			require.Equal(t, n, cap(b[:n:n]))
			for i := range b {
				if b[i] != value(a+addr.IOVA(i)) {
					t.Fatalf("%#x is not what was read first", uint64(a)+uint64(i))
				}
			}
		}
		for at, k := range mem.reads {
			if k != 1 {
				t.Fatalf("%#x was read %d times", uint64(at), k)
			}
		}
	})
}

// The mutant that the property is for: without memory of what was fetched the
// second request sees other bytes.
func TestSnapshotMutantWithoutMemory(t *testing.T) {
	mem := newCounting()
	var s snapshot
	first, err := s.fetch(mem, 0x1000, 8)
	require.NoError(t, err)
	before := bytes.Clone(first)
	s.reset()
	second, err := s.fetch(mem, 0x1000, 8)
	require.NoError(t, err)
	require.NotEqual(t, before, second)
}

// A request that fails keeps what it fetched, and fetches no byte of it again.
func TestSnapshotAfterAFailure(t *testing.T) {
	mem := newCounting()
	gone := true
	mem.missing = func(a addr.IOVA) bool { return gone && a >= 0x2000 }
	var s snapshot
	_, err := s.fetch(mem, 0x1FF0, 32)
	require.ErrorIs(t, err, errs.ErrNotMapped)
	gone = false
	b, err := s.fetch(mem, 0x1FF0, 32)
	require.NoError(t, err)
	for i := range b {
		require.Equal(t, value(0x1FF0+addr.IOVA(i)), b[i])
	}
}

// Bounds: pages of a request, bytes of a fetch; no memory without a limit.
func TestSnapshotBounds(t *testing.T) {
	mem := newCounting()
	var s snapshot
	for i := range maxPages {
		_, err := s.fetch(mem, addr.IOVA(i)<<20, 4)
		require.NoError(t, err)
	}
	_, err := s.fetch(mem, addr.IOVA(maxPages)<<20, 4)
	require.ErrorIs(t, err, errs.ErrBudget)
	b, err := s.fetch(mem, 0x500000, 4)
	require.NoError(t, err, "what is there can still be had")
	require.Equal(t, value(0x500000), b[0])
	_, err = s.fetch(mem, 0, maxFetchLen+int(addr.PageSize)+1)
	require.ErrorIs(t, err, errs.ErrBudget)
	s.reset()
	require.LessOrEqual(t, len(s.spare), keptPages)
	_, err = s.fetch(mem, addr.IOVA(maxPages)<<20, 4)
	require.NoError(t, err)
}

// The steady state allocates nothing.
func TestSnapshotAllocatesNothing(t *testing.T) {
	mem := quiet{}
	var s snapshot
	step := func() {
		for i := range addr.IOVA(15) {
			if _, err := s.fetch(mem, i<<13|0xFF8, 16); err != nil {
				t.Fatal(err)
			}
		}
		s.reset()
	}
	step()
	step()
	require.Zero(t, testing.AllocsPerRun(50, step))
}

type quiet struct{}

func (quiet) Read(addr.IOVA, []byte) error { return nil }
