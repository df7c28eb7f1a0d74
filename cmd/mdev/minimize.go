package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/internal/replay"
)

type minimizeCmd struct {
	machineFlags

	Seq    int    `required:"" placeholder:"N" help:"The record that differs."`
	Output string `short:"o" placeholder:"FILE" help:"Where to write; .gz and .zst compress. Default: standard output."`
	Path   string `arg:"" help:"The recording (.jsonl, plain, gzip or zstd)."`

	Scenario string `help:"The scenario, where the file holds several."`
}

// Help is the long help.
func (*minimizeCmd) Help() string {
	return `Removes earlier programs, CCWs, memory segments and bytes from the recording as long
as record N still differs in the same way, and writes what is left as a recording.
On a device model the initial images are looked for beside the recording that is
written: keep it in the same folder, or name them with --image.

Exit codes: 0 written, 2 bad input or no difference (then nothing is written).

Example:
  mdev minimize broken.jsonl.gz --seq 17 -o small.jsonl`
}

// Run minimises.
func (c *minimizeCmd) Run(a *app) error {
	opt, err := c.options()
	if err != nil {
		return err
	}
	opt.Only = &c.Seq
	all, err := replay.Load([]string{c.Path}, opt, nil)
	if err != nil {
		return badInput(err)
	}
	if c.Scenario != "" {
		var of []*replay.Scenario
		for _, s := range all {
			if s.Name == c.Scenario {
				of = append(of, s)
			}
		}
		all = of
	}
	if len(all) != 1 {
		return usagef("%s: %d scenarios have a record with seq %d; choose one with --scenario", c.Path, len(all), c.Seq)
	}
	s := all[0]
	tell := isTerminal(a.stderr)
	m, err := s.Minimize(a.ctx, c.Seq, func(trials, size int) {
		if tell {
			fmt.Fprintf(a.stderr, "\r%d trials, size %d   ", trials, size)
		}
	})
	if tell {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	if errors.Is(err, replay.ErrNoDifference) {
		return usagef("%s: %s %d shows no difference", s.File, s.Name, c.Seq)
	}
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := recording.NewWriter(&b)
	for _, rec := range m.Records {
		if err := w.Write(rec); err != nil {
			return err
		}
	}
	if c.Output == "" {
		if _, err := a.stdout.Write(b.Bytes()); err != nil {
			return err
		}
	} else if err := writeCompressed(c.Output, b.Bytes()); err != nil {
		return err
	}
	last := m.Records[len(m.Records)-1]
	fmt.Fprintf(a.stderr, "%d programs before it, %d CCWs, %d segments of memory, %d bytes of recording, %d trials", len(m.Records)-1,
		len(last.Trace), len(last.Memory), b.Len(), m.Trials)
	if m.Stopped {
		fmt.Fprint(a.stderr, " (stopped at the limit)")
	}
	fmt.Fprintln(a.stderr)
	if m.After != "" {
		fmt.Fprintf(a.stderr, "it starts from the state that %s leaves: keep that recording and its images beside it\n", m.After)
	}
	for _, dev := range slices.Sorted(maps.Keys(m.Images)) {
		fmt.Fprintf(a.stderr, "replay it with --image %s=%s\n", dev, m.Images[dev])
	}
	return nil
}

// writeCompressed writes b to path, compressed as the name says, whole or not
// at all.
func writeCompressed(path string, b []byte) error {
	var z bytes.Buffer
	switch {
	case strings.HasSuffix(path, ".gz"):
		w := gzip.NewWriter(&z)
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		b = z.Bytes()
	case strings.HasSuffix(path, ".zst"):
		w, err := zstd.NewWriter(&z)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		b = z.Bytes()
	}
	return writeFile(path, b)
}

// writeFile replaces the file at path by one that holds b, or leaves all as
// it is.
func writeFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
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
	return os.Rename(f.Name(), path)
}
