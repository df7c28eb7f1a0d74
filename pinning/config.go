package pinning

import (
	"fmt"
	"time"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Backend says what a pin does to the memory besides being accounted for.
type Backend uint8

// The backends.
const (
	// Emulated charges pages and gives them synthetic frames. It needs no
	// privilege and works with every kind of memory.
	Emulated Backend = iota
	// Locked also locks pages with mlock2, and gives them the frame numbers
	// of /proc/self/pagemap where the kernel tells them (CAP_SYS_ADMIN).
	// Remote memory cannot be locked and is refused. Linux only.
	Locked
)

// String names the backend.
func (b Backend) String() string {
	switch b {
	case Emulated:
		return "emulated"
	case Locked:
		return "locked"
	}
	return fmt.Sprintf("Backend(%d)", uint8(b))
}

// Unlimited, as a limit, is no limit.
const Unlimited = ^addr.Len(0)

const defaultDeadline = 5 * time.Second

// Config configures a [Pinner]. A nil *Config is the zero Config.
type Config struct {
	Backend Backend
	// Limit is how many bytes may be pinned at a time. 0 means the soft
	// RLIMIT_MEMLOCK of the process when New is called, whether or not the
	// process could exceed it; Unlimited means no limit. Limits count whole
	// pages.
	Limit addr.Len
	// PerOwner is how many bytes one owner may hold at a time; 0 means no
	// limit but Limit. A page that two owners hold counts for both here, and
	// once for Limit.
	PerOwner addr.Len
	// Deadline bounds the wait of an unmap for the holders of its pages,
	// also where its context (or the store, for one without a deadline)
	// would wait longer. 0 means as long as the context allows, and 5 s if
	// that has no deadline.
	Deadline time.Duration
	// Trace keeps the call stack of each Begin, for [Pinner.Leases]. It
	// costs about a microsecond a lease.
	Trace bool
	// Fault fails acquisition steps in tests; nil never does.
	Fault *fault.Points
}

// pages is a limit of n bytes as a number of whole pages; 0 bytes are none,
// Unlimited stays unlimited.
func limitPages(n addr.Len) uint64 {
	if n == Unlimited {
		return ^uint64(0) >> 1
	}
	return uint64(n) >> addr.PageShift
}

func (c *Config) check() error {
	if c.Backend > Locked {
		return fmt.Errorf("backend %s: %w", c.Backend, errs.ErrInvalid)
	}
	if c.Deadline < 0 {
		return fmt.Errorf("deadline %s: %w", c.Deadline, errs.ErrInvalid)
	}
	return nil
}
