//go:build !linux

package vfiouserbench

import "github.com/softmdev/softmdev/internal/bench"

// Benchmarks is empty where there is no server.
func Benchmarks() []bench.Benchmark { return nil }
