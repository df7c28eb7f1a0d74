package translate_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// The classes of real bugs in the kernel's and other mediators (C4), as far as
// they touch the store; each test is named after its row. Rows 7 and 10 are in
// contract_drain_test.go.

// C4 #1, double fetch: a read through the store fetches each byte once, over
// one mapping and over many, so that memory which flips changes nothing.
func TestC4_1_ReadFetchesEachByteOnce(t *testing.T) {
	s := open(t, nil)
	const pages = 6
	plain := make([]byte, pages*pg)
	for i := range plain {
		plain[i] = byte(i * 7)
	}
	flips := make([]*translatetest.Flip, pages)
	for i := range flips {
		at := addr.IOVA(0x10_0000 + i*0x1000)
		flips[i] = translatetest.NewFlip(at, slices.Clone(plain[i*int(pg):][:pg]))
		require.NoError(t, s.Map(at, pg, translate.Remote(flips[i]), rw))
	}
	rd := s.NewReader()
	defer rd.Close()
	for _, span := range [][2]int{{0, 1}, {0, pages * int(pg)}, {4095, 2}, {4090, 3 * 4096}, {1, 8191}} {
		for _, f := range flips {
			f.Reset()
		}
		got := make([]byte, span[1])
		rd.Enter()
		err := rd.Read(addr.IOVA(0x10_0000+span[0]), got)
		rd.Exit()
		require.NoError(t, err)
		require.Equal(t, plain[span[0]:][:span[1]], got)
		fetched := 0
		for _, f := range flips {
			require.Empty(t, f.DoubleFetches())
			fetched += f.Fetched()
		}
		require.Equal(t, span[1], fetched, "bytes that were not asked for")
	}
	// A read that must be refused fetches nothing at all before it is.
	for _, f := range flips {
		f.Reset()
	}
	rd.Enter()
	err := rd.Read(0x10_0000, make([]byte, pages*int(pg)+1))
	rd.Exit()
	require.ErrorIs(t, err, errs.ErrNotMapped)
	for _, f := range flips {
		require.Zero(t, f.Fetched(), "the all-or-nothing check comes before the first fetch")
	}
}

// C4 #2, overflow near 2^k and in the last page: every combination of starts
// and lengths around powers of two answers as the model does, for each call
// that takes a range, with and without a mapping there.
func TestC4_2_OverflowAtEveryPowerOfTwo(t *testing.T) {
	var edges []uint64
	for k := 12; k < 64; k += 6 {
		p := uint64(1) << k
		edges = append(edges, p-uint64(pg), p, p+uint64(pg), p+1)
	}
	for k := range 3 {
		edges = append(edges, ^uint64(0)-uint64(pg)*uint64(k+1)+1)
	}
	edges = append(edges, 0, ^uint64(0), 0xffff_f000, 0x1_0000_0000, 1<<63-uint64(pg), 1<<63)
	ctx := context.Background()
	real, model := translatetest.OpenReal(t, &translatetest.Config{}), translatetest.NewModel(nil)
	same := func(what string, at, n uint64, want, got error) {
		if translatetest.Sentinel(want) != translatetest.Sentinel(got) {
			t.Fatalf("%s %#x+%#x: got %v, want %v", what, at, n, got, want)
		}
	}
	mem := newRemote(mib)
	for _, at := range edges {
		for _, n := range edges {
			iova, size := addr.IOVA(at), addr.Len(n)
			mapped := model.Map(iova, size, mem, rw)
			same("map", at, n, mapped, real.Map(iova, size, mem, rw))
			same("map again", at, n, model.Map(iova, size, mem, rw), real.Map(iova, size, mem, rw))
			require.Equal(t, model.Mappings(), real.Mappings())
			for _, look := range []addr.IOVA{iova, iova - 1, iova + addr.IOVA(n) - 1, iova + addr.IOVA(n), 0, ^addr.IOVA(0)} {
				w, wok := model.Lookup(look)
				g, gok := real.Lookup(look)
				if w != g || wok != gok {
					t.Fatalf("%#x+%#x: look-up of %v: got %v %v, want %v %v", at, n, look, g, gok, w, wok)
				}
				same("check", uint64(look), n, model.CheckAccess(look, size, r), real.CheckAccess(look, size, r))
			}
			for _, cut := range [][2]addr.Len{{0, pg}, {pg, 0}, {0, 0}} { // bisect at the back, at the front, not
				w, wantErr := model.Suspend(ctx, iova+addr.IOVA(cut[1]), size-cut[0])
				g, err := real.Suspend(ctx, iova+addr.IOVA(cut[1]), size-cut[0])
				if w != g {
					t.Fatalf("suspend %#x+%#x cut %v: got %v, want %v", at, n, cut, g, w)
				}
				same("suspend", at, n, wantErr, err)
			}
			for _, cut := range [][2]addr.Len{{0, pg}, {pg, 0}, {0, 0}} {
				w, wantErr := model.Unmap(ctx, iova+addr.IOVA(cut[1]), size-cut[0])
				g, err := real.Unmap(ctx, iova+addr.IOVA(cut[1]), size-cut[0])
				if w != g {
					t.Fatalf("unmap %#x+%#x cut %v: got %v, want %v", at, n, cut, g, w)
				}
				same("unmap", at, n, wantErr, err)
			}
			require.NoError(t, real.Check())
			if mapped == nil {
				_, err := model.UnmapAll(ctx)
				require.NoError(t, err)
				_, err = real.UnmapAll(ctx)
				require.NoError(t, err)
			}
		}
	}
}

// C4 #7, only part of the range checked: an access whose last byte alone lies
// outside, is suspended or not permitted, is refused at that byte.
func TestC4_7_OnlyTheLastByteIsWrong(t *testing.T) {
	for _, subject := range subjects {
		t.Run(subject.name, func(t *testing.T) {
			s := subject.open(t, &translatetest.Config{})
			require.NoError(t, s.Map(0x10_0000, 16*pg, newRemote(16*pg), rw))
			require.NoError(t, s.Map(0x20_0000-16*0x1000, 16*pg, newRemote(16*pg), rw))
			require.NoError(t, s.Map(0x20_0000, pg, newRemote(pg), r)) // read-only after a boundary
			p := make([]byte, 16*pg+1)
			for i := range p {
				p[i] = 0xaa
			}
			require.Equal(t, "iova 0x110000: not mapped", s.Write(0x10_0000, p).Error())
			require.Equal(t, "iova 0x110000: not mapped", s.Read(0x10_0000, p).Error())
			require.Equal(t, "iova 0x110000: not mapped", s.CheckAccess(0x10_0000, 16*pg+1, r).Error())
			require.Equal(t, "iova 0x200000: access not permitted", s.Write(0x20_0000-16*0x1000, p).Error())
			require.Equal(t, "iova 0x200000: access not permitted", s.CheckAccess(0x20_0000-16*0x1000, 16*pg+1, w).Error())
			for _, at := range []addr.IOVA{0x10_0000, 0x20_0000 - 16*0x1000} {
				got := make([]byte, 16*pg)
				require.NoError(t, s.Read(at, got))
				require.Equal(t, make([]byte, 16*pg), got, "a refused write wrote")
			}
		})
	}
}

// C4 #8, re-used IOVA: an address translated before an unmap is never usable
// after it. Inside the section in which it was translated the memory stays;
// the unmap waits; the generation tells a cache that what it has is stale; the
// new mapping has another identity.
func TestC4_8_ReusedIOVA(t *testing.T) {
	s := open(t, nil)
	first, second := mapped(t, int(pg)), mapped(t, int(pg))
	first[0], second[0] = 1, 2
	require.NoError(t, s.Map(0x4000, pg, translate.Bytes(first), rw))
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	gen := s.Generation()
	run, ok := rd.Lookup(0x4000)
	require.True(t, ok)
	require.Equal(t, translatetest.HVAOf(first), run.HVA)
	swapped := make(chan error, 1)
	go func() {
		_, err := s.Unmap(context.Background(), 0x4000, pg)
		swapped <- errors.Join(err, s.Map(0x4000, pg, translate.Bytes(second), rw))
	}()
	for range 1000 {
		var b [1]byte
		if err := rd.Read(0x4000, b[:]); err == nil {
			require.NotEqual(t, byte(2), b[0], "the new mapping before the unmap could return")
		}
	}
	rd.Exit()
	require.NoError(t, <-swapped)
	require.NotEqual(t, gen, s.Generation(), "a cache would keep the old translation")
	rd.Enter()
	defer rd.Exit()
	now, ok := rd.Lookup(0x4000)
	require.True(t, ok)
	require.Equal(t, translatetest.HVAOf(second), now.HVA)
	var b [1]byte
	require.NoError(t, rd.Read(0x4000, b[:]))
	require.Equal(t, byte(2), b[0])
}

// C4 #8 for a batch: what is replaced in one Apply changes the generation too.
func TestC4_8_ReplacedIOVAInABatch(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Process(0x7000_0000), rw))
	gen := s.Generation()
	require.NoError(t, s.Apply(context.Background(), translate.UnmapOp(0x4000, pg), translate.MapOp(0x4000, pg, translate.Process(0x8000_0000), rw)))
	require.NotEqual(t, gen, s.Generation())
	for name, remove := range everyRemoval {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			require.NoError(t, s.Map(0x4000, 4*pg, translate.Process(0x7000_0000), rw))
			gen := s.Generation()
			require.NoError(t, remove(context.Background(), s))
			require.NotEqual(t, gen, s.Generation())
		})
	}
}

// C4 #8 and #6 with a real munmap: readers look up and read while the owner of
// the memory unmaps it from the store and at once from the process. Bytes are
// vouched for, so that one touch after Unmap returned would kill this process.
func TestC4_8_NothingIsTouchedAfterUnmap(t *testing.T) {
	s := open(t, nil)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var good atomic.Int64
	for range 2 {
		wg.Go(func() {
			rd := s.NewReader()
			defer func() { rd.Close() }()
			p := make([]byte, 3*pg)
			for i := 1; !stop.Load(); i++ {
				if i%1000 == 0 { // readers come and go
					rd.Close()
					rd = s.NewReader()
				}
				rd.Enter()
				err := rd.Read(0x4000, p)
				if err == nil {
					err = rd.Write(0x4008, []byte{7})
				}
				rd.Exit()
				switch {
				case err == nil:
					good.Add(1)
					if p[0] != 7 || p[len(p)-1] != 7 {
						t.Error("read something that was never there")
						return
					}
				case !errors.Is(err, errs.ErrNotMapped):
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	rounds := 600
	if testing.Short() {
		rounds = 100
	}
	for i := 0; i < rounds || good.Load() < 10; i++ {
		b, err := unix.Mmap(-1, 0, 3*int(pg), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		require.NoError(t, err)
		for k := range b {
			b[k] = 7
		}
		require.NoError(t, s.Map(0x4000, 3*pg, translate.Bytes(b), rw))
		_, err = s.Unmap(context.Background(), 0x4000, 3*pg)
		require.NoError(t, err)
		require.NoError(t, unix.Munmap(b))
	}
	stop.Store(true)
	wg.Wait()
}

// C4 #14, accounting: no sequence of failures moves dma_avail, and every byte
// that goes is reported once.
func TestC4_14_EntriesAreAccountedOnce(t *testing.T) {
	s := open(t, &translate.Config{MaxMappings: 4})
	ctx := context.Background()
	mem := translate.Process(0x7000_0000)
	avail := func(want int) {
		t.Helper()
		require.Equal(t, uint32(want), s.Info().DMAAvail)
	}
	for range 3 {
		avail(4)
		require.NoError(t, s.Map(0, pg, mem, rw))
		require.Error(t, s.Map(0, pg, mem, rw))
		require.Error(t, s.Map(1, pg, mem, rw))
		require.Error(t, s.Map(0x1000, pg, translate.Memory{}, rw))
		avail(3)
		// A batch that fills the table and then fails gives every entry back.
		require.ErrorIs(t, s.Apply(ctx,
			translate.MapOp(0x1000, pg, mem, rw), translate.MapOp(0x2000, pg, mem, rw), translate.MapOp(0x3000, pg, mem, rw),
			translate.MapOp(0x4000, pg, mem, rw)), errs.ErrNoSpace)
		avail(3)
		// A batch may use entries that it frees itself, in order.
		require.NoError(t, s.Apply(ctx,
			translate.MapOp(0x1000, pg, mem, rw), translate.MapOp(0x2000, pg, mem, rw), translate.MapOp(0x3000, pg, mem, rw),
			translate.UnmapOp(0, pg), translate.MapOp(0x4000, pg, mem, rw)))
		avail(0)
		n, err := s.Suspend(ctx, 0x1000, pg)
		require.NoError(t, err)
		require.Equal(t, pg, n)
		avail(0)
		n, err = s.UnmapAll(ctx)
		require.NoError(t, err)
		require.Equal(t, 4*pg, n)
	}
	avail(4)
	require.NoError(t, s.Check())
}

// C4 #15, an error of the memory behind a mapping is never turned into
// success: a peer's error, a short answer, an answer too long.
func TestC4_15_RemoteErrorsAreNotSwallowed(t *testing.T) {
	dead := errors.New("peer is gone")
	for name, mem := range map[string]oddMemory{
		"error":               {0, dead},
		"half and an error":   {4, dead},
		"all and an error":    {8, dead},
		"short without error": {7, nil},
		"nothing at all":      {0, nil},
		"more than asked":     {9, nil},
		"a negative count":    {-1, nil},
		"short and the end":   {3, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			require.NoError(t, s.Map(0x4000, pg, translate.Remote(mem), rw))
			rd := s.NewReader()
			defer rd.Close()
			rd.Enter()
			defer rd.Exit()
			for what, err := range map[string]error{"read": rd.Read(0x4100, make([]byte, 8)), "write": rd.Write(0x4100, make([]byte, 8))} {
				require.ErrorIs(t, err, errs.ErrFault, what)
				require.ErrorContains(t, err, "iova 0x410", what)
			}
		})
	}
}

// io.ReaderAt may answer all bytes and io.EOF when they are the last.
func TestRemoteReadUpToTheEnd(t *testing.T) {
	s := open(t, nil)
	require.NoError(t, s.Map(0x4000, pg, translate.Remote(oddMemory{8, io.EOF}), rw))
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	defer rd.Exit()
	require.NoError(t, rd.Read(0x4ff8, make([]byte, 8)))
}

type oddMemory struct {
	n   int
	err error
}

func (m oddMemory) ReadAt(p []byte, _ int64) (int, error)  { return m.n, m.err }
func (m oddMemory) WriteAt(p []byte, _ int64) (int, error) { return m.n, m.err }

// C4 #16, no panic: arguments that a careless facade or a hostile client could
// hand through end in an error, before and after Close.
func TestC4_16_NoPanic(t *testing.T) {
	ctx := context.Background()
	ram := mapped(t, 4*int(pg))
	bad := map[string]translate.Memory{
		"zero memory":           {},
		"nil bytes":             translate.Bytes(nil),
		"bytes too short":       translate.Bytes(ram[:pg]),
		"nil remote":            translate.Remote(nil),
		"no such descriptor":    translate.File(-1, 0),
		"a descriptor not open": translate.File(1<<30, 0),
		"negative offset":       translate.File(0, -4096),
		"odd offset":            translate.File(0, 1),
		"hva at the end":        translate.Process(^addr.HVA(0xfff)),
	}
	s := open(t, nil)
	for name, mem := range bad {
		t.Run(name, func(t *testing.T) {
			require.NotPanics(t, func() {
				require.Error(t, s.Map(0x4000, 4*pg, mem, rw))
				require.Error(t, s.Apply(ctx, translate.MapOp(0x9000, pg, translate.Bytes(ram), rw), translate.MapOp(0x4000, 4*pg, mem, rw)))
				require.False(t, find(s, 0x4000))
				require.False(t, find(s, 0x9000))
			})
		})
	}
	t.Run("resume with bad memory leaves it suspended", func(t *testing.T) {
		require.NoError(t, s.Map(0x4000, 4*pg, translate.Bytes(ram), rw))
		_, err := s.SuspendAll(ctx)
		require.NoError(t, err)
		for name, mem := range bad {
			require.Error(t, s.Resume(0x4000, 4*pg, mem), name)
			require.False(t, find(s, 0x4000), name)
		}
		require.NoError(t, s.Resume(0x4000, 4*pg, translate.Bytes(ram)))
		require.True(t, find(s, 0x4000))
	})
	t.Run("odd arguments", func(t *testing.T) {
		require.NotPanics(t, func() {
			require.Error(t, s.Apply(ctx, translate.Op{}))
			require.NoError(t, s.Apply(ctx))
			require.NoError(t, s.DirtyStart())
			require.Error(t, s.DirtyGet(0x4000, 4*pg, pg, nil, true))
			require.Error(t, s.DirtyGet(0x4000, 4*pg, 0, make([]uint64, 1), true))
			require.Error(t, s.DirtyGet(0x4000, 4*pg, ^addr.Len(0), make([]uint64, 1), true))
			require.Error(t, s.DirtyGet(0, 1<<63, 1<<63, nil, true))
			s.MarkDirty(^addr.IOVA(0), ^addr.Len(0))
			s.MarkDirty(0, ^addr.Len(0))
			rd := s.NewReader()
			rd.Enter()
			require.NoError(t, rd.Read(0x4000, nil))
			require.Error(t, rd.Check(0x4000, ^addr.Len(0), rw|0x40))
			rd.Exit()
			rd.Close()
		})
	})
	t.Run("after Close", func(t *testing.T) {
		s, err := translate.New(nil)
		require.NoError(t, err)
		require.NoError(t, s.Map(0x4000, 4*pg, translate.Bytes(ram), rw))
		rd := s.NewReader()
		require.NoError(t, s.Close())
		require.NotPanics(t, func() {
			require.NoError(t, s.Close())
			rd.Enter()
			require.Error(t, rd.Read(0x4000, make([]byte, 1)))
			_, ok := rd.Lookup(0x4000)
			require.False(t, ok)
			rd.Exit()
			rd.Close()
			require.Error(t, s.Map(0x4000, 4*pg, translate.Bytes(ram), rw))
			_, _ = s.Unmap(ctx, 0x4000, 4*pg)
			_, _ = s.UnmapAll(ctx)
			_ = s.DirtyStart()
			_ = s.DirtyGet(0x4000, 4*pg, pg, make([]uint64, 1), true)
			require.Empty(t, slices.Collect(s.Mappings()))
			require.NoError(t, s.Check())
		})
	})
	t.Run("odd configurations", func(t *testing.T) {
		backwards := ranges(0x2000, 0x2fff, 0x0000, 0x0fff)
		for _, cfg := range []translate.Config{
			{MaxMappings: -1}, {PageSizes: 1}, {PageSizes: 1 << 63}, {Ranges: backwards}, {Ranges: ranges(0, 0x1fff, 0x1000, 0x2fff)},
			{Ranges: ranges(0x800, 0x17ff)}, {Deadline: -1},
		} {
			require.NotPanics(t, func() {
				if s, err := translate.New(&cfg); err == nil {
					_ = s.Map(0x1000, pg, translate.Bytes(ram), rw)
					require.NoError(t, s.Check())
					require.NoError(t, s.Close())
				}
			}, "%+v", cfg)
		}
	})
}

// C4 #16 and invariant 6: memory that vanishes under a mapping - a peer
// truncates its file, somebody munmaps - is an error of the access, not a
// signal.
func TestC4_16_VanishedMemoryIsAnError(t *testing.T) {
	fd := memfd(t, "translate-test", 4*int64(pg))
	s := open(t, nil)
	require.NoError(t, s.Map(0x10000, 3*pg, translate.File(fd, int64(pg)), rw))
	gone, err := unix.Mmap(-1, 0, int(pg), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	require.NoError(t, s.Map(0x20000, pg, translate.Process(translatetest.HVAOf(gone)), rw))
	rd := s.NewReader()
	defer rd.Close()
	rd.Enter()
	defer rd.Exit()
	require.NoError(t, rd.Write(0x10ffe, []byte("over"))) // the file, over a page's end
	var p [4]byte
	_, err = unix.Pread(fd, p[:], 2*int64(pg)-2)
	require.NoError(t, err)
	require.Equal(t, "over", string(p[:]), "the mapping is shared with the file")

	require.NoError(t, unix.Ftruncate(fd, 2*int64(pg)))
	require.NoError(t, unix.Munmap(gone))
	for name, at := range map[string]addr.IOVA{"truncated file": 0x11000, "unmapped process memory": 0x20000} {
		require.ErrorIs(t, rd.Read(at, make([]byte, 16)), errs.ErrFault, name)
		require.ErrorIs(t, rd.Write(at+8, make([]byte, 16)), errs.ErrFault, name)
	}
	require.ErrorIs(t, rd.Read(0x10ffe, p[:]), errs.ErrFault, "a read over the edge of what is left")
	require.NoError(t, rd.Read(0x10ffc, p[:]), "what is left is still there")
	require.Equal(t, "\x00\x00ov", string(p[:]))
}

// memfd is a file in memory of n bytes, open until the test ends.
func memfd(t *testing.T, name string, n int64) int {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	require.NoError(t, unix.Ftruncate(fd, n))
	return fd
}

// fileMappings counts how often this process maps a memfd of that name.
func fileMappings(t *testing.T, name string) int {
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(maps), "memfd:"+name)
}

// C4 #5, leak on partial failure, and #18, work after teardown: a file that
// the store mapped is unmapped on each way out - removal, suspension, a batch
// that fails, a Map that is refused, Close.
func TestC4_5_FileMappingsDoNotLeak(t *testing.T) {
	const name = "translate-leak"
	fd := memfd(t, name, 8*int64(pg))
	file := translate.File(fd, 0)
	ctx := context.Background()
	for name, remove := range everyRemoval {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			require.NoError(t, s.Map(0x4000, 4*pg, file, rw))
			require.NoError(t, remove(ctx, s))
			require.Zero(t, fileMappings(t, "translate-leak"))
		})
	}
	s, err := translate.New(&translate.Config{MaxMappings: 2})
	require.NoError(t, err)
	require.NoError(t, s.Map(0x4000, 4*pg, file, rw))
	require.Error(t, s.Map(0x4000, 4*pg, file, rw))
	require.Error(t, s.Apply(ctx, translate.MapOp(0x10000, pg, file, rw), translate.MapOp(0x20000, pg, file, rw)), "the table is full")
	require.NoError(t, s.Apply(ctx, translate.MapOp(0x10000, pg, file, rw), translate.UnmapOp(0x10000, pg)))
	require.Equal(t, 1, fileMappings(t, name))
	_, err = s.SuspendAll(ctx)
	require.NoError(t, err)
	require.Error(t, s.Resume(0x4000, pg, file))
	require.Zero(t, fileMappings(t, name))
	require.NoError(t, s.Resume(0x4000, 4*pg, file))
	require.Error(t, s.Resume(0x4000, 4*pg, file))
	require.Equal(t, 1, fileMappings(t, name))
	require.NoError(t, s.Close())
	require.Zero(t, fileMappings(t, name))
}

// An ID belongs to one mapping for its whole life, through suspension and
// whatever happens around it; no two mappings share one.
func TestIDsAreStableAndDistinct(t *testing.T) {
	s := open(t, nil)
	mem := translate.Process(0x7000_0000)
	ctx := context.Background()
	ids := map[addr.IOVA]uint32{}
	verify := func() {
		t.Helper()
		seen := map[uint32]addr.IOVA{}
		n := 0
		for m := range s.Mappings() {
			n++
			require.Equal(t, ids[m.Range.Start()], m.ID, "the ID of %v changed", m.Range)
			other, dup := seen[m.ID]
			require.False(t, dup, "%v and %v have one ID", other, m.Range)
			seen[m.ID] = m.Range.Start()
		}
		require.Len(t, ids, n)
	}
	learn := func() {
		for m := range s.Mappings() {
			if _, ok := ids[m.Range.Start()]; !ok {
				ids[m.Range.Start()] = m.ID
			}
		}
	}
	for round := range 6 {
		for i := range 40 {
			at := addr.IOVA(round*40+i) << (12 + round*5)
			if err := s.Map(at, pg, mem, rw); err == nil {
				learn()
			}
		}
		verify()
		gone := 0
		for at := range ids {
			if gone++; gone%3 == round%3 {
				_, err := s.Unmap(ctx, at, pg)
				require.NoError(t, err)
				delete(ids, at)
			}
		}
		verify()
		_, err := s.SuspendAll(ctx)
		require.NoError(t, err)
		verify()
		for at := range ids {
			require.NoError(t, s.Resume(at, pg, mem))
		}
		verify()
		require.ErrorIs(t, s.Apply(ctx, translate.MapOp(1<<50, pg, mem, r), translate.UnmapOp(0, 1<<40), translate.MapOp(1, pg, mem, r)), errs.ErrMisaligned)
		verify()
	}
}
