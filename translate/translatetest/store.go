package translatetest

import (
	"context"
	"io"

	"github.com/softmdev/softmdev/translate/addr"
)

// Store is the method set that [Model] and [Real] share: the store as a table
// or a random test drives it. It differs from *translate.Store only where a
// test needs to see more: memory carries a shadow for the Model, and what is
// an iterator or a struct of capabilities there is a plain slice or struct
// here, which compares.
type Store interface {
	Map(iova addr.IOVA, n addr.Len, m Memory, access addr.Access) error
	Unmap(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error)
	UnmapAll(ctx context.Context) (addr.Len, error)
	Suspend(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error)
	SuspendAll(ctx context.Context) (addr.Len, error)
	Resume(iova addr.IOVA, n addr.Len, m Memory) error
	Apply(ctx context.Context, ops ...Op) error

	Info() Info
	Mappings() []Mapping

	DirtyStart() error
	DirtyStop() error
	DirtyGet(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64, clear bool) error
	MarkDirty(iova addr.IOVA, n addr.Len)

	// What a Reader offers, each call in a section of its own.
	Lookup(iova addr.IOVA) (Run, bool)
	Read(iova addr.IOVA, p []byte) error
	Write(iova addr.IOVA, p []byte) error
	CheckAccess(iova addr.IOVA, n addr.Len, want addr.Access) error

	Check() error
	Close() error
}

// Kind says what stands behind a mapping.
type Kind uint8

// The kinds that a random test maps. File memory is mapped by the store at an
// address that no model can foresee; tests of it stand by themselves.
const (
	Process Kind = iota // memory of this process, at HVA
	Remote              // reached by ReadAt and WriteAt
)

// Memory is one piece of memory in both worlds: what the store reaches and the
// shadow that the Model reads and writes instead. The two are different
// storage, so that a store which writes to a wrong place is seen.
type Memory struct {
	Kind   Kind
	HVA    addr.HVA // of Process memory
	Real   ReaderWriterAt
	Shadow ReaderWriterAt // nil: the Model's reads and writes fail the test
}

// ReaderWriterAt is translate.RemoteMemory.
type ReaderWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Op is one step of Apply: a map, or an unmap when Unmap is set.
type Op struct {
	Unmap  bool
	IOVA   addr.IOVA
	Len    addr.Len
	Mem    Memory
	Access addr.Access
}

// Mapping is one row of Mappings.
type Mapping struct {
	Range     addr.Range[addr.IOVA]
	Access    addr.Access
	Kind      Kind
	HVA       addr.HVA // 0 for remote and for suspended memory
	Suspended bool
}

// Run is what a look-up finds: the rest of the mapping from the address on.
type Run struct {
	HVA    addr.HVA // 0 for remote memory
	Len    addr.Len
	Access addr.Access
	Kind   Kind
}

// Info is what GET_INFO and its capability chain report.
type Info struct {
	PageSizes uint64
	Ranges    []addr.Range[addr.IOVA] // nil: all
	Avail     int
	MaxBitmap addr.Len // bytes
}

// Config configures a Model, and the store that is compared with it.
type Config struct {
	MaxMappings int                     // 0: 65535
	PageSizes   uint64                  // 0: 4 KiB and every larger power of two
	Ranges      []addr.Range[addr.IOVA] // empty: all
	V1          bool
}
