package translate_test

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// N11: the dirty log covers mappings made after its start, at any page size,
// and loses no bit. Sequentially a byte-exact log is the oracle; concurrently
// it is what a migration relies on: copy what is reported, and the copy is
// equal in the end.

// Property: over maps, unmaps, suspends and writes after the start, every Get
// - any page size, clearing or not - equals what a byte-exact log says.
func TestN11_DirtyLogAgainstBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &closer{TB: t, rt: rt}
		defer c.close()
		source := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
		cfg := &translatetest.Config{}
		d := translatetest.NewDuel(translatetest.OpenReal(c, cfg), cfg, arenas(c), source)
		must := func(err error) {
			if err != nil {
				rt.Fatalf("%v\nafter:\n%s", err, d.Log())
			}
		}
		must(d.Do("start", source))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			op := rapid.SampledFrom([]string{"map", "map", "write", "write", "write", "mark", "get", "get",
				"unmap exact", "suspend", "resume", "apply", "start"}).Draw(rt, "op")
			must(d.Do(op, source))
			must(d.Compare(source))
		}
	})
}

const dirtyPages = 64

// copier is a migration's destination: it copies the pages that a clearing Get
// reports.
type copier struct {
	store  *translate.Store
	reader *translate.Reader
	base   addr.IOVA
	copy   []byte
}

func (c *copier) round(t *testing.T, pageSize addr.Len) (reported int) {
	n := addr.Len(len(c.copy))
	bitmap := make([]uint64, n/pageSize/64+1)
	require.NoError(t, c.store.DirtyGet(c.base, n, pageSize, bitmap, true))
	for i := range int(n / pageSize) {
		if bitmap[i/64]>>(i%64)&1 == 0 {
			continue
		}
		off := addr.Len(i) * pageSize
		c.reader.Enter()
		require.NoError(t, c.reader.Read(c.base+addr.IOVA(off), c.copy[off:off+pageSize]))
		c.reader.Exit()
		reported++
	}
	return reported
}

// No lost bit: while writers write, a migration copies the pages that clearing
// Gets report; when they have stopped and one more Get was served, the copy is
// equal. In each epoch a page is written about once, so that a bit lost is not
// made good by the next write. A store that marks before it writes, or looks
// at a word and then clears it, loses a page here.
func TestN11_NoLostBitUnderWriters(t *testing.T) {
	epochs := 4000
	if testing.Short() {
		epochs = 800
	}
	for _, pageSize := range []addr.Len{pg, 4 * pg} {
		s := open(t, nil)
		base := addr.IOVA(0x20_0000 - dirtyPages/2*0x1000)
		ram := mapped(t, dirtyPages*int(pg))
		require.NoError(t, s.DirtyStart())
		require.NoError(t, s.Map(base, addr.Len(len(ram)), translate.Bytes(ram), rw)) // after the start
		c := &copier{s, s.NewReader(), base, make([]byte, len(ram))}
		const writers = 2
		var begin [writers]chan int
		ended := make(chan error, writers)
		for w := range writers {
			begin[w] = make(chan int)
			go func() {
				rd := s.NewReader()
				defer rd.Close()
				for epoch := range begin[w] {
					var err error
					for i := range dirtyPages / writers {
						// Every second page is this writer's, in an order of its
						// own; each third write lies over the end of a page, in
						// bytes that only this writer has.
						page := (i*5+epoch)%(dirtyPages/writers)*writers + w
						at := base + addr.IOVA(page)*0x1000 + 8*addr.IOVA(w)
						p := []byte{byte(epoch), byte(epoch >> 8)}
						if i%3 == 0 && page < dirtyPages-1 {
							at = at&^0xfff + 0x1000 - 1
							p[1] = ^p[1] // byte 0 of the next page is nobody else's
						}
						rd.Enter()
						err = errors.Join(err, rd.Write(at, p))
						rd.Exit()
					}
					ended <- err
				}
			}()
		}
		for epoch := range epochs {
			for w := range writers {
				begin[w] <- epoch
			}
			for running := writers; running > 0; {
				select {
				case err := <-ended:
					require.NoError(t, err)
					running--
				default:
					c.round(t, pageSize)
				}
			}
			c.round(t, pageSize)
			if !bytes.Equal(ram, c.copy) {
				for i := range dirtyPages {
					require.True(t, bytes.Equal(ram[i*int(pg):][:pg], c.copy[i*int(pg):][:pg]),
						"epoch %d: page %d was written and not reported (pages of %v)", epoch, i, pageSize)
				}
			}
		}
		require.Zero(t, c.round(t, pageSize), "nobody writes any more")
		for w := range writers {
			close(begin[w])
		}
		c.reader.Close()
	}
}

// A Get that is served while a long write is under way does not take the word
// of it away: a store that marks before it copies loses the pages that were
// reported, and copied, too early. Each kind of memory has its own way to be
// written.
func TestN11_NoLostBitInALongWrite(t *testing.T) {
	const size = 16 << 20
	backing := mapped(t, size)
	fd := memfd(t, "translate-dirty", size)
	for name, mem := range map[string]translate.Memory{
		"bytes":   translate.Bytes(backing),
		"process": translate.Process(translatetest.HVAOf(backing)),
		"file":    translate.File(fd, 0),
		"remote":  translate.Remote(translatetest.RAM(backing)),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			require.NoError(t, s.DirtyStart())
			const base = addr.IOVA(0x10_0000)
			require.NoError(t, s.Map(base, size, mem, rw))
			c := &copier{s, s.NewReader(), base, make([]byte, size)}
			rd := s.NewReader()
			want := make([]byte, size)
			for epoch := range 8 {
				for i := range want {
					want[i] = byte(epoch + 1)
				}
				ended := make(chan error, 1)
				go func() {
					rd.Enter()
					defer rd.Exit()
					ended <- rd.Write(base, want)
				}()
				for running := true; running; {
					select {
					case err := <-ended:
						require.NoError(t, err)
						running = false
					default:
						c.round(t, pg)
					}
				}
				c.round(t, pg)
				require.True(t, bytes.Equal(want, c.copy), "epoch %d: a page was written and not reported", epoch)
			}
			rd.Close()
			c.reader.Close()
		})
	}
}

// Every write acknowledged before a Get appears in that Get or in an earlier
// clearing one, or - when the mapping went - in the bits that its unmap
// returned; and so it is across mappings that come and go.
func TestN11_NoLostBitAcrossUnmap(t *testing.T) {
	s := open(t, nil)
	const base = addr.IOVA(0x4000)
	ram := mapped(t, 8*int(pg))
	require.NoError(t, s.DirtyStart())
	rounds := 1000
	if testing.Short() {
		rounds = 150
	}
	for round := range rounds {
		require.NoError(t, s.Map(base, 8*pg, translate.Bytes(ram), rw))
		var acked [8]bool // written before the unmap refused
		var wrote atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			rd := s.NewReader()
			defer rd.Close()
			rng := rand.New(rand.NewPCG(uint64(round), 0))
			for {
				page := rng.IntN(8)
				rd.Enter()
				err := rd.Write(base+addr.IOVA(page)*0x1000+8, []byte{byte(round)})
				rd.Exit()
				if err != nil {
					if !errors.Is(err, errs.ErrNotMapped) {
						t.Errorf("write: %v", err)
					}
					return
				}
				acked[page] = true
				wrote.Add(1)
			}
		})
		for wrote.Load() < int32(round%7) { // the writer is at work
			runtime.Gosched()
		}
		var seen uint64
		bitmap := make([]uint64, 1)
		for range round % 4 {
			require.NoError(t, s.DirtyGet(base, 8*pg, pg, bitmap, true))
			seen |= bitmap[0]
		}
		n, err := s.UnmapDirty(context.Background(), base, 8*pg, pg, bitmap)
		require.NoError(t, err)
		require.Equal(t, 8*pg, n)
		seen |= bitmap[0]
		wg.Wait()
		for page, yes := range acked {
			if yes {
				require.NotZero(t, seen>>page&1, "round %d: page %d was written, and neither a Get nor the unmap said so", round, page)
			}
		}
		require.LessOrEqual(t, bits.Len64(seen), 8)
	}
}

// DIRTY_PAGES races with itself and with everything else without a panic, a
// race or an error that has no reason.
func TestDirtyLogStartsAndStopsUnderWriters(t *testing.T) {
	s := open(t, nil)
	ram := mapped(t, 8*int(pg))
	require.NoError(t, s.Map(0x4000, 8*pg, translate.Bytes(ram), rw))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		rd := s.NewReader()
		defer rd.Close()
		for !stop.Load() {
			rd.Enter()
			if err := rd.Write(0x5ffc, []byte("12345678")); err != nil {
				t.Error(err)
			}
			rd.Exit()
			s.MarkDirty(0x4000, 3*pg)
		}
	})
	bitmap := make([]uint64, 1)
	for range 500 {
		require.NoError(t, s.DirtyStart())
		require.NoError(t, s.DirtyGet(0x4000, 8*pg, pg, bitmap, true))
		require.NoError(t, s.DirtyStop())
		require.ErrorIs(t, s.DirtyGet(0x4000, 8*pg, pg, bitmap, true), errs.ErrInvalid)
	}
	stop.Store(true)
	wg.Wait()
}

// A write that is under way when its mapping vanishes together with another is
// in the last bits; and when the removal gives up because of that very write,
// it is in the log.
func TestN11_WriteUnderWayWhileManyVanish(t *testing.T) {
	for _, gaveUp := range []bool{false, true} {
		s := open(t, nil)
		tee := translatetest.NewTee(translatetest.RAM(make([]byte, pg)))
		writing, proceed := make(chan struct{}), make(chan struct{})
		tee.Before(func(translatetest.MemoryAccess) error {
			close(writing)
			<-proceed
			return nil
		})
		require.NoError(t, s.Map(0x4000, pg, translate.Remote(tee), rw))
		require.NoError(t, s.Map(0x5000, pg, translate.Process(0x7000_0000), rw))
		require.NoError(t, s.DirtyStart())
		wrote := make(chan error, 1)
		go func() {
			rd := s.NewReader()
			defer rd.Close()
			rd.Enter()
			defer rd.Exit()
			wrote <- rd.Write(0x4008, []byte{1})
		}()
		<-writing
		bitmap := make([]uint64, 1)
		unmapped := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_, err := s.UnmapDirty(ctx, 0x4000, 2*pg, pg, bitmap)
			unmapped <- err
		}()
		for find(s, 0x5000) { // until the removal is published and waits for the writer
			runtime.Gosched()
		}
		if !gaveUp {
			close(proceed)
			require.NoError(t, <-wrote)
			require.NoError(t, <-unmapped)
			require.Equal(t, uint64(1), bitmap[0], "the last bits lack a write that was acknowledged before the unmap returned")
			continue
		}
		close(proceed)
		require.NoError(t, <-wrote)
		cancel()
		if err := <-unmapped; err == nil {
			require.Equal(t, uint64(1), bitmap[0])
			continue // the writer was done before the context was looked at
		}
		require.NoError(t, s.DirtyGet(0x4000, 2*pg, pg, bitmap, true))
		require.Equal(t, uint64(1), bitmap[0], "a removal that gave up lost the log of a write")
	}
}

// A mapping of more than 8 TiB is logged in coarser pieces; the piece that
// reaches past 2^64 is reported as the pages it has.
func TestC4_2_DirtyLogAtTheEndOfTheSpace(t *testing.T) {
	for _, start := range []addr.IOVA{1<<63 + 0x1000, 1 << 63, 1<<62 + 0x7000} {
		for _, at := range []addr.IOVA{start, start + 0x1_0000_0000, ^addr.IOVA(0)} {
			s := open(t, nil)
			require.NoError(t, s.Map(start, addr.Len(-start), translate.Remote(translatetest.RAM(nil)), rw))
			require.NoError(t, s.DirtyStart())
			s.MarkDirty(at, 1)
			base := start &^ (1<<62 - 1)
			const pageSize = addr.Len(1 << 48)
			bitmap := make([]uint64, uint64(-base)/uint64(pageSize)/64)
			require.NotPanics(t, func() {
				require.NoError(t, s.DirtyGet(base, addr.Len(-base), pageSize, bitmap, true))
			}, "mapping from %v, dirty at %v", start, at)
			i := uint64(at-base) / uint64(pageSize)
			require.NotZero(t, bitmap[i/64]>>(i%64)&1, "mapping from %v, dirty at %v", start, at)
		}
	}
}
