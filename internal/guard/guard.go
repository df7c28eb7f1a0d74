// Package guard copies to and from memory that may fault: a file mapping that
// a peer truncates raises SIGBUS when it is touched. The signal becomes an
// error of the one copy.
package guard

import (
	"runtime/debug"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Copy copies src to dst, which must be of one length. It returns an error
// that wraps errs.ErrFault if either faults; dst may then be written in part.
func Copy(dst, src []byte) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if e := recover(); e != nil {
			if _, ok := e.(interface{ Addr() uintptr }); !ok {
				panic(e)
			}
			err = errs.ErrFault
		}
	}()
	copy(dst, src)
	return nil
}
