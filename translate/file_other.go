//go:build !unix

package translate

import "github.com/softmdev/softmdev/mdev/errs"

func mapFile(int, int64, int, bool, bool) ([]byte, error) { return nil, errs.ErrNotSupported }

func unmapFile([]byte) {}
