//go:build linux

package vfiouser

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// The version of the protocol that is spoken.
const (
	majorVersion = 0
	minorVersion = 1
)

// Defaults of the specification.
const (
	specMaxFDs  = 1
	specMaxData = 1 << 20
	specMaxMaps = 65535
)

// Limits of what a client may say.
const (
	// clientMaxFDs is what libvfio-user takes for max_msg_fds.
	clientMaxFDs = 1024
	// versionMax is the size of the request of QEMU 11.1, into whose buffer it
	// reads the reply: one byte more and the device does not come up. A client
	// that does so with a smaller request is served as well: see
	// [link.version].
	versionMax = 214
)

// version executes VERSION, the first message of a connection, and opens the
// device. After an error the connection has to end.
//
// Spec: vfio-user.rst, "VFIO_USER_VERSION".
func (l *link) version(m *message) error {
	caps, minor, err := l.proposal(m)
	if err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err
	}
	l.maxFDs, l.maxDMA = specMaxFDs, min(specMaxData, l.srv.cfg.MaxData)
	if caps.MaxMsgFDs != nil {
		l.maxFDs = int(*caps.MaxMsgFDs)
	}
	if caps.MaxDataXferSize != nil {
		l.maxDMA = int(min(*caps.MaxDataXferSize, uint64(l.srv.cfg.MaxData)))
	}
	room := min(int(m.Size), versionMax) - wire.HeaderLen - wire.VersionLen
	answer := l.answer(&caps, room)
	if answer.TwinSocket != nil {
		fd, err := l.makeTwin()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		l.outFDs = append(l.outFDs, fd)
	}
	l.out = wire.Version{Major: majorVersion, Minor: min(minor, minorVersion)}.Append(l.out)
	l.out = answer.Append(l.out)
	return l.reply(m.Header, nil)
}

// proposal checks what a client proposes.
func (l *link) proposal(m *message) (caps wire.Capabilities, minor uint16, err error) {
	switch {
	case m.Flags != wire.TypeCommand || m.Command != wire.CmdVersion:
		return caps, 0, refuse("not VERSION first")
	case len(m.body) < wire.VersionLen || len(m.fds) != 0:
		return caps, 0, refuse("payload of %d bytes, %d files", len(m.body), len(m.fds))
	}
	v := wire.DecodeVersion((*[wire.VersionLen]byte)(m.body))
	if v.Major != majorVersion {
		return caps, 0, refuse("version %v", v)
	}
	caps, err = wire.ParseCapabilities(m.body[wire.VersionLen:])
	switch {
	case err != nil:
		return caps, 0, fmt.Errorf("%w: %w", err, errs.ErrInvalid)
	case caps.MaxMsgFDs != nil && *caps.MaxMsgFDs > clientMaxFDs:
		return caps, 0, refuse("max_msg_fds %d", *caps.MaxMsgFDs)
	}
	if m := caps.Migration; m != nil && m.PageSize != nil {
		if n := *m.PageSize; n < uint64(addr.PageSize) || n&(n-1) != 0 {
			return caps, 0, refuse("migration page size %#x", n)
		}
	}
	return caps, v.Minor, nil
}

// answer is what the server says of itself in room bytes of JSON: of what the
// client has proposed that which is not the default, and what is less than
// the default anyway. What matters most comes first, should there be no room
// for all.
func (l *link) answer(client *wire.Capabilities, room int) wire.Capabilities {
	var c wire.Capabilities
	add := func(wanted bool, set func(*wire.Capabilities)) {
		if !wanted {
			return
		}
		try := c
		set(&try)
		if len(try.Append(nil)) <= room {
			c = try
		}
	}
	cfg := &l.srv.cfg
	twin := client.TwinSocket != nil && client.TwinSocket.Supported && l.maxFDs > 0
	add(twin, func(c *wire.Capabilities) {
		c.TwinSocket = &wire.TwinSocket{Supported: true, FDIndex: number(0)}
	})
	more := client.MaxDataXferSize != nil && cfg.MaxData > specMaxData
	add(cfg.MaxData < specMaxData || more, func(c *wire.Capabilities) { c.MaxDataXferSize = number(cfg.MaxData) })
	add(cfg.MaxMaps < specMaxMaps, func(c *wire.Capabilities) { c.MaxDMAMaps = number(cfg.MaxMaps) })
	add(client.MaxMsgFDs != nil && cfg.MaxFDs != specMaxFDs, func(c *wire.Capabilities) { c.MaxMsgFDs = number(cfg.MaxFDs) })
	add(client.WriteMultiple != nil && *client.WriteMultiple, func(c *wire.Capabilities) {
		yes := true
		c.WriteMultiple = &yes
	})
	add(client.Migration != nil && l.info.Migration != 0, func(c *wire.Capabilities) {
		c.Migration = &wire.MigrationCaps{PageSize: number(int(addr.PageSize)), MaxBitmapSize: number(cfg.MaxData)}
	})
	return c
}

func number(n int) *uint64 {
	u := uint64(n)
	return &u
}

// makeTwin makes the socket for the server's commands. It returns the client's
// end.
func (l *link) makeTwin() (int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("twin socket: %w", err)
	}
	c, err := newConn(fds[0], connConfig{
		maxMessage: l.c.cfg.maxMessage, maxFDs: l.c.cfg.maxFDs,
		messageTime: l.srv.cfg.MessageTime, sendTime: l.srv.cfg.SendTime,
	})
	if err != nil {
		unix.Close(fds[1])
		return -1, err
	}
	l.dma = newDemux(c, false, &l.srv.cfg)
	l.dma.lost = l.c.shutdown
	return fds[1], nil
}
