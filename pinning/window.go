package pinning

import (
	"fmt"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// window is the frames of a mapping, or of a 64 MiB piece of a large one: made
// when a page of it is first pinned, and dropped when the mapping goes, so
// that the next mapping there gets other frames.
type window struct {
	frames *iommu.Window
	r      addr.Range[addr.IOVA] // whole pages
	id     uint32                // of the mapping
	hva    addr.HVA              // of page 0 of block 0
	kind   translate.Kind
	cells  []*cell // of all owners
}

// segment is the size of the pieces of a large mapping. A mapping may have
// nearly 2^64 bytes; what the first pin in it costs must not depend on that.
const segment = 64 << 20

// block0 is the number of the first block in IOVA space.
func (w *window) block0() uint64 { return uint64(w.r.Start()) >> iommu.BlockShift }

// cellLocked is the cell of o for the block at address at, which lies in run.
func (p *Pinner) cellLocked(o *Owner, run translate.Run, at addr.IOVA) (*cell, error) {
	block := uint64(at) >> iommu.BlockShift
	if c := o.cells.find(block, run.ID); c != nil {
		return c, nil
	}
	w, err := p.windowLocked(run, at)
	if err != nil {
		return nil, errs.Addr("iova", uint64(at), err)
	}
	if err := p.fault.Hit("reach"); err != nil {
		return nil, errs.Addr("iova", uint64(at), err)
	}
	c := &cell{block: block, id: run.ID, w: w, owner: o}
	if err := o.domain.InitReach(&c.Reach, w.frames, block-w.block0()); err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	w.cells = append(w.cells, c)
	o.cells.insert(c)
	p.books++
	return c, nil
}

// windowLocked is the window of the page at, which lies in run.
func (p *Pinner) windowLocked(run translate.Run, at addr.IOVA) (*window, error) {
	var w *window
	p.windows.Descend(at, func(_ addr.IOVA, found *window) bool {
		if found.r.Contains(at) {
			w = found
		}
		return false
	})
	if w != nil && w.id == run.ID {
		return w, nil
	}
	if err := p.fault.Hit("window"); err != nil {
		return nil, err
	}
	start := p.startLocked(run, at)
	last := at + addr.IOVA(min(run.Len-1, segment)) // no further than needed, so no sum wraps
	last = min(last, at|(segment-1)) | addr.IOVA(addr.PageMask)
	r, _ := addr.RangeLast(start, last)
	// A window left over here belongs to no mapping any more. The store
	// drains what it unmaps, so this is rare and its leases are gone.
	p.dropLocked([]addr.Range[addr.IOVA]{r})
	if p.overlapsLocked(r) {
		return nil, fmt.Errorf("frames of an earlier mapping are held: %w", errs.ErrBusy)
	}

	w = &window{r: r, id: run.ID, kind: run.Kind}
	back := iommu.Backing{Stable: run.Kind == translate.KindBytes}
	zero := start &^ addr.IOVA(iommu.BlockSize-1)
	if run.Kind == translate.KindRemote {
		back.Remote = &far{p: p, zero: zero}
	} else {
		w.hva = run.HVA - addr.HVA(at-zero)
		back.HVA = w.hva
	}
	var err error
	w.frames, err = p.space.NewWindow(uint64(start-zero)>>addr.PageShift, uint64(last-start)>>addr.PageShift+1, back)
	if err != nil {
		return nil, err
	}
	p.windows.Set(start, w)
	p.books += w.size()
	return w, nil
}

// startLocked is where the mapping that run lies in begins, or the segment of
// at if that begins later. The store tells where a mapping ends; the start is
// found by bisection, since a look-up anywhere in the mapping names it. The
// mapping stays while we look: to go it would first have to drain us.
func (p *Pinner) startLocked(run translate.Run, at addr.IOVA) addr.IOVA {
	lo, hi := at&^(segment-1)>>addr.PageShift, at>>addr.PageShift
	p.reader.Enter()
	defer p.reader.Exit()
	for lo < hi {
		mid := lo + (hi-lo)/2
		if r, ok := p.reader.Lookup(mid << addr.PageShift); ok && r.ID == run.ID {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return hi << addr.PageShift
}

// overlapsLocked reports whether a window touches r.
func (p *Pinner) overlapsLocked(r addr.Range[addr.IOVA]) (yes bool) {
	p.windowsIn(r, func(*window) bool { yes = true; return false })
	return yes
}

// windowsIn calls f for each window that touches r, until f says false. f
// must not change the windows.
func (p *Pinner) windowsIn(r addr.Range[addr.IOVA], f func(w *window) bool) {
	first := r.Start()
	p.windows.Descend(r.Start(), func(_ addr.IOVA, w *window) bool {
		if w.r.Contains(first) {
			first = w.r.Start()
		}
		return false
	})
	p.windows.Ascend(first, func(_ addr.IOVA, w *window) bool {
		return w.r.Start() <= r.Last() && f(w)
	})
}

// dropLocked drops the windows that touch a range of rs and of which no page
// is held.
func (p *Pinner) dropLocked(rs []addr.Range[addr.IOVA]) {
	if p.windows.Len() == 0 {
		return
	}
	for _, r := range rs {
		for from := r; ; {
			var w *window
			p.windowsIn(from, func(found *window) bool { w = found; return false })
			if w == nil {
				break
			}
			if !w.held() {
				p.dropWindowLocked(w)
			}
			if w.r.Last() >= r.Last() {
				break
			}
			from, _ = addr.RangeLast(w.r.Last()+1, r.Last())
		}
	}
}

func (w *window) held() bool {
	for i := range w.frames.Blocks() {
		if w.frames.Held(i) != 0 {
			return true
		}
	}
	return false
}

// maxBooks is how much is kept of windows of which no page is held, in cells
// of some 256 bytes: it serves the next pin there, and a guest that touches
// all of a mapping of 2^63 bytes, a page at a time, must not have it all kept.
const maxBooks = 1 << 18

// size is what w takes without cells, in cells.
func (w *window) size() int { return 1 + int(w.frames.Blocks()/16) }

// sweepLocked drops all windows of which no page is held. It must not be
// called while pages are charged that are not granted yet.
func (p *Pinner) sweepLocked() {
	p.dropLocked([]addr.Range[addr.IOVA]{addr.Whole[addr.IOVA]()})
	p.swept = true
	p.sweepAt = max(maxBooks, 2*p.books) // what is held costs no sweep each time
}

func (p *Pinner) dropWindowLocked(w *window) {
	p.books -= w.size() + len(w.cells)
	for _, c := range w.cells {
		c.owner.cells.remove(c)
		c.Reach.Remove()
	}
	w.cells = nil
	w.frames.Close()
	p.windows.Delete(w.r.Start())
}

// dropCellsLocked drops the cells of an owner that is closed and holds
// nothing.
func (p *Pinner) dropCellsLocked(o *Owner) {
	p.windows.Scan(func(_ addr.IOVA, w *window) bool {
		kept := w.cells[:0]
		for _, c := range w.cells {
			if c.owner != o {
				kept = append(kept, c)
				continue
			}
			c.Reach.Remove()
			p.books--
		}
		clear(w.cells[len(kept):])
		w.cells = kept
		return true
	})
}

// far is remote memory seen by the hardware: by way of the store, which sends
// the messages. A reader serves one goroutine at a time, so each access
// borrows one.
type far struct {
	p    *Pinner
	zero addr.IOVA // of page 0 of the first block
}

func (f *far) ReadAt(b []byte, off int64) (int, error) {
	at, err := f.at(off, len(b), addr.Read)
	if err == nil {
		err = at.Read(b)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *far) WriteAt(b []byte, off int64) (int, error) {
	at, err := f.at(off, len(b), addr.Write)
	if err == nil {
		err = at.Write(b)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// at is where the message goes. It is sent outside any section: hardware is in
// a page that is held, or was a moment ago, and a drain waits for both.
func (f *far) at(off int64, n int, want addr.Access) (translate.Far, error) {
	r := f.p.borrow()
	defer f.p.giveBack(r)
	return r.Far(f.zero+addr.IOVA(off), addr.Len(n), want)
}

func (p *Pinner) borrow() *translate.Reader {
	p.farMu.Lock()
	defer p.farMu.Unlock()
	if n := len(p.far); n != 0 {
		r := p.far[n-1]
		p.far = p.far[:n-1]
		return r
	}
	return p.store.NewReader()
}

func (p *Pinner) giveBack(r *translate.Reader) {
	p.farMu.Lock()
	defer p.farMu.Unlock()
	p.far = append(p.far, r)
}
