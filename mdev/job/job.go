package job

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Job is one request of a guest from its acceptance to its end.
type Job struct {
	Budget

	owner  *pinning.Owner
	reader *translate.Reader
	snap   snapshot
	lease  pinning.Lease
	active bool
	depth  int // of Enter
	look   func(iova addr.IOVA, b []byte)

	// seen remembers the pages pinned last, so that a program that names
	// one page a hundred times pins it once.
	seen  [seenSlots]seenPage
	epoch uint32
}

const seenSlots = 64

type seenPage struct {
	page   addr.IOVA
	hpa    addr.HPA
	epoch  uint32
	access addr.Access
}

// New is a job for the requests of owner's device, which names memory of st.
// Close returns its reader.
func New(st *translate.Store, owner *pinning.Owner) *Job {
	return &Job{owner: owner, reader: st.NewReader(), epoch: 1}
}

// Begin starts a request. program names it in the ledger of pins.
func (j *Job) Begin(program uint64, l Limits) {
	j.End()
	j.Budget.reset(l)
	j.lease, j.active = j.owner.Begin(program), true
}

// Active reports whether the job is between Begin and End.
func (j *Job) Active() bool { return j.active }

// End drops every pin and forgets every byte of the request. It is
// idempotent and cannot fail.
func (j *Job) End() {
	if j.active {
		j.lease.Release()
		j.active = false
	}
	j.snap.reset()
	j.forget()
}

// Close ends the request, if any, and the job.
func (j *Job) Close() {
	j.End()
	if j.reader != nil {
		j.reader.Close()
		j.reader = nil
	}
}

// Enter opens the reader section in which Fetch and Mapped may be called.
// Sections nest.
func (j *Job) Enter() {
	if j.depth++; j.depth == 1 {
		j.reader.Enter()
	}
}

// Exit closes the reader section.
func (j *Job) Exit() {
	if j.depth--; j.depth == 0 {
		j.reader.Exit()
	}
}

// Fetch returns n bytes of guest program from iova, charging them. Bytes that
// this request fetched before come from the copy. The slice is the job's own
// memory, valid until the next Fetch that crosses a page, Refetch or End.
//
// The error is what package translate says of the address: not mapped, not
// permitted, or errs.ErrBudget.
func (j *Job) Fetch(iova addr.IOVA, n int) ([]byte, error) {
	if err := j.Moved(n); err != nil {
		return nil, err
	}
	b, err := j.snap.fetch(j.reader, iova, n)
	if err == nil && j.look != nil {
		j.look(iova, b)
	}
	return b, err
}

// Watch has look called with what each Fetch returns, for a recorder: from the
// copy, so that nothing is read for it. look must not keep or change b, and must
// not call the job. It is set before the first request; nil is nobody.
func (j *Job) Watch(look func(iova addr.IOVA, b []byte)) { j.look = look }

// Mapped reports whether the device may read n bytes at iova, fetching none.
func (j *Job) Mapped(iova addr.IOVA, n addr.Len) error {
	return j.reader.Check(iova, n, addr.Read)
}

// Refetch forgets the bytes fetched so far: what is fetched next is read anew.
// Only a program that the architecture lets change while it runs asks for it.
func (j *Job) Refetch() { j.snap.reset() }

// Pin pins the page or pages of the n bytes at iova for access and returns
// the host address of the first byte. Host addresses of further pages need
// not follow: only bytes in the same page as iova may be derived from the
// result. Where n is 0 or crosses a page it fails with errs.ErrInvalid; use
// PinRange for more.
func (j *Job) Pin(iova addr.IOVA, n addr.Len, access addr.Access) (addr.HPA, error) {
	if n-1 >= addr.PageSize-addr.PageOffset(iova) {
		return 0, errs.Addr("iova", uint64(iova), fmt.Errorf("%#x bytes of one page: %w", uint64(n), errs.ErrInvalid))
	}
	if hpa, ok := j.Held(iova, access); ok {
		return hpa, nil
	}
	if err := j.pins(1); err != nil {
		return 0, err
	}
	p, err := j.lease.Pin(iova, n, access)
	if err != nil {
		return 0, err
	}
	j.remember(addr.PageOf(iova), addr.PageOf(p.HPA()), access)
	return p.HPA(), nil
}

// PinRange pins all pages of the n bytes at iova, or none.
func (j *Job) PinRange(iova addr.IOVA, n addr.Len, access addr.Access) (pinning.Pin, error) {
	pages := (uint64(addr.PageOffset(iova)) + uint64(n) + addr.PageMask) >> addr.PageShift
	if err := j.pins(pages); err != nil {
		return pinning.Pin{}, err
	}
	p, err := j.lease.Pin(iova, n, access)
	if err != nil {
		return p, err
	}
	for off := addr.Len(0); off < n; off += addr.PageSize - addr.PageOffset(iova+addr.IOVA(off)) {
		at := iova + addr.IOVA(off)
		j.remember(addr.PageOf(at), addr.PageOf(p.At(off)), access)
	}
	return p, nil
}

// Held is the host address of iova if the request is known to have its page
// pinned for access already. A page that is held may be forgotten, and is then
// pinned again.
func (j *Job) Held(iova addr.IOVA, access addr.Access) (addr.HPA, bool) {
	pg := addr.PageOf(iova)
	s := &j.seen[uint64(pg)>>addr.PageShift%seenSlots]
	if s.epoch == j.epoch && s.page == pg && s.access.Allows(access) {
		return s.hpa + addr.HPA(addr.PageOffset(iova)), true
	}
	return 0, false
}

// remember notes that the page at pg is held for access.
func (j *Job) remember(pg addr.IOVA, hpa addr.HPA, access addr.Access) {
	s := &j.seen[uint64(pg)>>addr.PageShift%seenSlots]
	if s.epoch == j.epoch && s.page == pg {
		access |= s.access // held for both
	}
	*s = seenPage{page: pg, hpa: hpa, epoch: j.epoch, access: access}
}

func (j *Job) forget() {
	j.epoch++
	if j.epoch == 0 { // wrapped: old entries would look new
		j.seen = [seenSlots]seenPage{}
		j.epoch = 1
	}
}
