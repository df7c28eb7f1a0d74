package dashboard

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/softmdev/softmdev/internal/daemon"
)

//go:embed static
var static embed.FS

// Bounds of the server.
const (
	maxConns    = 256 // at one time
	maxStreams  = 64  // pages that are looked at
	maxHeader   = 16 << 10
	headerTime  = 5 * time.Second // for a request to come in
	writeTime   = 5 * time.Second // for a page or an event to be taken
	profileTime = 5 * time.Minute // for a profile, which the asker times
	idleTime    = time.Minute
)

// Config configures a [Server].
type Config struct {
	// Live is all devices at about one moment: (*daemon.Daemon).Live.
	Live func() []daemon.Live
	// Interval is the time between two events of a stream. 0: 500 ms.
	Interval time.Duration
	// Log gets a line when serving begins. Nil: silent.
	Log *slog.Logger
}

// Server serves the page on one listener.
type Server struct {
	cfg     Config
	handler http.Handler
	streams chan struct{}
}

// New makes a server.
func New(cfg Config) *Server {
	cfg.Interval = cmp.Or(cfg.Interval, 500*time.Millisecond)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Server{cfg: cfg, streams: make(chan struct{}, maxStreams)}

	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{cfg.Live}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := &feed{live: cfg.Live, interval: cfg.Interval}
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // embedded: it is there
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /api/devices", f.now)
	mux.HandleFunc("GET /api/stream", s.bounded(f.stream))
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /debug/pprof/", slow(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", slow(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", slow(pprof.Trace))
	s.handler = guarded(mux)
	return s
}

// ServeHTTP is http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Listen makes the listener for ADDR, which is HOST:PORT; without a HOST only
// this machine can connect.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", net.JoinHostPort(cmp.Or(host, "localhost"), port))
}

// Serve serves l, which it closes, until ctx ends; then it returns nil when
// every connection is closed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       headerTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	s.cfg.Log.Info("page and metrics are served", "url", "http://"+l.Addr().String()+"/")
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(daemon.Limited(ctx, l, maxConns))
	if ctx.Err() != nil && (errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed)) {
		_ = srv.Close() // the listener may have heard of it first
		return nil
	}
	return err
}

// bounded lets a bounded number of requests be in h at a time.
func (s *Server) bounded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.streams <- struct{}{}:
			defer func() { <-s.streams }()
			h(w, r)
		default:
			http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		}
	}
}

// slow gives h the time that a profile takes.
func slow(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Where no deadline can be set there is none to move.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(profileTime))
		h(w, r)
	}
}

// guarded refuses requests by which a web site could have the browser of a
// visitor read the page (the site's own name made to lead here), and tells the
// browser what the page may do.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !known(r.Host) {
			http.Error(w, "this server does not go by that name", http.StatusMisdirectedRequest)
			return
		}
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// known reports whether host, with or without a port, is an address or the name
// of this machine itself.
func known(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
