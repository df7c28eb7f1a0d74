package translate

import (
	"io"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Kind says what stands behind a mapping.
type Kind uint8

const (
	// KindNone is the kind of the zero Memory.
	KindNone Kind = iota
	// KindBytes is memory of this process that cannot vanish.
	KindBytes
	// KindProcess is a range of this process's address space; touching it
	// may fault.
	KindProcess
	// KindFile is a file mapped by the store; touching it may fault.
	KindFile
	// KindRemote is memory reached by messages; it has no host address.
	KindRemote
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case KindNone:
		return "none"
	case KindBytes:
		return "bytes"
	case KindProcess:
		return "process"
	case KindFile:
		return "file"
	case KindRemote:
		return "remote"
	}
	return "unknown"
}

// RemoteMemory is memory reached by messages, such as the memory of a client
// that shared no file. Offset 0 is the first byte of the mapping. A short
// transfer must come with an error.
//
// The methods are called inside a reader section, so an Unmap waits for them:
// they must return in bounded time, and the goroutine that delivers their
// answer must not be the one that calls Unmap. They may be called from many
// readers at once.
type RemoteMemory interface {
	io.ReaderAt
	io.WriterAt
}

// Memory is what a mapping leads to. Make one with [Bytes], [Process], [File]
// or [Remote]; the zero Memory is refused.
type Memory struct {
	kind   Kind
	bytes  []byte
	hva    addr.HVA
	fd     int
	off    int64
	remote RemoteMemory
}

// Bytes is memory of this process that the caller vouches for: it stays
// readable and writable until the mapping is gone. It is copied without a
// guard, so memory that a peer can truncate must not come this way. The store
// keeps b alive. b must be at least as long as the mapping; it need not be
// aligned to a page.
func Bytes(b []byte) Memory { return Memory{kind: KindBytes, bytes: b} }

// Process is the address space of this process from hva on, aligned to the
// smallest page. Nothing need be there: touching it may fault at any time (a
// file mapped there may be truncated by a peer), and a fault becomes
// errs.ErrFault. It must not lie in Go's heap unless the caller keeps the
// object alive: that is what [Bytes] is for.
func Process(hva addr.HVA) Memory { return Memory{kind: KindProcess, hva: hva} }

// File is the file of descriptor fd from offset off on, aligned to the smallest
// page. The store maps it, shared, with the protection that the access of the
// mapping asks for, which fd must allow; mappings of one file share what the
// store has mapped, and what none of them needs any more is unmapped. It does
// not keep fd: the caller may close it when Map returns. The file may be
// shorter than the mapping, or become so: touching what is not there is
// errs.ErrFault, and it is there when the file grows. The store makes nothing
// in the file; a sparse one stays as it is where no access leads.
func File(fd int, off int64) Memory { return Memory{kind: KindFile, fd: fd, off: off} }

// Remote is memory reached by messages. Offsets beyond 2^63-1 cannot be
// expressed and read as errs.ErrFault.
func Remote(r RemoteMemory) Memory { return Memory{kind: KindRemote, remote: r} }

// Kind says what m is.
func (m Memory) Kind() Kind { return m.kind }

// check is what can be said of n bytes of m before anything is done.
func (m *Memory) check(n addr.Len) error {
	switch m.kind {
	case KindBytes:
		if uint64(len(m.bytes)) < uint64(n) {
			return errs.ErrInvalid
		}
	case KindRemote:
		if m.remote == nil {
			return errs.ErrInvalid
		}
	case KindFile:
		if m.fd < 0 || m.off < 0 {
			return errs.ErrInvalid
		}
	case KindProcess:
	default:
		return errs.ErrInvalid
	}
	return nil
}

// wraps reports whether n bytes of m would pass the last address or offset.
func (m *Memory) wraps(n addr.Len) bool {
	switch m.kind {
	case KindProcess:
		r, ok := addr.RangeOf(m.hva, n)
		return !ok || uint64(r.Last())>>(pointerBits-1)>>1 != 0
	case KindFile:
		return m.off >= 0 && uint64(n) > uint64(1<<63-1-m.off)+1
	}
	return false
}

// alignment is the address in m that must be aligned like the IOVA.
func (m *Memory) alignment() uint64 {
	switch m.kind {
	case KindProcess:
		return uint64(m.hva)
	case KindFile:
		return uint64(m.off)
	}
	return 0
}

// backing keeps the memory of one mapping until it is released.
type backing struct {
	bytes  []byte      // KindBytes: keeps it alive
	window *fileWindow // KindFile
}

// open makes n bytes of m reachable: their address, and what to release
// later. access says how they will be touched, look what the file is.
//
// Precondition: s.mu is held.
func (s *Store) open(m *Memory, n addr.Len, access addr.Access, look *fileLook) (base uint64, b backing, err error) {
	switch m.kind {
	case KindBytes:
		return uint64(hvaOf(m.bytes)), backing{bytes: m.bytes}, nil
	case KindProcess:
		return uint64(m.hva), backing{}, nil
	case KindFile:
		hva, w, err := s.files.open(m, n, access, look)
		return uint64(hva), backing{window: w}, err
	}
	return 0, backing{}, nil
}

// release cannot fail.
//
// Precondition: s.mu is held.
func (s *Store) release(b *backing) {
	if b.window != nil {
		s.files.close(b.window)
	}
	*b = backing{}
}
