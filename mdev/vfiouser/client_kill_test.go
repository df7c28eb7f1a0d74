//go:build linux

package vfiouser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// step is a part of a session that has everything in it.
type step struct {
	name string
	do   func(ctx context.Context, c *Client) error
}

// wholeSession uses each command once at least. dma has the device access guest
// memory, if the test can; file is guest memory, efd two eventfds.
func wholeSession(file int, efd []int, ram []byte, dma func(iova addr.IOVA, p []byte, write bool) error) []step {
	const arm = mdev.DataEventFD | mdev.ActionTrigger
	b := make([]byte, 64)
	return []step{
		{"device info", func(ctx context.Context, c *Client) error { _, err := c.DeviceInfo(ctx); return err }},
		{"map memory", func(ctx context.Context, c *Client) error {
			return c.MapDMA(ctx, 0x100000, addr.Len(len(ram)), addr.ReadWrite, translate.Bytes(ram))
		}},
		{"map a file", func(ctx context.Context, c *Client) error {
			return c.MapDMAFD(ctx, 0x200000, 0x2000, addr.ReadWrite, file, 0)
		}},
		{"region with a file", func(ctx context.Context, c *Client) error {
			r, err := c.RegionInfo(ctx, rigSparse)
			if err == nil {
				err = r.Memory.Close()
			}
			return err
		}},
		{"region I/O files", func(ctx context.Context, c *Client) error {
			fds, err := c.RegionIOFDs(ctx, rigRegs)
			CloseIOFDs(fds)
			return err
		}},
		{"interrupt info", func(ctx context.Context, c *Client) error { _, err := c.IRQInfo(ctx, mdev.IRQMSIX); return err }},
		{"arm", func(ctx context.Context, c *Client) error {
			return c.SetIRQs(ctx, mdev.IRQRequest{Flags: arm, Index: mdev.IRQMSIX, Count: 2, FDs: efd})
		}},
		{"write", func(ctx context.Context, c *Client) error { return c.Write(ctx, rigRegs, 0, b[:8]) }},
		{"post", func(ctx context.Context, c *Client) error { return c.PostWrite(ctx, rigRegs, 8, b[:8]) }},
		{"write many", func(ctx context.Context, c *Client) error {
			_, err := c.WriteMulti(ctx, []wire.MultiEntry{{RegionAccess: wire.RegionAccess{Region: rigRegs, Count: 4}}})
			return err
		}},
		{"read", func(ctx context.Context, c *Client) error { return c.Read(ctx, rigRegs, 0, b) }},
		{"DMA by message", func(ctx context.Context, c *Client) error {
			if err := dma(0x100000, b, true); err != nil {
				return err
			}
			return dma(0x100000, b, false)
		}},
		{"DMA to the file", func(ctx context.Context, c *Client) error { return dma(0x201000, b, true) }},
		{"log", func(ctx context.Context, c *Client) error {
			if err := c.LogStart(ctx, 4096, nil); err != nil {
				return err
			}
			if err := c.LogReport(ctx, 0x100000, 0x2000, 4096, make([]uint64, 1)); err != nil {
				return err
			}
			return c.LogStop(ctx)
		}},
		{"pipeline", func(ctx context.Context, c *Client) error {
			p := c.Pipeline(ctx)
			for i := range addr.IOVA(4) {
				p.MapDMAFD(0x300000+i<<12, 4096, addr.Read, file, 0)
			}
			for i := range addr.IOVA(4) {
				p.UnmapDMA(0x300000+i<<12, 4096)
			}
			p.Read(rigRegs, 0, b)
			return p.Wait()
		}},
		{"save", func(ctx context.Context, c *Client) error {
			if err := c.SetMigrationState(ctx, mdev.MigStopCopy); err != nil {
				return err
			}
			_, err := c.ReadMigration(ctx, make([]byte, 100))
			return err
		}},
		{"load", func(ctx context.Context, c *Client) error {
			if err := c.SetMigrationState(ctx, mdev.MigResuming); err != nil {
				return err
			}
			if err := c.WriteMigration(ctx, b); err != nil {
				return err
			}
			return c.SetMigrationState(ctx, mdev.MigRunning)
		}},
		{"reset", func(ctx context.Context, c *Client) error { return c.Reset(ctx) }},
		{"unmap", func(ctx context.Context, c *Client) error { return c.UnmapDMA(ctx, 0x200000, 0x2000) }},
		{"unmap all", func(ctx context.Context, c *Client) error { return c.UnmapAllDMA(ctx) }},
		{"disarm", func(ctx context.Context, c *Client) error {
			return c.SetIRQs(ctx, mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionTrigger, Index: mdev.IRQMSIX})
		}},
	}
}

// How a connection is cut at a message.
type cut int

const (
	cutBefore cut = iota // it does not arrive
	cutHalf              // half of it does
	cutAfter             // all of it does
	numCuts
)

var cutNames = [numCuts]string{"before", "in the middle of", "after"}

// relay passes messages on between a client and a server, and cuts the
// connection at the nth: to either side the other has died.
type relay struct {
	mu       sync.Mutex
	left     int // messages until the cut
	how      cut
	a, b     *rawPeer
	copiers  sync.WaitGroup
	messages int // that have passed
}

// newRelay returns a relay, and the ends for client and server.
func newRelay(t *testing.T, n int, how cut) (r *relay, client, server int) {
	a, client := socketPair(t)
	b, server := socketPair(t)
	r = &relay{left: n, how: how, a: newRawPeer(t, a), b: newRawPeer(t, b)}
	r.copiers.Go(func() { r.copy(r.a, r.b) })
	r.copiers.Go(func() { r.copy(r.b, r.a) })
	return r, client, server
}

func (r *relay) copy(from, to *rawPeer) {
	// Whichever side ends takes the other with it.
	defer unix.Shutdown(to.fd, unix.SHUT_RDWR)
	defer unix.Shutdown(from.fd, unix.SHUT_RDWR)
	for {
		m, err := from.recv()
		if err != nil {
			closeFDs(m.fds)
			return
		}
		r.mu.Lock()
		last := r.left == 0
		r.left--
		r.messages++
		msg := append(m.Append(nil), m.body...)
		if last && r.how == cutBefore || r.left < -1 {
			msg = nil
		} else if last && r.how == cutHalf {
			msg = msg[:len(msg)/2]
		}
		if len(msg) > 0 {
			err = to.tryWrite(msg, m.fds...)
		}
		closeFDs(m.fds)
		r.mu.Unlock()
		if last || msg == nil || err != nil {
			return
		}
	}
}

// close ends the relay.
func (r *relay) close() {
	_ = unix.Shutdown(r.a.fd, unix.SHUT_RDWR)
	_ = unix.Shutdown(r.b.fd, unix.SHUT_RDWR)
	r.copiers.Wait()
	r.a.close()
	r.b.close()
}

// The connection is cut at each message of a session in turn: before it, in
// its middle, behind it. Whatever was under way ends with ErrGone in the
// client; the server closes the session and serves the next client; nothing
// stays behind at either end.
func TestCutAtEachMessage(t *testing.T) {
	leaves(t)
	for _, twin := range []bool{false, true} {
		for how := range numCuts {
			n, reached := 0, true
			for ; reached && !t.Failed(); n++ {
				t.Run(fmt.Sprintf("%s message %d, twin %v", cutNames[how], n, twin), func(t *testing.T) {
					reached = cutAt(t, n, how, twin)
				})
				if testing.Short() {
					n += 6
				}
			}
			require.Greater(t, n, 40, "the session has more messages than that")
		}
	}
}

// cutAt reports whether there was a message n to be cut at.
func cutAt(t *testing.T, n int, how cut, twin bool) (reached bool) {
	t.Helper()
	ctx := bg(t)
	dev := newRigDevice(t)
	s, err := NewServer(OpenDevice(dev), &ServerConfig{DMATime: 5 * time.Second})
	require.NoError(t, err)
	r, client, server := newRelay(t, n, how)
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(context.Background(), server) }()

	file := memFile(t, 0x2000)
	efd := eventFDs(t, 2)
	c, err := NewClient(ctx, client, &ClientConfig{TwinSocket: twin})
	if err == nil {
		for _, st := range wholeSession(file, efd, guestRAM(t, 0x2000), dev.dma) {
			if err = st.do(ctx, c); err != nil {
				err = fmt.Errorf("%s: %w", st.name, err)
				break
			}
		}
	}
	r.mu.Lock()
	reached = r.left < 0
	r.mu.Unlock()
	switch {
	case !reached:
		require.NoError(t, err)
	case err != nil:
		gone := errors.Is(err, errs.ErrGone) || errors.Is(err, errs.ErrFault) || errors.Is(err, errs.ErrNotMapped) ||
			errors.Is(err, io.ErrClosedPipe) // DMA: the device's own error
		require.True(t, gone, "%v", err)
	}
	if c != nil {
		if reached {
			select {
			case <-c.Done():
			case <-time.After(waitFor):
				require.Fail(t, "the client does not notice")
			}
			require.ErrorIs(t, c.Reset(ctx), errs.ErrGone)
			require.ErrorIs(t, c.PostWrite(ctx, rigRegs, 0, []byte{1}), errs.ErrGone)
		}
		require.NoError(t, c.Close())
		require.Empty(t, mappings(c.Memory()))
	}
	r.close()
	select {
	case <-served:
	case <-time.After(waitFor):
		require.Fail(t, "the server does not notice")
	}
	require.Nil(t, s.Session())
	require.Equal(t, look(dev, &dev.opens), look(dev, &dev.closes))

	// The next client finds a device as after a reset.
	a, b := socketPair(t)
	go func() { served <- s.ServeConn(context.Background(), a) }()
	c, err = NewClient(ctx, b, nil)
	require.NoError(t, err)
	require.NoError(t, c.Read(ctx, rigRegs, 0, make([]byte, 4)))
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
	<-served
	return reached
}

// killEnv has the test binary be a server that is to be killed.
const killEnv = "SOFTMDEV_TEST_SERVE"

// TestServeToBeKilled is no test: it is the server of TestKillServer.
func TestServeToBeKilled(t *testing.T) {
	path := os.Getenv(killEnv)
	if path == "" {
		t.Skip("only as a child of TestKillServer")
	}
	s, err := NewServer(OpenDevice(newRigDevice(t)), nil)
	require.NoError(t, err)
	t.Fatal(s.ListenAndServe(context.Background(), path))
}

// kill -9 of the server before and during each step of a session: the client
// fails with ErrGone at once, and connects to the server's successor, which
// takes the socket of the dead one over.
func TestKillServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each step")
	}
	leaves(t)
	path := filepath.Join(t.TempDir(), "socket")
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestServeToBeKilled$")
		cmd.Env = append(os.Environ(), killEnv+"="+path)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, cmd.Start())
		return cmd
	}
	ctx := bg(t)
	dial := func() (c *Client) {
		require.Eventually(t, func() bool {
			var err error
			c, err = Dial(ctx, path, nil)
			return err == nil
		}, waitFor, tick)
		return c
	}
	file, efd := memFile(t, 0x2000), eventFDs(t, 2)
	noDMA := func(addr.IOVA, []byte, bool) error { return nil } // the device is in another process
	steps := wholeSession(file, efd, guestRAM(t, 0x2000), noDMA)
	for i := range steps {
		for _, during := range []bool{false, true} {
			cmd := start()
			c := dial()
			for _, st := range steps[:i] {
				require.NoError(t, st.do(ctx, c), st.name)
			}
			kill := func() { _ = cmd.Process.Signal(syscall.SIGKILL) }
			if during {
				go kill()
			} else {
				kill()
				_ = cmd.Wait()
			}
			begun := time.Now()
			err := steps[i].do(ctx, c)
			for err == nil { // it was faster than the kill
				err = c.Reset(ctx)
			}
			require.ErrorIs(t, err, errs.ErrGone, steps[i].name)
			require.Less(t, time.Since(begun), 3*time.Second)
			<-c.Done()
			require.NoError(t, c.Close())
			if during {
				_ = cmd.Wait()
			}
			if i%8 != 0 || during {
				continue
			}
			// The successor.
			cmd = start()
			c = dial()
			for _, st := range steps {
				require.NoError(t, st.do(ctx, c), st.name)
			}
			require.NoError(t, c.Close())
			kill = func() { _ = cmd.Process.Kill() }
			kill()
			_ = cmd.Wait()
		}
	}
}
