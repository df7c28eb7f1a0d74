package mdevctl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev/errs"
)

// DefaultRoot is where mdevctl keeps definitions.
const DefaultRoot = "/etc/mdevctl.d"

// scripts is the folder below the root that holds no definitions.
const scripts = "scripts.d"

// Dir is a root of definitions, a folder that need not exist. It may be used
// by any number of goroutines and processes.
type Dir string

// Filter chooses definitions; the zero Filter chooses all.
type Filter struct {
	UUID   uuid.NullUUID
	Parent string
}

// FileError is a file below a root that is no definition.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// List is the definitions that f chooses, sorted by parent and UUID, and the
// files that should have been among them and cannot be read. Files whose name
// is not a UUID are not looked at. The error is that of reading the root
// itself; a root that does not exist has no definitions.
func (d Dir) List(f Filter) ([]Definition, []*FileError, error) {
	parents, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var all []Definition
	var bad []*FileError
	for _, p := range parents {
		if p.Name() == scripts || f.Parent != "" && p.Name() != f.Parent {
			continue
		}
		if CheckParent(p.Name()) != nil {
			continue // by none of the makers of definitions
		}
		found, b := d.parent(p.Name(), f.UUID)
		all, bad = append(all, found...), append(bad, b...)
	}
	Sort(all)
	slices.SortFunc(bad, func(a, b *FileError) int { return cmp.Compare(a.Path, b.Path) })
	return all, bad, nil
}

// parent is the part of List that concerns one parent.
func (d Dir) parent(parent string, want uuid.NullUUID) (all []Definition, bad []*FileError) {
	dir := filepath.Join(string(d), parent)
	files, err := os.ReadDir(dir)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []*FileError{{dir, bare(err)}}
	}
	for _, file := range files {
		id, err := uuid.Parse(file.Name())
		if err != nil || want.Valid && id != want.UUID {
			continue
		}
		path := filepath.Join(dir, file.Name())
		b, regular, err := readFile(path)
		if err == nil && !regular || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c Config
		if err == nil {
			c, err = ParseConfig(b)
		}
		if err != nil {
			bad = append(bad, &FileError{path, bare(err)})
			continue
		}
		all = append(all, Definition{UUID: id, Parent: parent, Config: c, file: file.Name()})
	}
	return all, bad
}

// ReadConfig reads the content of a definition's file from anywhere. Errors
// are [*FileError].
func ReadConfig(path string) (Config, error) {
	b, regular, err := readFile(path)
	if err == nil && !regular {
		err = fmt.Errorf("not a regular file: %w", errs.ErrInvalid)
	}
	var c Config
	if err == nil {
		c, err = ParseConfig(b)
	}
	if err != nil {
		return Config{}, &FileError{path, bare(err)}
	}
	return c, nil
}

// readFile reads a regular file up to one byte more than it may have. It does
// not wait on something that turns out to be none.
func readFile(path string) (b []byte, regular bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, syscall.ENXIO) { // a socket
			return nil, false, nil
		}
		return nil, false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, false, err
	}
	b, err = io.ReadAll(io.LimitReader(f, MaxFile+1))
	return b, true, err
}

// Get is the one definition that f chooses. errs.ErrNotFound where there is
// none; errs.ErrExists where there are several, under different parents; the
// [*FileError] where its file cannot be read.
func (d Dir) Get(f Filter) (*Definition, error) {
	all, bad, err := d.List(f)
	switch {
	case err != nil:
		return nil, err
	case len(bad) > 0:
		return nil, bad[0]
	case len(all) == 0:
		return nil, fmt.Errorf("%s is not defined in %s: %w", f, d, errs.ErrNotFound)
	case len(all) > 1:
		var parents []string
		for _, a := range all {
			parents = append(parents, a.Parent)
		}
		return nil, fmt.Errorf("%s is defined under several parents (%s), name one: %w", f, strings.Join(parents, ", "), errs.ErrExists)
	}
	return &all[0], nil
}

// String is the UUID and the parent, as far as f names them.
func (f Filter) String() string {
	switch {
	case f.UUID.Valid && f.Parent != "":
		return f.UUID.UUID.String() + " of " + f.Parent
	case f.UUID.Valid:
		return f.UUID.UUID.String()
	case f.Parent != "":
		return "a device of " + f.Parent
	}
	return "a device"
}

// Define writes a new definition; errs.ErrExists if there is one of this UUID
// under this parent.
func (d Dir) Define(def *Definition) error {
	if err := def.check(); err != nil {
		return err
	}
	f := Filter{uuid.NullUUID{UUID: def.UUID, Valid: true}, def.Parent}
	all, bad, err := d.List(f)
	if err != nil {
		return err
	}
	if len(all)+len(bad) > 0 {
		return fmt.Errorf("%s is defined in %s: %w", f, d, errs.ErrExists)
	}
	dir := filepath.Join(string(d), def.Parent)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return write(dir, def.JSON(), func(temp string) error {
		// Unlike a rename, a link replaces nothing.
		err := os.Link(temp, filepath.Join(dir, def.name()))
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is defined in %s: %w", f, d, errs.ErrExists)
		}
		return err
	})
}

// Replace writes a definition that List or Get returned, changed in anything
// but UUID and parent. errs.ErrNotFound if it is gone.
func (d Dir) Replace(def *Definition) error {
	if err := def.check(); err != nil {
		return err
	}
	dir := filepath.Join(string(d), def.Parent)
	path := filepath.Join(dir, def.name())
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s of %s is not defined in %s: %w", def.UUID, def.Parent, d, errs.ErrNotFound)
	}
	return write(dir, def.JSON(), func(temp string) error { return os.Rename(temp, path) })
}

// Undefine removes a definition that List or Get returned. errs.ErrNotFound
// if it is gone. A device that runs is not touched.
func (d Dir) Undefine(def *Definition) error {
	if err := CheckParent(def.Parent); err != nil {
		return err
	}
	dir := filepath.Join(string(d), def.Parent)
	err := os.Remove(filepath.Join(dir, def.name()))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s of %s is not defined in %s: %w", def.UUID, def.Parent, d, errs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// check refuses what could not be read back.
func (d *Definition) check() error {
	if err := CheckParent(d.Parent); err != nil {
		return err
	}
	if d.Type == "" {
		return fmt.Errorf("name of the type is empty: %w", errs.ErrInvalid)
	}
	if n := len(d.JSON()); n > MaxFile {
		return fmt.Errorf("definition has %d bytes, more than %d: %w", n, MaxFile, errs.ErrInvalid)
	}
	return nil
}

// write makes a file that holds b below dir and lets place put it where it
// belongs; nothing is left if that fails. The name of the file is no UUID, so
// nobody takes it for a definition meanwhile.
func write(dir string, b []byte, place func(temp string) error) (err error) {
	f, err := os.CreateTemp(dir, ".new.*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone if it was renamed
	defer f.Close()           // twice where all is well
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = place(f.Name()); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes changes of names in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// bare is err without the path that whoever wraps it names.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
