// Package bench is the list that `mdev bench` runs: named benchmark bodies,
// each with the name of the simple baseline it is measured against, so that
// every figure is also a ratio of two measurements of one run on one machine.
//
// Packages of benchmarks return a []Benchmark from a function named
// Benchmarks; the binary joins the lists. The same bodies run under
// `go test -bench` through [Test]. There is no global registry: a list is a
// value.
package bench

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
)

// Benchmark is one measured body.
type Benchmark struct {
	// Name is a path, "translate/random/4096/store". Names are unique in a
	// list.
	Name string
	// Unit says what one Value counts; empty means "ns/op".
	Unit string
	// Per is the number of operations in one iteration of the body: the
	// value is the time of an iteration divided by Per. 0 means 1. Not with
	// Metric.
	Per int
	// Metric takes the value from the metric of this unit that the body
	// reported with b.ReportMetric, instead of from the clock.
	Metric string
	// Baseline is the Name of the benchmark that this one is compared with;
	// empty for a baseline itself.
	Baseline string
	// Run is the body. It sets up outside of the timed part (b.Loop or
	// b.ResetTimer) and leaves nothing behind.
	Run func(b *testing.B)
}

// Result is the measurement of one Benchmark.
type Result struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline"`
	// Ratio is the baseline's value over this one's for times, and the
	// inverse for rates ("CCW/s"), so that above 1 always means better than
	// the baseline. 0 where there is no baseline.
	Ratio float64 `json:"ratio"`
	// AllocsPerOp counts heap allocations of one iteration.
	AllocsPerOp int64 `json:"-"`
}

// Check reports the first fault of a list: a missing body, a name given
// twice, a Per beside a Metric, a baseline that is not in the list.
func Check(list []Benchmark) error {
	names := make(map[string]bool, len(list))
	for _, b := range list {
		switch {
		case b.Name == "" || b.Run == nil:
			return fmt.Errorf("benchmark %q has no name or no body", b.Name)
		case names[b.Name]:
			return fmt.Errorf("benchmark %q is listed twice", b.Name)
		case b.Per != 0 && b.Metric != "":
			return fmt.Errorf("benchmark %q has operations to count that its body counts", b.Name)
		}
		names[b.Name] = true
	}
	for _, b := range list {
		if b.Baseline != "" && !names[b.Baseline] {
			return fmt.Errorf("benchmark %q: baseline %q is not listed", b.Name, b.Baseline)
		}
	}
	return nil
}

// Test runs the bodies as sub-benchmarks of b: the `go test -bench` side of a
// list.
func Test(b *testing.B, list []Benchmark) {
	for _, x := range list {
		b.Run(x.Name, x.Run)
	}
}

// Run measures the benchmarks of list that keep selects (nil: all) and the
// baselines they name, each the given number of times, and keeps the best
// time of each: on a shared machine the noise only ever adds. before, if not
// nil, is told the name of each benchmark before it runs; returning false
// stops the run, which then returns what it has.
func Run(list []Benchmark, rounds int, keep func(name string) bool, before func(name string) bool) ([]Result, error) {
	if err := Check(list); err != nil {
		return nil, err
	}
	wanted := make(map[string]bool)
	for _, b := range list {
		if keep == nil || keep(b.Name) {
			wanted[b.Name] = true
			if b.Baseline != "" {
				wanted[b.Baseline] = true
			}
		}
	}
	var results []Result
	values := make(map[string]float64)
	for _, b := range list {
		if !wanted[b.Name] {
			continue
		}
		if before != nil && !before(b.Name) {
			break
		}
		r, err := measure(b, max(1, rounds))
		if err != nil {
			return results, err
		}
		values[b.Name] = r.Value
		results = append(results, r)
	}
	for i := range results {
		r := &results[i]
		if base := values[r.Baseline]; base != 0 && r.Value != 0 {
			if rate(r.Unit) {
				r.Ratio = r.Value / base
			} else {
				r.Ratio = base / r.Value
			}
		}
	}
	return results, nil
}

func measure(b Benchmark, rounds int) (Result, error) {
	r := Result{Name: b.Name, Unit: cmp.Or(b.Unit, "ns/op"), Baseline: b.Baseline}
	for i := range rounds {
		m := testing.Benchmark(b.Run)
		if m.N == 0 {
			return r, fmt.Errorf("benchmark %s failed", b.Name)
		}
		v := float64(m.T.Nanoseconds()) / float64(m.N) / float64(max(1, b.Per))
		if b.Metric != "" {
			var ok bool
			if v, ok = m.Extra[b.Metric]; !ok {
				return r, fmt.Errorf("benchmark %s reported no metric %q", b.Name, b.Metric)
			}
		}
		if i == 0 || better(r.Unit, v, r.Value) {
			r.Value, r.AllocsPerOp = v, m.AllocsPerOp()
		}
	}
	return r, nil
}

// rate reports whether more of the unit is better.
func rate(unit string) bool {
	return slices.Contains([]string{"CCW/s", "MB/s", "ops/s", "MiB/s"}, unit)
}

func better(unit string, a, b float64) bool {
	if rate(unit) {
		return a > b
	}
	return a < b
}
