package devicetest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

// Hex is bytes written as hexadecimal.
type Hex []byte

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(b []byte) error {
	*h = make(Hex, hex.DecodedLen(len(b)))
	_, err := hex.Decode(*h, b)
	return err
}

// Segment is a run of storage.
type Segment struct {
	GPA  string `json:"gpa"`
	Hex  Hex    `json:"hex"`
	Fill Hex    `json:"fill"`
	Len  int    `json:"len"`
}

// Bytes are the address and the content.
func (s *Segment) Bytes(tb testing.TB) (addr.HPA, []byte) {
	a, err := strconv.ParseUint(s.GPA, 16, 64)
	require.NoError(tb, err)
	if s.Fill != nil {
		return addr.HPA(a), bytes.Repeat(s.Fill, s.Len)
	}
	return addr.HPA(a), s.Hex
}

// Record is one program of a recording.
type Record struct {
	Seq    int    `json:"seq"`
	Name   string `json:"name"`
	Op     string `json:"op"`
	End    string `json:"end"`
	Device struct {
		Devno string `json:"devno"`
	} `json:"device"`
	ORB    Hex       `json:"orb"`
	PMCW   Hex       `json:"pmcw"`
	Memory []Segment `json:"memory"`
	Trace  []struct {
		Cmd string `json:"cmd"`
	} `json:"trace"`
	Expect struct {
		SCSW   Hex       `json:"scsw"`
		ESW    Hex       `json:"esw"`
		ECW    Hex       `json:"ecw"`
		Memory []Segment `json:"memory"`
	} `json:"expect"`
}

// TestData is the path of a file of testdata/ccw, from any package below.
func TestData(tb testing.TB, name ...string) string {
	dir, err := os.Getwd()
	require.NoError(tb, err)
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(append([]string{dir, "testdata", "ccw"}, name...)...)
		}
	}
	tb.Fatal("no go.mod above the test")
	return ""
}

// Load reads the recording of a scenario.
func Load(tb testing.TB, scenario string) []Record {
	f, err := os.Open(TestData(tb, scenario+".jsonl.gz"))
	require.NoError(tb, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(tb, err)
	var out []Record
	for in := bufio.NewReader(z); ; {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var r Record
			require.NoError(tb, json.Unmarshal(line, &r), "record %d", len(out))
			out = append(out, r)
		}
		if err != nil {
			break
		}
	}
	require.NotEmpty(tb, out)
	return out
}
