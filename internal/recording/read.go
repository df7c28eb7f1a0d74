package recording

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/softmdev/softmdev/translate/addr"
)

// Limits bound what reading a recording may cost. A nil *Limits and zero
// fields mean the defaults.
type Limits struct {
	// Line is the longest line in bytes. Default 64 MiB: a program of 256
	// CCWs of 65,535 bytes names 16 MiB, and a line may hold that as hex
	// twice.
	Line int
	// Image is the largest memory image (and the largest expected image)
	// of one record in bytes. Default 256 MiB.
	Image addr.Len
	// Total is how many bytes of lines one file may hold after
	// decompression. Default 4 GiB.
	Total int64
}

// The defaults of Limits.
const (
	DefaultLine  = 64 << 20
	DefaultImage = addr.Len(256 << 20)
	DefaultTotal = int64(4 << 30)
)

func (l *Limits) orDefault() *Limits {
	d := Limits{Line: DefaultLine, Image: DefaultImage, Total: DefaultTotal}
	if l != nil {
		if l.Line > 0 {
			d.Line = l.Line
		}
		if l.Image > 0 {
			d.Image = l.Image
		}
		if l.Total > 0 {
			d.Total = l.Total
		}
	}
	return &d
}

// An Error is a fault of a recording file. It prints as
// "dasd.jsonl.gz:17: memory[3].hex: odd length".
type Error struct {
	File string
	Line int // from 1; 0 when the fault is no line's
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// A Reader reads the records of one file, one at a time. It is used by one
// goroutine at a time.
type Reader struct {
	name  string
	src   io.Reader
	buf   *bufio.Reader
	close []func() error
	lim   *Limits
	line  int
	long  []byte // a line longer than buf, reused
	total int64
	last  map[string]int // seq of the last record of each scenario
	err   error          // sticky

	packed bool // the file is compressed
	torn   bool // the line read last has no newline: the file ends with it
}

// ErrUnfinished says of a line that it ends where the file ends, in the middle
// of a record. That is what remains when a [Recorder] is killed while it
// writes; in any other file it is a fault like another.
var ErrUnfinished = errors.New("unfinished line")

// unfinished is an error that matches ErrUnfinished and reads as what it is.
type unfinished struct{ error }

func (u unfinished) Is(target error) bool { return target == ErrUnfinished }
func (u unfinished) Unwrap() error        { return u.error }

// Open opens a recording file, whose compression it recognises by content.
// Errors are of type *Error.
func Open(path string, lim *Limits) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{File: path, Err: unwrapPath(err)}
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		f.Close()
		return nil, &Error{File: path, Err: errors.New("is a folder")}
	}
	r, err := NewReader(path, f, lim)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.close = append(r.close, f.Close)
	return r, nil
}

// NewReader reads a recording from src; name stands in its errors, and tells
// by its ending (.gz, .zst) when compressed content was to be expected.
func NewReader(name string, src io.Reader, lim *Limits) (*Reader, error) {
	return newReader(name, src, lim.orDefault())
}

func newReader(name string, src io.Reader, lim *Limits) (*Reader, error) {
	r := &Reader{name: name, lim: lim, last: map[string]int{}}
	plain, closer, err := Decompress(name, src)
	if err != nil {
		return nil, &Error{File: name, Err: err}
	}
	r.src, r.buf = plain, bufio.NewReaderSize(plain, 64<<10)
	if r.packed = closer != nil; r.packed {
		r.close = append(r.close, closer)
	}
	return r, nil
}

// Decompress returns what src holds behind gzip or zstd, whichever its first
// bytes say; other content is passed on as it is, unless name promises
// compression and the content does not look like text. close, if not nil,
// releases the decompressor, not src.
func Decompress(name string, src io.Reader) (plain io.Reader, close func() error, err error) {
	b := bufio.NewReaderSize(src, 64<<10)
	magic, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, unwrapPath(err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, bad("gzip", err)
		}
		return &decompressor{"gzip", z}, z.Close, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// One worker and a window of at most 64 MiB: memory stays
		// bounded whatever the header asks for.
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, nil, bad("zstd", err)
		}
		return &decompressor{"zstd", z}, func() error { z.Close(); return nil }, nil
	}
	for _, ext := range []string{".gz", ".zst"} {
		if strings.HasSuffix(name, ext) && !bytes.HasPrefix(magic, []byte("{")) {
			return nil, nil, fmt.Errorf("named %s, but holds neither gzip nor zstd", ext)
		}
	}
	return b, nil, nil
}

// decompressor words the errors of a decompressor for people.
type decompressor struct {
	kind string
	r    io.Reader
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = bad(d.kind, err)
	}
	return n, err
}

func bad(kind string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("truncated %s", kind)
	}
	return fmt.Errorf("bad %s: %w", kind, unwrapPath(err))
}

// unwrapPath drops the path that the position says already.
func unwrapPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Name is the name the reader was opened with.
func (r *Reader) Name() string { return r.name }

// Line is the number of the line that Next returned last, from 1.
func (r *Reader) Line() int { return r.line }

// Next is the next record, or io.EOF after the last. Other errors are of type
// *Error and end the reading.
func (r *Reader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	rec, err := r.next()
	if err != nil && err != io.EOF {
		err = &Error{File: r.name, Line: r.line, Err: err}
	}
	r.err = err
	return rec, err
}

func (r *Reader) next() (*Record, error) {
	line, err := r.readLine()
	if err != nil {
		if err == io.EOF && r.line == 0 {
			return nil, errors.New("holds no record")
		}
		return nil, err
	}
	rec, err := Decode(line, r.lim)
	if err != nil {
		if r.torn && errors.Is(err, errCutOff) {
			err = unfinished{err}
		}
		return nil, err
	}
	last, known := r.last[rec.Scenario]
	if known && rec.Seq <= last {
		return nil, fmt.Errorf("seq: %d follows %d", rec.Seq, last)
	}
	if !known && len(r.last) == maxScenarios {
		return nil, fmt.Errorf("scenario: more than %d in one file", maxScenarios)
	}
	r.last[rec.Scenario] = rec.Seq
	return rec, nil
}

// maxScenarios bounds the table of scenario names that a reader keeps.
const maxScenarios = 4096

// readLine returns the next line without its newline, valid until the next
// call.
func (r *Reader) readLine() ([]byte, error) {
	r.long = r.long[:0]
	for {
		part, err := r.buf.ReadSlice('\n')
		if len(part) > 0 && len(r.long) == 0 {
			r.line++
		}
		if r.total += int64(len(part)); r.total > r.lim.Total {
			return nil, fmt.Errorf("file holds more than %d bytes", r.lim.Total)
		}
		if len(r.long)+len(part) > r.lim.Line {
			return nil, fmt.Errorf("line longer than %d bytes", r.lim.Line)
		}
		switch {
		case err == bufio.ErrBufferFull:
			r.long = append(r.long, part...)
			continue
		case err == io.EOF && len(r.long)+len(part) == 0:
			return nil, io.EOF
		case err != nil && err != io.EOF:
			// The fault lies in the line that could not be read whole.
			if len(part) == 0 && len(r.long) == 0 {
				r.line++
			}
			return nil, unwrapPath(err)
		}
		r.torn = err == io.EOF
		if len(r.long) > 0 {
			part = append(r.long, part...)
			r.long = part
		}
		part = bytes.TrimSuffix(part, []byte("\n"))
		if len(bytes.TrimSpace(part)) == 0 {
			return nil, errors.New("empty line")
		}
		return part, nil
	}
}

// Close releases the file.
func (r *Reader) Close() error {
	var first error
	for _, c := range r.close {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	r.close = nil
	if r.err == nil {
		r.err = os.ErrClosed
	}
	return first
}

// Find lists the recordings that paths name: a file is taken as it is, a
// folder stands for the *.jsonl, *.jsonl.gz and *.jsonl.zst files directly in
// it, without the instruction logs (*.events.jsonl*). A file named twice is
// listed once. Errors are of type *Error.
func Find(paths ...string) ([]string, error) {
	var found []string
	add := func(p string) {
		if p = filepath.Clean(p); !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, &Error{File: p, Err: unwrapPath(err)}
		}
		if !st.IsDir() {
			if IsLog(p) {
				return nil, &Error{File: p, Err: errors.New("is an instruction log, not a recording")}
			}
			add(p)
			continue
		}
		entries, err := os.ReadDir(p) // sorted by name
		if err != nil {
			return nil, &Error{File: p, Err: unwrapPath(err)}
		}
		n := len(found)
		for _, e := range entries {
			name := e.Name()
			base := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
			if !e.IsDir() && strings.HasSuffix(base, ".jsonl") && !IsLog(name) {
				add(filepath.Join(p, name))
			}
		}
		if len(found) == n {
			return nil, &Error{File: p, Err: errors.New("no recordings (*.jsonl, *.jsonl.gz, *.jsonl.zst) in this folder")}
		}
	}
	return found, nil
}

// IsLog reports whether path is named as an I/O instruction log.
func IsLog(path string) bool { return strings.Contains(filepath.Base(path), ".events.jsonl") }

// ReadFile reads a whole recording. Beside the records it returns the line of
// each. With an error that matches [ErrUnfinished] it returns what stands
// before the unfinished line.
func ReadFile(path string, lim *Limits) ([]*Record, []int, error) {
	r, err := Open(path, lim)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	var recs []*Record
	var lines []int
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return recs, lines, nil
		}
		if errors.Is(err, ErrUnfinished) {
			return recs, lines, err
		}
		if err != nil {
			return nil, nil, err
		}
		recs, lines = append(recs, rec), append(lines, r.Line())
	}
}
