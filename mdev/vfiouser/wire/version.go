package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// VersionLen is the length of the fixed part of VERSION.
const VersionLen = 4

// Version is the fixed part of VERSION, request and reply. JSON, ended by a
// NUL, may follow: see [Capabilities].
//
//	byte  0       2       4
//	      | Major | Minor | JSON ... NUL
type Version struct{ Major, Minor uint16 }

// DecodeVersion decodes the fixed part of VERSION.
func DecodeVersion(b *[VersionLen]byte) Version {
	return Version{order.Uint16(b[0:]), order.Uint16(b[2:])}
}

// Append appends the encoding of v.
func (v Version) Append(b []byte) []byte {
	b = order.AppendUint16(b, v.Major)
	return order.AppendUint16(b, v.Minor)
}

// String prints 0.1.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Capabilities are what a side of the connection says of itself in VERSION. A
// nil field was not said; the default of the specification holds then.
//
// Spec: vfio-user.rst, "VFIO_USER_VERSION", "Capabilities".
type Capabilities struct {
	MaxMsgFDs       *uint64        `json:"max_msg_fds,omitempty"`        // files the sender can receive in a message; default 1
	MaxDataXferSize *uint64        `json:"max_data_xfer_size,omitempty"` // largest count of an access, bytes; default 1 MiB
	PageSizes       *uint64        `json:"pgsizes,omitempty"`            // page sizes of mappings, one bit each; default 4096
	MaxDMAMaps      *uint64        `json:"max_dma_maps,omitempty"`       // default 65535
	WriteMultiple   *bool          `json:"write_multiple,omitempty"`     // REGION_WRITE_MULTI is understood; default false
	Migration       *MigrationCaps `json:"migration,omitempty"`
	TwinSocket      *TwinSocket    `json:"twin_socket,omitempty"`
}

// MigrationCaps is the migration object of Capabilities.
type MigrationCaps struct {
	PageSize      *uint64 `json:"pgsize,omitempty"`          // of dirty bitmaps, bytes
	MaxBitmapSize *uint64 `json:"max_bitmap_size,omitempty"` // of one dirty bitmap, bytes
}

// TwinSocket is the twin_socket object of Capabilities: a second socket for
// the commands of the server.
type TwinSocket struct {
	Supported bool    `json:"supported"`
	FDIndex   *uint64 `json:"fd_index,omitempty"` // in a reply: which of its files
}

// ErrNotTerminated is the error of JSON whose last byte is not NUL.
var ErrNotTerminated = errors.New("JSON is not terminated by NUL")

// ParseCapabilities parses what follows the fixed part of VERSION: nothing, or
// JSON and a NUL. Keys that it does not know are ignored; a known key with a
// value of another kind is an error, and so is anything that is not UTF-8.
func ParseCapabilities(b []byte) (Capabilities, error) {
	var c Capabilities
	if len(b) == 0 {
		return c, nil
	}
	last := len(b) - 1
	switch {
	case b[last] != 0:
		return c, ErrNotTerminated
	case !utf8.Valid(b):
		return c, errors.New("JSON is not UTF-8")
	}
	top, err := object(b[:last], "JSON")
	if err != nil {
		return c, err
	}
	raw, ok := top["capabilities"]
	if !ok {
		return c, nil
	}
	caps, err := object(raw, "capabilities")
	if err != nil {
		return c, err
	}
	return c, errors.Join(
		value(caps, "max_msg_fds", &c.MaxMsgFDs),
		value(caps, "max_data_xfer_size", &c.MaxDataXferSize),
		value(caps, "pgsizes", &c.PageSizes),
		value(caps, "max_dma_maps", &c.MaxDMAMaps),
		value(caps, "write_multiple", &c.WriteMultiple),
		c.parseMigration(caps),
		c.parseTwinSocket(caps),
	)
}

func (c *Capabilities) parseMigration(caps map[string]json.RawMessage) error {
	raw, ok := caps["migration"]
	if !ok {
		return nil
	}
	o, err := object(raw, "migration")
	if err != nil {
		return err
	}
	c.Migration = new(MigrationCaps)
	return errors.Join(
		value(o, "pgsize", &c.Migration.PageSize),
		value(o, "max_bitmap_size", &c.Migration.MaxBitmapSize),
	)
}

func (c *Capabilities) parseTwinSocket(caps map[string]json.RawMessage) error {
	raw, ok := caps["twin_socket"]
	if !ok {
		return nil
	}
	o, err := object(raw, "twin_socket")
	if err != nil {
		return err
	}
	c.TwinSocket = new(TwinSocket)
	var supported *bool
	err = errors.Join(
		value(o, "supported", &supported),
		value(o, "fd_index", &c.TwinSocket.FDIndex),
	)
	c.TwinSocket.Supported = supported != nil && *supported
	return err
}

// object parses a JSON object. (Unmarshal into a structure would take keys in
// any case and null for everything.)
func object(b []byte, name string) (map[string]json.RawMessage, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if o == nil {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return o, nil
}

// value parses the value of a key into *v if the key is there.
func value[T any](o map[string]json.RawMessage, key string, v **T) error {
	raw, ok := o[key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if *v == nil {
		return fmt.Errorf("%s is null", key)
	}
	return nil
}

// Append appends the capabilities as JSON without white space and a NUL, ready
// to follow a [Version]. Nothing said appends nothing.
func (c Capabilities) Append(b []byte) []byte {
	if c == (Capabilities{}) {
		return b
	}
	j, err := json.Marshal(struct {
		Capabilities Capabilities `json:"capabilities"`
	}{c})
	if err != nil {
		panic(fmt.Sprintf("wire: capabilities of numbers and booleans: %v", err))
	}
	return append(append(b, j...), 0)
}
