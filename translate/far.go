package translate

import (
	"io"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Far is a place in remote memory that can be reached outside a reader section.
// A message may take long, and an unmap waits for every section that began
// before it, wherever that reads; the other side might be unable to answer the
// message while it waits for the unmap of something else.
//
// It is for holders ([Holder]) alone: what keeps the mapping in place while a
// Far is used is that Drain waits for its user.
type Far struct {
	s      *Store
	memory RemoteMemory
	off    uint64 // of iova in memory
	iova   addr.IOVA
}

// Far looks up n bytes of remote memory at iova, which must lie in one mapping
// and allow want. The reader is in a section while it looks, and may be out of
// it when the Far is used. Errors are those of Check; memory of another kind is
// errs.ErrInvalid.
func (r *Reader) Far(iova addr.IOVA, n addr.Len, want addr.Access) (Far, error) {
	if !r.inside() {
		r.Enter()
		defer r.Exit()
	}
	runs, err := r.collect(iova, n, want, true)
	if err != nil {
		return Far{}, err
	}
	if len(runs) != 1 || runs[0].Kind != KindRemote {
		return Far{}, iovaError(uint64(iova), errs.ErrInvalid)
	}
	return Far{r.s, r.s.entry(runs[0].ID).remote, uint64(runs[0].HVA), iova}, nil
}

// Read fills p from the place on, by messages.
func (f Far) Read(p []byte) error { return f.move(p, RemoteMemory.ReadAt) }

// Write stores p from the place on, by messages, and marks it dirty.
func (f Far) Write(p []byte) error {
	err := f.move(p, RemoteMemory.WriteAt)
	if f.s.Tracking() && len(p) > 0 {
		f.s.MarkDirty(f.iova, addr.Len(len(p)))
	}
	return err
}

// move moves p by messages. An answer that is short or an error is a fault:
// the memory cannot be reached.
func (f Far) move(p []byte, move func(RemoteMemory, []byte, int64) (int, error)) error {
	if f.off > 1<<63-1 {
		return iovaError(uint64(f.iova), errs.ErrFault)
	}
	n, err := move(f.memory, p, int64(f.off))
	if n == len(p) && (err == nil || err == io.EOF) {
		return nil // io.ReaderAt may say io.EOF beside the last bytes
	}
	return iovaError(uint64(f.iova)+uint64(min(max(n, 0), len(p)-1)), &remoteError{err})
}
