package translatebench

import (
	"runtime"
	"testing"
)

// metric is the unit under which timed reports.
const metric = "cpu-ns/op"

// timed measures f, which does n operations, in CPU time of the thread. What
// setting up left behind is collected first.
func timed(b *testing.B, n int, f func()) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC()
	f() // warm the caches; a new reader turns fast
	b.ReportAllocs()
	rounds := 0
	start := threadTime()
	for b.Loop() {
		f()
		rounds++
	}
	b.ReportMetric(float64(threadTime()-start)/float64(rounds)/float64(n), metric)
}
