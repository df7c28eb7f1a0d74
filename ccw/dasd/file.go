package dasd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/softmdev/softmdev/mdev/errs"
)

// cachedTracks is how many slots a [File] keeps: some cylinders, 3.6 MB.
const cachedTracks = 64

// File is an image file that is written through: when a write command ends,
// what it wrote has been handed to the kernel, and a reader of the file, or
// the next program after a crash of this one, sees it. It survives a crash of
// the host after [File.Sync], or at once with [FileConfig].Durable.
//
// The file is ours alone while it is open: nobody else may write it.
type File struct {
	f        *os.File
	header   Header
	geometry Geometry
	readOnly bool

	slots  []byte // cachedTracks slots
	holds  [cachedTracks]uint32
	where  map[uint32]int // track -> slot
	next   int            // slot to give up next, round robin
	filled int
}

var _ Image = (*File)(nil)

// FileConfig says how an image file is opened.
type FileConfig struct {
	ReadOnly bool // the volume refuses writes
	Durable  bool // every write waits for the disk (O_SYNC)
}

// OpenFile opens an image file; nil cfg is the default. The error of a file
// that is no image is one line and matches [ErrImage].
func OpenFile(path string, cfg *FileConfig) (*File, error) {
	if cfg == nil {
		cfg = &FileConfig{}
	}
	flag := os.O_RDWR
	if cfg.ReadOnly {
		flag = os.O_RDONLY
	}
	if cfg.Durable {
		flag |= os.O_SYNC
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	img, err := newFile(f, cfg.ReadOnly)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return img, nil
}

func newFile(f *os.File, readOnly bool) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrImage)
	}
	var head [HeaderSize]byte
	if _, err := f.ReadAt(head[:], 0); err == io.EOF {
		return nil, fmt.Errorf("%w: %d bytes, too short for a device header", ErrImage, info.Size())
	} else if err != nil {
		return nil, err
	}
	h, err := DecodeHeader(&head)
	if err != nil {
		return nil, err
	}
	g, err := h.Validate(info.Size())
	if err != nil {
		return nil, err
	}
	img := &File{
		f: f, header: h, geometry: g, readOnly: readOnly,
		slots: make([]byte, cachedTracks*SlotSize),
		where: make(map[uint32]int, cachedTracks),
	}
	if err := checkEnds(img); err != nil {
		return nil, err
	}
	return img, nil
}

// Geometry implements [Image].
func (f *File) Geometry() Geometry { return f.geometry }

// Serial implements [Image].
func (f *File) Serial() [12]byte { return f.header.Serial }

// ReadOnly implements [Image].
func (f *File) ReadOnly() bool { return f.readOnly }

func offsetOf(track uint32) int64 { return HeaderSize + int64(track)*SlotSize }

func (f *File) slot(i int) []byte {
	return f.slots[i*SlotSize : (i+1)*SlotSize : (i+1)*SlotSize]
}

// Track implements [Image]. A file that became shorter is an error here.
func (f *File) Track(track uint32) ([]byte, error) {
	if i, ok := f.where[track]; ok {
		return f.slot(i), nil
	}
	if track >= f.geometry.Tracks() {
		return nil, trackErr(track, errs.ErrNotFound)
	}
	i := f.next
	f.next = (f.next + 1) % cachedTracks
	if i < f.filled {
		delete(f.where, f.holds[i])
	} else {
		f.filled = i + 1
	}
	s := f.slot(i)
	// The slot is entered only when it is whole: a failed read leaves a slot
	// that holds no track.
	f.holds[i] = noTrack
	if _, err := f.f.ReadAt(s, offsetOf(track)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, trackErr(track, err)
	}
	f.holds[i], f.where[track] = track, i
	return s, nil
}

// Edit implements [Image].
func (f *File) Edit(track uint32) ([]byte, error) {
	if f.readOnly {
		return nil, trackErr(track, errs.ErrPermission)
	}
	return f.Track(track)
}

// Commit implements [Image]: it writes the changed bytes to the file. When that
// fails the slot is forgotten, so that the next look is at the file.
func (f *File) Commit(track uint32, first, end int) error {
	i, ok := f.where[track]
	if !ok || first < 0 || end > SlotSize || first > end {
		return trackErr(track, errs.ErrState)
	}
	if _, err := f.f.WriteAt(f.slot(i)[first:end], offsetOf(track)+int64(first)); err != nil {
		delete(f.where, track)
		f.holds[i] = noTrack
		return trackErr(track, err)
	}
	return nil
}

// Sync implements [Image].
func (f *File) Sync() error {
	if f.readOnly {
		return nil
	}
	return f.f.Sync()
}

// Close syncs and closes the file.
func (f *File) Close() error { return errors.Join(f.Sync(), f.f.Close()) }

// Create makes the image file of a new volume, which must not exist yet, and
// opens it. Tracks without records take no room on a file system with holes.
func Create(path string, cfg CreateConfig) (*File, error) {
	h, g, err := cfg.header()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	img, err := fill(f, &h, g)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close(), os.Remove(path))
	}
	return img, nil
}

func fill(f *os.File, h *Header, g Geometry) (*File, error) {
	var head [HeaderSize]byte
	h.Encode(&head)
	if _, err := f.WriteAt(head[:], 0); err != nil {
		return nil, err
	}
	if err := f.Truncate(offsetOf(g.Tracks())); err != nil {
		return nil, err
	}
	var blank [blankSize]byte
	for t := uint32(0); t < g.Tracks(); t++ {
		putBlank(blank[:], AddressOf(t))
		if _, err := f.WriteAt(blank[:], offsetOf(t)); err != nil {
			return nil, err
		}
	}
	return newFile(f, false)
}
