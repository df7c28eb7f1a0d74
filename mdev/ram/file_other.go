//go:build !linux

package ram

import (
	"fmt"
	"os"

	"github.com/softmdev/softmdev/mdev/errs"
)

// newFile: there is no file in memory that could be sealed.
func newFile(int64) (*os.File, error) {
	return nil, fmt.Errorf("memory to be mapped: %w", errs.ErrNotSupported)
}

func renewFile(*os.File, int64) error { return nil }
func wipeFile(*os.File, int64) error  { return nil }
