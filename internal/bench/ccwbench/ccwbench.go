// Package ccwbench measures the channel-program mediator: the steps of a
// translation, and whole programs.
package ccwbench

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

const (
	chain    = 16       // CCWs of every program here
	storage  = 64 << 20 // bytes of guest memory
	programs = 0x10000  // where CCWs and lists are
	data     = 1 << 20  // where data begin
)

// Benchmarks lists the measurements. A baseline is a copy of the same words
// without looking at one: what moving the bytes costs.
func Benchmarks() []bench.Benchmark {
	var list []bench.Benchmark
	for _, n := range []int{1, 16} {
		name := func(step string) string { return fmt.Sprintf("ccw/%s/%d-idaw", step, n) }
		per, unit := chain, "ns/CCW"
		if n > 1 {
			per, unit = chain*n, "ns/IDAW"
		}
		list = append(list,
			bench.Benchmark{Name: name("copy"), Unit: unit, Per: per, Run: func(b *testing.B) { copyWords(b, n) }},
			bench.Benchmark{Name: name("rewrite"), Unit: unit, Per: per, Baseline: name("copy"), Run: func(b *testing.B) { steps(b, n, rewrite) }},
			bench.Benchmark{Name: name("walk"), Unit: unit, Per: per, Baseline: name("copy"), Run: func(b *testing.B) { steps(b, n, walk) }},
			bench.Benchmark{Name: name("translate"), Unit: unit, Per: per, Baseline: name("copy"), Run: func(b *testing.B) { steps(b, n, whole) }},
			bench.Benchmark{Name: name("run"), Unit: unit, Per: per, Baseline: name("copy"), Run: func(b *testing.B) { run(b, n) }},
		)
	}
	return list
}

// copyWords copies CCWs and lists as a translator that translates nothing.
func copyWords(b *testing.B, n int) {
	src := make([]byte, chain*8*(n+1))
	dst := make([]byte, len(src))
	b.ReportAllocs()
	for b.Loop() {
		for i := 0; i < len(src); i += 8 {
			binary.BigEndian.PutUint64(dst[i:], binary.BigEndian.Uint64(src[i:]))
		}
	}
}

// null is a device that takes every command and moves no data.
type null struct{}

func (null) Begin() {}
func (null) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	return cio.Ended
}
func (null) Sense() []byte { return nil }
func (null) Reset()        {}

type rig struct {
	dev *ccw.Device
	orb cio.ORB
}

// newRig is a device with a program of 16 reads of n IDAWs each, of a page a
// word, no page twice.
func newRig(b *testing.B, n int) *rig {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	mem := make([]byte, storage)
	st, err := translate.New(nil)
	check(err)
	check(st.Map(0, storage, translate.Bytes(mem), addr.ReadWrite))
	space := iommu.NewSpace(&iommu.Config{Layout: iommu.Scattered, Seed: 1})
	p, err := pinning.New(st, space, &pinning.Config{Limit: ^addr.Len(0)})
	check(err)
	d, err := ccw.New(null{}, ccw.Config{Name: "bench", Store: st, Pinner: p, Space: space})
	check(err)
	b.Cleanup(func() {
		check(d.Close())
		check(p.Close())
		check(st.Close())
	})

	list, page := uint32(programs+chain*8), uint64(data)
	for i := range chain {
		c := cio.CCW{Command: 0x06, Flags: cio.ChainCommand | cio.SuppressLength | cio.Indirect, Count: uint16(min(n*4096, 65535)), Addr: list}
		if i == chain-1 {
			c.Flags &^= cio.ChainCommand
		}
		w := c.Encode1()
		copy(mem[programs+i*8:], w[:])
		for range n {
			binary.BigEndian.PutUint64(mem[list:], page)
			list, page = list+8, page+4096
		}
	}
	r := &rig{dev: d}
	r.orb.SetFormat1(true)
	r.orb.SetPrefetch(true)
	r.orb.SetIDAW2(true)
	r.orb.SetLPM(0x80)
	r.orb.SetProgram(programs)
	return r
}

func steps(b *testing.B, n int, body func(b *testing.B, r *rig, m ccw.Measure)) {
	r := newRig(b, n)
	b.ReportAllocs()
	body(b, r, r.dev.Measure())
}

func rewrite(b *testing.B, r *rig, m ccw.Measure) {
	must(b, m.Walk(&r.orb))
	must(b, m.Pin())
	for b.Loop() {
		must(b, m.Rewrite())
	}
	m.End()
}

func walk(b *testing.B, r *rig, m ccw.Measure) {
	for b.Loop() {
		must(b, m.Walk(&r.orb))
	}
	m.End()
}

func whole(b *testing.B, r *rig, m ccw.Measure) {
	for b.Loop() {
		must(b, m.Walk(&r.orb))
		must(b, m.Pin())
		must(b, m.Rewrite())
		m.End()
	}
}

// run is START SUBCHANNEL to TEST SUBCHANNEL.
func run(b *testing.B, n int) {
	r := newRig(b, n)
	var irb cio.IRB
	b.ReportAllocs()
	for b.Loop() {
		cc, err := r.dev.Start(&r.orb)
		if cc != 0 || err != nil {
			b.Fatal(cc, err)
		}
		if cc := r.dev.Test(&irb); cc != 0 || irb.SCSW.Subchannel()&^cio.IncorrectLength != 0 {
			b.Fatal(cc, irb)
		}
	}
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}
