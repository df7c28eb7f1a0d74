//go:build linux

package vfiouser

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// noFD says that no file goes with a mapping.
const noFD = -1

// MapDMA lets the device access the n bytes from iova on, by messages, which
// are served from mem. The zero Memory is for what the server is to know of
// but cannot reach, such as the device's own BARs: an access is refused. When
// ClientConfig.Memory was given, mem is not looked at.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_MAP".
func (c *Client) MapDMA(ctx context.Context, iova addr.IOVA, n addr.Len, access addr.Access, mem translate.Memory) error {
	return c.mapDMA(ctx, clientMapping{iova, n, access, noFD, 0, mem})
}

// MapDMAFD lets the device access the n bytes of the file fd from off on as the
// n bytes from iova on, directly, or by messages, if the server prefers that.
// fd stays the caller's, who may close it when the call returns.
func (c *Client) MapDMAFD(ctx context.Context, iova addr.IOVA, n addr.Len, access addr.Access, fd int, off int64) error {
	return c.mapDMA(ctx, clientMapping{iova, n, access, fd, off, translate.File(fd, off)})
}

// clientMapping is what DMA_MAP says.
type clientMapping struct {
	iova   addr.IOVA
	n      addr.Len
	access addr.Access
	fd     int
	off    int64
	mem    translate.Memory
}

func (m *clientMapping) String() string {
	s := fmt.Sprintf("iova %v size %v %v", m.iova, m.n, m.access)
	if m.fd != noFD {
		s += fmt.Sprintf(" offset %#x", m.off)
	}
	return s
}

func (c *Client) mapDMA(ctx context.Context, m clientMapping) error {
	c.users.RLock()
	defer c.users.RUnlock()
	k := c.calls.get(wire.CmdDMAMap)
	defer c.calls.put(k)
	err := c.prepareMap(k, &m)
	if err == nil {
		if err = c.roundTrip(ctx, k); err != nil {
			c.forget(&m)
		}
	}
	if err != nil {
		return fail(wire.CmdDMAMap, m.String(), err)
	}
	return nil
}

// prepareMap enters the mapping in our store, so that the server can use it as
// soon as it knows of it, and makes k the command.
func (c *Client) prepareMap(k *clientCall, m *clientMapping) error {
	flags, err := mapFlags(m.access)
	if err != nil {
		return err
	}
	if m.fd != noFD && (m.fd < 0 || m.off < 0) {
		return fmt.Errorf("file %d offset %d: %w", m.fd, m.off, errs.ErrInvalid)
	}
	if c.enters(m) {
		if err := c.mem.Map(m.iova, m.n, m.mem, m.access); err != nil {
			return err
		}
	}
	if m.fd != noFD {
		k.send = []int{m.fd}
	}
	k.nreq = len(wire.DMAMap{
		Argsz: wire.DMAMapLen, Flags: flags, Offset: uint64(m.off), Address: uint64(m.iova), Size: uint64(m.n),
	}.Append(k.req()[:0]))
	return nil
}

// enters reports whether m belongs in our store.
func (c *Client) enters(m *clientMapping) bool { return c.own && m.mem.Kind() != translate.KindNone }

// forget takes m out of our store again.
func (c *Client) forget(m *clientMapping) {
	if !c.enters(m) {
		return
	}
	if _, err := c.mem.Unmap(context.Background(), m.iova, m.n); err != nil {
		c.cfg.Log.Warn("mapping that the vfio-user server refused", "mapping", m.String(), "error", err)
	}
}

func mapFlags(access addr.Access) (wire.MapFlags, error) {
	var f wire.MapFlags
	if access&addr.Read != 0 {
		f |= wire.MapRead
	}
	if access&addr.Write != 0 {
		f |= wire.MapWrite
	}
	if access&^addr.ReadWrite != 0 {
		return 0, fmt.Errorf("access %#x: %w", uint8(access), errs.ErrInvalid)
	}
	return f, nil
}

// UnmapDMA takes the mapping of the n bytes from iova on back. When it
// returns, the device does not use it any more. The specification wants one
// mapping, as it was made; our server takes several whole ones as well. A
// mapping that would be cut, or none at all, is ENOENT.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_UNMAP".
func (c *Client) UnmapDMA(ctx context.Context, iova addr.IOVA, n addr.Len) error {
	return c.unmap(ctx, wire.DMAUnmap{Argsz: wire.DMAUnmapLen, Address: uint64(iova), Size: uint64(n)}, 0, nil)
}

// UnmapAllDMA takes all mappings back.
func (c *Client) UnmapAllDMA(ctx context.Context) error {
	return c.unmap(ctx, wire.DMAUnmap{Argsz: wire.DMAUnmapLen, Flags: wire.UnmapAll}, 0, nil)
}

// UnmapDMADirty is UnmapDMA that reports what was written since the log was
// started or last reported, by the device itself and by messages: bit i of
// bitmap, lowest first, stands for the pageSize bytes at iova + i*pageSize.
// bitmap must have a bit for each page; it is overwritten.
//
// It is an extension of libvfio-user's.
func (c *Client) UnmapDMADirty(ctx context.Context, iova addr.IOVA, n, pageSize addr.Len, bitmap []uint64) error {
	return c.unmap(ctx, wire.DMAUnmap{Flags: wire.UnmapDirtyBitmap, Address: uint64(iova), Size: uint64(n)}, pageSize, bitmap)
}

func (c *Client) unmap(ctx context.Context, u wire.DMAUnmap, pageSize addr.Len, bitmap []uint64) error {
	c.users.RLock()
	defer c.users.RUnlock()
	k := c.calls.get(wire.CmdDMAUnmap)
	defer c.calls.put(k)
	err := prepareUnmap(k, &u, pageSize, bitmap)
	if err == nil {
		if err = c.roundTrip(ctx, k); err == nil {
			err = checkUnmap(k, &u, bitmap)
		}
		if isGone(err) {
			if here := c.unmapHere(ctx, &u, pageSize, bitmap); err == nil {
				err = here
			}
		}
	}
	if err != nil {
		return fail(wire.CmdDMAUnmap, u.String(), err)
	}
	return nil
}

// isGone reports whether a command that ended with err leaves the server
// without the mapping: what it does not have it will not ask for.
func isGone(err error) bool { return err == nil || err == refusal(unix.ENOENT) }

func prepareUnmap(k *clientCall, u *wire.DMAUnmap, pageSize addr.Len, bitmap []uint64) error {
	if u.Flags&wire.UnmapDirtyBitmap == 0 {
		k.nreq = len(u.Append(k.req()[:0]))
		k.nrep = wire.DMAUnmapLen
		return nil
	}
	words, err := bitmapWords(addr.Len(u.Size), pageSize, bitmap)
	if err != nil {
		return err
	}
	u.Argsz = wire.DMAUnmapLen + wire.BitmapLen + uint32(8*words)
	b := wire.Bitmap{PageSize: uint64(pageSize), Size: uint64(8 * words)}
	k.nreq = len(b.Append(u.Append(k.req()[:0])))
	k.nrep = wire.DMAUnmapLen + wire.BitmapLen
	k.data = make([]byte, 8*words)
	return nil
}

func checkUnmap(k *clientCall, u *wire.DMAUnmap, bitmap []uint64) error {
	if u.Flags&wire.UnmapDirtyBitmap == 0 {
		// QEMU takes a bare header as well.
		if k.size != wire.DMAUnmapLen && k.size != 0 {
			return badReply("%d bytes of payload", k.size)
		}
		return nil
	}
	if k.size != k.nrep+len(k.data) {
		return badReply("%d bytes of payload, expected %d", k.size, k.nrep+len(k.data))
	}
	decodeBitmap(bitmap, k.data)
	return nil
}

// unmapHere takes out of our store what u took from the server's, and adds
// what was written by messages to bitmap.
func (c *Client) unmapHere(ctx context.Context, u *wire.DMAUnmap, pageSize addr.Len, bitmap []uint64) error {
	if !c.own {
		return nil
	}
	switch {
	case u.Flags&wire.UnmapAll != 0:
		_, err := c.mem.UnmapAll(ctx)
		return err
	case u.Flags&wire.UnmapDirtyBitmap != 0 && c.logs.Load():
		words, err := bitmapWords(addr.Len(u.Size), pageSize, bitmap)
		if err != nil {
			return err
		}
		here := make([]uint64, words)
		if _, err := c.mem.UnmapDirty(ctx, addr.IOVA(u.Address), addr.Len(u.Size), pageSize, here); err == nil {
			for i := range here {
				bitmap[i] |= here[i]
			}
			return nil
		}
		// Pages of a size that our log does not know: too much rather than too
		// little.
		for i := range here {
			bitmap[i] = ^uint64(0)
		}
	}
	_, err := c.mem.Unmap(ctx, addr.IOVA(u.Address), addr.Len(u.Size))
	return err
}

// maxBitmap is the largest dirty bitmap: DIRTY_BITMAP_SIZE_MAX of Linux
// drivers/vfio/vfio_iommu_type1.c, bytes.
const maxBitmap = 256 << 20

// bitmapWords is how many words the dirty bitmap of n bytes has.
func bitmapWords(n, pageSize addr.Len, bitmap []uint64) (int, error) {
	if pageSize == 0 || pageSize&(pageSize-1) != 0 {
		return 0, fmt.Errorf("page size %v: %w", pageSize, errs.ErrInvalid)
	}
	pages := uint64(n) / uint64(pageSize)
	if uint64(n)%uint64(pageSize) != 0 {
		pages++
	}
	words := pages / 64
	if pages%64 != 0 {
		words++
	}
	if words > maxBitmap/8 || words > uint64(len(bitmap)) {
		return 0, fmt.Errorf("dirty bitmap of %d words in %d: %w", words, len(bitmap), errs.ErrInvalid)
	}
	return int(words), nil
}

// decodeBitmap decodes the bits of a reply.
func decodeBitmap(bitmap []uint64, b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		bitmap[i/8] = binary.NativeEndian.Uint64(b[i:])
	}
}
