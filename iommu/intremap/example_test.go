package intremap_test

import (
	"fmt"

	"github.com/softmdev/softmdev/iommu/intremap"
)

// Two guests share a device, told apart by a PASID. Each may use its own
// handles, and only those.
func Example() {
	table, err := intremap.New(&intremap.Config{Entries: 256, EIM: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()

	block, err := table.Alloc(1, 4, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	device := intremap.SourceID(0x3a08)
	entry := intremap.Remapped{
		Common: intremap.Common{Present: true, Vector: 0x31, Source: intremap.OnlySource(device)},
		Dest:   intremap.Destination(7, table.EIM()),
	}.IRTE()
	if err := block.Set(2, entry, intremap.SinkFunc(func(i intremap.Interrupt) {
		fmt.Printf("vector %#x to cpu %d\n", i.Vector, i.Dest)
	})); err != nil {
		fmt.Println(err)
	}

	m := block.Message(2) // the device stores it, wherever it keeps messages
	fmt.Println(m)
	fmt.Println(table.Write(intremap.Requester{Source: device, VM: 1}, m))
	fmt.Println(table.Write(intremap.Requester{Source: device, VM: 2}, m))
	block.Revoke(2)
	fmt.Println(table.Write(intremap.Requester{Source: device, VM: 1}, m))
	for _, f := range table.Faults() {
		fmt.Println(f)
	}
	// Output:
	// 0x0 at 0xfee00058
	// vector 0x31 to cpu 7
	// <nil>
	// entry of another vm
	// entry not present
	// fault 1: 3a:01.0 of vm 2: 0x0 at 0xfee00058: entry 2: entry of another vm (0xe0)
	// fault 2: 3a:01.0 of vm 1: 0x0 at 0xfee00058: entry 2: entry not present (0x22)
}
