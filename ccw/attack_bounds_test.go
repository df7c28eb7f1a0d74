package ccw_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

func compare(t *testing.T, f cio.ORBFlags, at uint32, m image) {
	t.Helper()
	o := orbOf(f)
	o.SetProgram(at)
	ccwtest.Differential(t, ccwtest.Program{ORB: o, Storage: m.Storage}, build)
}

// C4 #2 overflow, near 2^24, 2^31 and 2^64: CCWs, lists and data that begin
// before the end of what can be named and go on behind it.
func TestC4_02Overflow(t *testing.T) {
	ends := map[cio.ORBFlags]uint32{f0: 1 << 24, f1: 1 << 31, f0p: 1 << 24, f1p: 1 << 31}
	for f, end := range ends {
		for back := uint32(1); back <= 4; back++ {
			m := newImage()
			at := end - back*8
			for a := at; a != end; a += 8 {
				m.ccws(uint64(a), f, c(0x12, cc, 80, dataAt))
			}
			compare(t, f, at, m) // the CCW after the last one cannot be named

			m = newImage()
			m.ccws(codeAt, f, c(0x12, cc, 80, dataAt), tic(end-8*back))
			for a := at; a != end; a += 8 {
				m.ccws(uint64(a), f, c(0x92, cc|sli, 8, dataAt)) // skips to behind the end
			}
			compare(t, f, codeAt, m)
		}
		ns := []uint32{1, 4, 8, 12, 16, 4096}
		if underRace {
			ns = ns[2:4] // one goroutine: nothing to see
		}
		for _, n := range ns {
			for _, idaw := range []cio.ORBFlags{0, h, h2k} {
				for _, cmd := range []cio.Command{0x22, 0x21, 0x2C} {
					m := newImage()
					m.ccws(codeAt, f, c(cmd, ida, 4100, end-n))
					compare(t, f|idaw, codeAt, m)
					m.ccws(codeAt, f, c(cmd, sli, 0xFFFF, end-n))
					compare(t, f, codeAt, m)
					m.ccws(codeAt, f, c(cmd, 0, 4100, n))
					compare(t, f, codeAt, m)
				}
			}
		}
	}
	for _, a := range []uint64{1<<64 - 1, 1<<64 - 4096, 1<<64 - 4095, 1<<63 - 1, 1 << 63, 1<<32 - 1, 1<<31 - 1, 1<<46 - 1, 1 << 52} {
		for _, cmd := range []cio.Command{0x22, 0x21, 0x2C} {
			m := newImage()
			m.ccws(codeAt, f1, c(cmd, ida, 4100, listAt), c(cmd, mida, 4100, listAt+0x100))
			m.idaw2(listAt, a, a+1, a&^0xFFF)
			compare(t, f1|h, codeAt, m)
			m.ccws(codeAt, f1, c(cmd, mida, 4100, listAt+0x100))
			m.midaws(listAt+0x100, cio.MIDAW{Count: 100, Addr: a}, cio.MIDAW{Flags: cio.MIDAWLast, Count: 4000, Addr: a &^ 0xFFF})
			compare(t, f1|mid, codeAt, m)
		}
	}
}

// C4 #2: the last page below 2^64 is storage like any other.
func TestC4_02LastPage(t *testing.T) {
	top := make([]byte, 4096)
	const at = 1<<64 - 4096
	g := newRig(t, func(s *setup) {
		m := s.mem
		s.mapping = func(st *translate.Store) {
			require.NoError(t, m.Map(st))
			require.NoError(t, st.Map(at, 4096, translate.Bytes(top), addr.ReadWrite))
		}
		m.ccws(codeAt, f1, c(0x02, ida|cc, 4096, listAt), c(0x0C, ida|cc, 4096, listAt+8), c(0x02, ida, 2, listAt+8))
		m.idaw2(listAt, at, 1<<64-1, 0x8000)
	})
	s := g.run(f1 | h)
	require.Equal(t, status{codeAt + 24, ok, 0, 0}, statusOf(s), "%v", g.d.Err())
	require.NotEqual(t, make([]byte, 4096), top)
}

// C4 #3, off by one at the limit [CVE-2026-80550]: 255 and 256 CCWs pass; of a
// chain that goes on after 256 the 257th is never fetched, and the request is
// refused as vfio-ccw refuses it.
func TestC4_03ChainLimit(t *testing.T) {
	for _, f := range []cio.ORBFlags{f0, f1} {
		for _, n := range []int{255, 256, 257, 1000} {
			b := make([]byte, 64<<10)
			m := image{ccwtest.NewStorage()}
			for i := range n {
				w := c(0x03, cc|sli, 1, 0)
				if i == n-1 {
					w.Flags = sli
				}
				m.ccws(codeAt+uint64(i)*8, f, w)
			}
			copy(b, m.At(0))
			flip := translatetest.NewFlip(0, b)
			g := newRig(t, func(s *setup) {
				s.mapping = func(st *translate.Store) {
					require.NoError(t, st.Map(0, 64<<10, translate.Remote(flip), addr.ReadWrite))
				}
				s.dev = &recorder{status: map[cio.Command]cio.DeviceStatus{3: cio.Ended}}
			})
			o := orbOf(f)
			code, err := g.d.Start(&o)
			if n <= 256 {
				require.NoError(t, err)
				require.Equal(t, cio.CC0, code)
				require.Equal(t, codeAt+uint32(n)*8, statusOf(g.take()).at)
				require.Equal(t, n*8, flip.Fetched())
				continue
			}
			require.ErrorIs(t, err, errs.ErrChainTooLong)
			require.Equal(t, syscall.EINVAL, errs.Errno(err))
			require.EqualError(t, err, "program at 0x1000: ccw[256] at 0x1800: more than 256 CCWs: chain too long")
			require.Equal(t, 256*8, flip.Fetched(), "the 257th was fetched")
			require.Equal(t, cio.CC1, g.d.Test(new(cio.IRB)), "no status: it never started")
			g.nothingHeld()
		}
	}
	// Translated as it executes, it is found when execution gets there.
	g := newRig(t, func(s *setup) {
		for i := range uint64(300) {
			s.mem.ccws(codeAt+i*8, f1p, c(0x43, cc|sli, 1, 0))
		}
	})
	require.Equal(t, status{codeAt + 257*8, 0, cio.ProgramCheck, 0}, statusOf(g.run(f1p)))
	require.ErrorIs(t, g.d.Err(), errs.ErrChainTooLong)
}

// C4 #4, loops and recursion [CVE-2026-80554]: chains by TIC, up to 16 and
// one more; cycles; chains that overlap; thousands of transfers.
func TestC4_04Segments(t *testing.T) {
	for _, n := range []int{1, 15, 16, 17, 100, 1000} {
		m := newImage()
		for i := range n {
			a := uint64(codeAt + i*32)
			m.ccws(a, f1, c(0x43, cc|sli, 1, 0), tic(uint32(a)+32))
		}
		m.ccws(uint64(codeAt+n*32), f1, c(0x12, 0, 80, 0xF000))
		g := newRig(t, func(s *setup) { s.mem = m })
		o := orbOf(f1)
		_, err := g.d.Start(&o)
		if n < ccw.MaxSegments { // n transfers lead to n+1 chains
			require.NoError(t, err, "%d", n)
			require.Equal(t, status{uint32(codeAt + n*32 + 8), ok, 0, 0}, statusOf(g.take()))
		} else {
			require.ErrorIs(t, err, errs.ErrBudget, "%d", n)
			g.nothingHeld()
		}
		if n < 100 { // a cycle over all of them: the loop limit of hardware, or the same refusal
			m.ccws(uint64(codeAt+n*32), f1, c(0x43, cc|sli, 1, 0), tic(codeAt))
			compare(t, f1, codeAt, m)
		}
	}
}

// C4 #4: an endless loop that moves data ends in the budget, in bounded time,
// whole or as it executes.
func TestC4_04EndlessLoopEndsInTheBudget(t *testing.T) {
	for name, lim := range map[string]job.Limits{
		"default": {}, "steps": {Steps: 5000}, "bytes": {Bytes: 100_000},
	} {
		for _, f := range []cio.ORBFlags{f1, f0, f1p, f0p} {
			for _, f2 := range []cio.Flags{cc, cd} {
				t.Run(fmt.Sprintf("%s %v %v", name, f, f2), func(t *testing.T) {
					dev := &endless{}
					g := newRig(t, func(s *setup) {
						s.dev = dev
						s.ccw.Limits = lim
						s.mem.ccws(codeAt, f, c(0x02, f2|sli, 8, dataAt), c(0x02, f2|sli, 8, dataAt+0x1000), tic(codeAt))
					})
					begun := time.Now()
					s := g.run(f)
					require.Less(t, time.Since(begun), 20*time.Second)
					require.Equal(t, cio.ProgramCheck, s.Subchannel(), "%v", s)
					if f2 == cc { // within a data chain the loop limit of hardware comes first
						require.ErrorIs(t, g.d.Err(), errs.ErrBudget)
						require.Equal(t, syscall.E2BIG, errs.Errno(g.d.Err()))
					}
					requireGuest(t, s.CCWAddr())
					g.nothingHeld()
					g.mem.ccws(codeAt, f, c(0x02, sli, 8, dataAt))
					require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.run(f)), "a later program works")
				})
			}
		}
	}
}

// endless delivers as long as it is asked, and allocates nothing.
type endless struct{ buf [4096]byte }

func (d *endless) Begin()        {}
func (d *endless) Reset()        {}
func (d *endless) Sense() []byte { return nil }
func (d *endless) Execute(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	if !cmd.Class(true).Input() {
		x.FetchUpTo(d.buf[:])
		return cio.Ended
	}
	for x.Store(d.buf[:max(1, min(x.Remaining(), len(d.buf)))]) > 0 {
	}
	return cio.Ended
}

// C4 #5, leak on partial failure [CVE-2026-80555]: every step of every
// success path fails once; nothing is held afterwards, and the next program
// works.
func TestC4_05FailTheNth(t *testing.T) {
	for name, f := range map[string]cio.ORBFlags{
		"whole": f1 | h | mid, "format 0": f0 | h2k, "as it executes": f1p | h | mid, "suspendable": f1 | h | mid | cio.ORBSuspend,
	} {
		t.Run(name, func(t *testing.T) {
			var g *rig
			var points *fault.Points
			fired := fault.Sweep(t, func(p *fault.Points) error {
				points = p
				g = newRig(t, func(s *setup) {
					s.pin.Fault = p
					s.mem.ccws(codeAt, f,
						c(0x12, cc, 80, dataAt),
						c(0x21, cc, 4100, dataAt+0x1800), // direct, over pages
						c(0x22, cc|ida, 4100, listAt),
						c(0x1C, cc|sli, 80, highAt+200),
						c(0x12, cd, 40, highAt+0x1000), c(0x12, 0, 40, highAt+0x3000))
					s.mem.idaw2(listAt, farAt, farAt+0x1000, farAt+0x2000)
				})
				o := orbOf(f)
				_, err := g.d.Start(&o)
				if err != nil {
					return err
				}
				g.take()
				return g.d.Err()
			}, func() {
				g.nothingHeld()
				require.Empty(t, g.pinner.Leases())
				if points.Fired() != "" {
					s := g.run(f)
					require.Equal(t, ok, s.Device(), "a later program works: %v", g.d.Err())
					g.nothingHeld()
				}
				require.NoError(t, g.d.Close())
			})
			require.Greater(t, len(fired), 8, "%v", fired)
		})
	}
}

// C4 #13, truncated addresses: what lies above 4 GiB and what lies at the same
// place below are not the same.
func TestC4_13AddressesAbove4GiB(t *testing.T) {
	for _, f := range []cio.ORBFlags{f0, f1, f1p} {
		b := make([]byte, 4096)
		g := newRig(t, func(s *setup) {
			m := s.mem
			s.mapping = func(st *translate.Store) {
				require.NoError(t, m.Map(st))
				require.NoError(t, st.Map(1<<32+dataAt, 4096, translate.Bytes(b), addr.ReadWrite))
			}
			m.ccws(codeAt, f, c(0x02, ida, 4096, listAt))
			m.idaw2(listAt, 1<<32+dataAt)
		})
		require.Equal(t, status{codeAt + 8, ok, 0, 0}, statusOf(g.run(f|h)))
		require.NotEqual(t, make([]byte, 4096), b)
		for _, v := range g.mem.At(dataAt)[:4096] {
			require.EqualValues(t, 0xA5, v)
		}
	}
}

// C4 #14 accounting: limits of 0, 1, n-1 and n pages; a page named often is
// charged once.
func TestC4_14Memlock(t *testing.T) {
	for _, f := range []cio.ORBFlags{f1, f1p} {
		for pages := range addr.Len(5) {
			g := newRig(t, func(s *setup) {
				s.pin.Limit = max(1, pages*addr.PageSize)
				s.mem.ccws(codeAt, f, // three pages
					c(0x12, cc, 80, dataAt), c(0x12, cc, 80, dataAt+100), c(0x11, cc, 80, dataAt),
					c(0x01, cc, 4100, highAt+0x800), c(0x01, 0, 100, highAt+0x800))
			})
			o := orbOf(f)
			_, err := g.d.Start(&o)
			if err == nil {
				g.take()
				err = g.d.Err()
			}
			if pages >= 3 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errs.ErrMemlock)
				require.Equal(t, syscall.ENOMEM, errs.Errno(err))
				var pe *errs.ProgramError
				require.True(t, errors.As(err, &pe), "%v", err)
			}
			g.nothingHeld()
		}
	}
}

// C4 #15: a bit of the ORB that must be zero is refused, not dropped.
func TestC4_15UnknownORBBits(t *testing.T) {
	g := newRig(t, func(s *setup) { s.mem.ccws(codeAt, f1, c(0x12, 0, 80, dataAt)) })
	for bit := range 32 * 8 {
		if bit > 64 && bit < 96 {
			continue // where the program is
		}
		o := orbOf(f1)
		o.Raw[bit/8] ^= 0x80 >> (bit % 8)
		code, err := g.d.Start(&o)
		switch {
		case o.Transport():
			require.ErrorIs(t, err, errs.ErrNotSupported)
		case o.Reserved():
			require.Equal(t, syscall.EINVAL, errs.Errno(err), "bit %d", bit)
		default:
			require.NoError(t, err, "bit %d", bit)
			if code == 0 {
				g.take()
			}
		}
		g.nothingHeld()
	}
}

// C4 #16: no panic, whatever is in the ORB, the CCWs, the lists; and nothing
// is held afterwards.
func TestC4_16HostileBytes(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	r := rand.New(rand.NewPCG(16, 16))
	g := newRig(t, func(s *setup) { s.ccw.Limits = job.Limits{Steps: 300, Pins: 300, Elements: 3000, Bytes: 1 << 20} })
	low := g.mem.At(0)
	for range rounds {
		for i := 0; i < 0x8000; i += 1 + r.IntN(7) {
			low[i] = byte(r.Uint32())
		}
		for i := codeAt; i < codeAt+400; i += 8 { // commands and flags that get far
			low[i] = byte([]int{1, 2, 3, 8, 0x0C, 4, 0x12, 0x42, 0x93}[r.IntN(9)])
			low[i+1] = byte([]int{0x40, 0x80, 0xC0, 0x44, 0x41, 0x50, 0x48, 0x42}[r.IntN(8)]) | 0x20
			low[i+4], low[i+5] = 0, byte(r.IntN(2))
		}
		var o cio.ORB
		for i := range o.Raw {
			o.Raw[i] = byte(r.Uint32())
		}
		if r.IntN(4) > 0 {
			o = orbOf(cio.ORBFlags(r.Uint32()) & (f1 | h2k | mid | cio.ORBSuspend | cio.ORBSuppressIL | cio.ORBAddressLimit))
		}
		if code, err := g.d.Start(&o); err == nil && code == 0 {
			for range 5 {
				_, _ = g.d.Resume()
			}
		}
		g.d.Clear()
		var irb cio.IRB
		for g.d.Test(&irb) == 0 {
		}
		g.d.Last()
	}
	g.nothingHeld()
}

// The steady state of a program of 16 CCWs allocates nothing.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	for name, f := range map[string]cio.ORBFlags{"whole": f1 | h, "format 0": f0 | h, "as it executes": f1p | h} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, func(s *setup) {
				s.dev = &endless{}
				for i := range uint64(16) {
					w := c(0x02, cc|ida|sli, 4096, uint32(listAt+i*8))
					if i == 15 {
						w.Flags &^= cc
					}
					s.mem.ccws(codeAt+i*8, f, w)
					s.mem.idaw2(listAt+i*8, dataAt+(i%4)*0x1000)
				}
			})
			o := orbOf(f)
			var irb cio.IRB
			step := func() {
				if code, err := g.d.Start(&o); err != nil || code != 0 {
					t.Fatal(code, err)
				}
				g.d.Test(&irb)
			}
			for range 600 {
				step()
			}
			require.Equal(t, status{codeAt + 16*8, ok, 0, 0}, statusOf(irb.SCSW))
			require.Zero(t, testing.AllocsPerRun(200, step))
		})
	}
}
