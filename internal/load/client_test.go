package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/translate/addr"
)

const (
	memorySize = 8 << 20 // of a guest
	iovaStep   = 1 << 32 // guests have their memory at addresses of their own
	maxLen     = 64 << 10
)

// guest is one client with its memory, and what that memory must hold.
type guest struct {
	id     int
	c      *vfiouser.Client
	fd     int
	mem    []byte // shared with the server
	want   []byte // what mem must hold
	base   addr.IOVA
	events [demo.Vectors]*os.File // eventfds, non-blocking
	rnd    *rand.Rand

	access  *hdrhistogram.Histogram // register read, ns
	command *hdrhistogram.Histogram // doorbell to interrupt, ns
	remaps  int
}

func newGuest(ctx context.Context, id int, path string) (*guest, error) {
	g := &guest{
		id: id, fd: -1, base: addr.IOVA(id) * iovaStep, want: make([]byte, memorySize), rnd: rand.New(rand.NewPCG(uint64(id), 1)),
		access:  hdrhistogram.New(1, int64(time.Minute), 3),
		command: hdrhistogram.New(1, int64(time.Minute), 3),
	}
	var err error
	if g.fd, err = unix.MemfdCreate("guest", unix.MFD_CLOEXEC); err != nil {
		return g, err
	}
	if err := unix.Ftruncate(g.fd, memorySize); err != nil {
		return g, err
	}
	if g.mem, err = unix.Mmap(g.fd, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return g, err
	}
	for i := range g.want {
		g.want[i] = byte(g.rnd.Uint32())
	}
	copy(g.mem, g.want)
	if g.c, err = vfiouser.Dial(ctx, path, nil); err != nil {
		return g, err
	}
	// Bus mastering, as a driver turns it on.
	if err := g.c.Write(ctx, mdev.Config, 4, []byte{0x06, 0}); err != nil {
		return g, err
	}
	if err := g.arm(ctx); err != nil {
		return g, err
	}
	return g, g.mapMemory(ctx)
}

func (g *guest) arm(ctx context.Context) error {
	req := mdev.IRQRequest{Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: mdev.IRQMSIX, Count: demo.Vectors}
	for i := range g.events {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return err
		}
		g.events[i] = os.NewFile(uintptr(fd), "eventfd")
		passed, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		req.FDs = append(req.FDs, passed)
	}
	return g.c.SetIRQs(ctx, req)
}

func (g *guest) mapMemory(ctx context.Context) error {
	return g.c.MapDMAFD(ctx, g.base, memorySize, addr.ReadWrite, g.fd, 0)
}

func (g *guest) close() error {
	var err error
	if g.c != nil {
		err = g.c.Close()
	}
	for _, f := range g.events {
		if f != nil {
			f.Close()
		}
	}
	if g.mem != nil {
		_ = unix.Munmap(g.mem)
	}
	if g.fd >= 0 {
		unix.Close(g.fd)
	}
	return err
}

// work runs commands until the time is over and says what went wrong.
func (g *guest) work(ctx context.Context, until time.Time) error {
	for n := 0; time.Now().Before(until); n++ {
		if err := g.step(ctx); err != nil {
			return fmt.Errorf("guest %d, command %d: %w", g.id, n, err)
		}
		if n%500 == 499 { // as a guest that changes its memory map
			g.remaps++
			if err := g.c.UnmapDMA(ctx, g.base, memorySize); err != nil {
				return err
			}
			if err := g.mapMemory(ctx); err != nil {
				return err
			}
		}
	}
	return g.check()
}

func (g *guest) step(ctx context.Context) error {
	n := 1 + g.rnd.IntN(maxLen)
	src, dst := g.rnd.IntN(memorySize-n), g.rnd.IntN(memorySize-n)
	for dst < src+n && src < dst+n { // the order of an overlapping copy is the engine's
		dst = g.rnd.IntN(memorySize - n)
	}
	vector, value := g.rnd.IntN(demo.Vectors), g.rnd.Uint32()
	command := 1 + g.rnd.IntN(4)

	var b [32]byte // SRC to VECTOR
	le := binary.LittleEndian
	le.PutUint64(b[0:], uint64(g.base)+uint64(src))
	le.PutUint64(b[8:], uint64(g.base)+uint64(dst))
	le.PutUint32(b[16:], uint32(n))
	le.PutUint32(b[20:], value)
	le.PutUint32(b[24:], uint32(vector))
	for _, r := range []struct{ at, n int }{{0, 8}, {8, 8}, {16, 4}, {20, 4}, {24, 4}} {
		if err := g.c.PostWrite(ctx, mdev.BAR0, demo.RegSrc+uint64(r.at), b[r.at:][:r.n]); err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := g.c.PostWrite(ctx, mdev.BAR0, demo.RegCommand, le.AppendUint32(nil, uint32(command))); err != nil {
		return err
	}
	if err := g.await(vector); err != nil {
		return err
	}
	g.command.RecordValue(int64(time.Since(begin)))

	status, err := g.read(ctx, demo.RegStatus)
	if err != nil {
		return err
	}
	if status&demo.StatusError != 0 {
		return fmt.Errorf("command %d: status %#x", command, status)
	}
	switch command {
	case demo.CommandCopy:
		copy(g.want[dst:dst+n], g.want[src:src+n])
	case demo.CommandFill:
		for i := range g.want[dst : dst+n] {
			g.want[dst+i] = byte(value)
		}
	case demo.CommandChecksum:
		got, err := g.read(ctx, demo.RegValue)
		if err != nil {
			return err
		}
		if want := crc32.ChecksumIEEE(g.want[src : src+n]); got != want {
			return fmt.Errorf("checksum %#x, want %#x", got, want)
		}
	}
	if command == demo.CommandCopy || command == demo.CommandFill {
		if string(g.mem[dst:dst+n]) != string(g.want[dst:dst+n]) {
			return fmt.Errorf("command %d: %d bytes at %#x are not what they must be", command, n, dst)
		}
	}
	return nil
}

func (g *guest) read(ctx context.Context, at uint64) (uint32, error) {
	var b [4]byte
	begin := time.Now()
	err := g.c.Read(ctx, mdev.BAR0, at, b[:])
	g.access.RecordValue(int64(time.Since(begin)))
	return binary.LittleEndian.Uint32(b[:]), err
}

// await takes the one interrupt of a command, and finds any that is not one.
func (g *guest) await(vector int) error {
	f := g.events[vector]
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	var b [8]byte
	if _, err := f.Read(b[:]); err != nil {
		return fmt.Errorf("interrupt %d: %w", vector, err)
	}
	if n := binary.NativeEndian.Uint64(b[:]); n != 1 {
		return fmt.Errorf("interrupt %d came %d times", vector, n)
	}
	return nil
}

// check looks at all there is: memory that nobody was to touch, and interrupts
// that nobody asked for.
func (g *guest) check() error {
	for i := range g.want {
		if g.mem[i] != g.want[i] {
			return fmt.Errorf("guest %d: byte %#x is %#x, want %#x", g.id, i, g.mem[i], g.want[i])
		}
	}
	for v, f := range g.events {
		if err := f.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
		var b [8]byte
		if _, err := f.Read(b[:]); err == nil {
			return fmt.Errorf("guest %d: %d interrupts %d too many", g.id, binary.NativeEndian.Uint64(b[:]), v)
		}
	}
	return nil
}
