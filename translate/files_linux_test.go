package translate_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
	"github.com/softmdev/softmdev/translate/translatetest"
)

// filePages is a memfd whose page i begins with the number i.
func filePages(t *testing.T, name string, pages int) int {
	fd := memfd(t, name, int64(pages)*int64(pg))
	for i := range pages {
		_, err := unix.Pwrite(fd, binary.NativeEndian.AppendUint32(nil, uint32(i)), int64(i)*int64(pg))
		require.NoError(t, err)
	}
	return fd
}

// areas are the lines of /proc/self/maps that name that memfd, by protection.
func areas(t testing.TB, name string) map[string]int {
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	n := map[string]int{}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "memfd:"+name+" ") {
			n[strings.Fields(line)[1]]++
		}
	}
	return n
}

// reopen is another description of the file of fd.
func reopen(t *testing.T, fd, flags int) int {
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(again)) })
	return again
}

func descriptors(t *testing.T) int {
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(fds)
}

// As many mappings as a container may have, of single pages of one file: one
// area of memory, no descriptor, and each leads to its own page. When the last
// one goes, so does the area, and not before.
func TestFileOfManyMappings(t *testing.T) {
	const n, name = translate.DefaultMaxMappings, "translate-many"
	// A page of content for each would be 256 MiB of memory; every 64th will
	// do.
	fd := memfd(t, name, n*int64(pg))
	for i := 0; i < n; i += 64 {
		_, err := unix.Pwrite(fd, binary.NativeEndian.AppendUint32(nil, uint32(i)), int64(i)*int64(pg))
		require.NoError(t, err)
	}
	s := open(t, nil)
	fds := descriptors(t)
	at := func(i int) addr.IOVA { return addr.IOVA(i) * 2 << addr.PageShift }
	page := func(i int) int64 { return int64(i*4099%n) * int64(pg) } // 4099 is prime
	for i := range n {
		require.NoError(t, s.Map(at(i), pg, translate.File(fd, page(i)), rw))
	}
	require.ErrorIs(t, s.Map(at(n), pg, translate.File(fd, 0), rw), errs.ErrNoSpace)
	require.Equal(t, fds, descriptors(t))
	require.Equal(t, map[string]int{"rw-s": 1}, areas(t, name))
	require.Equal(t, translate.FileStats{Windows: 1, Space: 256 << 20}, s.Files())
	rd := s.NewReader()
	defer rd.Close()
	var p [4]byte
	for i := range n {
		if page(i)/int64(pg)%64 == 0 {
			require.NoError(t, rd.Read(at(i), p[:]))
			require.Equal(t, uint32(page(i)/int64(pg)), binary.NativeEndian.Uint32(p[:]))
		}
	}
	require.NoError(t, s.Check())
	size, err := s.Unmap(context.Background(), at(1), addr.Len(at(n)-at(1))) // all but the first
	require.NoError(t, err)
	require.Equal(t, (n-1)*pg, size)
	require.Equal(t, map[string]int{"rw-s": 1}, areas(t, name))
	require.NoError(t, rd.Read(at(0), p[:]))
	_, err = s.Unmap(context.Background(), at(0), pg)
	require.NoError(t, err)
	require.Empty(t, areas(t, name))
	require.Zero(t, s.Files())
}

// What a file is, is what the kernel says: however it was opened, and wherever
// in it a mapping lies, one window serves it, but not one that may be written
// those that may not.
func TestFileWindowsAreShared(t *testing.T) {
	ctx := context.Background()
	fd := filePages(t, "translate-shared", 8)
	other := filePages(t, "translate-shared", 8)
	dup, err := unix.Dup(fd)
	require.NoError(t, err)
	s := open(t, nil)
	require.NoError(t, s.Map(0x10000, 2*pg, translate.File(fd, 0), rw))
	require.NoError(t, s.Map(0x20000, 4*pg, translate.File(dup, int64(pg)), rw))
	require.NoError(t, unix.Close(dup))
	require.NoError(t, s.Map(0x30000, pg, translate.File(reopen(t, fd, unix.O_RDWR), 7*int64(pg)), w))
	require.Equal(t, map[string]int{"rw-s": 1}, areas(t, "translate-shared"))
	require.NoError(t, s.Map(0x40000, pg, translate.File(fd, int64(pg)), r))
	require.NoError(t, s.Map(0x50000, pg, translate.File(reopen(t, fd, unix.O_RDONLY), 0), r))
	require.Equal(t, map[string]int{"rw-s": 1, "r--s": 1}, areas(t, "translate-shared"))
	require.NoError(t, s.Map(0x60000, pg, translate.File(other, int64(pg)), rw))
	require.Equal(t, map[string]int{"rw-s": 2, "r--s": 1}, areas(t, "translate-shared"), "another file of that name")

	rd := s.NewReader()
	defer rd.Close()
	require.NoError(t, rd.Write(0x20000, []byte("page one")))
	p := make([]byte, 8)
	for _, iova := range []addr.IOVA{0x11000, 0x40000} {
		require.NoError(t, rd.Read(iova, p))
		require.Equal(t, "page one", string(p))
	}
	require.NoError(t, rd.Read(0x60000, p[:4]))
	require.Equal(t, uint32(1), binary.NativeEndian.Uint32(p), "the other file was not written")
	require.ErrorIs(t, rd.Write(0x40000, p), errs.ErrPermission)

	_, err = s.Unmap(ctx, 0x10000, 0x20000)
	require.NoError(t, err)
	_, err = s.Unmap(ctx, 0x60000, pg)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"rw-s": 1, "r--s": 1}, areas(t, "translate-shared"))
	_, err = s.SuspendAll(ctx)
	require.NoError(t, err)
	require.Empty(t, areas(t, "translate-shared"))
	require.NoError(t, s.Resume(0x30000, pg, translate.File(other, 0)))
	require.Equal(t, map[string]int{"rw-s": 1}, areas(t, "translate-shared"), "as the access of the mapping asks for")
}

// The rights of a descriptor and the seals of a file count for each mapping,
// whatever window is there already: the errors are those of mmap(2) without
// one.
func TestFileRights(t *testing.T) {
	ro, rwx, wo, path := unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY, unix.O_PATH
	for _, tt := range []struct {
		name  string
		flags int // of the descriptor
		seals int // of the file
		r, rw error
	}{
		{"mmap(2): read and write", rwx, 0, nil, nil},
		{"mmap(2) EACCES: MAP_SHARED and PROT_WRITE, not open in O_RDWR", ro, 0, nil, unix.EACCES},
		{"mmap(2) EACCES: a file mapping of what is not open for reading", wo, 0, unix.EACCES, unix.EACCES},
		{"open(2) O_PATH: mmap fails with EBADF", path, 0, unix.EBADF, unix.EBADF},
		{"memfd_create(2): F_SEAL_FUTURE_WRITE", rwx, unix.F_SEAL_FUTURE_WRITE, nil, unix.EPERM},
		{"F_SEAL_FUTURE_WRITE, open for reading", ro, unix.F_SEAL_FUTURE_WRITE, nil, unix.EACCES},
		{"F_SEAL_SHRINK and F_SEAL_GROW forbid no mapping", rwx, unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, shared := range []bool{false, true} {
				fd, err := unix.MemfdCreate("translate-rights", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
				require.NoError(t, unix.Ftruncate(fd, 4*int64(pg)))
				s := open(t, nil)
				if shared {
					require.NoError(t, s.Map(0x1000, pg, translate.File(fd, 0), rw))
					require.NoError(t, s.Map(0x2000, pg, translate.File(fd, 0), r))
				}
				_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, tt.seals)
				require.NoError(t, err)
				again := reopen(t, fd, tt.flags)
				for access, want := range map[addr.Access]error{r: tt.r, w: tt.rw, rw: tt.rw} {
					err := s.Map(0x8000, pg, translate.File(again, 0), access)
					if want == nil {
						require.NoError(t, err, "%v, a window is there: %v", access, shared)
						_, err = s.Unmap(context.Background(), 0x8000, pg)
						require.NoError(t, err)
						continue
					}
					require.ErrorIs(t, err, want, "%v, a window is there: %v", access, shared)
				}
			}
		})
	}
	t.Run("F_SEAL_WRITE, which no window that may be written survives", func(t *testing.T) {
		fd, err := unix.MemfdCreate("translate-rights", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
		require.NoError(t, unix.Ftruncate(fd, 4*int64(pg)))
		s := open(t, nil)
		require.NoError(t, s.Map(0x1000, pg, translate.File(fd, 0), rw))
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
		require.ErrorIs(t, err, unix.EBUSY)
		_, err = s.Unmap(context.Background(), 0x1000, pg)
		require.NoError(t, err)
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
		require.NoError(t, err)
		require.ErrorIs(t, s.Map(0x1000, pg, translate.File(fd, 0), rw), unix.EPERM)
		if err := s.Map(0x1000, pg, translate.File(fd, 0), r); err != nil {
			require.ErrorIs(t, err, unix.EPERM)
			t.Skip("Linux before 6.7 lets nobody map a file shared that is sealed against writing")
		}
		require.NoError(t, s.Map(0x2000, pg, translate.File(fd, 0), r))
	})
}

// A window passes the end of the file: what is there later is seen through it.
// A file that outgrows its window gets another one, twice as large at least,
// and the old one goes with its mappings.
func TestFileGrows(t *testing.T) {
	const name = "translate-grow"
	fd := memfd(t, name, 0)
	s := open(t, nil)
	rd := s.NewReader()
	defer rd.Close()
	require.NoError(t, s.Map(0, 2*pg, translate.File(fd, 0), rw))
	require.ErrorIs(t, rd.Write(0, []byte{1}), errs.ErrFault, "the file is empty")
	require.NoError(t, unix.Ftruncate(fd, int64(pg)))
	require.NoError(t, rd.Write(0, []byte{1}))
	require.ErrorIs(t, rd.Write(addr.IOVA(pg), []byte{1}), errs.ErrFault)

	const pages = 64 << 20 >> addr.PageShift
	for i := 2; i < pages; i++ { // page by page
		require.NoError(t, unix.Ftruncate(fd, int64(i+1)*int64(pg)))
		require.NoError(t, s.Map(addr.IOVA(i)<<addr.PageShift, pg, translate.File(fd, int64(i)*int64(pg)), rw))
	}
	require.NoError(t, rd.Write((pages-1)<<addr.PageShift, []byte{7}))
	var p [1]byte
	_, err := unix.Pread(fd, p[:], (pages-1)*int64(pg))
	require.NoError(t, err)
	require.Equal(t, byte(7), p[0])
	require.Equal(t, 6, s.Files().Windows, "2, 4, 8, 16, 32 and 64 MiB")
	_, err = s.Unmap(context.Background(), 0, 33<<20)
	require.NoError(t, err)
	require.Equal(t, translate.FileStats{Windows: 1, Space: 64 << 20}, s.Files())
}

// A sparse file stays as it is, and a store takes a bounded part of the address
// space for it, however long it claims to be.
func TestFileSparse(t *testing.T) {
	const name = "translate-sparse"
	fd := memfd(t, name, 1<<62)
	s := open(t, nil)
	rd := s.NewReader()
	defer rd.Close()
	for i := range 16 {
		require.NoError(t, s.Map(addr.IOVA(i)<<20, pg, translate.File(fd, int64(i)<<50), rw))
	}
	require.NoError(t, s.Map(1<<40, 1<<40, translate.File(fd, 1<<58), r))
	require.Equal(t, translate.FileStats{Windows: 17, Space: 16<<36 + 1<<40}, s.Files())
	require.ErrorIs(t, s.Map(1<<44, 1<<42, translate.File(fd, 0), rw), errs.ErrNoSpace)
	require.NoError(t, s.Map(1<<44, 1<<40, translate.File(fd, 1<<61), rw))
	require.NoError(t, s.Map(1<<45, 1<<40-pg, translate.File(fd, 1<<57+2*int64(pg)), rw), "a window that just fits")
	require.NoError(t, s.Map(1<<46, pg, translate.File(fd, 1<<60), rw), "the last page of the store's address space")
	require.ErrorIs(t, s.Map(1<<47, pg, translate.File(fd, 1<<59), rw), errs.ErrNoSpace)
	require.NoError(t, s.Map(1<<47, pg, translate.File(fd, 1<<60), rw), "which others may share")
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st))
	require.Zero(t, st.Blocks, "nothing was made")
	require.Equal(t, int64(1<<62), st.Size)
	require.NoError(t, rd.Write(3<<20, []byte{1}))
	require.NoError(t, unix.Fstat(fd, &st))
	require.LessOrEqual(t, st.Blocks, int64(pg)/512)
	require.NotZero(t, st.Blocks, "but what was written")
}

// The number of windows is bounded too, for a process has few areas and dies
// without: files that are many fail, and room is there again when some go.
func TestFileWindowsAreBounded(t *testing.T) {
	s := open(t, &translate.Config{MaxFileWindows: 3})
	var fds []int
	for range 4 {
		fds = append(fds, filePages(t, "translate-bounded", 1))
	}
	for i, fd := range fds {
		err := s.Map(addr.IOVA(i)<<addr.PageShift, pg, translate.File(fd, 0), rw)
		if i < 3 {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, errs.ErrNoSpace)
		require.ErrorContains(t, err, "iova 0x3000: map file: 3 windows: no space left")
	}
	require.NoError(t, s.Map(0x10000, pg, translate.File(fds[0], 0), rw), "a window that is there")
	require.ErrorIs(t, s.Map(0x11000, pg, translate.File(fds[0], 0), r), errs.ErrNoSpace, "another protection")
	_, err := s.Unmap(context.Background(), 0x1000, pg)
	require.NoError(t, err)
	require.NoError(t, s.Map(0x11000, pg, translate.File(fds[0], 0), r))

	_, err = translate.New(&translate.Config{MaxFileWindows: -1})
	require.ErrorIs(t, err, errs.ErrInvalid)
	tiny := open(t, &translate.Config{MaxFileSpace: 2 * pg})
	require.NoError(t, tiny.Map(0, 2*pg, translate.File(fds[0], 0), rw))
	require.ErrorIs(t, tiny.Map(0x10000, pg, translate.File(fds[1], 0), rw), errs.ErrNoSpace)
	_, err = tiny.UnmapAll(context.Background())
	require.NoError(t, err)
	require.NoError(t, tiny.Map(0x10000, pg, translate.File(fds[1], 0), rw))
	all := open(t, &translate.Config{MaxFileSpace: ^addr.Len(0)})
	require.ErrorIs(t, all.Map(0, 1<<62, translate.File(fds[1], 0), rw), unix.ENOMEM, "the kernel's limit")
	require.NoError(t, all.Map(0, pg, translate.File(fds[1], 0), rw))
}

// A file in huge pages is mapped in whole ones, wherever the mapping lies, and
// is not changed by that: its length stays, and no page is reserved.
func TestFileInHugePages(t *testing.T) {
	const huge = 2 << 20
	fd, err := unix.MemfdCreate("translate-huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err != nil {
		t.Skipf("no files in huge pages: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	require.NoError(t, unix.Ftruncate(fd, 2*huge))
	length := func() int64 {
		var st unix.Stat_t
		require.NoError(t, unix.Fstat(fd, &st))
		return st.Size
	}
	free := func(what string) string {
		b, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/" + what)
		require.NoError(t, err)
		return string(b)
	}
	reserved := free("resv_hugepages")
	for name, cfg := range map[string]*translate.Config{"generous": nil, "tight": {MaxFileSpace: 4 * huge}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cfg)
			require.NoError(t, s.Map(0x10000, pg, translate.File(fd, huge-int64(pg)), rw))
			require.NoError(t, s.Map(0x20000, pg, translate.File(fd, 0), rw))
			require.Equal(t, 1, s.Files().Windows)
			require.NoError(t, s.Map(0x30000, 2*pg, translate.File(fd, 3*huge-int64(pg)), rw), "beyond the end, over the edge of a page")
			require.NoError(t, s.Map(0x40000, pg, translate.File(fd, int64(pg)), r))
			require.Equal(t, int64(2*huge), length())
			require.Equal(t, reserved, free("resv_hugepages"))
			rd := s.NewReader()
			defer rd.Close()
			require.ErrorIs(t, rd.Write(0x31000, []byte{1}), errs.ErrFault)
			err := rd.Write(0x10ff8, []byte("hugepage"))
			if err != nil {
				require.ErrorIs(t, err, errs.ErrFault)
				require.Equal(t, "0\n", free("free_hugepages"), "a page is free and does not come")
				t.Log("no huge page is free: what they hold is not looked at")
				return
			}
			p := make([]byte, 8)
			mem, err := unix.Mmap(fd, 0, huge, unix.PROT_READ, unix.MAP_SHARED)
			require.NoError(t, err)
			defer func() { require.NoError(t, unix.Munmap(mem)) }()
			copy(p, mem[huge-8:])
			require.Equal(t, "hugepage", string(p))
		})
	}
	t.Run("where a window just fits", func(t *testing.T) {
		s := open(t, &translate.Config{MaxFileSpace: 10 * huge})
		require.NoError(t, s.Map(1<<32, 17<<20, translate.File(memfd(t, "translate-fill", 0), 0), rw))
		require.NoError(t, s.Map(0x10000, pg, translate.File(fd, huge+int64(pg)), rw))
		require.Equal(t, translate.FileStats{Windows: 2, Space: 17<<20 + huge}, s.Files())
		require.Equal(t, int64(2*huge), length())
	})
}

// What is no regular file has no identity: each mapping of /dev/zero is memory
// of its own, though device and inode are the same.
func TestFileOfADevice(t *testing.T) {
	zero, err := unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(zero)) })
	s := open(t, nil)
	require.NoError(t, s.Map(0x1000, pg, translate.File(zero, 0), rw))
	require.NoError(t, s.Map(0x2000, pg, translate.File(zero, 0), rw))
	require.Equal(t, translate.FileStats{Windows: 2, Space: 2 * pg}, s.Files())
	rd := s.NewReader()
	defer rd.Close()
	require.NoError(t, rd.Write(0x1000, []byte("one")))
	p := make([]byte, 3)
	require.NoError(t, rd.Read(0x2000, p))
	require.Equal(t, []byte{0, 0, 0}, p)
	require.ErrorIs(t, s.Map(0x3000, pg, translate.File(int(openDir(t).Fd()), 0), r), unix.ENODEV)
	var pipe [2]int
	require.NoError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	require.ErrorIs(t, s.Map(0x3000, pg, translate.File(pipe[0], 0), r), unix.ENODEV)
	require.NoError(t, unix.Close(pipe[0]))
	require.NoError(t, unix.Close(pipe[1]))
	require.ErrorIs(t, s.Map(0x3000, pg, translate.File(pipe[0], 0), r), unix.EBADF)
	require.ErrorIs(t, s.Apply(context.Background(), translate.MapOp(0x3000, pg, translate.File(zero, 0), r),
		translate.MapOp(0x4000, pg, translate.File(pipe[0], 0), r)), unix.EBADF)
	require.Equal(t, 2, s.Files().Windows)
}

func openDir(t *testing.T) *os.File {
	d, err := os.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// A peer truncates the file and lets it grow again while readers read and
// write, and while mappings of it come and go: errors of the accesses, no
// signal, and nothing stays behind.
func TestFileTruncatedByAPeer(t *testing.T) {
	const name, pages = "translate-truncated", 64
	fd := filePages(t, name, pages)
	s := open(t, nil)
	for i := range pages / 2 {
		require.NoError(t, s.Map(addr.IOVA(i)<<addr.PageShift, pg, translate.File(fd, int64(i)*int64(pg)), rw))
	}
	require.NoError(t, s.Map(0x100_0000, pages*pg, translate.File(fd, 0), rw))
	var stop atomic.Bool
	var wg sync.WaitGroup
	var faults, good atomic.Int64
	for k := range 3 {
		wg.Go(func() {
			rd := s.NewReader()
			defer rd.Close()
			p := make([]byte, 2*pg)
			for i := k; !stop.Load(); i++ {
				runtime.Gosched()
				at := addr.IOVA(i*7%(pages/2-1)) << addr.PageShift
				if k == 2 {
					at = 0x100_0000 + addr.IOVA(i*5%(pages-1))<<addr.PageShift
				}
				err := rd.Read(at, p)
				if i%3 == 0 && err == nil {
					err = rd.Write(at+addr.IOVA(pg)-8, p[:16])
				}
				if err != nil {
					require.ErrorIs(t, err, errs.ErrFault)
					faults.Add(1)
				} else {
					good.Add(1)
				}
			}
		})
	}
	more := func(n *atomic.Int64) {
		for from := n.Load(); n.Load() < from+3; {
			time.Sleep(10 * time.Microsecond)
		}
	}
	for i := range 50 {
		at := addr.IOVA(0x200_0000)
		require.NoError(t, s.Map(at, pg, translate.File(fd, int64(i)*int64(pg)), rw))
		require.NoError(t, unix.Ftruncate(fd, int64(i*11%pages)*int64(pg)))
		more(&faults)
		_, err := s.Unmap(context.Background(), at, pg)
		require.NoError(t, err)
		require.NoError(t, unix.Ftruncate(fd, pages*int64(pg)))
		more(&good)
	}
	stop.Store(true)
	wg.Wait()
	require.Equal(t, 1, s.Files().Windows)
	require.NoError(t, s.Close())
	require.Empty(t, areas(t, name))
}

// A mapping that goes while its file stays mapped for others: nobody touches
// it through the store any more, though the memory is still there.
func TestFileUnmappedWhileOthersStay(t *testing.T) {
	fd := filePages(t, "translate-stay", 4)
	s := open(t, nil)
	require.NoError(t, s.Map(0x1000, pg, translate.File(fd, 0), rw))
	require.NoError(t, s.Map(0x8000, pg, translate.File(fd, 0), rw))
	rd := s.NewReader()
	defer rd.Close()
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		rd := s.NewReader()
		defer rd.Close()
		for !stop.Load() {
			_ = rd.Write(0x1000, []byte("x"))
		}
	})
	for range 200 {
		_, err := s.Unmap(context.Background(), 0x1000, pg)
		require.NoError(t, err)
		_, err = unix.Pwrite(fd, []byte("-"), 0)
		require.NoError(t, err)
		for range 10 {
			var p [1]byte
			require.NoError(t, rd.Read(0x8000, p[:]))
			require.Equal(t, "-", string(p[:]), "written after Unmap returned")
		}
		require.NoError(t, s.Map(0x1000, pg, translate.File(fd, 0), rw))
	}
	stop.Store(true)
	wg.Wait()
}

// Fail-the-nth over a batch that shares a window, makes one, and replaces the
// last mapping of a third: whichever step fails, nothing has changed, and no
// descriptor and no memory stays.
func TestFileFailTheNth(t *testing.T) {
	a, b, c := filePages(t, "translate-nth", 4), filePages(t, "translate-nth", 4), filePages(t, "translate-nth", 4)
	fds := descriptors(t)
	points := fault.Sweep(t, func(p *fault.Points) error {
		s, err := translate.New(&translate.Config{Fault: p})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		rd := s.NewReader()
		defer rd.Close()
		for i, fd := range []int{a, c} {
			if err := s.Map(addr.IOVA(i)*0x1000, pg, translate.File(fd, int64(pg)), rw); err != nil {
				require.Equal(t, i, s.Files().Windows)
				return err
			}
		}
		err = s.Apply(context.Background(),
			translate.MapOp(0x10000, 2*pg, translate.File(a, 2*int64(pg)), rw),
			translate.MapOp(0x20000, pg, translate.File(b, 2*int64(pg)), rw),
			translate.UnmapOp(0x1000, pg),
			translate.MapOp(0x1000, pg, translate.File(b, 3*int64(pg)), rw))
		require.NoError(t, s.Check())
		want := uint32(3)
		if err != nil {
			want = 1
			require.Equal(t, errs.ErrNotMapped, translatetest.Sentinel(rd.Check(0x10000, 1, r)))
			require.Equal(t, errs.ErrNotMapped, translatetest.Sentinel(rd.Check(0x20000, 1, r)))
		}
		require.Equal(t, 2, s.Files().Windows)
		var buf [4]byte
		require.NoError(t, rd.Read(0x1000, buf[:]))
		require.Equal(t, want, binary.NativeEndian.Uint32(buf[:]))
		if err != nil {
			return err
		}
		_, err = s.SuspendAll(context.Background())
		require.NoError(t, err)
		require.Zero(t, s.Files())
		err = s.Resume(0x1000, pg, translate.File(c, 0))
		require.Equal(t, err == nil, rd.Check(0x1000, 1, r) == nil)
		return err
	}, func() {
		require.Empty(t, areas(t, "translate-nth"))
		require.Equal(t, fds, descriptors(t))
	})
	require.Subset(t, points, []string{"file stat", "file flags", "file window"})
}

// Neither does a map and unmap of pages of a file that is mapped allocate.
func TestFileNoAllocations(t *testing.T) {
	fd := filePages(t, "translate-allocs", 4)
	s := open(t, nil)
	require.NoError(t, s.Map(0x1000, pg, translate.File(fd, 0), rw))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := s.Map(0x8000, pg, translate.File(fd, int64(pg)), rw); err != nil {
			t.Error(err)
		}
		if _, err := s.Unmap(context.Background(), 0x8000, pg); err != nil {
			t.Error(err)
		}
	}))
}

// Whatever was there before at an inode number, a mapping shows its own file:
// numbers are used again as soon as a file is gone.
func TestFileNumbersAreUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil)
	rd := s.NewReader()
	defer rd.Close()
	seen := map[uint64]bool{}
	again := 0
	for i := range 50 {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		require.NoError(t, err)
		require.NoError(t, os.Remove(f.Name()))
		_, err = f.Write(bytes.Repeat([]byte{byte(i)}, int(pg)))
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Fstat(int(f.Fd()), &st))
		if seen[st.Ino] {
			again++
		}
		seen[st.Ino] = true
		at := addr.IOVA(i) << addr.PageShift
		require.NoError(t, s.Map(at, pg, translate.File(int(f.Fd()), 0), rw))
		require.NoError(t, f.Close())
		for j := max(0, i-3); j <= i; j++ {
			var p [1]byte
			require.NoError(t, rd.Read(addr.IOVA(j)<<addr.PageShift, p[:]))
			require.Equal(t, byte(j), p[0])
		}
		if i >= 3 {
			_, err := s.Unmap(context.Background(), at-0x3000, pg)
			require.NoError(t, err)
		}
	}
	t.Logf("%d of 50 files had the number of an earlier one", again)
}
