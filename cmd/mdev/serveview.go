package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/internal/dashboard"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
)

// pageService is the page, the metrics and the profiles on l.
func pageService(l net.Listener, d *daemon.Daemon, log *slog.Logger) service {
	s := dashboard.New(dashboard.Config{Live: d.Live, Log: log})
	return service{name: "http", run: func(ctx context.Context) error { return s.Serve(ctx, l) }}
}

// recorder opens the recording of --record, if there is to be one, and has
// the daemon's devices write to it. The one it returns can be closed in any
// case.
func (c *serveCmd) recorder(cfg *daemon.Config) (interface{ Close() error }, error) {
	if c.Record == "" {
		return none{}, nil
	}
	r, err := recording.NewRecorder(c.Record, nil)
	if err != nil {
		return nil, usagef("--record: %w", err)
	}
	cfg.Record = func(dev registry.Device) (mdev.Recorder, error) {
		if dev.API != mdev.APICCW {
			return nil, fmt.Errorf("device %s: a %s has no programs to record: %w", dev.UUID, dev.Type, errs.ErrNotSupported)
		}
		return r, nil
	}
	return r, nil
}

type none struct{}

func (none) Close() error { return nil }
