//go:build linux

package vfiouser

import (
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

// Section 12: the server's commands are served while a call waits, and while
// none does; on the main socket, and on a twin.
func TestClientServesDMA(t *testing.T) {
	ram, rom := guestRAM(t, 8192), guestRAM(t, 4096)
	for _, tt := range []struct {
		name  string
		cmd   wire.Command
		body  []byte
		errno unix.Errno
		reply []byte
	}{
		{"read", wire.CmdDMARead, wire.DMAAccess{Address: 0x1010, Count: 4}.Append(nil), 0, append(wire.DMAAccess{Address: 0x1010, Count: 4}.Append(nil), 1, 2, 3, 4)},
		{"read of nothing", wire.CmdDMARead, wire.DMAAccess{Address: 0x1010}.Append(nil), 0, wire.DMAAccess{Address: 0x1010}.Append(nil)},
		{"write: 16 bytes of reply, the message is 32 long", wire.CmdDMAWrite, append(wire.DMAAccess{Address: 0x2000, Count: 2}.Append(nil), 7, 8), 0, wire.DMAAccess{Address: 0x2000, Count: 2}.Append(nil)},
		{"short message: EINVAL", wire.CmdDMARead, make([]byte, 15), unix.EINVAL, nil},
		{"no payload", wire.CmdDMAWrite, nil, unix.EINVAL, nil},
		{"read with data", wire.CmdDMARead, append(wire.DMAAccess{Address: 0x1000, Count: 1}.Append(nil), 1), unix.EINVAL, nil},
		{"write with less data", wire.CmdDMAWrite, append(wire.DMAAccess{Address: 0x1000, Count: 2}.Append(nil), 1), unix.EINVAL, nil},
		{"count too large: E2BIG", wire.CmdDMARead, wire.DMAAccess{Address: 0x1000, Count: 1<<20 + 1}.Append(nil), unix.E2BIG, nil},
		{"count of 2^64-1", wire.CmdDMARead, wire.DMAAccess{Address: 0x1000, Count: 1<<64 - 1}.Append(nil), unix.E2BIG, nil},
		{"not mapped", wire.CmdDMARead, wire.DMAAccess{Address: 0x9000, Count: 1}.Append(nil), unix.EINVAL, nil},
		{"half mapped", wire.CmdDMARead, wire.DMAAccess{Address: 0x2fff, Count: 2}.Append(nil), unix.EINVAL, nil},
		{"beyond 2^64", wire.CmdDMARead, wire.DMAAccess{Address: 1<<64 - 1, Count: 2}.Append(nil), unix.EOVERFLOW, nil},
		{"a write to read-only memory: EPERM", wire.CmdDMAWrite, append(wire.DMAAccess{Address: 0x4000, Count: 1}.Append(nil), 1), unix.EPERM, nil},
		{"unknown command: ENOSYS, as QEMU", 99, []byte{1}, unix.ENOSYS, nil},
		{"a command of the client's", wire.CmdDMAMap, make([]byte, 32), unix.ENOSYS, nil},
	} {
		for _, where := range []string{"while a call waits", "while none does", "twin"} {
			t.Run(tt.name+"/"+where, func(t *testing.T) {
				leaves(t)
				clear(ram)
				copy(ram[0x10:], []byte{1, 2, 3, 4})
				p, fd := rawPair(t)
				dma := p
				var wg sync.WaitGroup
				defer wg.Wait()
				idle, served := make(chan struct{}), make(chan struct{})
				wg.Go(func() {
					m := p.expect(wire.CmdVersion)
					if where == "twin" {
						s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
						require.NoError(t, err)
						dma = newRawPeer(t, s[0])
						p.reply(m, versionBody(0, 0, `{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}`), s[1])
						unix.Close(s[1])
					} else {
						p.reply(m, versionBody(0, 0, ""))
					}
					for range 2 {
						p.reply(p.expect(wire.CmdDMAMap), nil)
					}
					if where == "while none does" {
						<-idle
					} else {
						m = p.expect(wire.CmdRegionRead)
					}
					for range 3 {
						r := dma.call(tt.cmd, tt.body)
						dma.outcome(r, tt.errno)
						if tt.errno == 0 {
							require.Equal(t, tt.reply, r.body)
						}
					}
					if where == "while none does" {
						close(served)
					} else {
						p.reply(m, append(m.body, 0xaa))
					}
					p.reply(p.expect(wire.CmdDeviceReset), nil)
				})
				c, err := NewClient(bg(t), fd, &ClientConfig{TwinSocket: where == "twin"})
				require.NoError(t, err)
				defer c.Close()
				require.NoError(t, c.MapDMA(bg(t), 0x1000, 0x2000, addr.ReadWrite, translate.Bytes(ram)))
				require.NoError(t, c.MapDMA(bg(t), 0x4000, 0x1000, addr.Read, translate.Bytes(rom)))
				if where == "while none does" {
					time.Sleep(3 * time.Millisecond)
					close(idle)
					<-served
				} else {
					b := make([]byte, 1)
					require.NoError(t, c.Read(bg(t), 0, 0, b))
					require.Equal(t, byte(0xaa), b[0])
				}
				require.NoError(t, c.Reset(bg(t)))
				if tt.name == "write: 16 bytes of reply, the message is 32 long" {
					require.Equal(t, []byte{7, 8}, ram[0x1000:0x1002])
				}
				require.Equal(t, make([]byte, 4096), rom)
			})
		}
	}
}

// A store that is given is served from and left alone.
func TestClientGivenMemory(t *testing.T) {
	leaves(t)
	store, err := translate.New(nil)
	require.NoError(t, err)
	ram := guestRAM(t, 4096)
	require.NoError(t, store.Map(0x5000, 4096, translate.Bytes(ram), addr.ReadWrite))
	served := make(chan struct{})
	c := scripted(t, &ClientConfig{Memory: store}, func(p *rawPeer) {
		p.reply(p.expect(wire.CmdDMAMap), nil)
		p.outcome(p.call(wire.CmdDMAWrite, append(wire.DMAAccess{Address: 0x5000, Count: 1}.Append(nil), 5)), 0)
		p.outcome(p.call(wire.CmdDMARead, wire.DMAAccess{Address: 0x7000, Count: 1}.Append(nil)), unix.EINVAL)
		close(served)
		p.reply(p.expect(wire.CmdDMAUnmap), make([]byte, 24))
	})
	require.Same(t, store, c.Memory())
	require.NoError(t, c.MapDMA(bg(t), 0x7000, 4096, addr.ReadWrite, translate.Bytes(ram)))
	<-served
	require.Equal(t, byte(5), ram[0])
	require.NoError(t, c.UnmapDMA(bg(t), 0x7000, 4096))
	require.NoError(t, c.Close())
	require.Equal(t, 1, len(mappings(store)))
	require.NoError(t, store.Close())
}

func mappings(s *translate.Store) (list []translate.Mapping) {
	for m := range s.Mappings() {
		list = append(list, m)
	}
	return list
}

// What the server refuses to map is not served either; what it does not know
// (ENOENT) is not kept.
func TestClientMapFollowsServer(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, func(p *rawPeer) {
		p.refuse(p.expect(wire.CmdDMAMap), unix.EINVAL)
		p.reply(p.expect(wire.CmdDMAMap), nil)
		p.refuse(p.expect(wire.CmdDMAUnmap), unix.EBUSY)
		p.refuse(p.expect(wire.CmdDMAUnmap), unix.ENOENT)
		p.reply(p.expect(wire.CmdDMAMap), nil)
		p.reply(p.expect(wire.CmdDMAMap), nil)
		p.reply(p.expect(wire.CmdDMAUnmap), make([]byte, 24))
	})
	mem := translate.Bytes(make([]byte, 8192))
	require.Equal(t, unix.EINVAL, errs.Errno(c.MapDMA(bg(t), 0, 8192, addr.Read, mem)))
	require.Empty(t, mappings(c.Memory()))
	require.NoError(t, c.MapDMA(bg(t), 0, 8192, addr.Read, mem))
	// Refused here: the server is not asked.
	err := c.MapDMA(bg(t), 4096, 4096, addr.Read, mem)
	require.EqualError(t, err, "DMA_MAP iova 0x1000 size 0x1000 r-: iova 0x1000: already exists")
	require.Equal(t, unix.EEXIST, errs.Errno(err))
	require.Equal(t, unix.EINVAL, errs.Errno(c.MapDMA(bg(t), 0x10000, 4096, 8, mem)))
	require.Equal(t, unix.EINVAL, errs.Errno(c.MapDMAFD(bg(t), 0x10000, 4096, addr.Read, -5, 0)))
	require.Equal(t, unix.EINVAL, errs.Errno(c.MapDMAFD(bg(t), 0x10000, 4096, addr.Read, 0, -1)))
	require.Equal(t, unix.EBUSY, errs.Errno(c.UnmapDMA(bg(t), 0, 8192)))
	require.Len(t, mappings(c.Memory()), 1)
	require.Equal(t, unix.ENOENT, errs.Errno(c.UnmapDMA(bg(t), 0, 8192)))
	require.Empty(t, mappings(c.Memory()))
	require.NoError(t, c.MapDMA(bg(t), 0, 8192, addr.Read, mem))
	require.NoError(t, c.MapDMA(bg(t), 8192, 8192, addr.Read, translate.Memory{}))
	require.NoError(t, c.UnmapAllDMA(bg(t)))
	require.Empty(t, mappings(c.Memory()))
}

// The server may be done with its own socket before the other; one that is out
// of step there ends the connection, since its commands are lost.
func TestClientTwinEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		send []byte
		lost bool
	}{
		{"closed", nil, false},
		{"a reply to nothing", wire.Header{Command: wire.CmdDMARead, Size: 16, Flags: wire.TypeReply}.Append(nil), true},
		{"a size that cannot be", wire.Header{Command: wire.CmdDMARead, Size: 3}.Append(nil), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaves(t)
			p, fd := rawPair(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				a, b := socketPair(t)
				twin := newRawPeer(t, a)
				p.reply(p.expect(wire.CmdVersion), versionBody(0, 0, `{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}`), b)
				unix.Close(b)
				_ = twin.tryWrite(tt.send)
				twin.close()
				echo(p)
			})
			c, err := NewClient(bg(t), fd, &ClientConfig{TwinSocket: true})
			require.NoError(t, err)
			defer c.Close()
			if tt.lost {
				<-c.Done()
				require.ErrorIs(t, c.Err(), errFraming)
				return
			}
			time.Sleep(5 * time.Millisecond)
			require.NoError(t, c.Read(bg(t), 0, 0, make([]byte, 4)))
			require.NoError(t, c.Err())
		})
	}
}

// A client that nobody uses costs nothing: no thread of it wakes up.
func TestClientIdle(t *testing.T) {
	c := scripted(t, nil, echo)
	require.NoError(t, c.Read(bg(t), 0, 0, make([]byte, 4)))
	time.Sleep(20 * time.Millisecond)
	var before, after unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &before))
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &after))
	// The runtime itself wakes now and then; a client that looked every
	// millisecond would have 200 switches.
	require.Less(t, after.Nvcsw-before.Nvcsw, int64(150))
}

// The client's own log, of what is written by messages, is on while the
// server's is, and its pages are among those reported.
func TestClientLog(t *testing.T) {
	leaves(t)
	write := func(p *rawPeer, iova uint64) {
		p.outcome(p.call(wire.CmdDMAWrite, append(wire.DMAAccess{Address: iova, Count: 1}.Append(nil), 1)), 0)
	}
	bits := func(m rawMsg, fixed int, w uint64) []byte { return wire.AppendBits(m.body[:fixed:fixed], []uint64{w}) }
	step := make(chan struct{})
	c := scripted(t, nil, func(p *rawPeer) {
		p.reply(p.expect(wire.CmdDMAMap), nil)
		p.refuse(p.expect(wire.CmdFeature), unix.EBUSY)
		m := p.expect(wire.CmdFeature) // START
		p.reply(m, m.body)
		write(p, 0x2000)
		step <- struct{}{}
		m = p.expect(wire.CmdFeature) // REPORT
		p.reply(m, bits(m, 32, 0b1001))
		<-step // or it might still be in that report
		write(p, 0x1000)
		step <- struct{}{}
		m = p.expect(wire.CmdDMAUnmap)
		p.reply(m, bits(m, 40, 0b100))
		p.reply(p.expect(wire.CmdDMAMap), nil)
		write(p, 0x1000)
		step <- struct{}{}
		m = p.expect(wire.CmdDMAUnmap) // in pages of 2 KiB
		p.reply(m, bits(m, 40, 0))
		p.refuse(p.expect(wire.CmdFeature), unix.EBUSY) // STOP
		m = p.expect(wire.CmdFeature)
		p.reply(m, m.body)
		m = p.expect(wire.CmdFeature) // REPORT, the server's alone
		p.reply(m, bits(m, 32, 0b10))
	})
	off := func() {
		t.Helper()
		require.ErrorIs(t, c.Memory().DirtyTake(0, 0x1000, 0x1000, make([]uint64, 1), nil), errs.ErrInvalid)
	}
	b := make([]uint64, 1)
	require.NoError(t, c.MapDMA(bg(t), 0x1000, 0x4000, addr.ReadWrite, translate.Bytes(guestRAM(t, 0x4000))))
	require.Equal(t, unix.EBUSY, errs.Errno(c.LogStart(bg(t), 4096, nil)))
	off()
	require.NoError(t, c.LogStart(bg(t), 4096, nil))
	<-step
	require.NoError(t, c.LogReport(bg(t), 0x1000, 0x4000, 4096, b))
	require.Equal(t, uint64(0b1011), b[0])
	step <- struct{}{}
	<-step
	require.NoError(t, c.UnmapDMADirty(bg(t), 0x1000, 0x4000, 4096, b))
	require.Equal(t, uint64(0b101), b[0])
	require.Empty(t, mappings(c.Memory()))
	require.NoError(t, c.MapDMA(bg(t), 0x1000, 0x1000, addr.ReadWrite, translate.Bytes(guestRAM(t, 0x1000))))
	<-step
	require.NoError(t, c.UnmapDMADirty(bg(t), 0x1000, 0x1000, 2048, b))
	require.Equal(t, ^uint64(0), b[0])
	require.Empty(t, mappings(c.Memory()))
	require.Equal(t, unix.EBUSY, errs.Errno(c.LogStop(bg(t))))
	require.NoError(t, c.LogStop(bg(t)))
	off()
	require.NoError(t, c.LogReport(bg(t), 0x1000, 0x4000, 4096, b))
	require.Equal(t, uint64(0b10), b[0])

	// Arguments that make no sense are not sent.
	for _, err := range []error{
		c.LogReport(bg(t), 0, 0x1000, 3000, b),
		c.LogReport(bg(t), 0, 1<<20, 4096, b),
		c.UnmapDMADirty(bg(t), 0, 1<<20, 4096, b),
		c.LogStart(bg(t), 4096, make([]addr.Range[addr.IOVA], 1<<16)),
	} {
		require.Equal(t, unix.EINVAL, errs.Errno(err))
	}
	require.Equal(t, unix.EOVERFLOW, errs.Errno(c.LogStart(bg(t), 4096, []addr.Range[addr.IOVA]{addr.Whole[addr.IOVA]()})))
}
