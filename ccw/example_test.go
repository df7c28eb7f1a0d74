package ccw_test

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A VMM in Go gives a console to its guest. The guest's storage is a slice;
// its program writes a line, and the second CCW of it names storage that is
// not there.
func ExampleDevice() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	// The guest's memory, and what polices access to it.
	ram := make([]byte, 1<<20)
	store, err := translate.New(nil)
	must(err)
	must(store.Map(0, addr.Len(len(ram)), translate.Bytes(ram), addr.ReadWrite))
	space := iommu.NewSpace(nil)
	pins, err := pinning.New(store, space, &pinning.Config{Limit: 1 << 20})
	must(err)

	// The device.
	out := &printer{}
	console := unit.NewConsole3215(&unit.Console3215Config{Output: unit.TextWriter(out)})
	d, err := ccw.New(console, ccw.Config{Name: "0.0.0009", Store: store, Pinner: pins, Space: space})
	must(err)

	// The guest: two CCWs, and START SUBCHANNEL.
	copy(ram[0x3000:], unit.EBCDIC("hello"))
	write := func(at int, c cio.CCW) { b := c.Encode1(); copy(ram[at:], b[:]) }
	write(0x2000, cio.CCW{Command: 0x01, Flags: cio.ChainCommand, Count: 5, Addr: 0x3000})
	write(0x2008, cio.CCW{Command: 0x01, Count: 5, Addr: 0x700000})
	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetPrefetch(true)
	orb.SetLPM(0x80)
	orb.SetProgram(0x2000)
	cc, err := d.Start(&orb)
	must(err)

	for _, e := range d.Last().Elements {
		fmt.Printf("guest %#x: %v %#x    host: %v %v\n", e.Addr, e.CCW.Command, e.CCW.Addr, e.HostAs.Command, e.HostAs.Flags)
	}
	var irb cio.IRB
	d.Test(&irb)
	fmt.Println(cc, irb.SCSW.Device(), irb.SCSW.Subchannel(), "after", fmt.Sprintf("%#x", irb.SCSW.CCWAddr()))
	fmt.Println(d.Err())
	fmt.Println("pinned now:", uint64(pins.Charged()), "refused by the iommu:", d.Domain().FaultCount())

	must(d.Close())
	must(pins.Close())
	must(store.Close())
	// Output:
	// console: hello
	// guest 0x2000: write 0x01 0x3000    host: write 0x01 CC|IDA
	// guest 0x2008: write 0x01 0x700000    host: write 0x01 0
	// cc 0 0 PROG after 0x2010
	// ccw[1] at 0x2008: iova 0x700000: not mapped
	// pinned now: 0 refused by the iommu: 0
}

// printer is where the console's lines go.
type printer struct{}

func (*printer) Write(p []byte) (int, error) {
	fmt.Printf("console: %s\n", p)
	return len(p), nil
}
