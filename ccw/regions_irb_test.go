package ccw_test

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The I/O region holds one IRB. Attention that comes on the heels of a program's
// end does not take its place before it was read: the user is told of both, in
// order.
func TestUnreadStatusIsKept(t *testing.T) {
	b := newBench(t, binary.BigEndian, readProgram)
	require.NoError(t, b.r.Open())
	require.NoError(t, b.io(orbOf(f1)))
	b.d.Attention(cio.Attention)
	require.Equal(t, 2, b.irq(ccw.IRQIO), "told of the end, and that there is more")
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))
	require.Equal(t, 3, b.irq(ccw.IRQIO))
	irb := b.irb(t)
	require.Equal(t, cio.Attention, irb.SCSW.Device())
	require.Equal(t, 3, b.irq(ccw.IRQIO))
	b.d.Attention(cio.DeviceEnd)
	require.Equal(t, 4, b.irq(ccw.IRQIO), "what was read is in nobody's way")

	// Who goes on without reading is told before, and not kept from it.
	b.d.Attention(cio.Attention)
	before := b.irq(ccw.IRQIO)
	require.NoError(t, b.io(orbOf(f1)))
	require.Equal(t, before+2, b.irq(ccw.IRQIO))
	require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(b.irb(t).SCSW))

	// Nor is it kept from a halt, nor left with what was held when it closes.
	b.d.Attention(cio.Attention)
	b.d.Attention(cio.Attention)
	require.NoError(t, b.async(ccw.AsyncHalt))
	irb = b.irb(t)
	require.Equal(t, cio.HaltFunction, irb.SCSW.FC())
	b.d.Attention(cio.Attention)
	b.d.Attention(cio.Attention)
	require.NoError(t, b.r.Reset())
	irb = b.irb(t)
	require.Zero(t, irb.SCSW)
	before = b.irq(ccw.IRQIO)
	b.irb(t)
	require.Equal(t, before, b.irq(ccw.IRQIO))
	b.nothingHeld()
}

// Statuses that arise at once on several goroutines come one after another; of
// the programs none loses its own.
func TestStatusesInOrder(t *testing.T) {
	var mu sync.Mutex
	ends := 0
	b := newBench(t, binary.BigEndian, readProgram)
	require.NoError(t, b.r.Open())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Microsecond): // else nothing but attention is told
					b.d.Attention(cio.Attention)
				}
			}
		})
	}
	const n = 2000
	for started := 0; started < n; {
		if b.io(orbOf(f1)) != nil {
			continue // attention is pending
		}
		started++
		for {
			irb := b.irb(t)
			if c := irb.SCSW.Control(); c&cio.PrimaryStatus != 0 || irb.SCSW.DeferredCC() != 0 {
				mu.Lock()
				ends++
				mu.Unlock()
				break
			}
		}
	}
	close(stop)
	wg.Wait()
	require.Equal(t, n, ends)
}
