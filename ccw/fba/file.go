package fba

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/softmdev/softmdev/mdev/errs"
)

// File is an image in a file of this host. Each write is in the file when it
// returns; nothing is cached here, and nothing is flushed to the disk below.
// The file must not shrink while it is in use: reads past its new end fail,
// and the volume reports an equipment check.
type File struct {
	f        *os.File
	size     int64
	readOnly bool
}

// OpenFile opens the raw image at path. Close it when the volume is done.
//
// Compressed images of this or any other format are refused by their first
// bytes: writing blocks through to them would destroy them.
func OpenFile(path string, readOnly bool) (*File, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	img := &File{f: f, readOnly: readOnly}
	if img.size, err = rawSize(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

// rawSize is the size of the raw image in f, or why f is none.
func rawSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("%v, not a regular file: %w", st.Mode().Type(), errs.ErrInvalid)
	}
	if err := checkSize(st.Size()); err != nil {
		return 0, err
	}
	var head [BlockSize]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return 0, err
	}
	return st.Size(), checkRaw(head[:])
}

// foreign are the first bytes of files that hold a volume, but not block by
// block.
var foreign = []struct{ magic, name string }{
	{"\x1f\x8b\x08", "gzip"},
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"FBA_C370", "a compressed FBA image"},
	{"FBA_C064", "a compressed FBA image"},
	{"CKD_P370", "a CKD image"},
	{"CKD_C370", "a compressed CKD image"},
	{"CKD_P064", "a CKD image"},
	{"CKD_C064", "a compressed CKD image"},
}

// checkRaw refuses what is plainly not a raw image.
func checkRaw(head []byte) error {
	for _, m := range foreign {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return fmt.Errorf("%s, not a raw image: %w", m.name, errs.ErrInvalid)
		}
	}
	return nil
}

// Size is the size the file had when it was opened.
func (f *File) Size() int64 { return f.size }

// ReadOnly says whether the file was opened for reading only.
func (f *File) ReadOnly() bool { return f.readOnly }

// ReadAt reads like [io.ReaderAt].
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// WriteAt writes like [io.WriterAt]. It never makes the file longer.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > f.size || int64(len(p)) > f.size-off {
		return 0, fmt.Errorf("write of %d bytes at %d passes the end of the image: %w", len(p), off, errs.ErrInvalid)
	}
	return f.f.WriteAt(p, off)
}

// Zero fills n bytes at off with zeros. Where the file system can, it gives
// their space back.
func (f *File) Zero(off, n int64) error {
	if off < 0 || n < 0 || off > f.size || n > f.size-off {
		return fmt.Errorf("zeroing of %d bytes at %d passes the end of the image: %w", n, off, errs.ErrInvalid)
	}
	if f.readOnly {
		return fmt.Errorf("image is read-only: %w", errs.ErrPermission)
	}
	if n == 0 || punch(f.f, off, n) == nil {
		return nil
	}
	return writeZeros(f, off, n)
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// DefaultLoadLimit is how many bytes [Load] takes into memory at most if it
// is given no limit: a 3370 model 2 has 365 MB.
const DefaultLoadLimit = 1 << 30

// Load reads the raw image at path into memory, unpacking it if the name ends
// in .gz. It fails, without having read all of it, when the image is larger
// than limit bytes (0: [DefaultLoadLimit]): a small packed file may unpack to
// anything.
func Load(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := load(f, strings.HasSuffix(path, ".gz"), limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func load(r io.Reader, packed bool, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultLoadLimit
	}
	if packed {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, fmt.Errorf("image of more than %d bytes: %w", limit, errs.ErrBudget)
	}
	if err := checkSize(n); err != nil {
		return nil, err
	}
	return buf.Bytes(), checkRaw(buf.Bytes())
}
