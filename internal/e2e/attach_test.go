//go:build linux

package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// attach starts a QEMU without a guest, which opens the device and stops before
// the first instruction. It waits for a minute for each answer of the server.
func (k *kit) attach(t *testing.T, s *server, more ...string) *process {
	return start(t, "QEMU", k.qemu, append([]string{
		"-S", "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35,memory-backend=ram", "-m", "64M",
		"-object", "memory-backend-memfd,id=ram,share=on,size=64M",
		"-device", fmt.Sprintf(`{"driver":"vfio-user-pci","x-msg-timeout":60000,"socket":{"type":"unix","path":%q}}`, s.socket),
	}, more...)...)
}

// isOpen waits until the server has a client.
func (s *server) isOpen() error {
	return eventually(30*time.Second, func() error {
		now, err := s.tells()
		if err == nil && (now.sum(opened) != 1 || now.sum(mappings) == 0) {
			err = fmt.Errorf("%s is %d, with %d mappings", opened, now.sum(opened), now.sum(mappings))
		}
		return err
	})
}

// TestKilled kills QEMUs in the midst of attaching, each a bit later than the
// one before. Nothing is left of any, and the next one finds the device.
func TestKilled(t *testing.T) {
	k := newKit(t)
	s := k.newServer(t)
	for i := range 30 {
		q := k.attach(t, s)
		// It connects some time after it was started, and takes a few
		// milliseconds from there.
		require.NoError(t, eventually(30*time.Second, func() error {
			if !s.out.contains(fmt.Sprintf("pid=%d ", q.pid)) {
				return fmt.Errorf("no client: %s", &q.out)
			}
			return nil
		}))
		time.Sleep(time.Duration(i) * time.Millisecond)
		q.kill()
		require.NoError(t, s.empty(), "after %d ms", i)
	}
	k.attach(t, s)
	require.NoError(t, s.isOpen())
}

// TestOneAtATime: who attaches while another has the device waits, and has it
// when the other goes.
func TestOneAtATime(t *testing.T) {
	k := newKit(t)
	s := k.newServer(t)
	first := k.attach(t, s)
	require.NoError(t, s.isOpen())
	second := k.attach(t, s)
	time.Sleep(500 * time.Millisecond)
	first.kill()
	require.NoError(t, eventually(30*time.Second, func() error {
		if n := strings.Count(s.out.String(), "client came"); n != 2 {
			return fmt.Errorf("%d clients came: %s", n, &second.out)
		}
		return nil
	}))
	require.NoError(t, s.isOpen())
	second.kill()
	require.NoError(t, s.empty())
}

// TestTerminated ends a server by SIGTERM while QEMU has its device: it ends
// well and at once, its socket is gone, and QEMU lives and says so.
func TestTerminated(t *testing.T) {
	k := newKit(t)
	s := k.newServer(t)
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(s.socket), "monitor"))
	require.NoError(t, err)
	defer l.Close()
	q := k.attach(t, s, "-chardev", "socket,id=monitor,path="+l.Addr().String(), "-object", "monitor-qmp,id=qmp,chardev=monitor")
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	monitor, err := newQMP(conn)
	require.NoError(t, err)
	require.NoError(t, monitor.execute("query-status", nil, nil), "it has started")
	require.NoError(t, s.isOpen())
	require.NoError(t, syscall.Kill(s.pid, syscall.SIGTERM))
	require.NoError(t, s.wait(10*time.Second))
	require.NoFileExists(t, s.socket)
	require.NoError(t, eventually(10*time.Second, func() error {
		if !q.out.contains("EOF") && !q.out.contains("closed") {
			return fmt.Errorf("QEMU has not noticed: %q", &q.out)
		}
		return nil
	}))
	require.NoError(t, monitor.execute("query-status", nil, nil))
}

// TestNotAVMM: who connects and says nothing, or nonsense, keeps nobody out for
// long.
func TestNotAVMM(t *testing.T) {
	k := newKit(t)
	s := k.newServer(t)
	for _, say := range []string{"", "x", strings.Repeat("\x00", 64), strings.Repeat("\xff", 1<<16)} {
		c, err := net.Dial("unix", s.socket)
		require.NoError(t, err)
		_, _ = c.Write([]byte(say)) // refused somewhere on the way, or not
		defer c.Close()
	}
	k.attach(t, s)
	require.NoError(t, s.isOpen())
}
