package translatebench

import (
	"math/rand/v2"

	"github.com/softmdev/softmdev/translate/addr"
)

// span is one mapping of the layout.
type span struct {
	iova addr.IOVA
	n    addr.Len
	hva  addr.HVA
}

const (
	queries = 1 << 14 // of one pass; a multiple of every unrolling
	stride  = 64      // of a sequential pass: a cache line, a descriptor
)

// layout is n mappings in ascending order.
func layout(n int) []span {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	spans := make([]span, n)
	at, hva := addr.IOVA(0x1000_0000), addr.HVA(0x7000_0000_0000)
	for i := range spans {
		size := addr.PageSize * addr.Len(1+rng.IntN(4))
		spans[i] = span{at, size, hva + addr.HVA(rng.IntN(1<<20))<<addr.PageShift}
		at += addr.IOVA(size)
		if rng.IntN(4) == 0 {
			at += addr.IOVA(addr.PageSize) * addr.IOVA(1+rng.IntN(8))
		}
		hva += 1 << 33
	}
	return spans
}

// shuffled is s in random order: the order in which it is mapped.
func shuffled(s []span) []span {
	s = append([]span(nil), s...)
	rng := rand.New(rand.NewPCG(2, uint64(len(s))))
	rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

// random is addresses that are all mapped, evenly over the mappings.
func random(spans []span) []addr.IOVA {
	rng := rand.New(rand.NewPCG(3, uint64(len(spans))))
	q := make([]addr.IOVA, queries)
	for i := range q {
		s := spans[rng.IntN(len(spans))]
		q[i] = s.iova + addr.IOVA(rng.Uint64N(uint64(s.n)))
	}
	return q
}

// sequential is addresses that walk through the mappings.
func sequential(spans []span) []addr.IOVA {
	q := make([]addr.IOVA, 0, queries)
	for i := 0; ; i++ {
		s := spans[i%len(spans)]
		for off := addr.Len(0); off < s.n; off += stride {
			if len(q) == queries {
				return q
			}
			q = append(q, s.iova+addr.IOVA(off))
		}
	}
}
