package iommu_test

import (
	"fmt"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// A mediator writes a host program into memory of its own. The device may
// fetch it there and nowhere else.
func Example() {
	space := iommu.NewSpace(nil)
	device := space.NewDomain("dasd0")
	frames, err := space.Alloc(64, 1<<31)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer frames.Free()
	if err := device.GrantFrames(frames, addr.Read); err != nil {
		fmt.Println(err)
	}
	copy(frames.Mem, "a channel program")

	b := make([]byte, 17)
	fmt.Println(device.Read(frames.HPA, b), string(b))
	fmt.Println(device.Write(frames.HPA, b))
	fmt.Println(device.Read(frames.HPA+0x1000, b))
	for _, f := range device.Faults() {
		fmt.Println(f)
	}
	// Output:
	// <nil> a channel program
	// hpa 0x10000: access not permitted
	// hpa 0x11000: outside the device's reach
	// dasd0: fault 1: -w of 17 bytes at 0x10000: hpa 0x10000: access not permitted
	// dasd0: fault 2: r- of 17 bytes at 0x11000: hpa 0x11000: outside the device's reach
}
