package translate

import (
	"errors"
	"sync/atomic"

	"github.com/softmdev/softmdev/internal/guard"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

func iovaError(a uint64, err error) error { return errs.Addr("iova", a, err) }

// Check reports whether every byte of [iova, iova+n) is mapped, allows want
// and is not suspended: nil, or errs.ErrNotMapped, ErrPermission, ErrSuspended
// or ErrOverflow with the address of the first byte that is not. Zero bytes
// are always fine.
func (r *Reader) Check(iova addr.IOVA, n addr.Len, want addr.Access) error {
	if !r.inside() {
		r.Enter()
		defer r.Exit()
	}
	return r.eachRun(iova, n, want, nil)
}

// eachRun checks the mappings under [iova, iova+n) and appends what it finds
// to runs, unless that is nil. The last run is cut to the range.
func (r *Reader) eachRun(iova addr.IOVA, n addr.Len, want addr.Access, runs *[]Run) error {
	if n == 0 {
		return nil
	}
	if _, ok := addr.RangeOf(iova, n); !ok {
		return iovaError(uint64(iova), errs.ErrOverflow)
	}
	for {
		run, err := r.at(iova, want)
		if err != nil {
			return err
		}
		m := min(n, run.Len)
		if runs != nil {
			run.Len = m
			*runs = append(*runs, run)
		}
		if n -= m; n == 0 {
			return nil
		}
		iova += addr.IOVA(m)
	}
}

// at is Lookup with a permission and a reason. In the Run of remote memory the
// HVA is the offset in the mapping.
func (r *Reader) at(iova addr.IOVA, want addr.Access) (Run, error) {
	if run, ok := r.Lookup(iova); ok && run.Kind != KindRemote {
		if !run.Access.Allows(want) {
			return run, iovaError(uint64(iova), errs.ErrPermission)
		}
		return run, nil
	}
	rec := r.s.hot.view.Load().find(uint64(iova))
	meta := atomic.LoadUint64(&rec.meta)
	attr := metaAttr(meta)
	switch {
	case meta&(metaLive|metaSuspended) == 0:
		return Run{}, iovaError(uint64(iova), errs.ErrNotMapped)
	case !attr.Access.Allows(want):
		return Run{}, iovaError(uint64(iova), errs.ErrPermission)
	case meta&metaLive == 0:
		return Run{}, iovaError(uint64(iova), errs.ErrSuspended)
	}
	off := uint64(iova) - rec.start
	return Run{addr.HVA(rec.base + off), addr.Len(rec.last-off) + 1, attr}, nil
}

// Read copies len(p) bytes from iova on into p, across mappings, fetching each
// byte once. On an error, which carries the address of the first byte that
// could not be read, the contents of p are undefined. Reading needs
// addr.Read. Errors are those of Check and errs.ErrFault.
func (r *Reader) Read(iova addr.IOVA, p []byte) error {
	if run, ok := r.Lookup(iova); ok && addr.Len(len(p)) <= run.Len && run.Access&addr.Read != 0 && r.inside() {
		switch run.Kind {
		case KindBytes:
			copy(p, bytesAt(run.HVA, len(p)))
			return nil
		case KindProcess, KindFile:
			if err := guard.CopyIn(p, run.HVA); err != nil {
				return faultAt(iova, run.HVA, len(p), err)
			}
			return nil
		}
	}
	return r.readRuns(iova, p)
}

func (r *Reader) readRuns(iova addr.IOVA, p []byte) error {
	if !r.inside() {
		r.Enter()
		defer r.Exit()
	}
	// The whole range is looked at before a byte is fetched, so that a read
	// that is refused has touched nothing.
	r.runs = r.runs[:0]
	if err := r.eachRun(iova, addr.Len(len(p)), addr.Read, &r.runs); err != nil {
		return err
	}
	for i := range r.runs {
		run := &r.runs[i]
		if err := r.copyIn(iova, run, p[:run.Len]); err != nil {
			return err
		}
		p, iova = p[run.Len:], iova+addr.IOVA(run.Len)
	}
	return nil
}

func (r *Reader) copyIn(iova addr.IOVA, run *Run, p []byte) error {
	switch run.Kind {
	case KindBytes:
		copy(p, bytesAt(run.HVA, len(p)))
		return nil
	case KindRemote:
		return r.remote(iova, run, p, RemoteMemory.ReadAt)
	}
	if err := guard.CopyIn(p, run.HVA); err != nil {
		return faultAt(iova, run.HVA, len(p), err)
	}
	return nil
}

// Write copies p to iova on, across mappings. It checks the whole range first:
// when it is refused, nothing has been written. A fault half-way leaves a
// prefix written. Writing needs addr.Write (type1's vfio_dma_rw asks for READ
// as well; that is its quirk, not a rule of the interface). What was written
// is in the dirty log.
func (r *Reader) Write(iova addr.IOVA, p []byte) error {
	if run, ok := r.Lookup(iova); ok && addr.Len(len(p)) <= run.Len && run.Access&addr.Write != 0 && r.inside() {
		switch run.Kind {
		case KindBytes:
			copy(bytesAt(run.HVA, len(p)), p)
			r.written(run.ID, iova, len(p))
			return nil
		case KindProcess, KindFile:
			err := guard.CopyOut(run.HVA, p)
			r.written(run.ID, iova, len(p))
			if err != nil {
				return faultAt(iova, run.HVA, len(p), err)
			}
			return nil
		}
	}
	return r.writeRuns(iova, p)
}

func (r *Reader) writeRuns(iova addr.IOVA, p []byte) error {
	if !r.inside() {
		r.Enter()
		defer r.Exit()
	}
	r.runs = r.runs[:0]
	if err := r.eachRun(iova, addr.Len(len(p)), addr.Write, &r.runs); err != nil {
		return err
	}
	for i := range r.runs {
		run := &r.runs[i]
		err := r.copyOut(iova, run, p[:run.Len])
		r.written(run.ID, iova, int(run.Len))
		if err != nil {
			return err
		}
		p, iova = p[run.Len:], iova+addr.IOVA(run.Len)
	}
	return nil
}

func (r *Reader) copyOut(iova addr.IOVA, run *Run, p []byte) error {
	switch run.Kind {
	case KindBytes:
		copy(bytesAt(run.HVA, len(p)), p)
		return nil
	case KindRemote:
		return r.remote(iova, run, p, RemoteMemory.WriteAt)
	}
	if err := guard.CopyOut(run.HVA, p); err != nil {
		return faultAt(iova, run.HVA, len(p), err)
	}
	return nil
}

// written notes a write in the dirty log. It comes after the copy: whoever
// takes the bit and then copies the page must find the new bytes, or the bit
// is there again for the next round.
func (r *Reader) written(id uint32, iova addr.IOVA, n int) {
	if n > 0 && r.s.hot.tracking.Load() {
		r.s.markReader(id, uint64(iova), uint64(iova)+uint64(n)-1)
	}
}

// remote moves p by messages. An answer that is short or an error is a fault:
// the memory cannot be reached.
func (r *Reader) remote(iova addr.IOVA, run *Run, p []byte, move func(RemoteMemory, []byte, int64) (int, error)) error {
	off := uint64(run.HVA)
	if off > 1<<63-1 {
		return iovaError(uint64(iova), errs.ErrFault)
	}
	n, err := move(r.s.entry(run.ID).remote, p, int64(off))
	if n == len(p) {
		return nil // an error beside all bytes is io.EOF at the end
	}
	return iovaError(uint64(iova)+uint64(min(max(n, 0), len(p))), &remoteError{err})
}

// remoteError is errs.ErrFault with the reason of the other side.
type remoteError struct{ err error }

func (e *remoteError) Error() string {
	if e.err == nil {
		return "short transfer: " + errs.ErrFault.Error()
	}
	return e.err.Error() + ": " + errs.ErrFault.Error()
}

// Unwrap puts ErrFault first: its errno is the one that counts.
func (e *remoteError) Unwrap() []error { return []error{errs.ErrFault, e.err} }

// faultAt gives a fault in the n bytes at hva its IOVA.
func faultAt(iova addr.IOVA, hva addr.HVA, n int, err error) error {
	var f *guard.Fault
	if errors.As(err, &f) && f.Addr >= hva && uint64(f.Addr-hva) < uint64(n) {
		// The machine may report any byte of the page that faulted.
		iova += addr.IOVA(max(addr.PageOf(f.Addr), hva) - hva)
	}
	return iovaError(uint64(iova), errs.ErrFault)
}
