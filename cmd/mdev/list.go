package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev/mdevctl"
)

type typesCmd struct {
	controlFlags
	Parent   string `short:"p" placeholder:"NAME" help:"Types of this parent only."`
	Dumpjson bool   `help:"Print JSON, as mdevctl types --dumpjson."`
}

// Help is the long help.
func (*typesCmd) Help() string {
	return `Prints the types that mdev serve offers, with the number of devices that can still
be made; where none runs, those that it would offer.`
}

// Run prints types.
func (c *typesCmd) Run(a *app) error {
	list, err := c.types(a.ctx)
	if err != nil {
		return err
	}
	var infos []mdevctl.TypeInfo
	for _, t := range list {
		if c.Parent == "" || t.Parent == c.Parent {
			infos = append(infos, mdevctl.TypeInfo{
				Parent: t.Parent, Name: t.Name, Available: t.Available, API: t.API, Title: t.Title, Description: t.Description,
			})
		}
	}
	mdevctl.SortTypes(infos)
	if c.Dumpjson {
		return writeAll(a.stdout, mdevctl.DumpTypes(infos))
	}
	return mdevctl.WriteTypes(a.stdout, infos)
}

// types asks mdev serve, or looks what is built in.
func (f *controlFlags) types(ctx context.Context) ([]daemon.Type, error) {
	list, err := f.client().Types(ctx)
	var none *daemon.NotServing
	if !errors.As(err, &none) {
		return list, err
	}
	d, err := daemon.New(nil)
	if err != nil {
		return nil, err
	}
	return daemon.TypesOf(d.Registry()), d.Close(ctx)
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(append(b, '\n'))
	return err
}

type listCmd struct {
	controlFlags
	rootFlags
	UUID     string `short:"u" help:"This device only."`
	Parent   string `short:"p" placeholder:"NAME" help:"Devices of this parent only."`
	Defined  bool   `short:"d" xor:"what" help:"Devices that are defined, in place of those that run."`
	Watch    bool   `short:"w" xor:"what" help:"Print what there is, and then each change as it happens."`
	Verbose  bool   `short:"v" help:"Print more lines for each device: attributes; state and socket of one that runs."`
	Dumpjson bool   `help:"Print JSON, as mdevctl list --dumpjson; for one device named by UUID the content of its definition. With --watch, an object a line."`
}

// Help is the long help.
func (*listCmd) Help() string {
	return `Prints a line for each device that runs, as mdevctl does:

  UUID PARENT TYPE auto|manual [(defined)]

With --watch, a line for each change, the first word of which says what happened:
present, created, started, opened, closed, stopped, releasing, kept, removed.

Examples:
  mdev list -v
  mdev list --defined --dumpjson --root /etc/mdevctl.d
  mdev list --watch`
}

// Run lists.
func (c *listCmd) Run(a *app) error {
	id, err := parseUUID(c.UUID)
	if err != nil {
		return err
	}
	filter := mdevctl.Filter{UUID: id, Parent: c.Parent}
	switch {
	case c.Watch:
		return c.watch(a, filter)
	case c.Defined:
		return c.defined(a, filter)
	}
	return c.running(a, filter)
}

// running lists the devices of mdev serve.
func (c *listCmd) running(a *app, filter mdevctl.Filter) error {
	devices, err := c.client().Devices(a.ctx)
	if err != nil {
		return err
	}
	devices = slices.DeleteFunc(devices, func(d daemon.Device) bool { return !chosen(filter, &d) })
	// What is defined only adds to what is said; a file that is bad is for
	// list --defined to report.
	defs, _, _ := c.dir().List(filter)
	var list []mdevctl.Definition
	marks := make(map[uuid.UUID]mdevctl.Mark)
	byID := make(map[uuid.UUID]*daemon.Device)
	for i := range devices {
		d := &devices[i]
		def := mdevctl.Definition{UUID: d.UUID, Parent: d.Parent, Config: mdevctl.Config{Type: d.Type, Attrs: fromAttrs(d.Attrs)}}
		if i := slices.IndexFunc(defs, func(x mdevctl.Definition) bool { return x.UUID == d.UUID && x.Parent == d.Parent }); i >= 0 {
			def.Auto = defs[i].Auto
			marks[d.UUID] = mdevctl.Defined
		}
		byID[d.UUID] = d
		list = append(list, def)
	}
	mdevctl.Sort(list)
	if c.Dumpjson {
		return c.dump(a, list, filter)
	}
	for _, def := range list {
		if err := def.WriteText(a.stdout, marks[def.UUID], c.Verbose); err != nil {
			return err
		}
		if !c.Verbose {
			continue
		}
		d := byID[def.UUID]
		state := d.State
		if d.Holder != "" {
			state += " by " + d.Holder
		}
		text := fmt.Sprintf("  State: %s\n  Group: %d\n", state, d.Group)
		if d.Socket != "" {
			text += "  Socket: " + d.Socket + "\n"
		}
		if _, err := io.WriteString(a.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

func (c *listCmd) dump(a *app, list []mdevctl.Definition, filter mdevctl.Filter) error {
	if filter.UUID.Valid {
		return writeAll(a.stdout, mdevctl.DumpOne(list))
	}
	return writeAll(a.stdout, mdevctl.DumpJSON(list))
}

// defined lists what is defined, and marks what runs if there is somebody to
// ask.
func (c *listCmd) defined(a *app, filter mdevctl.Filter) error {
	list, bad, err := c.dir().List(filter)
	if err != nil {
		return usage{err}
	}
	runs := make(map[uuid.UUID]string)
	if devices, err := c.client().Devices(a.ctx); err == nil {
		for _, d := range devices {
			runs[d.UUID] = d.Parent
		}
	}
	if c.Dumpjson {
		err = c.dump(a, list, filter)
	}
	for i := range list {
		if err != nil || c.Dumpjson {
			break
		}
		mark := mdevctl.Unmarked
		if p, ok := runs[list[i].UUID]; ok && p == list[i].Parent {
			mark = mdevctl.Active
		}
		err = list[i].WriteText(a.stdout, mark, c.Verbose)
	}
	if err != nil || len(bad) == 0 {
		return err
	}
	for _, b := range bad {
		fmt.Fprintln(a.stderr, "mdev: "+line(b))
	}
	return exit(exitBadInput)
}

func chosen(f mdevctl.Filter, d *daemon.Device) bool {
	return (!f.UUID.Valid || f.UUID.UUID == d.UUID) && (f.Parent == "" || f.Parent == d.Parent)
}

// watch prints changes until it is interrupted or mdev serve ends.
func (c *listCmd) watch(a *app, filter mdevctl.Filter) error {
	known := make(map[uuid.UUID]daemon.Device)
	for e, err := range c.client().Watch(a.ctx) {
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("mdev serve has ended")
		case err != nil:
			return err
		case e.Device != nil && !chosen(filter, e.Device):
			continue
		case e.Parent != "" && (filter.UUID.Valid || filter.Parent != "" && filter.Parent != e.Parent):
			continue
		case c.Dumpjson:
			err = writeLine(a.stdout, e)
		default:
			err = c.event(a.stdout, known, &e)
		}
		if err != nil {
			return err
		}
	}
	return a.ctx.Err()
}

// event prints what an event means to who knows what was before.
func (c *listCmd) event(w io.Writer, known map[uuid.UUID]daemon.Device, e *daemon.Event) error {
	if e.Device == nil {
		if e.Op == "lost" {
			clear(known)
			_, err := fmt.Fprintln(w, "lost      changes were faster than this reader; what there is now:")
			return err
		}
		return nil // parents go and come with their devices
	}
	d := *e.Device
	before := known[d.UUID]
	known[d.UUID] = d
	word, more := e.Op, ""
	switch {
	case e.Op == "present":
		more = strings.TrimSpace(d.State + " " + d.Socket)
	case e.Op == "added":
		word, more = "created", ""
	case e.Op == "removed":
		delete(known, d.UUID)
	case d.Socket != before.Socket && d.Socket != "":
		word, more = "started", d.Socket
	case d.Socket != before.Socket:
		word, more = "stopped", before.Socket
	case d.State == "removing" && before.State != "removing":
		word, more = "releasing", d.Holder
	case d.State == "open" && before.State == "removing":
		word, more = "kept", d.Holder
	case d.State == "open":
		word, more = "opened", d.Holder
	case d.Holder == "" && before.Holder != "":
		word, more = "closed", before.Holder
	}
	_, err := fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("%-9s %s %s %s %s", word, d.UUID, d.Parent, d.Type, more)))
	return err
}

// defaultStop is how long the holder of a device is asked to let go.
const defaultStop = 10 * time.Second
