//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
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

// scripted is a client whose server is the script, run by the test or in the
// background. The script begins after VERSION.
func scripted(t *testing.T, cfg *ClientConfig, script func(p *rawPeer)) *Client {
	t.Helper()
	p, fd := rawPair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		m, err := p.recv()
		if err != nil || m.Command != wire.CmdVersion {
			t.Errorf("VERSION: %v %v", m.Header, err)
			return
		}
		p.reply(m, versionBody(0, 0, ""))
		script(p)
	})
	c, err := NewClient(bg(t), fd, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		wg.Wait()
	})
	return c
}

// Section 3: what the client proposes, and which answers it takes.
func TestClientVersion(t *testing.T) {
	twin := `{"capabilities":{"twin_socket":{"supported":true,"fd_index":%d}}}`
	for _, tt := range []struct {
		name  string
		reply []byte
		cfg   *ClientConfig
		files int // sent along
		err   string
		caps  ServerCaps
	}{
		{name: "no JSON at all: the defaults of the specification", reply: versionBody(0, 0, ""),
			caps: ServerCaps{MaxFDs: 1, MaxDataXfer: 1 << 20, PageSizes: 4096, MaxMaps: 65535}},
		{name: "empty JSON", reply: versionBody(0, 1, "{}"),
			caps: ServerCaps{Version: wire.Version{Minor: 1}, MaxFDs: 1, MaxDataXfer: 1 << 20, PageSizes: 4096, MaxMaps: 65535}},
		{name: "what libvfio-user says", reply: versionBody(0, 1, `{ "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": 1048576, "migration": { "pgsize": 4096 } } }`),
			caps: ServerCaps{Version: wire.Version{Minor: 1}, MaxFDs: 8, MaxDataXfer: 1 << 20, PageSizes: 4096, MaxMaps: 65535, DirtyPageSize: 4096}},
		{name: "everything, and a key that nobody knows", reply: versionBody(0, 0,
			`{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":65536,"pgsizes":12288,"max_dma_maps":7,"write_multiple":true,"migration":{"pgsize":8192,"max_bitmap_size":64},"x":[1]}}`),
			caps: ServerCaps{MaxFDs: 16, MaxDataXfer: 65536, PageSizes: 12288, MaxMaps: 7, WriteMultiple: true, DirtyPageSize: 8192, MaxBitmap: 64}},
		{name: "more than we could ever send is taken as what we can", reply: versionBody(0, 0, `{"capabilities":{"max_msg_fds":100000,"max_data_xfer_size":9999999999}}`),
			caps: ServerCaps{MaxFDs: maxSendFDs, MaxDataXfer: maxXfer, PageSizes: 4096, MaxMaps: 65535}},
		{name: "another major", reply: versionBody(1, 0, ""), err: "version 1.0"},
		{name: "a minor above ours", reply: versionBody(0, 2, ""), err: "version 0.2"},
		{name: "short", reply: []byte{0, 0}, err: "2 bytes of payload"},
		{name: "JSON without NUL", reply: append(versionBody(0, 0, ""), "{}"...), err: "not terminated"},
		{name: "no JSON", reply: versionBody(0, 0, "{"), err: "capabilities"},
		{name: "a number that is none", reply: versionBody(0, 0, `{"capabilities":{"max_msg_fds":"8"}}`), err: "capabilities"},
		{name: "nothing can be transferred", reply: versionBody(0, 0, `{"capabilities":{"max_data_xfer_size":0}}`), err: "max_data_xfer_size 0"},
		{name: "longer than any", reply: versionBody(0, 0, string(make([]byte, maxVersion))), err: "where 4100 fit"},
		{name: "a twin socket", cfg: &ClientConfig{TwinSocket: true}, reply: versionBody(0, 0, fmt.Sprintf(twin, 1)), files: 3,
			caps: ServerCaps{MaxFDs: 1, MaxDataXfer: 1 << 20, PageSizes: 4096, MaxMaps: 65535, TwinSocket: true}},
		{name: "a twin socket that was not asked for", reply: versionBody(0, 0, fmt.Sprintf(twin, 0)), files: 1, err: "not asked for"},
		{name: "a twin socket without a file", cfg: &ClientConfig{TwinSocket: true}, reply: versionBody(0, 0, fmt.Sprintf(twin, 0)), err: "no file of the twin socket"},
		{name: "a twin socket with another index", cfg: &ClientConfig{TwinSocket: true}, reply: versionBody(0, 0, fmt.Sprintf(twin, 3)), files: 3, err: "among 3"},
		{name: "files that nobody asked for", reply: versionBody(0, 0, ""), files: 2,
			caps: ServerCaps{MaxFDs: 1, MaxDataXfer: 1 << 20, PageSizes: 4096, MaxMaps: 65535}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaves(t)
			p, fd := rawPair(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				m := p.expect(wire.CmdVersion)
				require.Empty(t, m.fds)
				require.Equal(t, wire.Version{Major: 0, Minor: 1}, wire.DecodeVersion((*[4]byte)(m.body)))
				_, err := wire.ParseCapabilities(m.body[4:])
				require.NoError(t, err)
				var files []int
				for range tt.files {
					s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					require.NoError(t, err)
					unix.Close(s[1])
					files = append(files, s[0])
				}
				p.reply(m, tt.reply, files...)
				closeFDs(files)
			})
			c, err := NewClient(bg(t), fd, tt.cfg)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				require.ErrorContains(t, err, "VERSION")
				require.Equal(t, unix.EPROTO, errs.Errno(err))
				require.Nil(t, c)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.caps, c.Server())
			require.NoError(t, c.Close())
		})
	}
}

// A server that says no to VERSION, says nothing, or is gone.
func TestClientVersionRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server func(p *rawPeer)
		is     error
	}{
		{"refused with an errno", func(p *rawPeer) { p.refuse(p.expect(wire.CmdVersion), unix.EBUSY) }, unix.EBUSY},
		{"refused without one: section 1, EINVAL", func(p *rawPeer) { p.refuse(p.expect(wire.CmdVersion), 0) }, unix.EINVAL},
		{"refused with a number that is none", func(p *rawPeer) { p.refuse(p.expect(wire.CmdVersion), 5000) }, unix.EINVAL},
		{"hangs up", func(p *rawPeer) { p.expect(wire.CmdVersion); p.close() }, errs.ErrGone},
		{"has hung up", func(p *rawPeer) { p.close() }, errs.ErrGone},
		{"says nothing", func(p *rawPeer) { p.expect(wire.CmdVersion) }, context.DeadlineExceeded},
		{"speaks something else", func(p *rawPeer) { p.write([]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2")) }, errFraming},
		{"a huge message", func(p *rawPeer) {
			m := p.expect(wire.CmdVersion)
			p.send(wire.Header{ID: m.ID, Command: m.Command, Flags: wire.TypeReply, Size: 1 << 30}, nil)
		}, errFraming},
		{"half a header", func(p *rawPeer) {
			p.expect(wire.CmdVersion)
			p.write(make([]byte, 7))
			p.close()
		}, errs.ErrGone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaves(t)
			p, fd := rawPair(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { tt.server(p) })
			_, err := NewClient(context.Background(), fd, &ClientConfig{Timeout: 50 * time.Millisecond})
			require.ErrorIs(t, err, tt.is)
		})
	}
}

// The configuration is checked, and a descriptor that is no such socket
// refused; it is closed either way.
func TestNewClientRefuses(t *testing.T) {
	leaves(t)
	for _, cfg := range []ClientConfig{{Timeout: -1}, {MaxDataXfer: -1}, {MaxDataXfer: maxXfer + 1}, {MaxFDs: 254}, {MaxFDs: -1}, {MaxMaps: -1}} {
		_, fd := rawPair(t)
		_, err := NewClient(bg(t), fd, &cfg)
		require.ErrorIs(t, err, errs.ErrInvalid)
	}
	fd, err := unix.MemfdCreate("no socket", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	_, err = NewClient(bg(t), fd, nil)
	require.ErrorIs(t, err, unix.ENOTSOCK)
	_, err = Dial(bg(t), "/nonexistent/socket", nil)
	require.ErrorIs(t, err, unix.ENOENT)
	require.ErrorContains(t, err, "/nonexistent/socket")
}

// An error names the message, carries the errno, and tells what the server
// refused from what went wrong here.
func TestClientErrors(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, func(p *rawPeer) {
		for {
			m, err := p.recv()
			if err != nil {
				return
			}
			p.refuse(m, unix.EEXIST)
		}
	})
	ctx := bg(t)
	for want, err := range map[string]error{
		"REGION_READ region 2 offset 0x10 count 4: refused: file exists":                          c.Read(ctx, 2, 0x10, make([]byte, 4)),
		"REGION_WRITE region 0 offset 0x0 count 1: refused: file exists":                          c.Write(ctx, 0, 0, []byte{1}),
		"DMA_MAP iova 0x1000 size 0x2000 rw: refused: file exists":                                c.MapDMA(ctx, 0x1000, 0x2000, addr.ReadWrite, translate.Memory{}),
		"DMA_UNMAP argsz 24 flags 0 address 0x1000 size 0x2000: refused: file exists":             c.UnmapDMA(ctx, 0x1000, 0x2000),
		"DMA_UNMAP argsz 24 flags ALL address 0x0 size 0x0: refused: file exists":                 c.UnmapAllDMA(ctx),
		"DEVICE_RESET: refused: file exists":                                                      c.Reset(ctx),
		"DEVICE_SET_IRQS NONE|TRIGGER index 2 start 3 count 4: refused: file exists":              c.SetIRQs(ctx, mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionTrigger, Index: 2, Start: 3, Count: 4}),
		"DEVICE_FEATURE DMA_LOGGING_STOP SET: refused: file exists":                               c.LogStop(ctx),
		"DEVICE_FEATURE MIGRATION PROBE: refused: file exists":                                    c.ProbeFeature(ctx, wire.FeatureMigration, 0),
		"MIG_DATA_WRITE size 3: refused: file exists":                                             c.WriteMigration(ctx, make([]byte, 3)),
		"DEVICE_FEATURE MIG_DEVICE_STATE SET: refused: file exists":                               c.SetMigrationState(ctx, mdev.MigStop),
		"DEVICE_FEATURE DMA_LOGGING_REPORT GET: refused: file exists":                             c.LogReport(ctx, 0, 0x1000, 0x1000, make([]uint64, 1)),
		"DMA_UNMAP argsz 48 flags GET_DIRTY_BITMAP address 0x0 size 0x1000: refused: file exists": c.UnmapDMADirty(ctx, 0, 0x1000, 0x1000, make([]uint64, 1)),
	} {
		require.EqualError(t, err, want)
		require.Equal(t, unix.EEXIST, errs.Errno(err))
		var ce *CommandError
		require.ErrorAs(t, err, &ce)
		require.True(t, ce.Refused)
	}
	_, err := c.DeviceInfo(ctx)
	require.EqualError(t, err, "DEVICE_GET_INFO: refused: file exists")
	_, err = c.RegionInfo(ctx, 3)
	require.EqualError(t, err, "DEVICE_GET_REGION_INFO region 3: refused: file exists")
	_, err = c.RegionIOFDs(ctx, 3)
	require.EqualError(t, err, "DEVICE_GET_REGION_IO_FDS region 3: refused: file exists")
	_, err = c.IRQInfo(ctx, 3)
	require.EqualError(t, err, "DEVICE_GET_IRQ_INFO index 3: refused: file exists")
	_, err = c.Migration(ctx)
	require.EqualError(t, err, "DEVICE_FEATURE MIGRATION GET: refused: file exists")
	_, err = c.ReadMigration(ctx, make([]byte, 8))
	require.EqualError(t, err, "MIG_DATA_READ size 8: refused: file exists")
	_, err = c.WriteMulti(ctx, make([]wire.MultiEntry, 1))
	require.EqualError(t, err, "REGION_WRITE_MULTI: by the server: not supported")
	require.ErrorIs(t, err, errs.ErrNotSupported)
}

// Replies that do not fit are errors of the one command, with EPROTO, and the
// connection stays good; files in them are closed.
func TestClientBadReplies(t *testing.T) {
	ctx := context.Background()
	info := func(r wire.RegionInfo, caps ...byte) []byte { return append(r.Append(nil), caps...) }
	sparse := func(next, n uint32, areas ...wire.SparseArea) []byte {
		b := wire.AppendRegionCaps(nil, append(areas, make([]wire.SparseArea, 1)[:max(0, 1-len(areas))]...), nil)
		copy(b[4:], []byte{byte(next), byte(next >> 8)})
		copy(b[8:], []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		return b
	}
	region := func(c *Client) error {
		r, err := c.RegionInfo(ctx, 1)
		if err == nil && r.Memory != nil {
			r.Memory.Close()
		}
		return err
	}
	iofds := func(c *Client) error { f, err := c.RegionIOFDs(ctx, 1); CloseIOFDs(f); return err }
	read := func(c *Client) error { return c.Read(ctx, 1, 8, make([]byte, 4)) }
	write := func(c *Client) error { return c.Write(ctx, 1, 8, make([]byte, 4)) }
	ra := func(n uint32, data ...byte) []byte {
		return append(wire.RegionAccess{Offset: 8, Region: 1, Count: n}.Append(nil), data...)
	}
	for _, tt := range []struct {
		name  string
		do    func(c *Client) error
		reply []byte // to each command
		files int
		want  string
	}{
		{"read: nothing", read, nil, 0, "0 bytes of payload"},
		{"read: short data", read, ra(4, 1, 2, 3), 0, "4 of 4 bytes, 19 of payload"},
		{"read: fewer bytes", read, ra(3, 1, 2, 3), 0, "3 of 4 bytes"},
		{"read: more bytes", read, ra(5, 1, 2, 3, 4, 5), 0, "21 bytes of payload, where 20 fit"},
		{"read: a file comes along and is closed", read, ra(4, 1, 2, 3, 4), 2, ""},
		{"write: nothing", write, nil, 0, "0 bytes of payload"},
		{"write: fewer bytes", write, ra(2), 0, "2 of 4 bytes"},
		{"write: data", write, ra(4, 1, 2, 3, 4), 0, "20 bytes of payload, where 16 fit"},
		{"reset: payload", func(c *Client) error { return c.Reset(ctx) }, []byte{1}, 0, "1 bytes of payload, where 0 fit"},
		{"device info: short", func(c *Client) error { _, err := c.DeviceInfo(ctx); return err }, make([]byte, 15), 0, "15 bytes of payload"},
		{"device info: absurd", func(c *Client) error { _, err := c.DeviceInfo(ctx); return err }, wire.DeviceInfo{Argsz: 16, Regions: 1 << 31}.Append(nil), 0, "regions 2147483648"},
		{"irq info: another index", func(c *Client) error { _, err := c.IRQInfo(ctx, 2); return err }, wire.IRQInfo{Argsz: 16, Index: 1}.Append(nil), 0, "index 1"},
		{"region info: short", region, make([]byte, 31), 0, "31 bytes of payload"},
		{"region info: another region", region, info(wire.RegionInfo{Argsz: 32, Index: 2}), 0, "index 2"},
		{"region info: argsz below the structure", region, info(wire.RegionInfo{Argsz: 31, Index: 1}), 0, "argsz 31"},
		{"region info: longer than argsz", region, info(wire.RegionInfo{Argsz: 32, Index: 1}, 0), 0, "33 bytes of payload, where 32 fit"},
		{"region info: capabilities that are never there", region, info(wire.RegionInfo{Argsz: 64, Index: 1, Flags: wire.RegionCaps, CapOffset: 32}), 0, "capability at 32 of 32 bytes"},
		{"region info: capability in the header", region, info(wire.RegionInfo{Argsz: 32, Index: 1, Flags: wire.RegionCaps, CapOffset: 8}), 0, "capability at 8"},
		{"region info: a file and no mmap", region, info(wire.RegionInfo{Argsz: 32, Index: 1, Size: 4096}), 1, "1 files"},
		{"region info: two files", region, info(wire.RegionInfo{Argsz: 32, Index: 1, Size: 4096, Flags: wire.RegionMmap}), 2, "2 files"},
		{"region info: a whole region, MMAP and its file", region, info(wire.RegionInfo{Argsz: 32, Index: 1, Size: 4096, Flags: wire.RegionMmap}), 1, ""},
		{"region I/O: another region", iofds, wire.IOFDs{Argsz: 16, Index: 2}.Append(nil), 0, "index 2"},
		{"region I/O: short", iofds, make([]byte, 15), 0, "15 bytes of payload"},
		{"region I/O: entries of no known length", iofds, wire.IOFDs{Argsz: 16, Index: 1, Count: 3}.Append(nil), 1, "0 bytes of entries"},
		{"region I/O: files without entries", iofds, wire.IOFDs{Argsz: 16, Index: 1}.Append(nil), 2, ""},
		{"feature: another one", func(c *Client) error { return c.ProbeFeature(ctx, 1, 0) }, wire.DeviceFeature{Argsz: 8, Flags: wire.FeatureProbe | 2}.Append(nil), 0, "MIG_DEVICE_STATE"},
		{"feature: short", func(c *Client) error { _, err := c.Migration(ctx); return err }, wire.DeviceFeature{Argsz: 8, Flags: wire.FeatureGet | 1}.Append(nil), 0, "0 bytes of data, expected 8"},
		{"feature: nothing", func(c *Client) error { _, err := c.MigrationState(ctx); return err }, nil, 0, "0 bytes of payload"},
		{"migration data: more than said", func(c *Client) error { _, err := c.ReadMigration(ctx, make([]byte, 8)); return err }, wire.MigData{Argsz: 8, Size: 1}.Append(nil), 0, "8 bytes of payload"},
		{"unmap: short", func(c *Client) error { return c.UnmapDMA(ctx, 0, 4096) }, make([]byte, 23), 0, "23 bytes of payload"},
		{"unmap: a bare header, which QEMU takes too", func(c *Client) error { return c.UnmapDMA(ctx, 0, 4096) }, nil, 0, ""},
		{"unmap: bitmap missing", func(c *Client) error { return c.UnmapDMADirty(ctx, 0, 4096, 4096, make([]uint64, 1)) }, make([]byte, 40), 0, "40 bytes of payload, expected 48"},
		{"map: payload", func(c *Client) error { return c.MapDMA(ctx, 0, 4096, addr.Read, translate.Memory{}) }, []byte{0}, 0, "1 bytes of payload"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaves(t)
			c := scripted(t, nil, func(p *rawPeer) {
				for {
					m, err := p.recv()
					if err != nil {
						return
					}
					if m.Command == wire.CmdDeviceReset && tt.name != "reset: payload" {
						p.reply(m, nil)
						continue
					}
					var files []int
					for range tt.files {
						fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
						require.NoError(t, err)
						files = append(files, fd)
					}
					p.reply(m, tt.reply, files...)
					closeFDs(files)
				}
			})
			err := tt.do(c)
			if tt.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "bad reply")
				require.ErrorContains(t, err, tt.want)
				require.Equal(t, unix.EPROTO, errs.Errno(err))
				var ce *CommandError
				require.ErrorAs(t, err, &ce)
				require.False(t, ce.Refused)
			}
			if tt.name != "reset: payload" {
				require.NoError(t, c.Reset(ctx), "the connection is still good")
			}
		})
	}
	// Capabilities, which come in a second round: argsz says how much room
	// there must be.
	for _, tt := range []struct {
		name string
		caps []byte
		want string
	}{
		{"one area", sparse(0, 1, wire.SparseArea{Offset: 0x1000, Size: 0x3000}), ""},
		{"more areas than bytes", sparse(0, 2, wire.SparseArea{Size: 1}), "2 sparse mmap areas in 16 bytes"},
		{"2^32-1 areas", sparse(0, 1<<32-1, wire.SparseArea{Size: 1}), "sparse mmap areas in 16 bytes"},
		{"an area beyond the region", sparse(0, 1, wire.SparseArea{Offset: 0x3000, Size: 0x2000}), "in a region of"},
		{"an area that wraps", sparse(0, 1, wire.SparseArea{Offset: 1 << 63, Size: 1<<63 + 1}), "in a region of"},
		{"a capability after itself", sparse(32, 1, wire.SparseArea{Size: 1}), "after 1 areas"},
		{"an unknown capability after itself", append([]byte{9, 0, 1, 0, 32, 0, 0, 0}, make([]byte, 24)...), "capability at 32"},
		{"the next one beyond the end", sparse(60, 1, wire.SparseArea{Size: 1}), "capability at 60"},
		{"the next one far away", sparse(0xfff0, 1, wire.SparseArea{Size: 1}), "capability at 65520"},
		{"a type cut short", []byte{2, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3}, "3 bytes of region type"},
		{"areas cut short", []byte{1, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3}, "3 bytes of sparse mmap areas"},
	} {
		t.Run("region info: "+tt.name, func(t *testing.T) {
			leaves(t)
			var rounds atomic.Int32
			c := scripted(t, nil, func(p *rawPeer) {
				for {
					m, err := p.recv()
					if err != nil {
						return
					}
					q := wire.DecodeRegionInfo((*[wire.RegionInfoLen]byte)(m.body))
					r := wire.RegionInfo{Argsz: uint32(wire.RegionInfoLen + len(tt.caps)), Index: 1, Size: 0x4000, Flags: wire.RegionRead | wire.RegionMmap}
					rounds.Add(1)
					if q.Argsz == wire.RegionInfoLen {
						p.reply(m, r.Append(nil))
						continue
					}
					r.Flags |= wire.RegionCaps
					r.CapOffset = wire.RegionInfoLen
					fd, err := unix.MemfdCreate("region", unix.MFD_CLOEXEC)
					require.NoError(t, err)
					p.reply(m, append(r.Append(nil), tt.caps...), fd)
					unix.Close(fd)
				}
			})
			r, err := c.RegionInfo(ctx, 1)
			require.Equal(t, int32(2), rounds.Load())
			if tt.want != "" {
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []mdev.Area{{Offset: 0x1000, Size: 0x3000}}, r.Areas)
			require.Equal(t, mdev.RegionRead|mdev.RegionMmap, r.Flags)
			require.NoError(t, r.Memory.Close())
		})
	}
}

// A reply that comes after the call has given up is dropped, with its files,
// and the connection stays good.
func TestClientLateReply(t *testing.T) {
	leaves(t)
	release := make(chan struct{})
	c := scripted(t, nil, func(p *rawPeer) {
		read := p.expect(wire.CmdRegionRead)
		info := p.expect(wire.CmdRegionInfo)
		<-release
		p.reply(read, append(wire.RegionAccess{Count: 4}.Append(nil), 1, 2, 3, 4))
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		require.NoError(t, err)
		p.reply(info, wire.RegionInfo{Argsz: 32, Size: 4096, Flags: wire.RegionMmap}.Append(nil), fd)
		unix.Close(fd)
		p.reply(p.expect(wire.CmdRegionInfo), wire.RegionInfo{Argsz: 32, Index: 5}.Append(nil))
	})
	ctx, cancel := context.WithTimeout(bg(t), 30*time.Millisecond)
	defer cancel()
	b := []byte{9, 9, 9, 9}
	err := c.Read(ctx, 0, 0, b)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, errs.ErrDeadline)
	ctx2, cancel2 := context.WithCancel(bg(t))
	time.AfterFunc(10*time.Millisecond, cancel2)
	_, err = c.RegionInfo(ctx2, 0)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, c.Err())
	close(release)
	r, err := c.RegionInfo(bg(t), 5)
	require.NoError(t, err)
	require.Zero(t, r.Size)
	require.Equal(t, []byte{9, 9, 9, 9}, b, "the buffer is the caller's again")
}

// A call takes no longer than ClientConfig.Timeout or its context, whatever
// the server does: nothing, half a message, or commands without end.
func TestClientTimeout(t *testing.T) {
	for name, server := range map[string]func(p *rawPeer, m rawMsg){
		"nothing": func(p *rawPeer, m rawMsg) {},
		"half a message": func(p *rawPeer, m rawMsg) {
			_ = p.tryWrite(wire.Header{ID: m.ID, Command: m.Command, Size: 36, Flags: 1}.Append(nil))
		},
		"commands without end": func(p *rawPeer, m rawMsg) {
			for p.tryWrite(append(wire.Header{Command: wire.CmdDMARead, Size: 32, Flags: wire.NoReply}.Append(nil), make([]byte, 16)...)) == nil {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			leaves(t)
			c := scripted(t, &ClientConfig{Timeout: 100 * time.Millisecond}, func(p *rawPeer) { server(p, p.expect(wire.CmdRegionRead)) })
			begun := time.Now()
			err := c.Read(context.Background(), 0, 0, make([]byte, 4))
			require.ErrorIs(t, err, errs.ErrDeadline)
			require.Less(t, time.Since(begun), 2*time.Second)
			require.NoError(t, c.Close())
		})
	}
}

// Messages that leave the stream unusable end the connection: every call fails
// with ErrGone, and Err says why.
func TestClientFraming(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    wire.Header
		want string
	}{
		{"a size below the header", wire.Header{Flags: wire.TypeReply, Size: 15}, "size is not between"},
		{"a command longer than we take", wire.Header{Command: wire.CmdDMAWrite, Size: 33 + 1<<20}, "size is not between 16 and 1048608"},
		{"a reply to nothing that is long", wire.Header{ID: 77, Flags: wire.TypeReply, Size: 1 << 20}, "size is not between"},
		{"a type that the protocol does not have", wire.Header{Flags: 7, Size: 16}, "neither command nor reply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaves(t)
			c := scripted(t, nil, func(p *rawPeer) {
				p.expect(wire.CmdDeviceReset)
				p.send(tt.h, nil)
			})
			err := c.Reset(bg(t))
			require.ErrorIs(t, err, errFraming)
			require.ErrorContains(t, err, tt.want)
			<-c.Done()
			require.ErrorIs(t, c.Err(), errFraming)
			require.ErrorIs(t, c.Err(), errs.ErrGone)
			require.ErrorIs(t, c.Reset(bg(t)), errFraming)
		})
	}
}

// A message that nobody asked for is dropped.
func TestClientStrayMessages(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, func(p *rawPeer) {
		m := p.expect(wire.CmdDeviceReset)
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		require.NoError(t, err)
		defer unix.Close(fd)
		p.send(wire.Header{ID: m.ID + 1, Command: wire.CmdDeviceReset, Flags: wire.TypeReply}, []byte("what?"), fd, fd)
		p.send(wire.Header{ID: 5, Command: wire.CmdDMARead, Flags: wire.NoReply}, nil, fd)
		p.reply(m, nil)
	})
	require.NoError(t, c.Reset(bg(t)))
}

// Replies find their calls in any order.
func TestClientReplyOrder(t *testing.T) {
	leaves(t)
	const n = 8
	c := scripted(t, nil, func(p *rawPeer) {
		var ms []rawMsg
		for range n {
			ms = append(ms, p.expect(wire.CmdRegionRead))
		}
		for i := range ms {
			m := ms[(i*5+3)%n]
			a := wire.DecodeRegionAccess((*[16]byte)(m.body))
			p.reply(m, append(m.body, byte(a.Offset)))
		}
		m := p.expect(wire.CmdDeviceReset)
		p.reply(m, nil)
	})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			b := make([]byte, 1)
			if err := c.Read(bg(t), 0, uint64(i), b); err != nil || b[0] != byte(i) {
				t.Errorf("read %d: %v %v", i, b, err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, c.Reset(bg(t)))
}

// Section 10: eventfds are split by the server's max_msg_fds, and armed and
// disarmed vectors do not mix in a message.
func TestClientSetIRQsSplits(t *testing.T) {
	leaves(t)
	var got []string
	p, fd := rawPair(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		p.reply(p.expect(wire.CmdVersion), versionBody(0, 0, `{"capabilities":{"max_msg_fds":8}}`))
		for {
			m, err := p.recv()
			if err != nil {
				return
			}
			s := wire.DecodeSetIRQs((*[wire.SetIRQsLen]byte)(m.body))
			got = append(got, fmt.Sprintf("%d+%d %d fds %x", s.Start, s.Count, len(m.fds), m.body[wire.SetIRQsLen:]))
			require.Equal(t, uint32(len(m.body)), s.Argsz)
			closeFDs(m.fds)
			p.reply(m, nil)
		}
	})
	c, err := NewClient(bg(t), fd, nil)
	require.NoError(t, err)
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(efd)
	set := func(start, count uint32, fds ...int) error {
		return c.SetIRQs(bg(t), mdev.IRQRequest{Flags: mdev.DataEventFD | mdev.ActionTrigger, Index: 2, Start: start, Count: count, FDs: fds})
	}
	twenty := make([]int, 20)
	for i := range twenty {
		twenty[i] = efd
	}
	require.NoError(t, set(3, 20, twenty...))
	require.NoError(t, set(0, 5, efd, -1, -1, efd, efd))
	require.NoError(t, set(0, 1))
	require.NoError(t, c.SetIRQs(bg(t), mdev.IRQRequest{Flags: mdev.DataBool | mdev.ActionTrigger, Index: 2, Count: 3, Bools: []byte{1, 0, 1}}))
	require.ErrorIs(t, set(0, 2, efd), errs.ErrInvalid)
	require.ErrorIs(t, c.SetIRQs(bg(t), mdev.IRQRequest{Flags: mdev.DataNone | mdev.ActionTrigger, Count: 1, FDs: []int{efd}}), errs.ErrInvalid)
	require.NoError(t, c.Close())
	wg.Wait()
	require.Equal(t, []string{"3+8 8 fds ", "11+8 8 fds ", "19+4 4 fds ", "0+1 1 fds ", "1+2 0 fds ", "3+2 2 fds ", "0+1 0 fds ", "0+3 0 fds 010001"}, got)
}

// Accesses longer than the server transfers go in pieces; posted ones do not.
func TestClientPieces(t *testing.T) {
	leaves(t)
	var got []string
	p, fd := rawPair(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		p.reply(p.expect(wire.CmdVersion), versionBody(0, 0, `{"capabilities":{"max_data_xfer_size":8}}`))
		for {
			m, err := p.recv()
			if err != nil {
				return
			}
			got = append(got, wire.Text(m.Header, m.body))
			switch m.Command {
			case wire.CmdRegionRead:
				a := wire.DecodeRegionAccess((*[16]byte)(m.body))
				p.reply(m, append(m.body, []byte("0123456789abcdefghij")[a.Offset:][:a.Count]...))
			case wire.CmdRegionWrite:
				if m.Flags&wire.NoReply == 0 {
					p.reply(m, m.body[:16])
				}
			case wire.CmdMigDataWrite:
				p.reply(m, nil)
			case wire.CmdMigDataRead:
				p.reply(m, append(wire.MigData{Argsz: 11, Size: 3}.Append(nil), "xyz"...))
			}
		}
	})
	c, err := NewClient(bg(t), fd, nil)
	require.NoError(t, err)
	b := make([]byte, 20)
	require.NoError(t, c.Read(bg(t), 1, 0, b))
	require.Equal(t, "0123456789abcdefghij", string(b))
	require.NoError(t, c.Write(bg(t), 1, 4, b[:9]))
	require.NoError(t, c.WriteMigration(bg(t), b[:10]))
	n, err := c.ReadMigration(bg(t), b)
	require.NoError(t, err)
	require.Equal(t, "xyz", string(b[:n]))
	require.NoError(t, c.PostWrite(bg(t), 1, 0, b[:8]))
	require.ErrorIs(t, c.PostWrite(bg(t), 1, 0, b[:9]), errs.ErrInvalid)
	require.NoError(t, c.Close())
	wg.Wait()
	require.Equal(t, []string{
		"REGION_READ id 1 command size 32: region 1 offset 0x0 count 8",
		"REGION_READ id 2 command size 32: region 1 offset 0x8 count 8",
		"REGION_READ id 3 command size 32: region 1 offset 0x10 count 4",
		"REGION_WRITE id 4 command size 40: region 1 offset 0x4 count 8 data 3031323334353637",
		"REGION_WRITE id 5 command size 33: region 1 offset 0xc count 1 data 38",
		"MIG_DATA_WRITE id 6 command size 32: argsz 16 size 8",
		"MIG_DATA_WRITE id 7 command size 26: argsz 10 size 2",
		"MIG_DATA_READ id 8 command size 24: argsz 16 size 8",
		"REGION_WRITE id 9 command|NO_REPLY size 40: region 1 offset 0x0 count 8 data 78797a3334353637",
	}, got)
}

// ReadMigration: the end is io.EOF, and libvfio-user's last reply is padded.
func TestClientReadMigrationEnd(t *testing.T) {
	leaves(t)
	c := scripted(t, nil, func(p *rawPeer) {
		p.reply(p.expect(wire.CmdMigDataRead), append(wire.MigData{Argsz: 10, Size: 2}.Append(nil), "ab\x00\x00\x00\x00\x00\x00"...))
		p.reply(p.expect(wire.CmdMigDataRead), wire.MigData{Argsz: 8}.Append(nil))
	})
	b := make([]byte, 8)
	n, err := c.ReadMigration(bg(t), b)
	require.NoError(t, err)
	require.Equal(t, "ab", string(b[:n]))
	n, err = c.ReadMigration(bg(t), b)
	require.Equal(t, io.EOF, err)
	require.Zero(t, n)
}
