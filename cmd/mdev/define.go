package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevctl"
)

type defineCmd struct {
	controlFlags
	rootFlags
	attrFlags
	UUID     string `short:"u" help:"UUID of the device. Without, a new one is made and printed."`
	Parent   string `short:"p" placeholder:"NAME" help:"Parent of the device."`
	Type     string `short:"t" help:"Type of the device."`
	Auto     bool   `short:"a" help:"Start the device when its parent comes: mdev serve --autostart."`
	Jsonfile string `placeholder:"FILE" help:"Type, start and attributes from a file in the form of a definition."`
}

// Help is the long help.
func (*defineCmd) Help() string {
	return `Writes a definition, <root>/<parent>/<uuid>, as mdevctl define does. Of a device that
runs, parent and type may be left out: they, and its attributes, are taken from it. A
parent may be left out where one parent only has the type.

Examples:
  mdev define --type demo --attr mmap=on --auto
  mdev define -p matrix --jsonfile vfio_ap_device.json
  mdev define -u 83c32df7-d52e-4ec1-9668-1f3c7e4df107`
}

// Run defines.
func (c *defineCmd) Run(a *app) error {
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	attrs, err := c.attrs()
	if err != nil {
		return err
	}
	def := &mdevctl.Definition{UUID: id.UUID, Parent: c.Parent, Config: mdevctl.Config{
		Type: c.Type, Auto: c.Auto, Attrs: fromAttrs(attrs),
	}}
	switch {
	case c.Jsonfile != "" && (c.Type != "" || c.Auto || len(attrs) > 0):
		return usagef("--jsonfile says type, start and attributes; leave --type, --auto and --attr out")
	case c.Jsonfile != "" && c.Parent == "":
		return usagef("--jsonfile needs --parent")
	case c.Jsonfile != "":
		if def.Config, err = mdevctl.ReadConfig(c.Jsonfile); err != nil {
			return err
		}
	case id.Valid && (c.Parent == "" || c.Type == ""):
		if err := c.fromRunning(a, def); err != nil {
			return err
		}
	case c.Type == "":
		return usagef("--type is missing")
	case c.Parent == "":
		types, err := c.types(a.ctx)
		if err != nil {
			return err
		}
		if def.Parent, err = parentOf(types, c.Type); err != nil {
			return usage{err}
		}
	}
	if !id.Valid {
		def.UUID = uuid.New()
	}
	if err := c.dir().Define(def); err != nil {
		return judge(err)
	}
	if !id.Valid {
		_, err = fmt.Fprintln(a.stdout, def.UUID)
	}
	return err
}

// fromRunning fills in what was left out from the device that runs.
func (c *defineCmd) fromRunning(a *app, def *mdevctl.Definition) error {
	devices, err := c.client().Devices(a.ctx)
	var none *daemon.NotServing
	if err != nil && !errors.As(err, &none) {
		return err
	}
	i := slices.IndexFunc(devices, func(d daemon.Device) bool {
		return d.UUID == def.UUID && (c.Parent == "" || d.Parent == c.Parent) && (c.Type == "" || d.Type == c.Type)
	})
	if i >= 0 {
		def.Parent, def.Type = devices[i].Parent, devices[i].Type
		if len(def.Attrs) == 0 {
			def.Attrs = fromAttrs(devices[i].Attrs)
		}
		return nil
	}
	if c.Type != "" {
		types, err := c.types(a.ctx)
		if err != nil {
			return err
		}
		if def.Parent, err = parentOf(types, c.Type); err != nil {
			return usage{err}
		}
		return nil
	}
	where := "no such device runs"
	if none != nil {
		where = none.Error()
	}
	return usagef("device %s: %s, so --parent and --type are needed", def.UUID, where)
}

// parentOf is the one parent that has the type.
func parentOf(types []daemon.Type, name string) (string, error) {
	var parents []string
	for _, t := range types {
		if t.Name == name {
			parents = append(parents, t.Parent)
		}
	}
	switch len(parents) {
	case 0:
		return "", fmt.Errorf("no parent here has type %s, so --parent is needed: %w", name, errs.ErrInvalid)
	case 1:
		return parents[0], nil
	}
	return "", fmt.Errorf("several parents have type %s %v, so --parent is needed: %w", name, parents, errs.ErrInvalid)
}

type undefineCmd struct {
	rootFlags
	UUID   string `short:"u" required:"" help:"UUID of the device."`
	Parent string `short:"p" placeholder:"NAME" help:"Parent of the device. Without, its definitions of all parents go."`
}

// Run undefines.
func (c *undefineCmd) Run(a *app) error {
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	f := mdevctl.Filter{UUID: id, Parent: c.Parent}
	list, bad, err := c.dir().List(f)
	if err != nil {
		return usage{err}
	}
	if len(list)+len(bad) == 0 {
		return usagef("%s is not defined in %s", f, c.Root)
	}
	for i := range list {
		if err := c.dir().Undefine(&list[i]); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return bad[0] // not understood, so not removed
	}
	return nil
}

type modifyCmd struct {
	rootFlags
	UUID     string `short:"u" required:"" help:"UUID of the device."`
	Parent   string `short:"p" placeholder:"NAME" help:"Parent of the device, where it is defined under several."`
	Type     string `short:"t" help:"New type."`
	Auto     bool   `short:"a" xor:"start" help:"Start the device when its parent comes."`
	Manual   bool   `short:"m" xor:"start" help:"Do not start the device by itself."`
	Addattr  string `placeholder:"NAME" xor:"attr" and:"value" help:"Add an attribute with the value of --value, before --index or at the end."`
	Value    string `placeholder:"TEXT" and:"value" mayempty:"" help:"Value of the attribute to add."`
	Delattr  bool   `xor:"attr" help:"Remove the attribute at --index, or the last one."`
	Index    *int   `short:"i" placeholder:"N" help:"Place in the list of attributes, from 0."`
	Jsonfile string `placeholder:"FILE" help:"Take type, start and attributes from a file in the form of a definition."`
}

// Help is the long help.
func (*modifyCmd) Help() string {
	return `Changes a definition. A device that runs is not touched.

Examples:
  mdev modify -u 83c32df7-d52e-4ec1-9668-1f3c7e4df107 --manual
  mdev modify -u 83c32df7-d52e-4ec1-9668-1f3c7e4df107 --addattr mmap --value on`
}

// Run modifies.
func (c *modifyCmd) Run(a *app) error {
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	attr := c.Addattr != "" || c.Delattr
	switch {
	case !attr && !c.Auto && !c.Manual && c.Type == "" && c.Jsonfile == "":
		return usagef("nothing to modify: want one of --auto, --manual, --type, --addattr, --delattr, --jsonfile")
	case c.Jsonfile != "" && (attr || c.Auto || c.Manual || c.Type != ""):
		return usagef("--jsonfile says all; leave the other changes out")
	case c.Index != nil && !attr:
		return usagef("--index needs --addattr or --delattr")
	}
	def, err := c.dir().Get(mdevctl.Filter{UUID: id, Parent: c.Parent})
	if err != nil {
		var p *fs.PathError
		if errors.Is(err, errs.ErrExists) || errors.As(err, &p) {
			return usage{err}
		}
		return judge(err)
	}
	if c.Jsonfile != "" {
		if def.Config, err = mdevctl.ReadConfig(c.Jsonfile); err != nil {
			return err
		}
	}
	def.Type = cmp.Or(c.Type, def.Type)
	def.Auto = (def.Auto || c.Auto) && !c.Manual
	if attr {
		last, i := len(def.Attrs), len(def.Attrs)
		if c.Delattr {
			last--
			i--
		}
		if c.Index != nil {
			i = *c.Index
		}
		if i < 0 || i > last {
			return usagef("--index: %s has %d attributes", def.UUID, len(def.Attrs))
		}
		if c.Delattr {
			def.Attrs = slices.Delete(def.Attrs, i, i+1)
		} else {
			def.Attrs = slices.Insert(def.Attrs, i, mdevctl.Attr{Name: c.Addattr, Value: c.Value})
		}
	}
	return judge(c.dir().Replace(def))
}
