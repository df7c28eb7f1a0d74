package iommu

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

const page = addr.PageSize

// layouts runs a test under both layouts, so that nothing leans on
// contiguity.
func layouts(t *testing.T, f func(t *testing.T, s *Space)) {
	for _, l := range []Layout{Contiguous, Scattered} {
		t.Run(l.String(), func(t *testing.T) { f(t, NewSpace(&Config{Layout: l, Seed: 42})) })
	}
}

// guest is n pages that begin in the middle of a block, each filled with its
// number, and a window on them.
func guest(t testing.TB, s *Space, first, n uint64) (*Window, []byte) {
	mem := pageAligned(int(n) << addr.PageShift)
	for i := range mem {
		mem[i] = byte(i >> addr.PageShift)
	}
	w, err := s.NewWindow(first, n, Backing{HVA: hvaOf(mem) - addr.HVA(first<<addr.PageShift), Stable: true})
	require.NoError(t, err)
	return w, mem
}

func reach(t testing.TB, d *Domain, w *Window, block uint64) *Reach {
	r, err := d.NewReach(w, block)
	require.NoError(t, err)
	return r
}

func TestReachIsWhatWasGranted(t *testing.T) {
	layouts(t, func(t *testing.T, s *Space) {
		w, mem := guest(t, s, 5, 64)
		d, other := s.NewDomain("a"), s.NewDomain("b")
		r := reach(t, d, w, 1) // pages 32..63 of the window: 27..58 of mem
		b := make([]byte, 8)

		require.ErrorIs(t, d.Read(r.HPA(3), b), errs.ErrReach, "nothing is granted yet")
		own, all := r.Grant(1<<3, addr.Read)
		require.Equal(t, [2]uint32{8, 8}, [2]uint32{own, all})
		require.NoError(t, d.Read(r.HPA(3)+0xff8, b))
		require.Equal(t, bytes.Repeat([]byte{30}, 8), b)

		require.ErrorIs(t, d.Write(r.HPA(3), b), errs.ErrPermission, "granted for reading only")
		require.ErrorIs(t, d.Read(r.HPA(4), b), errs.ErrReach, "the next page")
		require.ErrorIs(t, d.Read(r.HPA(3)+0xff9, b), errs.ErrReach, "one byte beyond the page")
		require.ErrorIs(t, other.Read(r.HPA(3), b), errs.ErrReach, "another device")

		r.Grant(1<<3, addr.ReadWrite)
		require.NoError(t, d.Write(r.HPA(3), []byte("hardware")))
		require.Equal(t, "hardware", string(mem[30<<12:30<<12+8]))
		own, all = r.Revoke(1<<3, addr.ReadWrite)
		require.Equal(t, [2]uint32{}, [2]uint32{own, all}, "still held for reading")
		require.ErrorIs(t, d.Write(r.HPA(3), b), errs.ErrPermission)
		require.NoError(t, d.Read(r.HPA(3), b))
		own, all = r.Revoke(1<<3, addr.Read)
		require.Equal(t, [2]uint32{8, 8}, [2]uint32{own, all})
		require.ErrorIs(t, d.Read(r.HPA(3), b), errs.ErrReach)
		r.Remove()
		w.Close()
	})
}

func TestTwoHoldersOfOneDomain(t *testing.T) {
	s := NewSpace(nil)
	w, _ := guest(t, s, 0, 32)
	d := s.NewDomain("a")
	x, y := reach(t, d, w, 0), reach(t, d, w, 0)
	own, all := x.Grant(0b11, addr.Read)
	require.Equal(t, [2]uint32{3, 3}, [2]uint32{own, all})
	own, all = y.Grant(0b110, addr.Write)
	require.Equal(t, [2]uint32{6, 4}, [2]uint32{own, all})
	require.Equal(t, uint32(7), w.Held(0))
	b := make([]byte, 1)
	require.NoError(t, d.Write(x.HPA(1), b), "what either allows")
	require.NoError(t, d.Read(x.HPA(1), b))
	require.ErrorIs(t, d.Write(x.HPA(0), b), errs.ErrPermission)
	own, all = y.Revoke(0b110, addr.Write)
	require.Equal(t, [2]uint32{6, 4}, [2]uint32{own, all})
	require.ErrorIs(t, d.Write(x.HPA(1), b), errs.ErrPermission)
	require.NoError(t, d.Read(x.HPA(1), b))
}

func TestAccessAcrossPagesIsAllOrNothing(t *testing.T) {
	s := NewSpace(nil)
	w, mem := guest(t, s, 0, 64)
	d := s.NewDomain("a")
	r0, r1 := reach(t, d, w, 0), reach(t, d, w, 1)
	r0.Grant(1<<31, addr.ReadWrite)
	r1.Grant(1, addr.ReadWrite)
	at := r0.HPA(31) + 0xff0
	b := make([]byte, 32)
	require.NoError(t, d.Read(at, b), "two blocks, contiguous")
	require.Equal(t, append(bytes.Repeat([]byte{31}, 16), bytes.Repeat([]byte{32}, 16)...), b)

	r1.Revoke(1, addr.Write) // one count of reading and one of writing were granted
	err := d.Write(at, make([]byte, 32))
	require.EqualError(t, err, "hpa "+r1.HPA(0).String()+": access not permitted")
	require.Equal(t, byte(31), mem[32<<12-1], "nothing was written")

	// Errors at the ends of the address space.
	require.ErrorIs(t, d.Read(^addr.HPA(0), b), errs.ErrReach)
	require.ErrorIs(t, d.Read(0, b), errs.ErrReach)
	require.NoError(t, d.Read(0, nil), "no bytes, no access")
}

func TestFaultLog(t *testing.T) {
	s := NewSpace(&Config{Faults: 2})
	d := s.NewDomain("dasd0")
	for i := range addr.HPA(3) {
		require.Error(t, d.Read(0x1000*i, make([]byte, 8)))
	}
	require.Equal(t, uint64(3), d.FaultCount())
	f := d.Faults()
	require.Len(t, f, 2)
	require.Equal(t, []uint64{2, 3}, []uint64{f[0].Seq, f[1].Seq})
	require.Equal(t, "dasd0: fault 3: r- of 8 bytes at 0x2000: hpa 0x2000: outside the device's reach", f[1].String())
}

func TestFrames(t *testing.T) {
	layouts(t, func(t *testing.T, s *Space) {
		d := s.NewDomain("a")
		for _, tt := range []struct {
			name  string
			n     addr.Len
			below addr.HPA
			err   error
		}{
			{"one byte is a page", 1, 0, nil},
			{"a chunk below 2 GiB", 64 << 10, 1 << 31, nil},
			{"three blocks below 16 MiB", 3 * BlockSize, 1 << 24, nil},
			{"nothing", 0, 0, errs.ErrInvalid},
			{"2^64-1 bytes", ^addr.Len(0), 0, errs.ErrInvalid},
			{"no room", 64 << 10, 64 << 10, errs.ErrNoSpace},
			{"a bound inside the page", 1, ownBase + 0xfff, errs.ErrNoSpace},
		} {
			f, err := s.Alloc(tt.n, tt.below)
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err, tt.name)
				continue
			}
			require.NoError(t, err, tt.name)
			n := addr.Len(len(f.Mem))
			require.GreaterOrEqual(t, n, tt.n)
			require.True(t, addr.Aligned(f.HPA, page) && addr.Aligned(addr.HPA(n), page))
			require.NotZero(t, f.HPA)
			if tt.below != 0 {
				require.LessOrEqual(t, f.HPA+addr.HPA(n), tt.below)
			}
			require.Equal(t, make([]byte, n), f.Mem)

			all := make([]byte, n)
			require.ErrorIs(t, d.Read(f.HPA, all), errs.ErrReach)
			require.NoError(t, d.GrantFrames(f, addr.Read))
			f.Mem[0], f.Mem[n-1] = 1, 2
			require.NoError(t, d.Read(f.HPA, all), "contiguous under every layout")
			require.Equal(t, f.Mem, all)
			require.ErrorIs(t, d.Write(f.HPA, all), errs.ErrPermission)
			require.NoError(t, d.GrantFrames(f, addr.ReadWrite))
			require.NoError(t, d.Write(f.HPA, all))
			require.NoError(t, d.GrantFrames(f, addr.Write), "a later grant replaces the earlier")
			require.ErrorIs(t, d.Read(f.HPA, all), errs.ErrPermission)
			require.ErrorIs(t, d.Read(f.HPA-1, all[:1]), errs.ErrReach)
			d.RevokeFrames(f)
			d.RevokeFrames(f)
			require.ErrorIs(t, d.Write(f.HPA, all), errs.ErrReach)
			require.NoError(t, d.GrantFrames(f, addr.Write))
			f.Free()
			f.Free()
			require.ErrorIs(t, d.Write(f.HPA, all), errs.ErrReach)
			require.ErrorIs(t, d.GrantFrames(f, addr.Read), errs.ErrGone)
		}
		require.Zero(t, s.used.Len(), "all addresses are back")
	})
}

func TestFramesSideBySide(t *testing.T) {
	// Small frames share a block of the address space: each is found.
	s := NewSpace(nil)
	d := s.NewDomain("a")
	var all []*Frames
	for i := range 40 {
		f, err := s.Alloc(1, 1<<31)
		require.NoError(t, err)
		require.NoError(t, d.GrantFrames(f, addr.Read))
		f.Mem[0] = byte(i)
		all = append(all, f)
	}
	b := make([]byte, 1)
	for i, f := range all {
		require.NoError(t, d.Read(f.HPA, b))
		require.Equal(t, byte(i), b[0])
	}
	both := make([]byte, 2*page)
	require.NoError(t, d.Read(all[0].HPA, both), "neighbours are contiguous")
	all[1].Free()
	require.ErrorIs(t, d.Read(all[0].HPA, both), errs.ErrReach)
	f, err := s.Alloc(1, 1<<31)
	require.NoError(t, err)
	require.Greater(t, f.HPA, all[39].HPA, "an address is used again as late as possible")
}

func TestAddressesAreUsedAgainInTheEnd(t *testing.T) {
	s := NewSpace(nil)
	end := addr.HPA(ownBase + 4*page)
	var last addr.HPA
	for range 20 {
		f, err := s.Alloc(page, end)
		require.NoError(t, err)
		require.NotEqual(t, last, f.HPA)
		last = f.HPA
		f.Free()
	}
	var held []*Frames
	for range 4 {
		f, err := s.Alloc(page, end)
		require.NoError(t, err)
		held = append(held, f)
	}
	_, err := s.Alloc(page, end)
	require.ErrorIs(t, err, errs.ErrNoSpace)
	held[2].Free()
	f, err := s.Alloc(page, end)
	require.NoError(t, err)
	require.Equal(t, held[2].HPA, f.HPA)
}

func TestWindowLimits(t *testing.T) {
	s := NewSpace(nil)
	for _, tt := range []struct{ first, pages uint64 }{{0, 0}, {0, maxWindow + 1}, {0, ^uint64(0)}, {32, 1}} {
		_, err := s.NewWindow(tt.first, tt.pages, Backing{})
		require.ErrorIs(t, err, errs.ErrInvalid, "%+v", tt)
	}
	w, err := s.NewWindow(31, 1, Backing{})
	require.NoError(t, err)
	require.Equal(t, uint64(1), w.Blocks())
	require.Equal(t, uint32(1<<31), w.pagesOf(0))
	require.GreaterOrEqual(t, w.start, addr.HPA(1<<32), "no guest page is within reach of 31 bits")
	r := reach(t, s.NewDomain("a"), w, 0)
	r.Grant(1<<31, addr.Read)
	require.Panics(t, func() { w.Close() })
	require.Panics(t, func() { r.Remove() })
}

func TestTrap(t *testing.T) {
	s := NewSpace(nil)
	d := s.NewDomain("a")
	f, err := s.Alloc(2*page, 1<<31)
	require.NoError(t, err)
	mine := errors.New("mine")
	answer := error(nil)
	remove := d.Trap(addr.MustRange(f.HPA, page), func(hpa addr.HPA, p []byte) error {
		for i := range p {
			p[i] = byte(uint64(hpa) + uint64(i))
		}
		return answer
	})
	b := make([]byte, 8)
	require.NoError(t, d.Read(f.HPA+0x10, b))
	require.Equal(t, []byte{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17}, b)
	require.Zero(t, d.FaultCount())
	answer = mine
	require.ErrorIs(t, d.Read(f.HPA, b), mine)
	require.Zero(t, d.FaultCount(), "an answer is no escape")
	require.ErrorIs(t, d.Write(f.HPA, b), errs.ErrPermission)
	require.ErrorIs(t, d.Read(f.HPA+0xffc, b), errs.ErrReach)
	require.ErrorIs(t, d.Read(f.HPA-4, b), errs.ErrReach)
	require.Equal(t, uint64(3), d.FaultCount())
	remove()
	remove()
	require.ErrorIs(t, d.Read(f.HPA, b), errs.ErrReach)
}

func TestHole(t *testing.T) {
	s := NewSpace(nil)
	d := s.NewDomain("a")
	f, err := s.Alloc(2*page, 1<<31)
	require.NoError(t, err)
	lower := d.Hole(addr.MustRange(f.HPA, page), errs.ErrNotMapped)
	defer d.Hole(addr.MustRange(f.HPA+addr.HPA(page), page), errs.ErrFault)()
	b := make([]byte, 8)
	require.EqualError(t, d.Read(f.HPA+0xffc, b), "hpa "+(f.HPA+0xffc).String()+": not mapped", "the first byte at fault decides")
	require.ErrorIs(t, d.Write(f.HPA+0x1000, b), errs.ErrFault)
	require.ErrorIs(t, d.Read(f.HPA-4, b), errs.ErrNotMapped, "an access in part in the hole")
	require.Equal(t, uint64(3), d.HoleCount())
	require.Zero(t, d.FaultCount(), "a hole was put there: no escape")
	lower()
	require.ErrorIs(t, d.Read(f.HPA, b), errs.ErrReach)
	require.Equal(t, uint64(1), d.FaultCount())
}

// far is remote memory that can be made to wait or to fail.
type far struct {
	mem   []byte
	hold  chan struct{} // if not nil, an access waits for it to close
	began chan struct{}
	err   error
}

func (f *far) ReadAt(p []byte, off int64) (int, error) {
	if f.hold != nil {
		f.began <- struct{}{}
		<-f.hold
	}
	if f.err != nil {
		return 0, f.err
	}
	return copy(p, f.mem[off:]), io.EOF
}

func (f *far) WriteAt(p []byte, off int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return copy(f.mem[off:], p), nil
}

func TestRemoteBacking(t *testing.T) {
	layouts(t, func(t *testing.T, s *Space) {
		peer := &far{mem: make([]byte, 64<<12)}
		w, err := s.NewWindow(0, 64, Backing{Remote: peer})
		require.NoError(t, err)
		d := s.NewDomain("a")
		r := reach(t, d, w, 1)
		r.Grant(1, addr.ReadWrite)
		require.NoError(t, d.Write(r.HPA(0)+4, []byte("far")))
		require.Equal(t, "far", string(peer.mem[32<<12+4:32<<12+7]))
		b := make([]byte, 3)
		require.NoError(t, d.Read(r.HPA(0)+4, b))
		require.Equal(t, "far", string(b))

		// A message under way: revoking waits for it.
		peer.hold, peer.began = make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { _ = d.Read(r.HPA(0), make([]byte, 1)) })
		<-peer.began
		r.Revoke(1, addr.ReadWrite)
		require.False(t, d.Idle())
		var quiet atomic.Bool
		done := make(chan struct{})
		go func() { d.Quiesce(); quiet.Store(true); close(done) }()
		require.False(t, quiet.Load())
		close(peer.hold)
		<-done
		wg.Wait()
		peer.hold = nil

		r.Grant(1, addr.Read)
		peer.err = errors.New("connection lost")
		require.ErrorIs(t, d.Read(r.HPA(0), b), errs.ErrFault)
	})
}

func TestClosedDomain(t *testing.T) {
	s := NewSpace(nil)
	w, _ := guest(t, s, 0, 32)
	d := s.NewDomain("a")
	f, err := s.Alloc(1, 0)
	require.NoError(t, err)
	require.NoError(t, d.GrantFrames(f, addr.Read))
	d.Hole(addr.MustRange(addr.HPA(0x100), 1), errs.ErrNotMapped)
	r := reach(t, d, w, 0)
	r.Grant(1, addr.Read)
	d.Close()
	d.Close()
	b := make([]byte, 1)
	require.ErrorIs(t, d.Read(r.HPA(0), b), errs.ErrReach)
	require.ErrorIs(t, d.Read(f.HPA, b), errs.ErrReach)
	require.ErrorIs(t, d.Read(0x100, b), errs.ErrReach)
	_, err = d.NewReach(w, 0)
	require.ErrorIs(t, err, errs.ErrGone)
	require.ErrorIs(t, d.GrantFrames(f, addr.Write), nil, "what it was granted may still be changed, to no effect")
	require.ErrorIs(t, d.Write(f.HPA, b), errs.ErrReach)
	r.Revoke(1, addr.Read)
	r.Remove()
	f.Free()
	w.Close()
}

func TestRealFrameNumbers(t *testing.T) {
	s := NewSpace(nil)
	w, mem := guest(t, s, 0, 32)
	d := s.NewDomain("a")
	r := reach(t, d, w, 0)
	own, err := s.Alloc(1, 0)
	require.NoError(t, err)
	require.False(t, w.SetReal(0, own.HPA), "a frame number that is taken is not taken twice")
	require.False(t, w.SetReal(0, w.start), "nor one inside the windows")
	require.False(t, w.SetReal(0, 0x123), "nor half of one")
	synthetic := r.HPA(3)
	require.True(t, w.SetReal(3, 0x7_0000_5000))
	require.False(t, w.SetReal(4, 0x7_0000_5000))
	require.Equal(t, addr.HPA(0x7_0000_5000), r.HPA(3))
	b := make([]byte, 2)
	require.ErrorIs(t, d.Read(r.HPA(3), b), errs.ErrReach)
	r.Grant(0b1000, addr.Read)
	require.NoError(t, d.Read(r.HPA(3)+8, b))
	require.Equal(t, mem[3<<12:3<<12+2], b)
	require.ErrorIs(t, d.Write(r.HPA(3)+8, b), errs.ErrPermission)
	r.Grant(0b1000, addr.Write)
	r.Revoke(0b1000, addr.Read)
	require.NoError(t, d.Write(r.HPA(3)+8, b), "held for writing: the number stays")
	r.Revoke(0b1000, addr.Write)
	require.ErrorIs(t, d.Write(r.HPA(3)+8, b), errs.ErrReach)

	// Two holders of one domain know the page by one number.
	two := reach(t, d, w, 0)
	r.Grant(0b1000, addr.Read)
	two.Grant(0b1000, addr.Read)
	two.Revoke(0b1000, addr.Read)
	require.NoError(t, d.Read(r.HPA(3), b))
	r.Revoke(0b1000, addr.Read)
	require.ErrorIs(t, d.Read(r.HPA(3), b), errs.ErrReach)
	w.ClearReal(3)
	w.ClearReal(3)
	require.Equal(t, synthetic, r.HPA(3))
	require.Equal(t, int64(0), d.reals.Load())
}

// An access that is inside while its page is revoked is waited for: after
// Quiesce the memory is nobody's. Plain memory, so that the race detector sees
// a violation as well.
func TestRevokeWaitsForHardware(t *testing.T) {
	layouts(t, func(t *testing.T, s *Space) {
		w, mem := guest(t, s, 0, 32)
		d := s.NewDomain("a")
		r := reach(t, d, w, 0)
		var stop atomic.Bool
		var wg sync.WaitGroup
		for k := range addr.HPA(3) { // each to a place of its own
			wg.Go(func() {
				b := make([]byte, 512)
				for !stop.Load() {
					_ = d.Write(r.HPA(7)+k*512, b)
					_ = d.Read(r.HPA(8)+0x100, b)
				}
			})
		}
		for range 300 {
			r.Grant(1<<7|1<<8, addr.Write)
			r.Revoke(1<<7|1<<8, addr.Write)
			d.Quiesce()
			for i := range 3 * 512 {
				mem[7<<12+i] = 0xee
			}
			for i := range 3 * 512 {
				require.Equal(t, byte(0xee), mem[7<<12+i])
			}
		}
		stop.Store(true)
		wg.Wait()
	})
}

// The table grows, shrinks and forgets under readers, who never miss what
// stays.
func TestTableUnderReaders(t *testing.T) {
	s := NewSpace(nil)
	d := s.NewDomain("a")
	keep, err := s.Alloc(1, 0)
	require.NoError(t, err)
	require.NoError(t, d.GrantFrames(keep, addr.Read))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 8)
		for !stop.Load() {
			if err := d.Read(keep.HPA, b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	w, _ := guest(t, s, 0, 64*32)
	for range 20 {
		var rs []*Reach
		for i := range uint64(64) {
			rs = append(rs, reach(t, d, w, i))
		}
		for _, r := range rs {
			r.Remove()
		}
	}
	stop.Store(true)
	wg.Wait()
	require.Equal(t, 1, d.live)
	require.LessOrEqual(t, len(d.table.Load().slots), 1024)
}

func TestHardwareAllocatesNothing(t *testing.T) {
	s := NewSpace(nil)
	w, _ := guest(t, s, 0, 64)
	d := s.NewDomain("a")
	r := reach(t, d, w, 0)
	b := make([]byte, 512)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		r.Grant(0xff, addr.ReadWrite)
		if d.Read(r.HPA(1), b) != nil || d.Write(r.HPA(2), b) != nil || d.Read(r.HPA(1)+0xf00, b) != nil {
			t.Error("refused")
		}
		r.Revoke(0xff, addr.ReadWrite)
		d.Quiesce()
	}))
}

func BenchmarkDomainRead(b *testing.B) {
	for _, guarded := range []bool{false, true} {
		for _, n := range []int{8, 4096} {
			name := map[bool]string{false: "stable", true: "guarded"}[guarded]
			b.Run(name+"/"+map[int]string{8: "8", 4096: "4096"}[n], func(b *testing.B) {
				s := NewSpace(nil)
				mem := pageAligned(64 << 12)
				w, err := s.NewWindow(0, 64, Backing{HVA: hvaOf(mem), Stable: !guarded})
				require.NoError(b, err)
				d := s.NewDomain("a")
				r := reach(b, d, w, 0)
				r.Grant(0xff, addr.Read)
				p := make([]byte, n)
				hpa := r.HPA(2)
				b.ReportAllocs()
				for b.Loop() {
					if d.Read(hpa, p) != nil {
						b.Fatal("refused")
					}
				}
			})
		}
	}
	b.Run("copy/4096", func(b *testing.B) {
		p, q := make([]byte, 4096), make([]byte, 4096)
		for b.Loop() {
			copy(p, q)
		}
	})
}
