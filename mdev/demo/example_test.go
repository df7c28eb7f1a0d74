package demo_test

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A VMM in this process gives the device its guest's memory, which is a slice,
// writes registers as the guest does, and is told of the interrupt. There is no
// socket.
func Example() {
	ctx := context.Background()
	device, err := demo.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer device.Destroy()
	session, err := mdev.Open(ctx, device, &mdev.SessionConfig{Name: "example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = session.Close(ctx) }()

	// The VMM: where the guest's memory is, and what an interrupt does.
	memory := make([]byte, 1<<20)
	if err := session.Map(0, 1<<20, translate.Bytes(memory), addr.ReadWrite); err != nil {
		fmt.Println(err)
		return
	}
	interrupt := make(chan struct{}, 1)
	if err := session.IRQs().Func(mdev.IRQMSIX, 2, func() { interrupt <- struct{}{} }); err != nil {
		fmt.Println(err)
		return
	}

	// The guest: it lets the device reach memory, and has it copy some.
	copy(memory[0x1000:], "guest memory")
	write := func(region int, offset, value uint64, width int) {
		var p [8]byte
		binary.LittleEndian.PutUint64(p[:], value)
		if err := session.Write(ctx, region, offset, p[:width]); err != nil {
			fmt.Println(err)
		}
	}
	write(mdev.Config, pci.RegCommand, uint64(pci.CommandMemory|pci.CommandMaster), 2)
	write(mdev.BAR0, demo.RegSrc, 0x1000, 8)
	write(mdev.BAR0, demo.RegDst, 0x8ffa, 8)
	write(mdev.BAR0, demo.RegLen, 12, 4)
	write(mdev.BAR0, demo.RegVector, 2, 4)
	write(mdev.BAR0, demo.RegCommand, demo.CommandCopy, 4)
	<-interrupt
	fmt.Printf("copied: %q\n", memory[0x8ffa:0x9006])

	// What it may not reach, it does not.
	write(mdev.BAR0, demo.RegDst, 1<<20-4, 8)
	write(mdev.BAR0, demo.RegCommand, demo.CommandCopy, 4)
	<-interrupt
	var status [4]byte
	if err := session.Read(ctx, mdev.BAR0, demo.RegStatus, status[:]); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("status: %#x\n", binary.LittleEndian.Uint32(status[:]))
	fmt.Println("in memory's last bytes:", memory[1<<20-4:])
	// Output:
	// copied: "guest memory"
	// status: 0x160002
	// in memory's last bytes: [0 0 0 0]
}
