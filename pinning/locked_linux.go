package pinning

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/guard"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// memlock is the soft RLIMIT_MEMLOCK.
func memlock() (addr.Len, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return 0, err
	}
	return addr.Len(l.Cur), nil // RLIM_INFINITY is 2^64-1, our Unlimited
}

// locker is the Locked backend. The kernel counts no locks: a page that was
// locked twice is unlocked by the first munlock. Two mappings may lead to one
// page of ours, so locks are counted here, by page of this process. Guarded by
// Pinner.mu.
type locker struct {
	page    addr.HVA            // size of a page of this process
	count   map[addr.HVA]uint32 // locks, by address of the page
	pagemap *os.File            // nil if not readable
}

func newLocker() (*locker, error) {
	k := &locker{page: addr.HVA(os.Getpagesize()), count: make(map[addr.HVA]uint32)}
	if f, err := os.Open("/proc/self/pagemap"); err == nil {
		k.pagemap = f
	}
	return k, nil
}

func (k *locker) close() error {
	if k.pagemap == nil {
		return nil
	}
	return k.pagemap.Close()
}

// lock locks the pages of this process that [hva, hva+n) touches, once more;
// all or none.
func (k *locker) lock(hva addr.HVA, n addr.Len) error {
	first, pages := k.pages(hva, n)
	for i := range pages {
		at := first + addr.HVA(i)*k.page
		k.count[at]++
		if k.count[at] > 1 {
			continue
		}
		if err := k.mlock(at); err != nil {
			k.munlock(at) // a failed mlock may leave its mark
			delete(k.count, at)
			k.unlockPages(first, i)
			return err
		}
	}
	return nil
}

// pages is the first of the pages of this process that [hva, hva+n) touches,
// and how many they are. The last one may end at 2^64.
func (k *locker) pages(hva addr.HVA, n addr.Len) (first addr.HVA, pages uint64) {
	first = hva &^ (k.page - 1)
	return first, uint64(hva+addr.HVA(n)-1-first)/uint64(k.page) + 1
}

// mlock locks one page. ENOMEM has two meanings, which touching it tells
// apart: the page is not there, or the kernel's own limit is reached.
func (k *locker) mlock(at addr.HVA) error {
	_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(at), uintptr(k.page), 0)
	if errno == unix.ENOSYS { // Linux before 4.4
		_, _, errno = unix.Syscall(unix.SYS_MLOCK, uintptr(at), uintptr(k.page), 0)
	}
	switch {
	case errno == 0:
		return nil
	case touch(at) != nil:
		return fmt.Errorf("mlock: %w", errs.ErrFault)
	case errno == unix.ENOMEM || errno == unix.EAGAIN || errno == unix.EPERM:
		return fmt.Errorf("mlock: %w", errs.ErrMemlock)
	}
	return fmt.Errorf("mlock: %w", errno)
}

// touch reads a byte at hva, and fails if it is not there.
func touch(hva addr.HVA) error {
	var b [1]byte
	return guard.CopyIn(b[:], hva)
}

// munlock unlocks one page. It fails only if the page is unmapped, and then it
// is not locked either. The address stays a number: a client may have named
// one at which there never was memory, which is no pointer.
func (k *locker) munlock(at addr.HVA) {
	_, _, _ = unix.Syscall(unix.SYS_MUNLOCK, uintptr(at), uintptr(k.page), 0)
}

func (k *locker) unlock(hva addr.HVA, n addr.Len) { k.unlockPages(k.pages(hva, n)) }

func (k *locker) unlockPages(first addr.HVA, pages uint64) {
	for i := range pages {
		at := first + addr.HVA(i)*k.page
		if k.count[at]--; k.count[at] == 0 {
			delete(k.count, at)
			k.munlock(at)
		}
	}
}

// frame asks the kernel for the address of the frame behind hva; ok is false
// where it does not tell.
//
// Documentation/admin-guide/mm/pagemap.rst: a word a page, bit 63 present,
// bits 0-54 the frame number, zero without CAP_SYS_ADMIN.
func (k *locker) frame(hva addr.HVA) (addr.HPA, bool) {
	var b [8]byte
	if k.pagemap == nil || !addr.Aligned(hva, addr.PageSize) {
		return 0, false
	}
	if _, err := k.pagemap.ReadAt(b[:], int64(hva/k.page*8)); err != nil {
		return 0, false
	}
	w := binary.NativeEndian.Uint64(b[:])
	pfn := w & (1<<55 - 1)
	if w>>63 == 0 || pfn == 0 {
		return 0, false
	}
	return addr.HPA(pfn)*addr.HPA(k.page) + addr.HPA(hva&(k.page-1)), true
}

// lockLocked locks the pages of a set of the block that begins in IOVA page
// from's block, which nobody holds yet, and asks for their frame numbers.
func (p *Pinner) lockLocked(w *window, from uint64, pages uint32) error {
	if err := p.fault.Hit("lock"); err != nil {
		return err
	}
	if pages != 0 && w.kind == translate.KindRemote {
		return fmt.Errorf("locking remote memory: %w", errs.ErrNotSupported)
	}
	zero := (from/iommu.BlockPages - w.block0()) * iommu.BlockPages // first page of the block, in the window
	for left := pages; left != 0; left &= left - 1 {
		page := zero + uint64(bits.TrailingZeros32(left))
		hva := w.hva + addr.HVA(page<<addr.PageShift)
		if err := p.locker.lock(hva, addr.PageSize); err != nil {
			p.unlockLocked(w, from, pages&^left)
			return err
		}
		if hpa, ok := p.locker.frame(hva); ok {
			w.frames.SetReal(page, hpa) // if the number is taken, the synthetic one stays
		}
	}
	return nil
}

// unlockLocked undoes lockLocked.
func (p *Pinner) unlockLocked(w *window, from uint64, pages uint32) {
	block := from/iommu.BlockPages - w.block0()
	for left := pages; left != 0; left &= left - 1 {
		bit := uint64(bits.TrailingZeros32(left))
		page := block*iommu.BlockPages + bit
		p.locker.unlock(w.hva+addr.HVA(page<<addr.PageShift), addr.PageSize)
		if w.frames.Held(block)>>bit&1 == 0 { // or somebody pinned it since
			w.frames.ClearReal(page)
		}
	}
}
