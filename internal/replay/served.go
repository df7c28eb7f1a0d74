package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// patience is how long a program may take before its device counts as hung:
// longer than any budget lets one run.
const patience = 60 * time.Second

// served is the way to a device over vfio-user: what QEMU's hw/s390x/css.c and
// hw/vfio/ccw.c do for a guest's I/O instructions, with a client of ours.
type served struct {
	client *vfiouser.Client
	irq    int // eventfd of the I/O interrupt
	stops  chan func()
	wake   int // eventfd of stops

	// Of a device that is served here.
	dev    *ccwdev.Device
	server *vfiouser.Server
	done   chan error // of the server
}

// order is the byte order of this host, in which a VMM keeps its structures.
var order = binary.NativeEndian

// serve serves a device with the unit behind g to a client of its own.
func (m *machine) serve(g *gate, rec *recording.Record, pmcw *cio.PMCW) (_ way, err error) {
	s := newServed()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.dev, err = ccwdev.New(ccwdev.Config{
		Unit: ccwdev.Unit{Device: g, SenseID: rec.Device.SenseID}, DevNo: rec.Device.DevNo, PMCW: pmcw,
		Before: g.before,
	})
	if err != nil {
		return nil, err
	}
	s.server, err = vfiouser.NewServer(vfiouser.OpenDevice(s.dev), &vfiouser.ServerConfig{Session: mdev.SessionConfig{
		Name: rec.Scenario, Space: newSpace(m.opt), Pinning: noLimit(), Record: m.recorder(rec),
	}})
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	s.done = make(chan error, 1)
	go func() { s.done <- s.server.ServeConn(context.Background(), pair[0]) }()
	if s.client, err = vfiouser.NewClient(context.Background(), pair[1], nil); err != nil {
		return nil, err
	}
	return s, s.attach(m.ram)
}

func newServed() *served { return &served{irq: -1, wake: -1, stops: make(chan func(), 1)} }

// dial is the way to a device that another process serves at path.
func (m *machine) dial(path string) (way, error) {
	s := newServed()
	var err error
	if s.client, err = vfiouser.Dial(context.Background(), path, nil); err == nil {
		err = s.attach(m.ram)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// attach makes the memory of the guest the device's, and hears its interrupts.
func (s *served) attach(ram *RAM) (err error) {
	ctx := context.Background()
	for _, fd := range []*int{&s.irq, &s.wake} {
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return fmt.Errorf("eventfd: %w", err)
		}
	}
	info, err := s.client.DeviceInfo(ctx)
	if err != nil {
		return err
	}
	if info.API() != mdev.APICCW || info.Regions < ccw.NumRegions || info.IRQs < ccw.NumIRQs {
		return fmt.Errorf("is no channel-attached device: %q with %d regions: %w", info.API(), info.Regions, errs.ErrInvalid)
	}
	err = s.client.SetIRQs(ctx, mdev.IRQRequest{Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: ccw.IRQIO, Count: 1, FDs: []int{s.irq}})
	if err != nil {
		return err
	}
	if f := ram.File(); f != nil {
		return s.client.MapDMAFD(ctx, 0, ram.Size(), addr.ReadWrite, int(f.Fd()), 0)
	}
	return s.client.MapDMA(ctx, 0, ram.Size(), addr.ReadWrite, translate.Process(ram.HVA()))
}

// start writes the I/O region and waits for the interrupt that tells of the
// end. An errno of the write is what the guest is told of as a condition code
// where there is one for it.
func (s *served) start(orb *cio.ORB, _ bool) (answer, error) {
	ctx, end := context.WithTimeout(context.Background(), patience)
	defer end()
	p := make([]byte, ccw.RegionSize(ccw.RegionIO))
	be := binary.BigEndian
	order.PutUint32(p[0:], be.Uint32(orb.Raw[0:]))
	order.PutUint16(p[4:], be.Uint16(orb.Raw[4:]))
	p[6], p[7] = orb.Raw[6], orb.Raw[7]
	order.PutUint32(p[8:], be.Uint32(orb.Raw[8:]))
	order.PutUint16(p[14:], uint16(cio.StartFunction))
	if err := s.client.Write(ctx, ccw.RegionIO, 0, p); err != nil {
		switch errs.Errno(err) {
		case unix.EBUSY:
			return answer{cc: cio.CC2}, nil
		case unix.ENODEV, unix.EACCES:
			return answer{cc: cio.CC3}, nil
		}
		return answer{}, err
	}
	for {
		told, err := s.wait(ctx, silent(orb))
		if err != nil {
			return answer{}, err
		}
		if !told {
			var b [cio.SCHIBSize]byte
			if err := s.client.Read(ctx, ccw.RegionSCHIB, 0, b[:]); err != nil {
				return answer{}, err
			}
			if schib := cio.DecodeSCHIB(&b); schib.SCSW.AC()&cio.Suspended != 0 {
				return answer{irb: cio.IRB{SCSW: schib.SCSW}, tested: true}, nil
			}
			continue
		}
		if err := s.client.Read(ctx, ccw.RegionIO, 0, p); err != nil {
			return answer{}, err
		}
		irb := cio.DecodeIRB((*[cio.IRBExtendedSize]byte)(p[24:]))
		// The interrupt may be that of the program before, whose end was seen
		// when its intermediate status was told: then there is no status yet,
		// as the IRB is part of what the start wrote.
		const going = cio.StartPending | cio.ResumePending | cio.SubchannelActive
		if c := irb.SCSW.Control(); c&cio.StatusPending != 0 && c&going == 0 {
			return answer{irb: irb, tested: true}, nil
		}
	}
}

// silent reports whether a program may be suspended without an interrupt.
func silent(orb *cio.ORB) bool { return orb.Suspend() && orb.SuppressSuspend() }

// look is how often a guest looks at a subchannel that may say nothing.
const look = time.Millisecond

// wait waits for an interrupt and does what the device's unit asks for
// meanwhile. With poll it returns after a while without one: told is false.
func (s *served) wait(ctx context.Context, poll bool) (told bool, err error) {
	until, _ := ctx.Deadline()
	for {
		timeout := look
		if !poll {
			timeout = time.Until(until)
		}
		fds := []unix.PollFd{{Fd: int32(s.irq), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(timeout, 0)/time.Millisecond))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("poll: %w", err)
		case fds[1].Revents != 0:
			take(s.wake)
			(<-s.stops)()
			continue
		case n > 0:
			take(s.irq)
			return true, nil
		case s.client.Err() != nil:
			return false, s.client.Err()
		case poll:
			return false, nil
		}
		return false, fmt.Errorf("no interrupt: %w", errs.ErrDeadline)
	}
}

// take empties an eventfd.
func take(fd int) {
	var b [8]byte
	_, _ = unix.Read(fd, b[:]) // it was readable, and this is its only reader
}

// resumes: vfio-ccw has no region for it.
func (s *served) resumes() bool { return false }

// async writes the async region. When it is refused the program goes on, which
// shows.
func (s *served) async(cmd uint32) {
	var p [8]byte
	order.PutUint32(p[:], cmd)
	_ = s.client.Write(context.Background(), ccw.RegionAsync, 0, p[:])
}

// stop has the guest, which waits for the program, write the async region.
func (s *served) stop(clear bool) {
	cmd := uint32(ccw.AsyncHalt)
	if clear {
		cmd = ccw.AsyncClear
	}
	done := make(chan struct{})
	s.stops <- func() { s.async(cmd); close(done) }
	var one [8]byte
	order.PutUint64(one[:], 1)
	_, _ = unix.Write(s.wake, one[:]) // it cannot be full
	<-done
}

func (s *served) abandon() {
	s.async(ccw.AsyncClear)
	ctx, end := context.WithTimeout(context.Background(), patience)
	defer end()
	_, _ = s.wait(ctx, false) // of one that is not cleared, the next start tells
}

// modify: no MODIFY SUBCHANNEL reaches the device. What a start sets, and what
// is the guest's own affair, needs none.
//
// A device of another process is set up as it is.
func (s *served) modify(pmcw, was *cio.PMCW) bool {
	if s.dev == nil {
		return true
	}
	const flags = cio.PMCWConcurrentSense | cio.PMCWMultipath
	return sameSubchannel(*pmcw, *was) && pmcw.Flags()&flags == was.Flags()&flags && pmcw.LimitMode() == was.LimitMode()
}

func (s *served) device() *ccw.Device {
	if s.dev == nil {
		return nil
	}
	return s.dev.Subchannel()
}

func (s *served) close() error {
	var err error
	if s.client != nil {
		err = s.client.Close()
	}
	if s.done != nil {
		err = errors.Join(err, <-s.done)
	}
	if s.server != nil {
		err = errors.Join(err, s.server.Close())
	}
	for _, fd := range []int{s.irq, s.wake} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	return err
}
