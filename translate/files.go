package translate

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// The memory of a guest is a file or two, and a client that has an IOMMU of its
// own maps single pages of it, tens of thousands at a time. A process may have
// some 65,530 areas of memory (vm.max_map_count; the language's runtime needs
// a few of them to live), and to make and remove one takes microseconds. So
// the store does not map what each mapping names. It maps windows of a file,
// as a rule the whole of it, and mappings of the same file share them. A
// window goes with the last mapping in it.
//
// A window costs addresses only: nothing in it is touched or made unless a
// mapping leads there. It may pass the end of the file, whose growth it then
// shows.
const (
	defaultMaxFileWindows = 1024
	// defaultMaxFileSpace leaves room for two dozen stores in 47 bits of
	// address space.
	defaultMaxFileSpace = 4 << 40

	// minWindow is where a file that grows page by page begins.
	minWindow = 2 << 20
)

// files are the windows of a store. Guarded by Store.mu, but for what is
// immutable.
type files struct {
	maxWindows int           // immutable
	maxSpace   uint64        // immutable; bytes
	fault      *fault.Points // immutable

	known   map[fileKey]*file
	windows int    // of all files
	space   uint64 // of all windows; bytes
}

// fileKey tells files apart, and windows that may be written from those that
// may not: memory that a client shares for reading is not to be written, also
// by mistake. A file keeps its number as long as a window of it exists.
type fileKey struct {
	dev, ino uint64
	write    bool
}

// file is a regular file of which there is a window.
type file struct {
	key     fileKey
	windows []*fileWindow // may overlap: a later one is larger
}

// fileWindow is a part of a file in the address space.
type fileWindow struct {
	file *file // nil: of something that is not to be shared
	off  uint64
	mem  []byte
	refs int // mappings
}

// fileLook is what is to be known of a file before the store is locked: to
// ask may take as long as the server of a network file system likes.
type fileLook struct {
	dev, ino uint64
	size     uint64
	// block is the unit in which the file is mapped, a power of two, at
	// least a page of the host; huge says that it is larger than that.
	block uint64
	huge  bool
	// regular says that dev and ino name the contents. They do not where a
	// device gives each descriptor, or each mmap, memory of its own.
	regular bool
	err     error
}

func (f *files) init(cfg *Config) {
	f.maxWindows = cmp.Or(cfg.MaxFileWindows, defaultMaxFileWindows)
	f.maxSpace = min(cmp.Or(uint64(cfg.MaxFileSpace), min(defaultMaxFileSpace, math.MaxInt>>1)), math.MaxInt)
	f.fault = cfg.Fault
	f.known = make(map[fileKey]*file)
}

// look asks what the file of m, of KindFile, is. It may block, so no lock is
// held.
func (f *files) look(m *Memory, l *fileLook) {
	if l.err = f.fault.Hit("file stat"); l.err == nil {
		l.err = l.stat(m.fd)
	}
}

// open makes n bytes of m reachable, in a window that is there already or in
// a new one, which it returns for [files.close].
func (f *files) open(m *Memory, n addr.Len, access addr.Access, look *fileLook) (addr.HVA, *fileWindow, error) {
	if look.err != nil {
		return 0, nil, look.err
	}
	key := fileKey{look.dev, look.ino, access.Allows(addr.Write)}
	first, end := uint64(m.off), uint64(m.off)+uint64(n) // at most 2^63: Memory.wraps
	known := f.known[key]
	if look.regular && known != nil {
		if w := known.find(first, end); w != nil {
			// The window may owe its protection to another descriptor.
			if err := f.mayShare(m.fd, key.write); err != nil {
				return 0, nil, fmt.Errorf("map file: %w", err)
			}
			w.refs++
			return w.at(first), w, nil
		}
	}
	w, err := f.newWindow(m.fd, first, end, key.write, look)
	if err != nil {
		return 0, nil, fmt.Errorf("map file: %w", err)
	}
	if look.regular {
		if known == nil {
			known = &file{key: key}
			f.known[key] = known
		}
		w.file = known
		known.windows = append(known.windows, w)
	}
	return w.at(first), w, nil
}

func (f *files) mayShare(fd int, write bool) error {
	if err := f.fault.Hit("file flags"); err != nil {
		return err
	}
	return mayMap(fd, write)
}

// find is a window that holds the bytes [first, end) of the file.
func (f *file) find(first, end uint64) *fileWindow {
	// The last one is the largest of a file that grows.
	for _, w := range slices.Backward(f.windows) {
		if w.off <= first && end <= w.off+uint64(len(w.mem)) {
			return w
		}
	}
	return nil
}

func (w *fileWindow) at(off uint64) addr.HVA { return hvaOf(w.mem) + addr.HVA(off-w.off) }

// newWindow maps a window that holds [first, end): a generous one, or where
// there is no room for that, one that just fits.
func (f *files) newWindow(fd int, first, end uint64, write bool, look *fileLook) (*fileWindow, error) {
	if err := f.fault.Hit("file window"); err != nil {
		return nil, err
	}
	if f.windows >= f.maxWindows {
		return nil, fmt.Errorf("%d windows: %w", f.windows, errs.ErrNoSpace)
	}
	if look.regular {
		if w, err := f.tryWindow(fd, f.generous(first, end, look), write, look); err == nil {
			return w, nil
		}
	}
	return f.tryWindow(fd, filePart{first, end}, write, look)
}

// filePart is the bytes [first, end) of a file.
type filePart struct{ first, end uint64 }

// generous is the window that one would like to have for [first, end): the
// whole file and room to grow, so that a file that grows takes few windows
// that are each twice the last one. Of a file that is too large for that, an
// aligned piece: a few dozen of them fill the space that a store may take.
func (f *files) generous(first, end uint64, look *fileLook) filePart {
	if all := max(look.size, end, minWindow); all <= f.maxSpace/4 {
		return filePart{0, 1 << bits.Len64(all-1)}
	}
	piece := max(uint64(1)<<bits.Len64(f.maxSpace/64)>>1, look.block)
	return filePart{first, end}.outward(piece)
}

// outward is s with its ends moved to multiples of unit, a power of two.
func (s filePart) outward(unit uint64) filePart {
	return filePart{s.first &^ (unit - 1), (s.end + unit - 1) &^ (unit - 1)}
}

func (f *files) tryWindow(fd int, s filePart, write bool, look *fileLook) (*fileWindow, error) {
	s = s.outward(look.block)
	n := s.end - s.first
	if n > f.maxSpace-f.space {
		return nil, fmt.Errorf("%#x bytes, besides %#x of %#x: %w", n, f.space, f.maxSpace, errs.ErrNoSpace)
	}
	mem, err := mapFile(fd, int64(s.first), int(n), write, look.huge)
	if err != nil {
		return nil, err
	}
	f.windows++
	f.space += n
	return &fileWindow{off: s.first, mem: mem, refs: 1}, nil
}

// close ends the use of w by one mapping. The last one unmaps it.
func (f *files) close(w *fileWindow) {
	if w.refs--; w.refs > 0 {
		return
	}
	if known := w.file; known != nil {
		i := slices.Index(known.windows, w)
		known.windows = slices.Delete(known.windows, i, i+1)
		if len(known.windows) == 0 {
			delete(f.known, known.key)
		}
	}
	f.windows--
	f.space -= uint64(len(w.mem))
	unmapFile(w.mem)
}

// FileStats says what the files behind the mappings of a store cost.
type FileStats struct {
	Windows int      // areas of the process's address space
	Space   addr.Len // bytes of it; what is touched of them is memory
}

// Files says what the files behind the mappings cost now.
func (s *Store) Files() FileStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return FileStats{s.files.windows, addr.Len(s.files.space)}
}

// hostPage is the size of a page of this process.
var hostPage = uint64(os.Getpagesize())
