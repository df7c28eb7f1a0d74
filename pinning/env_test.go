package pinning_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

const (
	page = addr.PageSize
	r    = addr.Read
	w    = addr.Write
	rw   = addr.ReadWrite
)

// env is a guest with one device. Mappings, each page filled with the low byte
// of its number in the mapping:
//
//	[0x10000, 0x2ffff]            rw, 32 pages, spans two blocks
//	[0x30000, 0x30fff]            r-, adjacent, other memory
//	[0x31000, 0x31fff]            -w, adjacent
//	[0xfffff_fff0_0000, end]      rw, up to the last byte below 2^64
type env struct {
	testing.TB
	st    *translate.Store
	space *iommu.Space
	p     *pinning.Pinner
	d     *iommu.Domain
	o     *pinning.Owner
	mem   []byte // of the first mapping
}

const top = addr.IOVA(0xffff_ffff_fff0_0000)

func newEnv(t testing.TB, layout iommu.Layout, cfg *pinning.Config) *env {
	st, err := translate.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	translatetest.Check(t, st)
	e := &env{TB: t, st: st, space: iommu.NewSpace(&iommu.Config{Layout: layout, Seed: 7})}
	e.mem = e.mapPages(0x1_0000, 32, rw)
	e.mapPages(0x3_0000, 1, r)
	e.mapPages(0x3_1000, 1, w)
	e.mapPages(top, 0x100, rw)
	e.p = pintest.New(t, st, e.space, cfg)
	e.d = e.space.NewDomain("dasd0")
	e.o = e.p.NewOwner("dasd0", e.d, nil)
	return e
}

// fill is pages filled with each byte.
var fill = func() (f [256][page]byte) {
	for i := range f {
		for j := range f[i] {
			f[i][j] = byte(i)
		}
	}
	return f
}()

func (e *env) mapPages(iova addr.IOVA, n addr.Len, access addr.Access) []byte {
	e.Helper()
	mem := make([]byte, n*page)
	for i := range int(n) {
		copy(mem[i<<addr.PageShift:], fill[byte(i)][:])
	}
	require.NoError(e, e.st.Map(iova, n*page, translate.Bytes(mem), access))
	return mem
}

func (e *env) pin(l pinning.Lease, iova addr.IOVA, n addr.Len, access addr.Access) pinning.Pin {
	e.Helper()
	pin, err := l.Pin(iova, n, access)
	require.NoError(e, err)
	return pin
}

func (e *env) unmap(iova addr.IOVA, n addr.Len, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := e.st.Unmap(ctx, iova, n)
	return err
}

// reads and writes are what the device is able to do at a byte.
func (e *env) reads(hpa addr.HPA) bool  { return e.d.Read(hpa, make([]byte, 1)) == nil }
func (e *env) writes(hpa addr.HPA) bool { return e.d.Write(hpa, make([]byte, 1)) == nil }

// layouts runs a test under both layouts, so that nothing leans on
// contiguity.
func layouts(t *testing.T, f func(t *testing.T, layout iommu.Layout)) {
	for _, l := range []iommu.Layout{iommu.Contiguous, iommu.Scattered} {
		t.Run(l.String(), func(t *testing.T) { f(t, l) })
	}
}

func filled(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
