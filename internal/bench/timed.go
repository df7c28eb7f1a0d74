package bench

import (
	"math"
	"runtime"
	"testing"
	"time"
)

// Metrics of bodies that measure themselves: with [Timed], [Wall] and [Rate].
const (
	CPU     = "cpu-ns/op"
	Elapsed = "wall-ns/op"
	PerSec  = "ops/s"
)

// slice is how long is measured at a time.
const slice = 5 * time.Millisecond

// Timed measures f, which does n operations, in CPU time of the thread, so
// that other work on the machine disturbs it through the caches and what the
// cores share only; and that comes and goes, so what it reports is the best
// slice of 5 ms. What setting up left behind is collected first. A body that
// waits for other threads is for [Wall].
func Timed(b *testing.B, n int, f func()) {
	b.Helper()
	b.ReportMetric(best(b, n, threadTime, f), CPU)
}

var began = time.Now()

func wallTime() time.Duration { return time.Since(began) }

// Wall is Timed by the clock on the wall.
func Wall(b *testing.B, n int, f func()) {
	b.Helper()
	b.ReportMetric(best(b, n, wallTime, f), Elapsed)
}

// Rate is Wall that reports how many operations are done in a second.
func Rate(b *testing.B, n int, f func()) {
	b.Helper()
	b.ReportMetric(1e9/best(b, n, wallTime, f), PerSec)
}

// best is the time of an operation in the best slice, in nanoseconds.
func best(b *testing.B, n int, clock func() time.Duration, f func()) float64 {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC()
	f() // warm the caches; a new reader turns fast
	b.ReportAllocs()
	best, rounds := math.Inf(1), 0
	until, start := wallTime()+slice, clock()
	end := func() {
		best = min(best, float64(clock()-start)/float64(rounds)/float64(n))
	}
	for b.Loop() {
		f()
		if rounds++; wallTime() >= until {
			end()
			rounds, until, start = 0, wallTime()+slice, clock()
		}
	}
	if math.IsInf(best, 1) {
		end()
	}
	return best
}
