package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/demo"
	"github.com/softmdev/softmdev/mdev/vfiouser"
)

// proc is an mdev that runs as a process of its own.
type proc struct {
	t      *testing.T
	cmd    *exec.Cmd
	ended  chan struct{}
	stdout chan string // its lines

	mu  sync.Mutex
	log bytes.Buffer // standard error; guarded by mu
}

// command prepares an mdev in a folder of the test's own.
func command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.Command("mdev", args...)
	cmd.Env = append(os.Environ(), "MDEV_CONTROL="+filepath.Join(t.TempDir(), "none"), "MDEV_ROOT="+filepath.Join(t.TempDir(), "none"))
	return cmd
}

// spawn runs cmd; it is killed with the test.
func spawn(t *testing.T, cmd *exec.Cmd) *proc {
	p := &proc{t: t, cmd: cmd, ended: make(chan struct{}), stdout: make(chan string, 100)}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = p
	require.NoError(t, cmd.Start())
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.stdout <- s.Text()
		}
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%v:\n%s", cmd.Args, p.stderr())
		}
	})
	return p
}

// serve runs mdev serve and waits until it is ready.
func serve(t *testing.T, args ...string) *proc {
	p := spawn(t, command(t, append([]string{"serve"}, args...)...))
	p.ready()
	return p
}

func (p *proc) ready() {
	require.Eventually(p.t, func() bool { return strings.Contains(p.stderr(), "ready") }, 20*time.Second, time.Millisecond, "%s", p.stderr())
}

func (p *proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *proc) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// line is the next line of standard output.
func (p *proc) line() string {
	select {
	case s := <-p.stdout:
		return s
	case <-time.After(20 * time.Second):
		require.FailNow(p.t, "no line came", "%s", p.stderr())
		return ""
	}
}

// exit waits for the end and returns the exit code.
func (p *proc) exit() int {
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		require.FailNow(p.t, "it does not end", "%s", p.stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// signal sends a signal and returns the exit code.
func (p *proc) signal(s os.Signal) int {
	require.NoError(p.t, p.cmd.Process.Signal(s))
	return p.exit()
}

// client connects to a served device, and finds it to be of type demo.
func client(t *testing.T, path string) *vfiouser.Client {
	c, err := vfiouser.Dial(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	isDemo(t, c)
	return c
}

func isDemo(t *testing.T, c *vfiouser.Client) {
	var id [4]byte
	require.NoError(t, c.Read(t.Context(), mdev.BAR0, demo.RegID, id[:]))
	require.EqualValues(t, demo.IDValue, binary.LittleEndian.Uint32(id[:]))
}

// TestServe: a device on a socket, in the foreground; SIGTERM ends it with exit
// code 0, while a VMM has the device too, and nothing is left.
func TestServe(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		path := filepath.Join(t.TempDir(), "s")
		p := serve(t, "--type", "demo", "--socket-path", path, "--log-format", "json", "--log-level", "debug",
			"--uuid", "83c32df7-d52e-4ec1-9668-1f3c7e4df107", "--attr", "mmap=on", "--socket-mode", "0660")
		st, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.ModeSocket|0o660, st.Mode())
		client(t, path).Close()
		c := client(t, path)
		require.Zero(t, p.signal(sig))
		require.NoFileExists(t, path)
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("the client was not told")
		}
		for l := range strings.Lines(p.stderr()) {
			var entry map[string]any
			require.NoError(t, json.Unmarshal([]byte(l), &entry), "%s", l)
			require.NotEmpty(t, entry["msg"])
		}
		require.Contains(t, p.stderr(), `"device":"83c32df7-d52e-4ec1-9668-1f3c7e4df107"`)
	}
}

// TestServeKilled: what a killed server left behind does not hinder the next;
// one that lives does, and stays.
func TestServeKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := serve(t, "--type", "demo", "--socket-path", path)
	require.Equal(t, -1, p.signal(os.Kill))
	require.FileExists(t, path)
	serve(t, "--type", "demo", "--socket-path", path)
	second := spawn(t, command(t, "serve", "--type", "demo", "--socket-path", path, "--log-level", "error"))
	require.Equal(t, exitFailed, second.exit())
	require.Equal(t, "mdev: "+path+": somebody listens on it: busy\n", second.stderr())
	client(t, path)
}

// TestServeFD: --fd with the connection itself, whose end is that of mdev, and
// with a socket to listen on.
func TestServeFD(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	cmd := command(t, "serve", "--type", "demo", "--fd", "3")
	theirs := os.NewFile(uintptr(fds[1]), "")
	cmd.ExtraFiles = []*os.File{theirs}
	p := spawn(t, cmd)
	theirs.Close()
	c, err := vfiouser.NewClient(t.Context(), fds[0], nil)
	require.NoError(t, err)
	isDemo(t, c)
	require.NoError(t, c.Close())
	require.Zero(t, p.exit())

	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	f, err := l.File()
	require.NoError(t, err)
	defer l.Close()
	defer f.Close()
	cmd = command(t, "serve", "--type", "demo", "--fd", "3")
	cmd.ExtraFiles = []*os.File{f}
	p = spawn(t, cmd)
	p.ready()
	client(t, path).Close()
	client(t, path)
	require.Zero(t, p.signal(syscall.SIGTERM))
	require.FileExists(t, path, "it is not ours")
}

// activated prepares an mdev serve that a service manager starts: sockets of
// these names, and the place where it is told of readiness.
func activated(t *testing.T, names []string, args ...string) (cmd *exec.Cmd, paths map[string]string, notify *net.UnixConn) {
	dir := t.TempDir()
	cmd = exec.Command("sh", append([]string{"-c", `export LISTEN_PID=$$; exec mdev serve "$@"`, "sh"}, args...)...)
	paths = make(map[string]string)
	for _, name := range names {
		paths[name] = filepath.Join(dir, name)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: paths[name]})
		require.NoError(t, err)
		f, err := l.File()
		require.NoError(t, err)
		t.Cleanup(func() { l.Close(); f.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	path := filepath.Join(dir, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { notify.Close() })
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"),
		"MDEV_CONTROL="+paths["control"])
	return cmd, paths, notify
}

func told(t *testing.T, notify *net.UnixConn) string {
	require.NoError(t, notify.SetReadDeadline(time.Now().Add(20*time.Second)))
	b := make([]byte, 1000)
	n, err := notify.Read(b)
	require.NoError(t, err)
	return string(b[:n])
}

// TestActivation: sockets of the service manager, found by name, and readiness
// told to it [sd_listen_fds(3), sd_notify(3)].
func TestActivation(t *testing.T) {
	cmd, paths, notify := activated(t, []string{"mdev.socket"}, "--type", "demo")
	p := spawn(t, cmd)
	require.Equal(t, "READY=1", told(t, notify))
	client(t, paths["mdev.socket"])
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, "STOPPING=1", told(t, notify))
	require.Zero(t, p.exit())
	require.FileExists(t, paths["mdev.socket"])

	config := filepath.Join(t.TempDir(), "c.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"devices": [{"type": "demo", "listen": "b"}, {"type": "demo", "listen": "a"}]}`), 0o600))
	cmd, paths, notify = activated(t, []string{"a", "control", "b"}, "--config", config)
	p = spawn(t, cmd)
	require.Equal(t, "READY=1", told(t, notify))
	client(t, paths["a"])
	client(t, paths["b"])
	list := exec.Command("mdev", "list", "-v", "--control", paths["control"])
	out, err := list.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "  Socket: "+paths["a"]+"\n")
	require.Contains(t, string(out), "  Socket: "+paths["b"]+"\n")
	require.Zero(t, p.signal(syscall.SIGTERM))

	cmd, _, _ = activated(t, []string{"a", "b"}, "--type", "demo")
	p = spawn(t, cmd)
	require.Equal(t, exitBadInput, p.exit())
	require.Equal(t, "mdev: sockets of the service manager that no device uses: b\n", p.stderr())

	require.NoError(t, os.WriteFile(config, []byte(`{"devices": [{"type": "demo", "listen": "c"}]}`), 0o600))
	cmd, _, _ = activated(t, []string{"a"}, "--config", config)
	p = spawn(t, cmd)
	require.Equal(t, exitBadInput, p.exit())
	require.Equal(t, "mdev: "+config+": devices[0]: the service manager passed no socket c\n", p.stderr())
}

// mdevCmd runs mdev to its end.
func mdevCmd(t *testing.T, control string, args ...string) (stdout string, code int, stderr string) {
	cmd := command(t, args...)
	cmd.Env = append(cmd.Env, "MDEV_CONTROL="+control)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		require.NoError(t, err)
	}
	return out.String(), cmd.ProcessState.ExitCode(), diag.String()
}

// TestWatch: each change is a line as it happens; the end of mdev serve is one
// of standard error.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	control := filepath.Join(dir, "control.sock")
	p := serve(t, "--control", control)
	order := func(args ...string) string {
		out, code, diag := mdevCmd(t, control, args...)
		require.Zero(t, code, "%v: %s", args, diag)
		return out
	}
	const a, b = "11111111-2222-4333-8444-555555555555", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
	require.Equal(t, a+"\n", order("create", "--type", "demo", "-u", a))
	watch := spawn(t, command(t, "list", "--watch", "--control", control))
	lines := spawn(t, command(t, "list", "--watch", "--dumpjson", "-u", b, "--control", control))
	require.Equal(t, "present   "+a+" demo demo idle", watch.line())
	require.Contains(t, lines.line(), `"op":"synced"`)

	socket := filepath.Join(dir, b+".sock")
	require.Equal(t, b+" "+socket+"\n", order("start", "--type", "demo", "-u", b))
	require.Equal(t, "created   "+b+" demo demo", watch.line())
	require.Equal(t, "started   "+b+" demo demo "+socket, watch.line())
	for _, op := range []string{"added", "changed"} {
		var e struct {
			Op     string
			Device struct{ UUID string }
		}
		require.NoError(t, json.Unmarshal([]byte(lines.line()), &e))
		require.Equal(t, op, e.Op)
		require.Equal(t, b, e.Device.UUID)
	}
	c := client(t, socket)
	require.Equal(t, "opened    "+b+" demo demo client of "+socket, watch.line())
	_, code, diag := mdevCmd(t, control, "stop", "-u", b, "--timeout", "20ms")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "mdev: device "+b+" is open by client of "+socket+", who did not release it: busy: waited 20ms\n", diag)
	require.Equal(t, "releasing "+b+" demo demo client of "+socket, watch.line())
	require.Equal(t, "kept      "+b+" demo demo client of "+socket, watch.line())
	_, code, diag = mdevCmd(t, control, "stop", "-u", b, "--keep")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "mdev: device "+b+" is open by client of "+socket+": busy\n", diag)
	require.NoError(t, c.Close())
	require.Equal(t, "closed    "+b+" demo demo client of "+socket, watch.line())
	order("stop", "-u", b, "--keep")
	require.Equal(t, "stopped   "+b+" demo demo "+socket, watch.line())
	require.NoFileExists(t, socket)
	order("start", "-u", b)
	require.Equal(t, "started   "+b+" demo demo "+socket, watch.line())
	client(t, socket)
	watch.line()
	order("stop", "-u", b, "--force")
	for _, word := range []string{"closed", "stopped", "releasing", "removed"} {
		require.Equal(t, word, strings.Fields(watch.line())[0])
	}
	require.Equal(t, exitInterrupted, lines.signal(os.Interrupt))
	order("stop", "-u", a)
	require.Equal(t, "releasing "+a+" demo demo", watch.line())
	require.Equal(t, "removed   "+a+" demo demo", watch.line())
	require.Zero(t, p.signal(syscall.SIGTERM))
	require.Equal(t, exitFailed, watch.exit())
	require.Equal(t, "mdev: mdev serve has ended\n", watch.stderr())
}

// TestStopAsks: a VMM that has the device is told by the request interrupt, and
// the removal waits for it.
func TestStopAsks(t *testing.T) {
	control := filepath.Join(t.TempDir(), "control.sock")
	serve(t, "--control", control)
	out, code, _ := mdevCmd(t, control, "start", "--type", "demo")
	require.Zero(t, code)
	id, socket, _ := strings.Cut(strings.TrimSpace(out), " ")
	c := client(t, socket)
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(event)
	require.NoError(t, c.SetIRQs(t.Context(), mdev.IRQRequest{
		Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: mdev.IRQREQ, Count: 1, FDs: []int{event},
	}))
	done := make(chan int)
	go func() { _, code, _ := mdevCmd(t, control, "stop", "-u", id); done <- code }()
	var count [8]byte
	_, err = unix.Read(event, count[:]) // waits
	require.NoError(t, err)
	select {
	case code := <-done:
		t.Fatalf("ended with %d while the device is open", code)
	case <-time.After(50 * time.Millisecond):
	}
	require.NoError(t, c.Close())
	require.Zero(t, <-done)
	require.NoFileExists(t, socket)
}

// TestAutostart: what is defined to start by itself does, and what cannot
// hinders nothing.
func TestAutostart(t *testing.T) {
	dir := t.TempDir()
	control, root := filepath.Join(dir, "control.sock"), filepath.Join(dir, "root")
	order := func(args ...string) string {
		out, code, diag := mdevCmd(t, control, args...)
		require.Zero(t, code, "%v: %s", args, diag)
		return strings.TrimSpace(out)
	}
	auto := order("define", "--root", root, "--type", "demo", "--auto", "--attr", "mmap=on")
	manual := order("define", "--root", root, "--type", "demo")
	order("define", "--root", root, "--type", "demo", "--auto", "--attr", "mmap=perhaps")
	order("define", "--root", root, "-p", "matrix", "--type", "vfio_ap-passthrough", "--auto")
	p := serve(t, "--control", control, "--root", root, "--autostart")
	require.Equal(t, auto+" demo demo auto (defined)", order("list", "--root", root))
	require.Contains(t, order("list", "--defined", "--root", root), auto+" demo demo auto (active)")
	require.Equal(t, 1, strings.Count(p.stderr(), "level=ERROR"), "%s", p.stderr())
	require.Contains(t, p.stderr(), "defined device does not start")
	require.Equal(t, manual+" "+filepath.Join(dir, manual+".sock"), order("start", "--root", root, "-u", manual))
	client(t, filepath.Join(dir, manual+".sock"))
	client(t, filepath.Join(dir, auto+".sock"))

	// A device that runs can be defined from what it is.
	made := order("create", "--type", "demo", "--attr", "mmap=off")
	order("define", "--root", root, "-u", made)
	require.Equal(t, made+" demo demo manual (active)\n  Attrs:\n    @{0}: {\"mmap\":\"off\"}", order("list", "--root", root, "-dvu", made))
}

// TestServeConfig: several devices in one process, one VMM each.
func TestServeConfig(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "c.json")
	var devices []string
	for i := range 4 {
		devices = append(devices, fmt.Sprintf(`{"type": "demo", "socket": "%d.sock"}`, i))
	}
	require.NoError(t, os.WriteFile(config, []byte(`{"run_dir": ".", "devices": [`+strings.Join(devices, ", ")+`, {"type": "demo", "uuid": "11111111-2222-4333-8444-555555555555"}]}`), 0o600))
	p := serve(t, "--config", config)
	clients := []*vfiouser.Client{client(t, filepath.Join(dir, "11111111-2222-4333-8444-555555555555.sock"))}
	for i := range devices {
		clients = append(clients, client(t, filepath.Join(dir, fmt.Sprint(i, ".sock"))))
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for i, c := range clients {
		require.NoError(t, c.Write(ctx, mdev.BAR0, demo.RegScratch, []byte{byte(i), 1, 2, 3}))
	}
	for i, c := range clients {
		var b [4]byte
		require.NoError(t, c.Read(ctx, mdev.BAR0, demo.RegScratch, b[:]))
		require.Equal(t, [4]byte{byte(i), 1, 2, 3}, b)
	}
	require.Zero(t, p.signal(syscall.SIGTERM))
	left, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	require.NoError(t, err)
	require.Empty(t, left)
}
