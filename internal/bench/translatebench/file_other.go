//go:build !linux

package translatebench

import "github.com/softmdev/softmdev/internal/bench"

func fileBenchmarks() []bench.Benchmark { return nil }
