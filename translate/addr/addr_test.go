package addr

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRangeOf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start IOVA
		n     Len
		last  IOVA
		ok    bool
	}{
		{"one byte", 0x1000, 1, 0x1000, true},
		{"one page", 0x1000, 0x1000, 0x1fff, true},
		{"nothing", 0x1000, 0, 0, false},
		{"last page below 2^64 (peers.md A2)", 0xffff_ffff_ffff_f000, 0x1000, 0xffff_ffff_ffff_ffff, true},
		{"one byte beyond 2^64", 0xffff_ffff_ffff_f000, 0x1001, 0, false},
		{"last byte of the space", ^IOVA(0), 1, ^IOVA(0), true},
		{"all but one byte", 0, ^Len(0), ^IOVA(0) - 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := RangeOf(tt.start, tt.n)
			require.Equal(t, tt.ok, ok)
			if ok {
				require.Equal(t, tt.last, r.Last())
				n, fits := r.Len()
				require.True(t, fits)
				require.Equal(t, tt.n, n)
			}
		})
	}
	_, fits := Whole[GPA]().Len()
	require.False(t, fits, "2^64 bytes fit no Len")
	require.Panics(t, func() { MustRange(GPA(1), 0) })
}

// Range algebra has laws, not examples.
func TestRangeLaws(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) Range[IOVA] {
		edge := rapid.OneOf(rapid.Uint64Range(0, 16), rapid.Uint64(), rapid.Uint64Range(^uint64(15), ^uint64(0)))
		a, b := IOVA(edge.Draw(t, "a")), IOVA(edge.Draw(t, "b"))
		r, _ := RangeLast(min(a, b), max(a, b))
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		r, s := gen.Draw(t, "r"), gen.Draw(t, "s")
		i, ok := r.Intersect(s)
		require.Equal(t, r.Overlaps(s), ok, "overlap is a non-empty intersection")
		require.Equal(t, r.Overlaps(s), s.Overlaps(r))
		if ok {
			require.True(t, r.Covers(i) && s.Covers(i))
			j, _ := s.Intersect(r)
			require.Equal(t, i, j)
		}
		require.Equal(t, r.Covers(s), r.Contains(s.Start()) && r.Contains(s.Last()))
		require.True(t, r.Pages().Covers(r))
		require.True(t, Aligned(r.Pages().Start(), PageSize))
		if n, fits := r.Len(); fits {
			back, ok := RangeOf(r.Start(), n)
			require.True(t, ok)
			require.Equal(t, r, back)
		}
	})
}

func TestText(t *testing.T) {
	require.Equal(t, "[0x1000, 0x1fff]", MustRange(HPA(0x1000), 0x1000).String())
	require.Equal(t, "0x7000", IOVA(0x7000).String())
	for a, want := range map[Access]string{0: "--", Read: "r-", Write: "-w", ReadWrite: "rw"} {
		require.Equal(t, want, a.String())
	}
	require.True(t, ReadWrite.Allows(Write))
	require.False(t, Read.Allows(ReadWrite))
	require.True(t, Read.Allows(0))
}

func TestAdd(t *testing.T) {
	_, ok := Add(HPA(^uint64(0)), 1)
	require.False(t, ok)
	a, ok := Add(HPA(0xff), 1)
	require.True(t, ok)
	require.Equal(t, HPA(0x100), a)
}
