package recording

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/internal/filelock"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// LiveSource is the source of the records that a [Recorder] takes from live
// devices.
const LiveSource = "softmdev, live"

// RecorderConfig says how a [Recorder] records. A nil one is the zero value.
type RecorderConfig struct {
	// Limits are those of who is going to read the file: a record that
	// would pass one of them is refused. nil: the defaults.
	Limits *Limits
	// Fault fails steps in tests.
	Fault *fault.Points
}

// A Recorder appends what live devices do to a file, each program when it has
// ended. Its methods may be called by any goroutine.
//
// A line goes into the file with one write, and a write that fails is taken
// back. The kernel may cut a write short when the process is killed in the
// middle of it; what it leaves is a last line without its end, of which
// [ErrUnfinished] tells the reader, and which the next recorder removes. So a
// recording holds whole records whatever happens to who records.
//
// The file is plain: a compressed one has no lines to keep whole.
type Recorder struct {
	name  string
	lim   *Limits
	fault *fault.Points

	mu      sync.Mutex
	f       *os.File       // guarded by mu; nil when closed
	size    int64          // guarded by mu; bytes of whole lines
	next    map[string]int // guarded by mu; seq of each scenario's next record
	buf     []byte         // guarded by mu
	broken  error          // guarded by mu; half a line could not be taken back
	written uint64         // guarded by mu
	refused uint64         // guarded by mu
}

// keptLine is the capacity in bytes of the line buffer that is kept from one
// record to the next.
const keptLine = 1 << 20

// NewRecorder records into the file at path, which is made if it is not there.
// A recording that is there goes on: the records of a scenario that it holds
// are counted on. Any other content is refused, and so is a file that another
// recorder has open (errs.ErrBusy).
//
// Opening a recording reads all of it.
func NewRecorder(path string, cfg *RecorderConfig) (*Recorder, error) {
	if cfg == nil {
		cfg = &RecorderConfig{}
	}
	r := &Recorder{name: path, lim: cfg.Limits.orDefault(), fault: cfg.Fault, next: make(map[string]int)}
	if err := r.fault.Hit("open"); err != nil {
		return nil, err
	}
	// It will hold memory of guests, which is nobody's but the owner's.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	r.f = f
	if err := r.resume(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// resume makes the recorder go on where the file ends.
func (r *Recorder) resume() error {
	st, err := r.f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: %v, not a regular file: %w", r.name, st.Mode().Type(), errs.ErrInvalid)
	}
	if err := filelock.Lock(r.f, false); err != nil {
		return err
	}
	if st, err = r.f.Stat(); err != nil { // it may have grown until we had it
		return err
	}
	whole, err := r.scan(st.Size())
	if err != nil {
		return err
	}
	if whole < st.Size() {
		if err := r.cut(whole); err != nil {
			return err
		}
	}
	r.size = whole
	return nil
}

// scan reads the size bytes that are in the file and returns how many of them
// are whole lines.
func (r *Recorder) scan(size int64) (whole int64, err error) {
	if size == 0 {
		return 0, nil
	}
	if err := r.fault.Hit("scan"); err != nil {
		return 0, err
	}
	in, err := newReader(r.name, io.NewSectionReader(r.f, 0, size), r.lim)
	if err != nil {
		return 0, err
	}
	if in.packed {
		in.Close()
		return 0, fmt.Errorf("%s: is compressed, a live recording is not: %w", r.name, errs.ErrInvalid)
	}
	for {
		rec, err := in.Next()
		switch {
		case err == io.EOF && in.torn: // complete but for its newline
			_, err := r.f.Write([]byte("\n"))
			return size + 1, err
		case err == io.EOF:
			return size, nil
		case errors.Is(err, ErrUnfinished):
			return whole, nil
		case err != nil:
			return 0, fmt.Errorf("not a recording to go on with: %w", err)
		}
		whole = in.total
		r.next[rec.Scenario] = rec.Seq + 1
	}
}

// cut makes the file end after size bytes.
func (r *Recorder) cut(size int64) error {
	if err := r.fault.Hit("truncate"); err != nil {
		return err
	}
	return r.f.Truncate(size)
}

// Record appends program, which must be a *Record; it is mdev's Recorder. The
// record is not kept. Its Seq is given here, and is the place of the program
// among those of its scenario that were recorded.
//
// A record that nobody could read back, because it or the file would pass a
// limit, is refused with errs.ErrBudget and counted; later ones may fit.
func (r *Recorder) Record(program any) error {
	rec, ok := program.(*Record)
	if !ok {
		return fmt.Errorf("record: a %T is no program that can be recorded: %w", program, errs.ErrInvalid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.record(rec); err != nil {
		r.refused++
		return fmt.Errorf("record: %w", err)
	}
	r.written++
	return nil
}

// record is Record. The caller holds mu.
func (r *Recorder) record(rec *Record) error {
	switch {
	case r.f == nil:
		return os.ErrClosed
	case r.broken != nil:
		return r.broken
	case rec.Scenario == "":
		return fmt.Errorf("no scenario: %w", errs.ErrInvalid)
	}
	seq, known := r.next[rec.Scenario]
	if !known && len(r.next) == maxScenarios {
		return fmt.Errorf("more than %d scenarios: %w", maxScenarios, errs.ErrBudget)
	}
	for _, segs := range [][]Segment{rec.Memory, rec.stored()} {
		var n addr.Len
		for i := range segs {
			if n += segs[i].Len(); n > r.lim.Image {
				return fmt.Errorf("memory image larger than %d bytes: %w", uint64(r.lim.Image), errs.ErrBudget)
			}
		}
	}
	numbered := *rec
	numbered.Seq = seq
	line := append(Append(r.buf[:0], &numbered), '\n')
	if r.buf = line[:0]; cap(line) > keptLine {
		r.buf = nil
	}
	switch {
	case len(line) > r.lim.Line:
		return fmt.Errorf("line longer than %d bytes: %w", r.lim.Line, errs.ErrBudget)
	case int64(len(line)) > r.lim.Total-r.size:
		return fmt.Errorf("%s would hold more than %d bytes: %w", r.name, r.lim.Total, errs.ErrBudget)
	}
	if err := r.write(line); err != nil {
		return err
	}
	r.size += int64(len(line))
	r.next[rec.Scenario] = seq + 1
	return nil
}

// write writes one line, whole or not at all. The caller holds mu.
func (r *Recorder) write(line []byte) error {
	err := r.fault.Hit("write")
	if err != nil {
		// As when the disk is full: half of it is there.
		_, _ = r.f.Write(line[:len(line)/2])
	} else if _, err = r.f.Write(line); err == nil {
		return nil
	}
	if cerr := r.cut(r.size); cerr != nil {
		r.broken = fmt.Errorf("%s ends in half a line: %w", r.name, cerr)
		return errors.Join(err, r.broken)
	}
	return err
}

// RecorderStats are numbers about a [Recorder].
type RecorderStats struct {
	Written uint64 // records
	Refused uint64 // records that are not in the file
	Size    int64  // bytes of the file
}

// Stats says what the recorder has done since it was made.
func (r *Recorder) Stats() RecorderStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return RecorderStats{r.written, r.refused, r.size}
}

// Close closes the file. Closing twice does nothing; what is recorded
// afterwards is refused with os.ErrClosed.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f, r.buf = nil, nil
	return err
}
