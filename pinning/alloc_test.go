package pinning_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// The steady state allocates nothing: one page, a run of 512, a list, and the
// hardware's accesses between.
func TestPinsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops what it is given in race builds")
	}
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		st, err := translate.New(nil)
		require.NoError(t, err)
		defer st.Close()
		require.NoError(t, st.Map(0x10_0000, 1024*page, translate.Bytes(make([]byte, 1024*page)), rw))
		space := iommu.NewSpace(&iommu.Config{Layout: layout})
		p, err := pinning.New(st, space, &pinning.Config{Limit: pinning.Unlimited})
		require.NoError(t, err)
		defer p.Close()
		d := space.NewDomain("d")
		o := p.NewOwner("d", d, nil)
		reqs, pins := make([]pinning.Request, 64), make([]pinning.Pin, 64)
		for i := range reqs {
			reqs[i] = pinning.Request{IOVA: 0x10_0000 + addr.IOVA(i*7)<<12, Len: page, Access: r}
		}
		buf := make([]byte, page)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			l := o.Begin(1)
			defer l.Release()
			one, err := l.Pin(0x10_1234, 8, rw)
			if err != nil || d.Write(one.HPA(), buf[:8]) != nil {
				t.Error("refused")
			}
			run, err := l.Pin(0x20_0800, 512*page, r)
			if err != nil || d.Read(run.At(511*page), buf[:16]) != nil {
				t.Error("refused")
			}
			if _, err := l.PinEach(reqs, pins); err != nil || d.Read(pins[63].HPA(), buf) != nil {
				t.Error("refused")
			}
		}))
		pintest.Check(t, p)
	})
}
