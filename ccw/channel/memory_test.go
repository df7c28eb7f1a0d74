package channel_test

import (
	"encoding/hex"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// storage is sparse storage for tests: pages appear, filled with poison, when
// they are first named. It records what was touched.
type storage struct {
	size   uint64 // first address that is not there
	poison byte
	pages  map[uint64]*[addr.PageSize]byte
	refuse map[uint64]error // by page: the error that each access gets
	reads  []span
	log    bool
}

type span struct{ a, n uint64 }

func newStorage(size uint64, poison byte) *storage {
	return &storage{size: size, poison: poison, pages: map[uint64]*[addr.PageSize]byte{}, refuse: map[uint64]error{}}
}

func (m *storage) page(a uint64) *[addr.PageSize]byte {
	n := a >> addr.PageShift
	p := m.pages[n]
	if p == nil {
		p = new([addr.PageSize]byte)
		for i := range p {
			p[i] = m.poison
		}
		m.pages[n] = p
	}
	return p
}

func (m *storage) there(a, n uint64) error {
	if end := a + n; end < a || end > m.size {
		return errs.Addr("hpa", max(a, m.size), errs.ErrReach)
	}
	for p := a &^ addr.PageMask; p < a+n; p += uint64(addr.PageSize) {
		if err := m.refuse[p]; err != nil {
			return errs.Addr("hpa", p, err)
		}
	}
	return nil
}

func (m *storage) move(a uint64, p []byte, into bool) {
	for len(p) > 0 {
		pg := m.page(a)
		in := a & addr.PageMask
		var n int
		if into {
			n = copy(pg[in:], p)
		} else {
			n = copy(p, pg[in:])
		}
		p, a = p[n:], a+uint64(n)
	}
}

func (m *storage) Read(a addr.HPA, p []byte) error {
	if m.log {
		m.reads = append(m.reads, span{uint64(a), uint64(len(p))})
	}
	if err := m.there(uint64(a), uint64(len(p))); err != nil {
		return err
	}
	m.move(uint64(a), p, false)
	return nil
}

func (m *storage) Write(a addr.HPA, p []byte) error {
	if err := m.there(uint64(a), uint64(len(p))); err != nil {
		return err
	}
	m.move(uint64(a), p, true)
	return nil
}

// Check is whether storage is there; refused pages are.
func (m *storage) Check(a addr.HPA, n addr.Len, _ addr.Access) error {
	if end := uint64(a) + uint64(n); end < uint64(a) || end > m.size {
		return errs.Addr("hpa", uint64(a), errs.ErrReach)
	}
	return nil
}

// load and bytes are the test's own access, which nothing refuses or records.
func (m *storage) load(a uint64, b []byte) { m.move(a, b, true) }

func (m *storage) byteAt(a uint64) byte {
	if p := m.pages[a>>addr.PageShift]; p != nil {
		return p[a&addr.PageMask]
	}
	return m.poison
}

func (m *storage) bytes(a uint64, n int) []byte {
	b := make([]byte, n)
	m.move(a, b, false)
	return b
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
