package ccw

import (
	"bytes"
	"math/bits"

	"github.com/softmdev/softmdev/translate/addr"
)

// pageBits is a set of bytes of a page.
type pageBits [addr.PageSize / 64]uint64

// mask is the set of bytes [from, to) of word w of the page.
func maskOf(w, from, to int) uint64 {
	m := ^uint64(0)
	if low := from - w*64; low > 0 {
		m <<= low
	}
	if high := to - w*64; high < 64 {
		m &= 1<<high - 1
	}
	return m
}

// add puts bytes [from, to) into the set.
func (b *pageBits) add(from, to int) {
	for w := from / 64; w*64 < to; w++ {
		b[w] |= maskOf(w, from, to)
	}
}

// next is the first run of bytes of the set from byte at on; from is the size
// of a page when there is none.
func (b *pageBits) next(at int) (from, to int) {
	from = b.find(at, 0)
	return from, b.find(from, ^uint64(0))
}

// find is the first byte from at on whose bit, xor invert, is on.
func (b *pageBits) find(at int, invert uint64) int {
	const size = int(addr.PageSize)
	for w := at / 64; w < len(b); w++ {
		if v := (b[w] ^ invert) & maskOf(w, at, size); v != 0 {
			return w*64 + bits.TrailingZeros64(v)
		}
	}
	return size
}

// watchPage is one page of guest memory as a program saw and left it.
type watchPage struct {
	at      addr.IOVA
	fetched pageBits
	stored  pageBits
	first   [addr.PageSize]byte // of what was fetched
	last    [addr.PageSize]byte // of what was stored
}

// fetch notes that p was fetched at off. It reports false when a byte is
// another than the program knew. kept says that the fetch may have been answered
// from the copy of an earlier one, which what was stored since has not changed.
func (g *watchPage) fetch(off int, p []byte, kept bool) (same bool) {
	same = true
	end := off + len(p)
	for w := off / 64; w*64 < end; w++ {
		mask := maskOf(w, off, end)
		from, to := max(off, w*64), min(end, w*64+64)
		now := p[from-off : to-off]
		known := (g.fetched[w] | g.stored[w]) & mask
		switch {
		case known == 0: // the usual case
			copy(g.first[from:to], now)
			g.fetched[w] |= mask
		case known == mask && g.stored[w]&mask == 0:
			same = same && bytes.Equal(g.first[from:to], now)
		default:
			for i := range now {
				bit := uint64(1) << (from + i - w*64)
				switch {
				case kept && g.fetched[w]&bit != 0 && g.first[from+i] == now[i]:
				case g.stored[w]&bit != 0:
					same = same && g.last[from+i] == now[i]
				case g.fetched[w]&bit != 0:
					same = same && g.first[from+i] == now[i]
				default:
					g.first[from+i] = now[i]
					g.fetched[w] |= bit
				}
			}
		}
	}
	return same
}

// store notes that p was stored at off.
func (g *watchPage) store(off int, p []byte) {
	copy(g.last[off:], p)
	g.stored.add(off, off+len(p))
}

// appendRuns appends the bytes of data that are in the set as segments of the
// page at at.
func appendRuns(segs []Segment, at addr.IOVA, set *pageBits, data *[addr.PageSize]byte) []Segment {
	for from, to := set.next(0); from < len(data); from, to = set.next(to) {
		segs = append(segs, Segment{at + addr.IOVA(from), data[from:to:to]})
	}
	return segs
}
