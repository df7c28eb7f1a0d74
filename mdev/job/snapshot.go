package job

import (
	"fmt"
	"math/bits"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// reader is what a snapshot reads guest memory through: a *translate.Reader
// inside its section.
type reader interface {
	Read(iova addr.IOVA, p []byte) error
}

const (
	granule     = 4 // bytes; no program element is smaller or less aligned
	pageWords   = int(addr.PageSize) / granule / 64
	maxPages    = 1024    // pages one request may have program bytes in: 4 MiB
	keptPages   = 32      // pages kept for the next request
	tableSlots  = 1 << 11 // open addressing, at most half full
	tableShift  = 64 - 11
	hashFactor  = 0x9e3779b97f4a7c15
	maxFetchLen = 1 << 16
)

// page is our copy of the bytes fetched from one guest page. Bit i of have
// says that bytes [4i, 4i+4) were fetched.
type page struct {
	base addr.IOVA
	have [pageWords]uint64
	data [addr.PageSize]byte
}

// snapshot remembers every guest byte of a request that was fetched, so that
// none is fetched twice. The zero snapshot is empty and usable.
type snapshot struct {
	pages   []*page // in use, in order of first fetch
	spare   []*page
	table   []uint16 // hash of page base -> index in pages + 1; nil while few
	last    *page
	scratch []byte // joins what lies in more than one page
}

// few is how many pages are searched one by one before a table is built.
const few = 8

func (s *snapshot) reset() {
	if s.table != nil && len(s.pages) > few {
		clear(s.table)
	}
	for i, p := range s.pages {
		if len(s.spare) < keptPages {
			s.spare = append(s.spare, p)
		}
		s.pages[i] = nil
	}
	s.pages, s.last = s.pages[:0], nil
	if cap(s.scratch) > maxFetchLen {
		s.scratch = nil
	}
}

// fetch returns n guest bytes from iova, reading from r only those that were
// never fetched before. The slice is ours, valid until reset or, where it joins
// pages, until the next one that does.
func (s *snapshot) fetch(r reader, iova addr.IOVA, n int) ([]byte, error) {
	if n <= 0 {
		return nil, nil
	}
	if n > maxFetchLen {
		return nil, fmt.Errorf("fetch of %d bytes: %w", n, errs.ErrBudget)
	}
	off := int(addr.PageOffset(iova))
	if off+n <= int(addr.PageSize) {
		p, err := s.page(addr.PageOf(iova))
		if err != nil {
			return nil, err
		}
		if err := p.fill(r, off, n); err != nil {
			return nil, err
		}
		return p.data[off : off+n : off+n], nil
	}
	if _, ok := addr.RangeOf(iova, addr.Len(n)); !ok {
		return nil, errs.Addr("iova", uint64(iova), errs.ErrOverflow)
	}
	s.scratch = s.scratch[:0]
	for n > 0 {
		m := min(n, int(addr.PageSize)-int(addr.PageOffset(iova)))
		b, err := s.fetch(r, iova, m)
		if err != nil {
			return nil, err
		}
		s.scratch = append(s.scratch, b...)
		iova += addr.IOVA(m)
		n -= m
	}
	return s.scratch, nil
}

// fill reads into p the granules of [off, off+n) that it lacks, each run of
// them with one read.
func (p *page) fill(r reader, off, n int) error {
	first, last := off/granule, (off+n-1)/granule
	if first/64 == last/64 {
		// The common fetch: one word of the map, nothing of it there yet.
		w := &p.have[first/64]
		switch mask := (uint64(2)<<(last-first) - 1) << (first % 64); *w & mask {
		case mask:
			return nil
		case 0:
			if err := r.Read(p.base+addr.IOVA(first*granule), p.data[first*granule:(last+1)*granule]); err != nil {
				return err
			}
			*w |= mask
			return nil
		}
	}
	for first <= last {
		w, bit := first/64, first%64
		lacking := ^p.have[w] >> bit
		if lacking == 0 {
			first = (w + 1) * 64
			continue
		}
		first += bits.TrailingZeros64(lacking)
		end := first
		for end <= last && p.have[end/64]>>(end%64)&1 == 0 {
			end++
		}
		if first > last {
			return nil
		}
		if err := r.Read(p.base+addr.IOVA(first*granule), p.data[first*granule:end*granule]); err != nil {
			return err
		}
		for ; first < end; first++ {
			p.have[first/64] |= 1 << (first % 64)
		}
	}
	return nil
}

// page finds or makes the copy of the page at base.
func (s *snapshot) page(base addr.IOVA) (*page, error) {
	if p := s.last; p != nil && p.base == base {
		return p, nil
	}
	if len(s.pages) <= few {
		for _, p := range s.pages {
			if p.base == base {
				s.last = p
				return p, nil
			}
		}
	} else if i := s.table[s.slot(base)]; i != 0 {
		s.last = s.pages[i-1]
		return s.last, nil
	}
	if len(s.pages) == maxPages {
		return nil, errs.Addr("iova", uint64(base), fmt.Errorf("program bytes in more than %d pages: %w", maxPages, errs.ErrBudget))
	}
	var p *page
	if k := len(s.spare); k > 0 {
		p, s.spare = s.spare[k-1], s.spare[:k-1]
		p.have = [pageWords]uint64{}
	} else {
		p = new(page)
	}
	p.base = base
	s.pages = append(s.pages, p)
	s.last = p
	switch n := len(s.pages); {
	case n == few+1:
		if s.table == nil {
			s.table = make([]uint16, tableSlots)
		}
		for i, q := range s.pages {
			s.table[s.slot(q.base)] = uint16(i + 1)
		}
	case n > few+1:
		s.table[s.slot(base)] = uint16(n)
	}
	return p, nil
}

// slot is where base stands in the table, or the free slot where it would.
func (s *snapshot) slot(base addr.IOVA) int {
	i := int(uint64(base) >> addr.PageShift * hashFactor >> tableShift)
	for s.table[i] != 0 && s.pages[s.table[i]-1].base != base {
		i = (i + 1) % tableSlots
	}
	return i
}
