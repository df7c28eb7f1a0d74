package translatetest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

func TestFlip(t *testing.T) {
	f := NewFlip(0x7000, []byte{0, 1, 2, 3, 4, 5, 6, 7})
	p := make([]byte, 4)
	read := func(off int64) []byte {
		n, err := f.ReadAt(p, off)
		require.NoError(t, err)
		return p[:n]
	}
	require.Equal(t, []byte{0, 1, 2, 3}, read(0), "the first fetch sees the value")
	require.Empty(t, f.DoubleFetches())
	require.Equal(t, []byte{3, 2, 4, 5}, read(2), "the second fetch of 2 and 3 does not")
	require.Equal(t, []byte{0, 1, 5, 4}, read(2), "nor does the third see what the second saw")
	require.Equal(t, []addr.Range[addr.IOVA]{addr.MustRange(addr.IOVA(0x7002), 4)}, f.DoubleFetches())
	require.Equal(t, 6, f.Fetched())
	f.Reset()
	require.Empty(t, f.DoubleFetches())
	require.Equal(t, []byte{2, 3, 4, 5}, read(2), "a new request")
	n, err := f.WriteAt([]byte{9}, 2)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Empty(t, f.DoubleFetches(), "a write is not a fetch")
	f.Mutate(func(off int64, again int, b byte) byte { return 0xff })
	require.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, read(2))
	_, err = f.ReadAt(p, 6)
	require.Error(t, err, "a short read is an error")
	for _, off := range []int64{-1, 9, 1 << 62} {
		_, err = f.ReadAt(p, off)
		require.Error(t, err)
		_, err = f.WriteAt(p, off)
		require.Error(t, err)
	}
}

// A byte never reads as itself again, however often it is fetched.
func TestFlipNeverRepeatsTheValue(t *testing.T) {
	f := NewFlip(0, []byte{0x5a})
	p := make([]byte, 1)
	for i := range 1000 {
		_, err := f.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, i == 0, p[0] == 0x5a, "fetch %d", i)
	}
}

func TestTee(t *testing.T) {
	tee := NewTee(RAM(make([]byte, 8)))
	_, err := tee.WriteAt([]byte{1, 2}, 3)
	require.NoError(t, err)
	p := make([]byte, 4)
	_, err = tee.ReadAt(p, 2)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 1, 2, 0}, p)
	require.Equal(t, []MemoryAccess{{true, 3, 2}, {false, 2, 4}}, tee.Log())
	require.Equal(t, "write 0x3+0x2", tee.Log()[0].String())
	dead := errors.New("peer is gone")
	tee.Before(func(MemoryAccess) error { return dead })
	_, err = tee.ReadAt(p, 0)
	require.ErrorIs(t, err, dead)
	_, err = tee.WriteAt(p, 0)
	require.ErrorIs(t, err, dead)
	tee.Reset()
	require.Empty(t, tee.Log())
	tee.Before(nil)
	for _, off := range []int64{-1, 5, 9} {
		_, err = tee.ReadAt(p, off)
		require.Error(t, err)
		_, err = tee.WriteAt(p, off)
		require.Error(t, err)
	}
}
