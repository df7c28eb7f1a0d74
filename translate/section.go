package translate

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/softmdev/softmdev/mdev/errs"
)

// A reader section is what makes "no access after Unmap returns" true: Unmap
// unpublishes, then waits for every section that was open.
//
// The state word of a reader holds its nesting depth in the low byte and the
// number of finished sections above it. Opening a section must be ordered
// before the loads in it, which on most machines takes a full barrier, some
// 5 ns twice a section. Where the kernel has membarrier(2), a reader that has
// proved busy writes its word with plain stores, 0.5 ns, and the writer makes
// every running thread execute the barrier instead. Until then a reader is
// slow, so that a store whose readers are idle pays for no system call.
const (
	depthMask = 1<<8 - 1
	// promoteAfter is the number of sections after which a reader turns
	// fast.
	promoteAfter = 256
)

// Enter begins a section. Addresses found by Lookup are valid until Exit, and
// an Unmap of them waits until then: keep sections as short as one request,
// and change the store in none. Sections nest up to 255 deep.
func (r *Reader) Enter() {
	if fastSections && r.fast {
		r.state++
	} else {
		r.enterSlow()
	}
}

// Exit ends the section that the last Enter began.
func (r *Reader) Exit() {
	x := r.state - 1
	if x&depthMask == 0 {
		x += depthMask + 1
	}
	if fastSections && r.fast {
		r.state = x
	} else {
		atomic.StoreUint64(&r.state, x)
	}
}

//go:noinline
func (r *Reader) enterSlow() {
	if fastSections && r.state&depthMask == 0 && r.state/(depthMask+1) >= promoteAfter && registerBarrier() {
		// A writer that unpublishes before it sees this addition is seen by
		// every load after it; one that sees it uses the barrier.
		r.s.fast.Add(1)
		r.fast = true
		r.state++
		return
	}
	atomic.StoreUint64(&r.state, r.state+1)
}

func (r *Reader) inside() bool { return r.state&depthMask != 0 }

// quiesce waits until every section that was open when it was called is over.
// Afterwards no reader holds what was unpublished before. It fails with
// errs.ErrBusy when ctx ends first.
//
// Preconditions: s.mu is held and no other operation is under way. It is
// released while waiting.
func (s *Store) quiesce(ctx context.Context) error {
	if len(s.readers) == 0 {
		return nil
	}
	if s.fast.Load() != 0 {
		barrier()
	}
	for _, r := range s.readers {
		x := atomic.LoadUint64(&r.state)
		if x&depthMask == 0 {
			continue
		}
		if !r.over(x, 200) {
			return s.waitReaders(ctx)
		}
	}
	return nil
}

// quiet is quiesce without waiting: it reports whether no section is open.
//
// Precondition: s.mu is held.
func (s *Store) quiet() bool {
	if s.fast.Load() != 0 {
		barrier()
	}
	for _, r := range s.readers {
		if atomic.LoadUint64(&r.state)&depthMask != 0 {
			return false
		}
	}
	return true
}

// over spins until the section of state word x is over, or the given number
// of tries is spent.
func (r *Reader) over(x uint64, tries int) bool {
	for range tries {
		y := atomic.LoadUint64(&r.state)
		if y&depthMask == 0 || y/(depthMask+1) != x/(depthMask+1) {
			return true
		}
	}
	return false
}

// waitReaders is the patient part of quiesce: the store's lock is released, so
// that a section may use everything but operations that change the store.
func (s *Store) waitReaders(ctx context.Context) error {
	type wait struct {
		r *Reader
		x uint64
	}
	var left []wait
	for _, r := range s.readers {
		if x := atomic.LoadUint64(&r.state); x&depthMask != 0 {
			left = append(left, wait{r, x})
		}
	}
	var b boundedContext
	b.begin(ctx, s.deadline)
	defer b.end()
	s.unlockBusy()
	defer s.lockBusy()
	for tries := 0; ; tries++ {
		for len(left) > 0 && left[0].r.over(left[0].x, 1) {
			left = left[1:]
		}
		switch {
		case len(left) == 0:
			return nil
		case b.Err() != nil:
			return errSection
		case tries < 16:
			runtime.Gosched()
		default:
			time.Sleep(min(time.Millisecond, time.Microsecond<<min(tries-12, 10)))
		}
	}
}

// busyError is errs.ErrBusy and the name of who is in the way.
type busyError struct{ holder string }

func (e *busyError) Error() string { return "held by " + e.holder + ": " + errs.ErrBusy.Error() }
func (e *busyError) Unwrap() error { return errs.ErrBusy }

// errSection: a section that stays open is in the way.
var errSection error = &busyError{holder: "a reader section"}
