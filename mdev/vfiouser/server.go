//go:build linux

package vfiouser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
)

// DeviceOpener opens the device that a server serves, each time a client
// comes. An entry of the registry is one; for a bare device see [OpenDevice].
type DeviceOpener interface {
	Open(ctx context.Context, cfg *mdev.SessionConfig) (*mdev.Session, error)
}

// OpenDevice is the DeviceOpener of a device that no registry knows.
func OpenDevice(dev mdev.Device) DeviceOpener { return bareDevice{dev} }

type bareDevice struct{ dev mdev.Device }

func (d bareDevice) Open(ctx context.Context, cfg *mdev.SessionConfig) (*mdev.Session, error) {
	return mdev.Open(ctx, d.dev, cfg)
}

// ServerConfig configures a [Server]. A nil *ServerConfig is the zero value;
// each zero field means its default.
type ServerConfig struct {
	// Log gets a line for each client that comes or goes, a warning for an
	// unmap that somebody holds up, and at level debug a line for each
	// message. nil is silent.
	Log *slog.Logger
	// Session is the template for the session of each client. Its Log is Log
	// where it is nil. Each session has a store of its own, of MaxMaps mappings:
	// Session.Store must be nil, or one client could unmap what is another's.
	Session  mdev.SessionConfig
	MaxData  int // bytes of an access that a client may ask for; default 1 MiB, at most 64 MiB
	MaxFDs   int // files that a message may bring; default and at most 16
	MaxMaps  int // mappings of a client; default and at most 65535
	MaxQueue int // commands that wait while one takes its time; default 1024

	MessageTime time.Duration // for a client to send a message it has begun, and VERSION; default 5 s
	SendTime    time.Duration // for a client to take a message; default 10 s
	DMATime     time.Duration // for a client to answer DMA_READ and DMA_WRITE; default 3 s
}

// Limits of ServerConfig. QEMU refuses a server that claims more.
const (
	limitMaxData = 64 << 20
	limitMaxFDs  = 16
)

// minMessage is what a message may have besides a little data, for VERSION and
// whatever else has no size of its own.
const minMessage = 16 << 10

func (c *ServerConfig) resolve() error {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Session.Log = cmp.Or(c.Session.Log, c.Log)
	for _, f := range []struct {
		v          *int
		def, limit int
		name       string
	}{
		{&c.MaxData, specMaxData, limitMaxData, "MaxData"},
		{&c.MaxFDs, limitMaxFDs, limitMaxFDs, "MaxFDs"},
		{&c.MaxMaps, specMaxMaps, specMaxMaps, "MaxMaps"},
		{&c.MaxQueue, 1024, 1 << 20, "MaxQueue"},
	} {
		*f.v = cmp.Or(*f.v, f.def)
		if *f.v < 1 || *f.v > f.limit {
			return fmt.Errorf("%s %d: %w", f.name, *f.v, errs.ErrInvalid)
		}
	}
	for _, f := range []struct {
		v    *time.Duration
		def  time.Duration
		name string
	}{
		{&c.MessageTime, 5 * time.Second, "MessageTime"},
		{&c.SendTime, 10 * time.Second, "SendTime"},
		{&c.DMATime, 3 * time.Second, "DMATime"},
	} {
		*f.v = cmp.Or(*f.v, f.def)
		if *f.v < time.Millisecond {
			return fmt.Errorf("%s %v: %w", f.name, *f.v, errs.ErrInvalid)
		}
	}
	if c.Session.Store != nil {
		return fmt.Errorf("a store for all clients: %w", errs.ErrInvalid)
	}
	t := translate.Config{}
	if c.Session.Translate != nil {
		t = *c.Session.Translate
	}
	t.MaxMappings = cmp.Or(t.MaxMappings, c.MaxMaps)
	c.Session.Translate = &t
	return nil
}

// Server serves one device to one client at a time. Its methods may be called
// from any goroutine.
type Server struct {
	dev   DeviceOpener // immutable
	cfg   ServerConfig // immutable, with defaults
	count counters

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	current *link // guarded by mu
	closed  bool  // guarded by mu
	users   sync.WaitGroup
}

// NewServer returns a server of dev. It fails with errs.ErrInvalid where cfg is
// out of bounds.
func NewServer(dev DeviceOpener, cfg *ServerConfig) (*Server, error) {
	s := &Server{dev: dev}
	if cfg != nil {
		s.cfg = *cfg
	}
	if err := s.cfg.resolve(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close ends Serve and ServeConn, and waits for them: sessions are closed when
// it returns. A second Close waits as well.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.users.Wait()
	return nil
}

// use notes that a method runs which Close has to wait for. The context it
// returns ends with ctx and with Close.
func (s *Server) use(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, fmt.Errorf("server: %w", errs.ErrGone)
	}
	s.users.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		s.users.Done()
	}, nil
}

// Session is the session of the client that is connected now, nil if there is
// none. It may be closed any moment.
func (s *Server) Session() *mdev.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	return s.current.s
}

// ServeConn serves one client on the connected UNIX stream socket fd, which it
// closes, until the client is gone, ctx is done or the server is closed. The
// error says why the connection ended: nil when the client hung up between
// two messages. While another client is served it fails with errs.ErrBusy.
//
// It occupies the calling goroutine's thread.
func (s *Server) ServeConn(ctx context.Context, fd int) error {
	ctx, done, err := s.use(ctx)
	if err != nil {
		unix.Close(fd)
		return err
	}
	defer done()
	c, err := newConn(fd, connConfig{
		maxMessage:  wire.HeaderLen + wire.RegionAccessLen + max(s.cfg.MaxData, minMessage),
		maxFDs:      s.cfg.MaxFDs,
		messageTime: s.cfg.MessageTime, sendTime: s.cfg.SendTime,
	})
	if err != nil {
		return err
	}
	l := &link{srv: s, ctx: ctx, log: s.cfg.Log.With(peerAttrs(c.fd)...), c: c, maps: make(map[uint64]mapping)}
	l.main = newDemux(c, true, &s.cfg)
	l.dma = l.main
	if err := s.connect(l); err != nil {
		c.close()
		return err
	}
	defer s.disconnect()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.shutdown()
		// The serving goroutine may wait for the device, in a migration
		// stream that does not come on; this lets it go.
		if session := s.Session(); session != nil {
			_ = session.Close(context.WithoutCancel(ctx)) // link.close hears the same
		}
	})
	defer func() {
		if !stop() {
			<-ended
		}
	}()

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	l.log.Info("client came")
	err = l.negotiate()
	if err == nil {
		err = l.run()
	}
	switch {
	case ctx.Err() != nil: // which is why the connection ended
		err = context.Cause(ctx)
		l.log.Info("client left alone", "reason", err)
	case err != nil:
		l.log.Warn("client lost", "error", err)
	default:
		l.log.Info("client gone")
	}
	return err
}

func (s *Server) connect(l *link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return fmt.Errorf("another client: %w", errs.ErrBusy)
	}
	s.current = l
	s.count.begin()
	return nil
}

func (s *Server) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = nil
}

// negotiate takes the first message, which has to come in time: a client that
// only connects must not keep others away.
func (l *link) negotiate() error {
	ready, err := l.c.wait(l.srv.cfg.MessageTime)
	if err == nil && !ready {
		err = fmt.Errorf("no VERSION: %w", errStalled)
	}
	if err != nil {
		return err
	}
	m := new(message)
	if err := l.c.recv(m); err != nil {
		if errors.Is(err, errFraming) && m.Size != 0 {
			l.lastWords(&m.Header)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	defer closeFDs(m.fds)
	if l.log.Enabled(l.ctx, slog.LevelDebug) {
		l.log.Debug("received", "message", wire.Text(m.Header, m.body), "files", len(m.fds))
	}
	l.out, l.outFDs = l.room(), l.outFDs[:0]
	err = l.version(m)
	l.srv.count.in(m.Command, int(m.Size), err != nil)
	if err != nil && m.Flags.Type() == wire.TypeCommand && m.Flags&wire.NoReply == 0 {
		_ = l.reply(m.Header, err) // the connection ends anyway
	}
	return err
}

// open opens the device for the client.
func (l *link) open() error {
	cfg := l.srv.cfg.Session
	session, err := l.srv.dev.Open(l.ctx, &cfg)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	l.info = session.Info()
	l.srv.mu.Lock()
	l.s = session
	l.srv.mu.Unlock()
	return nil
}

// peerAttrs say who the client is.
func peerAttrs(fd int) []any {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil
	}
	return []any{"pid", u.Pid, "uid", u.Uid}
}
