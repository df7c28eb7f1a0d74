package ccwdev

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
)

// Unit is a control unit with its device: the hardware at the end of the path.
// It outlives those who use it.
type Unit struct {
	channel.Device

	// SenseID is what the device answers SENSE ID, for recordings; nil if it
	// does not.
	SenseID []byte
	// SystemReset, if not nil, puts the unit into the state in which a system
	// that was just started finds it. It is called for each user.
	SystemReset func()
	// Attach, if not nil, is called once with what tells the system of
	// unsolicited status. The function may be called at any time, by any
	// goroutine; what is told while nobody uses the device waits.
	Attach func(attention func(cio.DeviceStatus))
	// Close, if not nil, gives back what the unit holds.
	Close func() error
}

// Config says what a device is. Unit is needed.
type Config struct {
	Unit Unit
	// Name names the device in recordings, as a scenario, whoever uses it.
	// Empty: by who does (mdev.Attachment).
	Name string
	// DevNo is the device number.
	DevNo uint16
	// Order is the byte order in which the VMM's host keeps the ORB and the
	// SCSW that it writes, and the codes that it reads. Nil: this host's.
	Order binary.ByteOrder
	// PMCW is the path-management-control word that the subchannel starts
	// with. Nil: cio.DefaultPMCW with the device number.
	PMCW *cio.PMCW
	// Limits bounds the work of one program.
	Limits job.Limits
	// Before, if not nil, is called on the device's goroutine before hardware
	// begins what it was asked to: the moment at which a program is still
	// pending. For tools that need a program to be stopped then.
	Before func()
	// Fault fails steps in tests.
	Fault *fault.Points
}

// Device is a channel-attached device. It implements mdev.Device,
// mdev.Quiescer, mdev.Reporter and registry.Destroyer.
type Device struct {
	cfg    Config
	info   *mdev.Info
	record recording.Device
	counts counts

	mu   sync.Mutex
	user *user            // guarded by mu; who has the device open, nil if nobody
	owed cio.DeviceStatus // guarded by mu; unsolicited status that nobody was there to hear
}

var (
	_ mdev.Device   = (*Device)(nil)
	_ mdev.Quiescer = (*Device)(nil)
	_ mdev.Reporter = (*Device)(nil)
)

// regionType is VFIO_REGION_TYPE_CCW with the subtype of each device-specific
// region.
//
// Specification: linux/include/uapi/linux/vfio.h.
const regionType = 2

// The subtypes.
const (
	subtypeAsync = 1 + iota
	subtypeSCHIB
	subtypeCRW
)

// New makes a device, which takes cfg.Unit over, also when it fails.
func New(cfg Config) (*Device, error) {
	if cfg.Unit.Device == nil {
		return nil, fmt.Errorf("ccw device %04x without a unit: %w", cfg.DevNo, errs.ErrInvalid)
	}
	if cfg.Order == nil {
		cfg.Order = native()
	}
	pmcw := cio.DefaultPMCW()
	if cfg.PMCW != nil {
		pmcw = *cfg.PMCW
	} else {
		pmcw.SetDeviceNumber(cfg.DevNo)
	}
	if err := channel.CheckPMCW(&pmcw); err != nil {
		return nil, errors.Join(fmt.Errorf("ccw device %04x: %w", cfg.DevNo, err), cfg.Unit.close())
	}
	cfg.PMCW = &pmcw
	d := &Device{cfg: cfg, info: info(), record: deviceOf(cfg.DevNo, cfg.Unit.SenseID)}
	if cfg.Unit.Attach != nil {
		cfg.Unit.Attach(d.attention)
	}
	return d, nil
}

func (u *Unit) close() error {
	if u.Close == nil {
		return nil
	}
	return u.Close()
}

// native is the byte order of this host.
func native() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func info() *mdev.Info {
	const rw = mdev.RegionRead | mdev.RegionWrite
	region := func(index int, name string, flags mdev.RegionFlags, subtype uint32) mdev.RegionInfo {
		r := mdev.RegionInfo{Name: name, Size: uint64(ccw.RegionSize(index)), Flags: flags}
		if subtype != 0 {
			r.Type = &mdev.RegionType{Type: regionType, Subtype: subtype}
		}
		return r
	}
	irq := func(name string) mdev.IRQInfo { return mdev.IRQInfo{Name: name, Count: 1, Flags: mdev.IRQEventFD} }
	return &mdev.Info{
		API: mdev.APICCW, Reset: true,
		Regions: []mdev.RegionInfo{
			ccw.RegionIO:    region(ccw.RegionIO, "io", rw, 0),
			ccw.RegionAsync: region(ccw.RegionAsync, "async", rw, subtypeAsync),
			ccw.RegionSCHIB: region(ccw.RegionSCHIB, "schib", mdev.RegionRead, subtypeSCHIB),
			ccw.RegionCRW:   region(ccw.RegionCRW, "crw", mdev.RegionRead, subtypeCRW),
		},
		IRQs: []mdev.IRQInfo{ccw.IRQIO: irq("io"), ccw.IRQCRW: irq("crw"), ccw.IRQRequest: irq("request")},
	}
}

// Info implements [mdev.Device].
func (d *Device) Info() *mdev.Info { return d.info }

// Open implements [mdev.Device]: the subchannel is as after a reset, the unit
// as a system finds it that was just started.
func (d *Device) Open(_ context.Context, at *mdev.Attachment) error {
	d.mu.Lock()
	taken := d.user != nil
	d.mu.Unlock()
	if taken {
		return fmt.Errorf("ccw device %04x is open: %w", d.cfg.DevNo, errs.ErrBusy)
	}
	if d.cfg.Unit.SystemReset != nil {
		d.cfg.Unit.SystemReset()
	}
	u, err := newUser(d, at)
	if err != nil {
		return fmt.Errorf("ccw device %04x: %w", d.cfg.DevNo, err)
	}
	d.mu.Lock()
	d.user = u
	owed := d.owed
	d.owed = 0
	d.mu.Unlock()
	if owed != 0 {
		u.regions.Device().Attention(owed)
	}
	return nil
}

// Close implements [mdev.Device]. It waits for a program that runs, which ends
// at its next CCW or page of data.
func (d *Device) Close() {
	d.mu.Lock()
	u := d.user
	d.user = nil
	d.mu.Unlock()
	if u != nil {
		u.close()
	}
}

// opened is who has the device open.
func (d *Device) opened() (*user, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user == nil {
		return nil, fmt.Errorf("ccw device %04x is not open: %w", d.cfg.DevNo, errs.ErrState)
	}
	return d.user, nil
}

// Read implements [mdev.Device].
func (d *Device) Read(_ context.Context, region int, off uint64, p []byte) error {
	u, err := d.opened()
	if err != nil {
		return err
	}
	return u.regions.Read(region, int64(off), p)
}

// Write implements [mdev.Device]. Its error is the return code of the region.
func (d *Device) Write(_ context.Context, region int, off uint64, p []byte) error {
	u, err := d.opened()
	if err != nil {
		return err
	}
	return u.regions.Write(region, int64(off), p)
}

// Reset implements [mdev.Device]: what runs is cleared, the regions and the
// subchannel are as after Open. The unit gets a selective reset; a client that
// is lost is no other matter.
func (d *Device) Reset(ctx context.Context, _ mdev.ResetKind) error {
	u, err := d.opened()
	if err != nil {
		return err
	}
	return u.reset(ctx)
}

// Quiesce implements [mdev.Quiescer].
func (d *Device) Quiesce(ctx context.Context) error {
	u, err := d.opened()
	if err != nil {
		return err
	}
	return u.worker.pause(ctx)
}

// Unquiesce implements [mdev.Quiescer].
func (d *Device) Unquiesce() {
	if u, err := d.opened(); err == nil {
		u.worker.resume()
	}
}

// attention is unsolicited status of the unit.
func (d *Device) attention(s cio.DeviceStatus) {
	d.mu.Lock()
	u := d.user
	if u == nil {
		d.owed |= s
	}
	d.mu.Unlock()
	if u != nil {
		u.regions.Device().Attention(s)
	}
}

// ChannelReport tells who has the device open that a path or the subchannel
// changed.
func (d *Device) ChannelReport(w cio.CRW) {
	if u, err := d.opened(); err == nil {
		u.regions.Report(w)
	}
}

// Subchannel is the mediator behind the regions of who has the device open, to
// be looked at; nil if nobody has.
func (d *Device) Subchannel() *ccw.Device {
	u, err := d.opened()
	if err != nil {
		return nil
	}
	return u.regions.Device()
}

// Destroy gives back what the unit holds. The device is closed, and not used
// any more.
func (d *Device) Destroy() { _ = d.cfg.Unit.close() }
