package mdev

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/softmdev/softmdev/mdev/errs"
)

// maxIOEvents is VFIO_PCI_IOEVENTFD_MAX of drivers/vfio/pci/vfio_pci_core.c.
const maxIOEvents = 1000

// ioEvents are the eventfds whose signals stand for writes, and the watcher of
// all eventfds that a session listens to.
type ioEvents struct {
	mu      sync.Mutex
	closed  bool                // guarded by mu
	watcher *watcher            // guarded by mu; nil until one is needed
	added   []addedEvent        // guarded by mu; of AddIOEvent
	offered map[int][]IOEventFD // guarded by mu; of IOEventFDs, by region
}

// addedEvent is a write that AddIOEvent set up.
type addedEvent struct {
	region int
	off    uint64
	size   uint32
	data   uint64
	watch  *watch
}

func (e *addedEvent) same(o addedEvent) bool {
	return e.region == o.region && e.off == o.off && e.size == o.size && e.data == o.data
}

// IOEventFD is an eventfd whose signal stands for a write to a region.
type IOEventFD struct {
	IOEvent
	FD int // belongs to the session; closed with it
}

// watcher is the session's, made when it is first needed.
func (s *Session) watcher() (*watcher, error) {
	s.io.mu.Lock()
	defer s.io.mu.Unlock()
	return s.watcherLocked()
}

func (s *Session) watcherLocked() (*watcher, error) {
	if s.io.watcher != nil {
		return s.io.watcher, nil
	}
	if s.io.closed {
		return nil, fmt.Errorf("session is closed: %w", errs.ErrGone)
	}
	if err := s.fault.Hit("session: watcher"); err != nil {
		return nil, err
	}
	w, err := newWatcher(&s.fds, &s.tasks)
	if err != nil {
		return nil, err
	}
	s.io.watcher = w
	return w, nil
}

// close ends all watches and waits for the writes that they are about.
func (e *ioEvents) close() {
	e.mu.Lock()
	e.closed = true
	w := e.watcher
	e.watcher, e.added, e.offered = nil, nil, nil
	e.mu.Unlock()
	if w != nil {
		w.close()
	}
}

// IOEventFDs are the eventfds of a region's IOEvents, in that order: each
// signal is a write to the device, of IOEvent.Match or of zero, as if the VMM
// had made it. Signals that come close together are one write. The eventfds
// are made when they are first asked for, and stay the same. The caller sends
// or duplicates them, and does not close them.
func (s *Session) IOEventFDs(region int) ([]IOEventFD, error) {
	if uint(region) >= uint(len(s.info.Regions)) {
		return nil, fmt.Errorf("region %d of %d: %w", region, len(s.info.Regions), errs.ErrInvalid)
	}
	s.io.mu.Lock()
	defer s.io.mu.Unlock()
	if s.io.closed {
		return nil, fmt.Errorf("region %d: session is closed: %w", region, errs.ErrGone)
	}
	if all, ok := s.io.offered[region]; ok {
		return slices.Clone(all), nil
	}
	var all []IOEventFD
	var watches []*watch
	for _, e := range s.info.Regions[region].IOEvents {
		fd, x, err := s.offerLocked(region, e)
		if err != nil {
			for _, x := range watches {
				s.io.watcher.remove(x)
			}
			return nil, fmt.Errorf("eventfd of region %d at %#x: %w", region, e.Offset, err)
		}
		all = append(all, IOEventFD{e, fd})
		watches = append(watches, x)
	}
	if s.io.offered == nil {
		s.io.offered = make(map[int][]IOEventFD)
	}
	s.io.offered[region] = all
	return slices.Clone(all), nil
}

func (s *Session) offerLocked(region int, e IOEvent) (fd int, x *watch, err error) {
	if err := s.fault.Hit("session: eventfd"); err != nil {
		return -1, nil, err
	}
	w, err := s.watcherLocked()
	if err != nil {
		return -1, nil, err
	}
	if fd, err = newEventFD(); err != nil {
		return -1, nil, err
	}
	var data uint64
	if e.Match != nil {
		data = *e.Match
	}
	if x, err = w.add(fd, s.eventWrite(region, e.Offset, e.Size, data)); err != nil {
		closeFD(fd)
		return -1, nil, err
	}
	return fd, x, nil
}

// eventWrite is the write that a signal stands for: like the registers of a
// PCI device, the value is little-endian. There is nobody to tell of an error
// but the region's counter.
func (s *Session) eventWrite(region int, off uint64, size uint32, data uint64) func() {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], data)
	return func() {
		if err := s.Write(s.life, region, off, p[:size]); err != nil {
			s.log.Debug("write by eventfd refused", "device", s.name, "err", err)
		}
	}
}

// AddIOEvent is VFIO_DEVICE_IOEVENTFD: each signal of the eventfd fd is a
// write of the low size bytes of data at off. fd is taken over, whatever the
// outcome; -1 undoes what was set up for the same region, off, size and data.
// Signals that come close together are one write.
//
// Errors: errs.ErrInvalid for a size other than 1, 2, 4 and 8, a place outside
// the region, one that cannot be written, for PCI outside the BARs, and what
// is no eventfd; errs.ErrExists when it is set up already; errs.ErrNoSpace
// above 1000; errs.ErrNotFound when there is nothing to undo (ENODEV in the
// kernel); errs.ErrGone when the session is closed.
func (s *Session) AddIOEvent(fd, region int, off uint64, size uint32, data uint64) error {
	taken := false
	err := s.addIOEvent(fd, addedEvent{region: region, off: off, size: size, data: data}, &taken)
	if fd >= 0 && !taken {
		closeFD(fd)
	}
	if err != nil {
		return fmt.Errorf("ioeventfd of region %d at %#x, %d bytes: %w", region, off, size, err)
	}
	return nil
}

func (s *Session) addIOEvent(fd int, e addedEvent, taken *bool) error {
	if err := s.checkIOEvent(fd, &e); err != nil {
		return err
	}
	gone, err := s.changeIOEvent(fd, &e, taken)
	if gone != nil {
		// Without the lock: its write may be under way, and may take long.
		if w, werr := s.watcher(); werr == nil {
			w.remove(gone)
		}
	}
	return err
}

func (s *Session) changeIOEvent(fd int, e *addedEvent, taken *bool) (gone *watch, err error) {
	s.io.mu.Lock()
	defer s.io.mu.Unlock()
	if s.io.closed {
		return nil, fmt.Errorf("session is closed: %w", errs.ErrGone)
	}
	i := slices.IndexFunc(s.io.added, e.same)
	switch {
	case fd < 0 && i < 0:
		return nil, errs.ErrNotFound
	case fd < 0:
		gone = s.io.added[i].watch
		s.io.added = slices.Delete(s.io.added, i, i+1)
		return gone, nil
	case i >= 0:
		return nil, errs.ErrExists
	case len(s.io.added) >= maxIOEvents:
		return nil, errs.ErrNoSpace
	}
	w, err := s.watcherLocked()
	if err != nil {
		return nil, err
	}
	if e.watch, err = w.add(fd, s.eventWrite(e.region, e.off, e.size, e.data)); err != nil {
		return nil, err
	}
	*taken = true
	s.io.added = append(s.io.added, *e)
	return nil, nil
}

// checkIOEvent looks at what does not depend on the state.
func (s *Session) checkIOEvent(fd int, e *addedEvent) error {
	switch e.size {
	case 1, 2, 4, 8:
	default:
		return fmt.Errorf("size: %w", errs.ErrInvalid)
	}
	if uint(e.region) >= uint(len(s.info.Regions)) || s.info.API == APIPCI && e.region > BAR5 {
		return fmt.Errorf("no such region for it: %w", errs.ErrInvalid)
	}
	r := &s.info.Regions[e.region]
	if e.off > r.Size || uint64(e.size) > r.Size-e.off || r.Flags&RegionWrite == 0 {
		return fmt.Errorf("outside, or cannot be written: %w", errs.ErrInvalid)
	}
	if e.size < 8 {
		e.data &= 1<<(8*e.size) - 1
	}
	if fd < -1 {
		return fmt.Errorf("fd %d: %w", fd, errs.ErrInvalid)
	}
	if fd >= 0 {
		if _, err := checkEventFD(fd); err != nil {
			return err
		}
	}
	return nil
}
