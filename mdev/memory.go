package mdev

import (
	"context"

	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Map maps n bytes of mem at iova for the device's DMA, by the rules and with
// the errors of [translate.Store.Map]; errs.ErrGone when the session is closed.
// Mapping is possible in every other state.
func (s *Session) Map(iova addr.IOVA, n addr.Len, mem translate.Memory, access addr.Access) error {
	if err := s.alive("map"); err != nil {
		return err
	}
	return s.store.Map(iova, n, mem, access)
}

// Unmap removes the mappings in [iova, iova+n), by the rules and with the
// errors of [translate.Store.Unmap], and returns their bytes. When it returns
// without an error the device has let go of the memory.
//
// It must not be called by the device or from inside a region access: it waits
// for the work that an access may have started.
func (s *Session) Unmap(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	if err := s.alive("unmap"); err != nil {
		return 0, err
	}
	return s.store.Unmap(ctx, iova, n)
}

// UnmapDirty is Unmap that reports what was written, see
// [translate.Store.UnmapDirty]. The dirty log must be on. What it reports is
// not reported by LogReport any more.
func (s *Session) UnmapDirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Len, error) {
	if err := s.alive("unmap"); err != nil {
		return 0, err
	}
	return s.store.UnmapDirty(ctx, iova, n, pageSize, bitmap)
}

// UnmapAll removes all mappings, see [translate.Store.UnmapAll].
func (s *Session) UnmapAll(ctx context.Context) (addr.Len, error) {
	if err := s.alive("unmap"); err != nil {
		return 0, err
	}
	return s.store.UnmapAll(ctx)
}

// SetIRQs is [IRQs.Set].
func (s *Session) SetIRQs(req IRQRequest) error { return s.irqs.Set(req) }

// alive refuses what comes after Close.
func (s *Session) alive(what string) error {
	if st := s.state.load(); st == StateClosing || st == StateClosed {
		return st.refuse(what)
	}
	return nil
}
