package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevctl"
)

type createCmd struct {
	controlFlags
	attrFlags
	UUID   string `short:"u" help:"UUID of the device. Without, a new one is made."`
	Parent string `short:"p" placeholder:"NAME" help:"Parent of the device, where several have the type."`
	Type   string `short:"t" required:"" help:"Type of the device."`
}

// Help is the long help.
func (*createCmd) Help() string {
	return `Makes a device in mdev serve and prints its UUID. No VMM can reach it until mdev start.
Paths in attributes are for mdev serve: below the folder in which it runs, or absolute.

Example:
  mdev create --type demo --attr mmap=on`
}

// Run creates.
func (c *createCmd) Run(a *app) error {
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	attrs, err := c.attrs()
	if err != nil {
		return err
	}
	d, err := c.client().Create(a.ctx, daemon.Create{UUID: id, Parent: c.Parent, Type: c.Type, Attrs: attrs})
	if err != nil {
		return judge(err)
	}
	_, err = fmt.Fprintln(a.stdout, d.UUID)
	return err
}

type startCmd struct {
	controlFlags
	rootFlags
	attrFlags
	UUID       string `short:"u" help:"UUID of the device. Without, a new one is made."`
	Parent     string `short:"p" placeholder:"NAME" help:"Parent of the device."`
	Type       string `short:"t" help:"Type of a device that is neither there nor defined."`
	Jsonfile   string `placeholder:"FILE" help:"Type and attributes from a file in the form of a definition."`
	SocketPath string `placeholder:"PATH" help:"Socket to serve it on. Default: <uuid>.sock in mdev serve's folder."`
}

// Help is the long help.
func (*startCmd) Help() string {
	return `Has mdev serve serve a device: one that mdev create made, one that is defined, or a new
one of a type. Prints its UUID and the socket that a VMM connects to. Paths in
attributes are for mdev serve: below the folder in which it runs, or absolute.

Examples:
  mdev start -u 83c32df7-d52e-4ec1-9668-1f3c7e4df107
  mdev start --type demo --socket-path /run/mdev/vm1.sock`
}

// Run starts.
func (c *startCmd) Run(a *app) error {
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	attrs, err := c.attrs()
	if err != nil {
		return err
	}
	start := daemon.Start{Socket: c.SocketPath}
	if start.Socket != "" {
		if start.Socket, err = filepath.Abs(start.Socket); err != nil {
			return err
		}
	}
	req := daemon.Create{UUID: id, Parent: c.Parent, Type: c.Type, Attrs: attrs, Start: &start}
	switch {
	case c.Jsonfile != "" && (c.Type != "" || len(attrs) > 0):
		return usagef("--jsonfile says type and attributes; leave --type and --attr out")
	case c.Jsonfile != "" && c.Parent == "":
		return usagef("--jsonfile needs --parent")
	case c.Jsonfile != "":
		config, err := mdevctl.ReadConfig(c.Jsonfile)
		if err != nil {
			return err
		}
		req.Type, req.Attrs = config.Type, toAttrs(config.Attrs)
	case id.Valid:
		there, err := c.known(a, &req)
		if err != nil {
			return err
		}
		if there {
			return c.done(a, func() (daemon.Device, error) { return c.client().Start(a.ctx, id.UUID, start) })
		}
	case c.Type == "":
		return usagef("want --uuid of a device that is there or defined, or --type")
	}
	return c.done(a, func() (daemon.Device, error) { return c.client().Create(a.ctx, req) })
}

func (c *startCmd) done(a *app, do func() (daemon.Device, error)) error {
	d, err := do()
	if err != nil {
		return judge(err)
	}
	_, err = fmt.Fprintln(a.stdout, d.UUID, d.Socket)
	return err
}

// known finds the device that the UUID names: there is one, or it is defined
// and req is completed from that.
func (c *startCmd) known(a *app, req *daemon.Create) (there bool, err error) {
	devices, err := c.client().Devices(a.ctx)
	if err != nil {
		return false, err
	}
	id := req.UUID.UUID
	if i := slices.IndexFunc(devices, func(d daemon.Device) bool { return d.UUID == id }); i >= 0 {
		d := &devices[i]
		if c.Parent != "" && c.Parent != d.Parent || c.Type != "" && c.Type != d.Type || len(req.Attrs) > 0 {
			return false, fmt.Errorf("device %s is there, of parent %s and type %s: %w", id, d.Parent, d.Type, errs.ErrExists)
		}
		return true, nil
	}
	f := mdevctl.Filter{UUID: req.UUID, Parent: c.Parent}
	def, err := c.dir().Get(f)
	switch {
	case errors.Is(err, errs.ErrNotFound) && c.Type != "":
		return false, nil
	case errors.Is(err, errs.ErrNotFound):
		return false, usagef("device %s is not there, and %w; with --type it would be a new one", id, err)
	case err != nil:
		return false, usage{err}
	case c.Type != "" && c.Type != def.Type:
		return false, usagef("device %s is defined in %s with type %s", id, c.Root, def.Type)
	case len(req.Attrs) > 0:
		return false, usagef("device %s is defined in %s with its attributes; leave --attr out", id, c.Root)
	}
	req.Parent, req.Type, req.Attrs = def.Parent, def.Type, toAttrs(def.Attrs)
	return false, nil
}

type stopCmd struct {
	controlFlags
	UUID    string        `short:"u" required:"" help:"UUID of the device."`
	Timeout time.Duration `default:"${stop}" help:"How long to ask a VMM that has the device to release it. (default ${default})"`
	Force   bool          `short:"f" help:"Take the device from a VMM that has it."`
	Keep    bool          `help:"End the serving of the device, but keep the device and what it holds."`
}

// Help is the long help.
func (*stopCmd) Help() string {
	return `Removes a device from mdev serve, and its socket. A VMM that has it is asked through the
device's request interrupt, as for a hot unplug; if it does not let go in time, the
device stays and mdev stop says who has it.`
}

// Run stops.
func (c *stopCmd) Run(a *app) error {
	id, err := registryUUID(c.UUID)
	if err != nil {
		return err
	}
	if c.Keep {
		return judge(c.client().Stop(a.ctx, id, c.Force))
	}
	return judge(c.client().Remove(a.ctx, id, c.Timeout, c.Force))
}

func registryUUID(s string) (uuid.UUID, error) {
	id, err := parseUUID(s)
	if err == nil && !id.Valid {
		err = usagef("--uuid is empty")
	}
	return id.UUID, err
}
