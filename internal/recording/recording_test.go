package recording

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/translate/addr"
)

const testdata = "../../testdata/ccw"

// minimal is a record with only the fields that none may lack.
const minimal = `{"v":1,"scenario":"s","seq":0,"op":"ssch","end":"end","device":{"schid":"00010000"},` +
	`"orb":"0000000000000000000000000000000000000000000000000000000000000000","memory":[]}`

func TestDecodeMinimal(t *testing.T) {
	r, err := Decode([]byte(minimal), nil)
	require.NoError(t, err)
	require.Nil(t, r.Expect)
	require.False(t, r.Expect.Complete())
	require.Equal(t, "sch 00010000", r.Device.Key())
}

func TestDecodeFill(t *testing.T) {
	r, err := Decode([]byte(strings.Replace(minimal, `[]`, `[{"gpa":"1000","fill":"e5","len":4096},{"gpa":"0","hex":"0A0b"}]`, 1)), nil)
	require.NoError(t, err)
	require.Equal(t, []Segment{{GPA: 0x1000, Fill: 0xe5, N: 4096}, {GPA: 0, Data: []byte{10, 11}}}, r.Memory)
	require.Equal(t, addr.MustRange(addr.GPA(0x1000), 0x1000), r.Memory[0].Range())
}

// Each row is one way in which a line can be wrong. recording-ccw.md says
// what is right.
func TestDecodeRefuses(t *testing.T) {
	seg := func(s string) [2]string { return [2]string{`"memory":[]`, `"memory":[` + s + `]`} }
	step := func(s string) [2]string { return [2]string{`"memory":[]`, `"memory":[],"trace":[{` + s + `}]`} }
	expect := func(s string) [2]string { return [2]string{`"memory":[]`, `"memory":[],"expect":{` + s + `}`} }
	for _, tt := range []struct {
		name string
		edit [2]string
		want string
	}{
		{"unknown field", [2]string{`"seq":0`, `"seq":0,"sequence":1`}, `unknown field "sequence"`},
		{"field in another case", [2]string{`"seq"`, `"SEQ"`}, `unknown field "SEQ"`},
		{"field twice", [2]string{`"seq":0`, `"seq":0,"seq":1`}, `field "seq" given twice`},
		{"missing field", [2]string{`"seq":0,`, ``}, `field "seq" is missing`},
		{"unknown version", [2]string{`"v":1`, `"v":2`}, `v: unknown version 2, want 1`},
		{"version as text", [2]string{`"v":1`, `"v":"1"`}, `v: want a number, have the string "1"`},
		{"unknown kind", [2]string{`"v":1`, `"v":1,"kind":"dsa"`}, `kind: unknown kind "dsa"`},
		{"unknown op", [2]string{`"ssch"`, `"hsch"`}, `op: unknown value "hsch"`},
		{"unknown end", [2]string{`"end":"end"`, `"end":"over"`}, `end: unknown value "over"`},
		{"negative seq", [2]string{`"seq":0`, `"seq":-1`}, `seq: want an integer from 0 to 2147483647, have -1`},
		{"fractional seq", [2]string{`"seq":0`, `"seq":0.5`}, `seq: want an integer`},
		{"huge seq", [2]string{`"seq":0`, `"seq":99999999999999999999`}, `seq: want an integer`},
		{"null seq", [2]string{`"seq":0`, `"seq":null`}, `seq: must not be null`},
		{"short orb", [2]string{`"orb":"00`, `"orb":"`}, `orb: want 32 bytes, have 31`},
		{"null orb", [2]string{`"orb":"0000000000000000000000000000000000000000000000000000000000000000"`, `"orb":null`}, `orb: must not be null`},
		{"devno too wide", [2]string{`"schid":"00010000"`, `"schid":"0","devno":"10000"`}, `device.devno: want a hex number of up to 16 bits`},
		{"signed schid", [2]string{`"00010000"`, `"+1"`}, `device.schid: bad hex number "+1"`},
		{"unknown device field", [2]string{`"schid"`, `"chpid":1,"schid"`}, `device: unknown field "chpid"`},
		{"device as list", [2]string{`{"schid":"00010000"}`, `[]`}, `device: want an object, have a list`},
		{"odd hex", seg(`{"gpa":"0","hex":"00"},{"gpa":"10","hex":"0"}`), `memory[1].hex: odd length`},
		{"bad hex", seg(`{"gpa":"0","hex":"zz"}`), `memory[0].hex: bad hex: 'z'`},
		{"empty hex", seg(`{"gpa":"0","hex":""}`), `memory[0].hex: empty`},
		{"bad gpa", seg(`{"gpa":"0x10","hex":"00"}`), `memory[0].gpa: bad hex number "0x10"`},
		{"no gpa", seg(`{"hex":"00"}`), `memory[0]: field "gpa" is missing`},
		{"segment passes 2^64", seg(`{"gpa":"ffffffffffffffff","hex":"0000"}`), `memory[0]: gpa 0xffffffffffffffff: 2 bytes pass 2^64`},
		{"hex and fill", seg(`{"gpa":"0","hex":"00","fill":"00","len":1}`), `memory[0]: want either hex, or fill and len`},
		{"fill without len", seg(`{"gpa":"0","fill":"00"}`), `memory[0]: want either hex, or fill and len`},
		{"neither", seg(`{"gpa":"0"}`), `memory[0]: want either hex, or fill and len`},
		{"fill of two bytes", seg(`{"gpa":"0","fill":"0000","len":1}`), `memory[0].fill: want one byte, have 2`},
		{"zero len", seg(`{"gpa":"0","fill":"00","len":0}`), `memory[0].len: zero`},
		{"len above the limit", seg(`{"gpa":"0","fill":"00","len":268435457}`), `memory[0].len: want an integer from 0 to 268435456`},
		{"image above the limit", seg(`{"gpa":"0","fill":"00","len":268435456},{"gpa":"f0000000","hex":"00"}`), `memory[1]: memory image larger than 268435456 bytes`},
		{"overlap", seg(`{"gpa":"10","hex":"0000"},{"gpa":"0","hex":"00"},{"gpa":"11","hex":"00"}`), `memory[2]: [0x11, 0x11] overlaps [0] [0x10, 0x11]`},
		{"overlap in expect", expect(`"memory":[{"gpa":"0","hex":"0000"},{"gpa":"1","fill":"00","len":9}]`), `expect.memory[1]: [0x1, 0x9] overlaps [0] [0x0, 0x1]`},
		{"memory null", [2]string{`"memory":[]`, `"memory":null`}, `memory: want a list, have null`},
		{"step without cda", step(`"at":"0","cmd":"02","flags":"00","count":1`), `trace[0]: field "cda" is missing`},
		{"step with half a status", step(`"at":"0","cmd":"02","flags":"00","count":1,"cda":"0","dstat":"0c"`), `trace[0]: want all of dstat, cstat and resid, or none`},
		{"count above 65535", step(`"at":"0","cmd":"02","flags":"00","count":65536,"cda":"0"`), `trace[0].count: want an integer from 0 to 65535`},
		{"command above a byte", step(`"at":"0","cmd":"102"`), `trace[0].cmd: want a hex number of up to 8 bits`},
		{"scsw of 11 bytes", expect(`"scsw":"0000000000000000000000"`), `expect.scsw: want 12 bytes, have 11`},
		{"irb of 65 bytes", expect(`"irb":"` + strings.Repeat("00", 65) + `"`), `expect.irb: want 64 or 96 bytes, have 65`},
		{"expect as text", [2]string{`"memory":[]`, `"memory":[],"expect":"yes"`}, `expect: want an object, have the string "yes"`},
		{"cut off", [2]string{`"memory":[]}`, `"mem`}, `line is cut off`},
		{"cut off in a list", [2]string{`"memory":[]}`, `"memory":[{"gpa":"0"`}, `memory[0]: line is cut off`},
		{"not JSON", [2]string{`{"v":1`, `v=1`}, `bad JSON at byte 1`},
		{"two values", [2]string{`"memory":[]}`, `"memory":[]} {}`}, `more than one value on the line`},
		{"list instead of record", [2]string{minimal, `[]`}, `want an object, have a list`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Contains(t, minimal, tt.edit[0])
			_, err := Decode([]byte(strings.Replace(minimal, tt.edit[0], tt.edit[1], 1)), nil)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// Every recording of testdata is read, and written again reads the same.
func TestTestdataRoundTrip(t *testing.T) {
	files, err := Find(testdata)
	require.NoError(t, err)
	want := map[string]int{"dasd": 722, "zipl": 143, "dasdipl": 13, "fba": 141, "con3215": 21, "qemu": 354, "vec0": 94}
	require.Len(t, files, len(want))
	for _, f := range files {
		name, _, _ := strings.Cut(filepath.Base(f), ".")
		t.Run(name, func(t *testing.T) {
			recs, lines, err := ReadFile(f, nil)
			require.NoError(t, err)
			require.Len(t, recs, want[name])
			require.Equal(t, len(recs), lines[len(lines)-1])
			for _, r := range recs {
				require.True(t, r.Expect.Complete())
				back, err := Decode(Append(nil, r), nil)
				require.NoError(t, err)
				require.Equal(t, r, back)
			}
		})
	}
}

func compressed(t testing.TB, kind string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		w = z
	default:
		return b
	}
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// The content decides, whatever the name says.
func TestReaderDetectsCompression(t *testing.T) {
	for _, kind := range []string{"plain", "gzip", "zstd"} {
		for _, name := range []string{"a.jsonl", "a.jsonl.gz", "a.jsonl.zst"} {
			r, err := NewReader(name, bytes.NewReader(compressed(t, kind, []byte(minimal+"\n"))), nil)
			require.NoError(t, err, "%s in %s", kind, name)
			_, err = r.Next()
			require.NoError(t, err)
			_, err = r.Next()
			require.Equal(t, io.EOF, err)
			require.NoError(t, r.Close())
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	two := minimal + "\n" + strings.Replace(minimal, `"seq":0`, `"seq":1`, 1) + "\n"
	long := minimal + "\n" + strings.Replace(minimal, `"seq":0`, `"seq":1,"os":"`+strings.Repeat("x", 100<<10)+`"`, 1) + "\n"
	for _, tt := range []struct {
		name, file string
		data       []byte
		lim        *Limits
		want       string
	}{
		{"empty file", "a.jsonl", nil, nil, "a.jsonl: holds no record"},
		{"empty gzip", "a.jsonl.gz", compressed(t, "gzip", nil), nil, "a.jsonl.gz: holds no record"},
		{"named gz, holds nothing", "a.jsonl.gz", nil, nil, "a.jsonl.gz: named .gz, but holds neither gzip nor zstd"},
		{"named zst, holds rubbish", "a.jsonl.zst", []byte("PK\x03\x04"), nil, "a.jsonl.zst: named .zst, but holds neither gzip nor zstd"},
		{"gzip header cut off", "a.jsonl.gz", compressed(t, "gzip", []byte(two))[:6], nil, "a.jsonl.gz: truncated gzip"},
		{"gzip cut off", "a.jsonl.gz", compressed(t, "gzip", []byte(two))[:60], nil, "a.jsonl.gz:1: truncated gzip"},
		{"zstd cut off", "a.jsonl.zst", compressed(t, "zstd", []byte(two))[:60], nil, "a.jsonl.zst:1: truncated zstd"},
		{"blank line", "a.jsonl", []byte(minimal + "\n\n" + minimal), nil, "a.jsonl:2: empty line"},
		{"seq repeats", "a.jsonl", []byte(minimal + "\n" + minimal), nil, "a.jsonl:2: seq: 0 follows 0"},
		{"long line", "a.jsonl", []byte(long), &Limits{Line: 80 << 10}, "a.jsonl:2: line longer than 81920 bytes"},
		{"long file", "a.jsonl", []byte(two), &Limits{Total: int64(len(minimal)) + 10}, "a.jsonl:2: file holds more than"},
		{"fault on line 2", "a.jsonl", []byte(minimal + "\n" + minimal[:40]), nil, "a.jsonl:2: op: line is cut off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewReader(tt.file, bytes.NewReader(tt.data), tt.lim)
			for err == nil {
				_, err = r.Next()
			}
			require.ErrorContains(t, err, tt.want)
			if r != nil {
				_, again := r.Next()
				require.Equal(t, err, again, "an error is sticky")
			}
		})
	}
}

// A corrupted checksum is found even though every line could be read.
func TestReaderChecksum(t *testing.T) {
	b := compressed(t, "gzip", []byte(minimal+"\n"))
	b[len(b)-5] ^= 1
	r, err := NewReader("a.gz", bytes.NewReader(b), nil)
	for err == nil {
		_, err = r.Next()
	}
	require.ErrorContains(t, err, "bad gzip")
}

// One byte repeated compresses a thousandfold; reading it must not cost more
// than the limits say.
func TestReaderBoundedMemory(t *testing.T) {
	bomb := compressed(t, "gzip", bytes.Repeat([]byte(" "), 32<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := NewReader("bomb.jsonl.gz", bytes.NewReader(bomb), &Limits{Line: 1 << 20})
	require.NoError(t, err)
	_, err = r.Next()
	require.ErrorContains(t, err, "bomb.jsonl.gz:1: line longer than 1048576 bytes")
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b.jsonl.gz", "a.jsonl", "c.jsonl.zst", "a.events.jsonl.gz", "notes.txt", "init.jsonl.d/x.jsonl"} {
		p := filepath.Join(dir, n)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, nil, 0o644))
	}
	got, err := Find(dir, filepath.Join(dir, "a.jsonl"))
	require.NoError(t, err)
	want := []string{filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "b.jsonl.gz"), filepath.Join(dir, "c.jsonl.zst")}
	require.Equal(t, want, got)
	_, err = Find(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "none: no such file or directory")
	_, err = Find(filepath.Join(dir, "a.events.jsonl.gz"))
	require.ErrorContains(t, err, "is an instruction log")
	_, err = Find(t.TempDir())
	require.ErrorContains(t, err, "no recordings")
}

func TestSegment(t *testing.T) {
	data := Segment{GPA: 0x10, Data: []byte{1, 2, 3, 4}}
	fill := Segment{GPA: 0x10, Fill: 7, N: 5}
	p := make([]byte, 8)
	require.Equal(t, 2, data.CopyTo(p, 2))
	require.Equal(t, []byte{3, 4}, p[:2])
	require.Equal(t, 4, fill.CopyTo(p, 1))
	require.Equal(t, []byte{7, 7, 7, 7, 0}, p[:5])
	require.Zero(t, fill.CopyTo(p, 5))
	require.True(t, fill.Equal([]byte{7, 7, 7, 7, 7}))
	require.False(t, fill.Equal([]byte{7, 7, 7, 7}))
	require.False(t, fill.Equal([]byte{7, 7, 6, 7, 7}))
	sub := data.Sub(1, 2)
	require.Equal(t, Segment{GPA: 0x11, Data: []byte{2, 3}}, sub)
	sub = fill.Sub(1, 2)
	require.Equal(t, Segment{GPA: 0x11, Fill: 7, N: 2}, sub)
	for n := range 70 {
		b := make([]byte, n)
		Fill(b, 9)
		require.True(t, IsFill(b, 9))
		if n > 0 {
			b[n-1]--
			require.False(t, IsFill(b, 9))
		}
	}
}

// FuzzReader: for every file, reading ends in an error with the file's name
// or in records that, written and read again, are equal.
func FuzzReader(f *testing.F) {
	f.Add([]byte(minimal + "\n"))
	f.Add([]byte(strings.Replace(minimal, `[]`, `[{"gpa":"1000","fill":"e5","len":4096},{"gpa":"0","hex":"0A0b"}]`, 1)))
	f.Add(compressed(f, "gzip", []byte(minimal+"\n")))
	f.Add(compressed(f, "zstd", []byte(minimal+"\n")))
	if recs, _, err := ReadFile(filepath.Join(testdata, "vec0.jsonl.gz"), nil); err == nil {
		for _, i := range []int{0, 12, 44, 66, 90} {
			f.Add(append(Append(nil, recs[i]), '\n'))
		}
	}
	lim := &Limits{Line: 1 << 20, Image: 1 << 20, Total: 4 << 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader("fuzz", bytes.NewReader(data), lim)
		for err == nil {
			var rec *Record
			if rec, err = r.Next(); err == nil {
				b := Append(nil, rec)
				back, derr := Decode(b, &Limits{Line: 8 << 20, Image: 1 << 20})
				require.NoError(t, derr, "%s", b)
				require.Equal(t, rec, back)
			}
		}
		if err != io.EOF {
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "fuzz", e.File)
		}
	})
}

func BenchmarkReadDASD(b *testing.B) {
	for b.Loop() {
		_, _, err := ReadFile(filepath.Join(testdata, "dasd.jsonl.gz"), nil)
		require.NoError(b, err)
	}
}
