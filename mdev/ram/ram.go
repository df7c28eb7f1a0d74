package ram

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Memory is the memory behind a region.
type Memory struct {
	size int64
	file *os.File // nil for memory that traps

	mu    sync.RWMutex
	bytes []byte // guarded by mu
}

// New returns size bytes of zeroed memory, which a VMM may map, or which traps.
// It fails with errs.ErrInvalid for no bytes, with errs.ErrNotSupported where
// there is nothing to map, and with the errno of the system.
func New(size int64, mappable bool) (*Memory, error) {
	if size <= 0 {
		return nil, fmt.Errorf("memory of %d bytes: %w", size, errs.ErrInvalid)
	}
	m := &Memory{size: size}
	if !mappable {
		m.bytes = make([]byte, size)
		return m, nil
	}
	var err error
	m.file, err = newFile(size)
	return m, err
}

// Size is the size in bytes.
func (m *Memory) Size() int64 { return m.size }

// File is the file that a VMM may map, nil for memory that traps. It belongs to
// m.
func (m *Memory) File() *os.File { return m.file }

// ReadAt fills p with the bytes at off. It fails with errs.ErrInvalid where they
// leave the memory.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	if err := m.within(off, len(p)); err != nil {
		return 0, err
	}
	if m.file != nil {
		return m.file.ReadAt(p, off)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return copy(p, m.bytes[off:]), nil
}

// WriteAt writes p at off. It fails with errs.ErrInvalid where that leaves the
// memory; then nothing was written.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	if err := m.within(off, len(p)); err != nil {
		return 0, err
	}
	if m.file != nil {
		return m.file.WriteAt(p, off)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.bytes[off:], p), nil
}

func (m *Memory) within(off int64, n int) error {
	if off < 0 || off > m.size || int64(n) > m.size-off {
		return fmt.Errorf("%d bytes at %#x of %#x: %w", n, off, m.size, errs.ErrInvalid)
	}
	return nil
}

// Renew gives m other memory, zeroed, for its next user. Who has the old one
// mapped, or holds a copy of the descriptor, keeps that. On an error m is as it
// was.
func (m *Memory) Renew() error {
	if m.file != nil {
		return renewFile(m.file, m.size)
	}
	return m.Wipe()
}

// Wipe zeroes the memory, for its user too.
func (m *Memory) Wipe() error {
	if m.file != nil {
		return wipeFile(m.file, m.size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.bytes)
	return nil
}

// Append appends the memory to p, as Load takes it.
func (m *Memory) Append(p []byte) ([]byte, error) {
	at := len(p)
	p = slices.Grow(p, int(m.size))[:at+int(m.size)]
	_, err := m.ReadAt(p[at:], 0)
	return p, err
}

// Load gives the memory what Append said. It fails with errs.ErrInvalid where p
// has not as many bytes.
func (m *Memory) Load(p []byte) error {
	if int64(len(p)) != m.size {
		return fmt.Errorf("%#x bytes for memory of %#x: %w", len(p), m.size, errs.ErrInvalid)
	}
	_, err := m.WriteAt(p, 0)
	return err
}

// Close frees the file. m must not be used again.
func (m *Memory) Close() {
	if m.file != nil {
		_ = m.file.Close() // of memory: there is nothing to lose
	}
}
