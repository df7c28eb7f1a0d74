package ccwdev_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/ccwdev"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/ccw/unit"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/registry"
)

// openFiles is how many descriptors this process has.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd: ", err)
	}
	return len(list)
}

// A device of each type tells who it is, through the regions.
func TestTypes(t *testing.T) {
	dir := t.TempDir()
	cards, tape := filepath.Join(dir, "deck"), filepath.Join(dir, "tape.aws")
	require.NoError(t, os.WriteFile(cards, make([]byte, 3*unit.CardSize), 0o600))
	require.NoError(t, os.WriteFile(tape, nil, 0o600))
	before := openFiles(t)
	for _, tt := range []struct {
		typ   string
		attrs []registry.Attr
		id    string
	}{
		{"ccw-3390", []registry.Attr{attr("image", ckdImage(t))}, "ff3990c2339002"},
		{"ccw-fba", []registry.Attr{attr("image", rawImage(t, 64))}, "ff370010337000"},
		{"ccw-3215", nil, "ff321500321500"},
		{"ccw-3505", []registry.Attr{attr("image", cards)}, "ff28210135050 1"},
		{"ccw-1403", []registry.Attr{attr("output", filepath.Join(dir, "paper"))}, "ff28210114030 1"},
		{"ccw-3490", []registry.Attr{attr("image", tape)}, "ff349050349050"},
	} {
		t.Run(tt.typ, func(t *testing.T) {
			d, err := ccwdev.NewOf(tt.typ, "", append(tt.attrs, attr("devno", "0x1A2b"), attr("byte-order", "big")))
			require.NoError(t, err)
			v := newVM(t, d, binary.BigEndian, nil).ram()
			irb := v.run(c(cio.SenseID, sli, 7, dataAt))
			ended(t, irb)
			id := v.mem[dataAt:][:7]
			require.EqualValues(t, 0xFF, id[0])
			typ := fmt.Sprintf("%02x%02x", id[4], id[5])
			if tt.typ == "ccw-fba" {
				require.Equal(t, "3370", typ)
			} else {
				require.Equal(t, tt.typ[4:], typ)
			}
			require.EqualValues(t, 0x1A2B, binary.BigEndian.Uint16(v.read(ccw.RegionSCHIB)[6:]))
			v.close()
			d.Destroy()
		})
	}
	require.Equal(t, before, openFiles(t), "files that nobody closed")
}

// What is wrong with an attribute is said, with EINVAL, and nothing stays
// open.
func TestAttributes(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("no image at all, only some text\n"), 0o600))
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	before := openFiles(t)
	for _, tt := range []struct {
		typ   string
		attrs []registry.Attr
		errno syscall.Errno
		want  string
	}{
		{"ccw-3390", nil, syscall.EINVAL, "attribute image: a ccw-3390 needs one"},
		{"ccw-fba", []registry.Attr{attr("image", "")}, syscall.EINVAL, "attribute image: want a path"},
		{"ccw-3390", []registry.Attr{attr("image", filepath.Join(dir, "none"))}, syscall.ENOENT, "none: no such file"},
		{"ccw-3390", []registry.Attr{attr("image", dir)}, syscall.EINVAL, "image: "},
		{"ccw-3390", []registry.Attr{attr("image", text)}, syscall.EINVAL, text},
		{"ccw-fba", []registry.Attr{attr("image", text)}, syscall.EINVAL, text},
		{"ccw-3490", []registry.Attr{attr("image", text)}, syscall.EINVAL, "image: "},
		{"ccw-3505", []registry.Attr{attr("image", filepath.Join(dir, "none"))}, syscall.ENOENT, "none"},
		{"ccw-3390", []registry.Attr{attr("image", pipe)}, syscall.EINVAL, "pipe: not a regular file"},
		{"ccw-fba", []registry.Attr{attr("image", pipe), attr("readonly", "on")}, syscall.EINVAL, "pipe: not a regular file"},
		{"ccw-3490", []registry.Attr{attr("image", pipe)}, syscall.EINVAL, "pipe: not a regular file"},
		{"ccw-3505", []registry.Attr{attr("image", pipe)}, syscall.EINVAL, "pipe: not a regular file"},
		{"ccw-1403", []registry.Attr{attr("output", pipe)}, syscall.ENXIO, "output: "},
		{"ccw-1403", []registry.Attr{attr("output", dir)}, syscall.EISDIR, "output: "},
		{"ccw-3215", []registry.Attr{attr("output", filepath.Join(dir, "x")), attr("input", filepath.Join(dir, "none"))}, syscall.ENOENT, "input: "},
		{"ccw-3215", []registry.Attr{attr("image", "x")}, syscall.EINVAL, `attribute "image": a ccw-3215 has none`},
		{"ccw-3390", []registry.Attr{attr("image", text), attr("colour", "red")}, syscall.EINVAL, `attribute "colour"`},
		{"ccw-3215", []registry.Attr{attr("devno", "10000")}, syscall.EINVAL, "attribute devno: want up to four hex digits"},
		{"ccw-3215", []registry.Attr{attr("devno", "-1")}, syscall.EINVAL, "attribute devno"},
		{"ccw-3215", []registry.Attr{attr("byte-order", "middle")}, syscall.EINVAL, "attribute byte-order: want big or little"},
		{"ccw-fba", []registry.Attr{attr("readonly", "perhaps")}, syscall.EINVAL, "attribute readonly: want on or off"},
		{"ccw-9999", nil, syscall.ENOENT, `type "ccw-9999"`},
	} {
		_, err := ccwdev.NewOf(tt.typ, "", tt.attrs)
		require.ErrorContains(t, err, tt.want)
		require.ErrorIs(t, err, tt.errno, "%v", err)
	}
	require.Equal(t, before, openFiles(t), "files that nobody closed")
}

// An image has one device that writes it, or any number that read it; by
// whatever name, and until the device is destroyed.
func TestImageHasOneDevice(t *testing.T) {
	for typ, path := range map[string]string{"ccw-3390": ckdImage(t), "ccw-fba": rawImage(t, 64), "ccw-3490": filepath.Join(t.TempDir(), "tape")} {
		t.Run(typ, func(t *testing.T) {
			if typ == "ccw-3490" {
				require.NoError(t, os.WriteFile(path, nil, 0o600))
			}
			link := path + ".link"
			require.NoError(t, os.Symlink(path, link))
			d, err := ccwdev.NewOf(typ, "", []registry.Attr{attr("image", path)})
			require.NoError(t, err)
			for _, readonly := range []string{"on", "off"} {
				_, err = ccwdev.NewOf(typ, "", []registry.Attr{attr("image", link), attr("readonly", readonly)})
				require.ErrorIs(t, err, errs.ErrBusy)
			}
			d.Destroy()
			of(t, typ, attr("image", path), attr("readonly", "on"))
			of(t, typ, attr("image", link), attr("readonly", "on"))
			_, err = ccwdev.NewOf(typ, "", []registry.Attr{attr("image", path)})
			require.ErrorIs(t, err, errs.ErrBusy)
		})
	}
}

// A read-only volume refuses to be written.
func TestReadOnly(t *testing.T) {
	path := rawImage(t, 64)
	require.NoError(t, os.Chmod(path, 0o400))
	d := of(t, "ccw-fba", attr("image", path), attr("readonly", "1"), attr("byte-order", "big"))
	v := newVM(t, d, binary.BigEndian, nil).ram()
	copy(v.mem[0x2000:], []byte{0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	copy(v.mem[0x2100:], []byte{1, 0, 0, 1, 0, 0, 0, 7})
	irb := v.run(c(0x63, cc, 16, 0x2000), c(0x43, cc, 8, 0x2100), c(0x41, 0, 512, dataAt))
	require.NotZero(t, irb.SCSW.Device()&cio.UnitCheck, "%v", irb.SCSW)
}

// The registry makes the types' devices, opens them, and destroys them.
func TestRegistry(t *testing.T) {
	r := registry.New(nil)
	require.NoError(t, r.RegisterParent(ccwdev.Parent()))
	path := rawImage(t, 64)
	id := uuid.New()
	_, err := r.Create(t.Context(), ccwdev.ParentName, "ccw-fba", id, []registry.Attr{attr("image", path)})
	require.NoError(t, err)
	_, err = r.Create(t.Context(), ccwdev.ParentName, "ccw-fba", uuid.New(), []registry.Attr{attr("image", path)})
	require.ErrorIs(t, err, errs.ErrBusy)
	s, err := r.Open(t.Context(), id, &mdev.SessionConfig{Name: "vm"})
	require.NoError(t, err)
	_, err = r.Open(t.Context(), id, nil)
	require.ErrorIs(t, err, errs.ErrBusy)
	// A removal asks by the request interrupt, on which the VMM lets go.
	require.NoError(t, s.IRQs().Func(ccw.IRQRequest, 0, func() { go s.Close(t.Context()) }))
	require.NoError(t, r.Remove(t.Context(), id))
	of(t, "ccw-fba", attr("image", path)).Destroy()
	for _, typ := range r.Types() {
		require.Equal(t, mdev.APICCW, typ.API)
		require.NotEmpty(t, typ.Description)
	}
}

// Lines of a file, and of a pipe while the guest runs, are typed at the
// console; what it prints is text in a file.
func TestConsole(t *testing.T) {
	dir := t.TempDir()
	pipe, out := filepath.Join(dir, "typed"), filepath.Join(dir, "printed")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	d, err := ccwdev.NewOf("ccw-3215", "", []registry.Attr{attr("output", out), attr("input", pipe), attr("byte-order", "big")})
	require.NoError(t, err)
	v := newVM(t, d, binary.BigEndian, nil).ram()
	copy(v.mem[dataAt:], unit.EBCDIC("HELLO\n"))
	ended(t, v.run(c(0x01, sli, 6, dataAt)))
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	require.NoError(t, err)
	for _, line := range []string{"first", "second"} {
		_, err = fmt.Fprintln(w, line)
		require.NoError(t, err)
		irb := v.interrupt()
		require.Equal(t, cio.Attention, irb.SCSW.Device())
		irb = v.run(c(0x0A, sli, 80, dataAt))
		ended(t, irb)
		require.Equal(t, line, unit.Text(v.mem[dataAt:][:80-irb.SCSW.Count()]))
	}
	require.NoError(t, w.Close())
	v.close()
	d.Destroy()
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(b), "HELLO\n")
}

// A file with more lines than a console takes at a time is typed to its end.
func TestConsoleTypesAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "typed")
	var text []byte
	const n = 2*unit.MaxLines + 7
	for i := range n {
		text = fmt.Appendf(text, "line %d\n", i)
	}
	require.NoError(t, os.WriteFile(path, text, 0o600))
	d := of(t, "ccw-3215", attr("input", path), attr("byte-order", "big"))
	v := newVM(t, d, binary.BigEndian, nil).ram()
	v.program(c(0x0A, sli, 80, dataAt))
	read := 0
	for end := time.Now().Add(20 * time.Second); read < n && time.Now().Before(end); {
		if v.start(orb()) != nil {
			continue // attention is being told
		}
		// Interrupts of attention may come first, with no status yet or with
		// their own; a start that met attention ends in deferred condition
		// code 1.
		irb := v.interrupt()
		for irb.SCSW.Control()&cio.PrimaryStatus == 0 && irb.SCSW.DeferredCC() == 0 {
			irb = v.interrupt()
		}
		if irb.SCSW.Device() == cio.Ended && irb.SCSW.DeferredCC() == 0 {
			require.Equal(t, fmt.Sprintf("line %d", read), unit.Text(v.mem[dataAt:][:80-irb.SCSW.Count()]))
			read++
		}
	}
	require.Equal(t, n, read)
}
