//go:build linux

package vfiouser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// test_negotiate.py: what libvfio-user refuses before and in VERSION ends the
// connection here as there, with EINVAL.
func TestConformNegotiateRefused(t *testing.T) {
	version := func(json string) []byte { return append(wire.Version{Minor: 1}.Append(nil), json...) }
	for _, tt := range []struct {
		name string
		msg  []byte
	}{
		{"test_short_write: section 3, a payload of 0 bytes", frame(1, wire.CmdVersion, 0, nil)},
		{"test_long_write: section 1, longer than any message", wire.Header{Command: wire.CmdVersion, Size: 17 + 16 + 1<<20}.Append(nil)},
		{"test_bad_command: section 3, anything but VERSION first", frame(1, 999, 0, version(""))},
		{"test_invalid_major: section 3", frame(1, wire.CmdVersion, 0, wire.Version{Major: 999, Minor: 1}.Append(nil))},
		{"test_invalid_json_missing_NUL: section 3", frame(1, wire.CmdVersion, 0, version("{}"))},
		{"test_invalid_json_missing_closing_brace: section 3", frame(1, wire.CmdVersion, 0, version("{\x00"))},
		{"test_invalid_json_missing_closing_quote: section 3", frame(1, wire.CmdVersion, 0, version("\"\x00"))},
		{"test_invalid_json_bad_capabilities_object: section 3", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": "23" }`+"\x00"))},
		{"test_invalid_json_bad_max_fds: section 3, int", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": { "max_msg_fds": "foo" } }`+"\x00"))},
		{"test_invalid_json_bad_max_fds2: section 3, below 0", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": { "max_msg_fds": -1 } }`+"\x00"))},
		{"test_invalid_json_bad_max_fds3: section 3, above 1024", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": { "max_msg_fds": 1025 } }`+"\x00"))},
		{"test_invalid_json_bad_migration_object: section 3", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": { "migration": "23" } }`+"\x00"))},
		{"test_invalid_json_bad_pgsize: section 3, int", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": { "migration": { "pgsize": "foo" } } }`+"\x00"))},
		{"test_invalid_json_bad_pgsize2: section 3, no page size", frame(1, wire.CmdVersion, 0, version(`{ "capabilities": { "migration": { "pgsize": 4095 } } }`+"\x00"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.write(tt.msg)
			h, _, _ := r.next()
			require.Equal(t, unix.EINVAL, unix.Errno(h.Errno))
			r.eof()
			require.Error(t, r.wait())
			// Attach again: the server is there for the next client.
			r.attach(t)
			r.negotiate(rigJSON)
			r.alive()
		})
	}
}

// test_negotiate.py: what libvfio-user accepts.
func TestConformNegotiate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		json  string
		minor uint16
		reply string
		why   string
	}{
		// libvfio-user tells what it has whether asked or not.
		{"test_valid_negotiate_no_json: section 3, JSON is optional", "", 1, "", "version-terse"},
		{"test_valid_negotiate_empty_json: section 3", "{}\x00", 1, "", "version-terse"},
		{"test_valid_negotiate_json: section 3", `{ "capabilities": { "max_msg_fds": 1024, "max_data_xfer_size": 1048576 } }` + "\x00", 1,
			`{"capabilities":{"max_msg_fds":16}}` + "\x00", "version-terse"},
		{"minor of a client that is older: section 3, minor <= proposed", "", 0, "", "version-terse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			differs(t, tt.why)
			r := newRig(t, nil)
			h, body, _ := r.call(wire.CmdVersion, append(wire.Version{Minor: tt.minor}.Append(nil), tt.json...))
			require.Zero(t, h.Errno)
			require.Equal(t, wire.Version{Minor: tt.minor}, wire.DecodeVersion((*[4]byte)(body)))
			require.Equal(t, tt.reply, string(body[4:]))
			require.NoError(t, r.end(), "the client closes the connection")
		})
	}
}

// Our client and our server agree on the most that both have.
func TestConformNegotiateOurs(t *testing.T) {
	for _, tt := range []struct {
		name string
		scfg *ServerConfig
		ccfg *ClientConfig
		want ServerCaps
	}{
		{"defaults", nil, nil, ServerCaps{Version: wire.Version{Minor: 1}, MaxFDs: 16, MaxDataXfer: 1 << 20, PageSizes: 4096, MaxMaps: 65535,
			WriteMultiple: true, DirtyPageSize: 4096, MaxBitmap: 1 << 20}},
		{"a small server", &ServerConfig{MaxData: 8192, MaxFDs: 2, MaxMaps: 3}, &ClientConfig{TwinSocket: true},
			ServerCaps{Version: wire.Version{Minor: 1}, MaxFDs: 2, MaxDataXfer: 8192, PageSizes: 4096, MaxMaps: 3, WriteMultiple: true, TwinSocket: true}},
		{"a large one", &ServerConfig{MaxData: 8 << 20}, nil,
			ServerCaps{Version: wire.Version{Minor: 1}, MaxFDs: 16, MaxDataXfer: 8 << 20, PageSizes: 4096, MaxMaps: 65535,
				WriteMultiple: true, DirtyPageSize: 4096, MaxBitmap: 8 << 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDuo(t, tt.scfg, tt.ccfg, nil)
			got := d.Server()
			if !tt.want.TwinSocket {
				require.Equal(t, tt.want, got)
				return
			}
			// Not everything fits in the 214 bytes of a reply; what counts does.
			require.True(t, got.TwinSocket)
			require.Equal(t, tt.want.MaxDataXfer, got.MaxDataXfer)
			require.Equal(t, tt.want.MaxMaps, got.MaxMaps)
		})
	}
}
