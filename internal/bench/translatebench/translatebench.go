package translatebench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// baselines are measured beside the store. The first is what ratios count
// from.
var baselines = []struct {
	name string
	make func() contender
}{
	{"rwmutex", func() contender { return &sortedSlice{} }},
	{"btree", func() contender { return newTree() }},
	{"memdb", func() contender { return newDB() }},
}

// Sizes are the numbers of mappings that look-ups and changes are measured at.
var Sizes = []int{64, 4096, 65535}

// Benchmarks is the list for `mdev bench` and for `go test -bench`.
//
//	translate/random/N/X   a look-up of a random address
//	translate/seq/N/X      look-ups 64 bytes apart
//	translate/pair/N/X     an unmap and a map of one mapping
//	translate/writer/N/X   random look-ups while a writer does a pair every 10 us,
//	                       compared with the same without the writer
//	translate/file-pair/X  an unmap and a map of a page of a file: of one of many
//	                       mappings of it, or of the last one; or by mmap itself
//	translate/...          what has nothing to be compared with
//
// X is a baseline; or store, with a section for each look-up; or
// store-request, with a section for every sixteen, as a request has; or for
// pairs store-holder and store-reader, with one of these in the store.
func Benchmarks() []bench.Benchmark {
	var list []bench.Benchmark
	add := func(name, baseline string, run func(*testing.B)) {
		if baseline == name {
			baseline = ""
		}
		list = append(list, bench.Benchmark{Name: name, Baseline: baseline, Metric: bench.CPU, Run: run})
	}
	for _, n := range Sizes {
		for _, how := range []struct {
			name    string
			queries func([]span) []addr.IOVA
		}{{"random", random}, {"seq", sequential}} {
			prefix := fmt.Sprintf("translate/%s/%d/", how.name, n)
			for _, x := range baselines {
				add(prefix+x.name, prefix+"rwmutex", func(b *testing.B) { lookups(b, n, x.make(), how.queries) })
			}
			add(prefix+"store", prefix+"rwmutex", func(b *testing.B) { storeLookups(b, n, how.queries) })
			add(prefix+"store-request", prefix+"rwmutex", func(b *testing.B) { storeRequests(b, n, how.queries, how.name == "seq") })
		}
		prefix := fmt.Sprintf("translate/pair/%d/", n)
		for _, x := range baselines {
			add(prefix+x.name, prefix+"rwmutex", func(b *testing.B) { pairs(b, n, x.make()) })
		}
		add(prefix+"store", prefix+"rwmutex", func(b *testing.B) { storePairs(b, n, nil, false) })
		add(prefix+"store-holder", prefix+"rwmutex", func(b *testing.B) { storePairs(b, n, cheap{}, false) })
		add(prefix+"store-reader", prefix+"rwmutex", func(b *testing.B) { storePairs(b, n, nil, true) })
	}
	const n = 4096
	add("translate/writer/4096/store", fmt.Sprintf("translate/random/%d/store", n), func(b *testing.B) { storeWithWriter(b, n) })
	list = append(list, fileBenchmarks()...)
	add("translate/section", "", section)
	add("translate/read/8/bytes", "", func(b *testing.B) { reads(b, 8, false) })
	add("translate/read/8/guarded", "", func(b *testing.B) { reads(b, 8, true) })
	add("translate/read/4096/bytes", "", func(b *testing.B) { reads(b, 4096, false) })
	add("translate/whole-space", "", wholeSpace)
	return list
}

// batch is how many changes or reads are timed at once.
const batch = 256

func fill(c contender, spans []span) {
	for _, s := range shuffled(spans) {
		c.add(s)
	}
}

func newStore(b *testing.B, spans []span) *translate.Store {
	b.Helper()
	s, err := translate.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, x := range shuffled(spans) {
		if err := s.Map(x.iova, x.n, translate.Process(x.hva), addr.ReadWrite); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func lookups(b *testing.B, n int, c contender, which func([]span) []addr.IOVA) {
	spans := layout(n)
	fill(c, spans)
	q := which(spans)
	bench.Timed(b, queries, func() { scan(b, c, q) })
}

func scan(b *testing.B, c contender, q []addr.IOVA) {
	var sum addr.HVA
	hits := 0
	// One body for each type, so that no baseline pays for an interface.
	switch c := c.(type) {
	case *sortedSlice:
		for _, a := range q {
			if f, ok := c.find(a); ok {
				sum += f.hva
				hits++
			}
		}
	default:
		for _, a := range q {
			if f, ok := c.find(a); ok {
				sum += f.hva
				hits++
			}
		}
	}
	checkScan(b, hits, sum)
}

// checkScan fails b unless every query was answered, and keeps the answers
// alive.
func checkScan(b *testing.B, hits int, sum addr.HVA) {
	if hits != queries {
		b.Fatalf("%d of %d queries answered", hits, queries)
	}
	runtime.KeepAlive(sum)
}

func storeLookups(b *testing.B, n int, which func([]span) []addr.IOVA) {
	spans := layout(n)
	s := newStore(b, spans)
	r := s.NewReader()
	defer r.Close()
	q := which(spans)
	bench.Timed(b, queries, func() { storeScan(b, r, q) })
}

func storeScan(b *testing.B, r *translate.Reader, q []addr.IOVA) {
	var sum addr.HVA
	hits := 0
	for _, a := range q {
		r.Enter()
		if run, ok := r.Lookup(a); ok {
			sum += run.HVA
			hits++
		}
		r.Exit()
	}
	checkScan(b, hits, sum)
}

// request is the number of look-ups in a section of storeRequests.
const request = 16

// storeRequests looks up as a request does that walks through a program: in
// one section, the reader's hint first where addresses follow each other.
func storeRequests(b *testing.B, n int, which func([]span) []addr.IOVA, hint bool) {
	spans := layout(n)
	s := newStore(b, spans)
	r := s.NewReader()
	defer r.Close()
	q := which(spans)
	bench.Timed(b, queries, func() {
		var sum addr.HVA
		hits := 0
		for i := 0; i < len(q); i += request {
			r.Enter()
			for _, a := range q[i:min(i+request, len(q))] {
				if hint {
					if run, ok := r.Hit(a); ok {
						sum += run.HVA
						hits++
						continue
					}
				}
				if run, ok := r.Lookup(a); ok {
					sum += run.HVA
					hits++
				}
			}
			r.Exit()
		}
		checkScan(b, hits, sum)
	})
}

func pairs(b *testing.B, n int, c contender) {
	spans := layout(n)
	fill(c, spans)
	order := shuffled(spans)
	i := 0
	bench.Timed(b, batch, func() {
		for range batch {
			s := order[i%len(order)]
			c.remove(s)
			c.add(s)
			i++
		}
	})
}

// cheap is a holder that holds nothing.
type cheap struct{}

func (cheap) Drain(context.Context, []addr.Range[addr.IOVA]) error { return nil }
func (cheap) Done([]addr.Range[addr.IOVA])                         {}

func storePairs(b *testing.B, n int, h translate.Holder, reader bool) {
	spans := layout(n)
	s := newStore(b, spans)
	if h != nil {
		defer s.AddHolder(h)()
	}
	if reader {
		// A reader that has worked and is idle now.
		r := s.NewReader()
		defer r.Close()
		for range 10000 {
			r.Enter()
			r.Lookup(spans[0].iova)
			r.Exit()
		}
	}
	order := shuffled(spans)
	ctx := context.Background()
	i := 0
	bench.Timed(b, batch, func() {
		for range batch {
			x := order[i%len(order)]
			if _, err := s.Unmap(ctx, x.iova, x.n); err != nil {
				b.Fatal(err)
			}
			if err := s.Map(x.iova, x.n, translate.Process(x.hva), addr.ReadWrite); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}

// every runs f each period until the returned function is called.
func every(period time.Duration, f func(i int)) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		next := time.Now()
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			f(i)
			for next = next.Add(period); time.Until(next) > 0; {
				time.Sleep(time.Until(next)) // as close as the kernel's timer goes
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

const writerPeriod = 10 * time.Microsecond

// writerPart is the mappings that the writer changes; the reader looks the
// others up.
const writerPart = 16

func storeWithWriter(b *testing.B, n int) {
	spans := layout(n)
	s := newStore(b, spans)
	r := s.NewReader()
	defer r.Close()
	q := random(spans[writerPart:])
	ctx := context.Background()
	stop := every(writerPeriod, func(i int) {
		x := spans[i%writerPart]
		if _, err := s.Unmap(ctx, x.iova, x.n); err != nil {
			panic(err)
		}
		if err := s.Map(x.iova, x.n, translate.Process(x.hva), addr.ReadWrite); err != nil {
			panic(err)
		}
	})
	defer stop()
	bench.Timed(b, queries, func() { storeScan(b, r, q) })
}

func section(b *testing.B) {
	s := newStore(b, nil)
	r := s.NewReader()
	defer r.Close()
	bench.Timed(b, queries, func() {
		for range queries {
			r.Enter()
			r.Exit()
		}
	})
}

// reads copies n bytes at a time out of one mapping, in one section.
func reads(b *testing.B, n int, guarded bool) {
	mem := make([]byte, 1<<20)
	s := newStore(b, nil)
	if err := s.Map(0x1000, addr.Len(len(mem)), memoryOf(mem, guarded), addr.Read); err != nil {
		b.Fatal(err)
	}
	r := s.NewReader()
	defer r.Close()
	p := make([]byte, n)
	bench.Timed(b, batch, func() {
		r.Enter()
		for i := range batch {
			if err := r.Read(0x1000+addr.IOVA(i*8), p); err != nil {
				b.Fatal(err)
			}
		}
		r.Exit()
	})
}

// wholeSpace maps and unmaps all of the space but its last page.
func wholeSpace(b *testing.B) {
	s := newStore(b, nil)
	all := ^addr.Len(0) &^ (addr.PageSize - 1)
	ctx := context.Background()
	bench.Timed(b, 1, func() {
		if err := s.Map(0, all, translate.Remote(nowhere{}), addr.Read); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Unmap(ctx, 0, all); err != nil {
			b.Fatal(err)
		}
	})
}

type nowhere struct{}

func (nowhere) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
