package daemon

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
	"github.com/softmdev/softmdev/mdev/vfiouser"
)

// Config configures a [Daemon]. The zero value and nil are the defaults.
type Config struct {
	// Log gets what happens. Nil: silent.
	Log *slog.Logger
	// Parents are those to begin with. Nil: [Builtin].
	Parents []registry.Parent
	// RunDir is where a device's socket is made that is started without
	// one. Empty: [RunDir].
	RunDir string
	// SocketMode are the rights of sockets that devices are served on. 0:
	// 0600.
	SocketMode fs.FileMode
	// MaxDevices is how many devices there may be. 0: as package registry.
	MaxDevices int
	// Server is the template for the servers; its Session's name is set
	// for each.
	Server vfiouser.ServerConfig
	// Record is asked, when a device is started, what records it; its error
	// fails the start. Nil, or returning nil: nothing.
	Record func(registry.Device) (mdev.Recorder, error)
}

// Daemon owns devices and serves them. Its methods may be called by any
// goroutine.
type Daemon struct {
	cfg Config
	reg *registry.Registry

	mu      sync.Mutex
	served  map[uuid.UUID]*served // guarded by mu
	closing bool                  // guarded by mu: nothing is started any more
	failed  error                 // guarded by mu: of servers that ended by themselves
	ended   chan struct{}         // guarded by mu: closed and replaced when one ends
}

// served is a device that is being served.
type served struct {
	id     uuid.UUID
	sock   *Socket
	server *vfiouser.Server
	cancel context.CancelFunc
	ready  chan struct{} // closed when Start is through with it
	done   chan struct{} // closed when it is not served any more
}

// New makes a daemon with its parents and no device.
func New(cfg *Config) (*Daemon, error) {
	d := &Daemon{served: make(map[uuid.UUID]*served), ended: make(chan struct{})}
	if cfg != nil {
		d.cfg = *cfg
	}
	d.cfg.Log = cmp.Or(d.cfg.Log, slog.New(slog.DiscardHandler))
	d.cfg.RunDir = cmp.Or(d.cfg.RunDir, RunDir())
	d.cfg.SocketMode = cmp.Or(d.cfg.SocketMode, 0o600)
	if d.cfg.Parents == nil {
		d.cfg.Parents = Builtin()
	}
	d.reg = registry.New(&registry.Config{Log: d.cfg.Log, MaxDevices: d.cfg.MaxDevices})
	for _, p := range d.cfg.Parents {
		if err := d.reg.RegisterParent(p); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Registry is what the daemon's devices are in, for those who look. Devices
// are made and removed through the daemon.
func (d *Daemon) Registry() *registry.Registry { return d.reg }

// Spec says what device to make.
type Spec struct {
	// UUID names it; the zero UUID: a new one.
	UUID uuid.UUID
	// Parent may be empty where only one parent has the type.
	Parent, Type string
	Attrs        []registry.Attr
}

// Create makes a device, which is not served yet.
func (d *Daemon) Create(ctx context.Context, s Spec) (registry.Device, error) {
	t, err := d.reg.FindType(s.Parent, s.Type)
	if err != nil {
		return registry.Device{}, err
	}
	if s.UUID == uuid.Nil {
		s.UUID = uuid.New()
	}
	return d.reg.Create(ctx, t.Parent, t.Name, s.UUID, s.Attrs)
}

// Start serves a device on a socket, which it takes over; nil: on
// <RunDir>/<uuid>.sock. It returns when clients can connect. errs.ErrExists if
// the device is served already.
func (d *Daemon) Start(ctx context.Context, id uuid.UUID, sock *Socket) (registry.Device, error) {
	dev, err := d.start(ctx, id, &sock)
	if err != nil && sock != nil {
		sock.Close()
	}
	return dev, err
}

func (d *Daemon) start(ctx context.Context, id uuid.UUID, sock **Socket) (registry.Device, error) {
	dev, err := d.reg.Device(id)
	if err != nil {
		return dev, err
	}
	s := &served{id: id, ready: make(chan struct{}), done: make(chan struct{})}
	if err := d.claim(s); err != nil {
		return dev, err
	}
	defer close(s.ready)
	if *sock == nil {
		if err = MakeDir(d.cfg.RunDir); err == nil {
			*sock, err = Listen(filepath.Join(d.cfg.RunDir, id.String()+".sock"), d.cfg.SocketMode)
		}
	}
	if err == nil {
		s.sock = *sock
		var c *vfiouser.ServerConfig
		if c, err = d.serverConfig(dev, s.sock); err == nil {
			s.server, err = vfiouser.NewServer(d.reg.Opener(id), c)
		}
	}
	if err == nil {
		// Fails if the device has been removed meanwhile. Whoever removes
		// it later finds the claim.
		err = d.reg.SetEndpoint(id, s.sock.Name)
	}
	if err != nil {
		d.unclaim(s, nil)
		return dev, err
	}
	var run context.Context
	run, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go d.run(run, s)
	d.cfg.Log.Info("device is served", "device", id.String(), "type", dev.Type, "socket", s.sock.Name)
	return d.reg.Device(id)
}

// serverConfig is the configuration of a device's server.
func (d *Daemon) serverConfig(dev registry.Device, sock *Socket) (_ *vfiouser.ServerConfig, err error) {
	c := d.cfg.Server
	c.Log = cmp.Or(c.Log, d.cfg.Log).With("device", dev.UUID.String())
	c.Session.Name = "client of " + sock.Name
	if d.cfg.Record != nil {
		c.Session.Record, err = d.cfg.Record(dev)
	}
	return &c, err
}

// run serves a device until it is told to stop or cannot go on.
func (d *Daemon) run(ctx context.Context, s *served) {
	defer s.cancel()
	var err error
	if s.sock.Listening {
		err = s.server.Serve(ctx, s.sock.fd)
	} else {
		err = s.server.ServeConn(ctx, s.sock.takeFD())
	}
	s.sock.Close()
	if ctx.Err() != nil {
		err = nil // it was told to
	}
	if err != nil {
		err = fmt.Errorf("device %s on %s: %w", s.id, s.sock.Name, err)
		d.cfg.Log.Error("device is no longer served", "device", s.id.String(), "socket", s.sock.Name, "err", err)
	} else {
		d.cfg.Log.Info("device is no longer served", "device", s.id.String(), "socket", s.sock.Name)
	}
	_ = d.reg.SetEndpoint(s.id, "") // it may be gone
	d.unclaim(s, err)
}

// claim notes that a device is about to be served.
func (d *Daemon) claim(s *served) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return fmt.Errorf("daemon ends: %w", errs.ErrGone)
	}
	if _, taken := d.served[s.id]; taken {
		return fmt.Errorf("device %s is served already: %w", s.id, errs.ErrExists)
	}
	d.served[s.id] = s
	return nil
}

// unclaim notes that it is not, or no longer.
func (d *Daemon) unclaim(s *served, failure error) {
	defer close(s.done) // who waits for that finds it to be so
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.served, s.id)
	if d.failed == nil {
		d.failed = failure
	}
	close(d.ended)
	d.ended = make(chan struct{})
}

// Wait returns nil when ctx ends, and when no device is served any more why
// the first of those that failed did, nil if none has.
func (d *Daemon) Wait(ctx context.Context) error {
	for {
		d.mu.Lock()
		n, failed, ended := len(d.served), d.failed, d.ended
		d.mu.Unlock()
		if n == 0 {
			return failed
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil
		}
	}
}

// Stop ends the serving of a device, which stays. errs.ErrBusy if a client has
// it open, unless force is set: then the client loses it. errs.ErrNotFound if
// it is not served.
func (d *Daemon) Stop(id uuid.UUID, force bool) error {
	dev, err := d.reg.Device(id)
	if err != nil {
		return err
	}
	if dev.Holder != "" && !force {
		return fmt.Errorf("device %s is open by %s: %w", id, dev.Holder, errs.ErrBusy)
	}
	if !d.end(id) {
		return fmt.Errorf("device %s is not served: %w", id, errs.ErrNotFound)
	}
	return nil
}

// end ends the serving of a device and waits for that; false if it is not
// served.
func (d *Daemon) end(id uuid.UUID) bool {
	d.mu.Lock()
	s, ok := d.served[id]
	d.mu.Unlock()
	if !ok {
		return false
	}
	<-s.ready
	if s.cancel != nil {
		s.cancel()
		if err := s.server.Close(); err != nil {
			d.cfg.Log.Warn("server does not close cleanly", "device", id.String(), "err", err)
		}
	}
	<-s.done
	return true
}

// Remove removes a device, and ends its serving. A client that has it open is
// asked to let go until ctx ends, then it is errs.ErrBusy and all stays; with
// force the client loses it at once.
func (d *Daemon) Remove(ctx context.Context, id uuid.UUID, force bool) error {
	if force {
		if _, err := d.reg.Device(id); err != nil {
			return err
		}
		d.end(id)
	}
	if err := d.reg.Remove(ctx, id); err != nil {
		return err
	}
	d.end(id)
	return nil
}

// Live is a device with what is going on at it.
type Live struct {
	registry.Device
	Server  *vfiouser.Stats    // nil: not served
	Session *mdev.SessionStats // nil: not open
}

// Live is all devices, sorted by UUID, at about one moment.
func (d *Daemon) Live() []Live {
	d.mu.Lock()
	servers := make(map[uuid.UUID]*served, len(d.served))
	for id, s := range d.served {
		servers[id] = s
	}
	d.mu.Unlock()
	var list []Live
	for _, dev := range d.reg.List() {
		l := Live{Device: dev}
		if s, ok := servers[dev.UUID]; ok {
			select {
			case <-s.ready:
				if s.server != nil {
					st := s.server.Stats()
					l.Server = &st
				}
			default:
			}
		}
		if s := d.reg.Session(dev.UUID); s != nil {
			st := s.Stats()
			l.Session = &st
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b Live) int { return bytes.Compare(a.UUID[:], b.UUID[:]) })
	return list
}

// Close ends all serving, whoever is connected, and removes all devices. It
// fails if something else has one open until ctx ends; then it can be called
// again.
func (d *Daemon) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closing = true
	var ids []uuid.UUID
	for id := range d.served {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { d.end(id) })
	}
	wg.Wait()
	if err := d.reg.Close(ctx); err != nil {
		return fmt.Errorf("daemon does not end: %w", err)
	}
	return nil
}
