package translate

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

func newTestStore(t testing.TB, cfg *Config) *Store {
	t.Helper()
	s, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Check()) })
	return s
}

const (
	rw = addr.ReadWrite
	pg = addr.PageSize
)

type idleHolder struct{}

func (idleHolder) Drain(context.Context, []addr.Range[addr.IOVA]) error { return nil }
func (idleHolder) Done([]addr.Range[addr.IOVA])                         {}

// The hot path allocates nothing, and neither does an unmap and a map.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := newTestStore(t, nil)
	mem := make([]byte, 64*pg)
	for i := range addr.IOVA(200) {
		require.NoError(t, s.Map(0x10_0000+i*4*addr.IOVA(pg), 3*pg, Bytes(mem), rw))
	}
	require.NoError(t, s.Map(1<<60, pg, Bytes(mem), rw))
	guarded := addr.IOVA(0x8000_0000)
	require.NoError(t, s.Map(guarded, pg, Process(pageOf(mem)), rw))
	r := s.NewReader()
	defer r.Close()
	ctx := context.Background()
	p := make([]byte, 8)
	big := make([]byte, 3*pg)
	zero := func(what string, f func()) {
		t.Helper()
		f() // the first time may grow something
		require.Zero(t, testing.AllocsPerRun(1000, f), what)
	}
	zero("section", func() { r.Enter(); r.Exit() })
	i := addr.IOVA(0)
	zero("look-up", func() {
		r.Enter()
		_, ok := r.Lookup(0x10_0000 + i%200*4*addr.IOVA(pg))
		r.Exit()
		i++
		require.True(t, ok)
	})
	zero("hit", func() { r.Hit(0x10_0000) })
	zero("look-up outside a section", func() { r.Lookup(0x10_0000); r.Lookup(0) })
	zero("read and write", func() {
		r.Enter()
		require.NoError(t, r.Read(0x10_0000, p))
		require.NoError(t, r.Write(0x10_0ff8, p))
		require.NoError(t, r.Read(guarded, p))
		require.NoError(t, r.Write(guarded, p))
		require.NoError(t, r.Read(0x10_0000, big))
		require.NoError(t, r.Check(0x10_0000, 3*pg, rw))
		r.Exit()
	})
	pair := func(a addr.IOVA, n addr.Len) func() {
		m := Bytes(mem)
		return func() {
			if _, err := s.Unmap(ctx, a, n); err != nil {
				t.Error(err)
			}
			if err := s.Map(a, n, m, rw); err != nil {
				t.Error(err)
			}
		}
	}
	zero("unmap and map", pair(0x10_4000, 3*pg))
	zero("unmap and map above 2^48", pair(1<<60, pg))
	remove := s.AddHolder(idleHolder{})
	zero("unmap and map with a holder", pair(0x10_4000, 3*pg))
	remove()
	require.NoError(t, s.DirtyStart())
	zero("write with the dirty log", func() {
		r.Enter()
		require.NoError(t, r.Write(0x10_0000, p))
		r.Exit()
	})
}

// The reader's hint must not outlive what it remembers, whatever makes that
// vanish.
func TestHintIsDropped(t *testing.T) {
	ctx := context.Background()
	mem := make([]byte, 4*pg)
	for name, vanish := range map[string]func(s *Store) error{
		"unmap":     func(s *Store) error { _, err := s.Unmap(ctx, 0x4000, pg); return err },
		"unmap all": func(s *Store) error { _, err := s.UnmapAll(ctx); return err },
		"unmap two": func(s *Store) error { _, err := s.Unmap(ctx, 0x4000, 2*pg); return err },
		"suspend":   func(s *Store) error { _, err := s.Suspend(ctx, 0x4000, pg); return err },
		"batch":     func(s *Store) error { return s.Apply(ctx, UnmapOp(0x4000, pg)) },
		"remapped": func(s *Store) error {
			return s.Apply(ctx, UnmapOp(0x4000, pg), MapOp(0x4000, pg, Remote(nil8{}), addr.Read))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestStore(t, nil)
			require.NoError(t, s.Map(0x4000, pg, Bytes(mem), rw))
			require.NoError(t, s.Map(0x5000, pg, Bytes(mem), rw))
			r := s.NewReader()
			defer r.Close()
			r.Enter()
			for range 3 {
				run, ok := r.Lookup(0x4010)
				require.True(t, ok)
				require.Equal(t, hvaOf(mem)+0x10, run.HVA)
				require.Equal(t, pg-0x10, run.Len)
			}
			require.Equal(t, s.Generation(), r.hint.gen)
			r.Exit()
			before := s.Generation()
			require.NoError(t, vanish(s))
			require.NotEqual(t, before, s.Generation())
			r.Enter()
			run, ok := r.Lookup(0x4010)
			r.Exit()
			if name == "remapped" {
				require.True(t, ok)
				require.Equal(t, Run{Len: pg - 0x10, Attr: Attr{ID: run.ID, Access: addr.Read, Kind: KindRemote}}, run)
				return
			}
			require.False(t, ok)
		})
	}
}

type nil8 struct{}

func (nil8) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (nil8) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// A map makes no hint stale: it only adds.
func TestMapKeepsTheGeneration(t *testing.T) {
	s := newTestStore(t, nil)
	before := s.Generation()
	for i := range addr.IOVA(1000) {
		require.NoError(t, s.Map(i<<20, pg, Process(0x1000), rw))
	}
	require.Equal(t, before, s.Generation())
}

// Accesses open a section when they are called outside one, and leave none
// open.
func TestAccessesOutsideASection(t *testing.T) {
	s := newTestStore(t, nil)
	mem := make([]byte, 2*pg)
	require.NoError(t, s.Map(0x4000, pg, Bytes(mem), rw))
	require.NoError(t, s.Map(0x5000, pg, Bytes(mem[pg:]), addr.Read))
	r := s.NewReader()
	require.NoError(t, r.Write(0x4ffe, []byte{1, 2}))
	p := make([]byte, 4)
	require.NoError(t, r.Read(0x4ffe, p))
	require.Equal(t, []byte{1, 2, 0, 0}, p)
	require.ErrorIs(t, r.Write(0x4ffe, p), errs.ErrPermission)
	require.Equal(t, []byte{1, 2}, mem[pg-2:pg], "a write that is refused has written nothing")
	require.EqualError(t, r.Write(0x4ffe, p), "iova 0x5000: access not permitted")
	require.EqualError(t, r.Check(0x4000, 3*pg, addr.Read), "iova 0x6000: not mapped")
	require.NoError(t, r.Read(0x4000, nil))
	require.False(t, r.inside())
	r.Close()
	r.Close()
	_, err := s.UnmapAll(context.Background())
	require.NoError(t, err)
}
