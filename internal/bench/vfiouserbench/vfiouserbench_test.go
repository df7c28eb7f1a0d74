package vfiouserbench

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/bench"
)

func Benchmark(b *testing.B) { bench.Test(b, Benchmarks()) }

func TestListIsSound(t *testing.T) { require.NoError(t, bench.Check(Benchmarks())) }
