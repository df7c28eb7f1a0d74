package channel_test

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/channel/scripted"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// ram is all that the device of the example can reach.
type ram [0x3000]byte

func (m *ram) Read(a addr.HPA, p []byte) error {
	if a > addr.HPA(len(m)) || len(p) > len(m)-int(a) {
		return errs.Addr("hpa", uint64(a), errs.ErrReach)
	}
	copy(p, m[a:])
	return nil
}

func (m *ram) Write(a addr.HPA, p []byte) error {
	if a > addr.HPA(len(m)) || len(p) > len(m)-int(a) {
		return errs.Addr("hpa", uint64(a), errs.ErrReach)
	}
	copy(m[a:], p)
	return nil
}

// A program of two CCWs reads a card, and is told its length.
func Example() {
	mem := new(ram)
	for i, c := range []cio.CCW{
		{Command: cio.NOP, Flags: cio.ChainCommand},
		{Command: 0x02, Count: 80, Addr: 0x2000},
	} {
		b := c.Encode1()
		copy(mem[0x1000+8*i:], b[:])
	}
	reader := scripted.New([]scripted.Op{
		{Command: cio.NOP, Status: cio.Ended},
		{Command: 0x02, Status: cio.Ended, Moved: 5, Data: []byte("HELLO")},
	})
	var pmcw cio.PMCW
	pmcw.SetFlags(cio.PMCWEnabled | cio.PMCWValid)
	pmcw.SetPIM(0x80)
	pmcw.SetPAM(0x80)
	sub := channel.New(mem, reader, pmcw, nil)
	defer sub.Close()

	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetLPM(0xFF)
	orb.SetProgram(0x1000)
	fmt.Println(sub.Start(&orb))

	var irb cio.IRB
	fmt.Println(sub.Test(&irb))
	fmt.Println(irb.SCSW)
	fmt.Printf("%s\n", mem[0x2000:0x2005])
	// Output:
	// cc 0
	// cc 0
	// key 0 flags F cc 0 control start|alert|primary|secondary|pending ccw 0x1010 device CE|DE subchannel IL count 75
	// HELLO
}
