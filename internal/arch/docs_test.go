package arch

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestArchitectureListsPackages: docs/architecture.md names every package that
// there is, and none that is not, in the picture of the arrows.
func TestArchitectureListsPackages(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	picture := regexp.MustCompile(`(?s)## The packages.*?\n\n(.*?)\n\nImports point`).FindSubmatch(text)
	require.NotNil(t, picture, "the picture between its heading and what is said of it")
	named := make(map[string]bool)
	for _, p := range regexp.MustCompile(`(?:^|[\s(])((?:[a-z0-9]+/)*[a-z0-9]+)`).FindAllSubmatch(picture[1], -1) {
		named[string(p[1])] = true
	}
	pkgs := dependencies(t)
	for _, p := range slices.Sorted(maps.Keys(pkgs)) {
		require.True(t, named[p], "docs/architecture.md does not list %s", p)
	}
	for p := range named {
		if slices.ContainsFunc([]byte(p), func(c byte) bool { return c == '/' }) {
			require.Contains(t, pkgs, p, "docs/architecture.md lists a package that is not there")
		}
	}
}
