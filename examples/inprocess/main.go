// Inprocess is a VMM in Go that has a mediated device in its own process: the
// guest's memory is a []byte, a doorbell is a function call, an interrupt is a
// message on a channel, and there is no socket.
//
//	go run ./examples/inprocess
//
// The guest is a goroutine in place of a virtual CPU (guest.go): it leaves to
// the VMM when it touches a device, as a virtual CPU does under KVM. The VMM
// (vmm.go) routes what it touched: configuration space, BARs wherever the guest
// has put them, and the MSI-X table, which it emulates, as QEMU does.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run boots a guest with the device, and shows what it says.
func run(ctx context.Context, console io.Writer) (err error) {
	device, err := demo.New(nil)
	if err != nil {
		return err
	}
	defer device.Destroy()
	session, err := mdev.Open(ctx, device, &mdev.SessionConfig{Name: "demo0"})
	if err != nil {
		return err
	}
	defer func() {
		if e := session.Close(ctx); err == nil {
			err = e
		}
	}()

	// The guest's memory, from guest-physical address 0 on. There is no virtual
	// IOMMU: what the device calls an IOVA is the guest's address.
	ram := make([]byte, ramSize)
	if err := session.Map(addr.IdentityIOVA(0), ramSize, translate.Bytes(ram), addr.ReadWrite); err != nil {
		return err
	}
	cpu := newCPU(ram, console)
	defer close(cpu.off)
	vmm, err := newVMM(ctx, session, cpu)
	if err != nil {
		return err
	}
	go cpu.boot()
	return vmm.loop(ctx)
}
