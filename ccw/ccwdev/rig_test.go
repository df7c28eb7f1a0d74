package ccwdev_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/dasd"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/mdev/registry"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Where the tests put things in the 64 KiB of a guest.
const (
	memSize = 64 << 10
	codeAt  = 0x1000
	dataAt  = 0x8000
)

const (
	cc  = cio.ChainCommand
	sli = cio.SuppressLength
)

func c(cmd cio.Command, f cio.Flags, count uint16, a uint32) cio.CCW {
	return cio.CCW{Command: cmd, Flags: f, Count: count, Addr: a}
}

// vm is a guest's system with a session on a device.
type vm struct {
	t     testing.TB
	s     *mdev.Session
	mem   []byte
	order binary.ByteOrder
	io    chan struct{} // an I/O interrupt
}

// newVM opens dev, whose VMM keeps its structures in order, for a guest with
// ordinary memory.
func newVM(t testing.TB, dev mdev.Device, order binary.ByteOrder, cfg *mdev.SessionConfig) *vm {
	t.Helper()
	v := &vm{t: t, order: order, mem: make([]byte, memSize), io: make(chan struct{}, 64)}
	v.s = mdevtest.Open(t, dev, cfg)
	require.NoError(t, v.s.IRQs().Func(ccw.IRQIO, 0, func() {
		select {
		case v.io <- struct{}{}:
		default: // as an eventfd that is full: there is enough to be heard
		}
	}))
	return v
}

// ram maps the guest's memory as memory of this process.
func (v *vm) ram() *vm {
	v.t.Helper()
	require.NoError(v.t, v.s.Map(0, memSize, translate.Bytes(v.mem), addr.ReadWrite))
	return v
}

func (v *vm) close() {
	v.t.Helper()
	require.NoError(v.t, v.s.Close(context.Background()))
}

// program puts a format-1 program to codeAt.
func (v *vm) program(list ...cio.CCW) {
	for i, w := range list {
		b := w.Encode1()
		copy(v.mem[codeAt+8*i:], b[:])
	}
}

func orb() cio.ORB {
	var o cio.ORB
	o.SetFormat1(true)
	o.SetPrefetch(true)
	o.SetParam(0x5AFE)
	o.SetLPM(0x80)
	o.SetProgram(codeAt)
	return o
}

// request is what is written to region 0 to start o.
func (v *vm) request(o cio.ORB) []byte {
	p := make([]byte, ccw.RegionSize(ccw.RegionIO))
	be := binary.BigEndian
	v.order.PutUint32(p[0:], be.Uint32(o.Raw[0:]))
	v.order.PutUint16(p[4:], be.Uint16(o.Raw[4:]))
	p[6], p[7] = o.Raw[6], o.Raw[7]
	v.order.PutUint32(p[8:], be.Uint32(o.Raw[8:]))
	v.order.PutUint16(p[14:], uint16(cio.StartFunction))
	return p
}

func (v *vm) start(o cio.ORB) error {
	return v.s.Write(v.t.Context(), ccw.RegionIO, 0, v.request(o))
}

func (v *vm) async(cmd uint32) error {
	var p [8]byte
	v.order.PutUint32(p[:], cmd)
	return v.s.Write(v.t.Context(), ccw.RegionAsync, 0, p[:])
}

func (v *vm) read(region int) []byte {
	v.t.Helper()
	p := make([]byte, ccw.RegionSize(region))
	require.NoError(v.t, v.s.Read(v.t.Context(), region, 0, p))
	return p
}

func (v *vm) irb() cio.IRB {
	v.t.Helper()
	return cio.DecodeIRB((*[96]byte)(v.read(ccw.RegionIO)[24:]))
}

// interrupt waits for an I/O interrupt and returns the IRB.
func (v *vm) interrupt() cio.IRB {
	v.t.Helper()
	select {
	case <-v.io:
	case <-time.After(20 * time.Second):
		require.FailNow(v.t, "no interrupt")
	}
	return v.irb()
}

// quiet requires that no interrupt was raised.
func (v *vm) quiet() {
	v.t.Helper()
	require.Empty(v.t, v.io, "an interrupt nobody asked for")
}

// run runs a program to its end.
func (v *vm) run(list ...cio.CCW) cio.IRB {
	v.t.Helper()
	v.program(list...)
	require.NoError(v.t, v.start(orb()))
	return v.interrupt()
}

// ended requires that irb tells of a program that went through.
func ended(t testing.TB, irb cio.IRB) {
	t.Helper()
	require.Equal(t, cio.Ended, irb.SCSW.Device(), "%v", irb.SCSW)
	require.Zero(t, irb.SCSW.Subchannel(), "%v", irb.SCSW)
}

// metric is a number of the device's report.
func metric(t testing.TB, d mdev.Reporter, name string, labels ...mdev.Label) float64 {
	t.Helper()
	for _, m := range d.Report() {
		if m.Name == name && (len(labels) == 0 && len(m.Labels) == 0 || len(labels) == 1 && len(m.Labels) == 1 && m.Labels[0] == labels[0]) {
			return m.Value
		}
	}
	return 0
}

func rejected(t testing.TB, d mdev.Reporter, reason string) float64 {
	return metric(t, d, "rejected", mdev.Label{Name: "reason", Value: reason})
}

// door is a unit whose commands wait until they are let through; then reads get
// as many bytes v as the channel offers.
type door struct {
	entered chan cio.Command
	leave   chan struct{}
	mu      sync.Mutex
	resets  int
}

func newDoor() *door {
	return &door{entered: make(chan cio.Command, 16), leave: make(chan struct{}, 16)}
}

func (d *door) Begin()        {}
func (d *door) Sense() []byte { return nil }
func (d *door) Reset() {
	d.mu.Lock()
	d.resets++
	d.mu.Unlock()
}

func (d *door) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	d.entered <- cmd
	<-d.leave
	if cmd.Class(true).Input() {
		b := make([]byte, x.Remaining())
		for i := range b {
			b[i] = 0x77
		}
		x.Store(b)
	} else if n := x.Remaining(); n > 0 && cmd != cio.NOP {
		x.Fetch(make([]byte, n))
	}
	return cio.Ended
}

// behind is a device in front of u.
func behind(t testing.TB, u channel.Device, order binary.ByteOrder) *ccwdev.Device {
	t.Helper()
	d, err := ccwdev.New(ccwdev.Config{Unit: ccwdev.Unit{Device: u}, DevNo: 0x0120, Order: order})
	require.NoError(t, err)
	return d
}

// of makes a device of a type, which is destroyed when the test ends.
func of(t testing.TB, typ string, attrs ...registry.Attr) *ccwdev.Device {
	t.Helper()
	d, err := ccwdev.NewOf(typ, "", attrs)
	require.NoError(t, err)
	t.Cleanup(d.Destroy)
	return d
}

func attr(name, value string) registry.Attr { return registry.Attr{Name: name, Value: value} }

// rawImage is the image of an FBA volume of n blocks, each full of its number.
func rawImage(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n*512)
	for i := range b {
		b[i] = byte(i / 512)
	}
	path := filepath.Join(t.TempDir(), "disk.fba")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// ckdImage is the image of an empty 3390 volume.
func ckdImage(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.ckd")
	img, err := dasd.Create(path, dasd.CreateConfig{Cylinders: 1})
	require.NoError(t, err)
	require.NoError(t, img.Close())
	return path
}
