package pci_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/pci"
)

// told is everything with hooks that note what they were told, and read the
// space, which they may.
func told(t testing.TB) (*pci.Space, func() []string) {
	var log []string
	var s *pci.Space
	note := func(format string, a ...any) {
		log = append(log, fmt.Sprintf(format, a...))
		s.Command()
		s.MSIX()
	}
	c := everything()
	c.OnFLR = func() { note("FLR") }
	c.OnCommand = func(old, now pci.Command) { note("command %v -> %v", old, now) }
	c.OnPower = func(old, now pci.PowerState) { note("power %v -> %v", old, now) }
	c.OnMaster = func(on bool) { note("master %v", on) }
	c.OnMSI = func(st pci.MSIState) { note("MSI %v %d", st.Enabled, st.Vectors) }
	c.OnMSIX = func(enabled, masked bool) { note("MSI-X %v %v", enabled, masked) }
	s = space(t, c)
	return s, func() []string {
		l := log
		log = nil
		return l
	}
}

// What the device is told of each write.
func TestHooks(t *testing.T) {
	s, log := told(t)
	for _, row := range []struct {
		name  string
		off   uint64
		width int
		value uint64
		want  []string
	}{
		{"command", 0x04, 2, 0x6, []string{"command 0 -> MEMORY|MASTER", "master true"}},
		{"the same again", 0x04, 2, 0x6, nil},
		{"read-only bits", 0x04, 2, 0x206, nil},
		{"a part of it", 0x05, 1, 0x4, []string{"command MEMORY|MASTER -> MEMORY|MASTER|INTX_DISABLE"}},
		{"command and status as one", 0x04, 4, 0xffff0006, []string{"command MEMORY|MASTER|INTX_DISABLE -> MEMORY|MASTER"}},
		{"a BAR", 0x10, 4, 0xfebd0000, nil},
		{"MSI-X enable and mask", msixAt + 2, 2, 0xc000, []string{"MSI-X true true"}},
		{"MSI-X unmask", msixAt + 3, 1, 0x80, []string{"MSI-X true false"}},
		{"MSI address", msiAt + 4, 4, 0xfee00000, []string{"MSI false 1"}},
		{"MSI enable, 2 vectors", msiAt, 4, 0x00110000, []string{"MSI true 2"}},
		{"D1", powerAt + 4, 1, 1, []string{"power D0 -> D1", "master false"}},
		{"D2, which it does not have", powerAt + 4, 1, 2, nil},
		{"D3hot", powerAt + 4, 1, 3, []string{"power D1 -> D3hot"}},
		{"D3hot again", powerAt + 4, 1, 3, nil},
		{"D0: a soft reset", powerAt + 4, 1, 0, []string{
			"FLR", "command MEMORY|MASTER -> 0", "power D3hot -> D0", "MSI false 1", "MSI-X false false"}},
		{"command", 0x04, 2, 0x4, []string{"command 0 -> MASTER", "master true"}},
		{"FLR", expressAt + 8, 2, 0x8000, []string{"FLR", "command MASTER -> 0", "master false"}},
		{"FLR of a function that is as after a reset", expressAt + 9, 1, 0x80, []string{"FLR"}},
		{"no FLR", expressAt + 8, 1, 0x80, nil},
	} {
		put(t, s, row.off, row.width, row.value)
		require.Equal(t, row.want, log(), row.name)
	}
	require.Zero(t, get(t, s, expressAt+8, 2)&pci.DeviceControlFLR)
}

// Bus mastering is the command's bit of a function that is awake.
func TestMaster(t *testing.T) {
	s := space(t, everything())
	require.False(t, s.Master())
	put(t, s, pci.RegCommand, 2, uint64(pci.CommandMaster))
	require.True(t, s.Master())
	put(t, s, powerAt+pci.PowerControl, 2, uint64(pci.D1))
	require.False(t, s.Master())
	require.Equal(t, pci.D1, s.Power())
	put(t, s, powerAt+pci.PowerControl, 2, uint64(pci.D0))
	require.True(t, s.Master(), "no soft reset from D1")
}

// What outlives which reset.
func TestResets(t *testing.T) {
	const (
		devctl = expressAt + pci.ExpressDeviceControl
		lnkctl = expressAt + pci.ExpressLinkControl
		lnkct2 = expressAt + pci.ExpressLinkControl2
	)
	for _, row := range []struct {
		name  string
		reset func(t *testing.T, s *pci.Space)
		want  map[uint64]uint64
	}{
		{"PCIe 6.6.2: FLR keeps payload size, link control, sticky bits",
			func(t *testing.T, s *pci.Space) { put(t, s, devctl, 2, 0xffff) },
			map[uint64]uint64{devctl: 0x2810 | 0xe0, lnkctl: 0xcb, lnkct2: 0xf}},
		{"PCIe 6.6.1: conventional reset keeps sticky bits",
			func(_ *testing.T, s *pci.Space) { s.Reset() },
			map[uint64]uint64{devctl: 0x2810, lnkctl: 0, lnkct2: 0xf}},
		{"power-on keeps nothing",
			func(_ *testing.T, s *pci.Space) { s.PowerOn() },
			map[uint64]uint64{devctl: 0x2810, lnkctl: 0, lnkct2: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := space(t, everything())
			fresh := whole(t, s)
			ones := make([]byte, s.Size())
			for i := range ones {
				ones[i] = 0xff
			}
			require.NoError(t, s.Write(0, ones[:devctl]))
			put(t, s, devctl, 2, 0x7fff)
			require.NoError(t, s.Write(devctl+2, ones[devctl+2:]))
			require.NoError(t, s.Set(pci.RegStatus, pci.StatusErrors))
			row.reset(t, s)
			for off, want := range row.want {
				require.Equal(t, want, get(t, s, off, 2), "%#x", off)
				put(t, s, off, 2, uint64(fresh[off])|uint64(fresh[off+1])<<8)
			}
			require.Equal(t, fresh, whole(t, s), "all else is as after power-on")
		})
	}
	s, log := told(t)
	put(t, s, pci.RegCommand, 2, 0x4)
	put(t, s, msixAt+2, 2, 0x8000)
	log()
	s.Reset()
	require.Equal(t, []string{"command MASTER -> 0", "master false", "MSI-X false false"}, log(), "told, but of no FLR: the VMM did it")
}

// A function without FLR, or without soft reset, does neither.
func TestNoFLR(t *testing.T) {
	c := &pci.Config{
		BARs:         [6]pci.BAR{{Size: 4096}},
		Capabilities: []pci.Capability{pci.Express{Integrated: true}, pci.Power{D2: true}},
		OnFLR:        func() { t.Error("FLR") },
	}
	s := space(t, c)
	put(t, s, pci.RegCommand, 2, 0x6)
	at := uint64(s.Find(pci.IDExpress))
	require.Zero(t, get(t, s, at+pci.ExpressDeviceCaps, 4)&(1<<28))
	require.EqualValues(t, 0x92, get(t, s, at+pci.ExpressCaps, 2), "version 2, integrated endpoint")
	require.Zero(t, get(t, s, at+pci.ExpressLinkCaps, 8), "no link")
	put(t, s, at+pci.ExpressDeviceControl, 2, 0xffff)
	require.EqualValues(t, 0x781f, get(t, s, at+pci.ExpressDeviceControl, 2), "payload of 128 bytes only: the field is 0")
	pm := uint64(s.Find(pci.IDPower))
	require.EqualValues(t, 8, get(t, s, pm+pci.PowerControl, 2), "No_Soft_Reset")
	for _, state := range []uint64{3, 0, 2, 0} {
		put(t, s, pm+pci.PowerControl, 2, state)
		require.Equal(t, pci.PowerState(state), s.Power())
	}
	put(t, s, pm+pci.PowerControl, 2, 1)
	require.Equal(t, pci.D0, s.Power(), "D1 is not there")
	require.EqualValues(t, 0x6, s.Command())
	require.Equal(t, pci.MSIState{}, s.MSI())
	enabled, masked := s.MSIX()
	require.False(t, enabled || masked)
}

// What Append says, Load takes: the registers, and the hooks that follow.
func TestSaveAndLoad(t *testing.T) {
	from, _ := told(t)
	put(t, from, pci.RegCommand, 2, 0x406)
	put(t, from, 0x18, 8, 0x4200000000)
	put(t, from, msixAt+2, 2, 0xc000)
	put(t, from, powerAt+4, 1, 1)
	require.NoError(t, from.Set(pci.RegStatus, 0x8000))
	state := from.Append(nil)

	to, log := told(t)
	require.NoError(t, to.Load(state))
	require.Equal(t, whole(t, from), whole(t, to))
	require.Equal(t, []string{"command 0 -> MEMORY|MASTER|INTX_DISABLE", "power D0 -> D1", "MSI-X true true"}, log())

	require.ErrorIs(t, to.Load(state[:len(state)-1]), errs.ErrInvalid)
	require.ErrorIs(t, to.Load(nil), errs.ErrInvalid)
	require.Empty(t, log())

	for i := range state {
		state[i] = 0xff
	}
	require.NoError(t, to.Load(state))
	found, err := pci.Walk(whole(t, to))
	require.NoError(t, err)
	require.Equal(t, to.Capabilities(), found)
	require.Equal(t, pci.D3hot, to.Power())
	require.NotContains(t, log(), "FLR")

	// A state that the function does not have.
	c := &pci.Config{Capabilities: []pci.Capability{pci.Power{D1: true}}}
	one := space(t, c)
	put(t, one, 0x44, 1, 1)
	other := space(t, &pci.Config{Capabilities: []pci.Capability{pci.Power{}}})
	require.NoError(t, other.Load(one.Append(nil)))
	require.Equal(t, pci.D0, other.Power())
}

// Accesses allocate nothing.
func TestAllocs(t *testing.T) {
	s, p := space(t, everything()), make([]byte, 4)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = s.Read(0x10, p)
		_ = s.Write(0x10, p)
		_ = s.Write(pci.RegCommand, p[:2])
		s.Pending(true)
		_ = s.Master()
	}))
}

func BenchmarkRead4(b *testing.B) {
	s, p := space(b, everything()), make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Read(0x10, p)
	}
}

func BenchmarkWrite4(b *testing.B) {
	s, p := space(b, everything()), make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Write(0x10, p)
	}
}
