package devicetest

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Poison is what storage holds that nobody wrote.
const Poison = 0xA5

// Memory is storage of a size, sparse, full of [Poison]. It is a
// channel.Memory and a channel.Checker.
type Memory struct {
	Size  uint64
	pages map[uint64]*[addr.PageSize]byte
}

// NewMemory is storage of size bytes.
func NewMemory(size uint64) *Memory {
	return &Memory{Size: size, pages: make(map[uint64]*[addr.PageSize]byte)}
}

func (m *Memory) page(a uint64) *[addr.PageSize]byte {
	p := m.pages[a/uint64(addr.PageSize)]
	if p == nil {
		p = new([addr.PageSize]byte)
		for i := range p {
			p[i] = Poison
		}
		m.pages[a/uint64(addr.PageSize)] = p
	}
	return p
}

// Check fails unless all of the range is there.
func (m *Memory) Check(a addr.HPA, n addr.Len, _ addr.Access) error {
	if uint64(n) > m.Size || uint64(a) > m.Size-uint64(n) {
		return errs.Addr("hpa", uint64(a), errs.ErrReach)
	}
	return nil
}

func (m *Memory) each(a addr.HPA, p []byte, do func(at, b []byte)) error {
	if err := m.Check(a, addr.Len(len(p)), 0); err != nil {
		return err
	}
	for at := uint64(a); len(p) > 0; {
		in := at % uint64(addr.PageSize)
		n := min(uint64(len(p)), uint64(addr.PageSize)-in)
		do(m.page(at)[in:in+n], p[:n])
		at, p = at+n, p[n:]
	}
	return nil
}

// Read reads storage.
func (m *Memory) Read(a addr.HPA, p []byte) error {
	return m.each(a, p, func(at, b []byte) { copy(b, at) })
}

// Write writes storage.
func (m *Memory) Write(a addr.HPA, p []byte) error {
	return m.each(a, p, func(at, b []byte) { copy(at, b) })
}

// Clone is a copy.
func (m *Memory) Clone() *Memory {
	c := NewMemory(m.Size)
	for i, p := range m.pages {
		q := *p
		c.pages[i] = &q
	}
	return c
}

// Diff says where m differs from want, the lowest address first, or "".
func (m *Memory) Diff(want *Memory) string {
	first := ^uint64(0)
	look := func(pages map[uint64]*[addr.PageSize]byte) {
		for i := range pages {
			a, b := m.page(i*uint64(addr.PageSize)), want.page(i*uint64(addr.PageSize))
			for j := range a {
				if at := i*uint64(addr.PageSize) + uint64(j); a[j] != b[j] && at < first {
					first = at
				}
			}
		}
	}
	look(want.Clone().pages)
	look(m.Clone().pages)
	if first == ^uint64(0) {
		return ""
	}
	n := min(16, m.Size-first)
	got, exp := make([]byte, n), make([]byte, n)
	_, _ = m.Read(addr.HPA(first), got), want.Read(addr.HPA(first), exp)
	return fmt.Sprintf("memory at %#x: got %x, want %x", first, got, exp)
}
