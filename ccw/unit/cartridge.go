package unit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/softmdev/softmdev/mdev/errs"
)

// DefaultTapeCapacity is how many bytes a cartridge takes if nothing else is
// said: 1 GiB.
const DefaultTapeCapacity = 1 << 30

// earlyWarning is how far before the end of a tape the drive starts to warn:
// a twentieth of it.
func earlyWarning(capacity int64) int64 { return capacity - capacity/20 }

// Cartridge is a tape: blocks and tape marks, in memory or in a file, in
// AWSTAPE format. It is used by one drive at a time and not safe for
// concurrent use.
type Cartridge struct {
	store    tapeStore
	capacity int64
	readOnly bool
	items    []tapeItem
	marks    []int // the tape marks among items, ascending
	end      int64 // where the next item would go, were it the last
	buf      []byte
}

// tapeStore is where the bytes of a tape are: a file, or memory.
type tapeStore interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// NewCartridge is a tape in this process, empty, for capacity bytes (0:
// [DefaultTapeCapacity]), which it uses as they are written.
func NewCartridge(capacity int64) *Cartridge {
	if capacity <= 0 {
		capacity = DefaultTapeCapacity
	}
	return &Cartridge{store: new(memoryTape), capacity: capacity}
}

// ParseCartridge is a tape in this process that starts as image, which it
// copies. Every chunk of the image is checked.
func ParseCartridge(image []byte) (*Cartridge, error) {
	m := memoryTape(append([]byte(nil), image...))
	return newCartridge(&m, int64(len(image)), false)
}

// OpenCartridge is the tape in the file at path: what is written to it is in
// the file. Every chunk is checked. An empty file is an empty tape. Close it.
func OpenCartridge(path string, readOnly bool) (*Cartridge, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	c, err := func() (*Cartridge, error) {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("%v, not a regular file: %w", st.Mode().Type(), errs.ErrInvalid)
		}
		return newCartridge(f, st.Size(), readOnly)
	}()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func newCartridge(s tapeStore, size int64, readOnly bool) (*Cartridge, error) {
	items, err := scanAWS(s, size)
	if err != nil {
		return nil, err
	}
	c := &Cartridge{
		store: s, capacity: max(size, DefaultTapeCapacity), readOnly: readOnly,
		items: items, end: size,
	}
	for i, item := range items {
		if item.mark() {
			c.marks = append(c.marks, i)
		}
	}
	return c, nil
}

// Close closes the file behind the tape, if there is one.
func (c *Cartridge) Close() error {
	if f, ok := c.store.(io.Closer); ok {
		return f.Close()
	}
	return nil
}

// ReadOnly reports whether nothing can be written.
func (c *Cartridge) ReadOnly() bool { return c.readOnly }

// Len is the number of blocks and tape marks.
func (c *Cartridge) Len() int { return len(c.items) }

// Size is the length in bytes of the image.
func (c *Cartridge) Size() int64 { return c.end }

// WriteTo writes the image to w.
func (c *Cartridge) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(c.store, 0, c.end))
}

// Block is a copy of the data of item i, nil for a tape mark.
func (c *Cartridge) Block(i int) ([]byte, error) {
	if i < 0 || i >= len(c.items) {
		return nil, fmt.Errorf("item %d of %d: %w", i, len(c.items), errs.ErrInvalid)
	}
	if c.items[i].mark() {
		return nil, nil
	}
	b := make([]byte, c.items[i].size)
	return b, c.read(i, b)
}

// read fills b, as long as the block, with block i. A file may be changed by
// others meanwhile: what is there must still be a block of this length.
// Precondition: i is a block of the tape.
func (c *Cartridge) read(i int, b []byte) error {
	if cap(c.buf) < awsHeaderSize {
		c.buf = make([]byte, awsHeaderSize)
	}
	h := c.buf[:awsHeaderSize]
	for off, rest := c.items[i].off, b; len(rest) > 0; {
		if _, err := c.store.ReadAt(h, off); err != nil {
			return err
		}
		n := int(h[0]) | int(h[1])<<8
		if n == 0 || n > len(rest) || n == len(rest) != (h[4]&awsLast != 0) {
			return fmt.Errorf("chunk at %#x is not what it was: %w", off, errs.ErrFault)
		}
		if _, err := c.store.ReadAt(rest[:n], off+awsHeaderSize); err != nil {
			return err
		}
		off, rest = off+awsHeaderSize+int64(n), rest[n:]
	}
	return nil
}

// errTapeFull is a write that does not fit the tape.
var errTapeFull = errors.New("end of tape")

// write puts a block, or with no data a tape mark, at position i, and so
// erases what was there and behind. On an error the tape ends at i.
// Preconditions: 0 <= i <= Len, len(data) <= MaxTapeBlock.
func (c *Cartridge) write(i int, data []byte) error {
	if err := c.truncate(i); err != nil {
		return err
	}
	if c.end+awsSize(len(data)) > c.capacity || len(c.items) >= MaxTapeItems {
		return errTapeFull
	}
	item := tapeItem{off: c.end, size: uint32(len(data))}
	var previous uint16
	if i > 0 {
		previous = c.items[i-1].last
	}
	// One write for the whole block: a file never holds half of one
	// unless the host's disk is full.
	c.buf = c.buf[:0]
	flags := byte(awsFirst)
	for rest := data; ; flags = 0 {
		n := min(len(rest), awsMaxChunk)
		if len(data) == 0 {
			flags = awsMark
		} else if n == len(rest) {
			flags |= awsLast
		}
		h := awsHeader(uint16(n), previous, flags)
		c.buf = append(append(c.buf, h[:]...), rest[:n]...)
		previous, rest = uint16(n), rest[n:]
		if len(rest) == 0 {
			break
		}
	}
	item.last = previous
	if _, err := c.store.WriteAt(c.buf, c.end); err != nil {
		_ = c.store.Truncate(c.end) // the error to report is the first
		return err
	}
	if item.mark() {
		c.marks = append(c.marks, i)
	}
	c.items = append(c.items, item)
	c.end += int64(len(c.buf))
	return nil
}

// truncate ends the tape at position i. Precondition: 0 <= i <= Len.
func (c *Cartridge) truncate(i int) error {
	if i == len(c.items) {
		return nil
	}
	off := c.items[i].off
	if err := c.store.Truncate(off); err != nil {
		return err
	}
	m, _ := slices.BinarySearch(c.marks, i)
	c.items, c.marks, c.end = c.items[:i], c.marks[:m], off
	return nil
}

// nextMark is the first tape mark at position i or behind.
func (c *Cartridge) nextMark(i int) (at int, ok bool) {
	m, _ := slices.BinarySearch(c.marks, i)
	if m == len(c.marks) {
		return 0, false
	}
	return c.marks[m], true
}

// markBefore is the last tape mark before position i.
func (c *Cartridge) markBefore(i int) (at int, ok bool) {
	m, _ := slices.BinarySearch(c.marks, i)
	if m == 0 {
		return 0, false
	}
	return c.marks[m-1], true
}

// nearEnd reports whether a tape written to position i has passed the early
// warning.
func (c *Cartridge) nearEnd(i int) bool {
	off := c.end
	if i < len(c.items) {
		off = c.items[i].off
	}
	return off > earlyWarning(c.capacity)
}

// memoryTape is a tapeStore in memory.
type memoryTape []byte

func (m *memoryTape) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(*m)) {
		return 0, io.EOF
	}
	n := copy(p, (*m)[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memoryTape) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(*m)) {
		return 0, errs.ErrInvalid
	}
	n := copy((*m)[off:], p)
	*m = append(*m, p[n:]...)
	return len(p), nil
}

func (m *memoryTape) Truncate(size int64) error {
	if size < 0 || size > int64(len(*m)) {
		return errs.ErrInvalid
	}
	*m = (*m)[:size]
	return nil
}
