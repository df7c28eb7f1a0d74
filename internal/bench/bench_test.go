package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sleep(d time.Duration) func(*testing.B) {
	return func(b *testing.B) {
		for b.Loop() {
			time.Sleep(d)
		}
		b.ReportMetric(float64(d.Microseconds()), "us")
	}
}

func TestCheck(t *testing.T) {
	ok := Benchmark{Name: "a", Run: sleep(0)}
	require.NoError(t, Check([]Benchmark{ok}))
	require.ErrorContains(t, Check([]Benchmark{ok, ok}), "twice")
	require.ErrorContains(t, Check([]Benchmark{{Name: "b", Baseline: "c", Run: sleep(0)}}), `baseline "c" is not listed`)
	require.ErrorContains(t, Check([]Benchmark{{Name: "b"}}), "no body")
	require.ErrorContains(t, Check([]Benchmark{{Name: "b", Per: 2, Metric: CPU, Run: sleep(0)}}), "its body counts")
}

func TestRunComparesWithTheBaseline(t *testing.T) {
	list := []Benchmark{
		{Name: "x/slow", Unit: "us", Metric: "us", Run: sleep(400 * time.Microsecond)},
		{Name: "x/fast", Unit: "us", Metric: "us", Baseline: "x/slow", Run: sleep(100 * time.Microsecond)},
		{Name: "y", Run: func(*testing.B) { panic("not selected") }},
	}
	var told []string
	got, err := Run(list, 1, func(n string) bool { return n == "x/fast" }, func(n string) bool { told = append(told, n); return true })
	require.NoError(t, err)
	require.Equal(t, []string{"x/slow", "x/fast"}, told, "the baseline of a selected benchmark runs too")
	require.Len(t, got, 2)
	require.Equal(t, 4.0, got[1].Ratio)
	require.Zero(t, got[0].Ratio)

	_, err = Run([]Benchmark{{Name: "z", Metric: "none", Run: sleep(0)}}, 1, nil, nil)
	require.ErrorContains(t, err, `no metric "none"`)

	got, err = Run(list, 1, nil, func(string) bool { return false })
	require.NoError(t, err)
	require.Empty(t, got)
}
