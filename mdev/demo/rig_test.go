package demo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/pci"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// base is where the guest's memory begins.
	base    = addr.IOVA(0x100000)
	ramSize = 4 << 20
	// patience is longer than anything here takes.
	patience = 30 * time.Second
)

// rig is a device, and a driver of it that runs in this process.
type rig struct {
	testing.TB
	*mdev.Session
	dev  *demo.Device
	ctx  context.Context
	ram  []byte
	irqs [demo.Vectors]chan struct{}
}

// newRig opens a device whose driver has switched bus mastering on. It has no
// memory yet.
func newRig(t testing.TB, cfg *mdev.SessionConfig) *rig {
	dev, err := demo.New(nil)
	require.NoError(t, err)
	t.Cleanup(dev.Destroy)
	return openRig(t, dev, cfg)
}

func openRig(t testing.TB, dev *demo.Device, cfg *mdev.SessionConfig) *rig {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	s, err := mdev.Open(ctx, dev, cfg)
	require.NoError(t, err)
	r := &rig{TB: t, Session: s, dev: dev, ctx: ctx}
	t.Cleanup(r.close)
	for v := range r.irqs {
		r.irqs[v] = make(chan struct{}, 1024)
		require.NoError(t, s.IRQs().Func(mdev.IRQMSIX, v, func() { r.irqs[v] <- struct{}{} }))
	}
	r.master(true)
	return r
}

// close ends the session, which must leave nothing behind: mdev.Session.Close
// says what did.
func (r *rig) close() { require.NoError(r, r.Session.Close(r.ctx)) }

// withRAM is newRig with memory at base that is mapped as a whole.
func withRAM(t testing.TB) *rig {
	r := newRig(t, nil)
	r.ram = noise(ramSize)
	require.NoError(t, r.Map(base, ramSize, translate.Bytes(r.ram), addr.ReadWrite))
	return r
}

// noise is n bytes, at most ramSize, that do not repeat.
func noise(n int) []byte { return bytes.Clone(noiseOnce()[:n]) }

var noiseOnce = sync.OnceValue(func() []byte {
	p := make([]byte, ramSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p)
	return p
})

func (r *rig) write(off uint64, width int, value uint64) {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], value)
	require.NoError(r, r.Write(r.ctx, mdev.BAR0, off, p[:width]))
}

func (r *rig) read(off uint64) uint32 {
	var p [4]byte
	require.NoError(r, r.Read(r.ctx, mdev.BAR0, off, p[:]))
	return binary.LittleEndian.Uint32(p[:])
}

// master switches bus mastering.
func (r *rig) master(on bool) {
	var c pci.Command
	if on {
		c = pci.CommandMaster | pci.CommandMemory
	}
	require.NoError(r, r.Write(r.ctx, mdev.Config, pci.RegCommand, []byte{byte(c), byte(c >> 8)}))
}

// flr is a function-level reset.
func (r *rig) flr() {
	at := uint64(r.dev.Space.Find(pci.IDExpress) + pci.ExpressDeviceControl)
	require.NoError(r, r.Write(r.ctx, mdev.Config, at, []byte{0x10, 0x80}))
}

// pending is the Transactions Pending bit.
func (r *rig) pending() bool {
	var p [2]byte
	at := uint64(r.dev.Space.Find(pci.IDExpress) + pci.ExpressDeviceStatus)
	require.NoError(r, r.Read(r.ctx, mdev.Config, at, p[:]))
	return p[0]&pci.DeviceStatusPending != 0
}

// cmd is a command as a driver gives it.
type cmd struct {
	op, length, value, vector uint32
	src, dst                  addr.IOVA
}

// ring gives a command, and does not wait.
func (r *rig) ring(c cmd) {
	r.write(demo.RegSrc, 8, uint64(c.src))
	r.write(demo.RegDst, 8, uint64(c.dst))
	r.write(demo.RegLen, 4, uint64(c.length))
	r.write(demo.RegValue, 4, uint64(c.value))
	r.write(demo.RegVector, 4, uint64(c.vector))
	r.write(demo.RegCommand, 4, uint64(c.op))
}

// interrupted waits for the interrupt of a vector.
func (r *rig) interrupted(vector uint32) {
	select {
	case <-r.irqs[vector]:
	case <-time.After(patience):
		require.FailNow(r, "no interrupt", "vector %d, status %#x", vector, r.read(demo.RegStatus))
	}
}

// silent checks that no interrupt has come.
func (r *rig) silent() {
	for v := range r.irqs {
		require.Empty(r, r.irqs[v], "vector %d", v)
	}
}

// do gives a command, waits for its end, and returns the status.
func (r *rig) do(c cmd) uint32 {
	done := r.read(demo.RegCompleted)
	r.ring(c)
	r.interrupted(c.vector % demo.Vectors)
	require.Equal(r, done+1, r.read(demo.RegCompleted))
	st := r.read(demo.RegStatus)
	require.Zero(r, st&demo.StatusBusy)
	return st
}

// remote is memory that is reached by messages. Each waits while the gate is
// closed.
type remote struct {
	mu   sync.RWMutex
	b    []byte
	gate chan struct{} // nil: open

	arrived chan struct{} // a message came to a closed gate
}

func newRemote(b []byte) *remote { return &remote{b: b, arrived: make(chan struct{}, 1024)} }

// shut closes the gate; open opens it.
func (m *remote) shut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = make(chan struct{})
}

func (m *remote) open() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gate != nil {
		close(m.gate)
		m.gate = nil
	}
}

func (m *remote) pass() {
	m.mu.RLock()
	gate := m.gate
	m.mu.RUnlock()
	if gate != nil {
		m.arrived <- struct{}{}
		<-gate
	}
}

func (m *remote) ReadAt(p []byte, off int64) (int, error) {
	m.pass()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if off < 0 || off+int64(len(p)) > int64(len(m.b)) {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(p, m.b[off:]), nil
}

func (m *remote) WriteAt(p []byte, off int64) (int, error) {
	m.pass()
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off+int64(len(p)) > int64(len(m.b)) {
		return 0, io.ErrShortWrite
	}
	return copy(m.b[off:], p), nil
}

// withRemote is newRig with memory at base that is reached by messages.
func withRemote(t testing.TB) (*rig, *remote) {
	r := newRig(t, nil)
	r.ram = noise(ramSize)
	m := newRemote(r.ram)
	t.Cleanup(m.open) // before the session closes
	require.NoError(t, r.Map(base, ramSize, translate.Remote(m), addr.ReadWrite))
	return r, m
}

// stuck is withRemote with a copy under way that waits for a message.
func stuck(t testing.TB) (*rig, *remote) {
	r, m := withRemote(t)
	m.shut()
	r.ring(cmd{op: demo.CommandCopy, src: base, dst: base + 1<<20, length: demo.MaxLen})
	select {
	case <-m.arrived:
	case <-time.After(patience):
		require.FailNow(t, "the engine asks for nothing")
	}
	return r, m
}

// each runs f over every way that memory can be reached and laid out.
func each(t *testing.T, f func(t *testing.T, r *rig)) {
	for _, layout := range []iommu.Layout{iommu.Contiguous, iommu.Scattered} {
		space := func() *mdev.SessionConfig {
			return &mdev.SessionConfig{Space: iommu.NewSpace(&iommu.Config{Layout: layout, Seed: 7})}
		}
		run := func(name string, mapped func(r *rig)) {
			t.Run(fmt.Sprintf("%v/%s", layout, name), func(t *testing.T) {
				r := newRig(t, space())
				r.ram = noise(ramSize)
				mapped(r)
				f(t, r)
			})
		}
		run("one mapping", func(r *rig) {
			require.NoError(r, r.Map(base, ramSize, translate.Bytes(r.ram), addr.ReadWrite))
		})
		run("a mapping a page", func(r *rig) {
			for at := 0; at < ramSize; at += 4096 {
				require.NoError(r, r.Map(base+addr.IOVA(at), 4096, translate.Bytes(r.ram[at:at+4096]), addr.ReadWrite))
			}
		})
		run("by messages", func(r *rig) {
			m := newRemote(r.ram)
			require.NoError(r, r.Map(base, ramSize, translate.Remote(m), addr.ReadWrite))
		})
		run("pages of both kinds", func(r *rig) {
			for at := 0; at < ramSize; at += 4096 {
				mem := translate.Bytes(r.ram[at : at+4096])
				if at>>12&1 != 0 {
					mem = translate.Remote(newRemote(r.ram[at : at+4096]))
				}
				require.NoError(r, r.Map(base+addr.IOVA(at), 4096, mem, addr.ReadWrite))
			}
		})
	}
}
