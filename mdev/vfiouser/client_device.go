//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"math"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// DeviceInfo is what a device says of itself.
type DeviceInfo struct {
	Flags   wire.DeviceFlags
	Regions int // their number
	IRQs    int // number of interrupt indices
}

// API is the kind of device that the flags name, "" if none that we know.
func (d DeviceInfo) API() mdev.API {
	switch {
	case d.Flags&wire.DevicePCI != 0:
		return mdev.APIPCI
	case d.Flags&wire.DeviceCCW != 0:
		return mdev.APICCW
	case d.Flags&wire.DevicePlatform != 0:
		return mdev.APIPlatform
	}
	return ""
}

// DeviceInfo asks what the device is.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_INFO".
func (c *Client) DeviceInfo(ctx context.Context) (DeviceInfo, error) {
	c.users.RLock()
	defer c.users.RUnlock()
	k := c.calls.get(wire.CmdDeviceInfo)
	defer c.calls.put(k)
	k.nreq = len(wire.DeviceInfo{Argsz: wire.DeviceInfoLen}.Append(k.req()[:0]))
	k.nrep = wire.DeviceInfoLen
	err := c.roundTrip(ctx, k)
	if err == nil && k.size != wire.DeviceInfoLen {
		err = badReply("%d bytes of payload", k.size)
	}
	if err != nil {
		return DeviceInfo{}, fail(wire.CmdDeviceInfo, "", err)
	}
	d := wire.DecodeDeviceInfo((*[wire.DeviceInfoLen]byte)(k.rep[:]))
	if d.Regions > math.MaxInt32 || d.IRQs > math.MaxInt32 {
		return DeviceInfo{}, fail(wire.CmdDeviceInfo, "", badReply("%v", d))
	}
	return DeviceInfo{d.Flags, int(d.Regions), int(d.IRQs)}, nil
}

// Reset resets the device. Mappings and eventfds stay.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_RESET".
func (c *Client) Reset(ctx context.Context) error {
	c.users.RLock()
	defer c.users.RUnlock()
	k := c.calls.get(wire.CmdDeviceReset)
	defer c.calls.put(k)
	if err := c.roundTrip(ctx, k); err != nil {
		return fail(wire.CmdDeviceReset, "", err)
	}
	return nil
}

// IRQInfo asks for an interrupt index.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_IRQ_INFO".
func (c *Client) IRQInfo(ctx context.Context, index int) (mdev.IRQInfo, error) {
	c.users.RLock()
	defer c.users.RUnlock()
	if uint64(index) > math.MaxUint32 {
		return mdev.IRQInfo{}, fail(wire.CmdIRQInfo, fmt.Sprintf("index %d", index), errs.ErrInvalid)
	}
	k := c.calls.get(wire.CmdIRQInfo)
	defer c.calls.put(k)
	k.nreq = len(wire.IRQInfo{Argsz: wire.IRQInfoLen, Index: uint32(index)}.Append(k.req()[:0]))
	k.nrep = wire.IRQInfoLen
	err := c.roundTrip(ctx, k)
	var i wire.IRQInfo
	if err == nil {
		if i = wire.DecodeIRQInfo((*[wire.IRQInfoLen]byte)(k.rep[:])); k.size != wire.IRQInfoLen || i.Index != uint32(index) {
			err = badReply("%v, %d bytes of payload", i, k.size)
		}
	}
	if err != nil {
		return mdev.IRQInfo{}, fail(wire.CmdIRQInfo, fmt.Sprintf("index %d", index), err)
	}
	return mdev.IRQInfo{Count: i.Count, Flags: mdev.IRQFlags(i.Flags)}, nil
}

// SetIRQs does a request of VFIO_DEVICE_SET_IRQS. The descriptors in req stay
// the caller's. With DataEventFD, FDs has one descriptor for each of Count
// vectors, -1 for those to be disarmed, or none at all to disarm all; more
// than the server takes in a message (ServerCaps.MaxFDs), or armed and
// disarmed ones mixed, become several messages, of which the first that fails
// ends the call.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_SET_IRQS".
func (c *Client) SetIRQs(ctx context.Context, req mdev.IRQRequest) error {
	c.users.RLock()
	defer c.users.RUnlock()
	if len(req.FDs) == 0 {
		return c.setIRQs(ctx, req, req.Bools)
	}
	if uint64(len(req.FDs)) != uint64(req.Count) || req.Flags&mdev.DataEventFD == 0 {
		return fail(wire.CmdSetIRQs, setText(&req), fmt.Errorf("%d files: %w", len(req.FDs), errs.ErrInvalid))
	}
	for fds := req.FDs; len(fds) > 0; {
		n := 1
		for n < len(fds) && (fds[n] < 0) == (fds[0] < 0) && (fds[0] < 0 || n < c.caps.MaxFDs) {
			n++
		}
		part := req
		part.Count, part.FDs = uint32(n), fds[:n]
		if fds[0] < 0 {
			part.FDs = nil
		}
		if err := c.setIRQs(ctx, part, req.Bools); err != nil {
			return err
		}
		req.Start += uint32(n)
		fds = fds[n:]
	}
	return nil
}

// setIRQs sends one message. What follows the fixed part is data.
func (c *Client) setIRQs(ctx context.Context, req mdev.IRQRequest, data []byte) error {
	k := c.calls.get(wire.CmdSetIRQs)
	defer c.calls.put(k)
	k.nreq = len(wire.SetIRQs{
		Argsz: uint32(wire.SetIRQsLen + len(data)), Flags: wire.SetFlags(req.Flags),
		Index: req.Index, Start: req.Start, Count: req.Count,
	}.Append(k.req()[:0]))
	k.body, k.send = data, req.FDs
	if err := c.roundTrip(ctx, k); err != nil {
		return fail(wire.CmdSetIRQs, setText(&req), err)
	}
	return nil
}

func setText(req *mdev.IRQRequest) string {
	return fmt.Sprintf("%v index %d start %d count %d", wire.SetFlags(req.Flags), req.Index, req.Start, req.Count)
}
