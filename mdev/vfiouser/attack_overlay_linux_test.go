//go:build linux

package vfiouser

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A file of an overlay, as in a container, has no disk's number and is one on a
// disk all the same. It takes the right to mount to see one.
func TestFileOfOverlay(t *testing.T) {
	dir := t.TempDir()
	var at [4]string
	for i, name := range []string{"lower", "upper", "work", "merged"} {
		at[i] = filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(at[i], 0o700))
	}
	if err := unix.Mount("overlay", at[3], "overlay", 0, "lowerdir="+at[0]+",upperdir="+at[1]+",workdir="+at[2]); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	defer func() { require.NoError(t, unix.Unmount(at[3], unix.MNT_DETACH)) }()
	f, err := os.Create(filepath.Join(at[3], "memory"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, checkFile(int(f.Fd()), false))
	require.NoError(t, checkFile(int(f.Fd()), true))
}
