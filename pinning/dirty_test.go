package pinning_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/translate/addr"
)

// dirty is the pages of the first mapping that the log has, as a set.
func (e *env) dirty(clear bool) uint32 {
	var b [1]uint64
	require.NoError(e, e.st.DirtyGet(0x1_0000, 32*page, page, b[:], clear))
	return uint32(b[0])
}

// peers.md A5 and A4: a pinned page is dirty, and after each report those
// still pinned are dirty again. Least access adds: pinned for writing.
func TestPinsMarkDirty(t *testing.T) {
	e := newEnv(t, iommu.Scattered, nil)
	early := e.o.Begin(1)
	e.pin(early, 0x1_0000, page, w)
	require.NoError(t, e.st.DirtyStart())
	defer func() { require.NoError(t, e.st.DirtyStop()) }()
	require.Equal(t, uint32(1), e.dirty(true), "pinned before the log was started")
	l := e.o.Begin(2)
	e.pin(l, 0x1_2000, page, r)
	pin := e.pin(l, 0x1_4800, page, rw)
	require.Equal(t, uint32(0b110001), e.dirty(false))
	require.Equal(t, uint32(0b110001), e.dirty(true))
	require.Equal(t, uint32(0b110001), e.dirty(true), "still pinned: dirty again")
	require.True(t, e.writes(pin.HPA()))
	l.Release()
	require.Equal(t, uint32(0b110001), e.dirty(true), "written until the release")
	require.Equal(t, uint32(1), e.dirty(true))
	early.Release()
	require.Equal(t, uint32(1), e.dirty(true))
	require.Zero(t, e.dirty(true))
}

// N11: no lost bit. Hardware stores count up in a page, each under a pin of
// its own, while the log is read and cleared; whoever copies the dirty pages
// after each report ends with the same memory.
func TestNoDirtyBitIsLost(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	clear(e.mem)
	require.NoError(t, e.st.DirtyStart())
	var stop atomic.Bool
	var wg sync.WaitGroup
	for dev := range 2 {
		d := e.space.NewDomain("d")
		o := e.p.NewOwner("d", d, nil)
		wg.Go(func() {
			defer o.Close()
			for n := uint64(1); !stop.Load(); n++ {
				l := o.Begin(n)
				pin, err := l.Pin(0x1_0000+addr.IOVA(dev*16+int(n%16))<<12, 8, w)
				if err != nil {
					t.Error(err)
					return
				}
				if d.Write(pin.HPA(), []byte{byte(n), byte(n >> 8), byte(n >> 16)}) != nil {
					t.Error("refused")
				}
				l.Release()
			}
		})
	}
	copied := make([]byte, len(e.mem))
	sync := func() {
		set := e.dirty(true)
		for i := range 32 {
			if set>>i&1 != 0 {
				// The copy of a migration: racing with hardware, through
				// the same memory path.
				l := e.o.Begin(1)
				pin, err := l.Pin(0x1_0000+addr.IOVA(i)<<12, page, r)
				require.NoError(t, err)
				require.NoError(t, e.d.Read(pin.HPA(), copied[i<<12:(i+1)<<12]))
				l.Release()
			}
		}
	}
	if !raceEnabled { // copies race with stores by design
		for range 300 {
			sync()
		}
	}
	stop.Store(true)
	wg.Wait()
	sync()
	for i := range 32 {
		require.Equal(t, e.mem[i<<12:i<<12+8], copied[i<<12:i<<12+8], "page %d", i)
	}
	require.NoError(t, e.st.DirtyStop())
}
