package translate

import (
	"context"
	"slices"

	"github.com/softmdev/softmdev/translate/addr"
)

// Holder keeps the memory of mappings in use between reader sections: pins.
// Before mappings vanish, every holder of the store is asked to let go.
//
// The methods are called one after another, never twice at once, and with no
// lock of the store that a holder could need: look-ups, readers, reports and
// MarkDirty work inside them. Operations that change the mappings wait, so a
// holder must not call one.
type Holder interface {
	// Drain stops new holds in rs, tells whoever holds, and waits until none
	// is left or ctx is done. An error names who is in the way and unwraps to
	// errs.ErrBusy; then nothing stays refused. After success new holds in rs
	// stay refused until Done. ctx is that of the operation, with the store's
	// deadline if it has none. Neither ctx nor rs may be kept.
	Drain(ctx context.Context, rs []addr.Range[addr.IOVA]) error
	// Done ends a successful Drain of the same rs, whether the mappings are
	// gone now or the operation failed.
	Done(rs []addr.Range[addr.IOVA])
}

// DirtyHolder is a Holder that knows what hardware may be writing right now.
// The dirty log reports such memory as dirty for as long as it is held, as
// type1 does with pinned pages: it may be written after any look at it.
//
// A holder that marks memory when it lets go of it (MarkDirty) and does not
// implement this loses no bit; it only reports later.
type DirtyHolder interface {
	Holder
	// Writable calls mark for each range that is held with write access.
	Writable(mark func(addr.Range[addr.IOVA]))
}

type holding struct{ h Holder }

// AddHolder registers h until remove is called. remove may be called more than
// once; it must not be called from a method of h.
func (s *Store) AddHolder(h Holder) (remove func()) {
	x := &holding{h}
	s.lockOp()
	defer s.unlockOp()
	s.holders = append(slices.Clip(s.holders), x)
	return func() {
		s.lockOp()
		defer s.unlockOp()
		if i := slices.Index(s.holders, x); i >= 0 {
			s.holders = slices.Delete(slices.Clone(s.holders), i, i+1)
		}
	}
}

// drain asks every holder to let go of rs. When one does not, those before it
// are released from their promise.
//
// Preconditions: s.mu is held and no other operation is under way. It is
// released during the calls.
func (s *Store) drain(ctx context.Context, rs []addr.Range[addr.IOVA]) error {
	b := s.bound
	if b == nil {
		b = new(boundedContext)
		s.bound = b
	}
	b.begin(ctx, s.deadline)
	defer func() {
		if !b.end() {
			s.bound = nil
		}
	}()
	s.unlockBusy()
	defer s.lockBusy()
	for i, x := range s.holders {
		if err := x.h.Drain(b, rs); err != nil {
			for _, y := range s.holders[:i] {
				y.h.Done(rs)
			}
			return err
		}
	}
	return nil
}

// done ends a successful drain. Preconditions as for drain.
func (s *Store) done(rs []addr.Range[addr.IOVA]) {
	s.unlockBusy()
	defer s.lockBusy()
	for _, x := range s.holders {
		x.h.Done(rs)
	}
}
