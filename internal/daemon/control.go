package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
)

// ServeControl serves the control API on a listening socket, which it takes
// over, until ctx ends; requests that run then are ended.
func (d *Daemon) ServeControl(ctx context.Context, sock *Socket) error {
	defer sock.Close()
	if !sock.Listening {
		return fmt.Errorf("%s does not listen: %w", sock.Name, errs.ErrInvalid)
	}
	l, err := sock.listener()
	if err != nil {
		return fmt.Errorf("%s: %w", sock.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:        d.control(),
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ReadTimeout:    requestTime,
		WriteTimeout:   requestTime,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(d.cfg.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer stop()
		if srv.Shutdown(end) != nil {
			srv.Close()
		}
	}()
	err = srv.Serve(Limited(ctx, l, maxConnections))
	told := ctx.Err() != nil
	cancel()
	<-stopped
	if told {
		return nil
	}
	return fmt.Errorf("%s: %w", sock.Name, err)
}

// Limited is l with at most n connections at a time, until ctx ends: each is a
// descriptor of the process, and clients of devices need some. Who comes when
// there are as many waits.
func Limited(ctx context.Context, l net.Listener, n int) net.Listener {
	return &limited{l, make(chan struct{}, n), ctx}
}

// limited accepts a connection when one of its places is free.
type limited struct {
	net.Listener
	places chan struct{}
	ctx    context.Context
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placed{Conn: c, free: func() { <-l.places }}, nil
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	once sync.Once
	free func()
}

// Close implements net.Conn.
func (c *placed) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}

// control is the API's handler.
func (d *Daemon) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(w, r)
			if err != nil {
				d.refuse(w, r, err)
			} else if v != nil {
				respond(w, http.StatusOK, v)
			}
		})
	}
	handle("GET /v1/types", func(http.ResponseWriter, *http.Request) (any, error) { return TypesOf(d.reg), nil })
	handle("GET /v1/devices", d.list)
	handle("POST /v1/devices", d.create)
	handle("POST /v1/devices/{uuid}/start", d.startDevice)
	handle("POST /v1/devices/{uuid}/stop", d.stopDevice)
	handle("DELETE /v1/devices/{uuid}", d.remove)
	watchers := make(chan struct{}, maxWatchers)
	handle("GET /v1/watch", func(w http.ResponseWriter, r *http.Request) (any, error) {
		select {
		case watchers <- struct{}{}:
			defer func() { <-watchers }()
			return nil, d.watch(w, r)
		default:
			return nil, fmt.Errorf("%d watch already: %w", maxWatchers, errs.ErrAgain)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		d.refuse(w, r, fmt.Errorf("%s %s: no such request: %w", r.Method, r.URL.Path, errs.ErrNotFound))
	})
	return mux
}

func (d *Daemon) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, ok := statuses[errs.Errno(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	d.cfg.Log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "err", err)
	respond(w, status, failure{err.Error(), errnoName(err)})
}

func respond(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

// body reads the body of a request; an empty one leaves into as it is.
func body(w http.ResponseWriter, r *http.Request, into any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("body: %w: %w", err, errs.ErrInvalid)
	}
	if len(b) == 0 {
		return nil
	}
	if err := strict(b, into); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

// flag is a boolean of the query.
func flag(r *http.Request, name string) (bool, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%s=%q: %w", name, s, errs.ErrInvalid)
	}
	return v, nil
}

func (d *Daemon) list(_ http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	var want uuid.NullUUID
	if s := q.Get("uuid"); s != "" {
		id, err := registry.ParseUUID(s)
		if err != nil {
			return nil, err
		}
		want = uuid.NullUUID{UUID: id, Valid: true}
	}
	list := []Device{}
	for _, dev := range d.reg.List() {
		if (!want.Valid || dev.UUID == want.UUID) && (q.Get("parent") == "" || dev.Parent == q.Get("parent")) {
			list = append(list, deviceJSON(&dev))
		}
	}
	return list, nil
}

func (d *Daemon) create(w http.ResponseWriter, r *http.Request) (any, error) {
	var c Create
	if err := body(w, r, &c); err != nil {
		return nil, err
	}
	if c.UUID.Valid && c.UUID.UUID == uuid.Nil {
		return nil, fmt.Errorf("the zero UUID names no device: %w", errs.ErrInvalid)
	}
	dev, err := d.Create(r.Context(), Spec{UUID: c.UUID.UUID, Parent: c.Parent, Type: c.Type, Attrs: c.Attrs})
	if err != nil {
		return nil, err
	}
	if c.Start != nil {
		id := dev.UUID
		if dev, err = d.startOn(r.Context(), id, c.Start.Socket); err != nil {
			if undo := d.Remove(context.WithoutCancel(r.Context()), id, true); undo != nil {
				err = fmt.Errorf("%w (and it stays: %w)", err, undo)
			}
			return nil, err
		}
	}
	return deviceJSON(&dev), nil
}

// startOn is Start on a socket of that path, which the client names.
func (d *Daemon) startOn(ctx context.Context, id uuid.UUID, path string) (dev registry.Device, err error) {
	var sock *Socket
	if path != "" {
		if !filepath.IsAbs(path) {
			return dev, fmt.Errorf("socket %s: not an absolute path: %w", path, errs.ErrInvalid)
		}
		if sock, err = Listen(path, d.cfg.SocketMode); err != nil {
			return dev, err
		}
	}
	return d.Start(ctx, id, sock)
}

func (d *Daemon) startDevice(w http.ResponseWriter, r *http.Request) (any, error) {
	id, err := registry.ParseUUID(r.PathValue("uuid"))
	if err != nil {
		return nil, err
	}
	var s Start
	if err := body(w, r, &s); err != nil {
		return nil, err
	}
	dev, err := d.startOn(r.Context(), id, s.Socket)
	if err != nil {
		return nil, err
	}
	return deviceJSON(&dev), nil
}

func (d *Daemon) stopDevice(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := registry.ParseUUID(r.PathValue("uuid"))
	if err != nil {
		return nil, err
	}
	force, err := flag(r, "force")
	if err != nil {
		return nil, err
	}
	return struct{}{}, d.Stop(id, force)
}

func (d *Daemon) remove(w http.ResponseWriter, r *http.Request) (any, error) {
	id, err := registry.ParseUUID(r.PathValue("uuid"))
	if err != nil {
		return nil, err
	}
	force, err := flag(r, "force")
	if err != nil {
		return nil, err
	}
	var wait time.Duration
	if s := r.URL.Query().Get("wait"); s != "" {
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > maxWait {
			return nil, fmt.Errorf("wait=%q: want a duration up to %v: %w", s, maxWait, errs.ErrInvalid)
		}
	}
	// The device is asked for as long as the client waits and is there.
	deadline(w, wait+requestTime)
	ctx, stop := context.WithTimeoutCause(r.Context(), wait, fmt.Errorf("waited %v", wait))
	defer stop()
	return struct{}{}, d.Remove(ctx, id, force)
}

// deadline gives a request that takes its time more of it, from now on.
func deadline(w http.ResponseWriter, after time.Duration) {
	c := http.NewResponseController(w)
	// They fail for connections that are gone.
	_ = c.SetReadDeadline(time.Now().Add(after))
	_ = c.SetWriteDeadline(time.Now().Add(after))
}

// watch writes events until the client or the daemon has enough of it.
func (d *Daemon) watch(w http.ResponseWriter, r *http.Request) error {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	for e := range d.reg.Watch(r.Context()) {
		if c.SetWriteDeadline(time.Now().Add(requestTime)) != nil || enc.Encode(eventJSON(&e)) != nil {
			return nil
		}
		if e.Op != registry.Present && c.Flush() != nil {
			return nil
		}
	}
	return nil
}
