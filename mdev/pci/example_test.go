package pci_test

import (
	"encoding/binary"
	"fmt"

	"github.com/softmdev/softmdev/mdev/pci"
)

// A driver sizes a BAR, gives it an address, and resets the function.
func Example() {
	space, err := pci.New(&pci.Config{
		Vendor: 0x1234, Device: 0x5678, Class: 0xff0000,
		BARs:         [6]pci.BAR{{Size: 4 << 10}},
		Capabilities: []pci.Capability{pci.Express{FLR: true}},
		OnCommand:    func(old, now pci.Command) { fmt.Println("command:", old, "->", now) },
		OnFLR:        func() { fmt.Println("function-level reset") },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var p [4]byte
	_ = space.Write(pci.RegBAR0, []byte{0xff, 0xff, 0xff, 0xff})
	_ = space.Read(pci.RegBAR0, p[:])
	fmt.Printf("size: %#x\n", -binary.LittleEndian.Uint32(p[:]))

	_ = space.Write(pci.RegBAR0, []byte{0x00, 0x00, 0xbd, 0xfe})
	_ = space.Write(pci.RegCommand, []byte{byte(pci.CommandMemory | pci.CommandMaster), 0})
	at, on := space.BAR(0)
	fmt.Printf("answers at %#x: %v\n", at, on)

	control := uint64(space.Find(pci.IDExpress) + pci.ExpressDeviceControl)
	_ = space.Write(control, []byte{0x00, 0x80})
	// Output:
	// size: 0x1000
	// command: 0 -> MEMORY|MASTER
	// answers at 0xfebd0000: true
	// function-level reset
	// command: MEMORY|MASTER -> 0
}

// An interrupt comes while its vector is masked, and is sent when it no longer
// is.
func ExampleMSIXTable() {
	table, err := pci.NewMSIXTable(pci.MSIX{Vectors: 4, PBAOffset: 0x800}, func(vector int, m pci.Message) {
		fmt.Printf("vector %d: write %#x to %#x\n", vector, m.Data, m.Addr)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	table.Control(true, false) // the driver enables MSI-X
	table.Write(0, 2*16, []byte{0x00, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0x22, 0x40, 0, 0})
	table.Trigger(2) // the device: vectors are masked after a reset
	pending := make([]byte, 1)
	table.Read(0, 0x800, pending)
	fmt.Printf("pending: %04b\n", pending[0])
	table.Write(0, 2*16+12, []byte{0, 0, 0, 0}) // the driver unmasks it
	// Output:
	// pending: 0100
	// vector 2: write 0x4022 to 0xfee00000
}
