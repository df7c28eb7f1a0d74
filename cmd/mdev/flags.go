package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/internal/daemon"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevctl"
	"github.com/softmdev/softmdev/mdev/registry"
)

// controlFlags say where mdev serve is reached.
type controlFlags struct {
	Control string `placeholder:"PATH" env:"MDEV_CONTROL" help:"Control socket of mdev serve. Default: control.sock in /run/mdev, for users in $XDG_RUNTIME_DIR/mdev."`
}

func (f *controlFlags) path() string {
	if f.Control != "" {
		return f.Control
	}
	return daemon.ControlPath()
}

func (f *controlFlags) client() *daemon.Client { return daemon.NewClient(f.path()) }

// rootFlags say where definitions are.
type rootFlags struct {
	Root string `default:"${root}" placeholder:"DIR" env:"MDEV_ROOT" help:"Folder of definitions, in mdevctl's layout. (default ${default})"`
}

func (f *rootFlags) dir() mdevctl.Dir { return mdevctl.Dir(f.Root) }

// attrFlags are attributes on the command line.
type attrFlags struct {
	Attr []string `sep:"none" placeholder:"NAME=VALUE" help:"Attribute of the device; may be given again, the order counts."`
}

func (f *attrFlags) attrs() ([]registry.Attr, error) {
	var attrs []registry.Attr
	for _, a := range f.Attr {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, usagef("--attr: want NAME=VALUE, have %q", a)
		}
		attrs = append(attrs, registry.Attr{Name: name, Value: value})
	}
	return attrs, nil
}

// parseUUID reads the value of --uuid, which may be empty.
func parseUUID(s string) (uuid.NullUUID, error) {
	if s == "" {
		return uuid.NullUUID{}, nil
	}
	id, err := registry.ParseUUID(s)
	if err != nil {
		return uuid.NullUUID{}, usagef("--uuid: %w", err)
	}
	if id == uuid.Nil {
		return uuid.NullUUID{}, usagef("--uuid: the zero UUID names no device")
	}
	return uuid.NullUUID{UUID: id, Valid: true}, nil
}

// judge marks those errors as bad input that are about what was asked for,
// and not about what became of it.
func judge(err error) error {
	var none *daemon.NotServing
	switch {
	case err == nil || errors.As(err, &none) || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, errs.ErrInvalid), errors.Is(err, errs.ErrNotSupported),
		errors.Is(err, fs.ErrNotExist): // also errs.ErrNotFound, which is ENOENT
		return usage{err}
	}
	return err
}

// toAttrs and fromAttrs turn attributes of definitions into those of devices
// and back.
func toAttrs(list []mdevctl.Attr) daemon.Attrs {
	var attrs daemon.Attrs
	for _, a := range list {
		attrs = append(attrs, registry.Attr(a))
	}
	return attrs
}

func fromAttrs(list []registry.Attr) []mdevctl.Attr {
	var attrs []mdevctl.Attr
	for _, a := range list {
		attrs = append(attrs, mdevctl.Attr(a))
	}
	return attrs
}
