package ccwdev_test

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwtest"
)

// A guest that asks for programs, and takes them back, while none can begin
// makes nothing grow: the hardware may be held up for long, by memory that its
// VMM is slow to deliver.
func TestAttackRequestsWhileNothingBegins(t *testing.T) {
	v := newVM(t, behind(t, new(ccwtest.Device), binary.BigEndian), binary.BigEndian, nil).ram()
	v.program(c(0x12, sli, 80, dataAt))
	require.NoError(t, v.s.Quiesce(t.Context()))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	cycles := func(n int) {
		for range n {
			_ = v.start(orb())
			_ = v.async(ccw.AsyncClear)
			_ = v.start(orb())
			_ = v.async(ccw.AsyncHalt)
			v.read(ccw.RegionIO)
		}
	}
	cycles(100)
	before := heap()
	cycles(20_000)
	require.Less(t, int64(heap())-int64(before), int64(1<<20))
	v.s.Unquiesce()
	require.NoError(t, v.s.Reset(t.Context()))
	v.read(ccw.RegionIO)
}
