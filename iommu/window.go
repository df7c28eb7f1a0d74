package iommu

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Remote is memory that is reached by messages, not by address.
type Remote interface {
	io.ReaderAt
	io.WriterAt
}

// Backing is the memory behind the pages of a window.
type Backing struct {
	// HVA is where page 0 of the window's first block would be in this
	// process: the pages are consecutive from there. It may be any number
	// where pages are never granted, and need not be mapped at all until one
	// is.
	HVA addr.HVA
	// Stable says that the memory cannot vanish; otherwise each copy is
	// guarded against a peer that truncates the file behind it.
	Stable bool
	// Remote, if not nil, is used in place of HVA. Offset 0 is page 0 of the
	// first block.
	Remote Remote
}

// Window is a range of frames that stand for consecutive pages of guest
// memory, whether or not anybody may reach them yet. It is made of blocks of
// 32 pages. Pages are numbered from the start of the first block, and a window
// may begin in the middle of that one, so that blocks of the window and of the
// address space that it stands for coincide.
//
// A Window and the [Reach]es on it are used by one goroutine at a time; their
// maker (package pinning) serialises them. Hardware needs no such care: it
// meets them only through its [Domain].
type Window struct {
	space *Space
	start addr.HPA // of the range taken from the space
	base  uint64   // number of the first block
	// scatter places the blocks; unused (order inOrder) when contiguous.
	scattered bool
	scatter   scatter
	order     order

	first, pages uint64 // pages [first, first+pages) exist
	hva          addr.HVA
	guarded      bool
	remote       Remote
	mem          []byte // keeps memory of our own alive

	blocks []*block // made on first use
}

// block counts who holds the pages of one block of a window, whatever domain
// they belong to.
type block struct {
	count tally // of reaches, low half
	// real are the numbers of real frames, 0 where there is none. It is
	// read without the lock by whoever asks a pin for its address.
	real atomic.Pointer[realFrames]
}

// held is the pages that any reach holds.
func (b *block) held() uint32 { return uint32(b.count.held()) }

type realFrames [BlockPages]atomic.Uint64

// NewWindow takes frames for pages pages from page first (below 32) of its
// first block on. The frames lie at 4 GiB or above, placed by the layout of
// the space. It fails with errs.ErrInvalid for no or more than 2^25 pages and
// with errs.ErrNoSpace when the space is used up.
func (s *Space) NewWindow(first, pages uint64, b Backing) (*Window, error) {
	if pages == 0 || pages > maxWindow || first >= BlockPages {
		return nil, fmt.Errorf("window of %d pages from %d: %w", pages, first, errs.ErrInvalid)
	}
	n := (first + pages + pageInBlock) / BlockPages
	s.mu.Lock()
	at, ok := s.takeLocked(addr.Len(n)<<BlockShift, addr.HPA(BlockSize), windowBase, spaceEnd, &s.nextWindow)
	s.windows++
	serial := s.windows
	s.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("window of %d pages: %w", pages, errs.ErrNoSpace)
	}
	w := &Window{
		space: s, start: at, base: uint64(at) >> BlockShift, order: inOrder,
		first: first, pages: pages, hva: b.HVA, guarded: !b.Stable, remote: b.Remote,
		blocks: make([]*block, n),
	}
	if s.cfg.Layout == Scattered {
		w.scattered = true
		w.scatter = newScatter(mix(s.cfg.Seed^mix(serial)), n)
		w.order = w.scatter.pages
	}
	return w, nil
}

// Close gives the frames back. No reach may be left on the window.
func (w *Window) Close() {
	for i, b := range w.blocks {
		if b != nil && b.held() != 0 {
			panic(fmt.Sprintf("iommu: window closed with pages %#x of block %d held", b.held(), i))
		}
	}
	w.space.giveBack(w.start)
}

// Blocks is the number of blocks of w.
func (w *Window) Blocks() uint64 { return uint64(len(w.blocks)) }

// Held is the set of pages of block i that anybody holds, bit by bit.
func (w *Window) Held(i uint64) uint32 {
	if b := w.blocks[i]; b != nil {
		return b.held()
	}
	return 0
}

// pagesOf is the set of pages of block i that exist.
func (w *Window) pagesOf(i uint64) uint32 {
	return Pages(max(i*BlockPages, w.first)-i*BlockPages, min((i+1)*BlockPages, w.first+w.pages)-i*BlockPages)
}

// Pages is the set of pages [from, to) of a block. from < to <= 32.
func Pages(from, to uint64) uint32 {
	return uint32(uint64(1)<<to - uint64(1)<<from)
}

func (w *Window) block(i uint64) *block {
	b := w.blocks[i]
	if b == nil {
		b = new(block)
		w.blocks[i] = b
	}
	return b
}

// place is the number of the block of the host's address space in which block
// i of the window lies.
func (w *Window) place(i uint64) uint64 {
	if w.scattered {
		i = w.scatter.place(i, uint64(len(w.blocks)))
	}
	return w.base + i
}

// HPA is the host address of a page, numbered from the start of the first
// block. It may be called from any goroutine for a page that is held.
func (w *Window) HPA(page uint64) addr.HPA {
	i := page / BlockPages
	if b := w.blocks[i]; b != nil {
		if hpa := b.realAt(page); hpa != 0 {
			return hpa
		}
	}
	return addr.HPA(w.place(i)<<BlockShift | w.order.frame(page)<<addr.PageShift)
}

// realAt is the number of the real frame of a page, 0 if it has none.
func (b *block) realAt(page uint64) addr.HPA {
	if real := b.real.Load(); real != nil {
		return addr.HPA(real[page&pageInBlock].Load())
	}
	return 0
}

// SetReal gives page (of the whole window) the number of the real frame behind
// it in place of the synthetic one, until [Window.ClearReal]; the page must
// not be held. It reports false, and nothing changes, if that frame number is
// taken already: a number says where a page was when it was asked for, and
// two pages may have had it in turn.
func (w *Window) SetReal(page uint64, hpa addr.HPA) bool {
	if !addr.Aligned(hpa, addr.PageSize) || !w.space.claim(hpa) {
		return false
	}
	b := w.block(page / BlockPages)
	real := b.real.Load()
	if real == nil {
		real = new(realFrames)
		b.real.Store(real)
	}
	real[page&pageInBlock].Store(uint64(hpa))
	return true
}

// ClearReal undoes [Window.SetReal]; the page must not be held any more.
func (w *Window) ClearReal(page uint64) {
	b := w.blocks[page/BlockPages]
	if b == nil {
		return
	}
	if real := b.real.Load(); real != nil {
		if hpa := real[page&pageInBlock].Swap(0); hpa != 0 {
			w.space.giveBack(addr.HPA(hpa))
		}
	}
}
