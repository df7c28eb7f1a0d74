//go:build linux

package vfiouser

import (
	"encoding/binary"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// FuzzServer: whatever stream of messages and files a client sends, whatever it
// answers to DMA_READ and DMA_WRITE, and however it ends: nothing panics; each
// framed command without NO_REPLY is answered once and in order; and when the
// client is gone the session is closed, with no lease, charge, mapping,
// descriptor or goroutine left.
func FuzzServer(f *testing.F) {
	for op := range byte(fuzzOps) {
		f.Add([]byte{op, 0, 0, 0, op, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	}
	f.Add([]byte{3, 0, 0, 0, 1, 10, 1, 1, 1, 10, 2, 2, 2, 4, 0, 1})
	f.Add([]byte{0, 3, 4, 3, 4, 3, 4, 10, 10, 10, 4, 0, 13})
	f.Fuzz(func(t *testing.T, data []byte) {
		goroutines := runtime.NumGoroutine()
		fuzzOnce(t, data)
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; {
			if time.Now().After(end) {
				buf := make([]byte, 1<<16)
				t.Fatalf("%d goroutines became %d:\n%s", goroutines, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
}

// fuzzOps is the number of things that a fuzzed client does.
const fuzzOps = 19

// fuzzClient makes a stream of messages of bytes, and checks the replies.
type fuzzClient struct {
	*rig
	data []byte
	id   uint16
	lost bool // something was sent after which the connection ends

	file   int // guest memory
	events []int

	mu       sync.Mutex
	expected []wire.Header // ID and command of the replies to come; guarded by mu
	got      []wire.Header // guarded by mu
	manners  uint64        // how DMA is answered; guarded by mu
	done     chan struct{}
}

func (c *fuzzClient) byte() byte {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return b
}

// number is a number that something may depend on.
func (c *fuzzClient) number() uint64 {
	b := c.byte()
	interesting := [...]uint64{
		0, 1, 2, 4, 8, 16, 20, 24, 32, 40, 64, 255, 256, 4095, 4096, 8192, 0x10000, 0x11000,
		1 << 20, 1<<20 + 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40, 1<<63 - 1, 1 << 63, ^uint64(0xfff), ^uint64(0),
	}
	if int(b) < 8*len(interesting) {
		return interesting[int(b)%len(interesting)] + uint64(b)/uint64(len(interesting))&1
	}
	return uint64(b)<<12 | uint64(c.byte())
}

// page is an address or a size that mappings may have.
func (c *fuzzClient) page() uint64 {
	if b := c.byte(); b < 200 {
		return uint64(b%16) << 12
	}
	return c.number()
}

// files are n of the files that a client may send.
func (c *fuzzClient) files(n int) []int {
	var fds []int
	for range n {
		if c.byte()%4 == 0 {
			fds = append(fds, c.file)
		} else {
			fds = append(fds, c.events[int(c.byte())%len(c.events)])
		}
	}
	return fds
}

// send sends a command that is framed as it should be.
func (c *fuzzClient) send(command wire.Command, payload []byte, fds ...int) {
	var flags wire.Flags
	switch b := c.byte(); {
	case b < 40:
		flags = wire.NoReply
	case b < 44:
		flags = wire.Flags(1) << (5 + b%27)
	}
	c.id++
	if flags&wire.NoReply == 0 {
		c.mu.Lock()
		c.expected = append(c.expected, wire.Header{ID: c.id, Command: command})
		c.mu.Unlock()
	}
	c.put(frame(c.id, command, flags, payload), fds...)
}

func (c *fuzzClient) put(b []byte, fds ...int) {
	if c.tryWrite(b, fds...) != nil {
		c.lost = true
	}
}

// receive takes what comes until the end.
func (c *fuzzClient) receive() {
	defer close(c.done)
	for {
		h, body, fds, err := c.tryNext()
		closeFDs(fds)
		if err != nil {
			return
		}
		if h.Flags.Type() == wire.TypeReply {
			c.mu.Lock()
			c.got = append(c.got, h)
			c.mu.Unlock()
		} else if c.answerDMA(h, body) != nil {
			return
		}
	}
}

// answerDMA answers as it should, or not quite.
func (c *fuzzClient) answerDMA(h wire.Header, body []byte) error {
	c.mu.Lock()
	manner := c.manners % 8
	c.manners = c.manners/8 ^ c.manners<<61
	c.mu.Unlock()
	a := wire.DecodeDMAAccess((*[wire.DMAAccessLen]byte)(body))
	reply := body[:wire.DMAAccessLen]
	if h.Command == wire.CmdDMARead {
		reply = append(reply, make([]byte, a.Count)...)
	}
	b := frame(h.ID, h.Command, wire.TypeReply, reply)
	switch manner {
	case 0: // not at all
		return nil
	case 1:
		b = frame(h.ID, h.Command, wire.TypeReply|wire.Error, nil)
	case 2:
		b = frame(h.ID, h.Command, wire.TypeReply, reply[:len(reply)-1])
	case 3:
		b = append(b, b...) // twice
	case 4:
		b = frame(h.ID+1, h.Command, wire.TypeReply, reply)
	}
	return c.tryWrite(b)
}

func fuzzOnce(t *testing.T, data []byte) {
	const patience = 20 * time.Millisecond
	cfg := &ServerConfig{
		Log: discard, MaxQueue: 8, MaxMaps: 16, DMATime: patience,
		Session: mdev.SessionConfig{
			Translate: &translate.Config{Deadline: patience, MaxMappings: 16}, Pinning: &pinning.Config{Deadline: patience},
		},
	}
	c := &fuzzClient{data: data, done: make(chan struct{})}
	c.rig = negotiated(t, cfg, func(d *rigDevice) {
		d.onWrite = func(region int, off uint64, p []byte) error {
			if region == rigRegs && off == rigDoorbell && len(p) == 8 {
				v := binary.NativeEndian.Uint64(p)
				d.ring(addr.IOVA(v>>16), int(v>>4&0xfff), v&2 != 0, v&1 != 0)
			}
			return nil
		}
	})
	c.file, c.events = memFile(t, 0x10000), eventFDs(t, 3)
	c.manners = uint64(c.byte())<<32 | uint64(c.byte())<<9 | uint64(c.byte())
	session := c.s.Session()
	go c.receive()
	for n := 0; n < 64 && len(c.data) > 0 && !c.lost; n++ {
		c.step()
	}
	if !c.lost { // then the fence behind it all is answered
		c.id++
		c.expected = append(c.expected, wire.Header{ID: c.id, Command: wire.CmdRegionRead})
		c.put(frame(c.id, wire.CmdRegionRead, 0, regRead(0, 4)))
		c.await()
	}
	_ = unix.Shutdown(c.fd, unix.SHUT_WR) // what was answered before can be read
	err := c.rig.wait()
	<-c.done
	c.check(err)
	mdevtest.Check(t, session)
}

// await waits for all replies.
func (c *fuzzClient) await() {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		c.mu.Lock()
		n := len(c.expected) - len(c.got)
		c.mu.Unlock()
		select {
		case <-c.done:
			return
		default:
		}
		if n <= 0 {
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// check compares the replies with what was to come. Of a connection that was
// lost, the first ones; one more may say why.
func (c *fuzzClient) check(err error) {
	got, expected := c.got, c.expected
	if c.lost {
		got = got[:min(len(got), len(expected))]
		expected = expected[:len(got)]
	} else {
		require.Contains(c.t, []error{nil, io.ErrUnexpectedEOF}, err)
	}
	require.Equal(c.t, len(expected), len(got), "replies; the connection ended with %v", err)
	for i, h := range got {
		require.Equal(c.t, expected[i].ID, h.ID, "reply %d", i)
		require.Equal(c.t, expected[i].Command, h.Command, "reply %d", i)
		if h.Flags&wire.Error != 0 {
			require.Equal(c.t, uint32(wire.HeaderLen), h.Size)
		}
	}
}

// step does one thing.
func (c *fuzzClient) step() {
	switch c.byte() % fuzzOps {
	case 0:
		c.send(wire.CmdRegionRead, access(uint32(c.byte()%11), c.number(), uint32(c.number())))
	case 1:
		data := make([]byte, c.byte()%32)
		n := uint32(len(data))
		if c.byte() < 16 {
			n = uint32(c.number())
		}
		c.send(wire.CmdRegionWrite, access(uint32(c.byte()%11), c.number(), n, data...))
	case 2:
		var writes []wire.MultiEntry
		for range c.byte() % 5 {
			writes = append(writes, entry(uint32(c.byte()%11), c.number(), uint32(c.byte()%10)))
		}
		n := uint64(len(writes))
		if c.byte() < 16 {
			n = c.number()
		}
		c.send(wire.CmdWriteMulti, multi(n, writes...))
	case 3:
		m := wire.DMAMap{Argsz: 32, Flags: wire.MapFlags(c.byte() & 15), Address: c.page(), Size: c.page()}
		if b := c.byte(); b < 100 {
			c.send(wire.CmdDMAMap, m.Append(nil))
			break
		}
		m.Offset = c.page()
		c.send(wire.CmdDMAMap, m.Append(nil), c.file)
	case 4:
		u := wire.DMAUnmap{Argsz: 24, Address: c.page(), Size: c.page()}
		switch c.byte() % 8 {
		case 0:
			u.Flags, u.Address, u.Size = wire.UnmapAll, 0, 0
		case 1:
			u.Flags, u.Argsz = wire.UnmapDirtyBitmap, uint32(c.number())
			c.send(wire.CmdDMAUnmap, cat(u, wire.Bitmap{PageSize: c.number(), Size: c.number()}))
			return
		}
		c.send(wire.CmdDMAUnmap, u.Append(nil))
	case 5:
		c.send(wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: uint32(c.number())}.Append(nil))
	case 6:
		c.send(wire.CmdRegionInfo, regionInfo(uint32(c.number()), uint32(c.byte()%12)))
	case 7:
		c.send(wire.CmdRegionIOFDs, wire.IOFDs{Argsz: uint32(c.number()), Index: uint32(c.byte() % 12)}.Append(nil))
	case 8:
		c.send(wire.CmdIRQInfo, wire.IRQInfo{Argsz: uint32(c.number()), Index: uint32(c.byte() % 7)}.Append(nil))
	case 9:
		n := uint32(c.byte() % 6)
		if c.byte() < 16 {
			n = uint32(c.number())
		}
		c.send(wire.CmdSetIRQs, setIRQs(wire.SetFlags(c.byte()&63), uint32(c.byte()%6), uint32(c.byte()%22), n, make([]byte, c.byte()%4)...),
			c.files(int(c.byte()%5))...)
	case 10: // the device does DMA
		v := uint64(c.byte()) | uint64(c.byte())<<8 | c.page()<<16
		c.send(wire.CmdRegionWrite, regWrite(rigDoorbell, binary.NativeEndian.AppendUint64(nil, v)...))
	case 11:
		c.send(wire.CmdFeature, feature(uint32(c.number()), wire.FeatureFlags(c.byte()%10)|wire.FeatureFlags(c.byte()%16)<<16,
			c.some(48)))
	case 12:
		c.send(wire.CmdFeature, feature(64, wire.FeatureSet|2, wire.MigState{State: uint32(c.byte() % 9)}))
	case 13:
		n := c.number()
		c.send(wire.CmdMigDataRead, wire.MigData{Argsz: uint32(n) + 8, Size: uint32(n)}.Append(nil))
	case 14:
		data := c.some(64)
		c.send(wire.CmdMigDataWrite, cat(wire.MigData{Argsz: uint32(8 + len(data)), Size: uint32(len(data))}, data))
	case 15:
		c.send(wire.CmdDeviceReset, nil)
	case 16: // anything, of any length, with any files
		c.send(wire.Command(c.byte()%22), c.some(80), c.files(int(c.byte()%17))...)
	case 17: // not a command
		switch c.byte() % 3 {
		case 0:
			c.put(frame(uint16(c.number()), wire.CmdDMARead, wire.TypeReply, c.some(40)), c.files(int(c.byte()%3))...)
		case 1:
			_ = unix.Ftruncate(c.file, int64(c.byte()%17)<<12)
		case 2:
			time.Sleep(time.Duration(c.byte()) * 20 * time.Microsecond)
		}
	case 18: // the end, one way or another
		if c.byte() < 200 { // mostly not
			return
		}
		c.lost = true
		h := wire.Header{ID: 9, Command: wire.Command(c.byte() % 20), Size: 16}
		switch c.byte() % 4 {
		case 0:
			h.Flags = wire.Flags(2 + c.byte()%14)
			c.put(h.Append(nil), c.files(2)...)
		case 1:
			h.Size = uint32(c.number())
			if h.Size >= wire.HeaderLen {
				h.Size |= 1 << 30
			}
			c.put(h.Append(nil), c.files(2)...)
		case 2: // half a message
			b := frame(9, wire.CmdDMAMap, 0, make([]byte, wire.DMAMapLen))
			c.put(b[:1+int(c.byte())%(len(b)-1)], c.files(1)...)
		case 3: // more files than there may be
			c.put(h.Append(nil), c.files(17+int(c.byte()%40))...)
		}
	}
}

// some are up to n bytes.
func (c *fuzzClient) some(n int) []byte {
	k := min(int(c.byte())%(n+1), len(c.data))
	b := append([]byte{}, c.data[:k]...)
	c.data = c.data[k:]
	return b
}
