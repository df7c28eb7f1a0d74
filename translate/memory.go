package translate

import (
	"io"

	"github.com/softmdev/softmdev/translate/addr"
)

// Kind says what stands behind a mapping.
type Kind uint8

const (
	// KindNone is a mapping whose memory is suspended.
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
// that shared no file. Offset 0 is the first byte of the mapping.
//
// The methods are called inside a reader section, so an Unmap waits for them:
// they must return in bounded time, and the goroutine that delivers their
// answer must not be the one that calls Unmap.
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
// readable and writable until the mapping is gone. The store keeps b alive.
func Bytes(b []byte) Memory { return Memory{kind: KindBytes, bytes: b} }

// Process is the address space of this process from hva on. Touching it may
// fault (a file mapped there may be truncated by a peer); a fault becomes
// errs.ErrFault.
func Process(hva addr.HVA) Memory { return Memory{kind: KindProcess, hva: hva} }

// File is the file of descriptor fd from offset off on. The store maps it
// shared and does not keep fd: the caller may close it when Map returns.
func File(fd int, off int64) Memory { return Memory{kind: KindFile, fd: fd, off: off} }

// Remote is memory reached by messages.
func Remote(r RemoteMemory) Memory { return Memory{kind: KindRemote, remote: r} }

// Kind says what m is.
func (m Memory) Kind() Kind { return m.kind }
