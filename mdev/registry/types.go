package registry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
)

// Parent is something that devices can be made of: in the kernel a physical
// device whose driver registered with mdev, here the driver itself.
type Parent struct {
	// Name is unique in a registry and one path element, because
	// definitions are kept below it: at most 255 bytes, no slash, no
	// control character.
	Name string
	// Types are what it offers, at least one; their names are unique in it.
	Types []Type
}

// Type is a kind of device that a parent offers.
type Type struct {
	// Name is unique in the parent and of the form of a parent's name.
	Name string
	// Title is the readable name; may be empty.
	Title string
	// Description is one line of free text; may be empty.
	Description string
	// API is the kind of the devices.
	API mdev.API

	// Instances is how many devices of the type there may be at one time.
	// It has no meaning where Available is set.
	Instances int
	// Available is asked, in place of counting, how many more devices can
	// be made; types of a parent that share a resource do so here. It and
	// New are called for one device of a parent at a time, so that of two
	// that want the last one New is called for one only. It must not call
	// the registry.
	Available func() int

	// Group names the group that a device is to be in; nil, or an empty
	// name, gives each device a group of its own. Devices of one group can
	// be open at one time only in one container, see [Registry.Open].
	Group func(Spec) string

	// New makes a device. It validates the attributes; errors for wrong
	// ones wrap errs.ErrInvalid and say which. ctx is that of the caller of
	// [Registry.Create]: a device that outlives the call must not keep it.
	New func(ctx context.Context, s Spec) (mdev.Device, error)
}

// Spec is what a device is made from.
type Spec struct {
	UUID         uuid.UUID
	Parent, Type string
	// Attrs are applied in their order; a name may appear more than once.
	Attrs []Attr
	// Log is the device's, never nil.
	Log *slog.Logger
}

// Attr is one attribute of a device.
type Attr struct{ Name, Value string }

// Destroyer is a device that holds more than what it got by Open: files,
// goroutines. Destroy is called once, when the device is removed; the device
// is closed then and nothing is called afterwards.
type Destroyer interface{ Destroy() }

// Device says what is known about a device at one moment.
type Device struct {
	UUID         uuid.UUID
	Parent, Type string
	API          mdev.API
	Group        uint32 // number of its group
	Attrs        []Attr // not to be changed
	State        State
	// Holder names who has the device open, empty if nobody has.
	Holder string
	// Endpoint is where it is served, set by [Registry.SetEndpoint].
	Endpoint string
	Created  time.Time
}

// TypeInfo says what is known about a type at one moment.
type TypeInfo struct {
	Parent, Name, Title, Description string
	API                              mdev.API
	// Available is how many devices can still be made, Devices how many
	// there are.
	Available, Devices int
}

// ParentInfo says what is known about a parent at one moment.
type ParentInfo struct {
	Name string
	// Leaving says that it is being unregistered: no device can be made.
	Leaving bool
	Types   []string // names, sorted
	Devices int
}

// Group says what is known about a group of devices at one moment. It exists
// as long as one of its devices.
type Group struct {
	// Number is unique in the life of a registry.
	Number uint32
	// Name is what a type called it; empty for a group of one device.
	Name    string
	Devices []uuid.UUID // sorted
}

// ParseUUID reads a UUID in the form in which it is written to sysfs: 36
// characters, or 37 with a newline at the end. Anything else wraps
// errs.ErrInvalid.
//
// Specification: Linux, drivers/vfio/mdev/mdev_sysfs.c, create_store.
func ParseUUID(s string) (uuid.UUID, error) {
	t := strings.TrimSuffix(s, "\n")
	if len(t) != 36 {
		return uuid.Nil, fmt.Errorf("%.80q is not a UUID: %d characters, want 36: %w", s, len(t), errs.ErrInvalid)
	}
	id, err := uuid.Parse(t)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%q is not a UUID: %w", s, errs.ErrInvalid)
	}
	return id, nil
}
