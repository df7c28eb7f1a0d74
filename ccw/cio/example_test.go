package cio_test

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
)

func Example() {
	b := [8]byte{0x86, 0x44, 0x10, 0x00, 0x00, 0x01, 0xF0, 0x08}
	c := cio.DecodeCCW1(&b)
	fmt.Println(c)
	fmt.Println(c.Command.Class(true), c.Command.Access(), c.Chains())
	fmt.Println(cio.IDAWs(0x7FFF_F800, c.Count, cio.Block4K), "IDAWs")
	fmt.Println(c.Encode1() == b)
	// Output:
	// read 0x86 CC|IDA count 4096 addr 0x1f008
	// read -w true
	// 2 IDAWs
	// true
}
