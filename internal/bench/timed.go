package bench

import (
	"math"
	"runtime"
	"testing"
	"time"
)

// CPU is the Metric of bodies that measure themselves with [Timed].
const CPU = "cpu-ns/op"

// slice is how long Timed measures at a time.
const slice = 5 * time.Millisecond

// Timed measures f, which does n operations, in CPU time of the thread, so
// that other work on the machine disturbs it through the caches and what the
// cores share only; and that comes and goes, so what it reports is the best
// slice of 5 ms. What setting up left behind is collected first. A body that
// waits for other threads is not to be measured so.
func Timed(b *testing.B, n int, f func()) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC()
	f() // warm the caches; a new reader turns fast
	b.ReportAllocs()
	best, rounds := math.Inf(1), 0
	began, start := time.Now(), threadTime()
	end := func() {
		best = min(best, float64(threadTime()-start)/float64(rounds)/float64(n))
	}
	for b.Loop() {
		f()
		if rounds++; time.Since(began) >= slice {
			end()
			rounds, began, start = 0, time.Now(), threadTime()
		}
	}
	if math.IsInf(best, 1) {
		end()
	}
	b.ReportMetric(best, CPU)
}
