//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answerSize is the length of the answer to a write: header and region access.
const answerSize = 32

// A server is an mdev serve with one demo device.
type server struct {
	*process
	socket string // where machines attach
	http   string // where it tells what it holds
	mapped bool   // BAR 2 can be mapped, and then QEMU posts no writes

	// Before the first client:
	opened     map[string]string // files
	goroutines int
}

// What a server tells. Mappings and leases are those of a client; while there
// is none they are not told.
const (
	opened     = "mdev_device_open"
	mappings   = "mdev_mappings"
	leases     = "mdev_leases"
	accesses   = "mdev_region_accesses_total"
	sent       = "mdev_protocol_bytes_total"
	goroutines = "go_goroutines"
)

// newServer starts a server whose device has these attributes, name=value.
func (k *kit) newServer(t *testing.T, attrs ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{socket: filepath.Join(dir, "device"), http: freeAddress(t), mapped: slices.Contains(attrs, mapped)}
	args := []string{"serve", "--type", "demo", "--socket-path", s.socket, "--http", s.http}
	for _, a := range attrs {
		args = append(args, "--attr", a)
	}
	s.process = start(t, "mdev serve", k.mdev, args...)
	require.NoError(t, eventually(10*time.Second, func() error {
		_, err := os.Stat(s.socket)
		if err == nil {
			_, err = s.tells()
		}
		return err
	}), "%s", &s.out)
	now, err := s.tells()
	require.NoError(t, err)
	s.opened, s.goroutines = s.files(), now.sum(goroutines)
	return s
}

// freeAddress is one that nobody listens on, as far as can be known.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// tells is all that the server tells at this moment.
func (s *server) tells() (samples, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + s.http + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return parseSamples(string(b))
}

// maps is how many mappings the device has.
func (s *server) maps() (int, error) {
	now, err := s.tells()
	return now.sum(mappings), err
}

// samples are the samples of all metrics.
type samples []sample

type sample struct {
	name, labels string
	value        int
}

// sum adds up the samples of a metric that have all of these labels, each
// name="value".
func (all samples) sum(name string, labels ...string) int {
	sum := 0
	for _, s := range all {
		if s.name == name && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(s.labels, l) }) {
			sum += s.value
		}
	}
	return sum
}

// has says whether there is a sample of a metric.
func (all samples) has(name string) bool {
	return slices.ContainsFunc(all, func(s sample) bool { return s.name == name })
}

// parseSamples reads Prometheus' text format.
func parseSamples(text string) (samples, error) {
	var all samples
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.IndexAny(line, "{ ")
		if end < 0 {
			return nil, fmt.Errorf("%q has no value", line)
		}
		behind := max(end, strings.LastIndex(line, "}")+1)
		values := strings.Fields(line[behind:])
		if len(values) == 0 {
			return nil, fmt.Errorf("%q has no value", line)
		}
		v, err := strconv.ParseFloat(values[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		all = append(all, sample{line[:end], line[end:behind], int(v)})
	}
	return all, nil
}

// empty says whether nothing of a client is left: no session with its mappings
// and leases, and no goroutine and no file that was not there before the first
// client came.
func (s *server) empty() error {
	return eventually(10*time.Second, func() error {
		now, err := s.tells()
		if err != nil {
			return err
		}
		if !now.has(opened) {
			return fmt.Errorf("the server does not tell %s", opened)
		}
		for _, name := range []string{opened, mappings, leases} {
			if n := now.sum(name); n != 0 {
				return fmt.Errorf("%s is %d", name, n)
			}
		}
		if n := now.sum(goroutines); n > s.goroutines {
			return fmt.Errorf("%d goroutines, %d before", n, s.goroutines)
		}
		return s.sameFiles()
	})
}

// sameFiles compares what is open now with what was before. A descriptor may
// have come to mean another file; there may not be more of any kind.
func (s *server) sameFiles() error {
	kinds := func(files map[string]string) map[string]int {
		n := make(map[string]int)
		for _, to := range files {
			kind, _, _ := strings.Cut(to, "[") // socket:[4711]
			n[kind]++
		}
		return n
	}
	before := kinds(s.opened)
	for kind, n := range kinds(s.files()) {
		if n > before[kind] {
			return fmt.Errorf("%d of %q are open, %d before", n, kind, before[kind])
		}
	}
	return nil
}

// TestSamples reads what a server might tell.
func TestSamples(t *testing.T) {
	const text = "# HELP a_b a\n# TYPE a_b gauge\na_b{x=\"1\",y=\"2\"} 3\na_b{x=\"} 7 {\"} 4e3\na_b_c 100\n\na 1 1700000000\n"
	got, err := parseSamples(text)
	require.NoError(t, err)
	require.Equal(t, 4003, got.sum("a_b"))
	require.Equal(t, 3, got.sum("a_b", `y="2"`, `x="1"`))
	require.Equal(t, 100, got.sum("a_b_c"))
	require.Equal(t, 1, got.sum("a"))
	require.True(t, got.has("a"))
	require.False(t, got.has("b"))
	for _, bad := range []string{"a", "a x", "a{b=\"1\"}"} {
		_, err := parseSamples(bad)
		require.Error(t, err, bad)
	}
}
