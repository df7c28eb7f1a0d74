// The direction of imports. The arrow that is missing is the security argument:
// emulated hardware can only name host-physical addresses, and package iommu
// gives it a frame only if the device pinned it.
package arch

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/softmdev/softmdev/"

// arrows says, for each package (or all below a path that ends in /...), which
// packages of this module it may depend on, directly or not. A package that is
// not listed fails the test: whoever adds one decides where it stands.
//
// The picture is in docs/architecture.md.
var arrows = []struct {
	pkg  string
	deps []string
}{
	// Leaves.
	{"translate/addr", nil},
	{"mdev/errs", nil},
	{"internal/fault", nil},
	{"internal/guard", []string{"translate/addr", "mdev/errs"}},
	{"ccw/cio", []string{"translate/addr"}},
	{"internal/filelock", []string{"mdev/errs"}},
	{"internal/recording", []string{"translate/addr", "mdev/errs", "internal/fault", "internal/filelock"}},
	{"mdev/reg", []string{"mdev/errs"}},
	{"mdev/pci", []string{"mdev/reg", "mdev/errs"}},
	{"mdev/ram", []string{"mdev/errs"}},

	// Memory.
	{"translate", []string{"translate/addr", "mdev/errs", "internal/guard", "internal/fault"}},
	{"iommu", []string{"translate/addr", "mdev/errs", "internal/guard"}},
	{"pinning", []string{"translate", "iommu", "translate/addr", "mdev/errs", "internal/guard", "internal/fault"}},

	// Hardware: never translate, pinning, mdev/job or a mediator.
	{"ccw/channel", hardware},
	{"ccw/channel/scripted", hardware},
	{"ccw/dasd", hardware},
	{"ccw/fba", hardware},
	{"ccw/unit", hardware},
	{"mdev/demo/engine", hardware},
	{"iommu/intremap", []string{"translate/addr", "mdev/errs"}},

	// The device model.
	{"mdev", memory},
	{"mdev/registry", append([]string{"mdev"}, memory...)},
	{"mdev/mdevctl", []string{"mdev/errs"}},
	{"mdev/vfiouser/wire", nil},
	{"mdev/vfiouser", append([]string{"mdev", "mdev/vfiouser/wire"}, memory...)},

	// Mediators.
	{"mdev/job", memory},
	{"ccw", append([]string{"mdev/job", "ccw/cio", "ccw/channel"}, memory...)},
	{"ccw/ccwdev", append([]string{
		"mdev", "mdev/job", "mdev/registry", "ccw", "ccw/cio", "ccw/channel", "ccw/dasd", "ccw/fba", "ccw/unit", "internal/recording", "internal/filelock",
	}, memory...)},
	{"mdev/pcidev", append([]string{"mdev", "mdev/pci", "mdev/reg"}, memory...)},
	{"mdev/runner", append([]string{"mdev", "mdev/job"}, memory...)},
	{"mdev/demo", append([]string{"mdev", "mdev/job", "mdev/runner", "mdev/pcidev", "mdev/pci", "mdev/reg", "mdev/ram", "mdev/demo/engine"}, memory...)},
}

var (
	hardware = []string{"iommu", "iommu/intremap", "internal/guard", "ccw/cio", "ccw/channel", "translate/addr", "mdev/errs"}
	memory   = []string{"translate", "pinning", "iommu", "translate/addr", "mdev/errs", "internal/guard", "internal/fault"}
)

// free are packages that may import whatever they like: nothing of the above
// may import them, which the lists above say.
var free = []string{
	"translate/translatetest", "pinning/pintest", "mdev/mdevtest", "mdev/reg/regtest", "ccw/ccwtest", "ccw/internal/devicetest",
	"internal/arch", "internal/bench", "internal/bench/...", "internal/replay", "internal/...",
	"cmd/...", "examples/...",
}

func TestArrows(t *testing.T) {
	for pkg, deps := range dependencies(t) {
		allowed, listed := lookup(pkg)
		if !listed {
			require.True(t, isFree(pkg), "package %s has no place among the arrows of internal/arch", pkg)
			continue
		}
		for _, d := range deps {
			require.Contains(t, allowed, d, "%s must not depend on %s", pkg, d)
		}
	}
}

// TestHardwareNeverTranslates is the arrow that must not be, in one sentence.
func TestHardwareNeverTranslates(t *testing.T) {
	deps := dependencies(t)
	for _, hw := range []string{"ccw/channel", "ccw/channel/scripted", "ccw/dasd", "ccw/fba", "ccw/unit", "mdev/demo/engine", "iommu/intremap"} {
		require.Contains(t, deps, hw)
		for _, never := range []string{"translate", "pinning", "mdev/job", "mdev", "ccw"} {
			require.NotContains(t, deps[hw], never, "hardware reaches memory only through iommu")
		}
	}
}

// TestUnsafeIsConfined: a number becomes a pointer in files named
// mem_unsafe.go only. Files named *_fast.go use package unsafe as well, for
// plain stores where the portable twin beside them has atomic ones.
func TestUnsafeIsConfined(t *testing.T) {
	out, err := exec.Command("go", "list", "-f",
		`{{range .GoFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}`, module+"...").Output()
	require.NoError(t, err)
	for _, file := range strings.Fields(string(out)) {
		if slices.Contains(imports(t, file), `"unsafe"`) {
			require.True(t, strings.HasSuffix(file, "/mem_unsafe.go") || strings.HasSuffix(file, "_fast.go"),
				"%s imports unsafe", file)
		}
	}
}

func lookup(pkg string) ([]string, bool) {
	for _, a := range arrows {
		if a.pkg == pkg {
			return a.deps, true
		}
	}
	return nil, false
}

func isFree(pkg string) bool {
	return slices.ContainsFunc(free, func(f string) bool {
		below, all := strings.CutSuffix(f, "...")
		return pkg == f || all && strings.HasPrefix(pkg, below)
	})
}

// dependencies are those of each package of the module, without the module's
// own path.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, module+"...").Output()
	require.NoError(t, err)
	all := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, ours := strings.CutPrefix(fields[0], module)
		require.True(t, ours)
		all[pkg] = nil
		for _, d := range fields[1:] {
			if d, ours := strings.CutPrefix(d, module); ours {
				all[pkg] = append(all[pkg], d)
			}
		}
	}
	require.NotEmpty(t, all)
	return all
}
