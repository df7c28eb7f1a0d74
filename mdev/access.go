package mdev

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/softmdev/softmdev/mdev/errs"
)

// regionCounters are the accesses to one region.
type regionCounters struct{ reads, writes, errors atomic.Uint64 }

// Read fills p from the region at off. It waits for a reset, quiesce or
// migration step that is under way, as long as ctx; reading nothing succeeds.
//
// Errors, besides those of the device: errs.ErrInvalid for a region that there
// is not, a region that cannot be read and bytes that lie outside (EINVAL, as
// vfio_pci_rdwr.c); errs.ErrState where the state of the session or of its
// migration takes no access; errs.ErrGone when it is closed; errs.ErrDeadline
// when ctx ended the wait.
func (s *Session) Read(ctx context.Context, region int, off uint64, p []byte) error {
	if err := s.gate.enter(ctx); err != nil {
		return s.failed(region, waitError("access to "+s.name, err))
	}
	defer s.gate.leave()
	c, err := s.admit(region, off, uint64(len(p)), RegionRead)
	if err != nil {
		return s.failed(region, err)
	}
	c.reads.Add(1)
	if len(p) == 0 {
		return nil
	}
	if err := s.dev.Read(ctx, region, off, p); err != nil {
		return s.failed(region, s.at(region, off, uint64(len(p)), err))
	}
	return nil
}

// Write stores p in the region at off. Waits and errors are those of Read.
func (s *Session) Write(ctx context.Context, region int, off uint64, p []byte) error {
	if err := s.gate.enter(ctx); err != nil {
		return s.failed(region, waitError("access to "+s.name, err))
	}
	defer s.gate.leave()
	c, err := s.admit(region, off, uint64(len(p)), RegionWrite)
	if err != nil {
		return s.failed(region, err)
	}
	c.writes.Add(1)
	if len(p) == 0 {
		return nil
	}
	if err := s.dev.Write(ctx, region, off, p); err != nil {
		return s.failed(region, s.at(region, off, uint64(len(p)), err))
	}
	return nil
}

// admit decides whether the device may see an access.
func (s *Session) admit(region int, off, n uint64, want RegionFlags) (*regionCounters, error) {
	if uint(region) >= uint(len(s.info.Regions)) {
		return nil, fmt.Errorf("region %d of %d: %w", region, len(s.info.Regions), errs.ErrInvalid)
	}
	r := &s.info.Regions[region]
	switch st, mig := s.state.load(), MigState(s.mig.state.Load()); {
	case st != StateOpen && st != StateQuiesced:
		return nil, st.refuse("access")
	case !mig.answers():
		return nil, s.at(region, off, n, fmt.Errorf("migration state is %v: %w", mig, errs.ErrState))
	case off > r.Size || n > r.Size-off:
		return nil, s.at(region, off, n, fmt.Errorf("region has %#x bytes: %w", r.Size, errs.ErrInvalid))
	case n != 0 && r.Flags&want == 0:
		return nil, s.at(region, off, n, fmt.Errorf("cannot be %s: %w", accessNames[want], errs.ErrInvalid))
	}
	return &s.regions[region], nil
}

var accessNames = map[RegionFlags]string{RegionRead: "read", RegionWrite: "written"}

// failed counts an access that failed.
func (s *Session) failed(region int, err error) error {
	if uint(region) < uint(len(s.regions)) {
		s.regions[region].errors.Add(1)
	} else {
		s.refused.Add(1)
	}
	return err
}

// at says where an access failed.
func (s *Session) at(region int, off, n uint64, err error) error {
	return fmt.Errorf("region %d (%s) at %#x, %d bytes: %w", region, s.info.Regions[region].Name, off, n, err)
}
