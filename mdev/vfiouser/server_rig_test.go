//go:build linux

package vfiouser

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Regions of rigDevice.
const (
	rigRegs   = mdev.BAR0 // 4 KiB, registers that keep what is written, I/O events
	rigSparse = mdev.BAR2 // 64 KiB, of which 0x1000 to 0x3fff may be mapped
	rigWhole  = mdev.BAR3 // 64 KiB, all of it may be mapped
	rigBig    = mdev.BAR4 // 2 MiB, read only
	rigTyped  = 9         // 4 KiB, device-specific
)

// rigDevice has something for every message.
type rigDevice struct {
	info mdev.Info

	// Hooks, set before a client comes. They run in the serving goroutine, and
	// onWrite where I/O events are taken as well.
	onRead  func(region int, off uint64, p []byte) error
	onWrite func(region int, off uint64, p []byte) error
	onReset func(mdev.ResetKind) error

	mu     sync.Mutex
	at     *mdev.Attachment
	regs   [4096]byte
	opens  int
	closes int
	resets []mdev.ResetKind
	domain *iommu.Domain
	owner  *pinning.Owner
	work   sync.WaitGroup // DMA under way
	seq    atomic.Uint64
	state  []byte // what migration carries
	loaded []byte
}

func newRigDevice(t testing.TB) *rigDevice {
	file := func() *os.File {
		fd, err := unix.MemfdCreate("region", unix.MFD_CLOEXEC)
		require.NoError(t, err)
		f := os.NewFile(uintptr(fd), "region")
		require.NoError(t, f.Truncate(1<<20))
		t.Cleanup(func() { f.Close() })
		return f
	}
	regions := make([]mdev.RegionInfo, 10)
	match := uint64(0x55)
	regions[rigRegs] = mdev.RegionInfo{Name: "regs", Size: 4096, Flags: mdev.RegionRead | mdev.RegionWrite, IOEvents: []mdev.IOEvent{
		{Offset: 0x100, Size: 4}, {Offset: 0x200, Size: 2, Match: &match},
	}}
	regions[rigSparse] = mdev.RegionInfo{Name: "sparse", Size: 64 << 10, Flags: mdev.RegionRead | mdev.RegionWrite | mdev.RegionMmap,
		Areas: []mdev.Area{{Offset: 0x1000, Size: 0x3000}}, Memory: file(), MemoryOffset: 0x10000}
	regions[rigWhole] = mdev.RegionInfo{Name: "whole", Size: 64 << 10, Flags: mdev.RegionRead | mdev.RegionWrite | mdev.RegionMmap, Memory: file()}
	regions[rigBig] = mdev.RegionInfo{Name: "big", Size: 2 << 20, Flags: mdev.RegionRead}
	regions[mdev.Config] = mdev.RegionInfo{Name: "config", Size: 256, Flags: mdev.RegionRead | mdev.RegionWrite}
	regions[rigTyped] = mdev.RegionInfo{Name: "typed", Size: 4096, Flags: mdev.RegionRead, Type: &mdev.RegionType{Type: 3, Subtype: 9}}
	return &rigDevice{
		info: mdev.Info{
			API: mdev.APIPCI, Reset: true, Regions: regions,
			IRQs: []mdev.IRQInfo{
				mdev.IRQINTx: {Name: "INTx", Count: 1, Flags: mdev.IRQEventFD | mdev.IRQMaskable | mdev.IRQAutoMasked},
				mdev.IRQMSI:  {Name: "MSI", Flags: mdev.IRQEventFD},
				mdev.IRQMSIX: {Name: "MSI-X", Count: 20, Flags: mdev.IRQEventFD},
				mdev.IRQERR:  {Name: "ERR", Count: 1, Flags: mdev.IRQEventFD},
				mdev.IRQREQ:  {Name: "REQ", Count: 1, Flags: mdev.IRQEventFD},
			},
			Migration: mdev.MigrationStopCopy | mdev.MigrationPreCopy,
		},
		state: bytes.Repeat([]byte("state of the device;"), 1000),
	}
}

func (d *rigDevice) Info() *mdev.Info { return &d.info }

func (d *rigDevice) Open(_ context.Context, at *mdev.Attachment) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.opens = at, d.opens+1
	d.domain = at.Space.NewDomain("engine")
	d.owner = at.Pinner.NewOwner("engine", d.domain, nil)
	return nil
}

func (d *rigDevice) Close() {
	d.mu.Lock()
	d.at, d.closes = nil, d.closes+1 // no new work
	d.mu.Unlock()
	d.work.Wait()
	d.owner.Close()
}

func (d *rigDevice) Read(_ context.Context, region int, off uint64, p []byte) error {
	if d.onRead != nil {
		if err := d.onRead(region, off, p); err != nil {
			return err
		}
	}
	if region == rigRegs {
		d.mu.Lock()
		copy(p, d.regs[off:])
		d.mu.Unlock()
		return nil
	}
	for i := range p {
		p[i] = byte(off) + byte(i) + byte(region)<<4
	}
	return nil
}

func (d *rigDevice) Write(_ context.Context, region int, off uint64, p []byte) error {
	if d.onWrite != nil {
		if err := d.onWrite(region, off, p); err != nil {
			return err
		}
	}
	if region == rigRegs {
		d.mu.Lock()
		copy(d.regs[off:], p)
		d.mu.Unlock()
	}
	return nil
}

func (d *rigDevice) Reset(_ context.Context, kind mdev.ResetKind) error {
	d.mu.Lock()
	d.resets = append(d.resets, kind)
	d.mu.Unlock()
	if d.onReset != nil {
		return d.onReset(kind)
	}
	return nil
}

func (d *rigDevice) Quiesce(context.Context) error { return nil }
func (d *rigDevice) Unquiesce()                    {}

func (d *rigDevice) Save(_ context.Context, w io.Writer) error {
	_, err := w.Write(d.state)
	return err
}

func (d *rigDevice) PreCopy(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "early")
	return err
}

func (d *rigDevice) Load(_ context.Context, r io.Reader) error {
	b, err := io.ReadAll(r)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loaded = b
	return err
}

// begin notes work of an engine; end ends it. It fails while the device is not
// open.
func (d *rigDevice) begin() (at *mdev.Attachment, end func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		return nil, nil, io.ErrClosedPipe
	}
	d.work.Add(1)
	return d.at, d.work.Done, nil
}

// dma reads or writes guest memory as an engine of the device would, on the
// calling goroutine, which must not be the serving one.
func (d *rigDevice) dma(iova addr.IOVA, p []byte, write bool) error {
	at, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	return readerDMA(at, iova, p, write)
}

func readerDMA(at *mdev.Attachment, iova addr.IOVA, p []byte, write bool) error {
	r := at.Store.NewReader()
	defer r.Close()
	if write {
		return r.Write(iova, p)
	}
	return r.Read(iova, p)
}

// leasedDMA is the same by way of a lease and the engine's own reach. The
// device is open.
func (d *rigDevice) leasedDMA(iova addr.IOVA, p []byte, write bool) error {
	lease := d.owner.Begin(d.seq.Add(1))
	defer lease.Release()
	access := addr.Read
	if write {
		access = addr.Write
	}
	pin, err := lease.Pin(iova, addr.Len(len(p)), access)
	switch {
	case err != nil:
		return err
	case write:
		return d.domain.Write(pin.HPA(), p)
	}
	return d.domain.Read(pin.HPA(), p)
}

// ring starts DMA of n bytes, of which nobody waits for the end, but the device
// when it is closed.
func (d *rigDevice) ring(iova addr.IOVA, n int, write, leased bool) {
	at, end, err := d.begin()
	if err != nil {
		return
	}
	go func() {
		defer end()
		if leased {
			_ = d.leasedDMA(iova, make([]byte, n), write)
		} else {
			_ = readerDMA(at, iova, make([]byte, n), write)
		}
	}()
}

// openings is how often it was opened and closed.
func (d *rigDevice) openings() [2]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return [2]int{d.opens, d.closes}
}

func (d *rigDevice) attachment() *mdev.Attachment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// rig is a server with one client, which is a bare socket.
type rig struct {
	*socketEnd
	s      *Server
	dev    *rigDevice
	served chan error
	ended  bool
	log    *testLog
}

// testLog keeps what is logged.
type testLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig serves a device to a client that has not negotiated yet, after setup
// has changed it. When the test ends the client hangs up, and no descriptor is
// left.
func newRig(t testing.TB, cfg *ServerConfig, setup ...func(*rigDevice)) *rig {
	t.Helper()
	noLeaks(t)
	if cfg == nil {
		cfg = &ServerConfig{}
	}
	r := &rig{dev: newRigDevice(t), log: &testLog{}}
	for _, f := range setup {
		f(r.dev)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var err error
	r.s, err = NewServer(OpenDevice(r.dev), cfg)
	require.NoError(t, err)
	r.attach(t)
	t.Cleanup(func() {
		r.end()
		require.NoError(t, r.s.Close())
		if t.Failed() {
			log := r.log.String()
			t.Log(log[max(0, len(log)-2000):])
		}
	})
	return r
}

// attach connects a new client.
func (r *rig) attach(t testing.TB) {
	t.Helper()
	x, y := socketPair(t)
	r.served, r.ended = make(chan error, 1), false
	go func(served chan error) { served <- r.s.ServeConn(context.Background(), y) }(r.served)
	r.socketEnd = newSocketEnd(t, x)
}

// end hangs up and waits for the server, if that is not done.
func (r *rig) end() error {
	r.hangUp()
	return r.wait()
}

// wait waits until the server is done with the client, and says why.
func (r *rig) wait() error {
	if r.ended {
		return nil
	}
	r.ended = true
	select {
	case err := <-r.served:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("the server does not end")
		return nil
	}
}

var discard = slog.New(slog.DiscardHandler)

const rigJSON = `{"capabilities":{"max_msg_fds":16,"write_multiple":true}}` + "\x00"

// negotiated is newRig with a client that has negotiated.
func negotiated(t testing.TB, cfg *ServerConfig, setup ...func(*rigDevice)) *rig {
	t.Helper()
	r := newRig(t, cfg, setup...)
	r.negotiate(rigJSON)
	return r
}

func (r *rig) negotiate(json string) wire.Capabilities {
	r.t.Helper()
	h, body, _ := r.call(wire.CmdVersion, append(wire.Version{Minor: 1}.Append(nil), json...))
	require.Zero(r.t, h.Errno, "VERSION")
	caps, err := wire.ParseCapabilities(body[wire.VersionLen:])
	require.NoError(r.t, err)
	return caps
}

// call sends a command and receives the reply to it.
func (r *rig) call(c wire.Command, payload []byte, fds ...int) (wire.Header, []byte, []int) {
	r.t.Helper()
	id := uint16(len(payload)*7) + uint16(c)
	r.write(frame(id, c, 0, payload), fds...)
	h, body, files := r.next()
	require.Equal(r.t, id, h.ID, "the ID is echoed")
	require.Equal(r.t, c, h.Command, "the command is echoed")
	require.Zero(r.t, h.Flags&^(wire.TypeReply|wire.Error))
	require.Equal(r.t, wire.TypeReply, h.Flags.Type())
	if h.Flags&wire.Error != 0 {
		require.Equal(r.t, uint32(wire.HeaderLen), h.Size, "an error reply is a header alone")
		require.Empty(r.t, files)
	} else {
		require.Zero(r.t, h.Errno)
	}
	return h, body, files
}

// ok is call of a command that has to succeed.
func (r *rig) ok(c wire.Command, payload []byte, fds ...int) []byte {
	r.t.Helper()
	h, body, _ := r.call(c, payload, fds...)
	require.Zero(r.t, h.Flags&wire.Error, "%v: errno %d", c, h.Errno)
	return body
}

// errno is call of a command, and the errno of the reply.
func (r *rig) errno(c wire.Command, payload []byte, fds ...int) unix.Errno {
	r.t.Helper()
	h, _, _ := r.call(c, payload, fds...)
	return unix.Errno(h.Errno)
}

// alive requires that the session goes on.
func (r *rig) alive() {
	r.t.Helper()
	r.ok(wire.CmdRegionRead, wire.RegionAccess{Region: rigRegs, Count: 4}.Append(nil))
}

// mapFile maps n bytes of a file.
func (r *rig) mapFile(iova, n, off uint64, flags wire.MapFlags, fd int) unix.Errno {
	r.t.Helper()
	return r.errno(wire.CmdDMAMap, wire.DMAMap{Argsz: 32, Flags: flags, Offset: off, Address: iova, Size: n}.Append(nil), fd)
}

// mapNothing maps memory that is to be reached by messages.
func (r *rig) mapNothing(iova, n uint64, flags wire.MapFlags) unix.Errno {
	r.t.Helper()
	return r.errno(wire.CmdDMAMap, wire.DMAMap{Argsz: 32, Flags: flags, Address: iova, Size: n}.Append(nil))
}

func (r *rig) unmap(iova, n uint64) unix.Errno {
	r.t.Helper()
	return r.errno(wire.CmdDMAUnmap, wire.DMAUnmap{Argsz: 24, Address: iova, Size: n}.Append(nil))
}

// wireRow is a request and what has to come back.
type wireRow struct {
	name    string
	c       wire.Command
	payload []byte
	files   int // memfds that go with it
	want    unix.Errno
	reply   []byte // exactly; nil: not looked at
}

// run runs the rows on one session, which has to go on after each.
func (r *rig) run(t *testing.T, rows []wireRow) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			fds := make([]int, row.files)
			for i := range fds {
				fds[i] = memFile(t, 1<<20)
			}
			h, body, _ := r.call(row.c, row.payload, fds...)
			require.Equal(t, row.want, unix.Errno(h.Errno), "%v: %s", h, row.want.Error())
			require.Equal(t, row.want != 0, h.Flags&wire.Error != 0)
			if row.reply != nil {
				require.Equal(t, row.reply, body)
			}
			r.alive()
		})
	}
}

// link is the server's end of the connection. What belongs to the serving
// goroutine is not to be looked at.
func (r *rig) link() *link {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.current
}

// mappings are what the session's store has mapped.
func (r *rig) mappings() []translate.Mapping {
	var ms []translate.Mapping
	for m := range r.s.Session().Store().Mappings() {
		ms = append(ms, m)
	}
	return ms
}

// cat is the concatenation of the parts of a payload.
func cat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		case interface{ Append([]byte) []byte }:
			b = p.Append(b)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return b
}
