package pinning_test

import (
	"context"
	"fmt"
	"time"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A program's page is pinned for reading: the device may read it at the host
// address of the pin, and do nothing else with it.
func Example() {
	store, _ := translate.New(nil)
	defer store.Close()
	guest := make([]byte, 2*addr.PageSize)
	copy(guest[0x1010:], "volume label")
	if err := store.Map(0x7000_0000, addr.Len(len(guest)), translate.Bytes(guest), addr.ReadWrite); err != nil {
		fmt.Println(err)
	}

	space := iommu.NewSpace(&iommu.Config{Layout: iommu.Scattered, Seed: 1})
	pinner, _ := pinning.New(store, space, nil)
	defer pinner.Close()
	device := space.NewDomain("dasd0")
	owner := pinner.NewOwner("dasd0", device, nil)

	lease := owner.Begin(1)
	pin, err := lease.Pin(0x7000_1010, 12, addr.Read)
	fmt.Println("pinned:", err, "charged:", pinner.Charged())

	data := make([]byte, 12)
	fmt.Println(device.Read(pin.HPA(), data), string(data))
	fmt.Println("write refused:", device.Write(pin.HPA(), data) != nil)
	lease.Release()
	fmt.Println("read refused:", device.Read(pin.HPA(), data) != nil)
	fmt.Println("faults:", device.FaultCount(), "charged:", pinner.Charged())
	// Output:
	// pinned: <nil> charged: 0x1000
	// <nil> volume label
	// write refused: true
	// read refused: true
	// faults: 2 charged: 0x0
}

// An unmap that waits in vain says for whom.
func ExamplePinner_Drain() {
	store, _ := translate.New(nil)
	defer store.Close()
	_ = store.Map(0x1000, 0x2000, translate.Bytes(make([]byte, 0x2000)), addr.ReadWrite)
	space := iommu.NewSpace(nil)
	pinner, _ := pinning.New(store, space, nil)
	defer pinner.Close()
	lease := pinner.NewOwner("dasd0", space.NewDomain("dasd0"), nil).Begin(7)
	_, _ = lease.Pin(0x2ff8, 8, addr.Write)

	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := store.Unmap(ctx, 0x1000, 0x2000)
	fmt.Println(err)
	fmt.Println(errs.Errno(err))
	fmt.Println(pinner.Who(0x2000))

	lease.Release()
	n, err := store.Unmap(context.Background(), 0x1000, 0x2000)
	fmt.Println(n, err)
	// Output:
	// iova 0x1000: [0x2000, 0x2fff] -w held by dasd0 program 7: busy
	// device or resource busy
	// [dasd0 program 7 holds [0x2000, 0x2fff] -w]
	// 0x2000 <nil>
}

// How much memory will these programs lock?
func ExamplePinner_Forecast() {
	store, _ := translate.New(nil)
	defer store.Close()
	_ = store.Map(0, 0x10000, translate.Bytes(make([]byte, 0x10000)), addr.ReadWrite)
	pinner, _ := pinning.New(store, iommu.NewSpace(nil), nil)
	defer pinner.Close()
	fmt.Println(pinner.Forecast([]pinning.Request{
		{IOVA: 0x0ff8, Len: 16, Access: addr.Read},      // two pages
		{IOVA: 0x1000, Len: 0x1000, Access: addr.Write}, // one of them again
		{IOVA: 0x8000, Len: 1, Access: addr.Read},
	}))
	// Output: 0x3000
}
