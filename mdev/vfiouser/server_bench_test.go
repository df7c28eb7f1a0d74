//go:build linux

package vfiouser

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// benchServer serves a device to a raw client, which has negotiated.
func benchServer(b *testing.B) *socketEnd {
	b.Helper()
	s, err := NewServer(OpenDevice(newRigDevice(b)), nil)
	require.NoError(b, err)
	x, y := socketPair(b)
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(context.Background(), y) }()
	p := newSocketEnd(b, x)
	b.Cleanup(func() {
		p.close()
		<-served
		s.Close()
	})
	p.write(frame(0, wire.CmdVersion, 0, wire.Version{}.Append(nil)))
	p.next()
	return p
}

func exchange(b *testing.B, fd int, request, reply []byte) {
	if _, err := unix.Write(fd, request); err != nil {
		b.Fatal(err)
	}
	for got := 0; got < len(reply); {
		n, err := unix.Read(fd, reply[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			b.Fatal(n, err)
		}
		got += n
	}
}

// BenchmarkRegionRead4 against BenchmarkPingPong is what the server adds to the
// two system calls at each end.
func BenchmarkRegionRead4(b *testing.B) {
	p := benchServer(b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	request := frame(1, wire.CmdRegionRead, 0, wire.RegionAccess{Region: 0, Count: 4}.Append(nil))
	reply := make([]byte, 36)
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, p.fd, request, reply)
	}
}

func BenchmarkPingPong(b *testing.B) {
	x, y := socketPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		in, out := make([]byte, 32), make([]byte, 36)
		for {
			if n, err := unix.Read(y, in); n == 0 || err != nil {
				return
			}
			if _, err := unix.Write(y, out); err != nil {
				return
			}
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	request, reply := make([]byte, 32), make([]byte, 36)
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, x, request, reply)
	}
	unix.Close(x)
	<-done
	unix.Close(y)
}

// BenchmarkPostedWrite4 pipelines NO_REPLY writes, each sent with a system call
// of its own, as QEMU does, and fences now and then.
func BenchmarkPostedWrite4(b *testing.B) {
	p := benchServer(b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	request := frame(1, wire.CmdRegionWrite, wire.NoReply, append(wire.RegionAccess{Count: 4}.Append(nil), 1, 2, 3, 4))
	fence := frame(2, wire.CmdRegionRead, 0, wire.RegionAccess{Count: 4}.Append(nil))
	reply := make([]byte, 36)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := unix.Write(p.fd, request); err != nil {
			b.Fatal(err)
		}
		if i%1024 == 1023 {
			exchange(b, p.fd, fence, reply)
		}
	}
	exchange(b, p.fd, fence, reply)
}

// BenchmarkMapUnmap maps and unmaps 64 KiB of a file, in a pipeline of 32. An
// operation is one message.
func BenchmarkMapUnmap(b *testing.B) {
	p := benchServer(b)
	fd := memFile(b, 1<<20)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := wire.DMAMap{Argsz: 32, Flags: 3, Address: 0, Size: 64 << 10}
	u := wire.DMAUnmap{Argsz: 24, Address: 0, Size: 64 << 10}
	requests := [2][]byte{frame(1, wire.CmdDMAMap, 0, m.Append(nil)), frame(1, wire.CmdDMAUnmap, 0, u.Append(nil))}
	sizes := [2]int{16, 40}
	const depth = 32
	sink := make([]byte, 4096)
	receive := func(n int) {
		for n > 0 {
			k, err := unix.Read(p.fd, sink[:min(n, len(sink))])
			if err == unix.EINTR {
				continue
			}
			if err != nil || k == 0 {
				b.Fatal(k, err)
			}
			n -= k
		}
	}
	b.ReportAllocs()
	sent, taken := 0, 0
	for b.Loop() {
		var err error
		if sent%2 == 0 {
			err = unix.Sendmsg(p.fd, requests[0], unix.UnixRights(fd), nil, 0)
		} else {
			_, err = unix.Write(p.fd, requests[1])
		}
		if err != nil {
			b.Fatal(err)
		}
		if sent++; sent-taken == depth {
			receive(depth / 2 * (sizes[0] + sizes[1]) / 2)
			taken += depth / 2
		}
	}
}
