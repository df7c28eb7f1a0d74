package wire_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// qemuJSON is what QEMU 11.1.3 sends, byte for byte: with header, version and
// NUL, 214 bytes.
const qemuJSON = `{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}`

func u64(n uint64) *uint64 { return &n }
func yes() *bool           { b := true; return &b }

// TestParseCapabilities: vfio-user.rst, "VFIO_USER_VERSION".
func TestParseCapabilities(t *testing.T) {
	require.Equal(t, 214, wire.HeaderLen+wire.VersionLen+len(qemuJSON)+1)
	ok := []struct {
		name, json string
		want       wire.Capabilities
	}{
		{"QEMU 11.1.3", qemuJSON, wire.Capabilities{
			MaxMsgFDs: u64(16), MaxDataXferSize: u64(1 << 20), PageSizes: u64(4096), MaxDMAMaps: u64(65535), WriteMultiple: yes(),
			Migration: &wire.MigrationCaps{PageSize: u64(4096), MaxBitmapSize: u64(256 << 20)},
		}},
		{"an empty object", `{}`, wire.Capabilities{}},
		{"no capability", `{"capabilities":{}}`, wire.Capabilities{}},
		{"unknown keys are ignored", `{"x":1,"capabilities":{"y":{"z":[]},"pgsizes":8192}}`, wire.Capabilities{PageSizes: u64(8192)}},
		{"a key is what it is, in its own case", `{"Capabilities":1,"capabilities":{"PGSIZES":"no"}}`, wire.Capabilities{}},
		{"twin_socket: supported defaults to false", `{"capabilities":{"twin_socket":{}}}`, wire.Capabilities{TwinSocket: &wire.TwinSocket{}}},
		{"twin_socket of a reply", `{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}`,
			wire.Capabilities{TwinSocket: &wire.TwinSocket{Supported: true, FDIndex: u64(0)}}},
	}
	for _, r := range ok {
		t.Run(r.name, func(t *testing.T) {
			got, err := wire.ParseCapabilities([]byte(r.json + "\x00"))
			require.NoError(t, err)
			require.Equal(t, r.want, got)
		})
	}
	none, err := wire.ParseCapabilities(nil)
	require.NoError(t, err, "version data is optional")
	require.Zero(t, none)

	bad := []struct{ name, json string }{
		{"no NUL", qemuJSON},
		{"only a NUL", "\x00"},
		{"NUL within", "{}\x00{}\x00"},
		{"not JSON", "hello\x00"},
		{"cut short", qemuJSON[:80] + "\x00"},
		{"not an object", "[]\x00"},
		{"null", "null\x00"},
		{"capabilities null", `{"capabilities":null}` + "\x00"},
		{"capabilities a number", `{"capabilities":1}` + "\x00"},
		{"not UTF-8", "{\"\xff\":1}\x00"},
		{"a negative number", `{"capabilities":{"max_msg_fds":-1}}` + "\x00"},
		{"a fraction", `{"capabilities":{"max_msg_fds":1.5}}` + "\x00"},
		{"a string for a number", `{"capabilities":{"max_dma_maps":"7"}}` + "\x00"},
		{"null for a number", `{"capabilities":{"max_dma_maps":null}}` + "\x00"},
		{"beyond 64 bits", `{"capabilities":{"pgsizes":18446744073709551616}}` + "\x00"},
		{"a number for a boolean", `{"capabilities":{"write_multiple":1}}` + "\x00"},
		{"a number for an object", `{"capabilities":{"migration":1}}` + "\x00"},
		{"a string within migration", `{"capabilities":{"migration":{"pgsize":"x"}}}` + "\x00"},
		{"a number for supported", `{"capabilities":{"twin_socket":{"supported":1}}}` + "\x00"},
		{"twin_socket null", `{"capabilities":{"twin_socket":null}}` + "\x00"},
		{"deep", strings.Repeat(`{"capabilities":`, 20000) + "\x00"},
	}
	for _, r := range bad {
		t.Run(r.name, func(t *testing.T) {
			_, err := wire.ParseCapabilities([]byte(r.json))
			require.Error(t, err)
		})
	}
}

// TestAppendCapabilities: no white space, nothing that was not said, a NUL.
func TestAppendCapabilities(t *testing.T) {
	require.Empty(t, wire.Capabilities{}.Append(nil), "nothing said, nothing sent")
	got := wire.Capabilities{MaxMsgFDs: u64(16), WriteMultiple: yes()}.Append([]byte("x"))
	require.Equal(t, `x{"capabilities":{"max_msg_fds":16,"write_multiple":true}}`+"\x00", string(got))
	all := wire.Capabilities{
		MaxMsgFDs: u64(16), MaxDataXferSize: u64(64 << 20), PageSizes: u64(4096), MaxDMAMaps: u64(65534), WriteMultiple: yes(),
		Migration: &wire.MigrationCaps{PageSize: u64(4096)}, TwinSocket: &wire.TwinSocket{Supported: true, FDIndex: u64(0)},
	}.Append(nil)
	back, err := wire.ParseCapabilities(all)
	require.NoError(t, err)
	require.Equal(t, all, back.Append(nil))
}

// FuzzVersionJSON: whatever the JSON, parsing ends with capabilities or an
// error; what was understood, said again, is understood the same.
func FuzzVersionJSON(f *testing.F) {
	f.Add([]byte(qemuJSON + "\x00"))
	f.Add([]byte(`{"capabilities":{"twin_socket":{"supported":true,"fd_index":0},"pgsizes":0}}` + "\x00"))
	f.Add([]byte("{}\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := wire.ParseCapabilities(data)
		if err != nil {
			return
		}
		again, err := wire.ParseCapabilities(c.Append(nil))
		if err != nil {
			t.Fatalf("%q, understood as %q: %v", data, c.Append(nil), err)
		}
		require.Equal(t, c, again)
	})
}
