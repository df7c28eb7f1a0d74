//go:build linux

package vfiouserbench

import (
	"context"
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// registers is a device that does as little as one can: what is measured is
// the way to it.
type registers struct{ regs [4096]byte }

var info = mdev.Info{
	API:     mdev.APIPCI,
	Regions: make([]mdev.RegionInfo, mdev.NumPCIRegions),
	IRQs:    make([]mdev.IRQInfo, mdev.NumPCIIRQs),
}

func init() {
	const rw = mdev.RegionRead | mdev.RegionWrite
	info.Regions[mdev.BAR0] = mdev.RegionInfo{Name: "bar0", Size: 4096, Flags: rw}
	info.Regions[mdev.Config] = mdev.RegionInfo{Name: "config", Size: 256, Flags: rw}
}

func (*registers) Info() *mdev.Info                             { return &info }
func (*registers) Open(context.Context, *mdev.Attachment) error { return nil }
func (*registers) Close()                                       {}
func (*registers) Reset(context.Context, mdev.ResetKind) error  { return nil }
func (d *registers) Read(_ context.Context, _ int, off uint64, p []byte) error {
	copy(p, d.regs[off:])
	return nil
}

func (d *registers) Write(_ context.Context, _ int, off uint64, p []byte) error {
	copy(d.regs[off:], p)
	return nil
}

// socketPair is two ends of a connected socket.
func socketPair(b *testing.B) (int, int) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	return fds[0], fds[1]
}

// place says on which processors the two ends of a socket run: a round trip
// within one is a third of one between two, and the kernel may choose either.
type place struct {
	name         string
	ours, theirs int // -1: anywhere
}

// places are those that this machine has.
func places() []place {
	var set unix.CPUSet
	var cpus []int
	if unix.SchedGetaffinity(0, &set) == nil {
		for i := 0; len(cpus) < min(2, set.Count()); i++ {
			if set.IsSet(i) {
				cpus = append(cpus, i)
			}
		}
	}
	var list []place
	if len(cpus) > 0 {
		list = append(list, place{"one-cpu", cpus[0], cpus[0]})
	}
	if len(cpus) > 1 {
		list = append(list, place{"two-cpus", cpus[0], cpus[1]})
	}
	return list
}

var anywhere = place{"free", -1, -1}

// pin keeps the goroutine on a thread, and that on a processor, until undo.
func pin(cpu int) (undo func()) {
	runtime.LockOSThread()
	var old, set unix.CPUSet
	if cpu < 0 || unix.SchedGetaffinity(0, &old) != nil {
		return runtime.UnlockOSThread
	}
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set) // was among those of places
	return func() {
		_ = unix.SchedSetaffinity(0, &old)
		runtime.UnlockOSThread()
	}
}

// serve serves a device on one end of a socket, and returns the other.
func serve(b *testing.B, at place) (*vfiouser.Server, int) {
	s, err := vfiouser.NewServer(vfiouser.OpenDevice(new(registers)), nil)
	if err != nil {
		b.Fatal(err)
	}
	ours, theirs := socketPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer pin(at.theirs)()
		if err := s.ServeConn(context.Background(), theirs); err != nil {
			b.Error(err)
		}
	}()
	b.Cleanup(func() {
		<-done // whoever took our end has closed it
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s, ours
}

// peer is a client that does as little as one can.
type peer struct {
	b  *testing.B
	fd int
	in []byte
}

// newPeer is a peer that has negotiated.
func newPeer(b *testing.B, at place) (*vfiouser.Server, *peer) {
	s, fd := serve(b, at)
	p := &peer{b, fd, make([]byte, 64<<10)}
	b.Cleanup(func() { unix.Close(fd) })
	p.write(frame(wire.CmdVersion, 0, wire.Version{}.Append(nil)))
	p.reply()
	return s, p
}

// frame is a message.
func frame(command wire.Command, flags wire.Flags, payload ...[]byte) []byte {
	size := wire.HeaderLen
	for _, p := range payload {
		size += len(p)
	}
	m := wire.Header{ID: 1, Command: command, Size: uint32(size), Flags: wire.TypeCommand | flags}.Append(nil)
	for _, p := range payload {
		m = append(m, p...)
	}
	return m
}

func (p *peer) write(m []byte) {
	for len(m) > 0 {
		n, err := unix.Write(p.fd, m)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			p.b.Fatal(err)
		}
		m = m[n:]
	}
}

// read fills m.
func (p *peer) read(m []byte) {
	for len(m) > 0 {
		n, err := unix.Read(p.fd, m)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			p.b.Fatal(n, err)
		}
		m = m[n:]
	}
}

// reply is the next reply, which must be none of an error.
func (p *peer) reply() []byte {
	p.read(p.in[:wire.HeaderLen])
	h := wire.DecodeHeader((*[wire.HeaderLen]byte)(p.in))
	if h.Flags != wire.TypeReply {
		p.b.Fatalf("%v", h)
	}
	m := p.in[:h.Size]
	p.read(m[wire.HeaderLen:])
	return m
}

// replies takes n replies, as many at a time as there are.
func (p *peer) replies(n int) {
	have := 0
	for n > 0 {
		k, err := unix.Read(p.fd, p.in[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			p.b.Fatal(k, err)
		}
		have += k
		at := 0
		for have-at >= wire.HeaderLen {
			h := wire.DecodeHeader((*[wire.HeaderLen]byte)(p.in[at:]))
			if h.Flags != wire.TypeReply {
				p.b.Fatalf("%v", h)
			}
			if have-at < int(h.Size) {
				break
			}
			at += int(h.Size)
			n--
		}
		have = copy(p.in, p.in[at:have])
	}
}

var word = binary.NativeEndian.AppendUint32(nil, 0x600d600d)

func access(off uint64, count int) []byte {
	return wire.RegionAccess{Offset: off, Region: mdev.BAR0, Count: uint32(count)}.Append(nil)
}
