package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/demo/engine"
	"github.com/softmdev/softmdev/mdev/reg/regtest"
)

// The register map that doc.go shows, and drivers are written from.
func TestDocumentedTable(t *testing.T) { regtest.Documented(t, "doc.go", registers) }

// The engine's operations have the numbers of the commands, which rewrite relies
// on, and its limits are the device's.
func TestEngineAgrees(t *testing.T) {
	require.EqualValues(t, CommandCopy, engine.Copy)
	require.EqualValues(t, CommandFill, engine.Fill)
	require.EqualValues(t, CommandChecksum, engine.Checksum)
	require.EqualValues(t, MaxLen, engine.MaxBytes)
}

// A device is small: the template for a mediator has less than 300 lines of code,
// comments, blank lines and imports aside. What it needs more belongs into the
// framework.
func TestSmall(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	code := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := os.ReadFile(f)
		require.NoError(t, err)
		imports := false
		for line := range strings.Lines(string(src)) {
			switch line = strings.TrimSpace(line); {
			case line == "import (":
				imports = true
			case imports:
				imports = line != ")"
			case line != "" && !strings.HasPrefix(line, "//"):
				code++
			}
		}
	}
	require.Greater(t, code, 200)
	require.Less(t, code, 300)
}
