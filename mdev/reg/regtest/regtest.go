// Package regtest holds tables of registers against what is written of them.
package regtest

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/reg"
)

// Documented fails the test unless a comment of the Go file has the table of
// regs, as [reg.Table] prints it.
func Documented(t *testing.T, file string, regs []reg.Reg) {
	t.Helper()
	src, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, Has(string(src), regs), "%s does not have this table:\n\n//\t%s",
		file, strings.ReplaceAll(reg.Table(regs), "\n", "\n//\t"))
}

// Has reports whether the text, the marks of Go comments and blanks at the ends
// of lines aside, has the table of regs.
func Has(src string, regs []reg.Reg) bool {
	return strings.Contains(plain(src), plain(reg.Table(regs)))
}

func plain(text string) string {
	var s strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), "\t")
		s.WriteString(strings.TrimRight(line, " \t\r\n") + "\n")
	}
	return s.String()
}
