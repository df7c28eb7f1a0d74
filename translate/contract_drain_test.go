package translate_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// The drain protocol: what stands in type1 as "every device's dma_unmap is
// called, and after ten tries BUG_ON" (A3, last row) is here a bounded wait
// with a name in its error (N4).

// fakeHolder is a Holder that holds what it is told to and lets go when it is
// told to. It checks the protocol from its side.
type fakeHolder struct {
	name string

	mu       sync.Mutex
	held     []addr.Range[addr.IOVA]
	free     chan struct{} // closed: lets go at once
	draining map[string]int
	drains   [][]addr.Range[addr.IOVA]
	dones    [][]addr.Range[addr.IOVA]
	inDrain  func(rs []addr.Range[addr.IOVA])
	inDone   func(rs []addr.Range[addr.IOVA])
}

func newHolder(name string, held ...addr.Range[addr.IOVA]) *fakeHolder {
	return &fakeHolder{name: name, held: held, free: make(chan struct{}), draining: map[string]int{}}
}

func (h *fakeHolder) Drain(ctx context.Context, rs []addr.Range[addr.IOVA]) error {
	h.mu.Lock()
	h.drains = append(h.drains, slices.Clone(rs))
	fn := h.inDrain
	busy := slices.ContainsFunc(h.held, func(a addr.Range[addr.IOVA]) bool {
		return slices.ContainsFunc(rs, a.Overlaps)
	})
	h.mu.Unlock()
	if fn != nil {
		fn(rs)
	}
	if busy {
		select {
		case <-h.free:
		case <-ctx.Done():
			return fmt.Errorf("owner %q, program 7 holds %v: %w", h.name, h.held[0], errs.ErrBusy)
		}
	}
	h.mu.Lock()
	h.draining[fmt.Sprint(rs)]++
	h.mu.Unlock()
	return nil
}

func (h *fakeHolder) Done(rs []addr.Range[addr.IOVA]) {
	h.mu.Lock()
	h.dones = append(h.dones, slices.Clone(rs))
	h.draining[fmt.Sprint(rs)]--
	fn := h.inDone
	h.mu.Unlock()
	if fn != nil {
		fn(rs)
	}
}

// balanced: every Drain that succeeded has had its Done, of the same ranges.
func (h *fakeHolder) balanced(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for rs, n := range h.draining {
		if n != 0 {
			t.Errorf("%s: %d more drains than dones of %s", h.name, n, rs)
		}
	}
}

func open(t *testing.T, cfg *translate.Config) *translate.Store {
	t.Helper()
	s, err := translate.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	translatetest.Check(t, s)
	return s
}

func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Millisecond)
}

func find(s *translate.Store, iova addr.IOVA) bool {
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	defer rd.Exit()
	_, ok := rd.Lookup(iova)
	return ok
}

// everyRemoval is each way by which a mapping leaves, as a function that must
// fail while somebody holds page 0x4000 of the mapping [0x4000, 0x7fff].
var everyRemoval = map[string]func(ctx context.Context, s *translate.Store) error{
	"unmap":     func(ctx context.Context, s *translate.Store) error { _, err := s.Unmap(ctx, 0x4000, 4*pg); return err },
	"unmap all": func(ctx context.Context, s *translate.Store) error { _, err := s.UnmapAll(ctx); return err },
	"suspend": func(ctx context.Context, s *translate.Store) error {
		_, err := s.Suspend(ctx, 0x4000, 4*pg)
		return err
	},
	"suspend all": func(ctx context.Context, s *translate.Store) error { _, err := s.SuspendAll(ctx); return err },
	"unmap with dirty bits": func(ctx context.Context, s *translate.Store) error {
		if err := s.DirtyStart(); err != nil {
			return err
		}
		_, err := s.UnmapDirty(ctx, 0x4000, 4*pg, pg, make([]uint64, 1))
		return err
	},
	"batch": func(ctx context.Context, s *translate.Store) error {
		return s.Apply(ctx, translate.MapOp(0x1_0000, pg, translate.Process(0x7000_0000), r), translate.UnmapOp(0x4000, 4*pg))
	},
}

// A3, last row, and N4: a holder that does not let go makes the removal fail
// with EBUSY that names it, the store is unchanged, and the removal works when
// the holder has let go.
func TestA3_StubbornHolderIsNamed(t *testing.T) {
	for name, remove := range everyRemoval {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			require.NoError(t, s.Map(0x4000, 4*pg, translate.Process(0x7000_0000), rw))
			require.NoError(t, s.Map(0x9000, pg, translate.Process(0x7000_0000), r))
			before := slices.Collect(s.Mappings())
			h := newHolder("vdb", addr.MustRange(addr.IOVA(0x7000), 0x1000)) // C4 #7: the last page only
			defer s.AddHolder(h)()

			ctx, cancel := soon()
			defer cancel()
			err := remove(ctx, s)
			require.ErrorIs(t, err, errs.ErrBusy)
			require.Equal(t, "device or resource busy", errs.Errno(err).Error())
			require.ErrorContains(t, err, "vdb")
			require.Equal(t, before, slices.Collect(s.Mappings()), "a removal that failed changed the store")
			require.True(t, find(s, 0x4000))
			require.True(t, find(s, 0x7fff))
			require.False(t, find(s, 0x1_0000), "a batch that failed left a map")
			require.NoError(t, s.Check())
			h.balanced(t)

			close(h.free)
			require.NoError(t, remove(context.Background(), s))
			require.False(t, find(s, 0x4000))
			h.balanced(t)
			require.NotEmpty(t, h.dones)
		})
	}
}

// N4: without a deadline in the context the store's own applies; a context
// that is done already fails at once.
func TestA3_DeadlineWithoutOne(t *testing.T) {
	s := open(t, &translate.Config{Deadline: 20 * time.Millisecond})
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	h := newHolder("vdb", addr.MustRange(addr.IOVA(0x4000), 0x1000))
	defer s.AddHolder(h)()
	hung := time.AfterFunc(time.Minute, func() { close(h.free) })
	_, err := s.Unmap(context.Background(), 0x4000, pg)
	require.True(t, hung.Stop(), "the store's deadline did not reach the holder")
	require.ErrorIs(t, err, errs.ErrBusy)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = s.Unmap(cancelled, 0x4000, pg)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.True(t, find(s, 0x4000))
	close(h.free)
	_, err = s.Unmap(context.Background(), 0x4000, pg)
	require.NoError(t, err)
	h.balanced(t)
}

// A5: dma_unmap is told every byte that goes, and none of what stays; and nobody is told when nothing goes.
func TestA5_DrainNamesWhatGoes(t *testing.T) {
	s := open(t, nil)
	h := newHolder("watch")
	defer s.AddHolder(h)()
	for _, at := range []addr.IOVA{0x1000, 0x2000, 0x8000, lastPage} {
		require.NoError(t, s.Map(at, pg, translate.Process(0x7000_0000), rw))
	}
	ctx := context.Background()
	for _, quiet := range []func() (addr.Len, error){
		func() (addr.Len, error) { return s.Unmap(ctx, 0x4000, pg) },
		func() (addr.Len, error) { return s.Unmap(ctx, 0x4001, pg) },
		func() (addr.Len, error) { return s.Unmap(ctx, 0, 0) },
	} {
		n, _ := quiet()
		require.Zero(t, n)
	}
	require.Empty(t, h.drains, "nothing was to go")
	n, err := s.Unmap(ctx, 0, 16*pg)
	require.NoError(t, err)
	require.Equal(t, 3*pg, n)
	require.Len(t, h.drains, 1)
	covered := func(rs []addr.Range[addr.IOVA], at addr.IOVA) bool {
		return slices.ContainsFunc(rs, func(r addr.Range[addr.IOVA]) bool { return r.Contains(at) })
	}
	for at, want := range map[addr.IOVA]bool{0x1000: true, 0x2fff: true, 0x8fff: true, lastPage: false, 0x1_0000: false} {
		require.Equal(t, want, covered(h.drains[0], at), "%v in %v", at, h.drains[0])
	}
	require.Equal(t, h.drains, h.dones, "Done is told the same ranges")
	_, err = s.UnmapAll(ctx)
	require.NoError(t, err)
	require.True(t, covered(h.drains[1], ^addr.IOVA(0)))
	h.balanced(t)
}

// C4 #7, unmap hits the last page only (vfio-ccw and vfio-ap looked at the
// first page for years), in the form that v1 gives it: the range named is one
// page, the mapping goes whole, so the holder of its last page must be asked.
func TestC4_7_V1DrainsTheWholeMapping(t *testing.T) {
	s := open(t, &translate.Config{V1: true})
	require.NoError(t, s.Map(0x4000, 16*pg, translate.Process(0x7000_0000), rw))
	h := newHolder("vdb", addr.MustRange(addr.IOVA(0x13000), 0x1000))
	defer s.AddHolder(h)()
	ctx, cancel := soon()
	defer cancel()
	n, err := s.Unmap(ctx, 0x4000, pg)
	require.ErrorIs(t, err, errs.ErrBusy)
	require.Zero(t, n)
	close(h.free)
	n, err = s.Unmap(context.Background(), 0x4000, pg)
	require.NoError(t, err)
	require.Equal(t, 16*pg, n)
}

// C4 #10, locking context: Drain and Done are called with no lock that
// look-ups need, from the callback itself and from elsewhere meanwhile; until
// Drain has returned the mapping is there, when Done comes it is not.
func TestC4_10_LookupsWorkInsideDrain(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Bytes(mapped(t, int(pg))), rw))
	require.NoError(t, s.Map(0x9000, pg, translate.Bytes(mapped(t, int(pg))), rw))
	h := newHolder("vdb")
	defer s.AddHolder(h)()
	var during, after [2]bool
	look := func(into *[2]bool) func([]addr.Range[addr.IOVA]) {
		return func([]addr.Range[addr.IOVA]) {
			done := make(chan struct{})
			go func() { // elsewhere
				defer close(done)
				rd := s.NewReader()
				defer rd.Close()
				rd.Enter()
				defer rd.Exit()
				var b [1]byte
				if err := rd.Read(0x9000, b[:]); err != nil {
					t.Errorf("a read during the drain: %v", err)
				}
				if err := rd.Write(0x9000, b[:]); err != nil {
					t.Errorf("a write during the drain: %v", err)
				}
				s.Generation()
				s.MarkDirty(0x9000, 1)
				s.Info()
				for range s.Mappings() {
				}
			}()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("a look-up during the drain waits for the drain")
			}
			*into = [2]bool{find(s, 0x4000), find(s, 0x9000)}
		}
	}
	h.inDrain, h.inDone = look(&during), look(&after)
	_, err := s.Unmap(context.Background(), 0x4000, pg)
	require.NoError(t, err)
	require.Equal(t, [2]bool{true, true}, during)
	require.Equal(t, [2]bool{false, true}, after, "holds are refused until the mapping is gone")
}

// Of several holders, those that drained are told Done when a later one
// refuses; the one that refused is not.
func TestDrainAbortsForAll(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	willing := []*fakeHolder{newHolder("a"), newHolder("b")}
	stubborn := newHolder("stubborn", addr.MustRange(addr.IOVA(0x4000), 1))
	defer s.AddHolder(willing[0])()
	defer s.AddHolder(stubborn)()
	defer s.AddHolder(willing[1])()
	for range 3 {
		ctx, cancel := soon()
		_, err := s.Unmap(ctx, 0x4000, pg)
		cancel()
		require.ErrorContains(t, err, "stubborn")
		for _, h := range append(willing, stubborn) {
			h.balanced(t)
		}
		require.Empty(t, stubborn.dones)
	}
	close(stubborn.free)
	_, err := s.Unmap(context.Background(), 0x4000, pg)
	require.NoError(t, err)
	for _, h := range append(willing, stubborn) {
		h.balanced(t)
		require.NotEmpty(t, h.dones, "%s was not told that the mapping is gone", h.name)
	}
}

// A holder that was removed is not asked any more, and removing twice is once.
func TestRemovedHolderIsNotAsked(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	h := newHolder("gone", addr.MustRange(addr.IOVA(0x4000), 1))
	other := newHolder("other")
	remove := s.AddHolder(h)
	defer s.AddHolder(other)()
	remove()
	remove()
	_, err := s.Unmap(context.Background(), 0x4000, pg)
	require.NoError(t, err)
	require.Empty(t, h.drains)
	require.Len(t, other.drains, 1)
}

// Holders come and go while mappings do: nothing deadlocks or races, and every
// holder's drains and dones balance.
func TestHoldersComeAndGo(t *testing.T) {
	s := open(t, nil)
	const workers = 3
	var wg sync.WaitGroup
	var stop atomic.Bool
	for w := range workers {
		wg.Go(func() {
			for !stop.Load() {
				h := newHolder(fmt.Sprint(w))
				remove := s.AddHolder(h)
				if !find(s, lastPage) {
					_ = s.Map(lastPage, pg, translate.Process(0x7000_0000), rw)
				}
				remove()
				h.balanced(t)
			}
		})
	}
	for i := range 300 {
		at := addr.IOVA(i%4) * 0x1000
		require.NoError(t, s.Map(at, pg, translate.Process(0x7000_0000), rw))
		if i%4 == 3 {
			_, err := s.Unmap(context.Background(), 0, 4*pg)
			require.NoError(t, err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// Invariant 4: Unmap does not return while a reader section that may have
// seen the mapping is open; with a deadline it may give up instead, and then
// the mapping is still whole.
func TestUnmapWaitsForReaders(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Bytes(mapped(t, int(pg))), rw))
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	_, ok := rd.Lookup(0x4000)
	require.True(t, ok)

	ctx, cancel := soon()
	defer cancel()
	if _, err := s.Unmap(ctx, 0x4000, pg); err != nil {
		require.ErrorIs(t, err, errs.ErrBusy)
		require.True(t, find(s, 0x4000), "EBUSY and yet unmapped")
		require.NoError(t, s.Check())
	} else {
		t.Fatal("Unmap returned while a section was open that had seen the mapping")
	}

	returned := make(chan error, 1)
	go func() { _, err := s.Unmap(context.Background(), 0x4000, pg); returned <- err }()
	select {
	case <-returned:
		t.Fatal("Unmap returned while a section was open that had seen the mapping")
	case <-time.After(50 * time.Millisecond):
	}
	rd.Exit()
	require.NoError(t, <-returned)
	require.False(t, find(s, 0x4000))
}

// A4: what hardware may be writing right now is dirty in every Get, cleared or
// not, as pinned pages are in the kernel.
func TestA4_HeldForWritingStaysDirty(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, 4*pg, translate.Process(0x7000_0000), rw))
	h := &writingHolder{newHolder("vdb"), addr.MustRange(addr.IOVA(0x5800), 0x1000)}
	remove := s.AddHolder(h)
	require.NoError(t, s.DirtyStart())
	bitmap := make([]uint64, 1)
	for range 3 {
		require.NoError(t, s.DirtyGet(0x4000, 4*pg, pg, bitmap, true))
		require.Equal(t, uint64(0b0110), bitmap[0])
	}
	remove()
	// What it wrote up to the end is in the last Get, and no later one.
	require.NoError(t, s.DirtyGet(0x4000, 4*pg, pg, bitmap, true))
	require.NoError(t, s.DirtyGet(0x4000, 4*pg, pg, bitmap, true))
	require.Zero(t, bitmap[0])
}

type writingHolder struct {
	*fakeHolder
	r addr.Range[addr.IOVA]
}

func (h *writingHolder) Writable(mark func(addr.Range[addr.IOVA])) { mark(h.r) }

// A section that stays makes every batch fail with EBUSY, for as long as it
// stays and however often: nothing runs out meanwhile, and when it is over
// everything that the contract promises is there.
func TestWithdrawnBatchesLeakNothing(t *testing.T) {
	s := open(t, &translate.Config{MaxMappings: 4, Deadline: time.Millisecond})
	mem := translate.Process(0x7000_0000)
	require.NoError(t, s.Map(0x1000, pg, mem, rw))
	before := slices.Collect(s.Mappings())
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	_, ok := rd.Lookup(0x1000)
	require.True(t, ok)
	ctx := context.Background()
	for i := range 150 {
		err := s.Apply(ctx, translate.UnmapOp(0x1000, pg),
			translate.MapOp(0x2000, pg, mem, rw), translate.MapOp(0x3000, pg, mem, rw), translate.MapOp(0x4000, pg, mem, rw))
		require.ErrorIs(t, err, errs.ErrBusy, "batch %d", i)
	}
	require.Equal(t, before, slices.Collect(s.Mappings()))
	_, ok = rd.Lookup(0x1000)
	require.True(t, ok, "the section that was in the way still sees what it saw")
	// The entries that are free according to dma_avail can be used, reader or
	// not.
	require.Equal(t, uint32(3), s.Info().DMAAvail)
	for _, at := range []addr.IOVA{0x2000, 0x3000, 0x4000} {
		require.NoError(t, s.Map(at, pg, mem, rw))
	}
	require.NoError(t, s.Check())
	rd.Exit()
	n, err := s.UnmapAll(ctx)
	require.NoError(t, err)
	require.Equal(t, 4*pg, n)
	require.Equal(t, uint32(4), s.Info().DMAAvail)
}

// Sections nest: what was found is valid until the outermost Exit.
func TestUnmapWaitsForTheOutermostSection(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	rd.Enter()
	rd.Exit()
	ctx, cancel := soon()
	defer cancel()
	_, err := s.Unmap(ctx, 0x4000, pg)
	require.ErrorIs(t, err, errs.ErrBusy)
	rd.Exit()
	_, err = s.Unmap(context.Background(), 0x4000, pg)
	require.NoError(t, err)
}

// Operations queue behind one that waits, and each of them ends: when the one
// in front gives up or succeeds, the next goes on; none is forgotten.
func TestOperationsQueueBehindADrain(t *testing.T) {
	s := open(t, nil)
	h := newHolder("slow", addr.MustRange(addr.IOVA(0x4000), 1))
	defer s.AddHolder(h)()
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	entered := make(chan struct{})
	h.inDrain = func([]addr.Range[addr.IOVA]) { close(entered) }
	first := make(chan error, 1)
	go func() { _, err := s.Unmap(context.Background(), 0x4000, pg); first <- err }()
	<-entered
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := s.Map(addr.IOVA(0x10000+i*0x1000), pg, translate.Process(0x7000_0000), rw); err != nil {
				t.Errorf("map %d: %v", i, err)
			}
		})
	}
	close(h.free)
	require.NoError(t, <-first)
	wg.Wait()
	h.mu.Lock()
	h.inDrain = nil
	h.mu.Unlock()
	n, err := s.UnmapAll(context.Background())
	require.NoError(t, err)
	require.Equal(t, 8*pg, n)
}

// Close with a holder that stays fails as any removal does and leaves a store
// that works; when it has succeeded nothing is mapped, however many were
// mapping meanwhile.
func TestClose(t *testing.T) {
	s, err := translate.New(&translate.Config{Deadline: 10 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	h := newHolder("vdb", addr.MustRange(addr.IOVA(0x4000), 1))
	defer s.AddHolder(h)()
	require.ErrorIs(t, s.Close(), errs.ErrBusy)
	require.True(t, find(s, 0x4000))
	require.NoError(t, s.Map(0x8000, pg, translate.Process(0x7000_0000), rw))
	close(h.free)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for k := 0; ; k++ {
				at := addr.IOVA(1+i)<<40 + addr.IOVA(k)*0x1000
				if err := s.Map(at, pg, translate.Process(0x7000_0000), rw); err != nil {
					return
				}
			}
		})
	}
	time.Sleep(time.Millisecond)
	require.NoError(t, s.Close())
	wg.Wait()
	require.Empty(t, slices.Collect(s.Mappings()))
	require.NoError(t, s.Check())
}
