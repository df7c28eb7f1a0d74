package mdevctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Limits of a definition.
const (
	// MaxFile is the size in bytes up to which a file is read.
	MaxFile = 1 << 20
	// MaxName is the length in bytes of a name of a parent: what a file
	// system takes (NAME_MAX).
	MaxName = 255
)

// Attr is one attribute of a device, a name and a value that its type
// understands.
type Attr struct{ Name, Value string }

// Config is the content of a definition's file.
type Config struct {
	// Type is the name of the device's type, "mdev_type".
	Type string
	// Auto says that the device starts when its parent comes, "start".
	Auto bool
	// Attrs are applied in their order.
	Attrs []Attr
}

// Definition is a device that is defined, whether it exists or not.
type Definition struct {
	UUID   uuid.UUID
	Parent string
	Config

	file string // name of its file below the parent, if it is not UUID's
}

// name is that of the definition's file.
func (d *Definition) name() string {
	if d.file != "" {
		return d.file
	}
	return d.UUID.String()
}

// ParseConfig reads the content of a definition's file. What mdevctl accepts
// is accepted; see the package comment for what is not. Errors wrap
// errs.ErrInvalid.
func ParseConfig(b []byte) (Config, error) {
	var c Config
	if len(b) > MaxFile {
		return c, fmt.Errorf("more than %d bytes: %w", MaxFile, errs.ErrInvalid)
	}
	if !utf8.Valid(b) {
		return c, fmt.Errorf("not UTF-8: %w", errs.ErrInvalid)
	}
	// A map, because the names of struct fields match in any case.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return c, jsonError("", err)
	}
	var start string
	for _, f := range []struct {
		name string
		into *string
	}{{"mdev_type", &c.Type}, {"start", &start}} {
		raw, ok := fields[f.name]
		if !ok || isNull(raw) {
			return c, fmt.Errorf("%s is missing: %w", f.name, errs.ErrInvalid)
		}
		if err := json.Unmarshal(raw, f.into); err != nil {
			return c, jsonError(f.name+": ", err)
		}
	}
	c.Auto = start == "auto"
	if raw, ok := fields["attrs"]; ok {
		var err error
		if c.Attrs, err = ParseAttrs(raw); err != nil {
			return c, err
		}
	}
	return c, nil
}

// ParseAttrs reads the list of attributes of a definition, or null.
func ParseAttrs(b []byte) ([]Attr, error) {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, jsonError("attrs: ", err)
	}
	var attrs []Attr
	for i, a := range list {
		if len(a) != 1 {
			return nil, fmt.Errorf("attrs[%d]: want one name and its value, have %d: %w", i, len(a), errs.ErrInvalid)
		}
		for name, raw := range a {
			var value string
			if err := json.Unmarshal(raw, &value); err != nil || isNull(raw) {
				return nil, fmt.Errorf("attrs[%d]: the value of %q is not a string: %w", i, name, errs.ErrInvalid)
			}
			attrs = append(attrs, Attr{name, value})
		}
	}
	return attrs, nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// jsonError says where the JSON is wrong.
func jsonError(where string, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%sbyte %d: %w: %w", where, syntax.Offset, err, errs.ErrInvalid)
	case errors.As(err, &kind):
		return fmt.Errorf("%swant %s, have %s: %w", where, jsonKind(kind), kind.Value, errs.ErrInvalid)
	}
	return fmt.Errorf("%s%w: %w", where, err, errs.ErrInvalid)
}

// jsonKind is what JSON calls the type that was wanted.
func jsonKind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "map":
		return "an object"
	case "slice":
		return "a list"
	}
	return "a string"
}

// CheckParent refuses names of parents that cannot be a folder of definitions.
func CheckParent(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name of the parent is empty: %w", errs.ErrInvalid)
	case len(name) > MaxName:
		return fmt.Errorf("name of the parent has %d bytes, more than %d: %w", len(name), MaxName, errs.ErrInvalid)
	case name == "." || name == ".." || name == scripts:
		return fmt.Errorf("%q cannot be a parent: %w", name, errs.ErrInvalid)
	case strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r < 0x20 || r == 0x7f }) || !utf8.ValidString(name):
		return fmt.Errorf("%q cannot be a parent: it has a slash, a control character or is not UTF-8: %w", name, errs.ErrInvalid)
	}
	return nil
}
