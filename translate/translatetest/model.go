package translatetest

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Limits of the type1 interface.
const (
	defaultMappings = 65535   // dma_entry_limit
	maxBitmap       = 1 << 28 // DIRTY_BITMAP_SIZE_MAX, bytes
)

// Model is the reference store: a sorted slice of mappings under one mutex.
// Every rule is written the way the contract states it, one after another, and
// nothing is shared between rules to be quick. Its memory is the shadow of the
// memory it is given.
type Model struct {
	max    int                     // immutable
	page   addr.Len                // immutable; smallest page
	sizes  uint64                  // immutable
	ranges []addr.Range[addr.IOVA] // immutable
	v1     bool                    // immutable

	mu    sync.Mutex
	state modelState // guarded by mu
}

// modelState is all that changes; Apply rolls back by restoring a copy of it.
type modelState struct {
	maps     []modelMapping // ascending, disjoint
	tracking bool
	dirty    []addr.Range[addr.IOVA] // bytes written since they were last cleared, in any order
}

type modelMapping struct {
	r         addr.Range[addr.IOVA]
	mem       Memory
	access    addr.Access
	suspended bool
}

func (m modelMapping) bytes() addr.Len { n, _ := m.r.Len(); return n }

var _ Store = (*Model)(nil)

// NewModel is an empty Model; cfg may be nil.
func NewModel(cfg *Config) *Model {
	m := &Model{max: defaultMappings, sizes: ^addr.PageMask}
	if cfg != nil {
		if cfg.MaxMappings != 0 {
			m.max = cfg.MaxMappings
		}
		if cfg.PageSizes != 0 {
			m.sizes = cfg.PageSizes
		}
		m.ranges = slices.Clone(cfg.Ranges)
		m.v1 = cfg.V1
	}
	// vfio_update_pgsize_bitmap: sizes below the page are hidden, the page
	// itself offered instead.
	if m.sizes&addr.PageMask != 0 {
		m.sizes = m.sizes&^addr.PageMask | uint64(addr.PageSize)
	}
	m.page = 1 << bits.TrailingZeros64(m.sizes)
	return m
}

// Map is VFIO_IOMMU_MAP_DMA (A2), with its checks in the kernel's order.
func (m *Model) Map(iova addr.IOVA, n addr.Len, mem Memory, access addr.Access) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.mapOne(m, iova, n, mem, access)
}

// rangeOf is the part of A2 that map and resume share. The kernel looks at the
// wrap before the alignment here, and the other way round in unmap.
func (m *Model) rangeOf(iova addr.IOVA, n addr.Len, mem Memory) (addr.Range[addr.IOVA], error) {
	if n == 0 {
		return addr.Range[addr.IOVA]{}, errs.ErrInvalid
	}
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		return r, errs.ErrOverflow
	}
	if mem.Kind == translate.KindProcess {
		// Nor past what a pointer can hold: "does not fit the kernel type".
		if v, ok := addr.RangeOf(mem.HVA, n); !ok || v.Last() > addr.HVA(^uintptr(0)) {
			return r, errs.ErrOverflow
		}
	}
	return r, nil
}

// fits is what A2 says of vaddr and size beside the wrap: both are aligned, as
// the iova is, and - ours - bytes are as many as the mapping has. Go memory
// need not be aligned.
func (m *Model) fits(iova addr.IOVA, n addr.Len, mem Memory) error {
	a := uint64(iova) | uint64(n)
	switch mem.Kind {
	case translate.KindFile:
		a |= uint64(mem.Off)
	case translate.KindProcess:
		a |= uint64(mem.HVA)
	}
	if a&uint64(m.page-1) != 0 {
		return errs.ErrMisaligned
	}
	if mem.Kind == translate.KindBytes && mem.Len < n {
		return errs.ErrInvalid
	}
	return nil
}

func (s *modelState) mapOne(m *Model, iova addr.IOVA, n addr.Len, mem Memory, access addr.Access) error {
	r, err := m.rangeOf(iova, n, mem)
	if err != nil {
		return err
	}
	if access == 0 || access&^addr.ReadWrite != 0 {
		return errs.ErrInvalid
	}
	if err := m.fits(iova, n, mem); err != nil {
		return err
	}
	for _, old := range s.maps {
		if old.r.Overlaps(r) {
			return errs.ErrExists
		}
	}
	if len(s.maps) >= m.max {
		return errs.ErrNoSpace
	}
	if !m.valid(r) {
		return errs.ErrOutsideRange
	}
	s.maps = append(s.maps, modelMapping{r: r, mem: mem, access: access})
	slices.SortFunc(s.maps, func(a, b modelMapping) int {
		if a.r.Start() < b.r.Start() {
			return -1
		}
		return 1
	})
	return nil
}

// valid: wholly inside one of the ranges; no ranges means all
// (vfio_iommu_iova_dma_valid). A mapping over the seam of two adjoining ranges
// is inside neither.
func (m *Model) valid(r addr.Range[addr.IOVA]) bool {
	for _, w := range m.ranges {
		if w.Covers(r) {
			return true
		}
	}
	return len(m.ranges) == 0
}

// Unmap is VFIO_IOMMU_UNMAP_DMA (A3).
func (m *Model) Unmap(_ context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.unmap(m, iova, n)
}

func (s *modelState) unmap(m *Model, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	from, to, err := s.choose(m, iova, n)
	if err != nil {
		return 0, err
	}
	return s.remove(from, to), nil
}

// unmapArgs is the part of A3 that does not depend on the mappings. The kernel
// looks at the alignment before the wrap here, and the other way round in map.
func (m *Model) unmapArgs(iova addr.IOVA, n addr.Len) (r addr.Range[addr.IOVA], err error) {
	if uint64(iova)&uint64(m.page-1) != 0 {
		return r, errs.ErrMisaligned
	}
	if n == 0 {
		return r, errs.ErrInvalid
	}
	if uint64(n)&uint64(m.page-1) != 0 {
		return r, errs.ErrMisaligned
	}
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		return r, errs.ErrOverflow
	}
	return r, nil
}

// choose is which mappings, maps[from:to], an unmap or a suspend of n bytes at
// iova is about.
func (s *modelState) choose(m *Model, iova addr.IOVA, n addr.Len) (from, to int, err error) {
	r, err := m.unmapArgs(iova, n)
	if err != nil {
		return 0, 0, err
	}
	for from < len(s.maps) && s.maps[from].r.Last() < r.Start() {
		from++
	}
	for to = from; to < len(s.maps) && s.maps[to].r.Start() <= r.Last(); to++ {
	}
	if from == to {
		return from, to, nil // nothing there: success, size 0
	}
	if m.v1 {
		// A range that starts inside a mapping does nothing at all, even
		// if whole mappings follow in it.
		if s.maps[from].r.Start() < r.Start() {
			return from, from, nil
		}
		return from, to, nil // the last one goes whole, even past the range
	}
	if !r.Covers(s.maps[from].r) || !r.Covers(s.maps[to-1].r) {
		return 0, 0, errs.ErrBisects
	}
	return from, to, nil
}

func (s *modelState) remove(from, to int) addr.Len {
	var gone addr.Len
	for _, old := range s.maps[from:to] {
		gone += old.bytes()
		s.forget(old.r)
	}
	s.maps = slices.Concat(s.maps[:from], s.maps[to:])
	return gone
}

// UnmapAll is the flag ALL.
func (m *Model) UnmapAll(context.Context) (addr.Len, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.remove(0, len(m.state.maps)), nil
}

// Suspend is the flag VADDR of A3: the rules of unmap select; meeting one that
// is suspended already fails, and nothing has changed.
func (m *Model) Suspend(_ context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to, err := m.state.choose(m, iova, n)
	if err != nil {
		return 0, err
	}
	return m.state.suspend(from, to)
}

// SuspendAll is VADDR with ALL.
func (m *Model) SuspendAll(context.Context) (addr.Len, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.suspend(0, len(m.state.maps))
}

func (s *modelState) suspend(from, to int) (addr.Len, error) {
	for _, old := range s.maps[from:to] {
		if old.suspended {
			return 0, errs.ErrInvalid
		}
	}
	var n addr.Len
	for i := range s.maps[from:to] {
		s.maps[from+i].suspended = true
		n += s.maps[from+i].bytes()
	}
	return n, nil
}

// Resume is MAP_DMA with the flag VADDR (A2, last rows).
func (m *Model) Resume(iova addr.IOVA, n addr.Len, mem Memory) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.rangeOf(iova, n, mem)
	if err != nil {
		return err
	}
	if err := m.fits(iova, n, mem); err != nil {
		return err
	}
	any := false
	for i := range m.state.maps {
		old := &m.state.maps[i]
		if old.r == r && old.suspended {
			old.suspended = false
			old.mem = mem
			return nil
		}
		any = any || old.r.Overlaps(r)
	}
	if any {
		return errs.ErrInvalid // another extent, or not suspended
	}
	return errs.ErrNotFound
}

// Apply does the ops one after another, or none of them.
func (m *Model) Apply(_ context.Context, ops ...Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.apply(ops)
}

// WouldApply is what Apply would answer; nothing changes.
func (m *Model) WouldApply(ops ...Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.state.clone()
	defer func() { m.state = before }()
	return m.apply(ops)
}

func (m *Model) apply(ops []Op) error {
	before := m.state.clone()
	for i, op := range ops {
		var err error
		if op.Unmap {
			_, err = m.state.unmap(m, op.IOVA, op.Len)
		} else {
			err = m.state.mapOne(m, op.IOVA, op.Len, op.Mem, op.Access)
		}
		if err != nil {
			m.state = before
			return errs.In("op", i, err)
		}
	}
	return nil
}

func (s *modelState) clone() modelState {
	return modelState{slices.Clone(s.maps), s.tracking, slices.Clone(s.dirty)}
}

// Info implements [Store].
func (m *Model) Info() translate.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return translate.Info{
		PageSizes: m.sizes, Ranges: slices.Clone(m.ranges), DMAAvail: uint32(m.max - len(m.state.maps)),
		DirtyPageSizes: uint64(m.page), MaxDirtyBitmap: maxBitmap,
	}
}

// Mappings implements [Store].
func (m *Model) Mappings() []Mapping {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Mapping
	for _, old := range m.state.maps {
		row := Mapping{old.r, old.access, old.mem.Kind, old.mem.HVA, old.suspended}
		if old.suspended {
			row.HVA = 0
		}
		out = append(out, row)
	}
	return out
}

// Check proves what the rules above should keep true.
func (m *Model) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.state
	if len(s.maps) > m.max {
		return fmt.Errorf("model: %d mappings, limit %d", len(s.maps), m.max)
	}
	for i, old := range s.maps {
		if i > 0 && s.maps[i-1].r.Last() >= old.r.Start() {
			return fmt.Errorf("model: %v after %v", old.r, s.maps[i-1].r)
		}
	}
	return nil
}

// Close implements [Store].
func (m *Model) Close() error {
	_, err := m.UnmapAll(context.Background())
	return err
}
