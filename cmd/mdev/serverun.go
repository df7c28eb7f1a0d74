package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev/mdevctl"
)

// service runs beside the devices until ctx ends, or fails and ends them.
type service struct {
	name string
	// stays says that mdev serve goes on without any device for its sake.
	stays bool
	run   func(ctx context.Context) error
}

// attend waits until ctx ends, a service fails, or no device is served any more
// and no service stays for others to come.
func attend(ctx context.Context, d *daemon.Daemon, services []service, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, len(services)+1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stays := false
	for _, s := range services {
		stays = stays || s.stays
		wg.Go(func() {
			if err := s.run(ctx); err != nil {
				ended <- fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	if !stays {
		wg.Go(func() { ended <- d.Wait(ctx) })
	}
	notify(log, systemd.SdNotifyReady)
	defer notify(log, systemd.SdNotifyStopping)
	log.Info("ready")
	select {
	case <-ctx.Done():
		log.Info("told to end")
		return nil
	case err := <-ended:
		return err
	}
}

// notify tells the service manager, if there is one that wants to know.
func notify(log *slog.Logger, state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.Warn("service manager cannot be told", "state", state, "err", err)
	}
}

// autostart starts what is defined to start by itself, of parents that are
// here. One that cannot be started hinders no other.
func autostart(ctx context.Context, d *daemon.Daemon, dir mdevctl.Dir, log *slog.Logger) {
	defs, bad, err := dir.List(mdevctl.Filter{})
	if err != nil {
		log.Error("definitions cannot be read", "err", err)
	}
	for _, b := range bad {
		log.Error("definition cannot be read", "err", b)
	}
	parents := make(map[string]bool)
	for _, p := range d.Registry().Parents() {
		parents[p.Name] = true
	}
	for i := range defs {
		def := &defs[i]
		if !def.Auto || !parents[def.Parent] || ctx.Err() != nil {
			continue
		}
		_, err := d.Create(ctx, daemon.Spec{UUID: def.UUID, Parent: def.Parent, Type: def.Type, Attrs: toAttrs(def.Attrs)})
		if err == nil {
			_, err = d.Start(ctx, def.UUID, nil)
		}
		if err != nil {
			log.Error("defined device does not start", "device", def.UUID.String(), "parent", def.Parent, "err", err)
		}
	}
}
