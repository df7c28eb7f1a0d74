//go:build linux

package vfiouser

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// echo is a server that answers everything as if it were done; what it reads
// from a region is the offset, repeated. It ends with the connection.
func echo(p *rawPeer) {
	for {
		m, err := p.recv()
		if err != nil {
			return
		}
		closeFDs(m.fds)
		if m.Flags&wire.NoReply != 0 {
			continue
		}
		var body []byte
		switch m.Command {
		case wire.CmdRegionRead:
			a := wire.DecodeRegionAccess((*[16]byte)(m.body))
			body = append(m.body, echoed(a.Offset, int(a.Count))...)
		case wire.CmdRegionWrite:
			body = m.body[:16]
		case wire.CmdDMAUnmap:
			body = m.body
		}
		if p.tryWrite(frame(m.ID, m.Command, wire.TypeReply, body)) != nil {
			return
		}
	}
}

func echoed(off uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(off + uint64(i)*7)
	}
	return b
}

// Many goroutines share a client: each gets its own answer, and the last one
// to go leaves nobody waiting.
func TestClientConcurrent(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, echo)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				off := uint64(g*1000 + i)
				b := make([]byte, 1+i%300)
				if i%5 == 0 {
					if err := c.PostWrite(bg(t), 0, off, b); err != nil {
						t.Errorf("post: %v", err)
					}
				}
				if err := c.Read(bg(t), 0, off, b); err != nil || string(b) != string(echoed(off, len(b))) {
					t.Errorf("read at %#x: %x, %v", off, b, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// The same while the server sends commands of its own without pause, and calls
// are cancelled in between.
func TestClientConcurrentWithDMA(t *testing.T) {
	leaves(t)
	ram := guestRAM(t, 4096)
	copy(ram, "softmdev")
	stop := make(chan struct{})
	c := scripted(t, nil, func(p *rawPeer) {
		var mu sync.Mutex // of the sending side
		var wg sync.WaitGroup
		answers := make(chan rawMsg, 1)
		mapping := p.expect(wire.CmdDMAMap) // from here on there is memory
		p.reply(mapping, nil)
		wg.Go(func() {
			for id := uint16(0); ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				err := p.tryWrite(frame(id, wire.CmdDMARead, 0, wire.DMAAccess{Address: 0, Count: 8}.Append(nil)))
				mu.Unlock()
				if err != nil {
					return
				}
				select {
				case m, ok := <-answers:
					if !ok {
						return
					}
					if m.ID != id || len(m.body) != 24 || string(m.body[16:]) != "softmdev" {
						t.Errorf("answer %v %q", m.Header, m.body)
					}
				case <-time.After(5 * time.Second):
					t.Errorf("no answer")
					return
				}
			}
		})
		for {
			m, err := p.recv()
			if err != nil {
				break
			}
			if m.Flags.Type() == wire.TypeReply {
				answers <- m
				continue
			}
			a := wire.DecodeRegionAccess((*[16]byte)(m.body))
			mu.Lock()
			err = p.tryWrite(frame(m.ID, m.Command, wire.TypeReply, append(m.body, echoed(a.Offset, int(a.Count))...)))
			mu.Unlock()
			if err != nil {
				break
			}
		}
		close(answers)
		wg.Wait()
	})
	require.NoError(t, c.MapDMA(bg(t), 0, 4096, addr.Read, translate.Bytes(ram)))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				ctx, cancel := bg(t), context.CancelFunc(func() {})
				if i%10 == g {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*time.Microsecond)
				}
				b := make([]byte, 4)
				err := c.Read(ctx, 0, uint64(i), b)
				if err != nil && (i%10 != g || !errors.Is(err, context.DeadlineExceeded)) || err == nil && string(b) != string(echoed(uint64(i), 4)) {
					t.Errorf("read at %#x: %x, %v", i, b, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	close(stop)
	require.NoError(t, c.Err())
}

// A server that takes no more before it is rid of its replies, and a client
// that sends without looking: someone has to give way, and it is the client.
func TestClientGivesWay(t *testing.T) {
	leaves(t)
	const n = 3000
	c := scripted(t, nil, func(p *rawPeer) {
		// One thread, blocking: it reads a command only after the reply to
		// the one before is in the socket.
		require.NoError(p.t, unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
		echo(p)
	})
	require.NoError(t, unix.SetsockoptInt(c.conn.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
	p := c.Pipeline(bg(t))
	bufs, zeros := make([][]byte, n), make([]byte, 512)
	for i := range bufs {
		bufs[i] = make([]byte, 512)
		p.Read(0, uint64(i), bufs[i])
		p.Write(0, uint64(i), zeros)
	}
	require.NoError(t, p.Wait())
	for i, b := range bufs {
		require.Equal(t, echoed(uint64(i), len(b)), b)
	}
	// Messages larger than the socket holds, half sent while replies wait.
	large, back := make([]byte, 1<<20), make([]byte, 4000)
	for i := range uint64(4) {
		p.Read(0, i, back[i*1000:][:1000])
		p.Write(0, 0, large)
	}
	require.NoError(t, p.Wait())
	for i := range uint64(4) {
		require.Equal(t, echoed(i, 1000), back[i*1000:][:1000])
	}
}

// A server that never takes the rest of a message: the connection is lost when
// the time is over, since the stream has a hole.
func TestClientHalfSent(t *testing.T) {
	leaves(t)
	block := make(chan struct{})
	c := scripted(t, &ClientConfig{Timeout: 50 * time.Millisecond}, func(p *rawPeer) { <-block })
	err := c.Write(context.Background(), 0, 0, make([]byte, 1<<20))
	require.ErrorIs(t, err, errs.ErrDeadline)
	require.ErrorContains(t, err, "in the middle of a message")
	require.ErrorIs(t, c.Err(), errs.ErrGone)
	close(block)
}

// A server that takes nothing: a message that has not begun ends its call
// alone.
func TestClientNotSent(t *testing.T) {
	leaves(t)
	block := make(chan struct{})
	c := scripted(t, &ClientConfig{Timeout: 50 * time.Millisecond}, func(p *rawPeer) { <-block; echo(p) })
	var err error
	for err == nil {
		err = c.PostWrite(context.Background(), 0, 0, make([]byte, 100))
	}
	require.ErrorIs(t, err, errs.ErrDeadline)
	require.NoError(t, c.Err())
	close(block)
	require.NoError(t, c.Read(context.Background(), 0, 0, make([]byte, 4)), "what was sent is taken now, and what follows is in step")
}

// Close ends what is under way, from any state, and may be called twice and by
// many.
func TestClientClose(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, func(p *rawPeer) {
		for {
			if _, err := p.recv(); err != nil {
				return
			}
		}
	})
	var calls, closes sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			err := c.Read(bg(t), 0, 0, make([]byte, 4))
			if errs.Errno(err) != unix.ENODEV {
				t.Errorf("read: %v", err)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	for range 3 {
		closes.Go(func() {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	calls.Wait()
	closes.Wait()
	<-c.Done()
	require.ErrorIs(t, c.Err(), errs.ErrGone)
	require.ErrorContains(t, c.Reset(bg(t)), "DEVICE_RESET: client closed: device is gone")
	p := c.Pipeline(bg(t))
	p.Write(0, 0, []byte{1})
	p.PostWrite(0, 0, []byte{1})
	p.MapDMA(0, 4096, addr.Read, translate.Bytes(make([]byte, 4096)))
	p.UnmapDMA(0, 4096)
	require.ErrorIs(t, p.Wait(), errs.ErrGone)
}

// A pipeline: replies in order, errors of the commands that failed and of no
// others, mappings that follow the server.
func TestPipeline(t *testing.T) {
	leaves(t)
	var got []string
	c := scripted(t, nil, func(p *rawPeer) {
		for {
			m, err := p.recv()
			if err != nil {
				return
			}
			s := wire.Text(m.Header, m.body)
			if len(m.fds) > 0 {
				s += " with a file"
			}
			closeFDs(m.fds)
			got = append(got, s)
			switch m.Command {
			case wire.CmdDMAMap:
				if a := wire.DecodeDMAMap((*[32]byte)(m.body)); a.Address == 0x9000 {
					p.refuse(m, unix.EEXIST)
					continue
				}
				p.reply(m, nil)
			case wire.CmdDMAUnmap:
				p.reply(m, m.body)
			case wire.CmdRegionRead:
				p.reply(m, append(m.body, 1, 2))
			case wire.CmdRegionWrite:
				if m.Flags&wire.NoReply == 0 {
					p.refuse(m, unix.EIO)
				}
			case wire.CmdDeviceReset:
				p.reply(m, nil)
			}
		}
	})
	file := memFile(t, 8192)
	ram := make([]byte, 8192)
	b := make([]byte, 2)
	p := c.Pipeline(bg(t))
	p.MapDMAFD(0x1000, 0x1000, addr.ReadWrite, file, 0x1000)
	p.MapDMA(0x2000, 0x1000, addr.Read, translate.Bytes(ram))
	p.MapDMA(0x9000, 0x1000, addr.Read, translate.Bytes(ram)) // refused
	p.UnmapDMA(0x1000, 0x1000)
	p.MapDMAFD(0x1000, 0x2000, addr.ReadWrite, file, 0) // in the way: 0x2000
	p.PostWrite(0, 4, b)
	p.Read(1, 0, b)
	err := p.Wait()
	require.EqualError(t, err, "DMA_MAP iova 0x9000 size 0x1000 r-: refused: file exists", "the first error")
	require.Equal(t, []byte{1, 2}, b)
	require.Equal(t, []addr.IOVA{0x2000}, starts(c.Memory()))

	p.UnmapDMA(0x2000, 0x1000)
	p.MapDMAFD(0x1000, 0x2000, addr.ReadWrite, file, 0) // waits for the unmap
	p.Write(0, 8, b)
	require.EqualError(t, p.Wait(), "REGION_WRITE region 0 offset 0x8 count 2: refused: input/output error")
	require.Equal(t, []addr.IOVA{0x1000}, starts(c.Memory()))
	require.NoError(t, p.Wait(), "nothing is under way")
	p.Write(-1, 0, b)
	require.ErrorIs(t, p.Wait(), errs.ErrInvalid)
	p.PostWrite(0, 0x10, b)
	require.NoError(t, p.Flush())
	require.NoError(t, c.Reset(bg(t)))
	require.NoError(t, c.Close())
	require.Equal(t, []string{
		"DMA_MAP id 1 command size 48: argsz 32 flags READ|WRITE offset 0x1000 address 0x1000 size 0x1000 with a file",
		"DMA_MAP id 2 command size 48: argsz 32 flags READ offset 0x0 address 0x2000 size 0x1000",
		"DMA_MAP id 3 command size 48: argsz 32 flags READ offset 0x0 address 0x9000 size 0x1000",
		"DMA_UNMAP id 4 command size 40: argsz 24 flags 0 address 0x1000 size 0x1000",
		"REGION_WRITE id 5 command|NO_REPLY size 34: region 0 offset 0x4 count 2 data 0000",
		"REGION_READ id 6 command size 32: region 1 offset 0x0 count 2",
		"DMA_UNMAP id 7 command size 40: argsz 24 flags 0 address 0x2000 size 0x1000",
		"DMA_MAP id 8 command size 48: argsz 32 flags READ|WRITE offset 0x0 address 0x1000 size 0x2000 with a file",
		"REGION_WRITE id 9 command size 34: region 0 offset 0x8 count 2 data 0102",
		"REGION_WRITE id 10 command|NO_REPLY size 34: region 0 offset 0x10 count 2 data 0102",
		"DEVICE_RESET id 11 command size 16",
	}, got)
}

func starts(s *translate.Store) (list []addr.IOVA) {
	for m := range s.Mappings() {
		list = append(list, m.Range.Start())
	}
	return list
}

// More commands than a pipeline has under way at a time, and more under way
// than the table begins with.
func TestPipelineLong(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, echo)
	p := c.Pipeline(bg(t))
	bufs := make([][8]byte, 5*pipelineOps+3)
	for i := range bufs {
		p.Read(0, uint64(i), bufs[i][:])
	}
	require.NoError(t, p.Wait())
	for i := range bufs {
		require.Equal(t, echoed(uint64(i), 8), bufs[i][:])
	}
}

// More than 65,536 messages: ids wrap, and that of a command that is still
// under way is not used again.
func TestClientIDs(t *testing.T) {
	leaves(t)
	release := make(chan struct{})
	c := scripted(t, nil, func(p *rawPeer) {
		held := p.expect(wire.CmdDeviceInfo)
		seen := make(map[uint16]int)
		for n := 0; ; n++ {
			m, err := p.recv()
			if err != nil {
				t.Errorf("%v", err)
				return
			}
			if m.Flags&wire.NoReply == 0 {
				p.reply(m, nil)
				break
			}
			if seen[m.ID]++; m.ID == held.ID {
				t.Errorf("id %d is used twice", m.ID)
			}
		}
		if len(seen) != 65535 {
			t.Errorf("%d ids, not all but the one that is under way", len(seen))
		}
		<-release
		p.reply(held, wire.DeviceInfo{Argsz: 16, Regions: 9}.Append(nil))
	})
	done := make(chan error)
	go func() {
		d, err := c.DeviceInfo(bg(t))
		if d.Regions != 9 {
			t.Errorf("%+v", d)
		}
		done <- err
	}()
	require.Eventually(t, func() bool { return c.calls.count() == 2 }, 5*time.Second, time.Millisecond)
	p := c.Pipeline(bg(t))
	for range 65536 {
		p.PostWrite(0, 0, []byte{1})
	}
	require.NoError(t, p.Wait())
	require.NoError(t, c.Reset(bg(t)))
	close(release)
	require.NoError(t, <-done)
}

// The way of a call allocates nothing, in the client.
func TestClientAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := scripted(t, nil, quietEcho)
	b := make([]byte, 8)
	ctx := context.Background()
	for name, f := range map[string]func() error{
		"Read":      func() error { return c.Read(ctx, 0, 0, b) },
		"Write":     func() error { return c.Write(ctx, 0, 0, b) },
		"PostWrite": func() error { return c.PostWrite(ctx, 0, 0, b) },
		"UnmapDMA":  func() error { return c.UnmapDMA(ctx, 0, 4096) },
		"Reset":     func() error { return c.Reset(ctx) },
	} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}), name)
	}
}

// quietEcho is echo without allocations.
func quietEcho(p *rawPeer) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := make([]byte, 4096)
	for {
		if n, err := unix.Read(p.fd, b[:16]); n != 16 || err != nil {
			return
		}
		h := wire.DecodeHeader((*[16]byte)(b))
		if h.Size > 16 {
			if _, err := unix.Read(p.fd, b[16:h.Size]); err != nil {
				return
			}
		}
		if h.Flags&wire.NoReply != 0 {
			continue
		}
		switch h.Command {
		case wire.CmdRegionRead:
			h.Size += binary.NativeEndian.Uint32(b[28:])
		case wire.CmdRegionWrite:
			h.Size = 32
		case wire.CmdDMAUnmap:
		default:
			h.Size = 16
		}
		h.Flags = wire.TypeReply
		h.Put((*[16]byte)(b))
		if _, err := unix.Write(p.fd, b[:h.Size]); err != nil {
			return
		}
	}
}

// A large reply, or a large access of the server's, takes memory for as long as
// there are more of them.
func TestClientGivesMemoryBack(t *testing.T) {
	leaves(t)
	ram := guestRAM(t, 1<<20)
	c := scripted(t, nil, func(p *rawPeer) {
		p.reply(p.expect(wire.CmdDMAMap), nil)
		m := p.expect(wire.CmdRegionRead)
		r := p.call(wire.CmdDMARead, wire.DMAAccess{Count: 1 << 20}.Append(nil))
		p.outcome(r, 0)
		p.reply(m, append(m.body, make([]byte, 1<<20)...))
		echo(p)
	})
	require.NoError(t, c.MapDMA(bg(t), 0, 1<<20, addr.Read, translate.Bytes(ram)))
	require.NoError(t, c.Read(bg(t), 0, 0, make([]byte, 1<<20)))
	b := make([]byte, 8)
	for range 2 * dropBody {
		require.NoError(t, c.Read(bg(t), 0, 0, b))
	}
	require.NoError(t, c.Close())
	require.Equal(t, keepBody, len(c.in.buf))
	require.LessOrEqual(t, cap(c.in.answer), keepBody)
}
