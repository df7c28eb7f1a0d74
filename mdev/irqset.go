package mdev

import (
	"fmt"
	"slices"

	"github.com/softmdev/softmdev/mdev/errs"
)

// IRQSetFlags are VFIO_IRQ_SET_*: one kind of data, one action.
type IRQSetFlags uint32

// The flags of SET_IRQS.
const (
	DataNone      IRQSetFlags = 1 << iota // the vectors, unconditionally
	DataBool                              // the vectors whose byte is not 0
	DataEventFD                           // eventfds for the vectors
	ActionMask                            // mask
	ActionUnmask                          // unmask
	ActionTrigger                         // trigger, or say what is signalled

	dataMask   = DataNone | DataBool | DataEventFD
	actionMask = ActionMask | ActionUnmask | ActionTrigger
)

// IRQRequest is VFIO_DEVICE_SET_IRQS (include/uapi/linux/vfio.h) with its data
// decoded.
type IRQRequest struct {
	Flags IRQSetFlags
	Index uint32
	Start uint32 // first vector
	Count uint32 // vectors
	Bools []byte // of DataBool: one for each vector
	// FDs are, of DataEventFD, one eventfd for each vector, -1 for none; no
	// FDs at all stand for as many -1. They belong to the callee from the
	// call on, whatever the outcome. A number must not come twice.
	FDs []int
}

// Set does what vfio_pci_set_irqs_ioctl and vfio_set_irqs_validate_and_prepare
// do, for any device:
//
//	Trigger EventFD  arms the vectors, or disarms those with -1; what was armed
//	                 before is not signalled any more when Set returns, and
//	                 closed. What is pending is delivered.
//	Trigger None     of no vectors: disables the index, closes all its fds.
//	                 Otherwise signals the vectors that are armed, masked or not.
//	Trigger Bool     the same for the vectors whose byte is not 0.
//	Mask, Unmask     None, Bool: now; EventFD: whenever that one is signalled.
//
// INTx, MSI and MSI-X exclude each other: one is enabled at a time. With
// IRQNoResize an enabled index does not grow.
//
// Errors, of which none has changed anything:
//
//	not one kind of data and one action, unknown flag   ErrInvalid   EINVAL
//	no such index or vectors                            ErrInvalid   EINVAL
//	no vectors, but for the disabling                   ErrInvalid   EINVAL
//	bytes or fds that are not as many as the vectors    ErrInvalid   EINVAL
//	not an eventfd, one that came twice                 ErrInvalid   EINVAL
//	another of INTx, MSI and MSI-X is enabled           ErrInvalid   EINVAL
//	growth of an index with IRQNoResize                 ErrInvalid   EINVAL
//	trigger, mask, unmask of what is not enabled        ErrInvalid   EINVAL (1)
//	mask, unmask without IRQMaskable                    ErrNoAction  ENOTTY
//	session is closed                                   ErrGone      ENODEV
//
// (1) Mask and unmask only where indices exclude each other; elsewhere they
// come before the vectors are armed (vfio_platform_irq.c).
//
// The kernel refuses to disable an index that is not enabled (EINVAL); here
// that succeeds, as in libvfio-user, since clients do it when they clean up. A
// second unmask eventfd is EBUSY there and replaces the first one here. Where
// the kernel fails half-way it leaves the block disarmed; here it is as before.
func (q *IRQs) Set(req IRQRequest) error {
	taken := false
	err := q.set(&req, &taken)
	if !taken {
		closeAll(req.FDs)
	}
	if err != nil {
		return fmt.Errorf("irq %d: %w", req.Index, err)
	}
	return nil
}

// closeAll closes each of fds once, even if a caller gave one of them twice:
// the second close could hit somebody else's.
func closeAll(fds []int) {
	slices.Sort(fds)
	for _, fd := range slices.Compact(fds) {
		if fd >= 0 {
			closeFD(fd)
		}
	}
}

func (q *IRQs) set(req *IRQRequest, taken *bool) error {
	ix, err := q.check(req)
	if err != nil {
		return err
	}
	if req.Count == 0 {
		return q.disable(ix)
	}
	vs := ix.vectors[req.Start:][:req.Count]
	action := req.Flags & actionMask
	if action != ActionTrigger && ix.info.Flags&IRQMaskable == 0 {
		return fmt.Errorf("cannot be masked: %w", errs.ErrNoAction)
	}
	switch {
	case req.Flags&DataEventFD == 0:
		return q.act(ix, vs, action, req.Bools)
	case action == ActionTrigger:
		return q.arm(ix, vs, req, taken)
	default:
		return q.watch(ix, vs, action, req.FDs, taken)
	}
}

// check looks at a request as far as it can be judged without the state.
func (q *IRQs) check(req *IRQRequest) (*irqIndex, error) {
	data, action := req.Flags&dataMask, req.Flags&actionMask
	if req.Flags&^(dataMask|actionMask) != 0 ||
		data&(data-1) != 0 || data == 0 || action&(action-1) != 0 || action == 0 {
		return nil, fmt.Errorf("flags %#x: %w", uint32(req.Flags), errs.ErrInvalid)
	}
	if uint64(req.Index) >= uint64(len(q.index)) {
		return nil, fmt.Errorf("device has %d: %w", len(q.index), errs.ErrInvalid)
	}
	ix := &q.index[req.Index]
	have := uint64(len(ix.vectors))
	if uint64(req.Start) >= have || uint64(req.Start)+uint64(req.Count) > have {
		return nil, fmt.Errorf("%d vectors from %d of %d: %w", req.Count, req.Start, have, errs.ErrInvalid)
	}
	if req.Count == 0 && (action != ActionTrigger || data != DataNone || req.Start != 0) {
		return nil, fmt.Errorf("flags %#x with no vectors from %d: %w", uint32(req.Flags), req.Start, errs.ErrInvalid)
	}
	var bools, fds int
	switch data {
	case DataBool:
		bools = int(req.Count)
	case DataEventFD:
		fds = int(req.Count)
		if ix.info.Flags&IRQEventFD == 0 {
			return nil, fmt.Errorf("signals no eventfds: %w", errs.ErrInvalid)
		}
	}
	if len(req.Bools) != bools || len(req.FDs) != fds && len(req.FDs) != 0 {
		return nil, fmt.Errorf("%d bytes and %d fds for %d vectors: %w", len(req.Bools), len(req.FDs), req.Count, errs.ErrInvalid)
	}
	return ix, nil
}

// lock is mu.Lock, unless the session is closed.
func (q *IRQs) lock() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return fmt.Errorf("session is closed: %w", errs.ErrGone)
	}
	return nil
}

func (q *IRQs) disable(ix *irqIndex) error {
	if err := q.lock(); err != nil {
		return err
	}
	lines, watches := ix.disable()
	q.mu.Unlock()
	q.dispose(lines, watches)
	return nil
}

// grouped reports whether ix is one of those that exclude each other.
func (q *IRQs) grouped(ix *irqIndex) bool {
	for i := range min(q.exclusive, len(q.index)) {
		if ix == &q.index[i] {
			return true
		}
	}
	return false
}

// act does an action now.
func (q *IRQs) act(ix *irqIndex, vs []vector, action IRQSetFlags, bools []byte) error {
	if err := q.lock(); err != nil {
		return err
	}
	enabled := ix.enabled.Load() != 0
	q.mu.Unlock()
	// Functions may be called from here on, so without the lock.
	if !enabled && (action == ActionTrigger || q.grouped(ix)) {
		return fmt.Errorf("not enabled: %w", errs.ErrInvalid)
	}
	for i := range vs {
		v := &vs[i]
		switch {
		case len(bools) != 0 && bools[i] == 0:
		case action == ActionTrigger:
			q.loopback(v)
		case action == ActionMask:
			v.state.Or(stMasked)
		default:
			q.unmaskVector(ix, v)
		}
	}
	return nil
}

// arm has vectors lead to eventfds.
func (q *IRQs) arm(ix *irqIndex, vs []vector, req *IRQRequest, taken *bool) error {
	lines, err := q.newLines(req.FDs)
	if err != nil {
		return err
	}
	if err := q.lock(); err != nil {
		return err
	}
	end := req.Start + req.Count
	if err := q.admitLocked(ix, end); err != nil {
		q.mu.Unlock()
		return err
	}
	*taken = true
	ix.enabled.Store(max(ix.enabled.Load(), end))
	var old []*line
	var watches []*watch
	for i := range vs {
		var l *line
		if lines != nil && lines[i] != nil {
			l = lines[i]
			q.fds.n.Add(1)
		}
		if o := vs[i].line.Swap(l); o != nil {
			old = append(old, o)
		}
	}
	if !q.grouped(ix) && !ix.armed() {
		_, watches = ix.disable()
	}
	q.mu.Unlock()
	for i := range vs {
		q.kick(ix, &vs[i])
	}
	q.dispose(old, watches)
	return nil
}

// newLines checks eventfds. The lines own nothing until they are in the table.
func (q *IRQs) newLines(fds []int) ([]*line, error) {
	if len(fds) == 0 {
		return nil, nil
	}
	if err := checkFDs(fds); err != nil {
		return nil, err
	}
	lines := make([]*line, len(fds))
	for i, fd := range fds {
		if fd < 0 {
			continue
		}
		nonblock, err := q.checkEventFD(fd)
		if err != nil {
			return nil, err
		}
		lines[i] = newLine(fd, nonblock, nil, q.fds)
	}
	return lines, nil
}

func (q *IRQs) checkEventFD(fd int) (nonblock bool, err error) {
	if err := q.fault.Hit("irqs: eventfd"); err != nil {
		return false, err
	}
	return checkEventFD(fd)
}

// checkFDs refuses numbers that mean nothing or would be closed twice.
func checkFDs(fds []int) error {
	sorted := slices.Clone(fds)
	slices.Sort(sorted)
	for i, fd := range sorted {
		if fd < -1 || fd >= 0 && i > 0 && sorted[i-1] == fd {
			return fmt.Errorf("fd %d: %w", fd, errs.ErrInvalid)
		}
	}
	return nil
}

// admitLocked decides whether vectors up to end may be armed.
func (q *IRQs) admitLocked(ix *irqIndex, end uint32) error {
	if q.grouped(ix) {
		for i := range min(q.exclusive, len(q.index)) {
			if other := &q.index[i]; other != ix && other.enabled.Load() != 0 {
				return fmt.Errorf("irq %d (%s) is enabled: %w", i, other.info.Name, errs.ErrInvalid)
			}
		}
	}
	if n := ix.enabled.Load(); ix.info.Flags&IRQNoResize != 0 && n != 0 && end > n {
		return fmt.Errorf("vector %d of %d that are enabled: %w", end-1, n, errs.ErrInvalid)
	}
	return nil
}

// watch has eventfds mask or unmask vectors.
func (q *IRQs) watch(ix *irqIndex, vs []vector, action IRQSetFlags, fds []int, taken *bool) error {
	if err := checkFDs(fds); err != nil {
		return err
	}
	for _, fd := range fds {
		if fd < 0 {
			continue
		}
		if _, err := q.checkEventFD(fd); err != nil {
			return err
		}
	}
	if err := q.lock(); err != nil {
		return err
	}
	watches, err := q.watchLocked(ix, vs, action, fds, taken)
	q.mu.Unlock()
	q.dispose(nil, watches)
	return err
}

// watchLocked begins to watch fds, in place of what it returns; on an error,
// which it may find in the middle, it returns what it began. An eventfd that
// was signalled before counts, so its function may run at once; it finds the
// lock held until its vector knows it.
func (q *IRQs) watchLocked(ix *irqIndex, vs []vector, action IRQSetFlags, fds []int, taken *bool) ([]*watch, error) {
	if q.grouped(ix) && ix.enabled.Load() == 0 {
		return nil, fmt.Errorf("not enabled: %w", errs.ErrInvalid)
	}
	watches := make([]*watch, len(vs))
	for i, fd := range fds {
		if fd < 0 {
			continue
		}
		x, err := q.watchVector(ix, &vs[i], action, fd)
		if err != nil {
			if *taken { // the ones before i; the rest is still the request's
				closeAll(fds[i:])
			}
			return watches, err
		}
		*taken = true
		watches[i] = x
	}
	for i := range vs {
		slot := &vs[i].mask
		if action == ActionUnmask {
			slot = &vs[i].unmask
		}
		*slot, watches[i] = watches[i], *slot
	}
	return watches, nil
}

func (q *IRQs) watchVector(ix *irqIndex, v *vector, action IRQSetFlags, fd int) (x *watch, err error) {
	if err := q.fault.Hit("irqs: watch"); err != nil {
		return nil, err
	}
	w, err := q.watcher()
	if err != nil {
		return nil, err
	}
	if action == ActionUnmask {
		return w.add(fd, func() { q.unmaskVector(ix, v) })
	}
	return w.add(fd, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if v.mask == x { // not when the index was disabled meanwhile
			v.state.Or(stMasked)
		}
	})
}
