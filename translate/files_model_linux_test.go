package translate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// Model: files that grow and shrink, mappings of them that come and go, in a
// store that has little room for windows. After each step every mapping shows
// its own page of its own file, or that there is none; what a file may not be
// mapped for is refused; and the process has no more areas than the store says.
func TestFilesAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &closer{TB: t, rt: rt}
		defer c.close()
		newFilesModel(rt, c).run()
	})
}

const (
	modelSlots = 24 // mappings, at multiples of 1 MiB
	modelPages = 12 // of a file, at most
)

type filesModel struct {
	rt    *rapid.T
	t     *closer
	s     *translate.Store
	rd    *translate.Reader
	files []int // descriptors
	pages []int // sizes
	ro    []int // descriptors for reading only
	maps  [modelSlots]*fileMapping
}

type fileMapping struct {
	file, page, pages int
	access            addr.Access
}

func newFilesModel(rt *rapid.T, c *closer) *filesModel {
	cfg := &translate.Config{
		MaxFileWindows: rapid.SampledFrom([]int{2, 5, 1000}).Draw(rt, "windows"),
		MaxFileSpace:   rapid.SampledFrom([]addr.Len{0, 16 * pg, 40 * pg, 8 << 20}).Draw(rt, "space"),
	}
	s, err := translate.New(cfg)
	require.NoError(c, err)
	m := &filesModel{rt: rt, t: c, s: s, rd: s.NewReader()}
	c.Cleanup(func() {
		m.rd.Close()
		require.NoError(c, s.Close())
		require.Empty(c, areas(c, "translate-model"))
	})
	for range 3 {
		fd, err := unix.MemfdCreate("translate-model", unix.MFD_CLOEXEC)
		require.NoError(c, err)
		ro, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(c, err)
		m.files, m.ro, m.pages = append(m.files, fd), append(m.ro, ro), append(m.pages, 0)
		c.Cleanup(func() { require.NoError(c, errors.Join(unix.Close(fd), unix.Close(ro))) })
	}
	return m
}

func (m *filesModel) run() {
	m.rt.Repeat(map[string]func(*rapid.T){
		"": m.compare,
		"map": func(rt *rapid.T) {
			m.mapFile(rt, rapid.SampledFrom([]addr.Access{r, w, rw}).Draw(rt, "access"), false)
		},
		"map by what is for reading": func(rt *rapid.T) {
			m.mapFile(rt, rapid.SampledFrom([]addr.Access{r, r, rw}).Draw(rt, "access"), true)
		},
		"unmap": func(rt *rapid.T) {
			i := rapid.IntRange(0, modelSlots-1).Draw(rt, "slot")
			n := rapid.IntRange(1, 4).Draw(rt, "slots")
			_, err := m.s.Unmap(context.Background(), addr.IOVA(i)<<20, addr.Len(n)<<20)
			require.NoError(rt, err)
			for ; n > 0 && i < modelSlots; i, n = i+1, n-1 {
				m.maps[i] = nil
			}
		},
		"resize": func(rt *rapid.T) {
			file := rapid.IntRange(0, len(m.files)-1).Draw(rt, "file")
			pages := rapid.IntRange(0, modelPages).Draw(rt, "pages")
			require.NoError(rt, unix.Ftruncate(m.files[file], int64(pages)*int64(pg)))
			for i := m.pages[file]; i < pages; i++ {
				_, err := unix.Pwrite(m.files[file], binary.NativeEndian.AppendUint32(nil, tag(file, i)), int64(i)*int64(pg))
				require.NoError(rt, err)
			}
			m.pages[file] = pages
		},
	})
}

// tag is what page i of a file begins with.
func tag(file, i int) uint32 { return uint32(file+1)<<16 | uint32(i) }

func (m *filesModel) mapFile(rt *rapid.T, access addr.Access, ro bool) {
	x := &fileMapping{
		file:   rapid.IntRange(0, len(m.files)-1).Draw(rt, "file"),
		page:   rapid.IntRange(0, modelPages-1).Draw(rt, "page"),
		pages:  rapid.IntRange(1, 4).Draw(rt, "pages"),
		access: access,
	}
	i := rapid.IntRange(0, modelSlots-1).Draw(rt, "slot")
	fd := m.files[x.file]
	if ro {
		fd = m.ro[x.file]
	}
	before := m.s.Files()
	err := m.s.Map(addr.IOVA(i)<<20, addr.Len(x.pages)*pg, translate.File(fd, int64(x.page)*int64(pg)), access)
	switch {
	case m.maps[i] != nil:
		require.ErrorIs(rt, err, errs.ErrExists)
	case errors.Is(err, errs.ErrNoSpace):
		// The limits are the store's affair; that there is a mapping of the
		// same bytes already rules them out.
		for _, y := range m.maps {
			require.False(rt, y != nil && y.file == x.file && y.access.Allows(w) == access.Allows(w) &&
				y.page <= x.page && x.page+x.pages <= y.page+y.pages, "%+v needs no window beside %+v", x, y)
		}
	case ro && access.Allows(w):
		require.ErrorIs(rt, err, unix.EACCES)
	default:
		require.NoError(rt, err)
		m.maps[i] = x
		return
	}
	require.Equal(rt, before, m.s.Files())
}

func (m *filesModel) compare(rt *rapid.T) {
	require.NoError(rt, m.s.Check())
	needed := map[fileMapping]bool{}
	for i, x := range m.maps {
		at := addr.IOVA(i) << 20
		if x == nil {
			require.ErrorIs(rt, m.rd.Check(at, 1, r), errs.ErrNotMapped)
			continue
		}
		needed[fileMapping{file: x.file, access: x.access & w}] = true
		for k := range x.pages {
			var p [4]byte
			err := m.rd.Read(at+addr.IOVA(k)*addr.IOVA(pg), p[:])
			switch {
			case x.access == w:
				require.ErrorIs(rt, err, errs.ErrPermission)
			case x.page+k >= m.pages[x.file]:
				require.ErrorIs(rt, err, errs.ErrFault)
			default:
				require.NoError(rt, err)
				require.Equal(rt, tag(x.file, x.page+k), binary.NativeEndian.Uint32(p[:]), "slot %d, page %d of %+v", i, k, x)
			}
		}
	}
	have := m.s.Files().Windows
	require.GreaterOrEqual(rt, have, len(needed))
	sum := 0
	for _, n := range areas(m.t, "translate-model") { // neighbours may be one
		sum += n
	}
	require.LessOrEqual(rt, sum, have)
}
