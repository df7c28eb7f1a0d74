package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevctl"
	"github.com/softmdev/softmdev/mdev/registry"
)

// TestFile: all that a file may say.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.json")
	require.NoError(t, os.WriteFile(path, []byte(`{
  "control": "/run/mdev/control.sock",
  "run_dir": "run",
  "socket_mode": "0660",
  "devices": [
    {"type": "demo", "socket": "vm1.sock"},
    {"type": "demo", "parent": "demo", "uuid": "83c32df7-d52e-4ec1-9668-1f3c7e4df107",
     "attrs": [{"b": "1"}, {"a": "2"}, {"b": "3"}], "fd": 0},
    {"type": "demo", "listen": "vm2", "uuid": null},
    {"type": "demo"}
  ]
}
`), 0o600))
	f, err := ReadFile(path)
	require.NoError(t, err)
	dir, zero := filepath.Dir(path), 0
	require.Equal(t, &File{
		Control: "/run/mdev/control.sock", RunDir: dir + "/run", SocketMode: 0o660,
		Devices: []FileDevice{
			{Type: "demo", Socket: dir + "/vm1.sock"},
			{Type: "demo", Parent: "demo", UUID: uuid.NullUUID{UUID: uuid.MustParse("83c32df7-d52e-4ec1-9668-1f3c7e4df107"), Valid: true},
				Attrs: Attrs{{Name: "b", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "3"}}, FD: &zero},
			{Type: "demo", Listen: "vm2"},
			{Type: "demo"},
		},
	}, f)
}

// TestBadFile: one line that says where and what is wrong.
func TestBadFile(t *testing.T) {
	const id = "83c32df7-d52e-4ec1-9668-1f3c7e4df107"
	for in, text := range map[string]string{
		`{"devices":[{"type":"t","uuid":"00000000-0000-0000-0000-000000000000"}]}`: "devices[0]: the zero UUID names no device",
		"":                                      "line 1: EOF",
		"{\n\n\"devices\": [}":                  "line 3: invalid character '}' looking for beginning of value",
		"[]":                                    "line 1: cannot unmarshal array",
		"{} {}":                                 "line 1: more than one value",
		"{}\n}":                                 "line 2: more than one value",
		"{\n\"device\": []}":                    `unknown field "device"`,
		`{"devices":[{"typ":"demo"}]}`:          `unknown field "typ"`,
		`{"devices":[{"type":1}]}`:              "cannot unmarshal number",
		`{"devices":[{}]}`:                      "devices[0]: type is missing",
		`{"socket_mode":"rw"}`:                  `rights "rw": want up to four octal digits`,
		`{"socket_mode":"01777"}`:               `rights "01777"`,
		`{"socket_mode":"0"}`:                   `rights "0"`,
		`{"devices":[{"type":"t","uuid":"x"}]}`: "invalid UUID length",
		`{"devices":[{"type":"t","attrs":{"a":"b"}}]}`:                                    "attrs: want a list, have object",
		`{"devices":[{"type":"t","attrs":[{"a":1}]}]}`:                                    `the value of "a" is not a string`,
		`{"devices":[{"type":"t","fd":1,"listen":"x"}]}`:                                  "devices[0]: want one of socket, fd and listen",
		`{"devices":[{"type":"t","socket":"a","fd":1}]}`:                                  "devices[0]: want one of",
		`{"devices":[{"type":"t","fd":4},{"type":"t","fd":4}]}`:                           "devices[1]: fd is that of devices[0]",
		`{"devices":[{"type":"t","socket":"a"},{"type":"t","socket":"/d/a"}]}`:            "devices[1]: socket is that of devices[0]",
		`{"devices":[{"type":"t","listen":"a"},{"type":"t","listen":"a"}]}`:               "devices[1]: listen is that of devices[0]",
		`{"control":"a","devices":[{"type":"t","socket":"a"}]}`:                           "devices[0]: socket is that of control",
		`{"devices":[{"type":"t","uuid":"` + id + `"},{"type":"t","uuid":"` + id + `"}]}`: "devices[1]: uuid is that of devices[0]",
		`{"devices":[` + strings.Repeat(`{"type":"t"},`, 1024) + `{"type":"t"}]}`:         "1025 devices, more than 1024",
	} {
		_, err := ParseFile([]byte(in), "/d")
		require.Error(t, err, "%.80s", in)
		require.ErrorContains(t, err, text, "%.80s", in)
		require.NotContains(t, err.Error(), "\n")
		require.Contains(t, []error{errs.ErrInvalid, errs.ErrExists}, sentinels[errnoName(err)])
	}
	dir := t.TempDir()
	_, err := ReadFile(filepath.Join(dir, "none"))
	var file *mdevctl.FileError
	require.ErrorAs(t, err, &file)
	require.EqualError(t, err, filepath.Join(dir, "none")+": no such file or directory")
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, make([]byte, maxBody+1), 0o600))
	_, err = ReadFile(large)
	require.EqualError(t, err, large+": more than 1048576 bytes: invalid argument")
}

// FuzzParseFile: an error of one line or a file whose devices each have a type
// and at most one place.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"control":"c","run_dir":"r","socket_mode":"0600","devices":[{"type":"t","attrs":[{"a":"b"}],"fd":3}]}`))
	f.Add([]byte(`{"devices":[{"type":"t","uuid":"83c32df7-d52e-4ec1-9668-1f3c7e4df107","listen":"l"},{"type":"u","socket":"s"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := ParseFile(b, "/d")
		if err != nil {
			require.Nil(t, file)
			return
		}
		for _, d := range file.Devices {
			require.NotEmpty(t, d.Type)
			n := 0
			for _, set := range []bool{d.Socket != "", d.FD != nil, d.Listen != ""} {
				if set {
					n++
				}
			}
			require.LessOrEqual(t, n, 1)
			require.True(t, d.Socket == "" || filepath.IsAbs(d.Socket))
		}
	})
}

// TestAttrsJSON: attributes keep order and repetition, in mdevctl's form.
func TestAttrsJSON(t *testing.T) {
	a := Attrs{{Name: "b", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "3"}}
	b, err := a.MarshalJSON()
	require.NoError(t, err)
	require.JSONEq(t, `[{"b":"1"},{"a":"2"},{"b":"3"}]`, string(b))
	var back Attrs
	require.NoError(t, back.UnmarshalJSON(b))
	require.Equal(t, a, back)
	b, err = Attrs(nil).MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, "[]", string(b))
	require.Equal(t, []registry.Attr(nil), []registry.Attr(Attrs(nil)))
}
