package translate

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

const (
	// DefaultMaxMappings is type1's dma_entry_limit.
	DefaultMaxMappings = 65535
	// defaultDeadline bounds a wait whose context has no deadline.
	defaultDeadline = 5 * time.Second
)

// Config sets the limits of a [Store]. The zero Config, or a nil one, is the
// default.
type Config struct {
	// MaxMappings is the entry limit, at most 2^20; 0 means
	// DefaultMaxMappings.
	MaxMappings int
	// PageSizes is the bitmap of supported page sizes; 0 means 4 KiB and
	// every larger power of two. The lowest bit is the alignment of every
	// mapping. Sizes below 4 KiB are replaced by 4 KiB, as type1 does.
	PageSizes uint64
	// Ranges are the valid IOVA windows; a mapping must lie wholly in one of
	// them. Empty means that all addresses are valid. What is reserved (an
	// MSI window) is a gap between them.
	Ranges []addr.Range[addr.IOVA]
	// V1 selects the unmap rules of VFIO_TYPE1_IOMMU; the default is
	// VFIO_TYPE1v2_IOMMU.
	V1 bool
	// Deadline bounds the wait for holders and readers when the context of
	// the call has no deadline; 0 means 5 s.
	Deadline time.Duration
	// MaxFileWindows is how many areas of the process's address space the
	// files behind the mappings may take, however many mappings there are; 0
	// means 1024. Mappings of one file need one, as a rule. The kernel gives
	// a process some 65,530 in all.
	MaxFileWindows int
	// MaxFileSpace is how much address space those areas may take; 0 means
	// 4 TiB, or a quarter of what there is if that is less. It is to be twice
	// the memory of a guest, and more where parts of it are read-only.
	MaxFileSpace addr.Len
	// Fault fails steps of mapping a file in tests; nil never does.
	Fault *fault.Points
}

// Store maps IOVA to memory by the rules of the kernel's type1 IOMMU. Make one
// with [New]. All methods may be called concurrently; operations that change
// the mappings are done one after another. See the package comment.
type Store struct {
	hot hot // what readers look at, on a cache line of its own

	max       int                     // immutable
	pageSizes uint64                  // immutable
	pageShift int                     // immutable; log2 of the smallest page
	ranges    []addr.Range[addr.IOVA] // immutable
	v1        bool                    // immutable
	deadline  time.Duration           // immutable

	// entries are the mappings by ID, in chunks that never move.
	entries []atomic.Pointer[entryChunk] // immutable slice
	fast    atomic.Int32                 // readers that need a barrier
	dirty   dirtyBudget

	mu      sync.Mutex
	idle    sync.Cond                   // guarded by mu; busy turned false
	busy    bool                        // guarded by mu; an operation is under way with mu released
	closed  bool                        // guarded by mu
	tree    tree                        // guarded by mu; changed only by the operation under way
	count   int                         // guarded by mu; mappings
	delta   int                         // guarded by mu; change of count by the transaction under way
	taken   int                         // guarded by mu; IDs taken by the transaction under way
	freeIDs []uint32                    // guarded by mu
	limbo   limbo                       // guarded by mu
	files   files                       // guarded by mu
	readers []*Reader                   // guarded by mu; copied on change
	holders []*holding                  // guarded by mu; copied on change
	vanish  func(addr.Range[addr.IOVA]) // guarded by mu; see DirtyVanished
	rs      [1]addr.Range[addr.IOVA]    // of the operation under way
	bound   *boundedContext             // of the operation under way; nil: to be made
}

// hot is read by every look-up and written by every unmap.
type hot struct {
	_        [64]byte
	gen      uint64 // atomic; odd while something vanishes; first, for its alignment
	view     atomic.Pointer[view]
	tracking atomic.Bool // the dirty log is on
	_        [64]byte
}

// entry is the cold part of a mapping.
type entry struct {
	// Immutable while a reader can see the mapping:
	start, last uint64       // first IOVA, offset of the last byte
	remote      RemoteMemory // of KindRemote

	hold  backing // guarded by Store.mu
	dirty dirtyLog
}

const entryChunkLen = 64

type entryChunk [entryChunkLen]entry

func (s *Store) entry(id uint32) *entry {
	return &s.entries[id/entryChunkLen].Load()[id%entryChunkLen]
}

// New returns an empty store. It fails with errs.ErrInvalid when a limit is out
// of bounds, the deadline negative, or the ranges overlap.
func New(cfg *Config) (*Store, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	s := &Store{
		max:       cmp.Or(cfg.MaxMappings, DefaultMaxMappings),
		pageSizes: cmp.Or(cfg.PageSizes, ^addr.PageMask),
		ranges:    slices.Clone(cfg.Ranges),
		v1:        cfg.V1,
		deadline:  cmp.Or(cfg.Deadline, defaultDeadline),
	}
	// vfio_iommu_type1.c vfio_update_pgsize_bitmap: sizes below the page are
	// hidden, the page itself offered in their stead.
	if s.pageSizes&addr.PageMask != 0 {
		s.pageSizes = s.pageSizes&^addr.PageMask | uint64(addr.PageSize)
	}
	s.pageShift = bits.TrailingZeros64(s.pageSizes)
	if s.max < 0 || s.max > maxMappings || s.deadline < 0 || cfg.MaxFileWindows < 0 {
		return nil, fmt.Errorf("limit of %d mappings, %d file windows, deadline %v: %w", s.max, cfg.MaxFileWindows, s.deadline, errs.ErrInvalid)
	}
	slices.SortFunc(s.ranges, func(a, b addr.Range[addr.IOVA]) int { return cmp.Compare(a.Start(), b.Start()) })
	for i := 1; i < len(s.ranges); i++ {
		if s.ranges[i-1].Overlaps(s.ranges[i]) {
			return nil, fmt.Errorf("valid ranges %v and %v overlap: %w", s.ranges[i-1], s.ranges[i], errs.ErrInvalid)
		}
	}
	// Twice the limit: a batch may replace every mapping, and the old ones
	// keep their IDs until no reader can see them.
	s.entries = make([]atomic.Pointer[entryChunk], 2*s.max/entryChunkLen+2)
	s.files.init(cfg)
	s.idle.L = &s.mu
	s.hot.gen = 2
	s.tree.init(&s.hot.view)
	return s, nil
}

// Close unmaps everything, as UnmapAll does with the store's own deadline, and
// refuses new mappings with errs.ErrGone from then on. When a holder does not
// let go it fails with errs.ErrBusy and the store stays as it was.
func (s *Store) Close() error {
	s.setClosed(true) // first, or a Map could slip in behind UnmapAll
	_, err := s.UnmapAll(context.Background())
	if err != nil {
		s.setClosed(false)
	}
	return err
}

func (s *Store) setClosed(closed bool) {
	s.lockOp()
	defer s.unlockOp()
	s.closed = closed
}

// Generation changes whenever something that a reader may have cached is gone
// or about to go. A cache of look-ups that were made inside a section is valid
// while the generation is the even number it was before they were made.
func (s *Store) Generation() uint64 { return atomic.LoadUint64(&s.hot.gen) }

// lockOp begins an operation that changes the store: after it no other one is
// under way.
func (s *Store) lockOp() {
	s.mu.Lock()
	for s.busy {
		s.idle.Wait()
	}
}

// unlockBusy releases the lock in the middle of an operation: look-ups,
// readers and reports go on, other operations wait.
func (s *Store) unlockBusy() {
	s.busy = true
	s.mu.Unlock()
}

// lockBusy resumes an operation after unlockBusy.
func (s *Store) lockBusy() {
	s.mu.Lock()
	s.busy = false
}

// unlockOp ends an operation, letting in one that waited.
func (s *Store) unlockOp() {
	s.mu.Unlock()
	s.idle.Signal()
}

// limbo holds what is unpublished but may still be in a reader's hands.
type limbo struct {
	recs, tables, ids []uint32
}

// reap recycles limbo. Precondition: a quiesce has succeeded since the last
// addition to it.
func (s *Store) reap() {
	l := &s.limbo
	s.tree.freeRecs = append(s.tree.freeRecs, l.recs...)
	for _, t := range l.tables {
		s.recycleTable(t)
	}
	for _, id := range l.ids {
		s.freeEntry(id)
	}
	l.recs, l.tables, l.ids = l.recs[:0], l.tables[:0], l.ids[:0]
}

func (s *Store) recycleTable(n uint32) {
	if s.tree.used[n] != 0 { // an old version, never emptied
		clear(s.tree.slots(n))
	}
	s.tree.freeTables = append(s.tree.freeTables, n)
}

// newEntry takes a free ID. Withdrawn mappings keep theirs while a section
// stays open; so that every entry that dma_avail promises can be had all the
// same, a transaction gets none beyond that.
func (s *Store) newEntry() (uint32, error) {
	if s.tree.cow && len(s.limbo.ids)+s.taken >= len(s.entries)*entryChunkLen-s.max {
		return 0, errSection
	}
	if n := len(s.freeIDs); n > 0 {
		id := s.freeIDs[n-1]
		s.freeIDs = s.freeIDs[:n-1]
		return id, nil
	}
	for i := range s.entries {
		if s.entries[i].Load() != nil {
			continue
		}
		s.entries[i].Store(new(entryChunk))
		for j := entryChunkLen - 1; j > 0; j-- {
			s.freeIDs = append(s.freeIDs, uint32(i*entryChunkLen+j))
		}
		return uint32(i * entryChunkLen), nil
	}
	return 0, errSection
}

// freeEntry releases the memory of a mapping that no reader can see and makes
// its ID free.
func (s *Store) freeEntry(id uint32) {
	e := s.entry(id)
	s.release(&e.hold)
	e.remote = nil
	s.dirty.drop(&e.dirty)
	s.freeIDs = append(s.freeIDs, id)
}
