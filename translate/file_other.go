//go:build !unix

package translate

import (
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

func mapFile(int, int64, addr.Len, addr.Access) ([]byte, error) { return nil, errs.ErrNotSupported }

func unmapFile([]byte) {}
