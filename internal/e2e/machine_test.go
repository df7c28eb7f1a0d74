//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// machineConfig says what a machine is like.
type machineConfig struct {
	iommu   bool           // with a virtual IOMMU, and two processors
	noFiles bool           // memory without a file behind it: all DMA goes by messages
	socket  string         // the server of a device that is there from the start, "" for none
	options map[string]any // of that device
}

// A machine is a QEMU and the guest in it.
type machine struct {
	*process
	t       *testing.T
	monitor *qmp
	line    net.Conn // the program in the guest
	answers *bufio.Scanner
	how     string // to reach the device: the word for the guest's program
	checks  int    // that passed
}

// The machine is small, and of nothing more than it needs.
const (
	machineMemory = "384M"
	bootTime      = 60 * time.Second // a few seconds where nothing else runs
	checkTime     = 90 * time.Second // the longest list of checks
)

// boot starts a machine and returns when the guest's program has said that it
// is ready.
func (k *kit) boot(t *testing.T, cfg machineConfig) *machine {
	t.Helper()
	// A socket's path has to be short.
	dir, err := os.MkdirTemp("", "e2e")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name)})
		require.NoError(t, err)
		require.NoError(t, l.SetDeadline(time.Now().Add(bootTime)))
		t.Cleanup(func() { l.Close() })
		return l
	}
	monitor, line := listen("monitor"), listen("line")
	console := filepath.Join(dir, "console")

	board := "q35"
	m := &machine{t: t, how: "sysfs"}
	args := []string{"-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-m", machineMemory}
	// The kernel gives up where its timer seems too slow, which is what it is
	// while others keep the real processors busy.
	kernel := "console=ttyS0 quiet no_timer_check"
	if !cfg.noFiles {
		board += ",memory-backend=ram"
		args = append(args, "-object", "memory-backend-memfd,id=ram,share=on,size="+machineMemory)
	}
	if cfg.iommu {
		m.how = "vfio"
		kernel += " intel_iommu=on"
		args = append(args, "-device", "intel-iommu,caching-mode=on", "-smp", "2")
	}
	args = append(args, "-machine", board, "-kernel", k.kernel, "-initrd", k.initrd, "-append", kernel,
		"-serial", "file:"+console,
		"-chardev", "socket,id=line,path="+line.Addr().String(), "-serial", "chardev:line",
		"-chardev", "socket,id=monitor,path="+monitor.Addr().String(), "-object", "monitor-qmp,id=qmp,chardev=monitor",
		"-device", "pcie-root-port,id=slot1,chassis=1,slot=1")
	if cfg.socket != "" {
		options := deviceOf(cfg.socket)
		maps.Copy(options, cfg.options)
		device, err := json.Marshal(options)
		require.NoError(t, err)
		args = append(args, "-device", string(device))
	}
	m.process = start(t, "QEMU", k.qemu, args...)
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(console)
			t.Logf("the guest's console:\n%s", b)
		}
	})
	m.monitor, err = newQMP(m.accept(monitor))
	require.NoError(t, err)
	m.line = m.accept(line)
	m.answers = bufio.NewScanner(m.line)
	m.ready()
	return m
}

// deviceOf are the options of the device that a server offers.
func deviceOf(socket string) map[string]any {
	return map[string]any{
		"driver": "vfio-user-pci", "id": "demo", "bus": "slot1",
		"socket": map[string]any{"type": "unix", "path": socket},
	}
}

// accept waits for QEMU to connect, or to end.
func (m *machine) accept(l *net.UnixListener) net.Conn {
	m.t.Helper()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-m.done:
			l.Close()
		case <-over:
		}
	}()
	conn, err := l.Accept()
	require.NoError(m.t, err, "QEMU does not connect: %s", m.out.String())
	m.t.Cleanup(func() { conn.Close() })
	return conn
}

// ready waits for the guest's program.
func (m *machine) ready() {
	m.t.Helper()
	began := time.Now()
	for {
		line, err := m.answer(bootTime)
		require.NoError(m.t, err, "the guest does not come up")
		if line == "READY" {
			m.say("the guest is up after %v", time.Since(began).Round(time.Millisecond))
			return
		}
	}
}

// answer is the next line from the guest's program.
func (m *machine) answer(d time.Duration) (string, error) {
	if err := m.line.SetReadDeadline(time.Now().Add(d)); err != nil {
		return "", err
	}
	if !m.answers.Scan() {
		if err := m.answers.Err(); err != nil {
			return "", err
		}
		return "", errors.New("the line was closed")
	}
	return strings.TrimSpace(m.answers.Text()), nil
}

// say prints a line into the test's output.
func (m *machine) say(format string, args ...any) {
	fmt.Fprintf(m.t.Output(), format+"\n", args...)
}

// ask has the guest's program do what the words say, and prints what it found.
// Each check that failed fails the test; a guest that does not answer ends it.
func (m *machine) ask(words ...any) {
	m.t.Helper()
	request := strings.TrimSuffix(fmt.Sprintln(words...), "\n")
	_, err := fmt.Fprintln(m.line, request)
	require.NoError(m.t, err)
	passed := m.checks
	for {
		line, err := m.answer(checkTime)
		require.NoError(m.t, err, "the guest has not finished with %q", request)
		if line == "DONE" {
			break
		}
		m.note(line)
	}
	require.True(m.t, m.checks > passed || m.t.Failed(), "%q checked nothing", request)
}

// check is ask for checks of the device, reached as this machine does.
func (m *machine) check(words ...any) {
	m.t.Helper()
	m.ask(append([]any{words[0], m.how}, words[1:]...)...)
}

// note takes one line of an answer.
func (m *machine) note(line string) {
	m.t.Helper()
	m.say("%s", line)
	switch verdict, _, _ := strings.Cut(line, " "); verdict {
	case "PASS":
		m.checks++
	case "INFO":
	default:
		m.t.Error(line)
	}
}

// pass prints a check that was made on this side, and fails the test if it did
// not succeed.
func (m *machine) pass(name string, err error) {
	m.t.Helper()
	if err != nil {
		m.note(fmt.Sprintf("FAIL %s: %v", name, err))
		return
	}
	m.note("PASS " + name)
}

// reboot has the guest start anew.
func (m *machine) reboot() {
	m.t.Helper()
	_, err := fmt.Fprintln(m.line, "reboot")
	require.NoError(m.t, err)
	m.ready()
	m.pass("machine/reboot", m.monitor.wait("RESET", "", time.Second))
}

// reset resets the machine, whatever the guest is at.
func (m *machine) reset() {
	m.t.Helper()
	err := m.monitor.execute("system_reset", nil, nil)
	if err == nil {
		err = m.monitor.wait("RESET", "", 30*time.Second)
	}
	m.pass("machine/reset", err)
	m.ready()
}

// powerOff has the guest end, and QEMU with it.
func (m *machine) powerOff() {
	m.t.Helper()
	_, err := fmt.Fprintln(m.line, "poweroff")
	require.NoError(m.t, err)
	m.pass("machine/poweroff", m.wait(30*time.Second))
}

// plug gives the machine the device that a server offers.
func (m *machine) plug(socket string) {
	m.t.Helper()
	m.pass("hotplug/add", m.monitor.execute("device_add", deviceOf(socket), nil))
	m.ask("present")
}

// unplug takes the device from the machine, in agreement with the guest.
func (m *machine) unplug() {
	m.t.Helper()
	err := m.monitor.execute("device_del", map[string]any{"id": "demo"}, nil)
	if err == nil {
		err = m.monitor.wait("DEVICE_DELETED", "demo", 30*time.Second)
	}
	m.pass("hotplug/remove", err)
	m.ask("absent")
}
