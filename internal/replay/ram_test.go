package replay

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

func newRAM(t testing.TB, size addr.Len) *RAM {
	m, err := NewRAM(size, 0xa5)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func TestRAMIsPoisonAndSparse(t *testing.T) {
	m := newRAM(t, 1<<30)
	require.Equal(t, addr.Len(1<<30), m.Size())
	for _, a := range []addr.GPA{0, chunk - 1, chunk, 1<<30 - 1} {
		require.Equal(t, byte(0xa5), m.mem[a])
	}
	require.Empty(t, m.Sweep())
	n := 0
	count := func(int) { n++ }
	if m.written(count) == nil {
		require.Zero(t, n, "reading writes no page")
	}
	m.mem[3*chunk+5] = 1
	require.Equal(t, []addr.GPA{3 * chunk}, m.Sweep())
	require.Equal(t, byte(0xa5), m.mem[4*chunk+5], "chunks do not share writes")
	m.clearRange(3*chunk+5, 1)
	require.Empty(t, m.Sweep(), "written, but poison again")
	m.mem[1<<30-1] = 0
	require.NoError(t, m.discard())
	require.Empty(t, m.Sweep())
}

func TestNewRAMRefuses(t *testing.T) {
	for _, n := range []addr.Len{0, 4096, 4<<20 + 4096, 128 << 30} {
		_, err := NewRAM(n, 0)
		require.Error(t, err, "%d", n)
	}
}

// The cut of a record's memory covers every byte of its pages once: after
// the expected stores memory is equal, restore leaves poison, and changing
// any one byte of those pages is seen, at that byte.
func TestImageLooksAtEveryByteOnce(t *testing.T) {
	m := newRAM(t, 4<<20)
	segments := rapid.Custom(func(t *rapid.T) []recording.Segment {
		var segs []recording.Segment
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			s := recording.Segment{
				GPA: addr.GPA(rapid.IntRange(0, 5*4096).Draw(t, "gpa")),
				N:   addr.Len(rapid.IntRange(1, 6000).Draw(t, "len")), Fill: rapid.Byte().Draw(t, "fill"),
			}
			if rapid.Bool().Draw(t, "hex") {
				s.Data = make([]byte, s.N)
				for i := range s.Data {
					s.Data[i] = byte(i) ^ s.Fill
				}
				s.N = 0
			}
			if _, _, overlap := recording.Overlap(append(segs, s)); !overlap {
				segs = append(segs, s)
			}
		}
		return segs
	})
	rapid.Check(t, func(t *rapid.T) {
		require.NoError(t, m.discard())
		rec := &recording.Record{
			Memory: segments.Draw(t, "memory"),
			Expect: &recording.Expect{HasMemory: true, Memory: segments.Draw(t, "stores")},
		}
		im := newImage(rec)
		covered := addr.Len(0)
		for _, s := range im.want {
			covered += s.Len()
		}
		for _, s := range im.keep {
			covered += s.Len()
		}
		for _, g := range im.gaps {
			covered += g.n
		}
		require.Equal(t, addr.Len(len(im.pages))*addr.PageSize, covered)

		m.load(im.load)
		m.load(rec.Expect.Memory)
		require.True(t, im.equal(m, nil))
		require.Empty(t, im.differences(m, nil))
		if len(im.pages) > 0 {
			p := im.pages[rapid.IntRange(0, len(im.pages)-1).Draw(t, "page")]
			a := p + addr.GPA(rapid.IntRange(0, 4095).Draw(t, "byte"))
			m.mem[a] ^= 0x40
			require.False(t, im.equal(m, nil))
			runs := im.differences(m, nil)
			require.Len(t, runs, 1)
			require.Equal(t, a, runs[0].GPA)
			require.Equal(t, []byte{m.mem[a]}, runs[0].Got)
			require.Equal(t, []byte{m.mem[a] ^ 0x40}, runs[0].Want)
			m.mem[a] ^= 0x40
		}
		far := addr.GPA(0x200000)
		require.True(t, im.equal(m, []addr.GPA{far}))
		m.mem[far+7] = 0
		require.False(t, im.equal(m, []addr.GPA{far}))
		require.Len(t, im.differences(m, []addr.GPA{far}), 1)
		m.mem[far+7] = 0xa5
		im.restore(m)
		require.Empty(t, m.Sweep())
	})
}
