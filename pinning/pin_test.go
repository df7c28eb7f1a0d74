package pinning_test

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/pinning/pintest"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// The errno column of peers.md A5, vfio_pin_pages, and what lies around it.
func TestPinErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		iova   addr.IOVA
		n      addr.Len
		access addr.Access
		want   error
		errno  syscall.Errno
		text   string
	}{
		{"A5: npage 0", 0x1_0000, 0, r, errs.ErrInvalid, unix.EINVAL, "iova 0x10000: pin of 0 bytes r-: invalid argument"},
		{"no access", 0x1_0000, 1, 0, errs.ErrInvalid, unix.EINVAL, ""},
		{"unknown access", 0x1_0000, 1, 4, errs.ErrInvalid, unix.EINVAL, ""},
		{"A5: no mapping", 0x5000, 1, r, errs.ErrNotMapped, unix.EINVAL, "iova 0x5000: not mapped"},
		{"begins before the mapping", 0xffff, 2, r, errs.ErrNotMapped, unix.EINVAL, "iova 0xffff: not mapped"},
		{"ends behind the mappings", 0x3_1fff, 2, w, errs.ErrNotMapped, unix.EINVAL, "iova 0x32000: not mapped"},
		{"A5: prot beyond the mapping's", 0x3_0000, 1, w, errs.ErrPermission, unix.EPERM, "iova 0x30000: access not permitted"},
		{"reading what may be written only", 0x3_1000, 1, r, errs.ErrPermission, unix.EPERM, ""},
		{"second of three mappings forbids", 0x2_f000, 3 * page, w, errs.ErrPermission, unix.EPERM, "iova 0x30000: access not permitted"},
		{"C4 #2: passes 2^64", top, 0x100*page + 1, r, errs.ErrOverflow, unix.EOVERFLOW, ""},
		{"C4 #2: 2^64-1 bytes", 0x1_0000, ^addr.Len(0), r, errs.ErrOverflow, unix.EOVERFLOW, ""},
		{"all that there is", 0, ^addr.Len(0), r, errs.ErrNotMapped, unix.EINVAL, "iova 0x0: not mapped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t, iommu.Contiguous, nil)
			l := e.o.Begin(1)
			defer l.Release()
			kept := e.pin(l, 0x1_0000, page, r)
			_, err := l.Pin(tt.iova, tt.n, tt.access)
			require.ErrorIs(t, err, tt.want)
			require.Equal(t, tt.errno, errs.Errno(err))
			if tt.text != "" {
				require.EqualError(t, err, tt.text)
			}
			require.Equal(t, page, e.p.Charged(), "all or nothing")
			require.True(t, e.reads(kept.HPA()), "what was pinned before stays")
			require.Zero(t, e.d.FaultCount())
		})
	}
}

// N17: a pin of a suspended mapping is EBUSY; the others go on (type1 refuses
// all of the container); after Resume it reaches the new memory.
func TestSuspendedMapping(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		l := e.o.Begin(1)
		before := e.pin(l, 0x1_0000, page, rw).HPA()
		l.Release()

		_, err := e.st.Suspend(t.Context(), 0x1_0000, 32*page)
		require.NoError(t, err)
		l = e.o.Begin(2)
		defer l.Release()
		_, err = l.Pin(0x1_0000, page, rw)
		require.ErrorIs(t, err, errs.ErrSuspended)
		require.Equal(t, unix.EBUSY, errs.Errno(err))
		_, err = l.Pin(0x1_f000, 0x12*page, r)
		require.ErrorIs(t, err, errs.ErrSuspended)
		e.pin(l, 0x3_0000, page, r)

		fresh := filled(0xaa, 32*int(page))
		require.NoError(t, e.st.Resume(0x1_0000, 32*page, translate.Bytes(fresh)))
		pin := e.pin(l, 0x1_0000, page, rw)
		require.NoError(t, e.d.Write(pin.HPA(), []byte{1}))
		require.Equal(t, byte(1), fresh[0])
		require.Zero(t, e.mem[0])
		require.False(t, e.reads(before), "the old frame is nobody's")
	})
}

// Least access, invariant 1 of DESIGN.md: what is pinned for reading cannot be
// written by the device, whatever the mapping allows.
func TestLeastAccess(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		l, m := e.o.Begin(1), e.o.Begin(2)
		hpa := e.pin(l, 0x1_0000, 1, r).HPA()
		require.True(t, e.reads(hpa))
		require.ErrorIs(t, e.d.Write(hpa, []byte{1}), errs.ErrPermission)
		require.Equal(t, hpa+8, e.pin(m, 0x1_0008, 1, w).HPA(), "one page, one frame")
		require.True(t, e.reads(hpa) && e.writes(hpa), "the device may do what its programs together may")
		l.Release()
		require.True(t, e.writes(hpa))
		require.ErrorIs(t, e.d.Read(hpa, []byte{1}), errs.ErrPermission)
		m.Release()
		require.ErrorIs(t, e.d.Read(hpa, []byte{1}), errs.ErrReach)
		require.ErrorIs(t, e.d.Write(hpa, []byte{1}), errs.ErrReach)
	})
}

func TestAddressesOfAPin(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		l := e.o.Begin(1)
		defer l.Release()
		for _, tt := range []struct {
			iova addr.IOVA
			n    addr.Len
		}{{0x1_0000, 1}, {0x1_0fff, 2}, {0x1_0123, 7 * page}, {0x1_f800, 0x11 * page}, {0x1_0000, 33 * page}, {top + 0x1234, 0xf0 * page}, {^addr.IOVA(0), 1}} {
			pin := e.pin(l, tt.iova, tt.n, r)
			require.Equal(t, tt.iova, pin.IOVA())
			require.Equal(t, tt.n, pin.Len())
			require.Equal(t, pin.At(0), pin.HPA())
			require.GreaterOrEqual(t, pin.HPA(), addr.HPA(1<<32))
			want := make([]byte, tt.n)
			rd := e.st.NewReader()
			require.NoError(t, rd.Read(tt.iova, want))
			rd.Close()

			var got []byte
			off := addr.Len(0)
			for run := range pin.Runs() {
				require.Equal(t, pin.At(off), run.HPA)
				part := make([]byte, run.Len)
				if layout == iommu.Scattered {
					require.LessOrEqual(t, run.Len, page)
				}
				require.NoError(t, e.d.Read(run.HPA, part))
				got = append(got, part...)
				off += run.Len
			}
			require.Equal(t, want, got, "%s+%s", tt.iova, tt.n)
			for range pin.Runs() {
				break // a caller may stop early
			}
			require.Panics(t, func() { pin.At(tt.n) })
		}
		if layout == iommu.Contiguous {
			require.Len(t, slices.Collect(e.pin(l, 0x1_0000, 32*page, r).Runs()), 1, "contiguous pages are one run")
		}
		require.Zero(t, e.d.FaultCount())
	})
}

// C4 #14: limits of 0, 1 and n pages; a page is charged once.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name         string
		limit, owner addr.Len
		want         addr.Len // pages that can be pinned one by one
	}{
		{"less than a page", page - 1, 0, 0},
		{"one page", page, 0, 1},
		{"five and a half", 5*page + page/2, 0, 5},
		{"no limit", pinning.Unlimited, 0, 32},
		{"three for the owner", 5 * page, 3 * page, 3},
		{"less than a page for the owner", 5 * page, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t, iommu.Contiguous, &pinning.Config{Limit: tt.limit, PerOwner: tt.owner})
			l := e.o.Begin(1)
			defer l.Release()
			n := addr.Len(0)
			for ; n < 32; n++ {
				for range 3 { // double pins are charged once
					_, err := l.Pin(0x1_0000+addr.IOVA(n*page), page, rw)
					if n >= tt.want {
						require.ErrorIs(t, err, errs.ErrMemlock)
						require.Equal(t, unix.ENOMEM, errs.Errno(err))
					} else {
						require.NoError(t, err)
					}
				}
				if n >= tt.want {
					break
				}
				require.Equal(t, (n+1)*page, e.p.Charged())
				require.Equal(t, (n+1)*page, e.o.Charged())
			}
			require.Equal(t, tt.want, n)
			// A range of one page too many: none of it.
			l.Release()
			require.Zero(t, e.p.Charged())
			l = e.o.Begin(2)
			if tt.want < 32 {
				_, err := l.Pin(0x1_0000, (tt.want+1)*page, r)
				require.ErrorIs(t, err, errs.ErrMemlock)
				require.Zero(t, e.p.Charged())
			}
			if tt.want > 0 {
				e.pin(l, 0x1_0000, tt.want*page, r)
			}
			l.Release()
		})
	}
}

// The charge is for the page, not for the pin: owners share it.
func TestPageIsChargedOnce(t *testing.T) {
	e := newEnv(t, iommu.Scattered, &pinning.Config{Limit: 2 * page})
	other := e.p.NewOwner("con0", e.space.NewDomain("con0"), nil)
	a, b := e.o.Begin(1), other.Begin(1)
	e.pin(a, 0x1_0000, 2*page, r)
	e.pin(b, 0x1_0000, 2*page, w)
	require.Equal(t, 2*page, e.p.Charged())
	_, err := b.Pin(0x1_2000, 1, r)
	require.ErrorIs(t, err, errs.ErrMemlock)
	require.ErrorContains(t, err, "iova 0x12000: con0 holds 0x2000 bytes, all hold 0x2000 of 0x2000: locked-memory limit exceeded")
	a.Release()
	require.Equal(t, 2*page, e.p.Charged(), "the other one still holds them")
	require.Zero(t, e.o.Charged())
	b.Release()
	require.Zero(t, e.p.Charged())
}

func TestPinEach(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, &pinning.Config{Limit: 4 * page})
		l := e.o.Begin(1)
		reqs := []pinning.Request{{0x1_0800, 0x800, r}, {0x1_0000, 8, w}, {0x1_2ff8, 16, rw}, {0x3_0000, 1, r}}
		pins := make([]pinning.Pin, len(reqs))
		_, err := l.PinEach(reqs, pins)
		require.NoError(t, err)
		require.Equal(t, 4*page, e.p.Charged(), "a page named twice is charged once")
		for i, q := range reqs {
			require.Equal(t, q.IOVA, pins[i].IOVA())
			require.Equal(t, q.Access.Allows(r), e.reads(pins[i].HPA()) && q.Access.Allows(r))
			require.NotZero(t, pins[i].At(q.Len-1))
		}
		require.Equal(t, pins[1].HPA()+0x800, pins[0].HPA())

		l.Release()
		l = e.o.Begin(2)
		defer l.Release()
		kept := e.pin(l, 0x1_1000, 1, r)
		for i, bad := range []pinning.Request{{0x5000, 1, r}, {0x3_0000, 1, w}, {0x1_8000, 3 * page, r}, {0x1_8000, 0, r}} {
			at, err := l.PinEach([]pinning.Request{{0x1_0000, 1, rw}, {0x1_1000, 1, rw}, bad, {0x1_0000, 1, r}}, pins)
			require.Error(t, err)
			require.Equal(t, 2, at, "request %d", i)
			require.Equal(t, page, e.p.Charged(), "all or none")
			require.True(t, e.reads(kept.HPA()))
			require.False(t, e.writes(kept.HPA()))
		}
	})
}

// C4 #9: a release is idempotent, also when it comes so late that the slot
// serves another program.
func TestDoubleRelease(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	a := e.o.Begin(1)
	require.True(t, a.Valid())
	e.pin(a, 0x1_0000, page, r)
	a.Release()
	a.Release()
	require.False(t, a.Valid())
	b := e.o.Begin(2)
	require.NotEqual(t, a, b)
	hpa := e.pin(b, 0x1_1000, page, r).HPA()
	a.Release()
	require.True(t, e.reads(hpa), "the next program's lease lives")
	require.Equal(t, page, e.p.Charged())
	_, err := a.Pin(0x1_0000, page, r)
	require.ErrorIs(t, err, errs.ErrGone)
	_, err = a.PinEach([]pinning.Request{{0x1_0000, 1, r}}, make([]pinning.Pin, 1))
	require.ErrorIs(t, err, errs.ErrGone)
	b.Release()

	var none pinning.Lease
	none.Release()
	require.False(t, none.Valid())
	_, err = none.Pin(0x1_0000, page, r)
	require.ErrorIs(t, err, errs.ErrGone)
	_, err = none.PinEach(nil, nil)
	require.ErrorIs(t, err, errs.ErrGone)
}

// C4 #8: a pin taken before unmap and map never reaches the new memory, and
// the new one not the old, even where the device kept the address.
func TestReuseOfAnIOVA(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		seen := map[addr.HPA]bool{}
		for i := range byte(20) {
			l := e.o.Begin(uint64(i))
			pin := e.pin(l, 0x1_1000, page, rw)
			require.False(t, seen[pin.HPA()], "a frame is not used again soon")
			seen[pin.HPA()] = true
			old := e.mem
			l.Release()
			require.NoError(t, e.unmap(0x1_0000, 32*page, 0))
			e.mem = e.mapPages(0x1_0000, 32, rw)
			m := e.o.Begin(uint64(i))
			now := e.pin(m, 0x1_1000, page, rw)
			require.ErrorIs(t, e.d.Write(pin.HPA(), filled(0xee, 8)), errs.ErrReach)
			require.NoError(t, e.d.Write(now.HPA(), []byte{0xcc}))
			require.Equal(t, byte(0xcc), e.mem[page])
			require.NotEqual(t, byte(0xcc), old[page])
			m.Release()
			require.NoError(t, e.unmap(0x1_0000, 32*page, 0))
			e.mem = e.mapPages(0x1_0000, 32, rw)
		}
	})
}

func TestLargeMappings(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		// Nothing is there: 2^62 bytes that only a mapping promises.
		const at = addr.IOVA(1) << 62
		require.NoError(t, e.st.Map(at, 1<<62, translate.Remote(hollow{}), r))
		l := e.o.Begin(1)
		defer l.Release()
		for _, iova := range []addr.IOVA{at, at + 0x3ff_f000, at + 1<<61 + 0x123, at + 1<<62 - 1} {
			pin := e.pin(l, iova, 1, r)
			var b [1]byte
			require.NoError(t, e.d.Read(pin.HPA(), b[:]))
			require.Equal(t, byte(uint64(iova-at)>>12), b[0])
		}
		pin := e.pin(l, at+0x3ff_f000, 2*page, r) // across the pieces of the mapping
		require.Equal(t, byte(0), e.at(pin, page))
		require.Equal(t, byte(0xff), e.at(pin, 0))
	})
}

func (e *env) at(p pinning.Pin, off addr.Len) byte {
	var b [1]byte
	require.NoError(e, e.d.Read(p.At(off), b[:]))
	return b[0]
}

// hollow is remote memory whose bytes are their page number.
type hollow struct{}

func (hollow) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte((off + int64(i)) >> 12)
	}
	return len(p), nil
}

func (hollow) WriteAt([]byte, int64) (int, error) { return 0, errors.New("read only") }

// Small mappings share a block of address space; each has frames of its own.
func TestManySmallMappings(t *testing.T) {
	layouts(t, func(t *testing.T, layout iommu.Layout) {
		e := newEnv(t, layout, nil)
		const n = 500
		for i := range addr.IOVA(n) {
			mem := e.mapPages(0x100_0000+i*0x1000, 1, rw)
			mem[0], mem[1] = byte(i), byte(i>>8)
		}
		l := e.o.Begin(1)
		pin := e.pin(l, 0x100_0000, n*page, r)
		for i := range addr.Len(n) {
			b := make([]byte, 2)
			require.NoError(t, e.d.Read(pin.At(i*page), b))
			require.Equal(t, []byte{byte(i), byte(i >> 8)}, b)
		}
		require.Equal(t, n*page, e.p.Charged())
		l.Release()
		// Every second one goes; the rest is found.
		for i := addr.IOVA(0); i < n; i += 2 {
			require.NoError(t, e.unmap(0x100_0000+i*0x1000, page, 0))
		}
		l = e.o.Begin(2)
		defer l.Release()
		for i := range addr.IOVA(n) {
			_, err := l.Pin(0x100_0000+i*0x1000, 1, r)
			require.Equal(t, i%2 == 0, err != nil, "%d: %v", i, err)
		}
	})
}

func TestClose(t *testing.T) {
	e := newEnv(t, iommu.Contiguous, nil)
	a, b := e.o.Begin(1), e.o.Begin(2)
	hpa := e.pin(a, 0x1_0000, 2*page, rw).HPA()
	e.pin(b, 0x1_1000, 2*page, rw)
	e.o.Close()
	e.o.Close()
	require.Zero(t, e.p.Charged(), "invariant 3: however a program ends, its charge is back")
	require.False(t, e.reads(hpa))
	require.False(t, e.o.Begin(3).Valid())
	a.Release()
	_, err := b.Pin(0x1_0000, page, r)
	require.ErrorIs(t, err, errs.ErrGone)

	o := e.p.NewOwner("two", e.d, nil)
	c := o.Begin(4)
	hpa = e.pin(c, 0x1_0000, page, r).HPA()
	require.NoError(t, e.p.Close())
	require.NoError(t, e.p.Close())
	require.Zero(t, e.p.Charged())
	require.False(t, e.reads(hpa))
	require.False(t, e.p.NewOwner("three", e.d, nil).Begin(1).Valid())
	require.NoError(t, e.unmap(0x1_0000, 32*page, 0), "a closed pinner is in nobody's way")

	e2 := newEnv(t, iommu.Contiguous, nil)
	e2.d.Close()
	l := e2.o.Begin(1)
	defer l.Release()
	_, err = l.Pin(0x1_0000, page, r)
	require.ErrorIs(t, err, errs.ErrGone, "the device is closed")
}

func TestNewChecksItsConfig(t *testing.T) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	defer st.Close()
	for _, tt := range []struct {
		st    *translate.Store
		space *iommu.Space
		cfg   pinning.Config
	}{
		{nil, iommu.NewSpace(nil), pinning.Config{}},
		{st, nil, pinning.Config{}},
		{st, iommu.NewSpace(nil), pinning.Config{Backend: 2}},
		{st, iommu.NewSpace(nil), pinning.Config{Deadline: -1}},
	} {
		_, err := pinning.New(tt.st, tt.space, &tt.cfg)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
	require.Equal(t, "emulated locked Backend(7)", fmt.Sprint(pinning.Emulated, " ", pinning.Locked, " ", pinning.Backend(7)))
}

// C4 #16 and C4 #2. Oracle: no panic; a pin gives an error or a range of which
// the device reaches every page with that access and none beyond; after the
// release nothing is charged.
func FuzzPin(f *testing.F) {
	f.Add(uint64(0x1_0000), uint64(1), byte(1), uint64(0x1_0000), uint64(0x1000), byte(2), true)
	f.Add(uint64(0x2_f000), uint64(0x2000), byte(1), uint64(0x3_0000), uint64(1), byte(3), false)
	f.Add(uint64(top), uint64(0x10_0000), byte(3), ^uint64(0), uint64(1), byte(3), true)
	f.Add(uint64(0), ^uint64(0), byte(1), uint64(1), ^uint64(0), byte(0xff), false)
	f.Fuzz(func(t *testing.T, iova1, n1 uint64, a1 byte, iova2, n2 uint64, a2 byte, scattered bool) {
		layout := iommu.Contiguous
		if scattered {
			layout = iommu.Scattered
		}
		e := newEnv(t, layout, &pinning.Config{Limit: 0x120 * page})
		l := e.o.Begin(1)
		reqs := []pinning.Request{
			{addr.IOVA(iova1), addr.Len(n1), addr.Access(a1)},
			{addr.IOVA(iova2), addr.Len(n2), addr.Access(a2)},
		}
		forecast := e.p.Forecast(reqs)
		all := true
		for _, q := range reqs {
			pin, err := l.Pin(q.IOVA, q.Len, q.Access)
			if all = all && err == nil; err != nil {
				continue
			}
			for run := range pin.Runs() {
				b := make([]byte, run.Len)
				if q.Access.Allows(r) {
					require.NoError(t, e.d.Read(run.HPA, b))
				}
				if q.Access.Allows(w) {
					require.NoError(t, e.d.Write(run.HPA, b))
				}
			}
			require.Equal(t, pin.At(0), pin.HPA())
			_ = pin.At(q.Len - 1)
		}
		if all {
			require.Equal(t, forecast, e.p.Charged())
		}
		require.Zero(t, e.d.FaultCount())
		l.Release()
		pintest.Check(t, e.p)
	})
}
