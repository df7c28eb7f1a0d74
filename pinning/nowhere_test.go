//go:build unix

package pinning_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// A client may map addresses of the process at which there never was memory,
// those among them that Go takes for no pointer: it costs the access.
func TestMemoryThatNeverWas(t *testing.T) {
	nowhere := []addr.HVA{0, 0x1000, ^addr.HVA(0)>>1 + 1, ^addr.HVA(0) - 4095, 1 << 47}
	if ^uintptr(0)>>32 == 0 {
		nowhere = nowhere[:2]
	}
	try := func(t *testing.T, cfg *pinning.Config, f func(e *env, pin pinning.Pin, err error)) {
		e := newEnv(t, iommu.Contiguous, cfg)
		l := e.o.Begin(1)
		defer l.Release()
		for i, hva := range nowhere {
			at := 0x10_0000 + addr.IOVA(i)<<addr.PageShift
			require.NoError(t, e.st.Map(at, page, translate.Process(hva), rw))
			pin, err := l.Pin(at, page, rw)
			f(e, pin, err)
		}
	}
	t.Run("emulated", func(t *testing.T) {
		try(t, nil, func(e *env, pin pinning.Pin, err error) {
			require.NoError(t, err)
			require.ErrorIs(t, e.d.Read(pin.HPA(), make([]byte, 8)), errs.ErrFault)
			require.ErrorIs(t, e.d.Write(pin.HPA(), make([]byte, 8)), errs.ErrFault)
			require.ErrorIs(t, e.d.Read(pin.HPA()+4092, make([]byte, 4)), errs.ErrFault)
		})
	})
	t.Run("locked", func(t *testing.T) {
		needLocked(t, 8)
		try(t, &pinning.Config{Backend: pinning.Locked}, func(e *env, _ pinning.Pin, err error) {
			require.ErrorIs(t, err, errs.ErrFault)
			require.Zero(t, e.p.Charged())
		})
	})
}
