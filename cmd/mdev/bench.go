package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/internal/bench/ccwbench"
	"github.com/softmdev/softmdev/internal/bench/pinbench"
	"github.com/softmdev/softmdev/internal/bench/translatebench"
	"github.com/softmdev/softmdev/internal/bench/vfiouserbench"
	"github.com/softmdev/softmdev/internal/replay"
)

type benchCmd struct {
	Match  string        `name:"run" default:"." placeholder:"REGEXP" help:"Run the benchmarks whose name matches, and the baselines they name."`
	Time   time.Duration `default:"300ms" help:"Time for each measurement."`
	Count  int           `default:"3" help:"Measurements of each; the best counts."`
	List   bool          `help:"List the names and exit."`
	JSON   bool          `help:"Print a list of {name, value, unit, baseline, ratio}."`
	Replay string        `default:"testdata/ccw/dasd.jsonl.gz" placeholder:"FILE" help:"Recording for the replay benchmark; left out where it is not there."`
}

// Help is the long help.
func (*benchCmd) Help() string {
	return `Each hot path is measured beside a simple baseline of the same job, in one run on one
machine, so that the ratio says something where the figures do not. A ratio above 1
is better than the baseline.

Examples:
  mdev bench
  mdev bench --run translate/random --count 5 --json`
}

// benchmarks is the list of all packages.
func (c *benchCmd) benchmarks(ctx context.Context) []bench.Benchmark {
	list := slices.Concat(translatebench.Benchmarks(), pinbench.Benchmarks(), ccwbench.Benchmarks(),
		vfiouserbench.Benchmarks(), serveBenchmarks(ctx))
	if b, err := replayBenchmarks(ctx, c.Replay); err == nil {
		list = append(list, b...)
	}
	return list
}

// replayBenchmarks replays a recording from memory.
func replayBenchmarks(ctx context.Context, file string) ([]bench.Benchmark, error) {
	all, err := replay.Load([]string{file}, &replay.Options{Poison: 0xa5}, nil)
	if err != nil {
		return nil, err
	}
	base, _, _ := strings.Cut(filepath.Base(file), ".")
	run := func(rate func(*replay.Summary) float64) func(*testing.B) {
		return func(b *testing.B) {
			best := 0.0
			for b.Loop() {
				for _, s := range all {
					sum, err := s.Again(ctx)
					if err != nil {
						b.Fatal(err)
					}
					best = max(best, rate(sum))
				}
			}
			b.ReportMetric(best, "CCW/s")
		}
	}
	name := "replay/" + base
	return []bench.Benchmark{
		// Not measured here: what the machine that was recorded needed,
		// the cost of its recorder included.
		{Name: name + "/recorded", Unit: "CCW/s", Metric: "CCW/s", Run: func(b *testing.B) {
			for b.Loop() {
			}
			b.ReportMetric(recordedRate(all), "CCW/s")
		}},
		{Name: name + "/run", Unit: "CCW/s", Metric: "CCW/s", Baseline: name + "/recorded", Run: run(func(s *replay.Summary) float64 {
			return float64(s.CCWs) / float64(s.RunNS) * 1e9
		})},
		{Name: name + "/load-run-compare", Unit: "CCW/s", Metric: "CCW/s", Baseline: name + "/recorded", Run: run(func(s *replay.Summary) float64 {
			return float64(s.CCWs) / float64(s.AllNS) * 1e9
		})},
	}, nil
}

// recordedRate is the rate of the recorded machine by its own clock, 0 where
// the recording does not say.
func recordedRate(all []*replay.Scenario) float64 {
	ccws, ns := 0, int64(0)
	for _, s := range all {
		for i := range s.Records() {
			if r, _ := s.Record(i); r.HostNS != nil {
				ccws += len(r.Trace)
				ns += *r.HostNS
			}
		}
	}
	if ns == 0 {
		return 0
	}
	return float64(ccws) / float64(ns) * 1e9
}

// Run measures.
func (c *benchCmd) Run(a *app) error {
	want, err := regexp.Compile(c.Match)
	if err != nil {
		return usagef("--run: %w", err)
	}
	if c.Count < 1 || c.Time <= 0 {
		return usagef("--count and --time must be positive")
	}
	list := c.benchmarks(a.ctx)
	if c.List {
		for _, b := range list {
			if want.MatchString(b.Name) {
				fmt.Fprintln(a.stdout, b.Name)
			}
		}
		return nil
	}
	testing.Init()
	if err := flag.Set("test.benchtime", c.Time.String()); err != nil {
		return err
	}
	tell := isTerminal(a.stderr)
	results, err := bench.Run(list, c.Count, want.MatchString, func(name string) bool {
		if tell {
			fmt.Fprintf(a.stderr, "\r\x1b[K%s", name)
		}
		return a.ctx.Err() == nil
	})
	if tell {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	if err == nil {
		err = a.ctx.Err()
	}
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return usage{errors.New("--run matches no benchmark; --list names them")}
	}
	if c.JSON {
		return writeJSON(a.stdout, results)
	}
	printBench(a.stdout, results)
	return nil
}

func printBench(w io.Writer, results []bench.Result) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options.DrawBorder, style.Options.SeparateColumns = false, false
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"benchmark", "value", "unit", "allocs", "ratio", "baseline"})
	for _, r := range results {
		ratio := ""
		if r.Ratio != 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		t.AppendRow(table.Row{r.Name, figure(r.Value), r.Unit, r.AllocsPerOp, ratio, r.Baseline})
	}
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 2, Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Number: 4, Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Number: 5, Align: text.AlignRight, AlignHeader: text.AlignRight},
	})
	fmt.Fprintln(w, t.Render())
}

func figure(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
