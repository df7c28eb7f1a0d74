package translate

import (
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Attr is the part of a Run that is the same for a whole mapping.
type Attr struct {
	ID     uint32      // mapping slot, stable while mapped
	Access addr.Access // what the mapping allows
	Kind   Kind        // what stands behind it
}

// Run is the rest of a mapping from a looked-up address on.
type Run struct {
	HVA addr.HVA // of the address asked for; for KindRemote its offset in the mapping
	Len addr.Len // bytes to the end of the mapping
	Attr
}

// Reader looks addresses up; one goroutine at a time.
type Reader struct{ s *Store }

// NewReader returns a reader.
func (s *Store) NewReader() *Reader { return &Reader{s: s} }

// Close ends the reader.
func (r *Reader) Close() {}

// Enter begins a section.
func (r *Reader) Enter() {}

// Exit ends it.
func (r *Reader) Exit() {}

// Lookup finds the mapping of iova.
func (r *Reader) Lookup(iova addr.IOVA) (Run, bool) { return Run{}, false }

// Read copies from guest memory.
func (r *Reader) Read(iova addr.IOVA, p []byte) error { return errs.ErrNotSupported }

// Write copies to guest memory.
func (r *Reader) Write(iova addr.IOVA, p []byte) error { return errs.ErrNotSupported }

// Check reports whether every byte is mapped with want.
func (r *Reader) Check(iova addr.IOVA, n addr.Len, want addr.Access) error {
	return errs.ErrNotSupported
}
