package mdev_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

var ctx = context.Background()

// adder is a device: it adds up the numbers that the guest writes to register
// 0, and after each raises an interrupt.
type adder struct {
	at  *mdev.Attachment
	sum uint32
}

func (*adder) Info() *mdev.Info {
	return &mdev.Info{
		API:   mdev.APIPlatform,
		Reset: true,
		Regions: []mdev.RegionInfo{
			{Name: "registers", Size: 4, Flags: mdev.RegionRead | mdev.RegionWrite},
		},
		IRQs: []mdev.IRQInfo{{Name: "done", Count: 1, Flags: mdev.IRQEventFD}},
	}
}

func (d *adder) Open(_ context.Context, at *mdev.Attachment) error {
	*d = adder{at: at}
	return nil
}

func (d *adder) Close() {}

func (d *adder) Read(_ context.Context, _ int, off uint64, p []byte) error {
	copy(p, binary.LittleEndian.AppendUint32(nil, d.sum)[off:])
	return nil
}

func (d *adder) Write(_ context.Context, _ int, off uint64, p []byte) error {
	if off != 0 || len(p) != 4 {
		return errs.ErrInvalid
	}
	d.sum += binary.LittleEndian.Uint32(p)
	d.at.IRQs.Trigger(0, 0)
	return nil
}

func (d *adder) Reset(context.Context, mdev.ResetKind) error {
	d.sum = 0
	return nil
}

// A device, and a VMM in the same process that has it for a while.
func Example() {
	s, err := mdev.Open(ctx, &adder{}, &mdev.SessionConfig{Name: "adder0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	interrupts := 0
	_ = s.IRQs().Func(0, 0, func() { interrupts++ })

	var reg [4]byte
	for _, n := range []uint32{30, 12} {
		binary.LittleEndian.PutUint32(reg[:], n)
		_ = s.Write(ctx, 0, 0, reg[:])
	}
	_ = s.Read(ctx, 0, 0, reg[:])
	fmt.Println("sum", binary.LittleEndian.Uint32(reg[:]), "after", interrupts, "interrupts")
	fmt.Println(s.Write(ctx, 0, 2, reg[:]))

	_ = s.Reset(ctx)
	_ = s.Read(ctx, 0, 0, reg[:])
	fmt.Println("sum", binary.LittleEndian.Uint32(reg[:]), "after a reset")

	fmt.Println(s.Close(ctx), s.State())
	fmt.Println(errors.Is(s.Read(ctx, 0, 0, reg[:]), errs.ErrGone))
	// Output:
	// sum 42 after 2 interrupts
	// region 0 (registers) at 0x2, 4 bytes: region has 0x4 bytes: invalid argument
	// sum 0 after a reset
	// <nil> closed
	// true
}

// Guest memory is mapped before the device can reach it.
func ExampleSession_Map() {
	s, err := mdev.Open(ctx, &adder{}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close(ctx)
	ram := translate.Bytes(make([]byte, 1<<20))
	fmt.Println(s.Map(0, 1<<20, ram, addr.ReadWrite))
	fmt.Println(s.Map(0x8000, 0x1000, ram, addr.Read))
	n, err := s.Unmap(ctx, 0, 1<<20)
	fmt.Println(n, err)
	// Output:
	// <nil>
	// iova 0x8000: already exists
	// 0x100000 <nil>
}
