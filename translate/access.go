package translate

import (
	"errors"
	"runtime"
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
	_, err := r.collect(iova, n, want, false)
	return err
}

// maxRetries bounds how often an access of several mappings looks again
// because something vanished while it looked.
const maxRetries = 1000

// collect finds the mappings under [iova, iova+n), all of them at one moment:
// a batch is seen whole or not at all. In the runs, which are r.runs and only
// kept on request, the last one is cut to the range, and the HVA of remote
// memory is the offset in the mapping.
//
// Something that vanishes meanwhile makes it look again; a store that changes
// without a break for a thousand looks gets an answer that mixes moments.
func (r *Reader) collect(iova addr.IOVA, n addr.Len, want addr.Access, keep bool) ([]Run, error) {
	if n == 0 {
		return nil, nil
	}
	if _, ok := addr.RangeOf(iova, n); !ok {
		return nil, iovaError(uint64(iova), errs.ErrOverflow)
	}
	h := &r.s.hot
	for try := 0; ; try++ {
		gen := atomic.LoadUint64(&h.gen)
		if gen&1 != 0 && try < maxRetries {
			runtime.Gosched() // the writer is three stores from done
			continue
		}
		at, reason := r.walk(h.view.Load(), uint64(iova), uint64(n), want, keep)
		if atomic.LoadUint64(&h.gen) != gen && try < maxRetries {
			continue
		}
		if reason != nil {
			return nil, iovaError(at, reason)
		}
		return r.runs, nil
	}
}

// walk is one look at the n bytes at a: the runs, or the first address that
// refuses and why.
func (r *Reader) walk(v *view, a, n uint64, want addr.Access, keep bool) (uint64, error) {
	r.runs = r.runs[:0]
	for {
		rec := v.find(a)
		meta := atomic.LoadUint64(&rec.meta)
		attr := metaAttr(meta)
		switch {
		case meta&(metaLive|metaSuspended) == 0:
			return a, errs.ErrNotMapped
		case !attr.Access.Allows(want):
			return a, errs.ErrPermission
		case meta&metaLive == 0:
			return a, errs.ErrSuspended
		}
		off := a - rec.start
		m := min(n, rec.last-off+1)
		if keep {
			r.runs = append(r.runs, Run{addr.HVA(rec.base + off), addr.Len(m), attr})
		}
		if n -= m; n == 0 {
			return 0, nil
		}
		a += m
	}
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
	runs, err := r.collect(iova, addr.Len(len(p)), addr.Read, true)
	if err != nil {
		return err
	}
	for i := range runs {
		run := &runs[i]
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
	runs, err := r.collect(iova, addr.Len(len(p)), addr.Write, true)
	if err != nil {
		return err
	}
	for i := range runs {
		run := &runs[i]
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

// remote moves p by messages.
func (r *Reader) remote(iova addr.IOVA, run *Run, p []byte, move func(RemoteMemory, []byte, int64) (int, error)) error {
	f := Far{memory: r.s.entry(run.ID).remote, off: uint64(run.HVA), iova: iova}
	return f.move(p, move)
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
