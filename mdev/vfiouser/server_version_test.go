//go:build linux

package vfiouser

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

const qemuJSON = `{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}` + "\x00"

// TestVersion: specs, "VERSION (1)".
func TestVersion(t *testing.T) {
	rows := []struct {
		name    string
		cfg     *ServerConfig
		version wire.Version
		json    string
		want    wire.Version
		reply   string // JSON with its NUL
	}{
		{"QEMU 11.1.3: minor 0 is not exceeded", nil, wire.Version{}, qemuJSON, wire.Version{},
			`{"capabilities":{"max_msg_fds":16,"write_multiple":true,"migration":{"pgsize":4096,"max_bitmap_size":1048576}}}` + "\x00"},
		{"no JSON: nor in the reply", nil, wire.Version{}, "", wire.Version{}, ""},
		{"minor: at most that of the client", nil, wire.Version{Minor: 1}, "{}\x00", wire.Version{Minor: 1}, ""},
		{"minor: at most ours", nil, wire.Version{Minor: 77}, "{}\x00", wire.Version{Minor: 1}, ""},
		{"an empty object", nil, wire.Version{}, "{}\x00", wire.Version{}, ""},
		{"no capabilities", nil, wire.Version{}, `{"capabilities":{}}` + "\x00", wire.Version{}, ""},
		{"nothing that was not proposed", nil, wire.Version{}, `{"capabilities":{"max_msg_fds":10}}` + "\x00", wire.Version{},
			`{"capabilities":{"max_msg_fds":16}}` + "\x00"},
		{"write_multiple false is not wanted", nil, wire.Version{}, `{"capabilities":{"write_multiple":false}}` + "\x00", wire.Version{}, ""},
		{"unknown keys", nil, wire.Version{}, `{"x":0,"capabilities":{"cmd_filters":[1]}}` + "\x00", wire.Version{}, ""},
		{"less than the default is said unasked", &ServerConfig{MaxData: 65536, MaxMaps: 100}, wire.Version{},
			`{"capabilities":{"pgsizes":4096,"max_dma_maps":65535,"max_msg_fds":16}}` + "\x00", wire.Version{},
			`{"capabilities":{"max_data_xfer_size":65536,"max_dma_maps":100}}` + "\x00"},
		{"more than the default is not, unless asked", &ServerConfig{MaxData: 2 << 20}, wire.Version{},
			`{"capabilities":{"pgsizes":4096,"migration":{},"max_msg_fds":16}}` + "\x00", wire.Version{},
			`{"capabilities":{"max_msg_fds":16}}` + "\x00"},
		{"more than the default", &ServerConfig{MaxData: 2 << 20}, wire.Version{},
			`{"capabilities":{"max_data_xfer_size":1048576}}` + "\x00", wire.Version{},
			`{"capabilities":{"max_data_xfer_size":2097152}}` + "\x00"},
		{"max_msg_fds 1024 is taken", nil, wire.Version{}, `{"capabilities":{"max_msg_fds":1024}}` + "\x00", wire.Version{},
			`{"capabilities":{"max_msg_fds":16}}` + "\x00"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, row.cfg)
			request := cat(row.version, row.json)
			h, body, files := r.call(wire.CmdVersion, request)
			require.Zero(t, h.Errno)
			require.Empty(t, files)
			require.Equal(t, row.want, wire.DecodeVersion((*[4]byte)(body)))
			require.Equal(t, row.reply, string(body[4:]))
			require.LessOrEqual(t, int(h.Size), versionMax, "QEMU reads it into a buffer of that size")
			require.LessOrEqual(t, int(h.Size), wire.HeaderLen+len(request), "and others may read it into that of their request")
			r.alive()
		})
	}
}

// TestVersionFits: however long the request and however many capabilities,
// the reply fits.
func TestVersionFits(t *testing.T) {
	json := func(pad int) string {
		return `{"capabilities":{"max_msg_fds":16,"write_multiple":true,"max_data_xfer_size":1048576,"max_dma_maps":65535,"migration":{"pgsize":4096},` +
			`"twin_socket":{"supported":true}}` + strings.Repeat(" ", pad) + "}\x00"
	}
	for _, pad := range []int{0, 1, 10, 100, 10000} {
		r := newRig(t, &ServerConfig{MaxData: 8192, MaxMaps: 1000})
		request := cat(wire.Version{}, json(pad))
		h, body, files := r.call(wire.CmdVersion, request)
		require.Zero(t, h.Errno)
		require.LessOrEqual(t, int(h.Size), min(versionMax, wire.HeaderLen+len(request)))
		caps, err := wire.ParseCapabilities(body[4:])
		require.NoError(t, err)
		require.Len(t, files, 1)
		require.True(t, caps.TwinSocket.Supported)
		require.Equal(t, uint64(8192), *caps.MaxDataXferSize)
		require.Equal(t, uint64(1000), *caps.MaxDMAMaps)
	}
}

// TestVersionRefused: each ends the connection, with an error reply before
// where one is possible, and leaves the device alone.
func TestVersionRefused(t *testing.T) {
	v := wire.Version{}.Append(nil)
	rows := []struct {
		name  string
		b     []byte
		files int
		reply bool
	}{
		{"anything but VERSION first", frame(1, wire.CmdDeviceInfo, 0, wire.DeviceInfo{Argsz: 16}.Append(nil)), 0, true},
		{"a posted write first", frame(1, wire.CmdRegionWrite, wire.NoReply, regWrite(0, 1)), 0, false},
		{"VERSION without a reply", frame(1, wire.CmdVersion, wire.NoReply, v), 0, false},
		{"a reply", frame(1, wire.CmdVersion, wire.TypeReply, v), 0, false},
		{"unknown flags", frame(1, wire.CmdVersion, 0x80, v), 0, true},
		{"another major version", frame(1, wire.CmdVersion, 0, wire.Version{Major: 1}.Append(nil)), 0, true},
		{"no payload", frame(1, wire.CmdVersion, 0, nil), 0, true},
		{"3 bytes", frame(1, wire.CmdVersion, 0, v[:3]), 0, true},
		{"with a file", frame(1, wire.CmdVersion, 0, v), 1, true},
		{"JSON without NUL", frame(1, wire.CmdVersion, 0, cat(v, "{}")), 0, true},
		{"bad JSON", frame(1, wire.CmdVersion, 0, cat(v, "{\x00")), 0, true},
		{"a negative max_msg_fds", frame(1, wire.CmdVersion, 0, cat(v, `{"capabilities":{"max_msg_fds":-1}}`+"\x00")), 0, true},
		{"max_msg_fds 1025", frame(1, wire.CmdVersion, 0, cat(v, `{"capabilities":{"max_msg_fds":1025}}`+"\x00")), 0, true},
		{"a page size of migration that is none", frame(1, wire.CmdVersion, 0, cat(v, `{"capabilities":{"migration":{"pgsize":4097}}}`+"\x00")), 0, true},
		{"one below 4096", frame(1, wire.CmdVersion, 0, cat(v, `{"capabilities":{"migration":{"pgsize":2048}}}`+"\x00")), 0, true},
		{"msg_size 15", wire.Header{Command: 1, Size: 15}.Append(nil), 0, true},
		{"msg_size 2^31", wire.Header{Command: 1, Size: 1 << 31}.Append(nil), 0, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, nil)
			fds := []int{}
			for range row.files {
				fds = append(fds, memFile(t, 0))
			}
			r.write(row.b, fds...)
			if row.reply {
				h, _, _ := r.next()
				require.Equal(t, unix.EINVAL, unix.Errno(h.Errno))
				require.Equal(t, wire.TypeReply|wire.Error, h.Flags)
			}
			r.eof()
			require.Error(t, r.wait())
			require.Zero(t, r.dev.openings(), "the device is not touched")
		})
	}
}

// TestOpenFails: the reason of a device that cannot be opened is the errno of
// the reply.
func TestOpenFails(t *testing.T) {
	r := newRig(t, nil)
	r.end()
	s, err := NewServer(opener(func() error { return errs.ErrBusy }), nil)
	require.NoError(t, err)
	defer s.Close()
	x, y := socketPair(t)
	p := newSocketEnd(t, x)
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(context.Background(), y) }()
	p.write(frame(1, wire.CmdVersion, 0, wire.Version{}.Append(nil)))
	h, _, _ := p.next()
	require.Equal(t, unix.EBUSY, unix.Errno(h.Errno))
	p.eof()
	require.ErrorIs(t, <-served, errs.ErrBusy)
}

// opener fails to open.
type opener func() error

func (f opener) Open(context.Context, *mdev.SessionConfig) (*mdev.Session, error) { return nil, f() }

// FuzzVersion: whatever a client proposes, and with whatever limits of ours: the
// answer fits in 214 bytes and in those of the request, is understood by the
// parser, claims nothing that was not proposed but limits below the default,
// and no limit that is not ours.
func FuzzVersion(f *testing.F) {
	f.Add([]byte(qemuJSON), uint32(1<<20), uint16(65535))
	f.Add([]byte(`{"capabilities":{"twin_socket":{"supported":true},"max_msg_fds":0}}`+"\x00"), uint32(4096), uint16(7))
	f.Add([]byte{}, uint32(1), uint16(1))
	f.Fuzz(func(t *testing.T, json []byte, maxData uint32, maxMaps uint16) {
		cfg := ServerConfig{MaxData: int(maxData%limitMaxData) + 1, MaxMaps: max(int(maxMaps), 1)}
		require.NoError(t, cfg.resolve())
		l := &link{srv: &Server{cfg: cfg}, maxFDs: specMaxFDs, info: &mdev.Info{Migration: mdev.MigrationStopCopy}}
		m := &message{
			Header: wire.Header{Command: wire.CmdVersion, Size: uint32(wire.HeaderLen + wire.VersionLen + len(json))},
			body:   cat(wire.Version{Minor: 1}, json),
		}
		caps, minor, err := l.proposal(m)
		if err != nil {
			require.ErrorIs(t, err, errs.ErrInvalid)
			return
		}
		require.Equal(t, uint16(1), minor)
		if caps.MaxMsgFDs != nil {
			l.maxFDs = int(*caps.MaxMsgFDs)
		}
		room := min(int(m.Size), versionMax) - wire.HeaderLen - wire.VersionLen
		raw := l.answer(&caps, room).Append(nil)
		require.LessOrEqual(t, len(raw), room)
		got, err := wire.ParseCapabilities(raw)
		require.NoError(t, err)
		if got.TwinSocket != nil {
			require.True(t, caps.TwinSocket.Supported && got.TwinSocket.Supported && l.maxFDs > 0)
		}
		if got.MaxDataXferSize != nil {
			require.Equal(t, uint64(cfg.MaxData), *got.MaxDataXferSize)
			require.True(t, cfg.MaxData < specMaxData || caps.MaxDataXferSize != nil)
		}
		if got.MaxDMAMaps != nil {
			require.Equal(t, uint64(cfg.MaxMaps), *got.MaxDMAMaps)
			require.Less(t, cfg.MaxMaps, specMaxMaps)
		}
		require.True(t, got.MaxMsgFDs == nil || caps.MaxMsgFDs != nil && *got.MaxMsgFDs == limitMaxFDs)
		require.True(t, got.WriteMultiple == nil || *caps.WriteMultiple)
		require.True(t, got.Migration == nil || caps.Migration != nil)
		require.Nil(t, got.PageSizes)
	})
}
