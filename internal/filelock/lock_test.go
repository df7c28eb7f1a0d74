//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filelock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Who is let in beside whom, and that a closed file is free again; also by
// another name of the file.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	other := path + "2"
	require.NoError(t, os.Link(path, other))
	for _, tt := range []struct {
		name          string
		first, second bool // shared
		refused       bool
	}{
		{"alone, alone", false, false, true},
		{"alone, shared", false, true, true},
		{"shared, alone", true, false, true},
		{"shared, shared", true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := os.Open(path)
			require.NoError(t, err)
			defer a.Close()
			b, err := os.Open(other)
			require.NoError(t, err)
			defer b.Close()
			require.NoError(t, Lock(a, tt.first))
			err = Lock(b, tt.second)
			if !tt.refused {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, errs.ErrBusy)
			require.ErrorContains(t, err, other+": in use")
			require.NoError(t, a.Close())
			require.NoError(t, Lock(b, tt.second))
		})
	}
}
