package ccwtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Steps bounds the CCWs that a program here may execute, on both sides.
const Steps = 3000

// Translator is what is tried: something that takes a guest's program and runs
// it on hardware. *ccw.Device is one. A program must be over when Start
// returns.
type Translator interface {
	// Start is START SUBCHANNEL with the guest's ORB. An error means that the
	// program was refused and did not start.
	Start(orb *cio.ORB) (cio.CC, error)
	// Test is TEST SUBCHANNEL, with status in the guest's terms.
	Test(irb *cio.IRB) cio.CC
	// Domain is the reach of the hardware that runs the programs. Its fault
	// log is the oracle for escapes.
	Domain() *iommu.Domain
	// Close gives back all that the translator holds.
	Close() error
}

// Host is what a translator is built on: the guest's memory in Store, and a
// device for its hardware.
type Host struct {
	Store  *translate.Store
	Pinner *pinning.Pinner
	Space  *iommu.Space
	Device channel.Device
	PMCW   cio.PMCW
	// Steps bounds the CCWs of one program; see the constant.
	Steps uint64
}

// New builds a translator on h.
type New func(h *Host) (Translator, error)

// Layouts are the layouts of host memory that every program is tried on.
var Layouts = []iommu.Config{{Layout: iommu.Contiguous}, {Layout: iommu.Scattered, Seed: 1}}

// Fuzz tries programs that the fuzzer makes on translators that build makes.
func Fuzz(f *testing.F, build New) {
	for _, s := range Seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		p := Decode(input)
		Differential(t, p, build)
	})
}

// Differential runs p without and with a translator and compares.
func Differential(t testing.TB, p Program, build New) {
	t.Helper()
	direct := runDirect(p, Steps)
	if !direct.bounded && runDirect(p, fewTransfers).irb != direct.irb {
		direct.bounded = true
	}
	for i := range Layouts {
		got := runTranslated(t, p, &Layouts[i], build)
		if got.refused != nil || !direct.defined(&p.ORB) {
			continue
		}
		require.Equal(t, direct.cc, got.cc, "condition code of %v", p.ORB)
		if direct.cc != 0 {
			continue
		}
		require.Equal(t, direct.irb.SCSW.String(), got.irb.SCSW.String(), "status of %v (%v)\n%s", p.ORB, Layouts[i].Layout, direct.log)
		require.Equal(t, direct.irb, got.irb)
		require.Equal(t, direct.log, got.log, "what the device was told")
		for k := range Areas {
			if !equal(direct.storage.mem[k], got.storage.mem[k]) {
				require.Fail(t, "storage differs", "%v of %v: %s", Areas[k].Range, p.ORB, firstDifference(k, direct.storage.mem[k], got.storage.mem[k]))
			}
		}
	}
}

// result is how a program went.
type result struct {
	refused error
	cc      cio.CC
	irb     cio.IRB
	log     string
	storage *Storage
	bounded bool // the work meter ended it
}

// defined reports whether the architecture defines the result of the direct
// run, so that another can be compared with it.
func (r *result) defined(orb *cio.ORB) bool {
	return !r.bounded && !r.storage.changesItself()
}

// fewTransfers is a number of transfers backward that no channel ends a
// program for, in whatever places of its storage a translator puts the loop.
const fewTransfers = channel.MaxBackwardTIC / 4

// runDirect runs p without a translator. How many transfers backward without
// data a channel takes before it gives up is its own affair, and so is in
// which place of a loop it does: where that number matters, nothing is
// compared.
func runDirect(p Program, transfers int) *result {
	r := &result{storage: p.Storage.Clone()}
	dev := &Device{}
	steps := 0
	mem := &Direct{Storage: r.storage, orb: p.ORB}
	sub := channel.New(mem, dev, cio.DefaultPMCW(), &channel.Config{MaxBackwardTIC: transfers, Fetching: mem.Fetching, Steps: func(n int) error {
		if steps += n; steps > Steps {
			r.bounded = true
			return errors.New("too many steps")
		}
		return nil
	}})
	defer sub.Close()
	orb := p.ORB
	if r.cc = sub.Start(&orb); r.cc == 0 {
		sub.Test(&r.irb)
	}
	r.log = dev.Log()
	return r
}

func runTranslated(t testing.TB, p Program, layout *iommu.Config, build New) *result {
	t.Helper()
	r := &result{storage: p.Storage.Clone()}
	st, err := translate.New(nil)
	require.NoError(t, err)
	require.NoError(t, r.storage.Map(st))
	space := iommu.NewSpace(layout)
	pinner, err := pinning.New(st, space, &pinning.Config{Limit: ^addr.Len(0)})
	require.NoError(t, err)
	dev := &Device{}
	tr, err := build(&Host{Store: st, Pinner: pinner, Space: space, Device: dev, PMCW: cio.DefaultPMCW(), Steps: Steps})
	require.NoError(t, err)

	orb := p.ORB
	r.cc, r.refused = tr.Start(&orb)
	require.Equal(t, p.ORB, orb, "the ORB is the caller's")
	if r.refused == nil && r.cc == 0 {
		cc := tr.Test(&r.irb)
		require.Zero(t, cc, "a program is over, or suspended, when Start returns")
	}
	r.log = dev.Log()
	require.Empty(t, tr.Domain().Faults(), "an access outside the reach of the program\n%v\n%s", p.ORB, r.log)
	require.Empty(t, pinner.Holdings(), "pins left after the program")
	require.Zero(t, pinner.Charged(), "charge left after the program")
	require.NoError(t, tr.Close())
	require.NoError(t, pinner.Close())
	_, err = st.UnmapAll(context.Background())
	require.NoError(t, err)
	require.NoError(t, st.Close())
	return r
}

func equal(a, b []byte) bool { return string(a) == string(b) }

func firstDifference(area int, want, got []byte) string {
	for i := range want {
		if want[i] != got[i] {
			return fmt.Sprintf("at %#x %02x, want %02x", uint64(Areas[area].Start())+uint64(i), got[i], want[i])
		}
	}
	return ""
}

// Seeds are inputs for [Decode] that lead into every part of it.
func Seeds() [][]byte {
	seeds := [][]byte{nil}
	v := uint32(1)
	for n := 8; n <= 512; n *= 2 {
		for range 8 {
			b := make([]byte, n)
			for i := range b {
				v = v*1664525 + 1013904223
				b[i] = byte(v >> 24)
			}
			seeds = append(seeds, b)
		}
	}
	return seeds
}
