//go:build linux

package vfiouser

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate/addr"
)

// ProbeFeature asks whether the device has the feature and supports the
// operations in ops: wire.FeatureGet, wire.FeatureSet, both or none. The
// server refuses what it does not have.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_FEATURE"; Linux
// include/uapi/linux/vfio.h, struct vfio_device_feature.
func (c *Client) ProbeFeature(ctx context.Context, f wire.Feature, ops wire.FeatureFlags) error {
	_, err := c.feature(ctx, wire.FeatureFlags(f)|wire.FeatureProbe|ops&(wire.FeatureGet|wire.FeatureSet), nil, 0)
	return err
}

// GetFeature gets the n bytes of a feature's data, or fewer. req is the part
// of them that is sent with the command, for a feature that is asked about
// something.
func (c *Client) GetFeature(ctx context.Context, f wire.Feature, req []byte, n int) ([]byte, error) {
	return c.feature(ctx, wire.FeatureFlags(f)|wire.FeatureGet, req, n)
}

// SetFeature sets a feature to data.
func (c *Client) SetFeature(ctx context.Context, f wire.Feature, data []byte) error {
	_, err := c.feature(ctx, wire.FeatureFlags(f)|wire.FeatureSet, data, len(data))
	return err
}

// feature sends data and returns the data of the reply, n bytes at most.
func (c *Client) feature(ctx context.Context, f wire.FeatureFlags, data []byte, n int) ([]byte, error) {
	c.users.RLock()
	defer c.users.RUnlock()
	const most = maxBitmap + 1<<16
	if n < 0 || n > most {
		return nil, fail(wire.CmdFeature, f.String(), fmt.Errorf("%d bytes of data: %w", n, errs.ErrInvalid))
	}
	k := c.calls.get(wire.CmdFeature)
	defer c.calls.put(k)
	k.nreq = len(wire.DeviceFeature{Argsz: uint32(wire.DeviceFeatureLen + max(n, len(data))), Flags: f}.Append(k.req()[:0]))
	k.body = data
	k.nrep, k.data = wire.DeviceFeatureLen, make([]byte, n)
	err := c.roundTrip(ctx, k)
	if err == nil && k.size < wire.DeviceFeatureLen {
		err = badReply("%d bytes of payload", k.size)
	}
	if err == nil {
		r := wire.DecodeDeviceFeature((*[wire.DeviceFeatureLen]byte)(k.rep[:]))
		if r.Flags != f {
			err = badReply("%v", r)
		}
	}
	if err != nil {
		return nil, fail(wire.CmdFeature, f.String(), err)
	}
	return k.data[:k.size-wire.DeviceFeatureLen], nil
}

// getExactly gets all n bytes of a feature.
func (c *Client) getExactly(ctx context.Context, f wire.Feature, req []byte, n int) ([]byte, error) {
	b, err := c.GetFeature(ctx, f, req, n)
	if err == nil && len(b) != n {
		err = fail(wire.CmdFeature, f.String(), badReply("%d bytes of data, expected %d", len(b), n))
	}
	return b, err
}

// Migration asks which kinds of migration the device can do.
func (c *Client) Migration(ctx context.Context) (mdev.MigrationFlags, error) {
	b, err := c.getExactly(ctx, wire.FeatureMigration, nil, wire.MigrationLen)
	if err != nil {
		return 0, err
	}
	return mdev.MigrationFlags(wire.DecodeMigration((*[wire.MigrationLen]byte)(b))), nil
}

// MigrationState asks for the migration state.
func (c *Client) MigrationState(ctx context.Context) (mdev.MigState, error) {
	b, err := c.getExactly(ctx, wire.FeatureMigDeviceState, nil, wire.MigStateLen)
	if err != nil {
		return mdev.MigError, err
	}
	return mdev.MigState(wire.DecodeMigState((*[wire.MigStateLen]byte)(b)).State), nil
}

// SetMigrationState moves the device to another migration state. When it
// returns nil the device is there; on an error MigrationState says where.
func (c *Client) SetMigrationState(ctx context.Context, to mdev.MigState) error {
	return c.SetFeature(ctx, wire.FeatureMigDeviceState, wire.MigState{State: uint32(to)}.Append(nil))
}

// ReadMigration reads the next bytes of the device's state into p, no more
// than the server transfers at a time, and returns their number. io.EOF says
// that there are no more: at the end of MigPreCopy's for now, at the end of
// MigStopCopy's for good. On an error p is undefined.
//
// Spec: vfio-user.rst, "VFIO_USER_MIG_DATA_READ".
func (c *Client) ReadMigration(ctx context.Context, p []byte) (int, error) {
	c.users.RLock()
	defer c.users.RUnlock()
	p = p[:min(len(p), c.caps.MaxDataXfer)]
	k := c.calls.get(wire.CmdMigDataRead)
	defer c.calls.put(k)
	k.nreq = len(wire.MigData{Argsz: uint32(wire.MigDataLen + len(p)), Size: uint32(len(p))}.Append(k.req()[:0]))
	k.nrep, k.data = wire.MigDataLen, p
	err := c.roundTrip(ctx, k)
	var m wire.MigData
	if err == nil {
		// libvfio-user's last reply is as long as the others: size counts.
		if m = wire.DecodeMigData((*[wire.MigDataLen]byte)(k.rep[:])); k.size < wire.MigDataLen || uint64(k.size) < wire.MigDataLen+uint64(m.Size) {
			err = badReply("%v, %d bytes of payload", m, k.size)
		}
	}
	if err != nil {
		return 0, fail(wire.CmdMigDataRead, fmt.Sprintf("size %d", len(p)), err)
	}
	if m.Size == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return int(m.Size), nil
}

// WriteMigration writes p, the next bytes of the device's state, in pieces that
// the server transfers.
//
// Spec: vfio-user.rst, "VFIO_USER_MIG_DATA_WRITE".
func (c *Client) WriteMigration(ctx context.Context, p []byte) error {
	c.users.RLock()
	defer c.users.RUnlock()
	for len(p) > 0 {
		n := min(len(p), c.caps.MaxDataXfer)
		if err := c.writeMigration(ctx, p[:n]); err != nil {
			return fail(wire.CmdMigDataWrite, fmt.Sprintf("size %d", n), err)
		}
		p = p[n:]
	}
	return nil
}

func (c *Client) writeMigration(ctx context.Context, p []byte) error {
	k := c.calls.get(wire.CmdMigDataWrite)
	defer c.calls.put(k)
	k.nreq = len(wire.MigData{Argsz: uint32(wire.MigDataLen + len(p)), Size: uint32(len(p))}.Append(k.req()[:0]))
	k.body = p
	return c.roundTrip(ctx, k)
}

// LogStart starts the log of what is written to the ranges, or to everything
// if there are none, in pages of pageSize bytes: by the device, in the
// server, and by messages, in a store of our own.
func (c *Client) LogStart(ctx context.Context, pageSize addr.Len, ranges []addr.Range[addr.IOVA]) error {
	if len(ranges) > math.MaxUint16 {
		return fail(wire.CmdFeature, "", fmt.Errorf("%d ranges to log: %w", len(ranges), errs.ErrInvalid))
	}
	b := wire.LogStart{PageSize: uint64(pageSize), NumRanges: uint32(len(ranges))}.Append(nil)
	for _, r := range ranges {
		n, ok := r.Len()
		if !ok {
			return fail(wire.CmdFeature, wire.FeatureDMALoggingStart.String(), fmt.Errorf("range %v: %w", r, errs.ErrOverflow))
		}
		b = wire.LogRange{IOVA: uint64(r.Start()), Length: uint64(n)}.Append(b)
	}
	// Ours first: what the server writes once its log is on must be in one of
	// the two.
	if c.own {
		if err := c.mem.DirtyStart(); err != nil {
			return fail(wire.CmdFeature, wire.FeatureDMALoggingStart.String(), err)
		}
	}
	err := c.SetFeature(ctx, wire.FeatureDMALoggingStart, b)
	if err == nil {
		c.logs.Store(true)
	} else if c.own && !c.logs.Load() {
		_ = c.mem.DirtyStop()
	}
	return err
}

// LogStop stops the log.
func (c *Client) LogStop(ctx context.Context) error {
	err := c.SetFeature(ctx, wire.FeatureDMALoggingStop, nil)
	if err == nil && c.logs.Swap(false) && c.own {
		err = c.mem.DirtyStop()
	}
	return err
}

// LogReport reports what was written to the n bytes from iova on since the last
// report, and clears it: bit i of bitmap, lowest first, stands for the
// pageSize bytes at iova + i*pageSize. bitmap must have a bit for each page; it
// is overwritten. What the server's device wrote and what it wrote by
// messages is reported alike. libvfio-user refuses to report what it can reach
// by messages only: for that, see Memory.
func (c *Client) LogReport(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error {
	words, err := bitmapWords(n, pageSize, bitmap)
	if err != nil {
		return fail(wire.CmdFeature, wire.FeatureDMALoggingReport.String(), err)
	}
	req := wire.LogReport{IOVA: uint64(iova), Length: uint64(n), PageSize: uint64(pageSize)}.Append(nil)
	b, err := c.getExactly(ctx, wire.FeatureDMALoggingReport, req, wire.LogReportLen+8*words)
	if err != nil {
		return err
	}
	for i := range words {
		bitmap[i] = binary.NativeEndian.Uint64(b[wire.LogReportLen+8*i:])
	}
	return c.reportHere(iova, n, pageSize, bitmap[:words])
}

// reportHere adds what was written by messages.
func (c *Client) reportHere(iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error {
	if !c.own || !c.logs.Load() {
		return nil
	}
	here := make([]uint64, len(bitmap))
	if err := c.mem.DirtyTake(iova, n, pageSize, here, nil); err != nil {
		return fail(wire.CmdFeature, wire.FeatureDMALoggingReport.String(), fmt.Errorf("of messages: %w", err))
	}
	for i, w := range here {
		bitmap[i] |= w
	}
	return nil
}
