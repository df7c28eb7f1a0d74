//go:build linux

package vfiouser

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// ServerCaps are what the server said of itself, with the defaults of the
// specification for what it did not say.
//
// Spec: vfio-user.rst, "VFIO_USER_VERSION", "Capabilities".
type ServerCaps struct {
	Version       wire.Version
	MaxFDs        int    // files that the server takes in a message
	MaxDataXfer   int    // bytes of an access to a region
	PageSizes     uint64 // of mappings, one bit each
	MaxMaps       int    // mappings at a time
	WriteMultiple bool   // WriteMulti is understood
	TwinSocket    bool   // the server's commands have a socket of their own
	DirtyPageSize uint64 // of dirty bitmaps, bytes; 0: not said
	MaxBitmap     uint64 // bytes of one dirty bitmap; 0: not said
}

// The version of the protocol: 0.1 is libvfio-user's, QEMU's is 0.0, and the
// server may choose any minor up to ours.
const (
	versionMajor = 0
	versionMinor = 1
)

// maxVersion bounds the payload of the server's VERSION.
const maxVersion = 4096

// negotiate exchanges VERSION. Nobody else uses c yet.
func (c *Client) negotiate(ctx context.Context) error {
	k := c.calls.get(wire.CmdVersion)
	defer c.calls.put(k)
	v := wire.Version{Major: versionMajor, Minor: versionMinor}
	k.body = c.offer().Append(v.Append(nil))
	k.nrep, k.data = wire.VersionLen, make([]byte, maxVersion)
	k.files = true
	err := c.roundTrip(ctx, k)
	defer func() { closeFDs(k.fds); k.fds = nil }()
	if err == nil {
		err = c.accept(k)
	}
	if err != nil {
		return fail(wire.CmdVersion, v.String(), err)
	}
	return nil
}

// offer is what we say of ourselves.
func (c *Client) offer() wire.Capabilities {
	say := func(n int) *uint64 { v := uint64(n); return &v }
	yes := true
	o := wire.Capabilities{
		MaxMsgFDs:       say(c.cfg.MaxFDs),
		MaxDataXferSize: say(c.cfg.MaxDataXfer),
		PageSizes:       say(int(addr.PageSize)),
		MaxDMAMaps:      say(c.cfg.MaxMaps),
		WriteMultiple:   &yes,
		Migration:       &wire.MigrationCaps{PageSize: say(int(addr.PageSize)), MaxBitmapSize: say(maxBitmap)},
	}
	if c.cfg.TwinSocket {
		o.TwinSocket = &wire.TwinSocket{Supported: true}
	}
	return o
}

// accept takes the server's answer in.
func (c *Client) accept(k *clientCall) error {
	if k.size < wire.VersionLen {
		return badReply("%d bytes of payload", k.size)
	}
	v := wire.DecodeVersion((*[wire.VersionLen]byte)(k.rep[:]))
	if v.Major != versionMajor || v.Minor > versionMinor {
		return badReply("version %v, asked for %d.%d", v, versionMajor, versionMinor)
	}
	said, err := wire.ParseCapabilities(k.data[:k.size-wire.VersionLen])
	if err != nil {
		return badReply("capabilities: %v", err)
	}
	or := func(p *uint64, otherwise, most uint64) uint64 {
		if p == nil {
			return otherwise
		}
		return min(*p, most)
	}
	c.caps = ServerCaps{
		Version:       v,
		MaxFDs:        int(or(said.MaxMsgFDs, 1, maxSendFDs)),
		MaxDataXfer:   int(or(said.MaxDataXferSize, defaultXfer, maxXfer)),
		PageSizes:     or(said.PageSizes, uint64(addr.PageSize), ^uint64(0)),
		MaxMaps:       int(or(said.MaxDMAMaps, 65535, maxStoreMaps)),
		WriteMultiple: said.WriteMultiple != nil && *said.WriteMultiple,
	}
	if m := said.Migration; m != nil {
		c.caps.DirtyPageSize = or(m.PageSize, 0, ^uint64(0))
		c.caps.MaxBitmap = or(m.MaxBitmapSize, 0, ^uint64(0))
	}
	if c.caps.MaxDataXfer == 0 {
		return badReply("max_data_xfer_size 0")
	}
	return c.acceptTwin(k, said.TwinSocket)
}

// acceptTwin takes the second socket, if there is one.
func (c *Client) acceptTwin(k *clientCall, twin *wire.TwinSocket) error {
	if twin == nil || !twin.Supported {
		return nil
	}
	if !c.cfg.TwinSocket {
		return badReply("a twin socket that was not asked for")
	}
	if twin.FDIndex == nil || *twin.FDIndex >= uint64(len(k.fds)) {
		return badReply("no file of the twin socket among %d", len(k.fds))
	}
	i := *twin.FDIndex
	fd := k.fds[i]
	k.fds = append(k.fds[:i], k.fds[i+1:]...)
	conn, err := newConn(fd, connConfig{maxFDs: 1, sendTime: c.cfg.Timeout})
	if err != nil {
		return fmt.Errorf("twin socket: %w: %w", err, unix.EPROTO)
	}
	c.twin = conn
	c.caps.TwinSocket = true
	return nil
}
