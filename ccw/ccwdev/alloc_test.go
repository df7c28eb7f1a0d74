//go:build !race

package ccwdev_test

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A program through a session allocates nothing, from the write of region 0 to
// the interrupt.
func TestProgramAllocations(t *testing.T) {
	s := mdevtest.Open(t, behind(t, new(source), binary.BigEndian), nil)
	mem := make([]byte, memSize)
	require.NoError(t, s.Map(0, memSize, translate.Bytes(mem), addr.ReadWrite))
	v := &vm{t: t, s: s, order: binary.BigEndian, mem: mem}
	irq := make(chan struct{}, 1)
	require.NoError(t, s.IRQs().Func(ccw.IRQIO, 0, func() { irq <- struct{}{} }))
	v.program(c(0x02, 0, 4096, dataAt))
	start := v.request(orb())
	ctx := t.Context()
	var before, after runtime.MemStats
	const n = 1000
	for i := range 2 * n {
		if i == n {
			runtime.ReadMemStats(&before)
		}
		if err := s.Write(ctx, ccw.RegionIO, 0, start); err != nil {
			t.Fatal(err)
		}
		<-irq
	}
	runtime.ReadMemStats(&after)
	require.Less(t, float64(after.Mallocs-before.Mallocs)/n, 0.1, "the runtime may have its own")
}
