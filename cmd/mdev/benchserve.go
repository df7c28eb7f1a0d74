package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/mdev/vfiouser"
)

// serveBenchmarks are what a process that serves the demo device takes of the
// machine while nothing happens.
func serveBenchmarks(ctx context.Context) []bench.Benchmark {
	const unit = "MiB"
	return []bench.Benchmark{
		{Name: "serve/rss/idle", Unit: unit, Metric: unit, Run: func(b *testing.B) { servedRSS(ctx, b, unit, false) }},
		{Name: "serve/rss/client", Unit: unit, Metric: unit, Run: func(b *testing.B) { servedRSS(ctx, b, unit, true) }},
	}
}

// servedRSS is the resident memory of `mdev serve`, with or without a client.
func servedRSS(ctx context.Context, b *testing.B, unit string, client bool) {
	socket := filepath.Join(b.TempDir(), "s")
	cmd := exec.CommandContext(ctx, os.Args[0], "serve", "--type", "demo", "--socket-path", socket)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	}()
	c, err := dialSoon(ctx, socket)
	if err != nil {
		b.Fatal(err)
	}
	if client {
		defer c.Close()
	} else if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	var most float64
	for b.Loop() {
		time.Sleep(10 * time.Millisecond)
		n, err := resident(cmd.Process.Pid)
		if err != nil {
			b.Fatal(err)
		}
		most = max(most, n)
	}
	b.ReportMetric(most, unit)
}

// dialSoon connects to a server that is just being started.
func dialSoon(ctx context.Context, socket string) (*vfiouser.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		c, err := vfiouser.Dial(ctx, socket, nil)
		if err == nil || !errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// resident is the resident memory of a process, in MiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	var kib float64
	if _, err := fmt.Sscanf(string(rest), "%f kB", &kib); err != nil {
		return 0, fmt.Errorf("VmRSS: %w", err)
	}
	return kib / 1024, nil
}
