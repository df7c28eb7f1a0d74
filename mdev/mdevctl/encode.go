package mdevctl

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// JSON is the content of the definition's file, without a newline at the end,
// as mdevctl writes it.
func (c *Config) JSON() []byte {
	var e encoder
	e.config(c)
	return e.Bytes()
}

// DumpJSON is what `mdevctl list --dumpjson` prints for these devices, sorted
// by parent and UUID: a list of one object, with a list of devices for each
// parent; an empty list where there are none.
func DumpJSON(all []Definition) []byte {
	var e encoder
	byParent(&e, all, func(d *Definition) string { return d.Parent }, func(d *Definition) {
		e.object(func(member func(string)) {
			member(d.UUID.String())
			e.config(&d.Config)
		})
	})
	return e.Bytes()
}

// DumpOne is what mdevctl prints for a listing that a UUID was asked of: the
// content of its file if there is one such device, else as [DumpJSON].
func DumpOne(all []Definition) []byte {
	if len(all) == 1 {
		return all[0].JSON()
	}
	return DumpJSON(all)
}

// Sort sorts by parent and UUID.
func Sort(all []Definition) {
	slices.SortFunc(all, func(a, b Definition) int {
		return cmp.Or(strings.Compare(a.Parent, b.Parent), bytes.Compare(a.UUID[:], b.UUID[:]))
	})
}

// TypeInfo is what is said about a type of a parent.
type TypeInfo struct {
	Parent, Name string
	// Available is the number of devices that can still be made.
	Available int
	// API is "vfio-pci", "vfio-ccw" or the like.
	API string
	// Title is the readable name, "name"; empty: not printed.
	Title string
	// Description is free text; empty: not printed.
	Description string
}

// DumpTypes is what `mdevctl types --dumpjson` prints for these types, sorted
// by parent and name.
func DumpTypes(all []TypeInfo) []byte {
	var e encoder
	byParent(&e, all, func(t *TypeInfo) string { return t.Parent }, func(t *TypeInfo) {
		e.object(func(member func(string)) {
			member(t.Name)
			e.object(func(member func(string)) {
				member("available_instances")
				fmt.Fprint(&e, t.Available)
				member("device_api")
				e.string(t.API)
				if t.Title != "" {
					member("name")
					e.string(t.Title)
				}
				if t.Description != "" {
					member("description")
					e.string(t.Description)
				}
			})
		})
	})
	return e.Bytes()
}

// SortTypes sorts by parent and name.
func SortTypes(all []TypeInfo) {
	slices.SortFunc(all, func(a, b TypeInfo) int {
		return cmp.Or(strings.Compare(a.Parent, b.Parent), strings.Compare(a.Name, b.Name))
	})
}

// byParent writes [{"parent": [item, ...], ...}], or [] for no items, which
// are sorted by parent.
func byParent[T any](e *encoder, all []T, parent func(*T) string, item func(*T)) {
	if len(all) == 0 {
		e.WriteString("[]")
		return
	}
	e.list(func(element func()) {
		element()
		e.object(func(member func(string)) {
			for i := 0; i < len(all); {
				name, j := parent(&all[i]), i
				member(name)
				e.list(func(element func()) {
					for ; j < len(all) && parent(&all[j]) == name; j++ {
						element()
						item(&all[j])
					}
				})
				i = j
			}
		})
	})
}

// encoder writes JSON in the layout of mdevctl, which is that of Rust's
// serde_json: unlike encoding/json it keeps the order of members and escapes
// no more than JSON asks for.
type encoder struct {
	bytes.Buffer
	depth int
}

func (e *encoder) config(c *Config) {
	e.object(func(member func(string)) {
		member("mdev_type")
		e.string(c.Type)
		member("start")
		e.string(startName(c.Auto))
		member("attrs")
		e.list(func(element func()) {
			for _, a := range c.Attrs {
				element()
				e.object(func(member func(string)) {
					member(a.Name)
					e.string(a.Value)
				})
			}
		})
	})
}

// startName is "auto" or "manual".
func startName(auto bool) string {
	if auto {
		return "auto"
	}
	return "manual"
}

// object writes an object whose members body announces before it writes the
// value of each.
func (e *encoder) object(body func(member func(name string))) {
	e.brackets('{', '}', func(next func()) {
		body(func(name string) {
			next()
			e.string(name)
			e.WriteString(": ")
		})
	})
}

// list writes a list whose elements body announces before it writes each.
func (e *encoder) list(body func(element func())) { e.brackets('[', ']', body) }

func (e *encoder) brackets(open, end byte, body func(next func())) {
	e.WriteByte(open)
	e.depth++
	n := 0
	body(func() {
		if n++; n > 1 {
			e.WriteByte(',')
		}
		e.newline()
	})
	e.depth--
	if n > 0 {
		e.newline()
	}
	e.WriteByte(end)
}

func (e *encoder) newline() {
	e.WriteByte('\n')
	for range e.depth {
		e.WriteString("  ")
	}
}

// string writes s with the escapes that RFC 8259, section 7, demands, in their
// short form where there is one.
func (e *encoder) string(s string) {
	e.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			e.WriteByte('\\')
			e.WriteRune(r)
		case r == '\b':
			e.WriteString(`\b`)
		case r == '\f':
			e.WriteString(`\f`)
		case r == '\n':
			e.WriteString(`\n`)
		case r == '\r':
			e.WriteString(`\r`)
		case r == '\t':
			e.WriteString(`\t`)
		case r < 0x20:
			fmt.Fprintf(e, `\u%04x`, r)
		case r == utf8.RuneError:
			e.WriteRune(utf8.RuneError) // also for what is not UTF-8
		default:
			e.WriteRune(r)
		}
	}
	e.WriteByte('"')
}
