//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root is where README.md is, and where its commands are given.
const root = "../.."

// TestReadme gives the two commands of the README by which the demo device is
// attached, as they stand there, and finds the device in the machine.
func TestReadme(t *testing.T) {
	k := newKit(t)
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	serve, attach := commandOf(string(text), "serve"), commandOf(string(text), "attach")
	require.NotEmpty(t, serve, "README.md has no command under <!-- serve -->")
	require.NotEmpty(t, attach, "README.md has no command under <!-- attach -->")
	_, socket, _ := strings.Cut(serve, "--socket-path ")
	require.Contains(t, attach, socket, "both name the same socket")

	shell := func(command string) *exec.Cmd {
		c := exec.Command("sh", "-c", command)
		c.Dir = root
		c.Env = append(os.Environ(), "PATH="+filepath.Dir(k.qemu)+":"+os.Getenv("PATH"))
		return c
	}
	s := startCommand(t, "the first command", shell(serve))
	require.NoError(t, eventually(time.Minute, func() error {
		if !s.out.contains("msg=ready") {
			return fmt.Errorf("it is not ready: %s", &s.out)
		}
		return nil
	}))
	monitor := shell(attach)
	monitor.Stdin = strings.NewReader("info pci\nquit\n")
	q := startCommand(t, "the second command", monitor)
	require.NoError(t, q.wait(time.Minute), "%s", &q.out)
	require.Contains(t, q.out.String(), "PCI device 6d64:0001")
	require.NoError(t, os.Remove(socket))
}

// commandOf is the command that is shown under a mark, its lines joined.
func commandOf(text, mark string) string {
	_, rest, _ := strings.Cut(text, "<!-- "+mark+" -->\n")
	block, _, _ := strings.Cut(rest, "\n```\n")
	_, block, _ = strings.Cut(block, "\n$ ")
	var command strings.Builder
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		more := strings.HasSuffix(line, `\`)
		command.WriteString(strings.TrimSuffix(line, `\`))
		if !more {
			break
		}
	}
	return command.String()
}

func TestCommandOf(t *testing.T) {
	const text = "a\n<!-- one -->\n```console\n$ x y \\\n   z\nits output\n```\n<!-- two -->\n```\n$ w\n```\n"
	require.Equal(t, "x y z", commandOf(text, "one"))
	require.Equal(t, "w", commandOf(text, "two"))
	require.Empty(t, commandOf(text, "three"))
}
