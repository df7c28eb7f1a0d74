package pcidev_test

import (
	"context"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/mdev/pcidev"
	"github.com/softmdev/softmdev/mdev/ram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// device is the least that can be done with a function.
type device struct {
	*pcidev.Function
	flrs int
}

func (d *device) Open(_ context.Context, at *mdev.Attachment) error { d.Attach(at.IRQs); return nil }
func (d *device) Close()                                            {}
func (d *device) Reset(context.Context, mdev.ResetKind) error       { d.Function.Reset(); return nil }

// full has everything: MSI-X table at 0x1000 and pending bits at 0x2000 of BAR
// 2, over its memory; 70 vectors.
func full(t *testing.T) (*device, *ram.Memory) {
	mem, err := ram.New(16<<10, runtime.GOOS == "linux")
	require.NoError(t, err)
	t.Cleanup(mem.Close)
	d := &device{}
	d.Function, err = pcidev.New(&pcidev.Config{
		PCI: pci.Config{
			Vendor: 0x1234, Device: 1, InterruptPin: 1,
			BARs: [6]pci.BAR{{Size: 4 << 10}, {Size: 32, IO: true}, {Size: 16 << 10, Is64: true}},
			Capabilities: []pci.Capability{
				pci.Express{FLR: true}, pci.MSI{Vectors: 8},
				pci.MSIX{Vectors: 70, TableBAR: 2, TableOffset: 0x1000, PBABAR: 2, PBAOffset: 0x2000},
			},
			OnFLR: func() { d.flrs++ },
		},
		BARs:  [6]pcidev.Memory{2: mem},
		Names: [6]string{2: "memory"},
		Reset: true,
	})
	require.NoError(t, err)
	return d, mem
}

func open(t *testing.T, d mdev.Device) *mdev.Session {
	s, err := mdev.Open(t.Context(), d, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// Regions and interrupts are those of the configuration space.
func TestInfo(t *testing.T) {
	d, mem := full(t)
	const rw = mdev.RegionRead | mdev.RegionWrite
	bar2 := mdev.RegionInfo{Name: "memory", Size: 16 << 10, Flags: rw}
	if runtime.GOOS == "linux" {
		bar2.Flags, bar2.Memory = rw|mdev.RegionMmap, mem.File()
	}
	require.Equal(t, &mdev.Info{
		API: mdev.APIPCI, Reset: true,
		Regions: []mdev.RegionInfo{
			0: {Name: "BAR 0", Size: 4 << 10, Flags: rw},
			1: {Name: "BAR 1", Size: 32, Flags: rw},
			2: bar2,
			7: {Name: "configuration space", Size: 4096, Flags: rw},
			8: {},
		},
		IRQs: []mdev.IRQInfo{
			{Name: "INTx", Count: 1, Flags: mdev.IRQEventFD | mdev.IRQMaskable | mdev.IRQAutoMasked},
			{Name: "MSI", Count: 8, Flags: mdev.IRQEventFD},
			{Name: "MSI-X", Count: 70, Flags: mdev.IRQEventFD},
			{Name: "ERR", Count: 1, Flags: mdev.IRQEventFD},
			{Name: "REQ", Count: 1, Flags: mdev.IRQEventFD},
		},
	}, d.Info())
	open(t, d)

	least, err := pcidev.New(&pcidev.Config{Migration: mdev.MigrationStopCopy, PCI: pci.Config{BARs: [6]pci.BAR{{Size: 16}}}, BARs: [6]pcidev.Memory{noFile{}}})
	require.NoError(t, err)
	info := least.Info()
	require.EqualValues(t, 256, info.Regions[mdev.Config].Size)
	require.Equal(t, mdev.RegionInfo{Name: "BAR 0", Size: 16, Flags: rw}, info.Regions[0])
	require.Equal(t, []uint32{0, 0, 0, 1, 1}, []uint32{info.IRQs[0].Count, info.IRQs[1].Count, info.IRQs[2].Count, info.IRQs[3].Count, info.IRQs[4].Count})
	require.Equal(t, mdev.MigrationStopCopy, info.Migration)
	require.False(t, info.Reset)

	_, err = pcidev.New(&pcidev.Config{PCI: pci.Config{ROM: 4096}})
	require.ErrorIs(t, err, errs.ErrNotSupported)
	_, err = pcidev.New(&pcidev.Config{PCI: pci.Config{Vendor: 0xffff}})
	require.ErrorIs(t, err, errs.ErrInvalid)
}

// noFile is memory of the device's own that cannot be mapped, though it has the
// method.
type noFile struct{ nothing }

func (noFile) File() *os.File { return nil }

type nothing struct{}

func (nothing) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (nothing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Accesses reach configuration space, table, memory, or nothing.
func TestAccess(t *testing.T) {
	d, mem := full(t)
	s := open(t, d)
	ctx := t.Context()
	for _, row := range []struct {
		name   string
		region int
		off    uint64
		write  []byte
		read   []byte
	}{
		{"memory", 2, 0xff0, []byte{1, 2}, []byte{1, 2}},
		{"memory behind the table", 2, 0x1000 + 70*16, []byte{3}, []byte{3}},
		{"table", 2, 0x1000, []byte{0xff, 0xff, 0, 0, 1}, []byte{0xfc, 0xff, 0, 0, 1}},
		{"from memory into the table: the table's alone", 2, 0xffe, []byte{9, 9, 9, 9}, []byte{0, 0, 8, 9}},
		{"pending bits are read-only", 2, 0x2000, []byte{0xff, 0xff}, []byte{0, 0}},
		{"a BAR with nothing behind it", 0, 0, []byte{1, 2, 3, 4}, []byte{0, 0, 0, 0}},
		{"I/O", 1, 31, []byte{1}, []byte{0}},
		{"configuration space", 7, 0x10, []byte{0xff, 0xff, 0xff, 0xff}, []byte{0, 0xf0, 0xff, 0xff}},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.NoError(t, s.Write(ctx, row.region, row.off, row.write))
			p := make([]byte, len(row.read))
			for i := range p {
				p[i] = 0xee
			}
			require.NoError(t, s.Read(ctx, row.region, row.off, p))
			require.Equal(t, row.read, p)
		})
	}
	var p [2]byte
	_, err := mem.ReadAt(p[:], 0xffe)
	require.NoError(t, err)
	require.Zero(t, p, "nothing was written behind the table")
	for _, region := range []int{-1, 6, 8, 9} {
		require.ErrorIs(t, d.Read(ctx, region, 0, p[:]), errs.ErrInvalid)
		require.ErrorIs(t, d.Write(ctx, region, 0, p[:]), errs.ErrInvalid)
	}
}

// Pending bits are those of interrupts that nobody takes yet.
func TestPending(t *testing.T) {
	d, _ := full(t)
	s := open(t, d)
	pba := func(off uint64, n int) []byte {
		p := make([]byte, n)
		require.NoError(t, s.Read(t.Context(), 2, 0x2000+off, p))
		return p
	}
	require.NoError(t, s.IRQs().Func(mdev.IRQMSIX, 1, func() {}))
	for _, v := range []int{0, 1, 9, 69} {
		s.IRQs().Trigger(mdev.IRQMSIX, v)
	}
	require.Equal(t, []byte{1, 2, 0, 0, 0, 0, 0, 0, 1 << 5, 0, 0, 0, 0, 0, 0, 0}, pba(0, 16))
	require.Equal(t, []byte{2, 0}, pba(1, 2))
	require.Equal(t, []byte{1 << 5}, pba(8, 1))
	require.Equal(t, []byte{0, 1, 2}, pba(^uint64(0), 3), "from the byte before")
	got := 0
	require.NoError(t, s.IRQs().Func(mdev.IRQMSIX, 9, func() { got++ }))
	require.Equal(t, 1, got)
	require.Equal(t, []byte{1, 0}, pba(0, 2))
}

// Raise chooses as a guest has set the function up, and among the vectors of MSI
// that it has enabled (PCI Local Bus 3.0, 6.8.1.3 and 6.8.3.4).
func TestRaise(t *testing.T) {
	d, _ := full(t)
	s := open(t, d)
	counts := func() [2]uint64 {
		c := s.IRQs().Counts()
		return [2]uint64{c[mdev.IRQMSI][2], c[mdev.IRQMSIX][66]}
	}
	control := uint64(d.Space.Find(pci.IDMSI) + pci.MSIControl)
	d.Raise(66)
	require.Equal(t, [2]uint64{0, 1}, counts(), "nothing is enabled")
	require.NoError(t, s.Write(t.Context(), mdev.Config, control, []byte{pci.MSIEnable | 2<<4, 0}))
	d.Raise(66)
	require.Equal(t, [2]uint64{1, 1}, counts(), "4 vectors of MSI")
	require.NoError(t, s.Write(t.Context(), mdev.Config, control, []byte{pci.MSIEnable, 0}))
	d.Raise(66)
	require.EqualValues(t, 1, s.IRQs().Counts()[mdev.IRQMSI][0], "one vector of MSI")
	require.Equal(t, [2]uint64{1, 1}, counts())

	none := &device{}
	var err error
	none.Function, err = pcidev.New(&pcidev.Config{PCI: pci.Config{Capabilities: []pci.Capability{pci.Express{}}}})
	require.NoError(t, err)
	open(t, none)
	none.Raise(0) // and nothing happens
}

// Resets: by the driver, by the VMM, and by being opened anew.
func TestResets(t *testing.T) {
	d, _ := full(t)
	s := open(t, d)
	ctx := t.Context()
	express := uint64(d.Space.Find(pci.IDExpress))
	look := func() [3]byte {
		var p [3]byte
		require.NoError(t, s.Read(ctx, mdev.Config, pci.RegInterruptLine, p[0:1]))
		require.NoError(t, s.Read(ctx, 2, 0x1008, p[1:2]))
		require.NoError(t, s.Read(ctx, mdev.Config, express+pci.ExpressLinkControl2, p[2:]))
		return p
	}
	change := func() {
		require.NoError(t, s.Write(ctx, mdev.Config, pci.RegInterruptLine, []byte{7}))
		require.NoError(t, s.Write(ctx, 2, 0x1008, []byte{8}))
		require.NoError(t, s.Write(ctx, mdev.Config, express+pci.ExpressLinkControl2, []byte{3}))
		require.Equal(t, [3]byte{7, 8, 3}, look())
	}
	change()
	require.NoError(t, s.Write(ctx, mdev.Config, express+pci.ExpressDeviceControl+1, []byte{0x80}))
	require.Equal(t, [3]byte{0, 0, 3}, look(), "what is sticky stays")
	require.Equal(t, 1, d.flrs)
	change()
	require.NoError(t, s.Reset(ctx))
	require.Equal(t, [3]byte{0, 0, 3}, look())
	require.Equal(t, 1, d.flrs)
	change()
	require.NoError(t, s.Close(ctx))
	s = open(t, d)
	require.Equal(t, [3]byte{0, 0, 1}, look(), "nothing of the last VMM's")
}

// State moves to another function of the same kind, and to no other.
func TestState(t *testing.T) {
	from, _ := full(t)
	s := open(t, from)
	require.NoError(t, s.Write(t.Context(), mdev.Config, pci.RegInterruptLine, []byte{7}))
	require.NoError(t, s.Write(t.Context(), 2, 0x1008, []byte{8}))
	state := from.AppendState([]byte("x"))[1:]
	to, _ := full(t)
	other := open(t, to)
	require.NoError(t, to.LoadState(state))
	require.Equal(t, state, to.AppendState(nil))
	var p [1]byte
	require.NoError(t, other.Read(t.Context(), 2, 0x1008, p[:]))
	require.Equal(t, [1]byte{8}, p)
	for _, bad := range [][]byte{nil, state[1:], append(state, 0), state[:8]} {
		require.ErrorIs(t, to.LoadState(bad), errs.ErrInvalid)
	}

	plain, err := pcidev.New(&pcidev.Config{Reset: true})
	require.NoError(t, err)
	one := open(t, &device{Function: plain})
	require.NoError(t, one.Reset(t.Context()), "without MSI-X")
	state = plain.AppendState(nil)
	require.NoError(t, plain.LoadState(state))
	require.ErrorIs(t, plain.LoadState(append(state, 0)), errs.ErrInvalid)
}

// Accesses allocate nothing.
func TestAllocs(t *testing.T) {
	d, _ := full(t)
	open(t, d)
	ctx, p := t.Context(), make([]byte, 4)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = d.Write(ctx, 2, 0x1000, p)
		_ = d.Read(ctx, 2, 0x2000, p)
		_ = d.Write(ctx, 2, 0, p)
		_ = d.Read(ctx, mdev.Config, 0, p)
		d.Raise(3)
	}))
}
