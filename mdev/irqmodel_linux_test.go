package mdev_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/mdevtest"
)

// irqModel is the interrupts of a device as one would explain them: no
// concurrency, no descriptors, eventfds by number.
type irqModel struct {
	info    *mdev.Info
	enabled []uint32 // by index: how many vectors from the first
	vec     [][]modelVector
	held    bool
	counts  []uint64 // of the eventfds
	watched bool     // a mask or unmask eventfd was ever watched
}

type modelVector struct {
	to                     int // eventfd, -1: not armed
	mask, unmask           bool
	masked, pending, level bool
}

func newIRQModel(info *mdev.Info, eventfds int) *irqModel {
	m := &irqModel{info: info, enabled: make([]uint32, len(info.IRQs)), counts: make([]uint64, eventfds)}
	for _, q := range info.IRQs {
		vs := make([]modelVector, q.Count)
		for i := range vs {
			vs[i].to = -1
		}
		m.vec = append(m.vec, vs)
	}
	return m
}

func (m *irqModel) auto(i int) bool { return m.info.IRQs[i].Flags&mdev.IRQAutoMasked != 0 }

func (m *irqModel) grouped(i int) bool { return m.info.API == mdev.APIPCI && i <= mdev.IRQMSIX }

// settle delivers what is pending, if it can be.
func (m *irqModel) settle(i, j int) {
	v := &m.vec[i][j]
	wanted := v.pending || v.level && m.auto(i)
	switch {
	case !wanted || v.masked:
	case m.enabled[i] == 0:
		v.pending = false
	case v.to < 0 || m.held:
	default:
		m.counts[v.to]++
		v.pending = false
		v.masked = m.auto(i)
	}
}

func (m *irqModel) trigger(i, j int) {
	m.vec[i][j].pending = true
	m.settle(i, j)
}

func (m *irqModel) setLevel(i, j int, up bool) {
	switch {
	case !m.auto(i) && up:
		m.trigger(i, j)
	case m.auto(i):
		m.vec[i][j].level = up
		m.settle(i, j)
	}
}

func (m *irqModel) hold(on bool) {
	m.held = on
	for i := range m.vec {
		for j := range m.vec[i] {
			m.settle(i, j)
		}
	}
}

func (m *irqModel) reset() {
	for i := range m.vec {
		for j := range m.vec[i] {
			m.vec[i][j].pending, m.vec[i][j].level = false, false
		}
	}
}

func (m *irqModel) disable(i int) {
	m.enabled[i] = 0
	for j := range m.vec[i] {
		m.vec[i][j] = modelVector{to: -1, level: m.vec[i][j].level}
	}
}

// set is SET_IRQS; to are the numbers of the eventfds that the request has.
func (m *irqModel) set(r mdev.IRQRequest, to []int) error {
	data, action := r.Flags&7, r.Flags&0x38
	one := func(f mdev.IRQSetFlags) bool { return f != 0 && f&(f-1) == 0 }
	if r.Flags > 0x3f || !one(data) || !one(action) || r.Index >= uint32(len(m.vec)) {
		return errs.ErrInvalid
	}
	i := int(r.Index)
	n := uint64(len(m.vec[i]))
	first, end := uint64(r.Start), uint64(r.Start)+uint64(r.Count)
	if first >= n || end > n {
		return errs.ErrInvalid
	}
	wantBools, wantFDs := 0, 0
	switch data {
	case mdev.DataBool:
		wantBools = int(r.Count)
	case mdev.DataEventFD:
		wantFDs = int(r.Count)
	}
	if len(r.Bools) != wantBools || len(to) != 0 && len(to) != wantFDs {
		return errs.ErrInvalid
	}
	if r.Count == 0 {
		if action != mdev.ActionTrigger || data != mdev.DataNone || first != 0 {
			return errs.ErrInvalid
		}
		m.disable(i)
		return nil
	}
	if action != mdev.ActionTrigger && m.info.IRQs[i].Flags&mdev.IRQMaskable == 0 {
		return errs.ErrNoAction
	}
	if data == mdev.DataEventFD && action == mdev.ActionTrigger {
		return m.arm(i, first, end, to)
	}
	if m.enabled[i] == 0 && (action == mdev.ActionTrigger || m.grouped(i)) {
		return errs.ErrInvalid
	}
	for j := first; j < end; j++ {
		v := &m.vec[i][j]
		k := int(j - first)
		if data == mdev.DataEventFD {
			watched := len(to) != 0 && to[k] >= 0
			if action == mdev.ActionMask {
				v.mask = watched
			} else {
				v.unmask = watched
			}
			m.watched = m.watched || watched
			continue
		}
		if data == mdev.DataBool && r.Bools[k] == 0 {
			continue
		}
		switch action {
		case mdev.ActionMask:
			v.masked = true
		case mdev.ActionUnmask:
			v.masked = false
			m.settle(i, int(j))
		case mdev.ActionTrigger:
			if v.to >= 0 {
				m.counts[v.to]++
			}
		}
	}
	return nil
}

func (m *irqModel) arm(i int, first, end uint64, to []int) error {
	if m.grouped(i) {
		for o := range m.vec {
			if o != i && m.grouped(o) && m.enabled[o] != 0 {
				return errs.ErrInvalid
			}
		}
	}
	if m.info.IRQs[i].Flags&mdev.IRQNoResize != 0 && m.enabled[i] != 0 && end > uint64(m.enabled[i]) {
		return errs.ErrInvalid
	}
	m.enabled[i] = max(m.enabled[i], uint32(end))
	for j := first; j < end; j++ {
		m.vec[i][j].to = -1
		if len(to) != 0 {
			m.vec[i][j].to = to[j-first]
		}
	}
	armed := false
	for _, v := range m.vec[i] {
		armed = armed || v.to >= 0
	}
	if !armed && !m.grouped(i) {
		m.disable(i)
	}
	for j := first; j < end; j++ {
		m.settle(i, int(j))
	}
	return nil
}

func (m *irqModel) fds() (n int) {
	for _, vs := range m.vec {
		for _, v := range vs {
			for _, has := range []bool{v.to >= 0, v.mask, v.unmask} {
				if has {
					n++
				}
			}
		}
	}
	return n
}

// input hands out the bytes of a fuzz input, 0 when they are used up.
type input struct{ b []byte }

func (in *input) byte() int {
	if len(in.b) == 0 {
		return 0
	}
	x := in.b[0]
	in.b = in.b[1:]
	return int(x)
}

func (in *input) n(n int) int { return in.byte() % n }

// FuzzSetIRQs: after each request, interrupt, reset and quiesce the table is
// as a model of twelve rules says, every eventfd has been signalled as often,
// and the session owns exactly the descriptors that the model counts.
func FuzzSetIRQs(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, 0, 5, 2, 0, 0, 3, 2, 1, 2, 0, 1, 2, 1, 3, 3, 4})
	f.Add([]byte{0, 0, 2, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0})
	f.Add([]byte{1, 0, 5, 1, 0, 1, 2, 1, 1, 1, 3, 1, 1, 0, 2, 1, 0, 1, 4, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := &input{b}
		info := mdevtest.Info()
		if in.byte()%2 == 1 {
			irq := mdev.IRQInfo{Count: 3, Flags: mdev.IRQEventFD | mdev.IRQMaskable | mdev.IRQAutoMasked}
			info = &mdev.Info{API: mdev.APIPlatform, Reset: true, IRQs: []mdev.IRQInfo{irq, {Count: 2, Flags: mdev.IRQEventFD | mdev.IRQMaskable}, irq}}
		}
		v := mdevtest.NewVMM(t, 0)
		s := mdevtest.Open(t, mdevtest.NewDevice(info), nil)
		// The last one is for masks alone, and never signalled: whoever watches
		// an eventfd takes its signals.
		es := make([]*mdevtest.EventFD, 5)
		for i := range es {
			es[i] = v.EventFD()
		}
		m := newIRQModel(info, len(es))
		for steps := 0; len(in.b) > 0 && steps < 60; steps++ {
			what := fuzzIRQStep(t, in, s, m, es)
			compareIRQs(t, s, m, es, what)
		}
	})
}

func fuzzIRQStep(t *testing.T, in *input, s *mdev.Session, m *irqModel, es []*mdevtest.EventFD) string {
	index := func() (int, int) { i := in.n(len(m.vec)); return i, in.n(max(1, len(m.vec[i]))) }
	switch in.n(7) {
	default:
		return fuzzSet(t, in, s, m, es)
	case 1, 2:
		i, j := index()
		s.IRQs().Trigger(i, j)
		if j < len(m.vec[i]) {
			m.trigger(i, j)
		}
		return fmt.Sprintf("trigger %d %d", i, j)
	case 3:
		i, j := index()
		up := in.byte()%2 == 0
		s.IRQs().Level(i, j, up)
		if j < len(m.vec[i]) {
			m.setLevel(i, j, up)
		}
		return fmt.Sprintf("level %d %d %v", i, j, up)
	case 4:
		if m.held {
			s.Unquiesce()
		} else {
			require.NoError(t, s.Quiesce(t.Context()))
		}
		m.hold(!m.held)
		return "quiesce"
	case 5:
		require.NoError(t, s.Reset(t.Context()))
		m.reset()
		return "reset"
	}
}

func fuzzSet(t *testing.T, in *input, s *mdev.Session, m *irqModel, es []*mdevtest.EventFD) string {
	flags := []mdev.IRQSetFlags{
		none | trigger, boolean | trigger, eventfd | trigger, none | mask, none | unmask, eventfd | trigger,
		boolean | mask, boolean | unmask, eventfd | mask, eventfd | unmask, 0, 0x64,
	}
	r := mdev.IRQRequest{Flags: flags[in.n(len(flags))], Index: uint32(in.n(len(m.vec) + 1)), Start: uint32(in.n(4)), Count: uint32(in.n(5))}
	if x := in.byte(); x > 250 {
		r.Flags = mdev.IRQSetFlags(in.byte())
	} else if x > 245 {
		r.Start, r.Count = ^uint32(0)>>(x%8), ^uint32(0)>>(in.n(8))
	}
	var to []int
	if r.Flags&boolean != 0 && r.Count < 8 {
		for range int(r.Count) + in.n(11)/10 {
			r.Bools = append(r.Bools, byte(in.n(2)))
		}
	}
	if n := in.n(8); r.Flags&eventfd != 0 && r.Count < 8 && n != 0 {
		for range int(r.Count) + n/7 {
			e := in.n(len(es)) - 1
			if e >= 0 && r.Flags&trigger == 0 {
				e = len(es) - 1
			}
			fd := -1
			if e >= 0 {
				fd = es[e].Dup()
			}
			to, r.FDs = append(to, e), append(r.FDs, fd)
		}
	}
	want := m.set(r, to)
	err := s.SetIRQs(r)
	require.ErrorIs(t, err, want, "%+v to %v", r, to)
	if want == nil {
		require.NoError(t, err, "%+v to %v", r, to)
	}
	return fmt.Sprintf("%+v to %v", r, to)
}

func compareIRQs(t *testing.T, s *mdev.Session, m *irqModel, es []*mdevtest.EventFD, what string) {
	st := s.Stats()
	for _, i := range st.IRQs {
		require.Equal(t, m.enabled[i.Index] != 0, i.Enabled, "irq %d after %s", i.Index, what)
		for j, v := range i.Vectors {
			w := m.vec[i.Index][j]
			require.Equal(t, [3]bool{w.to >= 0, w.masked, w.pending || w.level}, [3]bool{v.Armed, v.Masked, v.Pending},
				"irq %d vector %d armed, masked, pending after %s", i.Index, j, what)
		}
	}
	for e := range es {
		require.Equal(t, m.counts[e], es[e].Take(), "eventfd %d after %s", e, what)
		m.counts[e] = 0
	}
	want := m.fds()
	if m.watched {
		want++ // the watcher's own
	}
	require.Equal(t, want, st.FDs, "descriptors after %s", what)
}
