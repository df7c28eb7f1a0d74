//go:build linux

package vfiouser_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/translate/addr"
)

// register is a device of one register.
type register struct{ value [4]byte }

func (*register) Info() *mdev.Info {
	return &mdev.Info{API: mdev.APIPlatform, Reset: true, Regions: []mdev.RegionInfo{
		{Name: "register", Size: 4, Flags: mdev.RegionRead | mdev.RegionWrite},
	}}
}

func (*register) Open(context.Context, *mdev.Attachment) error { return nil }
func (*register) Close()                                       {}

func (r *register) Read(_ context.Context, _ int, off uint64, p []byte) error {
	copy(p, r.value[off:])
	return nil
}

func (r *register) Write(_ context.Context, _ int, off uint64, p []byte) error {
	copy(r.value[off:], p)
	return nil
}

func (r *register) Reset(context.Context, mdev.ResetKind) error {
	r.value = [4]byte{}
	return nil
}

// serve serves a register at a socket, until stop is called.
func serve() (path string, stop func()) {
	dir, err := os.MkdirTemp("", "vfiouser")
	if err != nil {
		log.Fatal(err)
	}
	path = filepath.Join(dir, "socket")
	l, err := vfiouser.Listen(path)
	if err != nil {
		log.Fatal(err)
	}
	s, err := vfiouser.NewServer(vfiouser.OpenDevice(&register{}), nil)
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve(context.Background(), l.FD()) }()
	return path, func() {
		s.Close()
		<-served
		l.Close()
		os.RemoveAll(dir)
	}
}

// A client drives a device over a socket, as a VMM does.
func ExampleDial() {
	path, stop := serve()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := vfiouser.Dial(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	info, err := c.DeviceInfo(ctx)
	fmt.Println(info.API(), info.Regions, "regions", err)

	// Guest memory: a file that the device maps.
	ram, err := unix.MemfdCreate("ram", unix.MFD_CLOEXEC)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(ram)
	if err := unix.Ftruncate(ram, 1<<20); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.MapDMAFD(ctx, 0x100000, 1<<20, addr.ReadWrite, ram, 0))

	b := []byte{1, 2, 3, 4}
	fmt.Println(c.Write(ctx, 0, 0, b))
	fmt.Println(c.PostWrite(ctx, 0, 1, []byte{9})) // not waited for
	fmt.Println(c.Read(ctx, 0, 0, b), b)           // after all that was sent before

	err = c.Read(ctx, 0, 2, b)
	fmt.Println(err, errs.Errno(err) == unix.EINVAL)
	fmt.Println(c.Reset(ctx), c.Read(ctx, 0, 0, b), b)
	// Output:
	// vfio-platform 1 regions <nil>
	// <nil>
	// <nil>
	// <nil>
	// <nil> [1 9 3 4]
	// REGION_READ region 0 offset 0x2 count 4: refused: invalid argument true
	// <nil> <nil> [0 0 0 0]
}

// A guest's memory map changes in many steps at once: sent together, they cost
// a fraction of what they do one by one.
func ExampleClient_Pipeline() {
	path, stop := serve()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := vfiouser.Dial(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ram, err := unix.MemfdCreate("ram", unix.MFD_CLOEXEC)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(ram)
	if err := unix.Ftruncate(ram, 1<<20); err != nil {
		log.Fatal(err)
	}

	p := c.Pipeline(ctx)
	for page := addr.IOVA(0); page < 1<<20; page += 4096 {
		p.MapDMAFD(page, 4096, addr.ReadWrite, ram, int64(page))
	}
	p.UnmapDMA(0xa0000, 4096)
	p.UnmapDMA(0x200000, 4096) // there is none
	fmt.Println(p.Wait())
	// Output:
	// DMA_UNMAP argsz 24 flags 0 address 0x200000 size 0x1000: refused: no such file or directory
}
