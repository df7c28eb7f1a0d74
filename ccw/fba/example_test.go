package fba_test

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/fba"
	"github.com/softmdev/softmdev/ccw/internal/devicetest"
)

// A volume in memory answers a program of one CCW, READ IPL.
func Example() {
	base := make([]byte, 20000*fba.BlockSize)
	copy(base, "boot record")
	img, err := fba.NewMemory(base)
	if err != nil {
		fmt.Println(err)
		return
	}
	vol, err := fba.Open(img, nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	mem := devicetest.NewMemory(1 << 20)
	ccw := cio.CCW{Command: 0x02, Count: fba.BlockSize, Addr: 0x2000}.Encode1()
	_ = mem.Write(0x1000, ccw[:])

	sub := channel.New(mem, vol, devicetest.PMCW(0x140), nil)
	var orb cio.ORB
	orb.SetFormat1(true)
	orb.SetLPM(0x80)
	orb.SetProgram(0x1000)
	var irb cio.IRB
	fmt.Println(sub.Start(&orb), sub.Test(&irb))
	fmt.Println(irb.SCSW.Device(), irb.SCSW.Count())

	text := make([]byte, 11)
	_ = mem.Read(0x2000, text)
	fmt.Printf("%s\n", text)
	// Output:
	// cc 0 cc 0
	// CE|DE 0
	// boot record
}
