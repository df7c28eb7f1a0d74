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

// What a server tells of clients, and what it has to be while there is none.
const (
	sessions = "mdev_sessions"
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
			_, err = s.metric(sessions)
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

// metric is the sum of all that the server tells under a name.
func (s *server) metric(name string) (int, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + s.http + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return sumOf(string(b), name)
}

// sumOf adds up the samples of a metric in Prometheus' text format.
func sumOf(text, name string) (int, error) {
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndex(rest, "}")+1:])
		if len(fields) == 0 {
			return 0, fmt.Errorf("%q has no value", line)
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("the server tells nothing of %s", name)
	}
	return int(sum), nil
}

// empty says whether nothing of a client is left: no session with its mappings
// and leases, and no file that was not open before the first client came.
func (s *server) empty() error {
	return eventually(10*time.Second, func() error {
		for _, name := range []string{sessions, mappings, leases} {
			n, err := s.metric(name)
			if err == nil && n != 0 {
				err = fmt.Errorf("%s is %d", name, n)
			}
			if err != nil {
				return err
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

// TestSumOf reads what a server might tell.
func TestSumOf(t *testing.T) {
	const text = "# HELP a_b a\n# TYPE a_b gauge\na_b{x=\"1\"} 3\na_b{x=\"} 7 {\"} 4e3\na_b_c 100\na 1\n"
	for name, want := range map[string]int{"a_b": 4003, "a_b_c": 100, "a": 1} {
		n, err := sumOf(text, name)
		require.NoError(t, err)
		require.Equal(t, want, n, name)
	}
	_, err := sumOf(text, "b")
	require.ErrorContains(t, err, "nothing of b")
	_, err = sumOf("a x\n", "a")
	require.Error(t, err)
}
