//go:build linux

package vfiouser

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
)

// maxCaps bounds the reply to DEVICE_GET_REGION_INFO: some 65,000 areas.
const maxCaps = 1 << 20

// RegionInfo asks for a region. Its Memory, if it has any, is the caller's to
// close.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_REGION_INFO"; Linux
// include/uapi/linux/vfio.h, VFIO_REGION_INFO_CAP_*.
func (c *Client) RegionInfo(ctx context.Context, region int) (*mdev.RegionInfo, error) {
	c.users.RLock()
	defer c.users.RUnlock()
	r, err := c.regionInfo(ctx, region)
	if err != nil {
		return nil, fail(wire.CmdRegionInfo, fmt.Sprintf("region %d", region), err)
	}
	return r, nil
}

func (c *Client) regionInfo(ctx context.Context, region int) (*mdev.RegionInfo, error) {
	if uint64(region) > math.MaxUint32 {
		return nil, errs.ErrInvalid
	}
	room := wire.RegionInfoLen
	for {
		info, caps, fds, err := c.regionInfoOnce(ctx, uint32(region), room)
		if err != nil {
			return nil, err
		}
		// The capabilities did not fit: once more, with as much as they need.
		if int(info.Argsz) > room && room == wire.RegionInfoLen && info.Argsz <= maxCaps {
			closeFDs(fds)
			room = int(info.Argsz)
			continue
		}
		r, err := newRegion(info, caps, fds)
		if err != nil {
			closeFDs(fds)
		}
		return r, err
	}
}

// regionInfoOnce asks with room for so many bytes of payload.
func (c *Client) regionInfoOnce(ctx context.Context, region uint32, room int) (info wire.RegionInfo, caps []byte, fds []int, err error) {
	k := c.calls.get(wire.CmdRegionInfo)
	defer c.calls.put(k)
	k.nreq = len(wire.RegionInfo{Argsz: uint32(room), Index: region}.Append(k.req()[:0]))
	k.nrep, k.data, k.files = wire.RegionInfoLen, make([]byte, room-wire.RegionInfoLen), true
	err = c.roundTrip(ctx, k)
	if err == nil {
		info = wire.DecodeRegionInfo((*[wire.RegionInfoLen]byte)(k.rep[:]))
		if k.size < wire.RegionInfoLen || info.Index != region || info.Argsz < wire.RegionInfoLen {
			err = badReply("%v, %d bytes of payload", info, k.size)
		}
	}
	if err != nil {
		closeFDs(k.fds)
		return info, nil, nil, err
	}
	return info, k.data[:k.size-wire.RegionInfoLen], k.fds, nil
}

// newRegion is the region that a reply describes. The files are its own when
// it succeeds.
func newRegion(info wire.RegionInfo, caps []byte, fds []int) (*mdev.RegionInfo, error) {
	r := &mdev.RegionInfo{Size: info.Size, Flags: mdev.RegionFlags(info.Flags &^ wire.RegionCaps), MemoryOffset: info.Offset}
	if info.Flags&wire.RegionCaps != 0 {
		if err := parseCaps(r, info.CapOffset, caps); err != nil {
			return nil, err
		}
	}
	switch {
	case len(fds) > 1 || len(fds) == 1 && r.Flags&mdev.RegionMmap == 0:
		return nil, badReply("%v with %d files", info, len(fds))
	case len(fds) == 1:
		r.Memory = os.NewFile(uintptr(fds[0]), "vfio-user region")
	case r.Flags&mdev.RegionMmap != 0:
		// libvfio-user says MMAP of a region that has a file, but sends the
		// file with a list of areas only.
		r.Flags &^= mdev.RegionMmap
		r.Areas = nil
	}
	return r, nil
}

// parseCaps takes the capabilities in that follow the fixed part, of which the
// first is at offset at of the payload.
func parseCaps(r *mdev.RegionInfo, at uint32, caps []byte) error {
	for n := 0; at != 0; n++ {
		off := int64(at) - wire.RegionInfoLen
		// More capabilities than fit is a chain that comes back to itself.
		if n > len(caps)/wire.CapHeaderLen || off < 0 || off > int64(len(caps))-wire.CapHeaderLen {
			return badReply("capability at %d of %d bytes", at, wire.RegionInfoLen+len(caps))
		}
		h := wire.DecodeCapHeader((*[wire.CapHeaderLen]byte)(caps[off:]))
		b := caps[off+wire.CapHeaderLen:]
		switch h.ID {
		case wire.CapSparseMmap:
			if err := parseAreas(r, b); err != nil {
				return err
			}
		case wire.CapType:
			if len(b) < wire.RegionTypeLen {
				return badReply("%d bytes of region type", len(b))
			}
			t := wire.DecodeRegionType((*[wire.RegionTypeLen]byte)(b))
			r.Type = &mdev.RegionType{Type: t.Type, Subtype: t.Subtype}
		}
		at = h.Next
	}
	return nil
}

// parseAreas takes in what follows the header of a sparse mmap capability.
func parseAreas(r *mdev.RegionInfo, b []byte) error {
	if len(b) < wire.SparseLen || r.Areas != nil {
		return badReply("%d bytes of sparse mmap areas, after %d areas", len(b), len(r.Areas))
	}
	n := wire.DecodeSparseCount((*[wire.SparseLen]byte)(b))
	if b = b[wire.SparseLen:]; uint64(n) > uint64(len(b)/wire.SparseAreaLen) {
		return badReply("%d sparse mmap areas in %d bytes", n, len(b))
	}
	for ; n > 0; n, b = n-1, b[wire.SparseAreaLen:] {
		a := wire.DecodeSparseArea((*[wire.SparseAreaLen]byte)(b))
		if a.Offset > r.Size || a.Size > r.Size-a.Offset {
			return badReply("area %#x+%#x in a region of %#x", a.Offset, a.Size, r.Size)
		}
		r.Areas = append(r.Areas, mdev.Area(a))
	}
	return nil
}

// IOFD is a place in a region where a VMM may use a file in place of a write.
type IOFD struct {
	Offset, Size uint64 // bytes, in the region
	Type         wire.IOFDType
	Flags        uint32 // KVM_IOEVENTFD_FLAG_* of an ioeventfd
	Data         uint64 // what a write must be, if Flags say so; or what an ioregionfd is told
	// File is what to signal or to talk to. nil, for an ioeventfd, means that
	// the write need not be told to anybody. Entries may share one File.
	File *os.File
	// Shadow is memory that the write's value goes to, at ShadowOffset; only
	// libvfio-user has it.
	Shadow       *os.File
	ShadowOffset uint64
}

// CloseIOFDs closes the files of fds, each once.
func CloseIOFDs(fds []IOFD) {
	for i := range fds {
		for _, f := range []*os.File{fds[i].File, fds[i].Shadow} {
			if f != nil {
				_ = f.Close() // a shared one is closed already
			}
		}
	}
}

// RegionIOFDs asks for the files of a region, which are the caller's:
// CloseIOFDs. It understands the entries of the specification, and those of
// libvfio-user, which are longer.
//
// Spec: vfio-user.rst, "VFIO_USER_DEVICE_GET_REGION_IO_FDS".
func (c *Client) RegionIOFDs(ctx context.Context, region int) ([]IOFD, error) {
	c.users.RLock()
	defer c.users.RUnlock()
	fds, err := c.regionIOFDs(ctx, region)
	if err != nil {
		return nil, fail(wire.CmdRegionIOFDs, fmt.Sprintf("region %d", region), err)
	}
	return fds, nil
}

func (c *Client) regionIOFDs(ctx context.Context, region int) ([]IOFD, error) {
	if uint64(region) > math.MaxUint32 {
		return nil, errs.ErrInvalid
	}
	room := wire.IOFDsLen
	for {
		f, entries, fds, err := c.regionIOFDsOnce(ctx, uint32(region), room)
		if err != nil {
			return nil, err
		}
		if int(f.Argsz) > room && room == wire.IOFDsLen && f.Argsz <= maxCaps {
			closeFDs(fds)
			room = int(f.Argsz)
			continue
		}
		return newIOFDs(f, entries, fds)
	}
}

func (c *Client) regionIOFDsOnce(ctx context.Context, region uint32, room int) (f wire.IOFDs, entries []byte, fds []int, err error) {
	k := c.calls.get(wire.CmdRegionIOFDs)
	defer c.calls.put(k)
	k.nreq = len(wire.IOFDs{Argsz: uint32(room), Index: region}.Append(k.req()[:0]))
	k.nrep, k.data, k.files = wire.IOFDsLen, make([]byte, room-wire.IOFDsLen), true
	err = c.roundTrip(ctx, k)
	if err == nil {
		f = wire.DecodeIOFDs((*[wire.IOFDsLen]byte)(k.rep[:]))
		if k.size < wire.IOFDsLen || f.Index != region || f.Argsz < wire.IOFDsLen {
			err = badReply("%v, %d bytes of payload", f, k.size)
		}
	}
	if err != nil {
		closeFDs(k.fds)
		return f, nil, nil, err
	}
	return f, k.data[:k.size-wire.IOFDsLen], k.fds, nil
}

// Of libvfio-user (include/vfio-user.h): the length of its entries, its type
// of entry with a shadow, and the index that means no file.
const (
	lvuIOFDLen  = 48
	lvuIOShadow = wire.IOFDType(2)
	noFile      = math.MaxUint32
)

// newIOFDs is what a reply describes. It takes the files over.
func newIOFDs(f wire.IOFDs, entries []byte, fds []int) ([]IOFD, error) {
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "vfio-user region I/O")
	}
	list, used, err := decodeIOFDs(f, entries, files)
	for i, file := range files {
		if err != nil || !used[i] {
			_ = file.Close()
		}
	}
	return list, err
}

func decodeIOFDs(f wire.IOFDs, entries []byte, files []*os.File) (list []IOFD, used []bool, err error) {
	used = make([]bool, len(files))
	file := func(i uint32) (*os.File, error) {
		switch {
		case i == noFile:
			return nil, nil
		case uint64(i) >= uint64(len(files)):
			return nil, badReply("file %d of %d", i, len(files))
		}
		used[i] = true
		return files[i], nil
	}
	if f.Count == 0 {
		return nil, used, nil
	}
	size := uint64(f.Argsz-wire.IOFDsLen) / uint64(f.Count)
	if size != wire.IOFDLen && size != lvuIOFDLen || uint64(len(entries)) != size*uint64(f.Count) {
		return nil, used, badReply("%v, %d bytes of entries", f, len(entries))
	}
	for b := entries; len(b) > 0; b = b[size:] {
		e := wire.DecodeIOFD((*[wire.IOFDLen]byte)(b))
		d := IOFD{Offset: e.Offset, Size: e.Size, Type: e.Type, Flags: e.Flags, Data: e.Data}
		if d.File, err = file(e.Index); err != nil {
			return nil, used, err
		}
		if size == lvuIOFDLen {
			d.Data = binary.NativeEndian.Uint64(b[40:])
			if e.Type == lvuIOShadow {
				d.ShadowOffset = e.Data
				if d.Shadow, err = file(e.Pad); err != nil {
					return nil, used, err
				}
			}
		}
		list = append(list, d)
	}
	return list, used, nil
}
