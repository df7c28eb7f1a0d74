package fba

import (
	"fmt"
	"io"

	"github.com/softmdev/softmdev/mdev/errs"
)

// BlockSize is the size in bytes of a block of every model here.
const BlockSize = 512

// MaxBlocks bounds an image: 128 GiB, far above the largest drive of the
// family, so that every block number, and the sum of two, fits in 32 bits.
const MaxBlocks = 1 << 28

// Image is what a volume is stored on: Size bytes, a multiple of [BlockSize],
// that do not grow or shrink. The volume reads and writes whole blocks inside
// it, one call at a time.
type Image interface {
	io.ReaderAt
	io.WriterAt

	// Size is the number of bytes, the same at each call.
	Size() int64

	// ReadOnly says that WriteAt would fail, so that the volume can refuse
	// a write when it is announced and not when it happens.
	ReadOnly() bool
}

// viewer is an Image whose blocks can be looked at in place. View returns n
// bytes at off, valid until the next write to the image, or nil if they do
// not lie in one piece.
type viewer interface {
	View(off int64, n int) []byte
}

// zeroer is an Image that can fill a range with zeros at once, in less time
// than to write them.
type zeroer interface {
	Zero(off, n int64) error
}

// zeros is a piece of zeros. It is never written to.
var zeros [pieceSize]byte

// zero fills n bytes at off with zeros. Precondition: they lie in img.
func zero(img Image, off, n int64) error {
	if z, ok := img.(zeroer); ok {
		return z.Zero(off, n)
	}
	return writeZeros(img, off, n)
}

func writeZeros(w io.WriterAt, off, n int64) error {
	for n > 0 {
		k := min(n, pieceSize)
		if _, err := w.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// checkSize says why an image of n bytes cannot be a volume, or nil.
func checkSize(n int64) error {
	switch {
	case n <= 0:
		return fmt.Errorf("image of %d bytes holds no block: %w", n, errs.ErrInvalid)
	case n%BlockSize != 0:
		return fmt.Errorf("image of %d bytes ends inside a block of %d: %w", n, BlockSize, errs.ErrInvalid)
	case n/BlockSize > MaxBlocks:
		return fmt.Errorf("image of %d blocks: at most %d: %w", n/BlockSize, MaxBlocks, errs.ErrInvalid)
	}
	return nil
}

// pieceSize is how much of a [Memory] is copied at its first write: large
// enough that a sequential writer copies rarely, small enough that one block
// written does not copy a volume.
const pieceSize = 64 << 10

// Memory is an image in this process. Writes go to copies of 64 KiB pieces;
// the base stays as it was given and may be shared by any number of images.
// It is not safe for concurrent use.
type Memory struct {
	base   []byte
	pieces [][]byte // nil: still the base; or the one piece of zeros
}

// NewMemory is an image that starts as base, which must not change while the
// image is used. Its length must be a multiple of [BlockSize] and not zero.
func NewMemory(base []byte) (*Memory, error) {
	if err := checkSize(int64(len(base))); err != nil {
		return nil, err
	}
	return &Memory{base: base, pieces: make([][]byte, (len(base)+pieceSize-1)/pieceSize)}, nil
}

// Size is the length of the base.
func (m *Memory) Size() int64 { return int64(len(m.base)) }

// ReadOnly is false.
func (m *Memory) ReadOnly() bool { return false }

// View returns the n bytes at off if they lie in one piece and nil otherwise.
// They are for reading, until the next write.
func (m *Memory) View(off int64, n int) []byte {
	if off < 0 || n < 0 || off > m.Size() || int64(n) > m.Size()-off {
		return nil
	}
	i, in := off/pieceSize, off%pieceSize
	if in+int64(n) > pieceSize {
		return nil
	}
	if i < int64(len(m.pieces)) && m.pieces[i] != nil {
		return m.pieces[i][in : in+int64(n)]
	}
	return m.base[off : off+int64(n)]
}

// ReadAt reads like [io.ReaderAt].
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errs.ErrInvalid
	}
	done := 0
	for done < len(p) && off < m.Size() {
		n := min(int64(len(p)-done), pieceSize-off%pieceSize, m.Size()-off)
		done += copy(p[done:], m.View(off, int(n)))
		off += n
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// WriteAt writes like [io.WriterAt]; an image does not grow, so a write that
// would pass its end writes nothing.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > m.Size() || int64(len(p)) > m.Size()-off {
		return 0, fmt.Errorf("write of %d bytes at %d passes the end of the image: %w", len(p), off, errs.ErrInvalid)
	}
	done := 0
	for done < len(p) {
		n := copy(m.own(off / pieceSize)[off%pieceSize:], p[done:])
		done += n
		off += int64(n)
	}
	return done, nil
}

// own returns piece i, copied if it is not a copy yet.
func (m *Memory) own(i int64) []byte {
	p := m.pieces[i]
	if p != nil && &p[0] != &zeros[0] {
		return p
	}
	if p == nil {
		start := i * pieceSize
		p = m.base[start:min(start+pieceSize, m.Size())]
	}
	m.pieces[i] = append(make([]byte, 0, len(p)), p...)
	return m.pieces[i]
}

// Zero fills n bytes at off with zeros, whole pieces of them by reference.
func (m *Memory) Zero(off, n int64) error {
	if off < 0 || n < 0 || off > m.Size() || n > m.Size()-off {
		return fmt.Errorf("zeroing of %d bytes at %d passes the end of the image: %w", n, off, errs.ErrInvalid)
	}
	for n > 0 {
		i, in := off/pieceSize, off%pieceSize
		size := min(pieceSize, m.Size()-i*pieceSize)
		k := min(n, size-in)
		if k == size {
			m.pieces[i] = zeros[:size]
		} else {
			clear(m.own(i)[in : in+k])
		}
		off, n = off+k, n-k
	}
	return nil
}
