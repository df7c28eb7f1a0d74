//go:build linux

package vfiouser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/internal/fault"
	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/mdevtest"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// script is a session with something of everything. Before each message that
// is sent or received it passes a fault point; where that fails, the client
// does what die does, and the script ends with the error.
type script struct {
	p     *socketEnd
	pts   *fault.Points
	die   func(next []byte) // next is the message it was about to send; nil before a receive
	file  int               // guest memory
	event int
	id    uint16
}

func (s *script) send(c wire.Command, flags wire.Flags, payload []byte, fds ...int) error {
	s.id++
	b := frame(s.id, c, flags, payload)
	if err := s.pts.Hit(fmt.Sprintf("send %v", c)); err != nil {
		s.die(b)
		return err
	}
	return s.p.tryWrite(b, fds...)
}

// recv receives the next message, which is to be a reply to c or a command c.
func (s *script) recv(c wire.Command) (wire.Header, []byte, error) {
	if err := s.pts.Hit(fmt.Sprintf("receive %v", c)); err != nil {
		s.die(nil)
		return wire.Header{}, nil, err
	}
	h, body, fds, err := s.p.tryNext()
	closeFDs(fds)
	if err == nil && (h.Command != c || h.Flags&wire.Error != 0) {
		err = fmt.Errorf("received %v instead of %v", h, c)
	}
	return h, body, err
}

func (s *script) call(c wire.Command, payload []byte, fds ...int) error {
	if err := s.send(c, 0, payload, fds...); err != nil {
		return err
	}
	_, _, err := s.recv(c)
	return err
}

const (
	rigDoorbell = 0x80 // a write of 1 or 2 here has killDevice do DMA, by message or by lease
	scriptRAM   = 0x100000
	scriptFar   = 0x900000
)

// killDevice rings.
func killDevice(d *rigDevice) {
	d.onWrite = func(region int, off uint64, p []byte) error {
		if region == rigRegs && off == rigDoorbell {
			if p[0] == 1 {
				d.ring(scriptFar+8, 64, false, false)
			} else {
				d.ring(scriptRAM+0x800, 64, true, true)
			}
		}
		return nil
	}
}

func (s *script) run() error {
	migState := func(n uint32) []byte { return feature(16, wire.FeatureSet|2, wire.MigState{State: n}) }
	const arm = wire.SetDataEventFD | wire.SetActionTrigger
	steps := []func() error{
		func() error { return s.call(wire.CmdVersion, append(wire.Version{}.Append(nil), rigJSON...)) },
		func() error {
			return errors.Join( // pipelined, as QEMU does
				s.send(wire.CmdDMAMap, 0, wire.DMAMap{Argsz: 32, Flags: 3, Address: scriptRAM, Size: 0x10000}.Append(nil), s.file),
				s.send(wire.CmdDMAMap, 0, wire.DMAMap{Argsz: 32, Flags: 3, Address: scriptFar, Size: 0x1000}.Append(nil)),
				s.send(wire.CmdDMAMap, 0, wire.DMAMap{Argsz: 32, Flags: 3 | wire.MapFileIO, Address: 2 * scriptFar, Size: 0x1000}.Append(nil), s.file))
		},
		func() error { _, _, err := s.recv(wire.CmdDMAMap); return err },
		func() error { _, _, err := s.recv(wire.CmdDMAMap); return err },
		func() error { _, _, err := s.recv(wire.CmdDMAMap); return err },
		func() error { return s.call(wire.CmdDeviceInfo, wire.DeviceInfo{Argsz: 16}.Append(nil)) },
		func() error { return s.call(wire.CmdRegionInfo, regionInfo(64, rigSparse)) },
		func() error { return s.call(wire.CmdRegionIOFDs, wire.IOFDs{Argsz: 96, Index: rigRegs}.Append(nil)) },
		func() error { return s.call(wire.CmdIRQInfo, wire.IRQInfo{Argsz: 16, Index: mdev.IRQMSIX}.Append(nil)) },
		func() error { return s.call(wire.CmdSetIRQs, setIRQs(arm, mdev.IRQMSIX, 0, 1), s.event) },
		func() error { return s.call(wire.CmdRegionRead, access(mdev.Config, 0, 256)) },
		func() error {
			return s.send(wire.CmdWriteMulti, wire.NoReply, multi(2, entry(rigRegs, 0, 1), entry(rigRegs, 1, 1)))
		},
		func() error { return s.send(wire.CmdRegionWrite, wire.NoReply, regWrite(rigDoorbell, 1)) },
		func() error { // the device reads by message
			h, body, err := s.recv(wire.CmdDMARead)
			if err != nil {
				return err
			}
			return s.p.tryWrite(frame(h.ID, h.Command, wire.TypeReply, append(body, make([]byte, 64)...)))
		},
		func() error { return s.call(wire.CmdRegionWrite, regWrite(rigDoorbell, 2)) },
		func() error {
			return s.call(wire.CmdFeature, feature(24, wire.FeatureSet|6, wire.LogStart{PageSize: 4096}))
		},
		func() error { // again, with an unmap behind it that has to wait
			return errors.Join(
				s.send(wire.CmdRegionWrite, wire.NoReply, regWrite(rigDoorbell, 1)),
				s.send(wire.CmdDMAUnmap, 0, wire.DMAUnmap{Argsz: 24, Address: scriptFar, Size: 0x1000}.Append(nil)),
				s.send(wire.CmdDMAMap, 0, wire.DMAMap{Argsz: 32, Flags: 3, Address: scriptFar, Size: 0x1000}.Append(nil), s.file))
		},
		s.unmapOrRead,
		func() error { _, _, err := s.recv(wire.CmdDMAMap); return err },
		func() error { return s.call(wire.CmdFeature, migState(6)) },
		func() error { return s.call(wire.CmdMigDataRead, wire.MigData{Argsz: 108, Size: 100}.Append(nil)) },
		func() error { return s.call(wire.CmdFeature, migState(3)) },
		func() error { return s.call(wire.CmdMigDataRead, wire.MigData{Argsz: 108, Size: 100}.Append(nil)) },
		func() error { return s.call(wire.CmdFeature, migState(4)) },
		func() error {
			return s.call(wire.CmdMigDataWrite, append(wire.MigData{Argsz: 9, Size: 1}.Append(nil), 1))
		},
		func() error { return s.call(wire.CmdDeviceReset, nil) },
		func() error {
			return s.call(wire.CmdDMAUnmap, wire.DMAUnmap{Argsz: 24, Flags: wire.UnmapAll}.Append(nil))
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// unmapOrRead takes what comes of a read by message and an unmap of what it
// reads: the read may come to nothing.
func (s *script) unmapOrRead() error {
	for {
		if err := s.pts.Hit("receive, read or unmap"); err != nil {
			s.die(nil)
			return err
		}
		h, body, _, err := s.p.tryNext()
		switch {
		case err != nil:
			return err
		case h.Command == wire.CmdDMAUnmap:
			return nil
		}
		if err := s.p.tryWrite(frame(h.ID, h.Command, wire.TypeReply, append(body, make([]byte, 64)...))); err != nil {
			return err
		}
	}
}

func newScript(t testing.TB, p *socketEnd, pts *fault.Points) *script {
	return &script{p: p, pts: pts, file: memFile(t, 0x10000), event: eventFDs(t, 1)[0]}
}

// TestClientDies: a client that vanishes at any message of a session, or in the
// middle of one, leaves nothing behind, and the next one is served.
func TestClientDies(t *testing.T) {
	for name, die := range map[string]func(s *script, next []byte){
		"between messages": func(s *script, next []byte) { s.p.hangUp() },
		"within a message": func(s *script, next []byte) {
			if len(next) > 0 {
				_ = s.p.tryWrite(next[:1+len(next)/2], s.file)
			}
			s.p.hangUp()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, killDevice)
			r.end()
			var clients uint64 = 1
			open := len(openFiles(t))
			fired := fault.Sweep(t, func(pts *fault.Points) error {
				x, y := socketPair(t)
				p := &socketEnd{t, x}
				served := make(chan error, 1)
				go func() { served <- r.s.ServeConn(context.Background(), y) }()
				s := newScript(t, p, pts)
				s.die = func(next []byte) { die(s, next) }
				err := s.run()
				session := r.s.Session()
				p.hangUp()
				<-served
				p.close()
				unix.Close(s.file)
				unix.Close(s.event)
				clients++
				if session != nil {
					mdevtest.Check(t, session)
				}
				return err
			}, func() {
				if n := len(openFiles(t)); n > open {
					t.Errorf("%d descriptors became %d: %v", open, n, openFiles(t))
				}
				require.Equal(t, clients, r.s.Stats().Clients)
			})
			require.Greater(t, len(fired), 40)
		})
	}
}

// TestServerCloses: a server that is closed at any message of a session has
// nothing left when Close returns, and the client sees the end.
func TestServerCloses(t *testing.T) {
	noLeaks(t)
	dev := newRigDevice(t)
	killDevice(dev)
	fault.Sweep(t, func(pts *fault.Points) error {
		server, err := NewServer(OpenDevice(dev), nil)
		require.NoError(t, err)
		x, y := socketPair(t)
		p := newSocketEnd(t, x)
		served := make(chan error, 1)
		go func() { served <- server.ServeConn(context.Background(), y) }()
		s := newScript(t, p, pts)
		s.die = func([]byte) {
			session := server.Session()
			require.NoError(t, server.Close())
			if session != nil {
				mdevtest.Check(t, session)
			}
			for { // what was sent before is still there, then comes the end
				if _, _, fds, err := p.tryNext(); err != nil {
					require.Contains(t, []error{io.EOF, unix.ECONNRESET}, err)
					closeFDs(fds)
					break
				}
			}
		}
		err = s.run()
		require.NoError(t, server.Close())
		<-served
		p.close()
		return err
	}, nil)
}

// The rest is kill -9 for real: the test binary runs itself as the one who is
// going to die.

const (
	killRole = "SOFTMDEV_TEST_KILL_ROLE" // client or server
	killPath = "SOFTMDEV_TEST_KILL_PATH" // the socket
	killAt   = "SOFTMDEV_TEST_KILL_AT"   // the point, counted from 1
)

// TestKilledProcess is not a test but the other process.
func TestKilledProcess(t *testing.T) {
	role := os.Getenv(killRole)
	if role == "" {
		t.Skip("not started by another test")
	}
	at, err := strconv.Atoi(os.Getenv(killAt))
	require.NoError(t, err)
	pts := fault.Inject(at)
	kill := func() {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	if role == "client" {
		s := newScript(t, dialRaw(t, os.Getenv(killPath)), pts)
		s.die = func([]byte) { kill() }
		require.NoError(t, s.run())
		return
	}
	dev := newRigDevice(t)
	killDevice(dev)
	server, err := NewServer(OpenDevice(dev), &ServerConfig{Log: slog.New(&killHandler{pts, kill})})
	require.NoError(t, err)
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // until the other process goes
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	require.NoError(t, server.ListenAndServe(ctx, os.Getenv(killPath)))
}

// killHandler is a log that counts the messages of a server, and ends it at one
// of them.
type killHandler struct {
	pts  *fault.Points
	kill func()
}

func (h *killHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *killHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *killHandler) WithGroup(string) slog.Handler            { return h }
func (h *killHandler) Handle(context.Context, slog.Record) error {
	if h.pts.Hit("log") != nil {
		h.kill()
	}
	return nil
}

func helper(t *testing.T, role, path string, at int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	cmd.Env = append(os.Environ(), killRole+"="+role, killPath+"="+path, killAt+"="+strconv.Itoa(at))
	return cmd
}

func killed(cmd *exec.Cmd) bool {
	ws, ok := cmd.ProcessState.Sys().(interface {
		Signaled() bool
	})
	return ok && ws.Signaled()
}

// TestClientKilled: kill -9 of the client process at any message.
func TestClientKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process per message")
	}
	noLeaks(t)
	dev := newRigDevice(t)
	killDevice(dev)
	server, err := NewServer(OpenDevice(dev), nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sock")
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe(context.Background(), path) }()
	dialRaw(t, path).close()
	open := -1
	for n := 1; ; n++ {
		cmd := helper(t, "client", path, n)
		out, err := cmd.CombinedOutput()
		if err == nil {
			require.Greater(t, n, 40)
			break
		}
		require.True(t, killed(cmd), "%v: %s", err, out)
		for end := time.Now().Add(10 * time.Second); server.Stats().Connected && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		now := openFiles(t)
		if open < 0 {
			open = len(now)
		}
		require.LessOrEqual(t, len(now), open, "killed at point %d: %v", n, now)
	}
	require.NoError(t, server.Close())
	require.NoError(t, <-served)
	opens := dev.openings()
	require.Equal(t, opens[0], opens[1], "each that was opened was closed")
}

// TestServerKilled: kill -9 of the server process at any message: the client sees
// the end, and finds the next server in the same place.
func TestServerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process per message")
	}
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "sock")
	for n := 1; ; n++ {
		cmd := helper(t, "server", path, n)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		p := dialRaw(t, path)
		s := newScript(t, p, nil)
		err = s.run()
		p.close()
		if err == nil {
			in.Close() // which ends one that was not killed
		} else {
			require.Condition(t, func() bool {
				return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
			}, "killed at message %d: %v", n, err)
		}
		if cmd.Wait() == nil {
			require.Greater(t, n, 40)
			return
		}
		require.True(t, killed(cmd))
	}
}
