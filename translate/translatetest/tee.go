package translatetest

import (
	"fmt"
	"io"
	"sync"
)

// MemoryAccess is one access that a [Tee] saw.
type MemoryAccess struct {
	Write bool
	Off   int64 // of the first byte, from the start of the mapping
	Len   int   // bytes asked for
}

func (a MemoryAccess) String() string {
	if a.Write {
		return fmt.Sprintf("write %#x+%#x", a.Off, a.Len)
	}
	return fmt.Sprintf("read %#x+%#x", a.Off, a.Len)
}

// Tee is remote memory that hands every access to the memory under it and
// writes it down. It shows what a peer at the other end of a socket would see:
// how many messages a request costs, and which bytes were asked for.
//
// All methods may be used concurrently when the memory below may.
type Tee struct {
	mem interface {
		io.ReaderAt
		io.WriterAt
	}

	mu     sync.Mutex
	log    []MemoryAccess           // guarded by mu
	before func(MemoryAccess) error // guarded by mu
}

// NewTee records the accesses to mem.
func NewTee(mem interface {
	io.ReaderAt
	io.WriterAt
}) *Tee {
	return &Tee{mem: mem}
}

// Before is called ahead of each access, without a lock. Its error becomes the
// access's result, with no byte moved: a peer that died, a time-out. It may
// block, to hold an access open while a test does something else.
func (t *Tee) Before(fn func(MemoryAccess) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before = fn
}

// Log is the accesses so far, in the order they came.
func (t *Tee) Log() []MemoryAccess {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]MemoryAccess(nil), t.log...)
}

// Reset empties the log.
func (t *Tee) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = t.log[:0]
}

func (t *Tee) note(a MemoryAccess) error {
	t.mu.Lock()
	t.log = append(t.log, a)
	before := t.before
	t.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(a)
}

// ReadAt implements [io.ReaderAt].
func (t *Tee) ReadAt(p []byte, off int64) (int, error) {
	if err := t.note(MemoryAccess{Off: off, Len: len(p)}); err != nil {
		return 0, err
	}
	return t.mem.ReadAt(p, off)
}

// WriteAt implements [io.WriterAt].
func (t *Tee) WriteAt(p []byte, off int64) (int, error) {
	if err := t.note(MemoryAccess{Write: true, Off: off, Len: len(p)}); err != nil {
		return 0, err
	}
	return t.mem.WriteAt(p, off)
}

// RAM is plain remote memory: a byte slice with ReadAt and WriteAt. It is not
// safe for overlapping accesses from several goroutines unless one mutex or
// the test orders them.
type RAM []byte

// ReadAt implements [io.ReaderAt].
func (r RAM) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(r)) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, r[off:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// WriteAt implements [io.WriterAt].
func (r RAM) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(r)) {
		return 0, io.ErrShortWrite
	}
	n := copy(r[off:], p)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}
