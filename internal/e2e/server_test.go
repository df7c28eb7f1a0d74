//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A server is an mdev serve with one demo device.
type server struct {
	*process
	socket string // where machines attach
	http   string // where it tells what it holds
	before map[string]string
}

// What a server tells. Mappings and leases are those of a client; while there
// is none they are not told.
const (
	opened   = "mdev_device_open"
	mappings = "mdev_mappings"
	leases   = "mdev_leases"
)

// newServer starts a server whose device has these attributes, name=value.
func (k *kit) newServer(t *testing.T, attrs ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{socket: filepath.Join(dir, "device"), http: freeAddress(t)}
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
	s.before = s.files()
	return s
}

// freeAddress is one that nobody listens on, as far as can be known.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// tells is all that the server tells, by the names of the metrics: each the sum
// of its samples.
func (s *server) tells() (map[string]int, error) {
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
	return sums(string(b))
}

// maps is how many mappings the device has.
func (s *server) maps() (int, error) {
	now, err := s.tells()
	return now[mappings], err
}

// sums adds up the samples of each metric in Prometheus' text format.
func sums(text string) (map[string]int, error) {
	sum := make(map[string]int)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		end := strings.IndexAny(line, "{ ")
		if line == "" || line[0] == '#' {
			continue
		}
		if end < 0 {
			return nil, fmt.Errorf("%q has no value", line)
		}
		values := strings.Fields(line[max(end, strings.LastIndex(line, "}")+1):])
		if len(values) == 0 {
			return nil, fmt.Errorf("%q has no value", line)
		}
		v, err := strconv.ParseFloat(values[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		sum[line[:end]] += int(v)
	}
	return sum, nil
}

// empty says whether nothing of a client is left: no session with its mappings
// and leases, and no file that was not open before the first client came.
func (s *server) empty() error {
	return eventually(10*time.Second, func() error {
		now, err := s.tells()
		if err != nil {
			return err
		}
		if _, told := now[opened]; !told {
			return fmt.Errorf("the server does not tell %s", opened)
		}
		for _, name := range []string{opened, mappings, leases} {
			if now[name] != 0 {
				return fmt.Errorf("%s is %d", name, now[name])
			}
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
	before := kinds(s.before)
	for kind, n := range kinds(s.files()) {
		if n > before[kind] {
			return fmt.Errorf("%d of %q are open, %d before", n, kind, before[kind])
		}
	}
	return nil
}

// TestSums reads what a server might tell.
func TestSums(t *testing.T) {
	const text = "# HELP a_b a\n# TYPE a_b gauge\na_b{x=\"1\"} 3\na_b{x=\"} 7 {\"} 4e3\na_b_c 100\n\na 1 1700000000\n"
	got, err := sums(text)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a_b": 4003, "a_b_c": 100, "a": 1}, got)
	for _, bad := range []string{"a", "a x", "a{b=\"1\"}"} {
		_, err := sums(bad)
		require.Error(t, err, bad)
	}
}
