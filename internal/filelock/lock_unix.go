//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filelock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Lock takes the lock on f, alone, or with others that share it. It does not
// wait: an error that matches errs.ErrBusy says that somebody else has the
// file.
func Lock(f *os.File, shared bool) error {
	how := unix.LOCK_EX | unix.LOCK_NB
	if shared {
		how = unix.LOCK_SH | unix.LOCK_NB
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("%s: in use: %w", f.Name(), errs.ErrBusy)
		case err != nil:
			return fmt.Errorf("%s: lock: %w", f.Name(), err)
		default:
			return nil
		}
	}
}
