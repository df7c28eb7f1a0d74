//go:build linux

package vfiouserbench

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/bench"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/vfiouser"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// Benchmarks lists the package's benchmarks.
//
//	vfiouser/read-4/W/X      REGION_READ of 4 bytes: there and back
//	vfiouser/post-4/X        REGION_WRITE of 4 bytes without reply, each sent by
//	                         itself
//	vfiouser/map/server      DMA_MAP and DMA_UNMAP of a page of a file, pipelined;
//	                         counted in pairs
//	vfiouser/lookup/N        a look-up in the store when the client holds N mappings
//
// W is one-cpu or two-cpus, where the two ends are kept on one processor or
// apart, or free, where the kernel places them. X is raw, the same bytes between
// two threads; unixconn, the same by net.UnixConn, which cannot be kept
// anywhere; server; or client, the project's own client at the other end.
func Benchmarks() []bench.Benchmark {
	const read, post, lookup = "vfiouser/read-4/", "vfiouser/post-4/", "vfiouser/lookup/"
	var list []bench.Benchmark
	round := func(prefix, x, baseline string, run func(*testing.B)) {
		if baseline != "" {
			baseline = prefix + baseline
		}
		list = append(list, bench.Benchmark{Name: prefix + x, Metric: bench.Elapsed, Baseline: baseline, Run: run})
	}
	for _, at := range places() {
		prefix := read + at.name + "/"
		round(prefix, "raw", "", func(b *testing.B) { rawReads(b, at) })
		round(prefix, "server", "raw", func(b *testing.B) { serverReads(b, at) })
		round(prefix, "client", "raw", func(b *testing.B) { clientReads(b, at) })
	}
	round(read+"free/", "unixconn", "", unixConnReads)
	round(read+"free/", "server", "unixconn", func(b *testing.B) { serverReads(b, anywhere) })
	round(read+"free/", "client", "unixconn", func(b *testing.B) { clientReads(b, anywhere) })
	return append(list, []bench.Benchmark{
		{Name: post + "raw", Unit: bench.PerSec, Metric: bench.PerSec, Run: rawPosts},
		{Name: post + "server", Unit: bench.PerSec, Metric: bench.PerSec, Baseline: post + "raw", Run: serverPosts},
		{Name: "vfiouser/map/server", Unit: bench.PerSec, Metric: bench.PerSec, Run: serverMaps},
		{Name: lookup + "64", Metric: bench.CPU, Run: func(b *testing.B) { lookups(b, 64) }},
		{Name: lookup + "65535", Metric: bench.CPU, Baseline: lookup + "64", Run: func(b *testing.B) { lookups(b, 65535) }},
	}...)
}

// Messages of a read: the request and the size of its reply.
var (
	readRequest = frame(wire.CmdRegionRead, 0, access(8, 4))
	readReply   = wire.HeaderLen + wire.RegionAccessLen + 4
)

const trips = 32 // at a time

// rawReads are the bytes of a read there and back between two threads that do
// nothing with them.
func rawReads(b *testing.B, at place) {
	ours, theirs := socketPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer pin(at.theirs)()
		in, out := make([]byte, len(readRequest)), make([]byte, readReply)
		for {
			if n, err := unix.Read(theirs, in); n != len(in) || err != nil {
				return
			}
			if _, err := unix.Write(theirs, out); err != nil {
				return
			}
		}
	}()
	defer pin(at.ours)()
	p := &peer{b, ours, make([]byte, readReply)}
	bench.Wall(b, trips, func() {
		for range trips {
			p.write(readRequest)
			p.read(p.in)
		}
	})
	unix.Close(ours)
	<-done
	unix.Close(theirs)
}

func unixConnReads(b *testing.B) {
	ours, theirs := socketPair(b)
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	x, y := conn(ours), conn(theirs)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer y.Close()
		in, out := make([]byte, len(readRequest)), make([]byte, readReply)
		for {
			if n, err := y.Read(in); n != len(in) || err != nil {
				return
			}
			if _, err := y.Write(out); err != nil {
				return
			}
		}
	}()
	in := make([]byte, readReply)
	bench.Wall(b, trips, func() {
		for range trips {
			if _, err := x.Write(readRequest); err != nil {
				b.Fatal(err)
			}
			if n, err := x.Read(in); n != len(in) || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	x.Close()
	<-done
}

func serverReads(b *testing.B, at place) {
	_, p := newPeer(b, at)
	defer pin(at.ours)()
	in := p.in[:readReply]
	bench.Wall(b, trips, func() {
		for range trips {
			p.write(readRequest)
			p.read(in)
		}
	})
}

func clientReads(b *testing.B, at place) {
	_, fd := serve(b, at)
	defer pin(at.ours)()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c, err := vfiouser.NewClient(ctx, fd, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var in [4]byte
	bench.Wall(b, trips, func() {
		for range trips {
			if err := c.Read(ctx, mdev.BAR0, 8, in[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Writes are posted so many at a time, and then waited for.
const posts = 1024

var postRequest = frame(wire.CmdRegionWrite, wire.NoReply, access(16, 4), word)

func rawPosts(b *testing.B) {
	ours, theirs := socketPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p := &peer{b, theirs, nil}
		in, fence := make([]byte, len(postRequest)), make([]byte, readReply)
		for i := 0; ; i++ {
			for got := 0; got < len(in); {
				n, err := unix.Read(theirs, in[got:])
				if n == 0 || err != nil && err != unix.EINTR {
					return
				}
				got += max(n, 0)
			}
			if i%posts == posts-1 {
				p.write(fence)
			}
		}
	}()
	p := &peer{b, ours, make([]byte, readReply)}
	bench.Rate(b, posts, func() {
		for range posts {
			p.write(postRequest)
		}
		p.read(p.in)
	})
	unix.Close(ours)
	<-done
	unix.Close(theirs)
}

func serverPosts(b *testing.B) {
	_, p := newPeer(b, anywhere)
	in := p.in[:readReply]
	bench.Rate(b, posts, func() {
		for range posts - 1 {
			p.write(postRequest)
		}
		p.write(readRequest)
		p.read(in)
	})
}

// pairs is how many mappings are made and undone at a time: their replies fit
// the socket.
const pairs = 64

// serverMaps maps pages of a file and unmaps them. As from a VMM whose memory
// is one file, most of it is mapped all the time.
func serverMaps(b *testing.B) {
	_, p := newPeer(b, anywhere)
	fd := memfd(b, 1<<30)
	p.mapFile(fd, 1<<40, 1<<30, 0)
	p.reply()
	undo := make([][]byte, 0, pairs)
	bench.Rate(b, pairs, func() {
		undo = undo[:0]
		for i := range uint64(pairs) {
			p.mapFile(fd, i*2<<addr.PageShift, uint64(addr.PageSize), i<<addr.PageShift)
			p.write(frame(wire.CmdDMAUnmap, 0, wire.DMAUnmap{
				Argsz: wire.DMAUnmapLen, Address: i * 2 << addr.PageShift, Size: uint64(addr.PageSize),
			}.Append(nil)))
		}
		p.replies(2 * pairs)
	})
}

// mapFile asks for a mapping.
func (p *peer) mapFile(fd int, iova, n, off uint64) {
	m := frame(wire.CmdDMAMap, 0, wire.DMAMap{
		Argsz: wire.DMAMapLen, Flags: wire.MapRead | wire.MapWrite, Offset: off, Address: iova, Size: n,
	}.Append(nil))
	for {
		switch err := unix.Sendmsg(p.fd, m, unix.UnixRights(fd), nil, 0); err {
		case nil:
			return
		case unix.EINTR:
		default:
			p.b.Fatal(err)
		}
	}
}

func memfd(b *testing.B, size int64) int {
	fd, err := unix.MemfdCreate("vfiouserbench", unix.MFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, size); err != nil {
		b.Fatal(err)
	}
	return fd
}

// lookups looks up in the store of a client that holds n mappings of single
// pages.
func lookups(b *testing.B, n int) {
	s, p := newPeer(b, anywhere)
	fd := memfd(b, int64(n)<<addr.PageShift)
	for i := 0; i < n; i++ {
		p.mapFile(fd, uint64(i)*2<<addr.PageShift, uint64(addr.PageSize), uint64(i)<<addr.PageShift)
		p.reply()
	}
	store := s.Session().Store()
	if f := store.Files(); f.Windows != 1 {
		b.Errorf("%d mappings of one file take %d windows", n, f.Windows)
	}
	r := store.NewReader()
	defer r.Close()
	// In an order that visits all and no neighbour.
	const batch = 4096
	at := 0
	bench.Timed(b, batch, func() {
		r.Enter()
		for range batch {
			if at += 40507; at >= n { // n is 64 or 65535, with which it has no divisor in common
				at %= n
			}
			if _, ok := r.Lookup(addr.IOVA(at) * 2 << addr.PageShift); !ok {
				b.Fatal("not mapped")
			}
		}
		r.Exit()
	})
}
