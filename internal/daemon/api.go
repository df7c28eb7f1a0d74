package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevctl"
	"github.com/softmdev/softmdev/mdev/registry"
)

// Limits of the control API.
const (
	maxBody        = 1 << 20          // bytes of a request's body, and of an answer but a watch
	maxConnections = 64               // at one time
	maxWatchers    = 32               // of those
	maxWait        = 10 * time.Minute // for a device to be released
	requestTime    = 10 * time.Second // to send a request, to take an answer or an event
)

// Attrs are attributes in their JSON form, that of mdevctl: a list of objects
// of one member each.
type Attrs []registry.Attr

// MarshalJSON implements json.Marshaler.
func (a Attrs) MarshalJSON() ([]byte, error) {
	list := make([]map[string]string, len(a))
	for i, x := range a {
		list[i] = map[string]string{x.Name: x.Value}
	}
	return json.Marshal(list)
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *Attrs) UnmarshalJSON(b []byte) error {
	list, err := mdevctl.ParseAttrs(b)
	*a = nil
	for _, x := range list {
		*a = append(*a, registry.Attr(x))
	}
	return err
}

// Device is a device in the control API.
type Device struct {
	UUID    uuid.UUID `json:"uuid"`
	Parent  string    `json:"parent"`
	Type    string    `json:"type"`
	API     string    `json:"device_api"`
	Group   uint32    `json:"group"`
	Attrs   Attrs     `json:"attrs"`
	State   string    `json:"state"`            // idle, open, removing
	Holder  string    `json:"holder,omitempty"` // who has it open
	Socket  string    `json:"socket,omitempty"` // where it is served
	Created time.Time `json:"created"`
}

func deviceJSON(d *registry.Device) Device {
	return Device{
		UUID: d.UUID, Parent: d.Parent, Type: d.Type, API: string(d.API), Group: d.Group, Attrs: Attrs(d.Attrs),
		State: d.State.String(), Holder: d.Holder, Socket: d.Endpoint, Created: d.Created.UTC(),
	}
}

// Type is a type of device in the control API.
type Type struct {
	Parent      string `json:"parent"`
	Name        string `json:"type"`
	Title       string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
	API         string `json:"device_api"`
	Available   int    `json:"available_instances"`
	Devices     int    `json:"devices"`
}

// TypesOf are the types of a registry in the form of the control API.
func TypesOf(r *registry.Registry) []Type {
	list := []Type{}
	for _, t := range r.Types() {
		list = append(list, Type{t.Parent, t.Name, t.Title, t.Description, string(t.API), t.Available, t.Devices})
	}
	return list
}

// Event is one line of a watch. See registry.Op for Op.
type Event struct {
	Seq    uint64  `json:"seq"`
	Op     string  `json:"op"`
	Device *Device `json:"device,omitempty"`
	Parent string  `json:"parent,omitempty"`
}

func eventJSON(e *registry.Event) Event {
	j := Event{Seq: e.Seq, Op: e.Op.String()}
	if e.Device != nil {
		d := deviceJSON(e.Device)
		j.Device = &d
	}
	if e.Parent != nil {
		j.Parent = e.Parent.Name
	}
	return j
}

// Create asks for a device.
type Create struct {
	UUID   uuid.NullUUID `json:"uuid"` // null: a new one
	Parent string        `json:"parent,omitempty"`
	Type   string        `json:"type"`
	Attrs  Attrs         `json:"attrs,omitempty"`
	// Start says that it is to be served, too; if it cannot be, it is not
	// made.
	Start *Start `json:"start,omitempty"`
}

// Start asks for a device to be served.
type Start struct {
	// Socket is an absolute path; empty: the default.
	Socket string `json:"socket,omitempty"`
}

// failure is the body of an answer that says no.
type failure struct {
	Error string `json:"error"`
	Errno string `json:"errno"`
}

// statuses are the answers to errors that the client can be blamed for, or
// that pass; the rest is 500.
var statuses = map[syscall.Errno]int{
	unix.EINVAL: http.StatusBadRequest,
	unix.ENOENT: http.StatusNotFound,
	unix.EEXIST: http.StatusConflict,
	unix.EBUSY:  http.StatusConflict,
	unix.ENODEV: http.StatusGone,
	unix.EAGAIN: http.StatusServiceUnavailable,
	unix.ENOSPC: http.StatusInsufficientStorage,
}

// remoteError is an error that the daemon sent; it unwraps to what it wrapped
// there, as far as that has a sentinel.
type remoteError struct {
	text string
	err  error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.err }

// sentinels are what errnos stand for on the way back.
var sentinels = map[string]error{
	"EINVAL": errs.ErrInvalid,
	"ENOENT": errs.ErrNotFound,
	"EEXIST": errs.ErrExists,
	"EBUSY":  errs.ErrBusy,
	"ENODEV": errs.ErrGone,
	"EAGAIN": errs.ErrAgain,
	"ENOSPC": errs.ErrNoSpace,
	"EPERM":  errs.ErrPermission,
}

// errnoName is the name of the errno that err carries.
func errnoName(err error) string {
	e := errs.Errno(err)
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(e))
}

// strict decodes JSON that is one value with known fields only.
func strict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(err.Error(), "json: "), errs.ErrInvalid)
	}
	if dec.More() {
		return fmt.Errorf("more than one value: %w", errs.ErrInvalid)
	}
	return nil
}
