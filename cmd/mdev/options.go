package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/softmdev/softmdev/internal/replay"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// machineFlags say on what recordings run; replay, inspect and minimize share
// them.
type machineFlags struct {
	Device string `enum:"auto,scripted,emulated" default:"auto" help:"On what the programs run. scripted plays the recorded device side. emulated runs device models from the initial images and refuses recordings without a model. auto takes a model where there is one and its image is found, and plays the recording elsewhere. (${enum}; default ${default})"`
	Layout string `enum:"contiguous,scattered" default:"contiguous" help:"Layout of the host frames behind guest pages. (${enum}; default ${default})"`
	Seed   uint64 `default:"1" help:"Seed of the scattered layout."`

	MemorySize string            `default:"auto" placeholder:"SIZE" help:"Guest memory, as 64M or 1G. auto takes the least power of two from 4M up that holds what the scenario names."`
	Poison     string            `default:"a5" placeholder:"HEX" help:"Byte that fills memory the recording does not name."`
	Image      map[string]string `placeholder:"DEVNO=PATH" help:"Initial image of a device (hex number), in place of init/<scenario>-v<last three digits>.ckd.gz|.fba.gz beside the recording."`
	After      map[string]string `placeholder:"SCENARIO=OTHER" help:"SCENARIO starts from the device state that OTHER leaves, as dasdipl does from zipl."`
}

func (f *machineFlags) options() (*replay.Options, error) {
	o := &replay.Options{Seed: f.Seed, After: f.After}
	switch f.Device {
	case "scripted":
		o.Device = replay.Scripted
	case "emulated":
		o.Device = replay.Emulated
	}
	if f.Layout == "scattered" {
		o.Layout = iommu.Scattered
	}
	if f.MemorySize != "auto" {
		n, err := parseSize(f.MemorySize)
		if err != nil {
			return nil, usagef("--memory-size: %w", err)
		}
		o.Memory = n
	}
	b, err := strconv.ParseUint(strings.TrimPrefix(f.Poison, "0x"), 16, 8)
	if err != nil {
		return nil, usagef("--poison: want a byte in hex, have %q", f.Poison)
	}
	o.Poison = byte(b)
	o.Images, err = byDevice("--image", f.Image)
	return o, err
}

// byDevice is the value of a flag that names something for each device, by
// device number.
func byDevice(flag string, list map[string]string) (map[string]string, error) {
	out := make(map[string]string)
	for _, dev := range slices.Sorted(maps.Keys(list)) {
		n, err := strconv.ParseUint(strings.TrimPrefix(dev, "0x"), 16, 16)
		if err != nil {
			return nil, usagef("%s: want a device number in hex, have %q", flag, dev)
		}
		out[fmt.Sprintf("%04x", n)] = list[dev]
	}
	return out, nil
}

// parseSize reads a number of bytes with the suffix K, M or G.
func parseSize(s string) (addr.Len, error) {
	num, shift := strings.ToUpper(s), 0
	num = strings.TrimSuffix(strings.TrimSuffix(num, "B"), "I")
	for suffix, n := range map[string]int{"K": 10, "M": 20, "G": 30} {
		if t, ok := strings.CutSuffix(num, suffix); ok {
			num, shift = t, n
			break
		}
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil || n == 0 || n > uint64(replay.MaxRAM)>>shift || addr.Len(n)<<shift%(2<<20) != 0 {
		return 0, fmt.Errorf("want a multiple of 2M up to %dG, have %q", replay.MaxRAM>>30, s)
	}
	return addr.Len(n) << shift, nil
}

func formatSize(n addr.Len) string {
	if n >= 1<<30 && n%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colors reports whether w should get colour: a terminal, and nobody asked
// for none (https://no-color.org).
func colors(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
