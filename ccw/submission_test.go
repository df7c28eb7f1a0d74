package ccw_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwtest"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/iommu"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/job"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// kept is a copy of a Submission that outlives the call.
func kept(s *ccw.Submission) ccw.Submission {
	k := *s
	k.Trace = slices.Clone(s.Trace)
	k.Fetched, k.Stored = cloned(s.Fetched), cloned(s.Stored)
	k.Took = 0
	return k
}

func cloned(segs []ccw.Segment) []ccw.Segment {
	var out []ccw.Segment
	for _, s := range segs {
		out = append(out, ccw.Segment{At: s.At, Data: bytes.Clone(s.Data)})
	}
	return out
}

// submissions collects what a rig's device submits.
type submissions struct {
	mu   sync.Mutex
	list []ccw.Submission
}

func (c *submissions) observe(s *setup) {
	s.ccw.Observe = func(x *ccw.Submission) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.list = append(c.list, kept(x))
	}
}

func (c *submissions) one(t testing.TB) ccw.Submission {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Len(t, c.list, 1)
	return c.list[0]
}

// extent is where a segment lies.
type extent struct {
	at addr.IOVA
	n  int
}

func extents(segs []ccw.Segment) (out []extent) {
	for _, s := range segs {
		out = append(out, extent{s.At, len(s.Data)})
	}
	return out
}

// What is kept of a program: the bytes that were fetched for it and no others,
// those it stored and no others, and the CCWs in the order of execution.
func TestSubmission(t *testing.T) {
	for _, tt := range []struct {
		name    string
		orb     cio.ORBFlags
		make    func(m image)
		fetched []extent
		stored  []extent
		trace   []uint32
	}{
		{"direct input stores what it moved", f1, func(m image) { m.ccws(codeAt, f1, c(0x12, sli, 100, dataAt)) },
			[]extent{{codeAt, 8}}, []extent{{dataAt, 80}}, []uint32{codeAt}},
		{"input across a page is two segments", f1, func(m image) { m.ccws(codeAt, f1, c(0x12, 0, 80, dataAt+0xff0)) },
			[]extent{{codeAt, 8}}, []extent{{dataAt + 0xff0, 16}, {dataAt + 0x1000, 64}}, []uint32{codeAt}},
		{"direct output", f1, func(m image) { m.ccws(codeAt, f1, c(0x01, 0, 40, dataAt)) },
			[]extent{{codeAt, 8}, {dataAt, 40}}, nil, []uint32{codeAt}},
		{"no more words of a list than the count needs", f1 | h, func(m image) {
			m.ccws(codeAt, f1, c(0x01, ida, 0x1010, listAt))
			m.idaw2(listAt, dataAt+0xff8, dataAt+0x2000, dataAt+0x4000)
		}, []extent{{codeAt, 8}, {listAt, 24}, {dataAt + 0xff8, 8}, {dataAt + 0x2000, 0x1000}, {dataAt + 0x4000, 8}}, nil, []uint32{codeAt}},
		{"format-1 words of 2 KiB", f0, func(m image) {
			m.ccws(codeAt, f0, c(0x02, ida, 0x808, listAt))
			m.idaw1(listAt, dataAt+0x7f8, dataAt+0x2000, 0)
		}, []extent{{codeAt, 8}, {listAt, 8}}, []extent{{dataAt + 0x7f8, 8}, {dataAt + 0x2000, 0x800}}, []uint32{codeAt}},
		{"MIDAWs, of which one skips", f1 | mid, func(m image) {
			m.ccws(codeAt, f1, c(0x02, mida, 24, listAt))
			m.midaws(listAt, cio.MIDAW{Count: 8, Addr: dataAt}, cio.MIDAW{Flags: cio.MIDAWSkip, Count: 8},
				cio.MIDAW{Flags: cio.MIDAWLast, Count: 8, Addr: farAt + 0x10})
		}, []extent{{codeAt, 8}, {listAt, 48}}, []extent{{dataAt, 8}, {farAt + 0x10, 8}}, []uint32{codeAt}},
		{"read backward", f1, func(m image) { m.ccws(codeAt, f1, c(0x0c, 0, 32, dataAt+0x1008)) },
			[]extent{{codeAt, 8}}, []extent{{dataAt + 0xfe9, 23}, {dataAt + 0x1000, 9}}, []uint32{codeAt}},
		{"skipped input stores nothing", f1, func(m image) { m.ccws(codeAt, f1, c(0x02, skip, 32, dataAt)) },
			[]extent{{codeAt, 8}}, nil, []uint32{codeAt}},
		{"data chaining through a transfer", f1, func(m image) {
			m.ccws(codeAt, f1, c(0x12, cd, 16, dataAt), tic(codeAt+0x20))
			m.ccws(codeAt+0x20, f1, c(0, 0, 64, dataAt+0x100))
		}, []extent{{codeAt, 16}, {codeAt + 0x20, 8}}, []extent{{dataAt, 16}, {dataAt + 0x100, 64}}, []uint32{codeAt, codeAt + 8, codeAt + 0x20}},
		{"what execution skips was fetched all the same", f1, func(m image) {
			m.ccws(codeAt, f1, c(0x82, cc|sli, 8, dataAt), c(0x01, cc, 8, dataAt+0x100), c(0x12, sli, 16, dataAt+0x200))
		}, []extent{{codeAt, 24}}, []extent{{dataAt, 8}, {dataAt + 0x200, 16}}, []uint32{codeAt, codeAt + 16}},
		{"without prefetch it was not", f1p, func(m image) {
			m.ccws(codeAt, f1, c(0x82, cc|sli, 8, dataAt), c(0x01, cc, 8, dataAt+0x100), c(0x12, sli, 16, dataAt+0x200))
		}, []extent{{codeAt, 8}, {codeAt + 16, 8}}, []extent{{dataAt, 8}, {dataAt + 0x200, 16}}, []uint32{codeAt, codeAt + 16}},
		{"past the end of a chain", f1, func(m image) {
			m.ccws(codeAt, f1, c(0x82, cc|sli, 8, dataAt), c(0x43, 0, 1, 0), c(0x12, sli, 16, dataAt+0x200))
		}, []extent{{codeAt, 24}}, []extent{{dataAt, 8}, {dataAt + 0x200, 16}}, []uint32{codeAt, codeAt + 16}},
		{"past the end of a chain, to a transfer", f1, func(m image) {
			m.ccws(codeAt, f1, c(0x82, cc|sli, 8, dataAt), c(0x43, 0, 1, 0), tic(codeAt+0x40))
			m.ccws(codeAt+0x40, f1, c(0x12, sli, 16, dataAt+0x200))
		}, []extent{{codeAt, 24}, {codeAt + 0x40, 8}}, []extent{{dataAt, 8}, {dataAt + 0x200, 16}}, []uint32{codeAt, codeAt + 16, codeAt + 0x40}},
		{"a program that stores what it then executes", f1p, func(m image) {
			w := c(0x43, 0, 1, 0).Encode1()
			m.ccws(codeAt, f1, c(0x02, cc|sli, 8, codeAt+8), cio.CCW{})
			m.put(codeAt+8, w[:]...)
		}, []extent{{codeAt, 8}}, []extent{{codeAt + 8, 8}}, nil},
		{"a loop fetches anew and keeps the first", f1p, func(m image) {
			m.ccws(codeAt, f1, c(0x31, cc|sli, 5, dataAt), tic(codeAt), c(0x43, 0, 1, 0))
			m.put(dataAt, 1, 0, 0, 0, 0)
		}, []extent{{codeAt, 8}, {codeAt + 16, 8}, {dataAt, 5}}, nil, []uint32{codeAt, codeAt + 16}},
		{"a command that does not exist", f1, func(m image) { m.ccws(codeAt, f1, c(0x00, cc, 8, dataAt)); m.put(codeAt+8, make([]byte, 8)...) },
			[]extent{{codeAt, 16}}, nil, []uint32{codeAt}},
		{"a program address where nothing is", f1, func(m image) {}, nil, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sub submissions
			g := newRig(t, sub.observe, func(s *setup) { tt.make(s.mem) })
			o := orbOf(tt.orb)
			if tt.fetched == nil {
				o.SetProgram(roEnd)
			}
			scsw := g.start(&o)
			s := sub.one(t)
			require.NoError(t, s.Err)
			require.False(t, s.Changed)
			require.Equal(t, o, s.ORB)
			require.Equal(t, scsw, s.SCSW)
			require.Equal(t, scsw, s.IRB.SCSW)
			require.Equal(t, ccw.Ended, s.End)
			require.Equal(t, tt.fetched, extents(s.Fetched))
			require.Equal(t, tt.stored, extents(s.Stored))
			if tt.trace != nil {
				var at []uint32
				for _, x := range s.Trace {
					at = append(at, x.At)
				}
				require.Equal(t, tt.trace, at)
				last := s.Trace[len(s.Trace)-1]
				require.True(t, last.Ended)
				require.Equal(t, scsw.Subchannel(), last.Subchannel)
				if scsw.Subchannel()&cio.ProgramCheck == 0 {
					require.Equal(t, scsw.Count(), last.Count)
					require.Equal(t, scsw.Device(), last.Device)
				}
			}
			g.nothingHeld()
		})
	}
}

// A refused program, one for which there is no path and one that the device
// was too busy to take are none.
func TestNoSubmission(t *testing.T) {
	var sub submissions
	g := newRig(t, sub.observe, readProgram, func(s *setup) { s.ccw.MaxChain = 2 })
	o := orbOf(f1)
	o.SetLPM(0x40)
	code, err := g.d.Start(&o)
	require.NoError(t, err)
	require.Equal(t, cio.CC3, code)
	g.mem.ccws(0x2000, f1, c(0x43, cc, 1, 0), c(0x43, cc, 1, 0), c(0x43, 0, 1, 0))
	o = orbOf(f1)
	o.SetProgram(0x2000)
	_, err = g.d.Start(&o)
	require.ErrorIs(t, err, errs.ErrChainTooLong)
	require.Empty(t, sub.list)
	g.run(f1)
	require.Equal(t, []extent{{codeAt, 8}}, extents(sub.one(t).Fetched), "nothing of those before")
}

// Suspension is an end, and what is resumed another program; also where the
// guest asked not to be told.
func TestSubmissionOfSuspended(t *testing.T) {
	for name, u := range map[string]bool{"told": false, "not told": true} {
		t.Run(name, func(t *testing.T) {
			var sub submissions
			g := newRig(t, sub.observe, func(s *setup) {
				s.mem.ccws(codeAt, f1, c(0x43, cc|sli, 1, 0), c(0x02, susp, 16, dataAt))
			})
			o := orbOf(f1 | cio.ORBSuspend)
			o.SetSuppressSuspend(u)
			code, err := g.d.Start(&o)
			require.NoError(t, err)
			require.Equal(t, cio.CC0, code)
			if !u {
				g.take()
			} else {
				require.Empty(t, sub.list, "it can be told from the outside only")
			}
			g.mem.ccws(codeAt+8, f1, c(0x02, 0, 16, dataAt))
			code, err = g.d.Resume()
			require.NoError(t, err)
			require.Equal(t, cio.CC0, code)
			g.take()
			require.Len(t, sub.list, 2)
			a, b := sub.list[0], sub.list[1]
			require.Equal(t, ccw.Suspended, a.End)
			require.Equal(t, u, a.IRB == nil)
			require.NotZero(t, a.SCSW.AC()&cio.Suspended)
			require.Equal(t, []uint32{codeAt, codeAt + 8}, []uint32{a.Trace[0].At, a.Trace[1].At})
			require.False(t, a.Trace[1].Ended, "the CCW with the flag was not executed")
			require.True(t, b.Resumed)
			require.EqualValues(t, codeAt+8, b.ORB.Program())
			require.Equal(t, ccw.Ended, b.End)
			require.Equal(t, []extent{{codeAt + 8, 8}}, extents(b.Fetched))
			require.Equal(t, []extent{{dataAt, 16}}, extents(b.Stored))
		})
	}
}

// A halt or a clear ends a program wherever it is; the submission has what it
// did until then.
func TestSubmissionOfStopped(t *testing.T) {
	for _, tt := range []struct {
		name string
		stop func(d *ccw.Device) cio.CC
		want ccw.End
	}{{"halt", (*ccw.Device).Halt, ccw.Halted}, {"clear", (*ccw.Device).Clear, ccw.Cleared}} {
		t.Run(tt.name+" before it begins", func(t *testing.T) {
			var sub submissions
			var q queue
			g := newRig(t, sub.observe, readProgram, func(s *setup) { s.ccw.Dispatch = q.add })
			o := orbOf(f1)
			_, err := g.d.Start(&o)
			require.NoError(t, err)
			require.Equal(t, cio.CC0, tt.stop(g.d))
			q.run()
			g.take()
			s := sub.one(t)
			require.Equal(t, tt.want, s.End)
			require.Empty(t, s.Trace)
			require.Empty(t, s.Stored)
		})
		t.Run(tt.name+" in the middle of data", func(t *testing.T) {
			var sub submissions
			dev := newGate()
			var wg sync.WaitGroup
			g := newRig(t, sub.observe, func(s *setup) {
				s.dev = dev
				s.ccw.Dispatch = func(run func()) { wg.Go(run) }
				s.mem.ccws(codeAt, f1, c(0x02, cc, 4096, dataAt), c(0x02, 0, 4096, dataAt+0x1000))
			})
			o := orbOf(f1)
			_, err := g.d.Start(&o)
			require.NoError(t, err)
			<-dev.entered
			dev.leave <- struct{}{}
			<-dev.entered
			require.Equal(t, cio.CC0, tt.stop(g.d))
			dev.leave <- struct{}{}
			wg.Wait()
			g.take()
			s := sub.one(t)
			require.Equal(t, tt.want, s.End)
			require.Len(t, s.Trace, 2)
			require.True(t, s.Trace[0].Ended)
			require.False(t, s.Trace[1].Ended)
			require.Equal(t, []extent{{dataAt, 4096}}, extents(s.Stored))
		})
	}
}

// Of a program that is too large the submission says so, and the next is whole
// again.
func TestSubmissionTooLarge(t *testing.T) {
	var sub submissions
	g := newRig(t, sub.observe, func(s *setup) {
		s.ccw.ObserveBytes = 2 * addr.PageSize
		s.mem.ccws(codeAt, f1, c(0x22, 0, 4100, dataAt))
		s.mem.ccws(0x2000, f1, c(0x02, 0, 4096, dataAt))
	})
	g.run(f1)
	require.ErrorIs(t, sub.list[0].Err, errs.ErrBudget)
	require.EqualError(t, sub.list[0].Err, "more than 2 pages of memory: budget exhausted")
	o := orbOf(f1)
	o.SetProgram(0x2000)
	g.start(&o)
	require.NoError(t, sub.list[1].Err)
	require.Equal(t, []extent{{dataAt, 4096}}, extents(sub.list[1].Stored))

	sub = submissions{}
	g = newRig(t, sub.observe, func(s *setup) {
		s.ccw.Limits = job.Limits{Steps: 200_000}
		s.mem.ccws(codeAt, f1, c(0x02, cc|sli, 1, dataAt), tic(codeAt))
	})
	g.run(f1)
	require.ErrorContains(t, sub.one(t).Err, "more than 131072 CCWs")
}

// What the guest changes between two looks is kept as it was at the first, and
// a program that looks twice is told apart.
func TestSubmissionOfMemoryThatChanges(t *testing.T) {
	for _, tt := range []struct {
		name    string
		orb     cio.ORBFlags
		changed bool
	}{{"fetched once", f1, false}, {"fetched in each round", f1p, true}} {
		t.Run(tt.name, func(t *testing.T) {
			var sub submissions
			b := make([]byte, 64<<10)
			w := c(0x31, cc|sli, 5, dataAt).Encode1()
			copy(b[codeAt:], w[:])
			if w = c(0x43, 0, 1, 0).Encode1(); tt.changed {
				w = tic(codeAt).Encode1()
			}
			copy(b[codeAt+8:], w[:])
			before := bytes.Clone(b)
			flip := translatetest.NewFlip(0, b)
			g := newRig(t, sub.observe, func(s *setup) {
				s.ccw.Limits = job.Limits{Steps: 100}
				s.mapping = func(st *translate.Store) {
					require.NoError(t, st.Map(0, addr.Len(len(b)), translate.Remote(flip), addr.ReadWrite))
				}
			})
			g.run(tt.orb)
			s := sub.one(t)
			for _, x := range s.Fetched {
				require.Equal(t, before[x.At:int(x.At)+len(x.Data)], x.Data, "%#x", uint64(x.At))
			}
			require.Equal(t, tt.changed, s.Changed)
		})
	}
}

// Nobody who does not observe pays for it; who does pays no memory for a
// program like the one before but for the submission itself.
func TestObserveAllocations(t *testing.T) {
	run := func(change ...func(s *setup)) float64 {
		g := newRig(t, append(change, readProgram)...)
		o := orbOf(f1)
		var irb cio.IRB
		return testing.AllocsPerRun(200, func() {
			if _, err := g.d.Start(&o); err != nil || g.d.Test(&irb) != 0 {
				t.Fatal(err)
			}
		})
	}
	none := run()
	some := run(func(s *setup) { s.ccw.Observe = func(*ccw.Submission) {} })
	require.LessOrEqual(t, some-none, 6.0)
}

// submit runs p on a device of its own and returns what it submitted.
func submit(t testing.TB, p ccwtest.Program, layout iommu.Config) (list []ccw.Submission, dev *ccwtest.Device) {
	st, err := translate.New(nil)
	require.NoError(t, err)
	require.NoError(t, p.Storage.Map(st))
	space := iommu.NewSpace(&layout)
	pinner, err := pinning.New(st, space, &pinning.Config{Limit: pinning.Unlimited})
	require.NoError(t, err)
	dev = new(ccwtest.Device)
	d, err := ccw.New(dev, ccw.Config{
		Name: "fuzz", Store: st, Pinner: pinner, Space: space, Limits: job.Limits{Steps: ccwtest.Steps},
		Observe: func(s *ccw.Submission) { list = append(list, kept(s)) },
	})
	require.NoError(t, err)
	orb := p.ORB
	var irb cio.IRB
	code, err := d.Start(&orb)
	for d.Test(&irb) == 0 {
	}
	if err != nil || code != 0 {
		require.Empty(t, list, "a program that was not started")
	} else if irb.SCSW.AC()&cio.Suspended != 0 {
		d.Clear() // tells of one that was suspended in silence
		d.Test(&irb)
	}
	require.NoError(t, d.Close())
	require.NoError(t, pinner.Close())
	require.NoError(t, st.Close())
	return list, dev
}

// Oracle: a submission says all that a program depended on and all that it did.
// What it says was fetched is what stood there before; memory afterwards is
// memory before with what it says was stored; and on memory that holds nothing
// but what was fetched the same program does the same, and says so.
func FuzzSubmission(f *testing.F) {
	for _, s := range ccwtest.Seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		p := ccwtest.Decode(input)
		before := p.Storage.Clone()
		list, dev := submit(t, p, ccwtest.Layouts[0])
		if len(list) == 0 {
			return
		}
		require.Len(t, list, 1)
		s := list[0]
		require.NoError(t, s.Err)
		require.False(t, s.Changed)
		alone := ccwtest.NewStorage()
		for _, x := range s.Fetched {
			require.True(t, bytes.Equal(before.At(x.At)[:len(x.Data)], x.Data), "fetched at %#x", uint64(x.At))
			copy(alone.At(x.At), x.Data)
		}
		after := before.Clone()
		for _, x := range s.Stored {
			copy(after.At(x.At), x.Data)
		}
		for i := range ccwtest.Areas {
			require.True(t, bytes.Equal(after.Bytes(i), p.Storage.Bytes(i)), "area %v", ccwtest.Areas[i])
		}
		again, other := submit(t, ccwtest.Program{ORB: p.ORB, Storage: alone}, ccwtest.Layouts[1])
		require.Equal(t, list, again)
		require.Equal(t, dev.Log(), other.Log())
	})
}
