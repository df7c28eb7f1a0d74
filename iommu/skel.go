package iommu

import (
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Config configures a Space.
type Config struct {
	Layout Layout
	Seed   uint64
	Faults int
}

// Space is the frame space of a host.
type Space struct{}

// NewSpace makes a space.
func NewSpace(cfg *Config) *Space { return &Space{} }

// Frames is memory of our own.
type Frames struct {
	HPA addr.HPA
	Mem []byte
}

// Alloc allots frames.
func (s *Space) Alloc(n addr.Len, below addr.HPA) (*Frames, error) {
	return nil, errs.ErrNotSupported
}

// Free gives them back.
func (f *Frames) Free() {}

// Domain is the reach of one device.
type Domain struct{}

// NewDomain makes a domain.
func (s *Space) NewDomain(name string) *Domain { return &Domain{} }

// Name is the name.
func (d *Domain) Name() string { return "" }

// Close ends it.
func (d *Domain) Close() {}

// GrantFrames grants.
func (d *Domain) GrantFrames(f *Frames, access addr.Access) error { return errs.ErrNotSupported }

// RevokeFrames revokes.
func (d *Domain) RevokeFrames(f *Frames) {}

// Trap answers reads.
func (d *Domain) Trap(r addr.Range[addr.HPA], read func(hpa addr.HPA, p []byte) error) (remove func()) {
	return func() {}
}

// Read reads.
func (d *Domain) Read(hpa addr.HPA, p []byte) error { return errs.ErrReach }

// Write writes.
func (d *Domain) Write(hpa addr.HPA, p []byte) error { return errs.ErrReach }

// Fault is one refused access.
type Fault struct {
	Seq    uint64
	HPA    addr.HPA
	Len    addr.Len
	Access addr.Access
	Err    error
}

// Faults lists.
func (d *Domain) Faults() []Fault { return nil }

// FaultCount counts.
func (d *Domain) FaultCount() uint64 { return 0 }
