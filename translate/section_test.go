package translate

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// hammer runs readers over [iova, iova+n) until the returned function is
// called. Each section looks up and touches what it found.
func hammer(t *testing.T, s *Store, readers int, iova addr.IOVA, n addr.Len) (stop func()) {
	var quit atomic.Bool
	var hits atomic.Int64
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			r := s.NewReader()
			defer r.Close()
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			var p [16]byte
			found := 0
			for k := 0; !quit.Load(); k++ {
				a := iova + addr.IOVA(rng.Uint64N(uint64(n)-16))
				r.Enter()
				if run, ok := r.Lookup(a); ok {
					b := bytesAt(run.HVA, int(min(run.Len, 16)))
					p[0] = b[0]
					found++
				}
				if err := r.Read(a, p[:]); err == nil {
					found++
				}
				r.Exit()
				if k%1024 == 0 {
					runtime.Gosched()
				}
			}
			hits.Add(int64(found))
			// A reader that has worked so much is fast where there are fast
			// ones: that is the path that this is about.
			if fastSections && !raceEnabled && registerBarrier() && !r.fast {
				t.Error("the reader never turned fast")
			}
		})
	}
	return func() {
		quit.Store(true)
		wg.Wait()
		require.NotZero(t, hits.Load(), "the readers never found anything")
	}
}

// No access after Unmap returns, for the race detector: the memory is the
// test's own again when Unmap has returned, and it writes to it without any
// synchronisation. The readers touch it without the guard.
func TestNoAccessAfterUnmap(t *testing.T) {
	rounds := 3000
	if testing.Short() || raceEnabled {
		rounds = 300
	}
	for name, unmap := range map[string]func(s *Store) error{
		"one": func(s *Store) error {
			for a := addr.IOVA(0x4000); a < 0x8000; a += 0x1000 {
				if _, err := s.Unmap(context.Background(), a, pg); err != nil {
					return err
				}
			}
			return nil
		},
		"many":  func(s *Store) error { _, err := s.Unmap(context.Background(), 0x4000, 4*pg); return err },
		"batch": func(s *Store) error { return s.Apply(context.Background(), UnmapOp(0x4000, 4*pg)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestStore(t, nil)
			stop := hammer(t, s, 2, 0x4000, 4*pg)
			for i := range rounds {
				mem := make([]byte, 4*pg)
				for j := range 4 {
					require.NoError(t, s.Map(0x4000+addr.IOVA(j)*0x1000, pg, Bytes(mem[j*int(pg):]), rw))
				}
				if i%8 == 0 {
					runtime.Gosched()
				}
				require.NoError(t, unmap(s))
				for k := range mem {
					mem[k] = byte(i)
				}
			}
			// Leave something to be found, however the rounds went.
			require.NoError(t, s.Map(0x4000, 4*pg, Bytes(make([]byte, 4*pg)), rw))
			time.Sleep(time.Millisecond)
			stop()
		})
	}
}

// A section that outlasts the deadline fails the unmap, names itself, and
// finds everything as it was; the next unmap works.
func TestUnmapGivesUpOnASection(t *testing.T) {
	s := newTestStore(t, &Config{Deadline: 5 * time.Millisecond})
	mem := make([]byte, 4*pg)
	for i := range addr.IOVA(4) {
		require.NoError(t, s.Map(0x4000+i<<12, pg, Bytes(mem[i<<12:]), rw))
	}
	require.NoError(t, s.DirtyStart())
	r := s.NewReader()
	defer r.Close()
	require.NoError(t, r.Write(0x5000, []byte{1}))
	r.Enter()
	_, ok := r.Lookup(0x4000)
	require.True(t, ok)
	before := s.mappings()
	ctx := context.Background()
	for what, op := range map[string]func() error{
		"one":     func() error { _, err := s.Unmap(ctx, 0x5000, pg); return err },
		"many":    func() error { _, err := s.Unmap(ctx, 0x4000, 2*pg); return err },
		"all":     func() error { _, err := s.UnmapAll(ctx); return err },
		"suspend": func() error { _, err := s.Suspend(ctx, 0x4000, 4*pg); return err },
		"batch": func() error {
			return s.Apply(ctx, UnmapOp(0x4000, 4*pg), MapOp(0x4000, pg, Process(0), rw))
		},
		"dirty": func() error { _, err := s.UnmapDirty(ctx, 0x4000, 4*pg, pg, make([]uint64, 1)); return err },
		"close": s.Close,
	} {
		err := op()
		require.ErrorIs(t, err, errs.ErrBusy, what)
		require.ErrorContains(t, err, "a reader section", what)
		require.Equal(t, before, s.mappings(), what)
	}
	require.NoError(t, s.Check())
	r.Exit()
	bits := make([]uint64, 1)
	n, err := s.UnmapDirty(ctx, 0x4000, 4*pg, pg, bits)
	require.NoError(t, err)
	require.Equal(t, 4*pg, n)
	require.Equal(t, uint64(0b10), bits[0], "the dirty log outlived the failures")
}

// A section that waits on another thread for longer than the writer spins is
// waited for, and look-ups go on meanwhile.
func TestUnmapWaitsPatiently(t *testing.T) {
	s := newTestStore(t, &Config{Deadline: time.Minute})
	mem := make([]byte, pg)
	require.NoError(t, s.Map(0x4000, pg, Bytes(mem), rw))
	r := s.NewReader()
	defer r.Close()
	r.Enter()
	_, ok := r.Lookup(0x4000)
	require.True(t, ok)
	var over atomic.Bool
	done := make(chan error)
	go func() {
		_, err := s.Unmap(context.Background(), 0x4000, pg)
		if !over.Load() {
			t.Error("unmap did not wait for the section")
		}
		done <- err
	}()
	other := s.NewReader()
	defer other.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		if _, ok := other.Lookup(0x4000); !ok {
			break // unpublished, and readers still work
		}
		require.True(t, time.Now().Before(deadline))
		runtime.Gosched()
	}
	require.Len(t, s.mappings(), 1, "reports show it until it is gone")
	require.Equal(t, uint32(DefaultMaxMappings-1), s.Info().DMAAvail)
	time.Sleep(3 * time.Millisecond)
	mem[0] = 1 // still ours to touch
	over.Store(true)
	r.Exit()
	require.NoError(t, <-done)
}

// Where many readers are busy a section is always open, and none stays: what
// a batch leaves behind for them is recycled all the same.
func TestBatchesUnderBusyReaders(t *testing.T) {
	s := newTestStore(t, &Config{Deadline: time.Minute})
	stop, stopped := make(chan struct{}), make(chan struct{})
	a, b := s.NewReader(), s.NewReader()
	a.Enter()
	go func() {
		defer close(stopped)
		defer func() { a.Exit(); a.Close(); b.Close() }()
		for {
			select {
			case <-stop:
				return
			default:
				b.Enter()
				a.Exit()
				a.Enter()
				b.Exit()
			}
		}
	}()
	for i := range 2 * maxLimbo {
		require.NoError(t, s.Apply(context.Background(), MapOp(addr.IOVA(i)<<13, pg, Process(0x1000), rw)), "batch %d", i)
	}
	close(stop)
	<-stopped
	require.Less(t, len(s.limbo.tables)+len(s.limbo.recs), maxLimbo+maxNewTables)
}
