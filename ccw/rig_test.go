package ccw_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// Where the tests put things, in the storage of package ccwtest: 64 KiB that
// can be read and written from 0 on, 16 KiB read-only behind it, then a hole.
const (
	codeAt = 0x1000
	listAt = 0x4000
	dataAt = 0x8000
	rwEnd  = 64 << 10 // read-only from here
	roEnd  = 80 << 10 // nothing from here
	highAt = 96 << 10 // storage again
	woAt   = 128 << 10
	farAt  = 1 << 40 // storage that only 64 bits name
)

// Controls of an ORB by what the rows say of them.
const (
	f0  cio.ORBFlags = cio.ORBPrefetch                  // format 0, prefetch allowed
	f1               = cio.ORBPrefetch | cio.ORBFormat1 // format 1
	f0p cio.ORBFlags = 0                                // format 0, no prefetch
	f1p              = cio.ORBFormat1                   // format 1, no prefetch
	h                = cio.ORBIDAW2
	h2k              = cio.ORBIDAW2 | cio.ORBBlock2K
	mid              = cio.ORBMIDAW
)

const (
	cd   = cio.ChainData
	cc   = cio.ChainCommand
	sli  = cio.SuppressLength
	skip = cio.Skip
	pci  = cio.ProgramControlled
	ida  = cio.Indirect
	susp = cio.Suspend
	mida = cio.Modified
)

func orbOf(f cio.ORBFlags) cio.ORB {
	var o cio.ORB
	o.SetFlags(f)
	o.SetParam(0x5AFE)
	o.SetLPM(0x80)
	o.SetProgram(codeAt)
	return o
}

func c(cmd cio.Command, f cio.Flags, count uint16, a uint32) cio.CCW {
	return cio.CCW{Command: cmd, Flags: f, Count: count, Addr: a}
}

func tic(a uint32) cio.CCW { return cio.CCW{Command: cio.TIC, Addr: a} }

// image is storage with a hand for channel programs.
type image struct{ *ccwtest.Storage }

func newImage() image { return image{ccwtest.NewStorage()} }

func (m image) put(a uint64, b ...byte) { copy(m.At(addr.IOVA(a)), b) }

func (m image) ccws(a uint64, f cio.ORBFlags, cs ...cio.CCW) {
	for i, w := range cs {
		b := w.Encode(f&cio.ORBFormat1 != 0)
		m.put(a+uint64(i)*cio.CCWSize, b[:]...)
	}
}

func (m image) idaw1(a uint64, ws ...uint32) {
	for i, w := range ws {
		m.put(a+uint64(i)*4, binary.BigEndian.AppendUint32(nil, w)...)
	}
}

func (m image) idaw2(a uint64, ws ...uint64) {
	for i, w := range ws {
		m.put(a+uint64(i)*8, binary.BigEndian.AppendUint64(nil, w)...)
	}
}

func (m image) midaws(a uint64, ws ...cio.MIDAW) {
	for i, w := range ws {
		b := w.Encode()
		m.put(a+uint64(i)*16, b[:]...)
	}
}

// setup is what a rig is made of; a test changes what it needs.
type setup struct {
	mem     image
	dev     channel.Device
	ccw     ccw.Config
	pin     pinning.Config
	space   iommu.Config
	mapping func(st *translate.Store) // instead of all of mem as ordinary memory
	escapes bool                      // refused accesses are expected
	before  func(g *rig)              // called before the device is made
}

// rig is a mediated device with its surroundings. When the test ends nothing
// may be held, no goroutine left, and no access of the hardware refused.
type rig struct {
	t      testing.TB
	mem    image
	st     *translate.Store
	space  *iommu.Space
	pinner *pinning.Pinner
	d      *ccw.Device
	dev    *ccwtest.Device // nil if the test brought its own
}

func newSetup() *setup {
	return &setup{mem: newImage(), space: iommu.Config{Layout: iommu.Scattered, Seed: 7}}
}

func newRig(t testing.TB, change ...func(s *setup)) *rig {
	t.Helper()
	s := newSetup()
	for _, f := range change {
		f(s)
	}
	return s.build(t)
}

func (s *setup) build(t testing.TB) *rig {
	t.Helper()
	g := s.ground(t)
	if s.before != nil {
		s.before(g)
	}
	cfg := s.ccw
	cfg.Name, cfg.Store, cfg.Pinner, cfg.Space = "dut", g.st, g.pinner, g.space
	var err error
	g.d, err = ccw.New(s.dev, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { g.close(s.escapes) })
	return g
}

// ground is the rig without its device.
func (s *setup) ground(t testing.TB) *rig {
	t.Helper()
	g := &rig{t: t, mem: s.mem}
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	var err error
	g.st, err = translate.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.st.Close()) })
	translatetest.Check(t, g.st)
	if s.mapping != nil {
		s.mapping(g.st)
	} else {
		require.NoError(t, s.mem.Map(g.st))
	}
	g.space = iommu.NewSpace(&s.space)
	g.pinner = pintest.New(t, g.st, g.space, &s.pin)
	if s.dev == nil {
		g.dev = new(ccwtest.Device)
		s.dev = g.dev
	}
	return g
}

func (g *rig) close(escapes bool) {
	if !escapes {
		require.Empty(g.t, g.d.Domain().Faults(), "an access outside the leases of the program")
	}
	require.NoError(g.t, g.d.Close())
}

// run starts a program that is over when Start returns, and takes its status.
func (g *rig) run(f cio.ORBFlags) cio.SCSW {
	g.t.Helper()
	o := orbOf(f)
	return g.start(&o)
}

func (g *rig) start(o *cio.ORB) cio.SCSW {
	g.t.Helper()
	code, err := g.d.Start(o)
	require.NoError(g.t, err)
	require.Equal(g.t, cio.CC0, code)
	return g.take()
}

// take is TEST SUBCHANNEL, with status there to take.
func (g *rig) take() cio.SCSW {
	g.t.Helper()
	var irb cio.IRB
	require.Equal(g.t, cio.CC0, g.d.Test(&irb), "no status pending")
	return irb.SCSW
}

func (g *rig) nothingHeld() {
	g.t.Helper()
	require.Empty(g.t, g.pinner.Holdings())
	require.Zero(g.t, g.pinner.Charged())
}

// status is what a row says of the SCSW.
type status struct {
	at    uint32
	dev   cio.DeviceStatus
	sub   cio.SubchannelStatus
	count uint16
}

const ok = cio.Ended

func statusOf(s cio.SCSW) status {
	return status{s.CCWAddr(), s.Device(), s.Subchannel(), s.Count()}
}

// row is a sentence of the specification, as a program that shows it.
type row struct {
	name string
	orb  cio.ORBFlags
	make func(m image)
	want status
	// then looks further, after the program ended.
	then func(t *testing.T, g *rig)
	// err is the text of Device.Err.
	err string
}

// prove runs each row through the mediator, checks what it says, and then
// compares status, sense, storage and device with a run of the same program
// without a mediator.
func prove(t *testing.T, rows []row) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			g := newRig(t, func(s *setup) { r.make(s.mem) })
			s := g.run(r.orb)
			require.Equal(t, r.want, statusOf(s), "%v\n%s", s, g.dev.Log())
			if r.err != "" {
				require.EqualError(t, g.d.Err(), r.err)
			} else if s.Subchannel()&(cio.ProgramCheck|cio.ProtectionCheck|cio.DataCheck|cio.ControlCheck) == 0 {
				require.NoError(t, g.d.Err())
			}
			g.nothingHeld()
			if r.then != nil {
				r.then(t, g)
			}
			m := newImage()
			r.make(m)
			ccwtest.Differential(t, ccwtest.Program{ORB: orbOf(r.orb), Storage: m.Storage}, build)
		})
	}
}
