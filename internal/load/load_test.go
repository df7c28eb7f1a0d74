package load

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

var duration = flag.Duration("for", 2*time.Second, "how long the clients are busy")

const devices = 24

// TestManyDevices has 24 devices in one `mdev serve`, a busy client at each.
func TestManyDevices(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "mdev")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/softmdev/softmdev/cmd/mdev").CombinedOutput()
	require.NoError(t, err, "%s", out)

	type device struct {
		Type   string `json:"type"`
		Socket string `json:"socket"`
	}
	var list []device
	for i := range devices {
		list = append(list, device{"demo", filepath.Join(dir, fmt.Sprint(i))})
	}
	cfg, err := json.Marshal(map[string]any{"devices": list})
	require.NoError(t, err)
	file := filepath.Join(dir, "devices.json")
	require.NoError(t, os.WriteFile(file, cfg, 0o600))

	log := &buffer{}
	srv := exec.CommandContext(t.Context(), bin, "serve", "--config", file, "--http", "127.0.0.1:0")
	srv.Stderr = log
	require.NoError(t, srv.Start())
	defer func() { _ = srv.Process.Kill() }()
	ctx, cancel := context.WithTimeout(t.Context(), *duration+time.Minute)
	defer cancel()
	for _, d := range list {
		require.Eventually(t, func() bool { _, err := os.Stat(d.Socket); return err == nil }, 10*time.Second, 5*time.Millisecond)
	}
	idle := resident(t, srv.Process.Pid)

	guests := make([]*guest, devices)
	for i := range guests {
		guests[i], err = newGuest(ctx, i, list[i].Socket)
		defer guests[i].close()
		require.NoError(t, err)
	}
	var all errgroup.Group
	until := time.Now().Add(*duration)
	for _, g := range guests {
		all.Go(func() error { return g.work(ctx, until) })
	}
	require.NoError(t, all.Wait(), "%s", log.String())
	busy := resident(t, srv.Process.Pid)
	signalled := metric(t, log, "mdev_interrupts_signalled_total")
	// Once more when nobody is at work any more: what came late counts.
	for _, g := range guests {
		require.NoError(t, g.check())
		require.NoError(t, g.close())
		g.c, g.mem, g.fd = nil, nil, -1
		clear(g.events[:])
	}

	access, command := hdrhistogram.New(1, int64(time.Minute), 3), hdrhistogram.New(1, int64(time.Minute), 3)
	least, most, remaps := int64(1<<62), int64(0), 0
	for _, g := range guests {
		access.Merge(g.access)
		command.Merge(g.command)
		least, most, remaps = min(least, g.command.TotalCount()), max(most, g.command.TotalCount()), remaps+g.remaps
	}
	t.Logf("%d devices, %v: %d commands (%d to %d a device), %d memory maps changed", devices, *duration, command.TotalCount(), least, most, remaps)
	t.Logf("resident: %d KiB idle, %d KiB busy", idle>>10, busy>>10)
	t.Logf("register read\n%s", histogram(access))
	t.Logf("command, from doorbell to interrupt\n%s", histogram(command))
	require.NotZero(t, least, "a device that did not get its turn")
	require.Equal(t, float64(command.TotalCount()), signalled, "interrupts by the server's count")

	require.NoError(t, srv.Process.Signal(syscall.SIGTERM))
	require.NoError(t, srv.Wait(), "%s", log.String())
	for _, d := range list {
		require.NoFileExists(t, d.Socket)
	}
}

// buffer is what a process has written so far.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// metric is the sum of a metric over all devices, as the server that wrote log
// tells it.
func metric(t *testing.T, log *buffer, name string) (sum float64) {
	t.Helper()
	url := regexp.MustCompile(`url=(\S+)`).FindStringSubmatch(log.String())
	require.NotNil(t, url, "%s", log)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url[1]+"metrics", nil)
	require.NoError(t, err)
	w, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer w.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	require.NoError(t, err)
	require.Contains(t, families, name)
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	return sum
}

// histogram draws h, a line for each doubling.
func histogram(h *hdrhistogram.Histogram) string {
	var b strings.Builder
	total := h.TotalCount()
	for _, q := range []float64{50, 90, 99, 99.9, 100} {
		fmt.Fprintf(&b, "  p%-5v %v", q, time.Duration(h.ValueAtQuantile(q)).Round(100*time.Nanosecond))
	}
	b.WriteByte('\n')
	from := int64(0)
	for to := int64(1000); from <= h.Max(); from, to = to, to*2 {
		n := int64(0)
		for _, bar := range h.Distribution() {
			if bar.From >= from && bar.From < to {
				n += bar.Count
			}
		}
		if n > 0 {
			fmt.Fprintf(&b, "  below %-9v %9d %s\n", time.Duration(to), n, strings.Repeat("#", int(60*n/total)))
		}
	}
	return b.String()
}

// resident is the resident memory of a process in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	var size, rss int
	_, err = fmt.Sscan(string(b), &size, &rss)
	require.NoError(t, err)
	return rss * os.Getpagesize()
}
