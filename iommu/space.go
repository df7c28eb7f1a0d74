package iommu

import (
	"fmt"
	"sync"

	"github.com/tidwall/btree"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Where a Space puts things. Guest pages lie at 4 GiB and above, so that no
// mediator can get away with a 31-bit data address, and below 2^46, what the
// page tables of a device can name. Address 0 is never a frame.
const (
	ownBase    = 1 << 16
	windowBase = 1 << 32
	spaceEnd   = 1 << 46
)

const (
	// maxWindow bounds the pages of one window, and with it the memory that
	// the first pin of a page can cost: one pointer for 32 of them.
	maxWindow = 1 << 25
	// maxOwn bounds the pages of one Alloc: 1 GiB.
	maxOwn = 1 << 18

	defaultFaults = 64
)

// Config configures a [Space]. A nil *Config is the zero Config.
type Config struct {
	// Layout places the frames of guest pages. Frames from [Space.Alloc] are
	// contiguous under every layout.
	Layout Layout
	// Seed chooses the permutations of a Scattered layout. Equal seeds and
	// equal calls give equal frames.
	Seed uint64
	// Faults is the number of refused accesses that each domain remembers;
	// 0 means 64.
	Faults int
}

// Space is the host-physical address space of one process: which ranges of it
// are frames. All the devices of a process may share one. Its methods may be
// called from any goroutine.
type Space struct {
	cfg Config // immutable

	mu sync.Mutex
	// used is what is taken: start -> last, disjoint. Guarded by mu, as all
	// below.
	used btree.Map[addr.HPA, addr.HPA]
	// nextOwn and nextWindow are where the search for room goes on: ranges
	// are used again as late as possible, so that an address which outlived
	// its frame meets nothing, rather than the frame's successor.
	nextOwn, nextWindow addr.HPA
	windows             uint64 // made so far
}

// NewSpace returns a space without frames.
func NewSpace(cfg *Config) *Space {
	s := &Space{nextOwn: ownBase, nextWindow: windowBase}
	if cfg != nil {
		s.cfg = *cfg
	}
	if s.cfg.Faults <= 0 {
		s.cfg.Faults = defaultFaults
	}
	return s
}

// Layout is the layout of the frames of guest pages.
func (s *Space) Layout() Layout { return s.cfg.Layout }

// takeLocked finds n bytes (a multiple of align) in [lo, end), going on from
// *next, and takes them. The caller holds mu.
func (s *Space) takeLocked(n addr.Len, align, lo, end addr.HPA, next *addr.HPA) (addr.HPA, bool) {
	from := *next
	if from < lo || from >= end {
		from = lo
	}
	for range 2 { // to the end, then once more from the start
		for at := up(from, align); at < end && addr.HPA(n) <= end-at; {
			hit, ok := s.lastUsedLocked(at, at+addr.HPA(n)-1)
			if !ok {
				s.used.Set(at, at+addr.HPA(n)-1)
				*next = at + addr.HPA(n)
				return at, true
			}
			at = up(hit+1, align)
		}
		from = lo
	}
	return 0, false
}

// lastUsedLocked is the last used address in [start, last] or the end of the
// range it lies in; ok is false when [start, last] is free.
func (s *Space) lastUsedLocked(start, last addr.HPA) (hit addr.HPA, ok bool) {
	s.used.Descend(last, func(_, end addr.HPA) bool {
		hit, ok = end, end >= start
		return false
	})
	return hit, ok
}

// up rounds a up to a multiple of align. Addresses here stay below 2^46 and
// the frame numbers of a real host below 2^55, so nothing wraps.
func up(a, align addr.HPA) addr.HPA { return (a + align - 1) &^ (align - 1) }

func (s *Space) giveBack(start addr.HPA) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used.Delete(start)
}

// claim takes the page at hpa, the number of a real frame, for the one who
// pinned it, and reports whether it was free. A page that is not free (another
// pin names the same frame, or synthetic frames lie there) keeps the synthetic
// address that its window gave it.
func (s *Space) claim(hpa addr.HPA) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := hpa + addr.HPA(addr.PageSize) - 1
	if _, taken := s.lastUsedLocked(hpa, last); taken {
		return false
	}
	s.used.Set(hpa, last)
	return true
}

// Frames is memory of our own: host programs, lists, buffers. It is zeroed
// when allotted, whole pages, at consecutive host addresses.
//
// Mem is plain memory of this process. Whoever writes it while a device may
// read it takes part in that race, as with real storage.
type Frames struct {
	HPA addr.HPA
	Mem []byte

	space  *Space
	window *Window

	mu     sync.Mutex
	reach  map[*Domain]*frameReach // guarded by mu
	closed bool                    // guarded by mu
}

// frameReach is what one domain may do with a Frames.
type frameReach struct {
	blocks []*Reach
	access addr.Access
}

// takeOwn takes n bytes, rounded up to whole pages, of the addresses below the
// given one that are for our own use.
func (s *Space) takeOwn(n addr.Len, below addr.HPA) (at addr.HPA, size addr.Len, err error) {
	if n == 0 || n > maxOwn<<addr.PageShift {
		return 0, 0, fmt.Errorf("%d bytes of frames: %w", uint64(n), errs.ErrInvalid)
	}
	size = (n + addr.Len(addr.PageMask)) &^ addr.Len(addr.PageMask)
	end := addr.HPA(windowBase)
	if below != 0 {
		end = min(end, below)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.takeLocked(size, addr.HPA(addr.PageSize), ownBase, end, &s.nextOwn)
	if !ok {
		return 0, 0, fmt.Errorf("%d bytes of frames below %#x: %w", uint64(n), uint64(end), errs.ErrNoSpace)
	}
	return at, size, nil
}

// Alloc allots n bytes, rounded up to whole pages, wholly below the given
// address; 0 means anywhere below 4 GiB. It fails with errs.ErrInvalid for no
// or more than 1 GiB and with errs.ErrNoSpace when there is no room.
func (s *Space) Alloc(n addr.Len, below addr.HPA) (*Frames, error) {
	at, size, err := s.takeOwn(n, below)
	if err != nil {
		return nil, err
	}
	pages := uint64(size) >> addr.PageShift
	mem := pageAligned(int(size))
	first := uint64(at) >> addr.PageShift & pageInBlock
	w := &Window{
		space: s, start: at, base: uint64(at) >> BlockShift, order: inOrder,
		first: first, pages: pages, mem: mem,
		hva: hvaOf(mem) - addr.HVA(first<<addr.PageShift),
	}
	w.blocks = make([]*block, (first+pages+pageInBlock)/BlockPages)
	return &Frames{HPA: at, Mem: mem, space: s, window: w, reach: make(map[*Domain]*frameReach)}, nil
}

// Free takes the frames out of every domain that may reach them and gives
// their addresses back. When it returns no hardware is in Mem. A second Free
// does nothing.
func (f *Frames) Free() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	for d := range f.reach {
		f.revokeLocked(d)
	}
	f.space.giveBack(f.HPA)
}

// GrantFrames lets the device do access with f, in place of what it could do
// with f before. It fails with errs.ErrGone when d is closed or f is freed.
func (d *Domain) GrantFrames(f *Frames, access addr.Access) error {
	if access == 0 || access > addr.ReadWrite {
		return fmt.Errorf("access %s: %w", access, errs.ErrInvalid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("frames at %s: %w", f.HPA, errs.ErrGone)
	}
	fr := f.reach[d]
	if fr == nil {
		fr = new(frameReach)
		for i := range f.window.blocks {
			r, err := d.NewReach(f.window, uint64(i))
			if err != nil {
				for _, r := range fr.blocks {
					r.Remove()
				}
				return fmt.Errorf("frames at %s: %w", f.HPA, err)
			}
			fr.blocks = append(fr.blocks, r)
		}
		f.reach[d] = fr
	}
	for i, r := range fr.blocks {
		pages := f.window.pagesOf(uint64(i))
		r.Grant(pages, access)
		if fr.access != 0 {
			r.Revoke(pages, fr.access)
		}
	}
	if fr.access&^access != 0 {
		d.Quiesce()
	}
	fr.access = access
	return nil
}

// RevokeFrames takes f from the device. When it returns the device is not in
// it.
func (d *Domain) RevokeFrames(f *Frames) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revokeLocked(d)
}

func (f *Frames) revokeLocked(d *Domain) {
	fr := f.reach[d]
	if fr == nil {
		return
	}
	delete(f.reach, d)
	for i, r := range fr.blocks {
		r.Revoke(f.window.pagesOf(uint64(i)), fr.access)
		r.Remove()
	}
	d.Quiesce()
}
