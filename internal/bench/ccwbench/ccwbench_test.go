package ccwbench

import (
	"testing"

	"github.com/softmdev/softmdev/internal/bench"
)

func BenchmarkCCW(b *testing.B) { bench.Test(b, Benchmarks()) }
