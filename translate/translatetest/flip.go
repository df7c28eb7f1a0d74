package translatetest

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/translate/addr"
)

// Flip is memory that an attacker changes between two reads: within a request
// the first read of a byte sees its value, each further read of that byte sees
// another. It implements translate.RemoteMemory; offset 0 is the first byte of
// the mapping.
//
// A correct mediator fetches each byte of a guest program once per request, so
// that it gets over Flip the result that it gets over plain memory, and
// [Flip.DoubleFetches] stays empty. The first is the guarantee, the second the
// diagnosis: it names the bytes that were fetched again.
//
// All methods may be used concurrently.
type Flip struct {
	base addr.IOVA // immutable

	mu      sync.Mutex
	bytes   []byte      // guarded by mu
	fetches map[int]int // guarded by mu; offset -> reads in this request
	mutate  func(off int64, again int, b byte) byte
}

// NewFlip is a Flip that holds b (not copied; written by WriteAt) and is meant
// to be mapped at base, the address from which reports count.
func NewFlip(base addr.IOVA, b []byte) *Flip {
	return &Flip{base: base, bytes: b, fetches: make(map[int]int)}
}

// Mutate chooses what a byte reads as when it is fetched again: again counts
// from 1, b is the byte's value. It lets a test flip in what hurts most - a
// count that was checked, an address that was translated. A nil fn restores
// the default, which never returns b.
func (f *Flip) Mutate(fn func(off int64, again int, b byte) byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mutate = fn
}

// Reset starts a request: every byte may be fetched once more.
func (f *Flip) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.fetches)
}

// ReadAt implements [io.ReaderAt].
func (f *Flip) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.span(len(p), off)
	for i := range n {
		at := int(off) + i
		again := f.fetches[at]
		f.fetches[at]++
		p[i] = f.bytes[at]
		if again > 0 {
			p[i] = f.flipped(int64(at), again)
		}
	}
	return n, err
}

func (f *Flip) flipped(off int64, again int) byte {
	b := f.bytes[off]
	if f.mutate != nil {
		return f.mutate(off, again, b)
	}
	return b ^ byte(1+(again-1)%255) // never b, a new value for 255 reads
}

// WriteAt implements [io.WriterAt]. Writing a byte is not a fetch of it.
func (f *Flip) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.span(len(p), off)
	if n > 0 {
		copy(f.bytes[off:], p[:n])
	}
	return n, err
}

// span is how much of n bytes at off exists, and io.EOF when not all of it.
func (f *Flip) span(n int, off int64) (int, error) {
	if off < 0 || off > int64(len(f.bytes)) {
		return 0, fmt.Errorf("flip: offset %#x outside %#x bytes", off, len(f.bytes))
	}
	if have := len(f.bytes) - int(off); n > have {
		return have, io.EOF
	}
	return n, nil
}

// DoubleFetches is every byte read more than once in this request, as ranges
// in ascending order, from the base given to NewFlip.
func (f *Flip) DoubleFetches() []addr.Range[addr.IOVA] {
	f.mu.Lock()
	defer f.mu.Unlock()
	var offs []int
	for off, n := range f.fetches {
		if n > 1 {
			offs = append(offs, off)
		}
	}
	slices.Sort(offs)
	var rs []addr.Range[addr.IOVA]
	for i := 0; i < len(offs); {
		j := i + 1
		for j < len(offs) && offs[j] == offs[j-1]+1 {
			j++
		}
		rs = append(rs, addr.MustRange(f.base+addr.IOVA(offs[i]), addr.Len(j-i)))
		i = j
	}
	return rs
}

// Fetched is the number of distinct bytes read in this request.
func (f *Flip) Fetched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fetches)
}
