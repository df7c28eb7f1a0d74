package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevctl"
)

// File is what `mdev serve --config` reads: JSON with these members, all
// optional but a device's type, and no others.
//
//	{
//	  "control": "/run/mdev/control.sock",
//	  "run_dir": "/run/mdev",
//	  "socket_mode": "0660",
//	  "devices": [
//	    {"type": "demo", "socket": "/run/mdev/vm1.sock"},
//	    {"type": "demo", "uuid": "83c32df7-d52e-4ec1-9668-1f3c7e4df107",
//	     "attrs": [{"mmap": "on"}], "listen": "vm2"}
//	  ]
//	}
type File struct {
	// Control is where the control API is served. Empty: nowhere.
	Control string `json:"control"`
	// RunDir is the folder for sockets that have no path of their own.
	RunDir string `json:"run_dir"`
	// SocketMode are the rights of the devices' sockets, octal.
	SocketMode Mode         `json:"socket_mode"`
	Devices    []FileDevice `json:"devices"`
}

// FileDevice is a device in a [File]. At most one of Socket, FD and Listen
// says where it is served; without, on <run_dir>/<uuid>.sock.
type FileDevice struct {
	UUID   uuid.NullUUID `json:"uuid"`
	Parent string        `json:"parent"`
	Type   string        `json:"type"`
	Attrs  Attrs         `json:"attrs"`
	// Socket is the path of a socket to make. One that is not absolute is
	// below the folder of the file.
	Socket string `json:"socket"`
	// FD is a descriptor of a socket that mdev serve inherits.
	FD *int `json:"fd"`
	// Listen is the name of a socket that the service manager passes
	// (FileDescriptorName= of systemd.socket).
	Listen string `json:"listen"`
}

// Mode are rights of a file, in JSON as octal text.
type Mode fs.FileMode

// ParseMode reads rights of a file.
func ParseMode(s string) (Mode, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m == 0 || m > 0o777 {
		return 0, fmt.Errorf("rights %q: want up to four octal digits, as 0660: %w", s, errs.ErrInvalid)
	}
	return Mode(m), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMode(string(b))
	return err
}

// maxFileDevices bounds what a file may list.
const maxFileDevices = 1024

// ReadFile reads the file of `mdev serve --config`. Errors are
// [*mdevctl.FileError] and say where in the file.
func ReadFile(path string) (*File, error) {
	b, err := readAll(path)
	var f *File
	if err == nil {
		f, err = ParseFile(b, filepath.Dir(path))
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, &mdevctl.FileError{Path: path, Err: err}
	}
	return f, nil
}

func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = fmt.Errorf("more than %d bytes: %w", maxBody, errs.ErrInvalid)
	}
	return b, err
}

// ParseFile reads what a [File] holds; paths that are not absolute are below
// dir.
func ParseFile(b []byte, dir string) (*File, error) {
	f := &File{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(f)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errors.New(manyValues)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", lineOf(b, dec, err), strings.TrimPrefix(err.Error(), "json: "), errs.ErrInvalid)
	}
	if len(f.Devices) > maxFileDevices {
		return nil, fmt.Errorf("%d devices, more than %d: %w", len(f.Devices), maxFileDevices, errs.ErrInvalid)
	}
	below := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	below(&f.Control)
	below(&f.RunDir)
	used := make(map[string]string)
	once := func(i int, what, key string) error {
		here := fmt.Sprintf("devices[%d]", i)
		if before, ok := used[key]; ok {
			return fmt.Errorf("%s: %s is that of %s: %w", here, what, before, errs.ErrExists)
		}
		used[key] = here
		return nil
	}
	if f.Control != "" {
		used["socket "+f.Control] = "control"
	}
	for i := range f.Devices {
		d := &f.Devices[i]
		below(&d.Socket)
		if d.Type == "" {
			return nil, fmt.Errorf("devices[%d]: type is missing: %w", i, errs.ErrInvalid)
		}
		where := 0
		for _, x := range []struct {
			set  bool
			key  string
			what string
		}{
			{d.Socket != "", "socket " + d.Socket, "socket"},
			{d.Listen != "", "listen " + d.Listen, "listen"},
			{d.FD != nil, fmt.Sprintf("fd %d", deref(d.FD)), "fd"},
		} {
			if !x.set {
				continue
			}
			if where++; where > 1 {
				return nil, fmt.Errorf("devices[%d]: want one of socket, fd and listen: %w", i, errs.ErrInvalid)
			}
			if err := once(i, x.what, x.key); err != nil {
				return nil, err
			}
		}
		if d.UUID.Valid {
			if d.UUID.UUID == uuid.Nil {
				return nil, fmt.Errorf("devices[%d]: the zero UUID names no device: %w", i, errs.ErrInvalid)
			}
			if err := once(i, "uuid", d.UUID.UUID.String()); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func deref(p *int) int {
	if p == nil {
		return -1
	}
	return *p
}

// lineOf says in which line err is, where that is known.
func lineOf(b []byte, dec *json.Decoder, err error) string {
	at := dec.InputOffset()
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	case dec.InputOffset() > 0 && err.Error() != manyValues:
		return "" // the decoder has read the value and says what is wrong, not where
	}
	at = min(max(at, 0), int64(len(b)))
	return fmt.Sprintf("line %d: ", 1+bytes.Count(b[:at], []byte("\n")))
}

const manyValues = "more than one value"
