package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/softmdev/softmdev/internal/recording"
)

// KnownFile is the name of the operator's list of expected differences. It
// lies beside the recordings it is about and is a JSON list of [Known].
const KnownFile = "expected-differences.json"

// maxKnownFile bounds that file.
const maxKnownFile = 1 << 20

// Known is a difference that somebody looked at and found right.
type Known struct {
	Scenario string `json:"scenario"`
	Seq      int    `json:"seq"`
	// Elements are the elements that may differ ("scsw", "esw", "ecw",
	// "irb", "memory"); a difference in another one is a failure still.
	Elements []string `json:"elements"`
	Reason   string   `json:"reason"`
}

var knownElements = []string{"scsw", "esw", "ecw", "irb", "memory"}

// loadKnown reads the list at path, by scenario and seq; no file is an empty
// list.
func loadKnown(path string) (map[string]map[int]Known, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &recording.Error{File: path, Err: plain(err)}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKnownFile+1))
	if err != nil {
		return nil, &recording.Error{File: path, Err: plain(err)}
	}
	bad := func(err error) error { return &recording.Error{File: path, Err: err} }
	if len(b) > maxKnownFile {
		return nil, bad(fmt.Errorf("longer than %d bytes", maxKnownFile))
	}
	var list []Known
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, bad(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, bad(errors.New("more than one value"))
	}
	out := make(map[string]map[int]Known)
	for i, k := range list {
		if k.Scenario == "" || k.Reason == "" || len(k.Elements) == 0 {
			return nil, bad(fmt.Errorf("entry %d: scenario, elements and reason are needed", i))
		}
		for _, e := range k.Elements {
			if !slices.Contains(knownElements, e) {
				return nil, bad(fmt.Errorf("entry %d: unknown element %q", i, e))
			}
		}
		if out[k.Scenario] == nil {
			out[k.Scenario] = make(map[int]Known)
		}
		if _, twice := out[k.Scenario][k.Seq]; twice {
			return nil, bad(fmt.Errorf("entry %d: %s %d is listed twice", i, k.Scenario, k.Seq))
		}
		out[k.Scenario][k.Seq] = k
	}
	return out, nil
}

// covers reports whether all of diffs are what k allows.
func (k *Known) covers(diffs []Difference) bool {
	for i := range diffs {
		if !slices.Contains(k.Elements, diffs[i].Element) {
			return false
		}
	}
	return true
}
