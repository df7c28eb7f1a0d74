package mdevtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate/addr"
)

// Device is a fake device: regions of plain bytes, zero after each Open and
// Reset, that can be migrated. A test scripts the rest: the On functions are
// called in addition to what the device does, before it, and their error is
// its error. They are set before the device is opened.
//
// It notices when it is driven against the rules of mdev.Device: see
// Violations.
type Device struct {
	info *mdev.Info

	OnOpen    func(ctx context.Context, at *mdev.Attachment) error
	OnClose   func()
	OnRead    func(ctx context.Context, region int, off uint64, p []byte) error // after it, p is left alone
	OnWrite   func(ctx context.Context, region int, off uint64, p []byte) error
	OnReset   func(ctx context.Context, kind mdev.ResetKind) error
	OnQuiesce func(ctx context.Context) error

	// Stubborn keeps leases when their memory is to be unmapped.
	Stubborn bool

	// Fault fails steps: "device: open", "device: reset", "device: quiesce",
	// "device: save", "device: load", "device: read", "device: write".
	Fault *fault.Points

	mu       sync.Mutex
	at       *mdev.Attachment         // guarded by mu; nil while closed
	domain   *iommu.Domain            // guarded by mu
	owner    *pinning.Owner           // guarded by mu
	program  uint64                   // guarded by mu
	leases   map[uint64]pinning.Lease // guarded by mu
	mem      [][]byte                 // guarded by mu; by region
	calls    []string                 // guarded by mu
	wrong    []string                 // guarded by mu
	inside   int                      // guarded by mu; accesses under way
	alone    string                   // guarded by mu; the exclusive call under way
	stream   string                   // guarded by mu; the migration call under way
	quiesced bool                     // guarded by mu
}

// NewDevice returns a fake device of that description; nil is that of [Info].
func NewDevice(info *mdev.Info) *Device {
	if info == nil {
		info = Info()
	}
	return &Device{info: info}
}

// Info implements mdev.Device.
func (d *Device) Info() *mdev.Info { return d.info }

// Calls are the calls so far, in order, without Info, Read and Write.
func (d *Device) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.calls...)
}

// Violations are the rules of mdev.Device that whoever drove the device broke.
func (d *Device) Violations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.wrong...)
}

// Attachment is what the device was opened with; nil while it is closed.
func (d *Device) Attachment() *mdev.Attachment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// Quiesced reports whether the device stands still.
func (d *Device) Quiesced() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.quiesced
}

// Trigger raises an interrupt, as a device in the field would: not while it is
// quiesced or closed.
func (d *Device) Trigger(index, vector int) bool {
	d.mu.Lock()
	at := d.at
	if d.quiesced {
		at = nil
	}
	d.mu.Unlock()
	if at == nil {
		return false
	}
	at.IRQs.Trigger(index, vector)
	return true
}

// Hold pins [iova, iova+n) for a program, as a device does before it starts
// DMA. The lease is the caller's to release; it is released by an unmap (but
// see Stubborn), a reset and Close, too.
func (d *Device) Hold(iova addr.IOVA, n addr.Len, access addr.Access) (pinning.Lease, pinning.Pin, error) {
	d.mu.Lock()
	owner := d.owner
	d.program++
	program := d.program
	d.mu.Unlock()
	if owner == nil {
		return pinning.Lease{}, pinning.Pin{}, fmt.Errorf("fake device is closed: %w", errs.ErrGone)
	}
	lease := owner.Begin(program)
	pin, err := lease.Pin(iova, n, access)
	if err != nil {
		lease.Release()
		return lease, pin, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leases[program] = lease
	return lease, pin, nil
}

// cancel is told of programs that hold memory that is to be unmapped.
func (d *Device) cancel(program uint64, _ addr.Range[addr.IOVA]) {
	d.mu.Lock()
	lease := d.leases[program]
	delete(d.leases, program)
	d.mu.Unlock()
	if !d.Stubborn {
		lease.Release()
	}
}

// ReadDMA reads guest memory through a pin.
func (d *Device) ReadDMA(iova addr.IOVA, p []byte) error {
	return d.dma(iova, p, addr.Read, (*iommu.Domain).Read)
}

// WriteDMA writes guest memory through a pin.
func (d *Device) WriteDMA(iova addr.IOVA, p []byte) error {
	return d.dma(iova, p, addr.Write, (*iommu.Domain).Write)
}

func (d *Device) dma(iova addr.IOVA, p []byte, access addr.Access, do func(*iommu.Domain, addr.HPA, []byte) error) error {
	d.mu.Lock()
	domain := d.domain
	d.mu.Unlock()
	lease, pin, err := d.Hold(iova, addr.Len(len(p)), access)
	if err != nil {
		return err
	}
	defer lease.Release()
	if domain == nil { // opened only now
		return errs.ErrGone
	}
	for run := range pin.Runs() {
		if err := do(domain, run.HPA, p[:run.Len]); err != nil {
			return err
		}
		p = p[run.Len:]
	}
	return nil
}

// Open implements mdev.Device.
func (d *Device) Open(ctx context.Context, at *mdev.Attachment) error {
	if err := d.begin("open"); err != nil {
		return err
	}
	defer d.end()
	if d.OnOpen != nil {
		if err := d.OnOpen(ctx, at); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at != nil {
		d.wrongLocked("opened twice")
	}
	d.at, d.quiesced = at, false
	d.domain = at.Space.NewDomain(at.Name)
	d.leases = make(map[uint64]pinning.Lease)
	d.owner = at.Pinner.NewOwner(at.Name, d.domain, d.cancel)
	d.zeroLocked()
	return nil
}

func (d *Device) zeroLocked() {
	d.mem = make([][]byte, len(d.info.Regions))
	for i, r := range d.info.Regions {
		d.mem[i] = make([]byte, r.Size)
	}
}

// Close implements mdev.Device.
func (d *Device) Close() {
	_ = d.begin("close")
	defer d.end()
	if d.OnClose != nil {
		d.OnClose()
	}
	d.mu.Lock()
	owner, domain := d.owner, d.domain
	if d.at == nil {
		d.wrongLocked("closed while closed")
	}
	d.at, d.owner, d.domain = nil, nil, nil
	d.mu.Unlock()
	if owner != nil {
		owner.Close()
		domain.Close()
	}
}

// Read implements mdev.Device.
func (d *Device) Read(ctx context.Context, region int, off uint64, p []byte) error {
	defer d.access()()
	if err := d.Fault.Hit("device: read"); err != nil {
		return err
	}
	if d.OnRead != nil {
		return d.OnRead(ctx, region, off, p)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.mem[region][off:])
	return nil
}

// Write implements mdev.Device.
func (d *Device) Write(ctx context.Context, region int, off uint64, p []byte) error {
	defer d.access()()
	if err := d.Fault.Hit("device: write"); err != nil {
		return err
	}
	if d.OnWrite != nil {
		if err := d.OnWrite(ctx, region, off, p); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.mem[region][off:], p)
	return nil
}

// Reset implements mdev.Device.
func (d *Device) Reset(ctx context.Context, kind mdev.ResetKind) error {
	if err := d.begin("reset " + kind.String()); err != nil {
		return err
	}
	defer d.end()
	if d.OnReset != nil {
		if err := d.OnReset(ctx, kind); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for program, lease := range d.leases {
		lease.Release()
		delete(d.leases, program)
	}
	d.zeroLocked()
	return nil
}

// Quiesce implements mdev.Quiescer.
func (d *Device) Quiesce(ctx context.Context) error {
	if err := d.begin("quiesce"); err != nil {
		return err
	}
	defer d.end()
	if d.OnQuiesce != nil {
		if err := d.OnQuiesce(ctx); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quiesced {
		d.wrongLocked("quiesced twice")
	}
	d.quiesced = true
	return nil
}

// Unquiesce implements mdev.Quiescer.
func (d *Device) Unquiesce() {
	_ = d.begin("unquiesce")
	defer d.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.quiesced {
		d.wrongLocked("let go on while it runs")
	}
	d.quiesced = false
}
