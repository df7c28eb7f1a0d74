package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/internal/recording"
)

var update = flag.Bool("update", false, "rewrite the golden output in testdata/script")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mdev": main})
}

// TestScript runs the scripts of testdata/script: each is a session of the
// command line with its output and exit codes.
func TestScript(t *testing.T) {
	data, err := filepath.Abs("../../testdata/ccw")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATA", data)
			env.Setenv("NO_COLOR", "1")
			env.Setenv("MDEV_CONTROL", filepath.Join(env.WorkDir, "control.sock"))
			env.Setenv("MDEV_ROOT", filepath.Join(env.WorkDir, "root"))
			return fixtures(env.WorkDir, data)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE COMMAND ARGS... runs a command that ends with
			// this exit code.
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				code := 0
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if code != want {
					ts.Fatalf("exit code %d, want %d", code, want)
				}
			},
			// oneline checks that standard error is one line.
			"oneline": func(ts *testscript.TestScript, neg bool, args []string) {
				s := ts.ReadFile("stderr")
				if strings.Count(s, "\n") != 1 || !strings.HasSuffix(s, "\n") {
					ts.Fatalf("standard error is not one line: %q", s)
				}
			},
			// waitfor FILE waits until the file is there.
			"waitfor": func(ts *testscript.TestScript, neg bool, args []string) {
				for range 10000 {
					if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
						return
					}
					time.Sleep(2 * time.Millisecond)
				}
				ts.Fatalf("%s does not come", args[0])
			},
			// gunzip FROM TO unpacks a file.
			"gunzip": func(ts *testscript.TestScript, neg bool, args []string) {
				in, err := os.Open(ts.MkAbs(args[0]))
				ts.Check(err)
				defer in.Close()
				z, err := gzip.NewReader(in)
				ts.Check(err)
				var b bytes.Buffer
				_, err = b.ReadFrom(z)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o644))
			},
			// shorten FILE N takes the last N bytes from a file.
			"shorten": func(ts *testscript.TestScript, neg bool, args []string) {
				n, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				st, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Check(os.Truncate(ts.MkAbs(args[0]), st.Size()-n))
			},
			// files checks that a folder holds just these files.
			"files": func(ts *testscript.TestScript, neg bool, args []string) {
				var have []string
				entries, err := os.ReadDir(ts.MkAbs(args[0]))
				ts.Check(err)
				for _, e := range entries {
					have = append(have, e.Name())
				}
				if got, want := strings.Join(have, " "), strings.Join(args[1:], " "); got != want {
					ts.Fatalf("%s holds %q, want %q", args[0], got, want)
				}
			},
		},
	})
}

// fixtures writes recordings that are wrong in one way each, made from a good
// record.
func fixtures(dir, data string) error {
	recs, _, err := recording.ReadFile(filepath.Join(data, "con3215.jsonl.gz"), nil)
	if err != nil {
		return err
	}
	var lines []string
	for _, r := range recs[:3] {
		lines = append(lines, string(recording.Append(nil, r)))
	}
	good := strings.Join(lines, "\n") + "\n"
	second := func(old, new string) string {
		if !strings.Contains(lines[1], old) {
			panic("no " + old + " in " + lines[1])
		}
		return lines[0] + "\n" + strings.Replace(lines[1], old, new, 1) + "\n" + lines[2] + "\n"
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write([]byte(good)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	scsw := string([]byte(lines[1])[strings.Index(lines[1], `"scsw":"`)+8:][:24])
	noexpect := strings.Join(lines, "\n")
	for _, l := range lines {
		i, j := strings.Index(l, `"expect":`), strings.Index(l, `,"host_ns"`)
		noexpect = strings.Replace(noexpect, l[i:j], `"expect":null`, 1)
	}
	for name, content := range map[string]string{
		"good.jsonl":                    good,
		"good.jsonl.gz":                 z.String(),
		"cut.jsonl.gz":                  z.String()[:z.Len()/2],
		"name.jsonl.zst":                good,
		"rubbish.gz":                    "PK\x03\x04",
		"version.jsonl":                 second(`"v":1`, `"v":2`),
		"field.jsonl":                   second(`"orb"`, `"extra":1,"orb"`),
		"odd.jsonl":                     second(`"hex":"`, `"hex":"0`),
		"json.jsonl":                    second(`"memory":[`, `"memory":{`),
		"cut.jsonl":                     good[:len(good)-40],
		"far.jsonl":                     second(`"memory":[`, `"memory":[{"gpa":"ffffffff0000","hex":"00"},`),
		"top.jsonl":                     second(`"memory":[`, `"memory":[{"gpa":"ffffffffffffffff","hex":"00"},`),
		"wrong.jsonl":                   second(scsw, scsw[:20]+"0bad"),
		"noexpect.jsonl":                noexpect + "\n",
		"empty.jsonl":                   "",
		"a.events.jsonl":                "{}\n",
		"short.ckd":                     "CKD_P370",
		"small.fba":                     strings.Repeat("\x00", 51200),
		"halfcard.bin":                  strings.Repeat("x", 100),
		"bad/known.jsonl":               good,
		"bad/expected-differences.json": `[{"scenario":"con3215","seq":1,"elements":["scsw"],"why":"?"}]`,
		"known/wrong.jsonl":             second(scsw, scsw[:20]+"0bad"),
		"known/expected-differences.json": `[{"scenario":"con3215","seq":1,"elements":["scsw","irb"],` +
			`"reason":"the count was changed for this test"}]`,
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, "out"), 0o755)
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{"4M": 4 << 20, "1G": 1 << 30, "1GiB": 1 << 30, "2048k": 2 << 20, "4194304": 4 << 20} {
		got, err := parseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, uint64(got), in)
	}
	for _, in := range []string{"", "0", "-1", "1", "3K", "65G", "99999999999999999999G", "x"} {
		_, err := parseSize(in)
		require.Error(t, err, in)
	}
}

func TestWriteFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "a")
	require.NoError(t, writeFile(p, []byte("one")))
	require.NoError(t, writeFile(p, []byte("two")))
	b, err := os.ReadFile(p)
	require.NoError(t, err)
	require.Equal(t, "two", string(b))
	// A target that cannot be replaced: a folder.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	require.Error(t, writeFile(filepath.Join(dir, "d"), []byte("x")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}
