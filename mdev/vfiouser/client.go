//go:build linux

package vfiouser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
)

// ClientConfig says what a [Client] asks for and offers. The zero value, or
// nil, is the default.
type ClientConfig struct {
	// Timeout bounds each call whose context has no deadline; 0 means 5 s,
	// which is what QEMU waits.
	Timeout time.Duration
	// MaxDataXfer is the largest DMA_READ or DMA_WRITE that is served, in
	// bytes; 0 means 1 MiB, the most is 64 MiB.
	MaxDataXfer int
	// MaxFDs is how many files the server may send in one message; 0 means
	// 16.
	MaxFDs int
	// MaxMaps is how many mappings the server is asked to allow; 0 means
	// 65535.
	MaxMaps int
	// TwinSocket asks for a socket of its own for the server's commands. A
	// server that sends DMA_READ while commands are pipelined needs it,
	// unless it tells commands from replies as this client does.
	TwinSocket bool
	// Memory is what DMA_READ and DMA_WRITE are served from. nil means a
	// store of the client's own, in which MapDMA and UnmapDMA enter what they
	// map; a store that is given is only read, written and reported from, and
	// may serve many clients.
	Memory *translate.Store
	// Log gets what goes wrong without a caller to tell; nil means nowhere.
	Log *slog.Logger
}

// Defaults and limits of ClientConfig.
const (
	defaultTimeout = 5 * time.Second
	defaultXfer    = 1 << 20 // vfio-user.rst: max_data_xfer_size
	maxXfer        = 64 << 20
	defaultFDs     = 16 // QEMU hw/vfio-user/protocol.h: VFIO_USER_MAX_MAX_FDS
	scmMaxFD       = 253
)

// resolve is cfg with its defaults.
func (cfg *ClientConfig) resolve() (ClientConfig, error) {
	var r ClientConfig
	if cfg != nil {
		r = *cfg
	}
	r.Timeout = cmp.Or(r.Timeout, defaultTimeout)
	r.MaxDataXfer = cmp.Or(r.MaxDataXfer, defaultXfer)
	r.MaxFDs = cmp.Or(r.MaxFDs, defaultFDs)
	r.MaxMaps = cmp.Or(r.MaxMaps, translate.DefaultMaxMappings)
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case r.Timeout < 0:
		return r, fmt.Errorf("time limit %v: %w", r.Timeout, errs.ErrInvalid)
	case r.MaxDataXfer < 0 || r.MaxDataXfer > maxXfer:
		return r, fmt.Errorf("transfer limit %d: %w", r.MaxDataXfer, errs.ErrInvalid)
	case r.MaxFDs < 0 || r.MaxFDs > scmMaxFD:
		return r, fmt.Errorf("limit of %d files: %w", r.MaxFDs, errs.ErrInvalid)
	case r.MaxMaps < 0:
		return r, fmt.Errorf("limit of %d mappings: %w", r.MaxMaps, errs.ErrInvalid)
	}
	return r, nil
}

// Client is a connection to a vfio-user server: it drives one device. All
// methods may be called concurrently; commands reach the server in the order
// in which the calls are made, as far as one is made before another.
//
// A call waits for its reply, and in the meantime receives for all: replies
// of others, and the server's DMA_READ and DMA_WRITE. When nobody waits, a
// goroutine of the client's does. There is no hop between goroutines on the
// way of a single call.
//
// Each call ends when its context does, or after ClientConfig.Timeout. What
// the server then still answers is dropped, and the connection stays good; a
// time-out in the middle of a long message alone ends it. A call that timed
// out may have had its effect.
//
// Errors are of type *CommandError; errs.Errno of one that the server refused
// is the server's errno. When the connection is lost, all calls, those under
// way too, fail with errs.ErrGone.
type Client struct {
	cfg  ClientConfig // immutable, with defaults
	conn *conn        // immutable
	twin *conn        // immutable once NewClient returns; nil without
	caps ServerCaps   // immutable once NewClient returns

	mem *translate.Store // immutable
	own bool             // immutable; mem is ours to change

	// users is held for reading by every call. Close takes it for writing, so
	// that no descriptor is closed under a system call.
	users sync.RWMutex
	// fdCall is taken by a call whose reply may bring files until the reply
	// is here: there is only one at a time, so nobody asks whose files they
	// are.
	fdCall chan struct{}

	in     inbox // of whoever leads
	twinIn inbox // of its goroutine

	calls  callTable
	served atomic.Bool // the server has sent a command on the main socket
	logs   atomic.Bool // LogStart has succeeded

	lost     chan struct{}  // closed when err is set
	watchers sync.WaitGroup // our goroutines
}

// Dial connects to the server that listens at path, and negotiates. ctx bounds
// that alone.
func Dial(ctx context.Context, path string, cfg *ClientConfig) (*Client, error) {
	fd, err := connect(ctx, path)
	if err != nil {
		return nil, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return NewClient(ctx, fd, cfg)
}

// connect makes a connected socket. A server's backlog may be full for a
// moment, which a UNIX socket says with EAGAIN when it does not block.
func connect(ctx context.Context, path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := ctx.Err()
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
		case unix.EAGAIN:
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		default:
			unix.Close(fd)
			return -1, err
		}
	}
}

// NewClient makes a client of the connected UNIX stream socket fd, which it
// takes over, also when it fails, and negotiates. ctx bounds the negotiation
// alone.
func NewClient(ctx context.Context, fd int, cfg *ClientConfig) (*Client, error) {
	resolved, err := cfg.resolve()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// More files than we asked for are taken and closed, rather than the
	// connection with them.
	conn, err := newConn(fd, connConfig{maxFDs: scmMaxFD, messageTime: slice, sendTime: resolved.Timeout})
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: resolved, conn: conn,
		mem:    resolved.Memory,
		fdCall: make(chan struct{}, 1),
		lost:   make(chan struct{}),
	}
	c.calls.init()
	if c.mem == nil {
		c.own = true
		if c.mem, err = translate.New(&translate.Config{MaxMappings: min(c.cfg.MaxMaps, maxStoreMaps)}); err != nil {
			conn.close()
			return nil, err
		}
	}
	c.in.init(conn, c.mem)
	if err := c.negotiate(ctx); err != nil {
		c.Close()
		return nil, err
	}
	c.watchers.Go(c.watch)
	if c.twin != nil {
		c.twinIn.init(c.twin, c.mem)
		c.watchers.Go(c.serveTwin)
	}
	return c, nil
}

// maxStoreMaps is what package translate allows a store to hold.
const maxStoreMaps = 1 << 20

// Server says what the server offered.
func (c *Client) Server() ServerCaps { return c.caps }

// Memory is the store that DMA_READ and DMA_WRITE are served from.
func (c *Client) Memory() *translate.Store { return c.mem }

// Done is closed when the connection is lost or closed.
func (c *Client) Done() <-chan struct{} { return c.lost }

// Err says why the connection was lost: nil while it is not, an errs.ErrGone
// after. Close makes it one as well.
func (c *Client) Err() error {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	return c.calls.err
}

// Close ends the connection and waits until no call and no goroutine uses it.
// Calls under way fail with errs.ErrGone. It must not be called from within a
// translate.RemoteMemory that the client serves. A second Close does nothing.
func (c *Client) Close() error {
	c.lose(errClosedHere)
	c.watchers.Wait()
	c.users.Lock()
	defer c.users.Unlock()
	c.conn.close()
	c.in.close()
	if c.twin != nil {
		c.twin.close()
		c.twinIn.close()
	}
	if c.own {
		return c.mem.Close()
	}
	return nil
}

// lose ends the connection for the reason err, unless it has ended before.
func (c *Client) lose(err error) {
	if !errors.Is(err, errs.ErrGone) {
		err = fmt.Errorf("%w: %w", err, errs.ErrGone)
	}
	if c.calls.lose(err) {
		close(c.lost)
	}
	c.conn.shutdown()
	if c.twin != nil {
		c.twin.shutdown()
	}
}
