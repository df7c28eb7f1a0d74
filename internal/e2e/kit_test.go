//go:build linux

package e2e

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

//go:embed setup/setup.sh
var setupScript []byte

//go:embed guest/init
var guestInit []byte

// A kit is what machines are made of.
type kit struct {
	qemu   string // runs QEMU
	kernel string
	initrd string // packed by this package
	mdev   string // built by this package
}

// kitFolder is where setup/setup.sh puts its things.
func kitFolder() (string, error) {
	if dir := os.Getenv("SOFTMDEV_E2E_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "softmdev"), err
}

// newKit is the kit, or the reason why there is none. What this package builds
// is built by the first test that asks.
func newKit(t *testing.T) *kit {
	if os.Getenv("SOFTMDEV_E2E") != "1" {
		t.Skip("machines are started where SOFTMDEV_E2E=1 asks for them")
	}
	dir, err := kitFolder()
	require.NoError(t, err)
	if why := notReady(dir); why != "" {
		t.Skipf("%s: run internal/e2e/setup/setup.sh", why)
	}
	k, err := buildKit()
	require.NoError(t, err)
	return k
}

// built is where buildKit builds; TestMain removes it.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

var buildKit = sync.OnceValues(func() (*kit, error) {
	dir, err := kitFolder()
	if err != nil {
		return nil, err
	}
	if built, err = os.MkdirTemp("", "e2e"); err != nil {
		return nil, err
	}
	k := &kit{
		qemu:   filepath.Join(dir, "qemu-system-x86_64"),
		kernel: filepath.Join(dir, "guest", "vmlinuz"),
		initrd: filepath.Join(built, "initrd"),
		mdev:   filepath.Join(built, "mdev"),
	}
	program := filepath.Join(built, "guest")
	for to, pkg := range map[string]string{k.mdev: "../../cmd/mdev", program: "./guest"} {
		cmd := exec.Command("go", "build", "-o", to, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", cmd, err, out)
		}
	}
	image, err := initramfs(filepath.Join(dir, "guest"), program)
	if err != nil {
		return nil, err
	}
	return k, os.WriteFile(k.initrd, image, 0o600)
})

// notReady says what is missing in a folder, "" if nothing is.
func notReady(dir string) string {
	want := regexp.MustCompile(`(?m)^version=(\d+)$`).FindSubmatch(setupScript)
	have, err := os.ReadFile(filepath.Join(dir, "ready"))
	switch {
	case err != nil:
		return fmt.Sprintf("nothing is set up in %s", dir)
	case !bytes.Equal(bytes.TrimSpace(have), want[1]):
		return fmt.Sprintf("what is set up in %s is of version %s, not %s", dir, bytes.TrimSpace(have), want[1])
	case runtime.GOARCH != "amd64":
		return "the kit is for amd64"
	}
	return ""
}

// initramfs is the root file system of a guest: busybox, the modules, init and
// the program.
func initramfs(kit, program string) ([]byte, error) {
	var a archive
	a.dir("bin")
	a.dir("modules")
	a.file("init", 0o755, guestInit)
	order, err := os.ReadFile(filepath.Join(kit, "modules", "order"))
	if err != nil {
		return nil, err
	}
	a.file("modules/order", 0o644, order)
	copies := map[string]string{"bin/busybox": filepath.Join(kit, "busybox"), "guest": program}
	for _, m := range strings.Fields(string(order)) {
		copies["modules/"+m] = filepath.Join(kit, "modules", m)
	}
	for name, from := range copies {
		b, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		a.file(name, 0o755, b)
	}
	return a.end(), nil
}

// An archive is a cpio archive of the form that the kernel unpacks.
// Spec: Documentation/driver-api/early-userspace/buffer-format.rst, "newc".
type archive struct {
	bytes.Buffer
	files int
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

func (a *archive) dir(name string) { a.entry(name, modeDir|0o755, nil) }
func (a *archive) file(name string, mode uint32, content []byte) {
	a.entry(name, modeFile|mode, content)
}

func (a *archive) entry(name string, mode uint32, content []byte) {
	a.files++
	// magic, inode, mode, uid, gid, links, mtime, size, device and rdevice as
	// major and minor, length of the name with its NUL, checksum
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.files, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

// end is the whole archive.
func (a *archive) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.Bytes()
}

// TestArchive unpacks an archive as the kernel would.
func TestArchive(t *testing.T) {
	var a archive
	a.dir("bin")
	a.file("bin/x", 0o755, []byte("12345"))
	a.file("empty", 0o644, nil)
	b := a.end()
	require.Zero(t, len(b)%4)

	type entry struct {
		name    string
		mode    uint64
		content string
	}
	var got []entry
	field := func(at int) uint64 {
		n, err := strconv.ParseUint(string(b[6+8*at:][:8]), 16, 32)
		require.NoError(t, err)
		return n
	}
	for len(b) > 0 {
		require.Equal(t, "070701", string(b[:6]))
		size, name := int(field(6)), int(field(11))
		start := (110 + name + 3) &^ 3
		end := (start + size + 3) &^ 3
		require.Zero(t, b[110+name-1], "the name ends with NUL")
		got = append(got, entry{string(b[110 : 110+name-1]), field(1), string(b[start : start+size])})
		b = b[end:]
	}
	require.Equal(t, []entry{
		{"bin", 0o040755, ""},
		{"bin/x", 0o100755, "12345"},
		{"empty", 0o100644, ""},
		{"TRAILER!!!", 0, ""},
	}, got)
}

// TestNotReady: whatever is wrong with a folder is a reason to skip.
func TestNotReady(t *testing.T) {
	dir := t.TempDir()
	require.Contains(t, notReady(dir), "nothing is set up")
	ready := filepath.Join(dir, "ready")
	require.NoError(t, os.WriteFile(ready, []byte("0\n"), 0o600))
	require.Contains(t, notReady(dir), "is of version 0")
}
