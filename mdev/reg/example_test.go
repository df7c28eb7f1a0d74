package reg_test

import (
	"fmt"

	"github.com/softmdev/softmdev/mdev/reg"
)

// The table of this package's tests:
//
//	offset  width  name     reset             write             w1c   order  live  kept
//	0x000   4      ID       12345678          -                 -     -      -     -
//	0x004   2      control  0004              0f0f              -     8000   0010  -
//	0x006   2      status   0000              -                 f000  -      0003  1000*
//	0x009   1      byte     80                7f                -     -      -     07
//	0x010   8      address  0000000000000007  0000fffffffff000  -     -      -     -
func Example() {
	bank, err := reg.New(0x10, []reg.Reg{
		{Offset: 0x0, Width: 4, Name: "ID", Reset: 0x1234},
		{Offset: 0x4, Width: 2, Name: "control", Write: 0x0003, Order: 0x8000},
		{Offset: 0x6, Width: 2, Name: "status", W1C: 0x0001, Live: 0x0002},
	}, func(w reg.Write) {
		fmt.Printf("%s: %#x -> %#x, order %#x\n", w.Reg.Name, w.Old, w.New, w.Order())
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	bank.Put(0x6, 0x3)                                  // the device sets both bits
	_ = bank.Write(0x4, []byte{0xff, 0xff, 0x01, 0x00}) // software writes all it can
	fmt.Printf("status: %#x\n", bank.Get(0x6))          // what it cannot clear stays
	fmt.Print(reg.Table(bank.Registers()))
	// Output:
	// control: 0x0 -> 0x3, order 0x8000
	// status: 0x3 -> 0x2, order 0x0
	// status: 0x2
	// offset  width  name     reset     write  w1c   order  live  kept
	// 0x000   4      ID       00001234  -      -     -      -     -
	// 0x004   2      control  0000      0003   -     8000   -     -
	// 0x006   2      status   0000      -      0001  -      0002  -
}
