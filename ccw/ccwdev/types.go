package ccwdev

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
)

// ParentName is the name of the parent that offers these devices.
const ParentName = "ccw"

// instances is how many devices of a type there may be: a channel path has
// 256 unit addresses.
const instances = 256

// kind is a type of device: what its attributes may be, beside those that all
// have, and what it is made of.
type kind struct {
	name, title, description string
	attrs                    []string
	needs                    string // an attribute that must be given
	open                     func(a *attrs) (Unit, error)
}

var kinds = []kind{
	{"ccw-3390", "3390 volume", "ECKD disk on a CKD image; image=PATH readonly=on|off", []string{"image", "readonly"}, "image", open3390},
	{"ccw-fba", "3370 volume", "FBA disk on a raw image; image=PATH readonly=on|off", []string{"image", "readonly"}, "image", openFBA},
	{"ccw-3215", "3215 console", "console printer-keyboard; output=PATH input=PATH", []string{"output", "input"}, "", open3215},
	{"ccw-3505", "3505 card reader", "cards of 80 bytes in a file; image=PATH", []string{"image"}, "", open3505},
	{"ccw-1403", "1403 printer", "line printer; output=PATH", []string{"output"}, "", open1403},
	{"ccw-3490", "3490 tape drive", "tape in AWSTAPE format; image=PATH readonly=on|off", []string{"image", "readonly"}, "", open3490},
}

// Parent is what a registry registers to offer these devices.
func Parent() registry.Parent {
	p := registry.Parent{Name: ParentName}
	for i := range kinds {
		k := &kinds[i]
		p.Types = append(p.Types, registry.Type{
			Name: k.name, Title: k.title, API: mdev.APICCW, Instances: instances,
			Description: k.description + " devno=HEX byte-order=big|little",
			New:         func(_ context.Context, s registry.Spec) (mdev.Device, error) { return k.make(s.UUID.String(), s.Attrs) },
		})
	}
	return p
}

// NewOf makes a device of a type of [Parent]; name may be empty, see Config.
// Errors for attributes wrap errs.ErrInvalid; of an image that another device
// has, errs.ErrBusy.
func NewOf(typ, name string, list []registry.Attr) (*Device, error) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == typ })
	if i < 0 {
		return nil, fmt.Errorf("type %q: %w", typ, errs.ErrNotFound)
	}
	return kinds[i].make(name, list)
}

func (k *kind) make(name string, list []registry.Attr) (*Device, error) {
	var a attrs
	if err := a.read(k, list); err != nil {
		return nil, err
	}
	u, err := k.open(&a)
	if err != nil {
		return nil, err
	}
	u.SenseID = senseID(u.Device)
	return New(Config{Unit: u, Name: name, DevNo: a.devno, Order: a.order})
}

// attrs are the attributes of a device. Of one that is given twice the last
// counts, as where attributes are written to files.
type attrs struct {
	image, output, input string
	readOnly             bool
	devno                uint16
	order                binary.ByteOrder
}

func (a *attrs) read(k *kind, list []registry.Attr) error {
	for _, x := range list {
		known := x.Name == "devno" || x.Name == "byte-order" || slices.Contains(k.attrs, x.Name)
		if !known {
			return fmt.Errorf("attribute %.40q: a %s has none of that name: %w", x.Name, k.name, errs.ErrInvalid)
		}
		if err := a.set(x.Name, x.Value); err != nil {
			return fmt.Errorf("attribute %s: %w: %w", x.Name, err, errs.ErrInvalid)
		}
	}
	if k.needs == "image" && a.image == "" {
		return fmt.Errorf("attribute image: a %s needs one: %w", k.name, errs.ErrInvalid)
	}
	return nil
}

func (a *attrs) set(name, value string) error {
	switch name {
	case "image", "output", "input":
		if value == "" {
			return fmt.Errorf("want a path, have nothing")
		}
		*map[string]*string{"image": &a.image, "output": &a.output, "input": &a.input}[name] = value
	case "readonly":
		on, ok := map[string]bool{"on": true, "1": true, "true": true, "off": false, "0": false, "false": false}[value]
		if !ok {
			return fmt.Errorf("want on or off, have %.40q", value)
		}
		a.readOnly = on
	case "devno":
		n, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 16)
		if err != nil {
			return fmt.Errorf("want up to four hex digits, have %.40q", value)
		}
		a.devno = uint16(n)
	case "byte-order":
		order, ok := map[string]binary.ByteOrder{"big": binary.BigEndian, "little": binary.LittleEndian}[value]
		if !ok {
			return fmt.Errorf("want big or little, have %.40q", value)
		}
		a.order = order
	}
	return nil
}
