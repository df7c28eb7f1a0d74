package mdevctl

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
)

var (
	id1 = uuid.MustParse("11111111-2222-4333-8444-555555555555")
	id2 = uuid.MustParse("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
)

// TestConfigFile: rows of mdevctl(8), CONFIGURATION FILE FORMAT, and what
// mdevctl 1.4.0 takes beyond it.
func TestConfigFile(t *testing.T) {
	for name, row := range map[string]struct {
		in   string
		want Config
	}{
		"attrs are optional": {`{"mdev_type":"t","start":"auto"}`, Config{Type: "t", Auto: true}},
		"attrs may be null":  {`{"mdev_type":"t","start":"manual","attrs":null}`, Config{Type: "t"}},
		"attrs may be empty": {`{"mdev_type":"t","start":"manual","attrs":[]}`, Config{Type: "t"}},
		"attrs keep their order, names may come again": {
			`{"mdev_type":"t","start":"manual","attrs":[{"b":"1"},{"a":"2"},{"b":"3"}]}`,
			Config{Type: "t", Attrs: []Attr{{"b", "1"}, {"a", "2"}, {"b", "3"}}}},
		"any other start is manual":   {`{"mdev_type":"t","start":"AUTO"}`, Config{Type: "t"}},
		"keys without meaning":        {`{"x":{"y":[1]},"mdev_type":"t","start":"auto"}`, Config{Type: "t", Auto: true}},
		"white space, order of keys":  {"\n\t{ \"start\" : \"auto\" ,\r\n \"mdev_type\":\"t\"}\n\n", Config{Type: "t", Auto: true}},
		"the last of two keys counts": {`{"mdev_type":"s","mdev_type":"t","start":"auto"}`, Config{Type: "t", Auto: true}},
		"empty names and values":      {`{"mdev_type":"","start":"","attrs":[{"":""}]}`, Config{Attrs: []Attr{{"", ""}}}},
		"keys are told apart by case": {`{"mdev_type":"t","start":"manual","Start":"auto","ATTRS":7}`, Config{Type: "t"}},
		"values are text, whatever they say": {
			`{"mdev_type":"vfio_ap-passthrough","start":"manual","attrs":[{"assign_domain":"0xab\n\u00e9"}]}`,
			Config{Type: "vfio_ap-passthrough", Attrs: []Attr{{"assign_domain", "0xab\né"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseConfig([]byte(row.in))
			require.NoError(t, err)
			require.Equal(t, row.want, c)
			again, err := ParseConfig(c.JSON())
			require.NoError(t, err)
			require.Equal(t, c, again)
		})
	}
}

// TestBadConfigFile: one line that says what is wrong.
func TestBadConfigFile(t *testing.T) {
	for in, text := range map[string]string{
		``:                                   "byte 0: unexpected end of JSON input",
		`{`:                                  "byte 1: unexpected end of JSON input",
		`[]`:                                 "want an object, have array",
		`7`:                                  "want an object, have number",
		`null`:                               "mdev_type is missing",
		`{"start":"auto"}`:                   "mdev_type is missing",
		`{"mdev_type":"t"}`:                  "start is missing",
		`{"mdev_type":7,"start":"x"}`:        "mdev_type: want a string, have number",
		`{"mdev_type":"t","start":1}`:        "start: want a string, have number",
		`{"mdev_type":"t","start":"auto"} x`: "byte 34: invalid character 'x' after top-level value",
		`{"mdev_type":"t","start":"auto","attrs":{}}`:                         "attrs: want a list, have object",
		`{"mdev_type":"t","start":"auto","attrs":["a"]}`:                      "attrs: want an object, have string",
		`{"mdev_type":"t","start":"auto","attrs":[{}]}`:                       "attrs[0]: want one name and its value, have 0",
		`{"mdev_type":"t","start":"auto","attrs":[null]}`:                     "attrs[0]: want one name and its value, have 0",
		`{"mdev_type":"t","start":"auto","attrs":[{"a":"1"},{"b":1}]}`:        `attrs[1]: the value of "b" is not a string`,
		`{"mdev_type":"t","start":"auto","attrs":[{"a":null}]}`:               `attrs[0]: the value of "a" is not a string`,
		`{"mdev_type":"t","start":"auto","attrs":[{"a":"1","b":"2"}]}`:        "attrs[0]: want one name and its value, have 2",
		"{\"mdev_type\":\"\xff\",\"start\":\"auto\"}":                         "not UTF-8",
		`{"mdev_type":"` + strings.Repeat("t", MaxFile) + `","start":"auto"}`: "more than 1048576 bytes",
	} {
		_, err := ParseConfig([]byte(in))
		require.ErrorIs(t, err, errs.ErrInvalid, "%.60s", in)
		require.ErrorContains(t, err, text, "%.60s", in)
		require.NotContains(t, err.Error(), "\n")
	}
}

// FuzzParseConfig: an error or a config, never both; what is written of a
// config reads as that config, and is written the same again.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"mdev_type":"t","start":"auto","attrs":[{"a":"b"},{"\u2028<":"\u0000\"\\"}]}`))
	f.Add([]byte(`{"mdev_type":"t","start":null}`))
	f.Add([]byte(`{"mdev_type":"\ud800","start":"x","attrs":[{"\uffff":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			require.Empty(t, errs.Errno(err)-syscall.EINVAL)
			return
		}
		w := c.JSON()
		again, err := ParseConfig(w)
		if len(w) > MaxFile {
			return
		}
		require.NoError(t, err, "%s", w)
		require.Equal(t, c, again)
		require.Equal(t, w, again.JSON())
	})
}

// TestBytes: what is written is what mdevctl writes: two spaces, this order of
// keys, no newline at the end, "[]" for nothing, only needed escapes.
func TestBytes(t *testing.T) {
	for want, c := range map[string]Config{
		"{\n  \"mdev_type\": \"i915-GVTg_V5_8\",\n  \"start\": \"auto\",\n  \"attrs\": []\n}": {Type: "i915-GVTg_V5_8", Auto: true},
		"{\n  \"mdev_type\": \"t\",\n  \"start\": \"manual\",\n  \"attrs\": [\n    {\n      \"a\": \"5\"\n    },\n    {\n      \"a\": \"6\"\n    }\n  ]\n}": {
			Type: "t", Attrs: []Attr{{"a", "5"}, {"a", "6"}}},
		"{\n  \"mdev_type\": \"<&>é\u2028/\x7f\",\n  \"start\": \"manual\",\n  \"attrs\": [\n    {\n      \"\\\"\\\\\": \"\\b\\f\\n\\r\\t\\u0000\\u001f\"\n    }\n  ]\n}": {
			Type: "<&>é\u2028/\x7f", Attrs: []Attr{{`"\`, "\b\f\n\r\t\x00\x1f"}}},
	} {
		require.Equal(t, want, string(c.JSON()))
	}
}

// TestDumpJSON: the shape of list --dumpjson: one object in a list, a list of
// devices for each parent; the file's content alone where a UUID found one.
func TestDumpJSON(t *testing.T) {
	all := []Definition{
		{UUID: id2, Parent: "b", Config: Config{Type: "u"}},
		{UUID: id2, Parent: "a", Config: Config{Type: "t", Attrs: []Attr{{"k", "v"}}}},
		{UUID: id1, Parent: "b", Config: Config{Type: "u", Auto: true}},
	}
	Sort(all)
	require.Equal(t, `[
  {
    "a": [
      {
        "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee": {
          "mdev_type": "t",
          "start": "manual",
          "attrs": [
            {
              "k": "v"
            }
          ]
        }
      }
    ],
    "b": [
      {
        "11111111-2222-4333-8444-555555555555": {
          "mdev_type": "u",
          "start": "auto",
          "attrs": []
        }
      },
      {
        "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee": {
          "mdev_type": "u",
          "start": "manual",
          "attrs": []
        }
      }
    ]
  }
]`, string(DumpJSON(all)))
	require.Equal(t, "[]", string(DumpJSON(nil)))
	require.Equal(t, "[]", string(DumpOne(nil)))
	require.Equal(t, string(all[0].JSON()), string(DumpOne(all[:1])))
	require.Equal(t, string(DumpJSON(all)), string(DumpOne(all)))
}

// TestTypes: the shapes of types and types --dumpjson; a name and a
// description only where there is one.
func TestTypes(t *testing.T) {
	all := []TypeInfo{
		{Parent: "b", Name: "z", Available: 4, API: "vfio-ccw", Title: "Z", Description: "a z"},
		{Parent: "a", Name: "y", Available: 0, API: "vfio-pci", Title: "Y"},
		{Parent: "a", Name: "x", Available: 16, API: "vfio-pci"},
	}
	SortTypes(all)
	require.Equal(t, `[
  {
    "a": [
      {
        "x": {
          "available_instances": 16,
          "device_api": "vfio-pci"
        }
      },
      {
        "y": {
          "available_instances": 0,
          "device_api": "vfio-pci",
          "name": "Y"
        }
      }
    ],
    "b": [
      {
        "z": {
          "available_instances": 4,
          "device_api": "vfio-ccw",
          "name": "Z",
          "description": "a z"
        }
      }
    ]
  }
]`, string(DumpTypes(all)))
	require.Equal(t, "[]", string(DumpTypes(nil)))
	var text strings.Builder
	require.NoError(t, WriteTypes(&text, all))
	require.Equal(t, `a
  x
    Available instances: 16
    Device API: vfio-pci
  y
    Available instances: 0
    Device API: vfio-pci
    Name: Y
b
  z
    Available instances: 4
    Device API: vfio-ccw
    Name: Z
    Description: a z
`, text.String())
}

// TestText: the lines of list and list --verbose.
func TestText(t *testing.T) {
	d := Definition{UUID: id1, Parent: "p", Config: Config{Type: "t", Auto: true, Attrs: []Attr{{"a", "5"}, {"b", `"`}}}}
	for want, row := range map[string]struct {
		mark    Mark
		verbose bool
	}{
		id1.String() + " p t auto\n":           {},
		id1.String() + " p t auto (defined)\n": {mark: Defined},
		id1.String() + " p t auto (active)\n  Attrs:\n    @{0}: {\"a\":\"5\"}\n    @{1}: {\"b\":\"\\\"\"}\n": {Active, true},
	} {
		var b strings.Builder
		require.NoError(t, d.WriteText(&b, row.mark, row.verbose))
		require.Equal(t, want, b.String())
	}
	// A name that would be taken for something else on a terminal.
	d.Parent, d.Type, d.Attrs = "p", "\x1b[2J\n", nil
	var b strings.Builder
	require.NoError(t, d.WriteText(&b, Unmarked, true))
	require.Equal(t, id1.String()+" p \"\\x1b[2J\\n\" auto\n", b.String())
}

// put makes a file below dir.
func put(t *testing.T, dir Dir, path, content string) {
	t.Helper()
	p := filepath.Join(string(dir), path)
	require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(t, os.WriteFile(p, []byte(content), 0o644))
}

// TestList: definitions are the regular files named by a UUID in folders of
// the root; the rest is left alone, and what is bad hides nothing.
func TestList(t *testing.T) {
	dir := Dir(t.TempDir())
	const good = `{"mdev_type":"t","start":"auto"}`
	put(t, dir, "0000:00:02.0/"+id1.String(), good)
	put(t, dir, "0000:00:02.0/"+id2.String(), "broken")
	put(t, dir, "0000:00:02.0/notes.txt", "broken")
	put(t, dir, "0000:00:02.0/.new.123", "broken")
	put(t, dir, "matrix/"+strings.ToUpper(id2.String()), good)
	put(t, dir, "scripts.d/"+id1.String(), good)
	put(t, dir, "scripts.d/callouts/x.sh", "#!/bin/sh")
	put(t, dir, id1.String(), good) // no folder
	put(t, dir, "else/"+id1.String()+"/x", good)
	require.NoError(t, syscall.Mkfifo(filepath.Join(string(dir), "else", id2.String()), 0o644))
	require.NoError(t, os.Symlink(filepath.Join(string(dir), "matrix", strings.ToUpper(id2.String())), filepath.Join(string(dir), "else", "cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(string(dir), "else", "dddddddd-bbbb-4ccc-8ddd-eeeeeeeeeeee")))
	require.NoError(t, os.Mkdir(filepath.Join(string(dir), "empty"), 0o755))

	all, bad, err := dir.List(Filter{})
	require.NoError(t, err)
	var have []string
	for _, d := range all {
		have = append(have, d.Parent+" "+d.UUID.String())
	}
	require.Equal(t, []string{
		"0000:00:02.0 " + id1.String(),
		"else cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee",
		"matrix " + id2.String(),
	}, have)
	require.Len(t, bad, 1)
	require.EqualError(t, bad[0], string(dir)+"/0000:00:02.0/"+id2.String()+": byte 1: invalid character 'b' looking for beginning of value: invalid argument")

	// A name in capitals is its own file.
	d, err := dir.Get(Filter{UUID: uuid.NullUUID{UUID: id2, Valid: true}, Parent: "matrix"})
	require.NoError(t, err)
	d.Auto = false
	require.NoError(t, dir.Replace(d))
	d, err = dir.Get(Filter{Parent: "matrix"})
	require.NoError(t, err)
	require.False(t, d.Auto)
	require.ErrorIs(t, dir.Define(&Definition{UUID: id2, Parent: "matrix", Config: d.Config}), errs.ErrExists)
	require.NoError(t, dir.Undefine(d))
	_, err = dir.Get(Filter{Parent: "matrix"})
	require.EqualError(t, err, "a device of matrix is not defined in "+string(dir)+": not found")
}

// TestGet: one definition or the reason.
func TestGet(t *testing.T) {
	dir := Dir(t.TempDir())
	f := Filter{UUID: uuid.NullUUID{UUID: id1, Valid: true}}
	_, err := dir.Get(f)
	require.EqualError(t, err, id1.String()+" is not defined in "+string(dir)+": not found")
	for _, p := range []string{"b", "a"} {
		require.NoError(t, dir.Define(&Definition{UUID: id1, Parent: p, Config: Config{Type: "t"}}))
	}
	_, err = dir.Get(f)
	require.EqualError(t, err, id1.String()+" is defined under several parents (a, b), name one: already exists")
	f.Parent = "b"
	d, err := dir.Get(f)
	require.NoError(t, err)
	require.Equal(t, "b", d.Parent)
	put(t, dir, "a/"+id1.String(), "{}")
	f.Parent = "a"
	_, err = dir.Get(f)
	var file *FileError
	require.ErrorAs(t, err, &file)
	_, err = Dir(filepath.Join(string(dir), "none")).Get(f)
	require.ErrorIs(t, err, errs.ErrNotFound)
	_, _, err = Dir(filepath.Join(string(dir), "a", id1.String())).List(f)
	require.Error(t, err)
}

// TestWrite: files appear, change and go whole; nothing else is left.
func TestWrite(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "new", "root"))
	def := &Definition{UUID: id1, Parent: "p", Config: Config{Type: "t", Attrs: []Attr{{"a", "b"}}}}
	require.NoError(t, dir.Define(def))
	path := filepath.Join(string(dir), "p", id1.String())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(def.JSON()), string(b))
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o644, st.Mode())
	require.ErrorIs(t, dir.Define(def), errs.ErrExists)
	def.Auto = true
	require.NoError(t, dir.Replace(def))
	c, err := ReadConfig(path)
	require.NoError(t, err)
	require.Equal(t, def.Config, c)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.NoError(t, dir.Undefine(def))
	require.ErrorIs(t, dir.Undefine(def), errs.ErrNotFound)
	require.ErrorIs(t, dir.Replace(def), errs.ErrNotFound)
	entries, err = os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, entries)

	for _, parent := range []string{"", ".", "..", "a/b", "../x", "scripts.d", "a\nb", "\xff", strings.Repeat("p", 256)} {
		d := &Definition{UUID: id1, Parent: parent, Config: Config{Type: "t"}}
		require.ErrorIs(t, dir.Define(d), errs.ErrInvalid, "%q", parent)
		require.ErrorIs(t, dir.Replace(d), errs.ErrInvalid, "%q", parent)
		require.ErrorIs(t, dir.Undefine(d), errs.ErrInvalid, "%q", parent)
	}
	def.Type = ""
	require.ErrorIs(t, dir.Define(def), errs.ErrInvalid)
	def.Type = strings.Repeat("t", MaxFile)
	require.ErrorIs(t, dir.Define(def), errs.ErrInvalid)
}

// TestReadConfig: errors name the file once.
func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadConfig(filepath.Join(dir, "none"))
	require.EqualError(t, err, filepath.Join(dir, "none")+": no such file or directory")
	_, err = ReadConfig(dir)
	require.EqualError(t, err, dir+": not a regular file: invalid argument")
	p := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(p, make([]byte, MaxFile+1), 0o644))
	_, err = ReadConfig(p)
	require.EqualError(t, err, p+": more than 1048576 bytes: invalid argument")
}

// TestDefineRace: of those who define one device at one time one succeeds, and
// its content is whole.
func TestDefineRace(t *testing.T) {
	dir := Dir(t.TempDir())
	for range 20 {
		id := uuid.New()
		var won atomic.Int32
		var winner atomic.Value
		var wg sync.WaitGroup
		for i := range 4 {
			def := &Definition{UUID: id, Parent: "p", Config: Config{Type: strings.Repeat(string(rune('a'+i)), 5000)}}
			wg.Go(func() {
				if err := dir.Define(def); err == nil {
					won.Add(1)
					winner.Store(def.Type)
				} else if errs.Errno(err) != syscall.EEXIST {
					t.Errorf("lost by %v", err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, won.Load())
		d, err := dir.Get(Filter{UUID: uuid.NullUUID{UUID: id, Valid: true}})
		require.NoError(t, err)
		require.Equal(t, winner.Load(), d.Type)
	}
	entries, err := os.ReadDir(filepath.Join(string(dir), "p"))
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }))
}
