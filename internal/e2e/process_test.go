//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A process is a child that ends when its test does, whatever becomes of the
// test, and whose output is kept.
type process struct {
	name string
	pid  int
	out  output
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why, once it has
}

// start runs a program. Where the test fails, what it printed is printed.
func start(t *testing.T, name, program string, args ...string) *process {
	return startCommand(t, name, exec.Command(program, args...))
}

// startCommand is start for a command of which more is said than its arguments.
func startCommand(t *testing.T, name string, cmd *exec.Cmd) *process {
	p := &process{name: name, done: make(chan struct{}), cmd: cmd}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread ends that started it. So
		// this thread does nothing else until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	require.NoError(t, <-started, name)
	p.pid = p.cmd.Process.Pid
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, p.out.String())
		}
	})
	return p
}

// kill ends it and what it started with SIGKILL, and returns when it has ended.
func (p *process) kill() {
	select {
	case <-p.done: // its number may be another's by now
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.done
	}
}

// wait waits until it ends by itself.
func (p *process) wait(d time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(d):
		return fmt.Errorf("%s has not ended within %v", p.name, d)
	}
}

// files are the open files of a process, by descriptor.
func (p *process) files() map[string]string {
	open := make(map[string]string)
	dir := fmt.Sprintf("/proc/%d/fd", p.pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open[e.Name()] = to
		}
	}
	return open
}

// output is what a process printed, at most the last megabyte.
type output struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

const keptOutput = 1 << 20

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, p...)
	if n := len(o.buf); n > 2*keptOutput {
		o.buf = append(o.buf[:0], o.buf[n-keptOutput:]...)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.buf)
}

func (o *output) contains(s string) bool { return strings.Contains(o.String(), s) }

// eventually waits until what the function checks is so; why it is not is its
// error.
func eventually(d time.Duration, so func() error) error {
	for end := time.Now().Add(d); ; time.Sleep(5 * time.Millisecond) {
		err := so()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// TestProcess: a child is killed with its test, its output is kept, its files
// are known.
func TestProcess(t *testing.T) {
	var p *process
	t.Run("child", func(t *testing.T) {
		p = start(t, "sleeper", "sh", "-c", "echo hello; exec sleep 1000")
		require.NoError(t, eventually(10*time.Second, func() error {
			if !p.out.contains("hello\n") {
				return fmt.Errorf("it printed %q", p.out.String())
			}
			return nil
		}))
		require.ErrorContains(t, p.wait(time.Millisecond), "has not ended")
		require.Contains(t, p.files(), "1")
	})
	require.NoError(t, func() error {
		select {
		case <-p.done:
			return nil
		default:
			return fmt.Errorf("%s outlives its test", p.name)
		}
	}())
	require.ErrorContains(t, p.wait(time.Second), "killed")
	require.Empty(t, p.files())
}
