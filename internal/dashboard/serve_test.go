package dashboard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/dashboard"
	"github.com/softmdev/softmdev/mdev"
)

func get(t *testing.T, h http.Handler, url string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))
	return w
}

// What the JSON says is what the daemon says.
func TestDevices(t *testing.T) {
	d := &devices{}
	s := dashboard.New(dashboard.Config{Live: d.live, Interval: time.Nanosecond})
	require.JSONEq(t, "[]", get(t, s, "http://localhost/api/devices").Body.String())
	d.set(idle, busy)
	var list []dashboard.Device
	require.NoError(t, json.Unmarshal(get(t, s, "http://localhost/api/devices").Body.Bytes(), &list))
	require.Len(t, list, 2)
	require.Equal(t, "/run/a.sock", list[0].Endpoint)
	require.Empty(t, list[0].Session)
	b := list[1]
	require.Equal(t, 5, b.Mappings)
	require.Equal(t, []dashboard.Lease{{Owner: "demo", Count: 2, Bytes: 8192}}, b.Leases)
	require.Equal(t, []dashboard.Rejected{{Reason: markup, Count: 1}, {Reason: "not mapped", Count: 6}}, b.Rejected)
	require.Contains(t, b.Interrupts, dashboard.Interrupt{Index: "MSI-X", Vector: 1, Raised: 41, Signalled: 40, Lost: 1})
	require.Equal(t, []dashboard.Counter{{Name: "commands", Value: 99}}, b.Counters)
}

// Each number is there once, with the labels that tell devices apart.
func TestMetrics(t *testing.T) {
	d := &devices{}
	d.set(idle, busy)
	body := get(t, dashboard.New(dashboard.Config{Live: d.live}), "http://localhost/metrics").Body.String()
	const dev = `device="00000000-0000-4000-8000-000000000002",`
	for _, line := range []string{
		`mdev_device_info{api="vfio-pci",` + dev + `endpoint="/run/b.sock",parent="softmdev",type="demo"} 1`,
		`mdev_device_open{` + dev + `type="demo"} 1`,
		`mdev_clients_total{` + dev + `type="demo"} 3`,
		`mdev_protocol_bytes_total{` + dev + `direction="in",type="demo"} 1000`,
		`mdev_mappings{` + dev + `type="demo"} 5`,
		`mdev_mapped_bytes{` + dev + `type="demo"} 3.145728e+06`,
		`mdev_pinned_bytes{` + dev + `type="demo"} 8192`,
		`mdev_leases{` + dev + `owner="demo",type="demo"} 2`,
		`mdev_interrupts_total{` + dev + `index="MSI-X",type="demo",vector="1"} 41`,
		`mdev_interrupts_lost_total{` + dev + `index="MSI-X",type="demo",vector="1"} 1`,
		`mdev_region_accesses_total{` + dev + `op="write",region="BAR0",type="demo"} 34`,
		`mdev_rejected_total{` + dev + `reason="not mapped",type="demo"} 6`,
		`mdev_device_commands{` + dev + `type="demo"} 99`,
		"go_goroutines ",
	} {
		require.Contains(t, body, line)
	}
	require.Equal(t, 1, strings.Count(body, "mdev_mappings{"), "of a device that is not open")
}

// A device that reports what Prometheus has no word for costs that number, not
// the scrape.
func TestMetricsOfBrokenDevice(t *testing.T) {
	d := &devices{}
	bad := busy
	st := *busy.Session
	st.Device = []mdev.Metric{{Name: "twice", Value: 1}, {Name: "twice", Value: 2}, {Name: "odd name", Value: 3},
		{Name: "rejected", Labels: []mdev.Label{{Name: "reason", Value: "\xff"}}, Value: 4}}
	bad.Session = &st
	d.set(bad)
	w := get(t, dashboard.New(dashboard.Config{Live: d.live}), "http://localhost/metrics")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "mdev_device_odd_name{")
	require.Contains(t, w.Body.String(), "mdev_mappings{")
}

func TestPage(t *testing.T) {
	s := dashboard.New(dashboard.Config{Live: (&devices{}).live})
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/style.css": "text/css", "/debug/pprof/": "text/html"} {
		w := get(t, s, "http://127.0.0.1:1234"+path)
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Contains(t, w.Header().Get("Content-Type"), kind)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'self'")
	}
	require.Equal(t, http.StatusNotFound, get(t, s, "http://localhost/nothing").Code)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/api/devices", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

// A web site that has its own name lead here reads nothing.
func TestForeignName(t *testing.T) {
	s := dashboard.New(dashboard.Config{Live: (&devices{}).live})
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:80": 200, "a.localhost:1": 200, "127.0.0.1": 200, "[::1]:8080": 200, "192.0.2.7:9": 200,
		"example.com": 421, "example.com:80": 421, "localhost.example.com": 421, "127.0.0.1.example.com": 421, "": 421,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/devices", nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, "host %q", host)
	}
}

// served is a server on a socket of its own.
func served(t *testing.T, d *devices) (url string) {
	t.Helper()
	l, err := dashboard.Listen(t.Context(), ":0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- dashboard.New(dashboard.Config{Live: d.live, Interval: 20 * time.Millisecond}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return "http://" + l.Addr().String()
}

// Streams tell what changes, share one look at the devices, and are bounded.
func TestStream(t *testing.T) {
	d := &devices{}
	url := served(t, d)
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	open := func() (*http.Response, *bufio.Reader) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/stream", nil)
		require.NoError(t, err)
		w, err := tr.RoundTrip(r)
		require.NoError(t, err)
		return w, bufio.NewReader(w.Body)
	}
	next := func(b *bufio.Reader) string {
		line, err := b.ReadString('\n')
		require.NoError(t, err)
		_, err = b.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	w, b := open()
	require.Equal(t, "data: []\n", next(b))
	d.set(busy)
	require.Eventually(t, func() bool { return strings.Contains(next(b), `"mappings":5`) }, 5*time.Second, time.Millisecond)

	all := []io.Closer{w.Body}
	for len(all) < 64 {
		w, b := open()
		require.Equal(t, http.StatusOK, w.StatusCode)
		next(b)
		all = append(all, w.Body)
	}
	w, _ = open()
	require.Equal(t, http.StatusServiceUnavailable, w.StatusCode)
	w.Body.Close()
	for _, c := range all {
		c.Close()
	}
	require.Eventually(t, func() bool { w, _ := open(); w.Body.Close(); return w.StatusCode == http.StatusOK }, 5*time.Second, 10*time.Millisecond)
}
