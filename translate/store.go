package translate

import (
	"context"
	"iter"
	"time"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Config sets the limits of a Store. The zero Config is the default.
type Config struct {
	// MaxMappings is the entry limit; 0 means 65,535 (type1's
	// dma_entry_limit).
	MaxMappings int
	// PageSizes is the bitmap of supported page sizes; 0 means 4 KiB and
	// every larger power of two. The lowest bit is the alignment of every
	// mapping.
	PageSizes uint64
	// Ranges are the valid IOVA windows; empty means all.
	Ranges []addr.Range[addr.IOVA]
	// V1 selects the unmap rules of VFIO_TYPE1_IOMMU; the default is
	// VFIO_TYPE1v2_IOMMU.
	V1 bool
	// Deadline bounds the wait for holders and readers when the context has
	// no deadline; 0 means 5 s.
	Deadline time.Duration
}

// Store maps IOVA to memory.
type Store struct{ cfg Config }

// New returns an empty store. A nil cfg is the default.
func New(cfg *Config) (*Store, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	return &Store{cfg: *cfg}, nil
}

// Close unmaps everything.
func (s *Store) Close() error { return nil }

// Map adds a mapping.
func (s *Store) Map(iova addr.IOVA, n addr.Len, m Memory, access addr.Access) error {
	return errs.ErrNotSupported
}

// Unmap removes the mappings in a range.
func (s *Store) Unmap(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	return 0, errs.ErrNotSupported
}

// UnmapAll removes every mapping.
func (s *Store) UnmapAll(ctx context.Context) (addr.Len, error) { return 0, errs.ErrNotSupported }

// UnmapDirty is Unmap that also returns the dirty bits of what it removed.
func (s *Store) UnmapDirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Len, error) {
	return 0, errs.ErrNotSupported
}

// Suspend takes the memory from the mappings in a range.
func (s *Store) Suspend(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	return 0, errs.ErrNotSupported
}

// SuspendAll is Suspend of every mapping.
func (s *Store) SuspendAll(ctx context.Context) (addr.Len, error) { return 0, errs.ErrNotSupported }

// Resume gives new memory to a suspended mapping.
func (s *Store) Resume(iova addr.IOVA, n addr.Len, m Memory) error { return errs.ErrNotSupported }

// Op is one operation of a batch.
type Op struct {
	unmap  bool
	iova   addr.IOVA
	n      addr.Len
	mem    Memory
	access addr.Access
}

// MapOp is Map in a batch.
func MapOp(iova addr.IOVA, n addr.Len, m Memory, access addr.Access) Op {
	return Op{iova: iova, n: n, mem: m, access: access}
}

// UnmapOp is Unmap in a batch.
func UnmapOp(iova addr.IOVA, n addr.Len) Op { return Op{unmap: true, iova: iova, n: n} }

// Apply does all operations or none.
func (s *Store) Apply(ctx context.Context, ops ...Op) error { return errs.ErrNotSupported }

// Info is what VFIO_IOMMU_GET_INFO reports.
type Info struct {
	PageSizes      uint64                  // supported page sizes, one bit each
	Ranges         []addr.Range[addr.IOVA] // valid windows, sorted; never empty
	DMAAvail       uint32                  // mappings that may still be made
	DirtyPageSizes uint64                  // page sizes of the dirty log
	MaxDirtyBitmap addr.Len                // largest dirty bitmap, bytes
}

// Info reports the store's limits.
func (s *Store) Info() Info { return Info{} }

// Mapping describes one mapping.
type Mapping struct {
	Range     addr.Range[addr.IOVA]
	Access    addr.Access
	Kind      Kind
	HVA       addr.HVA // of the first byte; 0 for KindRemote and KindNone
	ID        uint32
	Suspended bool
}

// Mappings yields the mappings in ascending order.
func (s *Store) Mappings() iter.Seq[Mapping] { return func(func(Mapping) bool) {} }

// DirtyStart starts the dirty log.
func (s *Store) DirtyStart() error { return errs.ErrNotSupported }

// DirtyStop stops it.
func (s *Store) DirtyStop() error { return errs.ErrNotSupported }

// DirtyGet reports the dirty pages.
func (s *Store) DirtyGet(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64, clear bool) error {
	return errs.ErrNotSupported
}

// MarkDirty notes that memory was written behind the store's back.
func (s *Store) MarkDirty(iova addr.IOVA, n addr.Len) {}

// Generation changes whenever something that a reader may have cached is
// gone.
func (s *Store) Generation() uint64 { return 0 }

// Check verifies the store's structure.
func (s *Store) Check() error { return nil }

// Holder keeps memory of mappings in use between reader sections.
type Holder interface {
	// Drain stops new holds in rs, tells whoever holds, and waits until none
	// is left or ctx is done. On error nothing stays refused. After success
	// new holds in rs stay refused until Done. rs is valid during the call.
	Drain(ctx context.Context, rs []addr.Range[addr.IOVA]) error
	// Done ends a successful Drain of the same rs.
	Done(rs []addr.Range[addr.IOVA])
}

// DirtyHolder is a Holder that knows what hardware may be writing right now.
type DirtyHolder interface {
	Holder
	// Writable calls mark for every range held with write access.
	Writable(mark func(addr.Range[addr.IOVA]))
}

// AddHolder registers h.
func (s *Store) AddHolder(h Holder) (remove func()) { return func() {} }
