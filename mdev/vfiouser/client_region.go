//go:build linux

package vfiouser

import (
	"context"
	"fmt"
	"math"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// Read reads len(p) bytes at off of a region into p. More bytes than the server
// transfers at a time are read in pieces. On an error p is undefined.
//
// Spec: vfio-user.rst, "VFIO_USER_REGION_READ".
func (c *Client) Read(ctx context.Context, region int, off uint64, p []byte) error {
	c.users.RLock()
	defer c.users.RUnlock()
	for {
		n := min(len(p), c.caps.MaxDataXfer)
		if err := c.readOnce(ctx, region, off, p[:n]); err != nil {
			return fail(wire.CmdRegionRead, accessText(region, off, n), err)
		}
		if p, off = p[n:], off+uint64(n); len(p) == 0 {
			return nil
		}
	}
}

func (c *Client) readOnce(ctx context.Context, region int, off uint64, p []byte) error {
	k, err := c.regionCall(wire.CmdRegionRead, region, off, p)
	if err != nil {
		return err
	}
	defer c.calls.put(k)
	k.data = p
	if err := c.roundTrip(ctx, k); err != nil {
		return err
	}
	return checkAccess(k, len(p), len(p))
}

// Write writes p at off of a region, and waits until that is done. More bytes
// than the server transfers at a time are written in pieces.
//
// Spec: vfio-user.rst, "VFIO_USER_REGION_WRITE".
func (c *Client) Write(ctx context.Context, region int, off uint64, p []byte) error {
	c.users.RLock()
	defer c.users.RUnlock()
	for {
		n := min(len(p), c.caps.MaxDataXfer)
		if err := c.writeOnce(ctx, region, off, p[:n]); err != nil {
			return fail(wire.CmdRegionWrite, accessText(region, off, n), err)
		}
		if p, off = p[n:], off+uint64(n); len(p) == 0 {
			return nil
		}
	}
}

func (c *Client) writeOnce(ctx context.Context, region int, off uint64, p []byte) error {
	k, err := c.regionCall(wire.CmdRegionWrite, region, off, p)
	if err != nil {
		return err
	}
	defer c.calls.put(k)
	k.body = p
	if err := c.roundTrip(ctx, k); err != nil {
		return err
	}
	return checkAccess(k, len(p), 0)
}

// PostWrite writes p, no more than the server transfers at a time, at off of a
// region, and does not wait: the server says nothing about it, not even that
// it failed. It is done before what is sent later is looked at, so a Read
// is a fence. PostWrite waits only for the server to take the message.
//
// Spec: vfio-user.rst, "Header", No_reply.
func (c *Client) PostWrite(ctx context.Context, region int, off uint64, p []byte) error {
	c.users.RLock()
	defer c.users.RUnlock()
	if err := c.postWrite(ctx, region, off, p); err != nil {
		return fail(wire.CmdRegionWrite, accessText(region, off, len(p)), err)
	}
	return nil
}

func (c *Client) postWrite(ctx context.Context, region int, off uint64, p []byte) error {
	if len(p) > c.caps.MaxDataXfer {
		return fmt.Errorf("more than %d: %w", c.caps.MaxDataXfer, errs.ErrInvalid)
	}
	k, err := c.regionCall(wire.CmdRegionWrite, region, off, p)
	if err != nil {
		return err
	}
	defer c.calls.put(k)
	k.body = p
	return c.post(ctx, k)
}

// post sends k as a command that gets no reply.
func (c *Client) post(ctx context.Context, k *clientCall) error {
	l := c.limit(ctx)
	if ctx.Err() != nil {
		return noReply(ctx)
	}
	if err := c.calls.post(k); err != nil {
		return err
	}
	return c.transmit(&l, k.message(wire.NoReply), nil, false)
}

// regionCall is a command about the bytes p at off of a region.
func (c *Client) regionCall(cmd wire.Command, region int, off uint64, p []byte) (*clientCall, error) {
	if uint64(region) > math.MaxUint32 {
		return nil, fmt.Errorf("region %d: %w", region, errs.ErrInvalid)
	}
	k := c.calls.get(cmd)
	wire.RegionAccess{Offset: off, Region: uint32(region), Count: uint32(len(p))}.Put((*[wire.RegionAccessLen]byte)(k.req()))
	k.nreq, k.nrep = wire.RegionAccessLen, wire.RegionAccessLen
	return k, nil
}

// checkAccess checks the reply to an access of n bytes that is to bring data
// bytes.
func checkAccess(k *clientCall, n, data int) error {
	// To an access of no bytes libvfio-user replies with a header alone.
	if n == 0 && k.size == 0 {
		return nil
	}
	if k.size < wire.RegionAccessLen {
		return badReply("%d bytes of payload", k.size)
	}
	a := wire.DecodeRegionAccess((*[wire.RegionAccessLen]byte)(k.rep[:]))
	if uint64(a.Count) != uint64(n) || k.size != wire.RegionAccessLen+data {
		return badReply("%d of %d bytes, %d of payload", a.Count, n, k.size)
	}
	return nil
}

// accessText says in errors what was accessed.
func accessText(region int, off uint64, n int) string {
	return fmt.Sprintf("region %d offset %#x count %d", region, off, n)
}

// MaxMulti is how many writes WriteMulti sends in a message, which is what
// QEMU sends at most (hw/vfio-user/protocol.h: VFIO_USER_MULTI_MAX).
const MaxMulti = 200

// WriteMulti does several writes of 1 to 8 bytes, MaxMulti to a message, in
// their order. It returns how many the server says it has done, which are all
// unless there is an error. It fails with errs.ErrNotSupported when the server
// did not say that it understands (ServerCaps.WriteMultiple).
//
// Spec: vfio-user.rst, "VFIO_USER_REGION_WRITE_MULTI".
func (c *Client) WriteMulti(ctx context.Context, w []wire.MultiEntry) (int, error) {
	return c.writeMulti(ctx, w, func(k *clientCall, n int) (int, error) {
		k.nrep = wire.WriteMultiLen
		if err := c.roundTrip(ctx, k); err != nil {
			return 0, err
		}
		if k.size != wire.WriteMultiLen {
			return 0, badReply("%d bytes of payload", k.size)
		}
		did := wire.DecodeCount((*[wire.WriteMultiLen]byte)(k.rep[:]))
		if did > uint64(n) {
			return 0, badReply("%d writes done of %d", did, n)
		}
		if did < uint64(n) {
			return int(did), fmt.Errorf("write %d of %d was not done: %w", did, n, errs.ErrInvalid)
		}
		return n, nil
	})
}

// PostWriteMulti is WriteMulti that does not wait: see PostWrite.
func (c *Client) PostWriteMulti(ctx context.Context, w []wire.MultiEntry) error {
	_, err := c.writeMulti(ctx, w, func(k *clientCall, n int) (int, error) { return n, c.post(ctx, k) })
	return err
}

func (c *Client) writeMulti(ctx context.Context, w []wire.MultiEntry, send func(k *clientCall, n int) (int, error)) (done int, err error) {
	c.users.RLock()
	defer c.users.RUnlock()
	if !c.caps.WriteMultiple {
		return 0, fail(wire.CmdWriteMulti, "", fmt.Errorf("by the server: %w", errs.ErrNotSupported))
	}
	for done < len(w) {
		some := w[done:min(len(w), done+MaxMulti)]
		k := c.calls.get(wire.CmdWriteMulti)
		k.body = wire.AppendCount(make([]byte, 0, wire.WriteMultiLen+len(some)*wire.MultiEntryLen), uint64(len(some)))
		for i := range some {
			k.body = some[i].Append(k.body)
		}
		n, err := send(k, len(some))
		c.calls.put(k)
		done += n
		if err != nil {
			return done, fail(wire.CmdWriteMulti, fmt.Sprintf("%d writes", len(some)), err)
		}
	}
	return done, nil
}
