package mdevctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// Mark is what stands behind a line of a listing.
type Mark string

// The marks of mdevctl: a defined device that runs, a running one that is
// defined.
const (
	Unmarked Mark = ""
	Active   Mark = "active"
	Defined  Mark = "defined"
)

// WriteText writes the line of a device as mdevctl's list does, and with
// verbose its attributes:
//
//	83c32df7-d52e-4ec1-9668-1f3c7e4df107 demo demo auto (defined)
//	  Attrs:
//	    @{0}: {"mmap":"on"}
func (d *Definition) WriteText(w io.Writer, mark Mark, verbose bool) error {
	line := fmt.Sprintf("%s %s %s %s", d.UUID, printable(d.Parent), printable(d.Type), startName(d.Auto))
	if mark != Unmarked {
		line += " (" + string(mark) + ")"
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return err
	}
	if !verbose || len(d.Attrs) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w, "  Attrs:"); err != nil {
		return err
	}
	for i, a := range d.Attrs {
		var name, value encoder
		name.string(a.Name)
		value.string(a.Value)
		if _, err := fmt.Fprintf(w, "    @{%d}: {%s:%s}\n", i, name.String(), value.String()); err != nil {
			return err
		}
	}
	return nil
}

// WriteTypes writes types, sorted by parent and name, as mdevctl's types does.
func WriteTypes(w io.Writer, all []TypeInfo) error {
	parent := ""
	for _, t := range all {
		if t.Parent != parent {
			parent = t.Parent
			if _, err := fmt.Fprintln(w, parent); err != nil {
				return err
			}
		}
		text := fmt.Sprintf("  %s\n    Available instances: %d\n    Device API: %s\n", t.Name, t.Available, t.API)
		if t.Title != "" {
			text += "    Name: " + t.Title + "\n"
		}
		if t.Description != "" {
			text += "    Description: " + t.Description + "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// printable is s, quoted where a terminal would take it for more than text.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
