package translatetest

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// mirror is a Model in the place of the store: it uses the store's memory. bug
// names what it does wrong.
type mirror struct {
	*Model
	bug string
}

func (m *mirror) Map(iova addr.IOVA, n addr.Len, mem Memory, access addr.Access) error {
	if m.bug == "accepts an overlap of one page at the end" {
		if r, ok := addr.RangeOf(iova, n); ok && m.state.find(r.Last()) != nil && m.state.find(iova) == nil {
			return nil
		}
	}
	if m.bug == "misses the last page of the space" && iova+addr.IOVA(n) == 0 {
		return errs.ErrOverflow
	}
	if m.bug == "one mapping too many" && len(m.state.maps) == m.max {
		m.max++
		defer func() { m.max-- }()
	}
	mem.Shadow = mem.mirror
	return m.Model.Map(iova, n, mem, access)
}

func (m *mirror) Resume(iova addr.IOVA, n addr.Len, mem Memory) error {
	mem.Shadow = mem.mirror
	return m.Model.Resume(iova, n, mem)
}

func (m *mirror) Suspend(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	got, err := m.Model.Suspend(ctx, iova, n)
	if m.bug == "a failed suspend is not undone" && err != nil && len(m.state.maps) > 0 {
		m.state.maps[0].suspended = true
	}
	return got, err
}

func (m *mirror) Unmap(ctx context.Context, iova addr.IOVA, n addr.Len) (addr.Len, error) {
	if m.bug == "v2 unmap bisects at the back" && !m.v1 {
		m.v1 = true
		defer func() { m.v1 = false }()
	}
	return m.Model.Unmap(ctx, iova, n)
}

func (m *mirror) Apply(ctx context.Context, ops ...Op) error {
	var own []Op
	for _, op := range ops {
		op.Mem.Shadow = op.Mem.mirror
		own = append(own, op)
	}
	if m.bug == "apply does not roll back" {
		for i, op := range own {
			if err := m.Model.Apply(ctx, op); err != nil {
				return errs.In("op", i, Sentinel(err))
			}
		}
		return nil
	}
	return m.Model.Apply(ctx, own...)
}

func (m *mirror) Write(iova addr.IOVA, p []byte) error {
	if m.bug == "dirty: a write across mappings marks only the first" && len(p) > 1 {
		defer func(s []addr.Range[addr.IOVA]) {
			if len(m.state.dirty) > len(s)+1 {
				m.state.dirty = m.state.dirty[:len(s)+1]
			}
		}(m.state.dirty)
	}
	return m.Model.Write(iova, p)
}

func (m *mirror) DirtyGet(iova addr.IOVA, n, page addr.Len, bitmap []uint64, clearIt bool) error {
	return m.Model.DirtyGet(iova, n, page, bitmap, clearIt || m.bug == "dirty: get always clears" && page > m.page)
}

func fight(t *testing.T, bug string, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	src := func(n int, _ string) int { return rng.IntN(n) }
	arenas := Arenas{make([]byte, ArenaLen), make([]byte, ArenaLen), make([]byte, ArenaLen), make([]byte, ArenaLen), nil}
	cfg := ChooseConfig(src)
	d := NewDuel(&mirror{NewModel(cfg), bug}, cfg, arenas, src)
	if strings.HasPrefix(bug, "dirty: ") { // else a rare beginning
		if err := d.Do("start", src); err != nil {
			return err
		}
	}
	for range 60 {
		if err := d.Step(src); err != nil {
			if bug == "" {
				t.Logf("seed %d, after:\n%s", seed, d.Log())
			}
			return err
		}
	}
	return nil
}

// A duel of the Model with itself never ends in a difference, and one with a
// Model that has a bug does, for every bug here: the duel looks where it
// should.
func TestDuel(t *testing.T) {
	for seed := range uint64(150) {
		require.NoError(t, fight(t, "", seed))
	}
	for _, bug := range []string{
		"accepts an overlap of one page at the end", "misses the last page of the space", "one mapping too many",
		"a failed suspend is not undone", "v2 unmap bisects at the back", "apply does not roll back",
		"dirty: a write across mappings marks only the first", "dirty: get always clears",
	} {
		found := false
		for seed := uint64(0); seed < 2000 && !found; seed++ {
			if err := fight(t, bug, seed); err != nil {
				t.Logf("%s: seed %d: %v", bug, seed, err)
				found = true
			}
		}
		require.True(t, found, "no duel noticed: %s", bug)
	}
}
