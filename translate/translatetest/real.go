package translatetest

import (
	"context"
	"testing"

	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Real is a *translate.Store behind the interface [Store]. Its accesses go
// through one Reader, so that it is for one goroutine.
type Real struct {
	*translate.Store
	reader *translate.Reader
}

var _ Store = (*Real)(nil)

// OpenReal opens a store configured as the Model of the same cfg is, and
// closes it when the test ends, after a last check.
func OpenReal(t testing.TB, cfg *Config) *Real {
	t.Helper()
	s, err := cfg.open()
	if err != nil {
		t.Fatalf("open a store with %+v: %v", cfg, err)
	}
	real := &Real{s, s.NewReader()}
	t.Cleanup(func() {
		real.reader.Close()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	Check(t, s)
	return real
}

func (c *Config) open() (*translate.Store, error) {
	return translate.New(&translate.Config{
		MaxMappings: c.MaxMappings, PageSizes: c.PageSizes, Ranges: c.Ranges, V1: c.V1,
	})
}

// Map implements [Store].
func (s *Real) Map(iova addr.IOVA, n addr.Len, m Memory, access addr.Access) error {
	return s.Store.Map(iova, n, m.Real, access)
}

// Resume implements [Store].
func (s *Real) Resume(iova addr.IOVA, n addr.Len, m Memory) error {
	return s.Store.Resume(iova, n, m.Real)
}

// Apply implements [Store].
func (s *Real) Apply(ctx context.Context, ops ...Op) error {
	return s.Store.Apply(ctx, RealOps(ops)...)
}

// RealOps is ops for the store.
func RealOps(ops []Op) []translate.Op {
	var out []translate.Op
	for _, op := range ops {
		if op.Unmap {
			out = append(out, translate.UnmapOp(op.IOVA, op.Len))
		} else {
			out = append(out, translate.MapOp(op.IOVA, op.Len, op.Mem.Real, op.Access))
		}
	}
	return out
}

// Mappings implements [Store].
func (s *Real) Mappings() []Mapping {
	var out []Mapping
	for m := range s.Store.Mappings() {
		out = append(out, Mapping{m.Range, m.Access, m.Kind, foreseen(m.Kind, m.HVA), m.Suspended})
	}
	return out
}

// Lookup implements [Store].
func (s *Real) Lookup(iova addr.IOVA) (Run, bool) {
	s.reader.Enter()
	defer s.reader.Exit()
	run, ok := s.reader.Lookup(iova)
	if !ok {
		return Run{}, false
	}
	return Run{foreseen(run.Kind, run.HVA), run.Len, run.Access, run.Kind}, true
}

// foreseen is hva unless it is the address of a file, which a model does not
// know.
func foreseen(kind translate.Kind, hva addr.HVA) addr.HVA {
	if kind == translate.KindFile {
		return 0
	}
	return hva
}

// Read implements [Store].
func (s *Real) Read(iova addr.IOVA, p []byte) error {
	s.reader.Enter()
	defer s.reader.Exit()
	return s.reader.Read(iova, p)
}

// Write implements [Store].
func (s *Real) Write(iova addr.IOVA, p []byte) error {
	s.reader.Enter()
	defer s.reader.Exit()
	return s.reader.Write(iova, p)
}

// CheckAccess implements [Store].
func (s *Real) CheckAccess(iova addr.IOVA, n addr.Len, want addr.Access) error {
	s.reader.Enter()
	defer s.reader.Exit()
	return s.reader.Check(iova, n, want)
}
