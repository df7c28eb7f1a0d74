//go:build !linux

package pinning

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// memlock: other systems have no such limit that could be asked for alike.
func memlock() (addr.Len, error) { return Unlimited, nil }

// locker is the Locked backend, which other systems do not have.
type locker struct{}

func newLocker() (*locker, error) {
	return nil, fmt.Errorf("locked backend: %w", errs.ErrNotSupported)
}

func (*locker) close() error { return nil }

func (p *Pinner) lockLocked(*window, uint64, uint32) error { return errs.ErrNotSupported }

func (p *Pinner) unlockLocked(*window, uint64, uint32) {}
