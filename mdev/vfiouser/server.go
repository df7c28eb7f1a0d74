//go:build linux

package vfiouser

import (
	"context"
	"log/slog"
	"time"

	"github.com/softmdev/softmdev/mdev"
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
	// Log gets a line for each client that comes or goes, and at level debug
	// for each message. nil is silent.
	Log *slog.Logger
	// Session is the template for the session of each client. Its Log is
	// Log where it is nil.
	Session mdev.SessionConfig

	MaxData  int // bytes of an access that a client may ask for at most; default 1 MiB
	MaxFDs   int // files that a message may bring; default and at most 16
	MaxMaps  int // mappings of a client; default 65535, and at most
	MaxQueue int // commands that wait while one takes its time; default 1024

	MessageTime time.Duration // for a client to send a message it has begun; default 5 s
	SendTime    time.Duration // for a client to take a message; default 10 s
	DMATime     time.Duration // for a client to answer DMA_READ and DMA_WRITE; default 3 s
}

// Server serves one device to one client at a time.
type Server struct {
	dev DeviceOpener
	cfg ServerConfig
}

// NewServer returns a server of dev.
func NewServer(dev DeviceOpener, cfg *ServerConfig) (*Server, error) {
	s := &Server{dev: dev}
	if cfg != nil {
		s.cfg = *cfg
	}
	return s, nil
}

// ListenAndServe makes the UNIX socket path and serves it until ctx is done or
// the server is closed.
func (s *Server) ListenAndServe(ctx context.Context, path string) error { return nil }

// Serve accepts clients on the listening UNIX socket fd, one at a time, until
// ctx is done or the server is closed. fd stays the caller's.
func (s *Server) Serve(ctx context.Context, fd int) error { return nil }

// ServeConn serves one client on the connected UNIX socket fd, which it
// closes, until the client is gone, ctx is done or the server is closed.
func (s *Server) ServeConn(ctx context.Context, fd int) error { return nil }

// Close ends Serve and ServeConn and waits for them.
func (s *Server) Close() error { return nil }

// Session is the session of the client that is connected now, nil if there is
// none. It may be closed any moment.
func (s *Server) Session() *mdev.Session { return nil }

// Stats are the server's counts.
func (s *Server) Stats() Stats { return Stats{} }
