//go:build linux

package vfiouser

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// startDMA has the device access memory on a goroutine of its own.
func (r *rig) startDMA(iova addr.IOVA, p []byte, write bool) chan error {
	done := make(chan error, 1)
	go func() { done <- r.dev.dma(iova, p, write) }()
	return done
}

// answer answers a command of the server.
func (p *socketEnd) answer(h wire.Header, flags wire.Flags, errno uint32, payload []byte) {
	p.t.Helper()
	b := frame(h.ID, h.Command, wire.TypeReply|flags, payload)
	binary.NativeEndian.PutUint32(b[12:], errno)
	p.write(b)
}

func dmaAccess(a, n uint64, data ...byte) []byte {
	return append(wire.DMAAccess{Address: a, Count: n}.Append(nil), data...)
}

// TestDMAByMessage: specs, "DMA_READ (11) / DMA_WRITE (12)": what is sent, and
// what the device gets for each answer.
func TestDMAByMessage(t *testing.T) {
	data := []byte("01234567")
	rows := []struct {
		name   string
		write  bool
		answer func(p *socketEnd, h wire.Header)
		errno  unix.Errno // 0: success
	}{
		{"READ reply: 16 + count bytes", false, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 8, data...)) }, 0},
		{"WRITE reply: 16 bytes, as QEMU 11.1 has it", true, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 8)) }, 0},
		{"12 bytes, as the text has it", true, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 8)[:12]) }, 0},
		{"a bare header, as of older QEMU", true, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, nil) }, 0},
		{"17 bytes", true, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 8, 0)) }, unix.EPROTO},
		{"a write that is refused", true, func(p *socketEnd, h wire.Header) { p.answer(h, wire.Error, uint32(unix.EPERM), nil) }, unix.EPERM},
		{"a read that is refused", false, func(p *socketEnd, h wire.Header) { p.answer(h, wire.Error, uint32(unix.ENODEV), nil) }, unix.ENODEV},
		{"an error without errno", false, func(p *socketEnd, h wire.Header) { p.answer(h, wire.Error, 0, nil) }, unix.EINVAL},
		{"an errno beyond 4096", false, func(p *socketEnd, h wire.Header) { p.answer(h, wire.Error, 4097, nil) }, unix.EINVAL},
		{"an error with data", false, func(p *socketEnd, h wire.Header) {
			p.answer(h, wire.Error, uint32(unix.EIO), dmaAccess(0x10008, 8, data...))
		}, unix.EIO},
		{"less data than asked for", false, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 7, data[:7]...)) }, unix.EPROTO},
		{"more", false, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9)) }, unix.EPROTO},
		{"a count that is not that of the data", false, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, dmaAccess(0x10008, 1<<60, data...)) }, unix.EPROTO},
		{"no payload at all", false, func(p *socketEnd, h wire.Header) { p.answer(h, 0, 0, nil) }, unix.EPROTO},
		{"the answer to another command", false, func(p *socketEnd, h wire.Header) {
			h.Command = wire.CmdDMAWrite
			p.answer(h, 0, 0, dmaAccess(0x10008, 8, data...))
		}, unix.EPROTO},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := negotiated(t, nil)
			require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
			p := bytes.Clone(data)
			if !row.write {
				clear(p)
			}
			done := r.startDMA(0x10008, p, row.write)
			h, body, files := r.next()
			require.Empty(t, files)
			require.Equal(t, wire.TypeCommand, h.Flags, "type 0, with a reply")
			if row.write {
				require.Equal(t, wire.CmdDMAWrite, h.Command)
				require.Equal(t, dmaAccess(0x10008, 8, data...), body)
			} else {
				require.Equal(t, wire.CmdDMARead, h.Command)
				require.Equal(t, dmaAccess(0x10008, 8), body)
			}
			row.answer(r.socketEnd, h)
			err := <-done
			if row.errno == 0 {
				require.NoError(t, err)
				require.Equal(t, data, p)
			} else {
				require.ErrorIs(t, err, errs.ErrFault)
				require.ErrorIs(t, err, row.errno)
			}
			r.alive()
			require.Zero(t, r.unmap(0x10000, 0x1000))
		})
	}
}

// TestDMAPieces: no access is larger than max_data_xfer_size of the client.
func TestDMAPieces(t *testing.T) {
	r := newRig(t, nil)
	r.negotiate(`{"capabilities":{"max_data_xfer_size":1000}}` + "\x00")
	require.Zero(t, r.mapNothing(0x10000, 0x10000, 3))
	want := make([]byte, 4500)
	for i := range want {
		want[i] = byte(i * 7)
	}
	got := make([]byte, len(want))
	done := r.startDMA(0x10100, got, false)
	for at := 0; at < len(want); at += 1000 {
		h, body, _ := r.next()
		n := min(1000, len(want)-at)
		require.Equal(t, dmaAccess(0x10100+uint64(at), uint64(n)), body)
		r.answer(h, 0, 0, cat(body, want[at:at+n]))
	}
	require.NoError(t, <-done)
	require.Equal(t, want, got)
	done = r.startDMA(0x10100, want, true)
	for at := 0; at < len(want); at += 1000 {
		h, body, _ := r.next()
		n := min(1000, len(want)-at)
		require.Equal(t, dmaAccess(0x10100+uint64(at), uint64(n), want[at:at+n]...), body)
		r.answer(h, 0, 0, nil)
	}
	require.NoError(t, <-done)

	t.Run("a client that takes nothing", func(t *testing.T) {
		r := newRig(t, nil)
		r.negotiate(`{"capabilities":{"max_data_xfer_size":0}}` + "\x00")
		require.Zero(t, r.mapNothing(0x10000, 0x10000, 3))
		require.ErrorIs(t, r.dev.dma(0x10000, make([]byte, 1), false), errs.ErrFault)
	})
}

// TestDMATimeout: a client that does not answer fails the access, and no more;
// an answer that comes late disturbs nobody.
func TestDMATimeout(t *testing.T) {
	r := negotiated(t, &ServerConfig{DMATime: 50 * time.Millisecond})
	require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
	p := make([]byte, 4)
	var late []wire.Header
	for range 3 {
		done := r.startDMA(0x10000, p, false)
		h, _, _ := r.next()
		late = append(late, h)
		err := <-done
		require.ErrorIs(t, err, errs.ErrFault)
		require.ErrorIs(t, err, unix.ETIMEDOUT)
		r.alive()
	}
	for _, h := range late {
		r.answer(h, 0, 0, dmaAccess(0x10000, 4, 9, 9, 9, 9))
	}
	r.alive()
	require.Equal(t, make([]byte, 4), p, "nothing is stored behind the back of who has given up")
	done := r.startDMA(0x10000, p, false)
	h, _, _ := r.next()
	require.NotContains(t, []uint16{late[0].ID, late[1].ID, late[2].ID}, h.ID)
	r.answer(h, 0, 0, dmaAccess(0x10000, 4, 1, 2, 3, 4))
	require.NoError(t, <-done)
	require.Equal(t, []byte{1, 2, 3, 4}, p)
}

// TestDMANeverAnswered: calls that were given up are limited as well.
func TestDMANeverAnswered(t *testing.T) {
	r := negotiated(t, &ServerConfig{DMATime: time.Millisecond, Log: discard})
	require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
	background(t, func() { // take them, as a client that is mad rather than dead
		for {
			if _, _, _, err := r.tryNext(); err != nil {
				return
			}
		}
	})
	var err error
	for range maxLate + 1 {
		err = r.dev.dma(0x10000, make([]byte, 4), false)
		require.ErrorIs(t, err, errs.ErrFault)
	}
	require.ErrorIs(t, err, errStalled)
	r.end()
}

// TestDMABetweenCommands: "without twin_socket, commands from QEMU can arrive
// between your DMA_READ and its reply: demultiplex by the type bits".
func TestDMABetweenCommands(t *testing.T) {
	r := negotiated(t, nil)
	require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
	p := make([]byte, 4)
	done := r.startDMA(0x10000, p, false)
	h, _, _ := r.next()
	for range 10 {
		r.alive()
		r.write(frame(1, wire.CmdRegionWrite, wire.NoReply, regWrite(0, 7)))
	}
	r.answer(h, 0, 0, dmaAccess(0x10000, 4, 1, 2, 3, 4))
	require.NoError(t, <-done)
	require.Equal(t, []byte{1, 2, 3, 4}, p)
}

// TestUnmapWaitsForMessage: an unmap of memory that the device is reading by
// message: the answer to the read comes behind the unmap and commands behind
// that, in one stream, and all are answered in order.
func TestUnmapWaitsForMessage(t *testing.T) {
	r := negotiated(t, nil)
	require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
	p := make([]byte, 4)
	done := r.startDMA(0x10000, p, false)
	h, _, _ := r.next()
	unmap := frame(100, wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Address: 0x10000, Size: 0x1000}.Append(nil))
	file := memFile(t, 4096)
	remap := frame(101, wire.CmdDMAMap, 0, wire.DMAMap{Argsz: 32, Flags: 3, Address: 0x10000, Size: 0x1000}.Append(nil))
	r.write(unmap)
	r.write(remap, file) // a command with a file, which has to wait
	for i := range 50 {
		r.write(frame(uint16(200+i), wire.CmdRegionWrite, 0, regWrite(uint64(i), byte(i))))
	}
	time.Sleep(20 * time.Millisecond)
	r.answer(h, 0, 0, dmaAccess(0x10000, 4, 1, 2, 3, 4))
	for i := range 50 { // and some more behind the answer
		r.write(frame(uint16(250+i), wire.CmdRegionRead, 0, regRead(uint64(i), 1)))
	}
	require.NoError(t, <-done)
	require.Equal(t, []byte{1, 2, 3, 4}, p)
	for _, id := range []uint16{100, 101} {
		h, _, _ := r.next()
		require.Equal(t, id, h.ID)
		require.Zero(t, h.Errno)
	}
	for i := range 100 {
		h, body, _ := r.next()
		require.Equal(t, uint16(200+i), h.ID)
		require.Zero(t, h.Errno)
		if i >= 50 {
			require.Equal(t, byte(i-50), body[16])
		}
	}
	require.NoError(t, r.dev.dma(0x10000, []byte{5}, true), "it is the file now")
}

// TestQueueIsBounded: what a client sends while a command waits is limited;
// beyond that nothing is received, an access that waits for its answer fails
// in time, and no command is lost.
func TestQueueIsBounded(t *testing.T) {
	const queue = 8
	for name, make1 := range map[string]func(i int) []byte{
		"by number": func(i int) []byte { return frame(uint16(i), wire.CmdRegionRead, 0, regRead(0, 1)) },
		"by bytes": func(i int) []byte {
			return frame(uint16(i), wire.CmdRegionWrite, 0, regWrite(0, make([]byte, 4096)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &ServerConfig{MaxQueue: queue, DMATime: 100 * time.Millisecond, Log: discard}
			if name == "by bytes" {
				cfg.MaxQueue, cfg.MaxData = 1<<20, 4096
			}
			r := negotiated(t, cfg)
			require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
			done := r.startDMA(0x10000, make([]byte, 4), false)
			h, _, _ := r.next()
			r.write(frame(100, wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Address: 0x10000, Size: 0x1000}.Append(nil)))
			const n = 20
			for i := range n {
				r.write(make1(200 + i))
			}
			r.answer(h, 0, 0, dmaAccess(0x10000, 4, 1, 2, 3, 4)) // behind too much
			require.ErrorIs(t, <-done, unix.ETIMEDOUT)
			h, _, _ = r.next()
			require.Equal(t, wire.Header{ID: 100, Command: wire.CmdDMAUnmap, Size: 40, Flags: wire.TypeReply}, h)
			for i := range n {
				h, _, _ := r.next()
				require.Equal(t, uint16(200+i), h.ID)
			}
			r.alive()
		})
	}
}

// TestDMAWhileBusy: whatever the serving goroutine is at - here a handler that
// does not keep to the rule and waits for DMA itself - the answers get through.
func TestDMAWhileBusy(t *testing.T) {
	got := make(chan string, 1)
	p := make([]byte, 4)
	r := negotiated(t, nil, func(d *rigDevice) {
		d.onWrite = func(_ int, off uint64, _ []byte) error {
			if off != 0x40 {
				return nil
			}
			err := d.dma(0x10000, p, false)
			got <- string(p)
			return err
		}
		d.onReset = func(k mdev.ResetKind) error {
			if k != mdev.ResetDevice {
				return nil
			}
			return d.dma(0x10000, p, true)
		}
	})
	require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
	for _, b := range [][]byte{
		frame(7, wire.CmdRegionWrite, 0, regWrite(0x40, 1)),
		frame(7, wire.CmdDeviceReset, 0, nil),
	} {
		r.write(b)
		h, body, _ := r.next()
		r.write(frame(8, wire.CmdRegionRead, 0, regRead(0, 1)))
		if h.Command == wire.CmdDMARead {
			body = append(body, 5, 6, 7, 8)
		}
		r.answer(h, 0, 0, body[:16+4*btoi(h.Command == wire.CmdDMARead)])
		h, _, _ = r.next()
		require.Equal(t, uint16(7), h.ID)
		require.Zero(t, h.Errno)
		h, _, _ = r.next()
		require.Equal(t, uint16(8), h.ID)
	}
	require.Equal(t, "\x05\x06\x07\x08", <-got)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestDMAEndsWithClient: the client hangs up with accesses under way: they fail
// at once, and the session closes.
func TestDMAEndsWithClient(t *testing.T) {
	for _, busy := range []bool{false, true} {
		r := negotiated(t, &ServerConfig{DMATime: time.Minute})
		require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
		var done []chan error
		for range 5 {
			done = append(done, r.startDMA(0x10000, make([]byte, 4), false))
			r.next()
		}
		if busy { // with the serving goroutine in an unmap that waits for them
			r.write(frame(100, wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Address: 0x10000, Size: 0x1000}.Append(nil)))
			r.write(frame(101, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen)), memFile(t, 0))
			time.Sleep(10 * time.Millisecond)
		}
		begun := time.Now()
		r.end()
		for _, d := range done {
			require.ErrorIs(t, <-d, errs.ErrFault)
		}
		require.Less(t, time.Since(begun), 5*time.Second)
	}
}

// TestFramingLostWhileBusy: what ends the connection while a command waits is
// not answered in the command's name.
func TestFramingLostWhileBusy(t *testing.T) {
	r := negotiated(t, &ServerConfig{Log: discard})
	require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
	done := r.startDMA(0x10000, make([]byte, 4), false)
	r.next()
	r.write(frame(100, wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Address: 0x10000, Size: 0x1000}.Append(nil)))
	fds := make([]int, 17)
	for i := range fds {
		fds[i] = memFile(t, 0)
	}
	r.write(frame(101, wire.CmdDeviceReset, 0, nil), fds...)
	require.Error(t, <-done)
	h, _, _ := r.next()
	require.Equal(t, wire.Header{ID: 100, Command: wire.CmdDMAUnmap, Size: 40, Flags: wire.TypeReply}, h)
	r.eof()
	require.ErrorIs(t, r.wait(), errTruncated)
}

// demuxer is a client that receives on a goroutine of its own: replies go to a
// channel, commands are answered from memory, in an order of its own.
type demuxer struct {
	*rig
	replies chan wire.Header
	mu      sync.Mutex
	mem     []byte // of the guest at address 0x10000
	held    []func() error
	over    bool
	rnd     *rand.Rand
}

func newDemuxer(r *rig, on *socketEnd, seed uint64) *demuxer {
	d := &demuxer{rig: r, replies: make(chan wire.Header, 1000), mem: make([]byte, 0x10000), rnd: rand.New(rand.NewPCG(seed, 0))}
	receive := func(p *socketEnd) {
		for {
			h, body, _, err := p.tryNext()
			if err != nil {
				return
			}
			if h.Flags.Type() == wire.TypeReply {
				d.replies <- h
			} else if d.serve(p, h, body) != nil {
				return
			}
		}
	}
	background(r.t, func() { receive(r.socketEnd) })
	if on != r.socketEnd {
		background(r.t, func() { receive(on) })
	}
	r.t.Cleanup(func() {
		r.end() // or they receive for ever
		d.mu.Lock()
		defer d.mu.Unlock()
		d.over = true
	})
	return d
}

// serve answers now, or later behind the answers to what comes next.
func (d *demuxer) serve(p *socketEnd, h wire.Header, body []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := wire.DecodeDMAAccess((*[16]byte)(body))
	at := a.Address - 0x10000
	reply := dmaAccess(a.Address, a.Count)
	if h.Command == wire.CmdDMARead {
		reply = append(reply, d.mem[at:at+a.Count]...)
	} else {
		copy(d.mem[at:], body[16:])
	}
	b := frame(h.ID, h.Command, wire.TypeReply, reply)
	d.held = append(d.held, func() error { return p.tryWrite(b) })
	if len(d.held) < 3 && d.rnd.IntN(3) == 0 {
		time.AfterFunc(5*time.Millisecond, d.flush)
		return nil
	}
	return d.flushLocked()
}

func (d *demuxer) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		_ = d.flushLocked()
	}
}

func (d *demuxer) flushLocked() error {
	var err error
	for i := len(d.held) - 1; i >= 0; i-- {
		err = errors.Join(err, d.held[i]())
	}
	d.held = nil
	return err
}

// TestManyAtOnce: engines that access memory by message from many goroutines,
// while commands are pipelined: each gets its own data, and the replies are in
// order.
func TestManyAtOnce(t *testing.T) {
	for _, twin := range []bool{false, true} {
		t.Run(fmt.Sprintf("twin %v", twin), func(t *testing.T) {
			r := newRig(t, &ServerConfig{Log: discard})
			on := r.socketEnd
			if twin {
				on = r.negotiateTwin()
			} else {
				r.negotiate(rigJSON)
			}
			require.Zero(t, r.mapNothing(0x10000, 0x10000, 3))
			d := newDemuxer(r, on, 1)
			const workers, rounds = 8, 60
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := range rounds {
						at := addr.IOVA(0x10000 + w*0x1000 + i*8)
						out := []byte(fmt.Sprintf("%02d-%04d", w, i))
						in := make([]byte, len(out))
						if err := errors.Join(r.dev.dma(at, out, true), r.dev.dma(at, in, false)); err != nil || !bytes.Equal(in, out) {
							t.Errorf("worker %d round %d: %q: %v", w, i, in, err)
							return
						}
					}
				})
			}
			for i := range 400 {
				d.mu.Lock() // not into the middle of an answer
				r.write(frame(uint16(i), wire.CmdRegionRead, 0, regRead(0, 4)))
				d.mu.Unlock()
			}
			for i := range 400 {
				require.Equal(t, uint16(i), (<-d.replies).ID)
			}
			wg.Wait()
			dma := r.link().dma
			dma.mu.Lock()
			defer dma.mu.Unlock()
			require.Empty(t, dma.calls)
		})
	}
}

// negotiateTwin negotiates a twin socket, and returns the client's end of it.
func (r *rig) negotiateTwin() *socketEnd {
	r.t.Helper()
	_, body, files := r.call(wire.CmdVersion, cat(wire.Version{Minor: 1}, `{"capabilities":{"max_msg_fds":8,"twin_socket":{"supported":true},"write_multiple":true}}`+"\x00"))
	caps, err := wire.ParseCapabilities(body[4:])
	require.NoError(r.t, err)
	require.NotNil(r.t, caps.TwinSocket)
	require.True(r.t, caps.TwinSocket.Supported)
	require.Zero(r.t, *caps.TwinSocket.FDIndex)
	require.Len(r.t, files, 1)
	fd, err := unix.FcntlInt(uintptr(files[0]), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(r.t, err)
	unix.Close(files[0])
	return newSocketEnd(r.t, fd)
}

// TestTwinSocket: "all server>client commands and their replies then use that
// socket"; it ends with the connection, and the connection with it.
func TestTwinSocket(t *testing.T) {
	t.Run("commands go there", func(t *testing.T) {
		r := newRig(t, nil)
		twin := r.negotiateTwin()
		require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
		p := make([]byte, 4)
		done := r.startDMA(0x10000, p, false)
		h, body, _ := twin.next()
		require.Equal(t, dmaAccess(0x10000, 4), body)
		r.alive() // nothing of it on the main socket
		// An unmap waits for it, without anybody receiving on the main socket.
		r.write(frame(100, wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Address: 0x10000, Size: 0x1000}.Append(nil)))
		time.Sleep(10 * time.Millisecond)
		twin.answer(h, 0, 0, dmaAccess(0x10000, 4, 1, 2, 3, 4))
		require.NoError(t, <-done)
		require.Equal(t, []byte{1, 2, 3, 4}, p)
		h, _, _ = r.next()
		require.Equal(t, uint16(100), h.ID)
		r.end()
		twin.eof()
	})
	t.Run("a command on it ends the connection", func(t *testing.T) {
		r := newRig(t, nil)
		twin := r.negotiateTwin()
		require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
		done := r.startDMA(0x10000, make([]byte, 4), false)
		twin.next()
		twin.write(frame(1, wire.CmdRegionRead, 0, regRead(0, 4)), memFile(t, 0))
		require.ErrorIs(t, <-done, errs.ErrFault)
		r.eof()
		r.wait()
	})
	t.Run("the client goes while an access waits there", func(t *testing.T) {
		r := newRig(t, &ServerConfig{DMATime: time.Minute})
		twin := r.negotiateTwin()
		require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
		done := r.startDMA(0x10000, make([]byte, 4), false)
		twin.next()
		begun := time.Now()
		r.end()
		require.ErrorIs(t, <-done, errs.ErrFault)
		require.Less(t, time.Since(begun), 10*time.Second)
	})
	t.Run("its end is noticed when it is needed", func(t *testing.T) {
		r := newRig(t, nil)
		twin := r.negotiateTwin()
		require.Zero(t, r.mapNothing(0x10000, 0x1000, 3))
		twin.close()
		r.alive()
		require.ErrorIs(t, r.dev.dma(0x10000, make([]byte, 4), false), errs.ErrFault)
		r.eof()
		r.wait()
	})
	for _, json := range []string{
		`{"capabilities":{"twin_socket":{"supported":false}}}`,
		`{"capabilities":{"max_msg_fds":0,"twin_socket":{"supported":true}}}`,
	} {
		t.Run("none: "+json, func(t *testing.T) {
			r := newRig(t, nil)
			_, body, files := r.call(wire.CmdVersion, cat(wire.Version{}, json+"\x00"))
			require.Empty(t, files)
			caps, err := wire.ParseCapabilities(body[4:])
			require.NoError(t, err)
			require.Nil(t, caps.TwinSocket)
		})
	}
}

// TestStrayReplies: replies to nothing, with files and without, cost nothing.
func TestStrayReplies(t *testing.T) {
	r := negotiated(t, nil)
	for i := range 100 {
		r.write(frame(uint16(i), wire.CmdDMARead, wire.TypeReply, dmaAccess(0, 4, 1, 2, 3, 4)), memFile(t, 0))
	}
	r.alive()
	main := r.link().main
	main.mu.Lock()
	defer main.mu.Unlock()
	require.Equal(t, uint64(100), main.stray)
}

// TestDMAAllocs: in the long run an access by message allocates nothing of the
// connection's.
func TestDMAAllocs(t *testing.T) {
	a, b := socketPair(t)
	p := newSocketEnd(t, a)
	c, err := newConn(b, connConfig{maxMessage: 1 << 20, maxFDs: 16, messageTime: time.Minute, sendTime: time.Minute})
	require.NoError(t, err)
	defer c.close()
	d := newDemux(c, false, &ServerConfig{DMATime: time.Minute, MaxQueue: 1})
	background(t, func() {
		in, out := make([]byte, 32), make([]byte, 36)
		for {
			if n, err := unix.Read(p.fd, in); n != 32 || err != nil {
				return
			}
			h := wire.DecodeHeader((*[16]byte)(in))
			h.Flags, h.Size = wire.TypeReply, 36
			h.Put((*[16]byte)(out))
			copy(out[16:], in[16:])
			if _, err := unix.Write(p.fd, out); err != nil {
				return
			}
		}
	})
	t.Cleanup(c.shutdown)
	into := make([]byte, 4)
	require.Less(t, testing.AllocsPerRun(200, func() {
		if err := d.do(wire.CmdDMARead, 0, into, nil); err != nil && err != io.EOF {
			panic(err)
		}
	}), 1.0)
}
