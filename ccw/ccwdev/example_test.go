package ccwdev_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A VMM in this process gives a console to its guest, whose memory is a byte
// slice, and does for it what START SUBCHANNEL asks for.
func Example() {
	ctx := context.Background()
	dev, err := ccwdev.New(ccwdev.Config{
		Unit:  ccwdev.Unit{Device: unit.NewConsole3215(&unit.Console3215Config{Output: unit.TextWriter(os.Stdout)})},
		DevNo: 0x0009,
		Order: binary.BigEndian,
	})
	check(err)
	s, err := mdev.Open(ctx, dev, &mdev.SessionConfig{Name: "vm"})
	check(err)
	defer s.Close(ctx)
	mem := make([]byte, 64<<10)
	check(s.Map(0, addr.Len(len(mem)), translate.Bytes(mem), addr.ReadWrite))
	irq := make(chan struct{}, 1)
	check(s.IRQs().Func(ccw.IRQIO, 0, func() { irq <- struct{}{} }))

	// The guest's program: write 14 bytes from 0x2000 to the console.
	copy(mem[0x2000:], unit.EBCDIC("HELLO, WORLD.\n"))
	write := cio.CCW{Command: 0x01, Flags: cio.SuppressLength, Count: 14, Addr: 0x2000}
	program := write.Encode1()
	copy(mem[0x1000:], program[:])

	// The VMM's region 0: an ORB of format 1, prefetch allowed, all paths, the
	// program at 0x1000; and the start function.
	var io [124]byte
	binary.BigEndian.PutUint16(io[4:], 0x00C0)
	io[6] = 0x80
	binary.BigEndian.PutUint32(io[8:], 0x1000)
	binary.BigEndian.PutUint16(io[14:], uint16(cio.StartFunction))
	check(s.Write(ctx, ccw.RegionIO, 0, io[:]))

	<-irq
	check(s.Read(ctx, ccw.RegionIO, 0, io[:]))
	irb := cio.DecodeIRB((*[96]byte)(io[24:]))
	fmt.Println(irb.SCSW.Device(), "at", fmt.Sprintf("%#x", irb.SCSW.CCWAddr()))
	for _, m := range dev.Report()[:2] {
		fmt.Println(m.Name, m.Value)
	}
	// Output:
	// HELLO, WORLD.
	// CE|DE at 0x1008
	// programs 1
	// ccws 1
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
