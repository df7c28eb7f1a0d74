package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/softmdev/softmdev/internal/daemon"
)

// plan is what mdev serve is to do, from flags, file and service manager.
type plan struct {
	config  daemon.Config
	devices []planned
	// control is the path of the control socket or the socket that was
	// passed; neither: no control API.
	control     string
	controlSock *daemon.Socket
}

// planned is a device, and where it is to be served: on sock, on a socket made
// at path, or on the default.
type planned struct {
	daemon.Spec
	sock *daemon.Socket
	path string
}

func (c *serveCmd) plan(passed *daemon.Activated) (_ *plan, err error) {
	file := &daemon.File{}
	if c.Config != "" {
		if file, err = daemon.ReadFile(c.Config); err != nil {
			return nil, err
		}
	}
	p := &plan{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	p.config.SocketMode = fs.FileMode(file.SocketMode)
	if c.SocketMode != "" {
		m, err := daemon.ParseMode(c.SocketMode)
		if err != nil {
			return nil, usagef("--socket-mode: %w", err)
		}
		p.config.SocketMode = fs.FileMode(m)
	}
	p.control = cmp.Or(c.Control, file.Control)
	if p.control == "" {
		p.controlSock = passed.Take(daemon.ControlName)
	}
	if err := c.device(p, passed); err != nil {
		return nil, err
	}
	for i := range file.Devices {
		if err := p.fromFile(i, &file.Devices[i], passed); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Config, err)
		}
	}
	if names := passed.Names(); names != "" {
		return nil, usagef("sockets of the service manager that no device uses: %s", names)
	}
	if len(p.devices) == 0 && p.control == "" && p.controlSock == nil {
		p.control = daemon.ControlPath()
	}
	p.config.RunDir = cmp.Or(c.RunDir, file.RunDir)
	if p.config.RunDir == "" && p.control != "" {
		p.config.RunDir = filepath.Dir(p.control)
	}
	return p, nil
}

// device plans the device of --type.
func (c *serveCmd) device(p *plan, passed *daemon.Activated) error {
	if c.Type == "" {
		if c.UUID != "" || c.Parent != "" || len(c.Attr) > 0 || c.SocketPath != "" || c.FD != nil {
			return usagef("--uuid, --parent, --attr, --socket-path and --fd are about the device of --type, which is missing")
		}
		return nil
	}
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	attrs, err := c.attrs()
	if err != nil {
		return err
	}
	d := planned{Spec: daemon.Spec{UUID: id.UUID, Parent: c.Parent, Type: c.Type, Attrs: attrs}, path: c.SocketPath}
	switch {
	case c.FD != nil:
		if d.sock, err = daemon.FromFD(*c.FD); err != nil {
			return usagef("--fd: %w", err)
		}
	case d.path == "":
		d.sock = passed.TakeAny()
	}
	p.devices = append(p.devices, d)
	return nil
}

// fromFile plans a device of the file.
func (p *plan) fromFile(i int, f *daemon.FileDevice, passed *daemon.Activated) (err error) {
	d := planned{Spec: daemon.Spec{UUID: f.UUID.UUID, Parent: f.Parent, Type: f.Type, Attrs: f.Attrs}, path: f.Socket}
	switch {
	case f.FD != nil:
		d.sock, err = daemon.FromFD(*f.FD)
	case f.Listen != "":
		if d.sock = passed.Take(f.Listen); d.sock == nil {
			err = fmt.Errorf("the service manager passed no socket %s", f.Listen)
		}
	}
	if err != nil {
		return usagef("devices[%d]: %w", i, err)
	}
	p.devices = append(p.devices, d)
	return nil
}

// close closes the sockets that nobody has taken over.
func (p *plan) close() {
	for i := range p.devices {
		if s := p.devices[i].sock; s != nil {
			s.Close()
		}
	}
	if p.controlSock != nil {
		p.controlSock.Close()
	}
}

// listen makes the sockets that have a path, before there is any device.
func (p *plan) listen() (err error) {
	for i := range p.devices {
		if x := &p.devices[i]; x.path != "" {
			if x.sock, err = daemon.Listen(x.path, cmp.Or(p.config.SocketMode, 0o600)); err != nil {
				return err
			}
		}
	}
	if p.config.RunDir != "" {
		if err := daemon.MakeDir(p.config.RunDir); err != nil {
			return err
		}
	}
	if p.control == "" {
		return nil
	}
	if err := daemon.MakeDir(filepath.Dir(p.control)); err != nil {
		return err
	}
	if p.controlSock, err = daemon.Listen(p.control, 0o600); err != nil {
		return fmt.Errorf("control socket %w", err)
	}
	return nil
}

// start makes and serves the devices.
func (p *plan) start(ctx context.Context, d *daemon.Daemon) error {
	for i := range p.devices {
		x := &p.devices[i]
		dev, err := d.Create(ctx, x.Spec)
		if err != nil {
			return err
		}
		sock := x.sock
		x.sock = nil // it is the daemon's, whatever comes
		if _, err := d.Start(ctx, dev.UUID, sock); err != nil {
			return err
		}
	}
	return nil
}

// services are what runs beside the devices.
func (p *plan) services(d *daemon.Daemon) []service {
	sock := p.controlSock
	if sock == nil {
		return nil
	}
	p.controlSock = nil // it is the service's
	return []service{{name: "control", stays: true, run: func(ctx context.Context) error { return d.ServeControl(ctx, sock) }}}
}
