package job

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// countingMemory counts how often each byte is read, and changes it then.
type countingMemory map[addr.IOVA]int

func (m countingMemory) Read(iova addr.IOVA, p []byte) error {
	for i := range p {
		a := iova + addr.IOVA(i)
		p[i] = byte(a) + byte(a>>addr.PageShift) + byte(m[a])
		m[a]++
	}
	return nil
}

// Fetches at the edges of granules, pages and of what a snapshot takes: no
// byte is read twice, and every byte is the one that was read first.
func TestFetchEdges(t *testing.T) {
	const pageSize = int(addr.PageSize)
	for _, at := range []addr.IOVA{0, 4, 5, 0xffc, 0xfff, 0x1000, 0x7ffff000, ^addr.IOVA(0) - 0x1ffff, ^addr.IOVA(0)} {
		for _, n := range []int{0, 1, 3, 4, 5, 8, 255, 256, 257, pageSize - 1, pageSize, pageSize + 1, maxFetchLen - 1, maxFetchLen, maxFetchLen + 1, -1} {
			m, s := countingMemory{}, snapshot{}
			for range 2 {
				b, err := s.fetch(m, at, n)
				switch {
				case n <= 0:
					require.NoError(t, err)
					require.Empty(t, b)
				case n > maxFetchLen:
					require.ErrorIs(t, err, errs.ErrBudget)
				case uint64(at)+uint64(n)-1 < uint64(at):
					require.ErrorIs(t, err, errs.ErrOverflow)
				default:
					require.NoError(t, err)
					require.Len(t, b, n)
					for i := range b {
						a := at + addr.IOVA(i)
						require.Equal(t, byte(a)+byte(a>>addr.PageShift), b[i])
					}
				}
			}
			for a, times := range m {
				require.Equal(t, 1, times, "%v", a)
			}
		}
	}
}

// colliding are pages that the table of a snapshot would all put into one
// slot.
func colliding(n int) (pages []addr.IOVA) {
	for p := uint64(0); len(pages) < n; p++ {
		if p*hashFactor>>tableShift == 7 {
			pages = append(pages, addr.IOVA(p<<addr.PageShift))
		}
	}
	return pages
}

// As many pages as a snapshot takes, all in one slot: each is found again, one
// more is refused, and the next request starts from nothing.
func TestSnapshotOfCollidingPages(t *testing.T) {
	pages := colliding(maxPages + 1)
	var s snapshot
	for range 3 {
		m := countingMemory{}
		for range 2 {
			for i, p := range pages[:maxPages] {
				b, err := s.fetch(m, p+8, 8)
				require.NoError(t, err)
				require.Equal(t, byte(p>>addr.PageShift)+8, b[0], "page %d", i)
			}
			_, err := s.fetch(m, pages[maxPages], 8)
			require.ErrorIs(t, err, errs.ErrBudget)
			_, err = s.fetch(m, pages[0]+8, 8)
			require.NoError(t, err)
		}
		for a, times := range m {
			require.Equal(t, 1, times, "%v", a)
		}
		s.reset()
	}
}

// A charge that would pass the limit charges nothing; none wraps.
func TestChargesDoNotWrap(t *testing.T) {
	var b Budget
	b.reset(Limits{Elements: 10, Bytes: ^uint64(0)})
	require.NoError(t, b.Element(10))
	require.ErrorIs(t, b.Element(1), errs.ErrBudget)
	require.ErrorIs(t, b.Element(-1), errs.ErrBudget)
	require.NoError(t, b.Element(0))
	require.NoError(t, b.Moved(-1)) // 2^64-1 bytes, which the limit allows
	require.ErrorIs(t, b.Moved(1), errs.ErrBudget)
	require.Equal(t, Usage{Elements: 10, Bytes: ^uint64(0)}, b.Used())
}
