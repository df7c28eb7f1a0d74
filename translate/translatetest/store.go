package translatetest

import (
	"context"

	"github.com/softmdev/softmdev/translate"
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
	UnmapDirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) (addr.Len, error)
	UnmapAll(ctx context.Context) (addr.Len, error)
	Suspend(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error)
	SuspendAll(ctx context.Context) (addr.Len, error)
	Resume(iova addr.IOVA, n addr.Len, m Memory) error
	Apply(ctx context.Context, ops ...Op) error

	Info() translate.Info
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

// Memory is one piece of memory in both worlds: what the store reaches and the
// shadow that the Model reads and writes instead. The two are different
// storage, so that a store which writes to a wrong place is seen. Make one
// with [BytesMemory], [ProcessMemory], [RemoteMemory] or [FileMemory].
//
// Memory of a file is mapped by the store at an address that no model can
// foresee, so the address is left out of what is compared.
type Memory struct {
	Kind   translate.Kind
	HVA    addr.HVA               // of the first byte, 0 for remote memory and files
	Len    addr.Len               // of Bytes memory
	Off    int64                  // of the first byte in the file
	Real   translate.Memory       // the store's
	Shadow translate.RemoteMemory // the Model's; nil: must not be read or written

	mirror translate.RemoteMemory // Real once more, for a Model in the place of the store
}

// BytesMemory is translate.Bytes(b); b is not empty and lives outside of the
// Go heap's reach (mmapped), so that its address is the memory's.
func BytesMemory(b []byte, shadow translate.RemoteMemory) Memory {
	return Memory{translate.KindBytes, HVAOf(b), addr.Len(len(b)), 0, translate.Bytes(b), shadow, RAM(b)}
}

// ProcessMemory is translate.Process(hva).
func ProcessMemory(hva addr.HVA, shadow translate.RemoteMemory) Memory {
	return Memory{translate.KindProcess, hva, 0, 0, translate.Process(hva), shadow, nil}
}

// RemoteMemory is translate.Remote(real).
func RemoteMemory(real, shadow translate.RemoteMemory) Memory {
	return Memory{translate.KindRemote, 0, 0, 0, translate.Remote(real), shadow, real}
}

// FileMemory is translate.File(fd, off); real is the same memory, mapped by the
// test.
func FileMemory(fd int, off int64, real, shadow translate.RemoteMemory) Memory {
	return Memory{translate.KindFile, 0, 0, off, translate.File(fd, off), shadow, real}
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
	Kind      translate.Kind // while suspended: what it was
	HVA       addr.HVA       // 0 for remote and for suspended memory and for files
	Suspended bool
}

// Run is what a look-up finds: the rest of the mapping from the address on.
type Run struct {
	HVA    addr.HVA // 0 for remote memory and for files
	Len    addr.Len
	Access addr.Access
	Kind   translate.Kind
}

// Config configures a Model, and the store that is compared with it.
type Config struct {
	MaxMappings int                     // 0: 65535
	PageSizes   uint64                  // 0: 4 KiB and every larger power of two
	Ranges      []addr.Range[addr.IOVA] // empty: all
	V1          bool
}
