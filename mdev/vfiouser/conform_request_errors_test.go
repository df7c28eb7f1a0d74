//go:build linux

package vfiouser

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_request_errors.py: what is well framed gets an error, and the session
// goes on.
func TestConformRequestErrors(t *testing.T) {
	irqs := setIRQs(wire.SetActionTrigger|wire.SetDataBool, mdev.IRQMSIX, 0, 1)
	r := negotiated(t, nil)
	r.scenarios(t, []scenario{
		{"test_bad_command: section 2", wire.MaxCommand + 1, []byte{0}, 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_bad_command: section 2, the old DIRTY_PAGES", 14, []byte{0}, 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_bad_command: section 2, the server's own", wire.CmdDMARead, make([]byte, 16), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_bad_command: section 3, VERSION again", wire.CmdVersion, make([]byte, 4), 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_no_payload: section 1", wire.CmdSetIRQs, nil, 0, unix.EINVAL, unix.EINVAL, "", nil},
		{"test_bad_request_closes_fds: section 1", wire.CmdSetIRQs, irqs, 2, unix.EINVAL, unix.EINVAL, "", nil},
	})
	// test_bad_request_closes_fds: no file stays open but those of the test.
	before := openFiles(t)
	require.Equal(t, unix.EINVAL, r.errno(wire.CmdSetIRQs, irqs, eventFDs(t, 2)...))
	r.alive()
	require.Len(t, openFiles(t), len(before)+2)
}

// test_request_errors.py: test_too_small, test_too_large, test_unsolicited_reply:
// there the session goes on, out of step; here it ends.
func TestConformFraming(t *testing.T) {
	differs(t, "framing")
	for _, tt := range []struct {
		name  string
		h     wire.Header
		reply bool
	}{
		{"test_too_small: section 1", wire.Header{ID: 0xbad1, Command: wire.CmdSetIRQs, Size: 15}, true},
		{"test_too_large: section 1", wire.Header{ID: 0xbad1, Command: wire.CmdSetIRQs, Size: 16 + 16 + 1<<20 + 1}, true},
		{"test_unsolicited_reply: section 1", wire.Header{ID: 0xbad2, Command: wire.CmdSetIRQs, Size: 16, Flags: wire.TypeReply}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := negotiated(t, nil)
			r.write(tt.h.Append(nil))
			if !tt.reply {
				// A reply to nothing is counted and dropped: it may be a late
				// one.
				r.alive()
				return
			}
			h, _, _ := r.next()
			require.Equal(t, tt.h.ID, h.ID)
			require.Equal(t, unix.EINVAL, unix.Errno(h.Errno))
			r.eof()
			require.ErrorIs(t, r.wait(), errFraming)
		})
	}
}

// test_vfu_create_ctx.py, test_vfu_realize_ctx.py, as far as there is something
// like it: a configuration that makes no sense, a device that contradicts
// itself, a second server on one path, serving before and after.
func TestConformServe(t *testing.T) {
	leaves(t)
	for _, cfg := range []ServerConfig{{MaxData: -1}, {MaxFDs: 17}, {MaxMaps: 65536}, {MaxQueue: -1}, {MessageTime: -1}} {
		_, err := NewServer(OpenDevice(newRigDevice(t)), &cfg)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}

	// The device's description is looked at when a client comes, and refuses
	// it.
	dev := newRigDevice(t)
	dev.info.Regions[rigSparse].Areas[0].Offset = 0x800 // not a page
	s, err := NewServer(OpenDevice(dev), nil)
	require.NoError(t, err)
	a, b := socketPair(t)
	go func() { _ = s.ServeConn(context.Background(), a) }()
	_, err = NewClient(bg(t), b, nil)
	require.Equal(t, unix.EINVAL, errs.Errno(err))
	require.NoError(t, s.Close())

	path := filepath.Join(t.TempDir(), "socket")
	dev = newRigDevice(t)
	s, err = NewServer(OpenDevice(dev), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe(ctx, path) }()
	var c *Client
	require.Eventually(t, func() bool { c, err = Dial(bg(t), path, nil); return err == nil }, waitFor, tick)
	require.ErrorIs(t, s.ListenAndServe(ctx, path), errs.ErrExists, "one listens there already")
	_, err = c.DeviceInfo(bg(t))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	// Section 17: after EOF it listens again.
	c, err = Dial(bg(t), path, nil)
	require.NoError(t, err)
	require.NoError(t, c.Reset(bg(t)))
	// test_destroy.py: the socket is gone with the server.
	cancel()
	require.NoError(t, <-served)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	<-c.Done()
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.ListenAndServe(context.Background(), path), errs.ErrGone)
	require.Equal(t, 2, look(dev, &dev.opens))
	require.Equal(t, 2, look(dev, &dev.closes))
}
