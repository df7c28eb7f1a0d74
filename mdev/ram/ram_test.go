package ram_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/ram"
)

const size = 64 << 10

// each runs f for memory that traps and for memory that is mapped.
func each(t *testing.T, f func(t *testing.T, m *ram.Memory)) {
	for name, mappable := range map[string]bool{"traps": false, "mapped": true} {
		t.Run(name, func(t *testing.T) {
			if mappable && runtime.GOOS != "linux" {
				t.Skip("there is nothing to map on ", runtime.GOOS)
			}
			m, err := ram.New(size, mappable)
			require.NoError(t, err)
			t.Cleanup(m.Close)
			require.EqualValues(t, size, m.Size())
			require.Equal(t, mappable, m.File() != nil)
			f(t, m)
		})
	}
}

func TestReadAndWrite(t *testing.T) {
	each(t, func(t *testing.T, m *ram.Memory) {
		all := bytes.Repeat([]byte{1, 2, 3, 4}, size/4)
		n, err := m.WriteAt(all, 0)
		require.NoError(t, err)
		require.Equal(t, size, n)
		for _, row := range []struct {
			off int64
			n   int
			ok  bool
		}{
			{0, size, true}, {size, 0, true}, {size - 1, 1, true}, {7, 9, true},
			{size, 1, false}, {size - 1, 2, false}, {-1, 1, false}, {1 << 62, 1, false}, {0, size + 1, false},
		} {
			p := make([]byte, row.n)
			n, err := m.ReadAt(p, row.off)
			if !row.ok {
				require.ErrorIs(t, err, errs.ErrInvalid)
				_, err = m.WriteAt(p, row.off)
				require.ErrorIs(t, err, errs.ErrInvalid)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, row.n, n)
			require.Equal(t, all[row.off:int(row.off)+row.n], p)
		}
		got := make([]byte, size)
		_, err = m.ReadAt(got, 0)
		require.NoError(t, err)
		require.Equal(t, all, got, "what was refused wrote nothing")
		_, err = m.WriteAt([]byte{0xff}, size-1)
		require.NoError(t, err)
		saved, err := m.Append([]byte{9})
		require.NoError(t, err)
		require.Equal(t, append([]byte{9}, got[:size-1]...), saved[:size])
		require.ErrorIs(t, m.Load(saved), errs.ErrInvalid)
		require.ErrorIs(t, m.Load(nil), errs.ErrInvalid)
		require.NoError(t, m.Wipe())
		require.NoError(t, m.Load(saved[1:]))
		_, err = m.ReadAt(got, 0)
		require.NoError(t, err)
		require.Equal(t, saved[1:], got)
		for name, zero := range map[string]func() error{"wipe": m.Wipe, "renew": m.Renew} {
			_, err = m.WriteAt(all, 0)
			require.NoError(t, err)
			require.NoError(t, zero(), name)
			_, err = m.ReadAt(got, 0)
			require.NoError(t, err)
			require.Equal(t, make([]byte, size), got, name)
		}
	})
	for _, n := range []int64{0, -1} {
		_, err := ram.New(n, false)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
}
