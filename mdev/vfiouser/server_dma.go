//go:build linux

package vfiouser

import (
	"fmt"
	"io"
	"os"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/mdev/vfiouser/wire"
	"github.com/softmdev/softmdev/translate"
	"github.com/softmdev/softmdev/translate/addr"
)

// mapping is a mapping that the client made and has not undone.
type mapping struct {
	size uint64
	file *os.File // of MapFileIO; nil otherwise
}

// maxKeptFiles is how many files of MapFileIO stay open for a client at a time:
// a process has few descriptors, and other clients need some. A file that is
// mapped is not kept.
const maxKeptFiles = 64

// dmaMap executes DMA_MAP.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_MAP".
func (l *link) dmaMap(m *message) error {
	if err := exactly(m, wire.DMAMapLen); err != nil {
		return err
	}
	r := wire.DecodeDMAMap((*[wire.DMAMapLen]byte)(m.body))
	const known = wire.MapRead | wire.MapWrite | wire.MapMmap | wire.MapFileIO
	const how = wire.MapMmap | wire.MapFileIO
	switch {
	case r.Argsz < wire.DMAMapLen:
		return refuse("argsz %d", r.Argsz)
	case r.Flags&^known != 0:
		return refuse("flags %v", r.Flags)
	case len(m.fds) > 1:
		return refuse("%d files", len(m.fds))
	case len(m.fds) == 0 && (r.Flags&how != 0 || r.Offset != 0):
		return refuse("flags %v, offset %#x and no file", r.Flags, r.Offset)
	case r.Flags&how == how:
		return refuse("flags %v", r.Flags)
	case r.Offset > 1<<63-1:
		return fmt.Errorf("offset %#x: %w", r.Offset, errs.ErrOverflow)
	case len(l.maps) >= l.srv.cfg.MaxMaps:
		return fmt.Errorf("%d mappings: %w", len(l.maps), errs.ErrNoSpace)
	case r.Flags&wire.MapFileIO != 0 && l.kept >= maxKeptFiles:
		return fmt.Errorf("%d files to read and write: %w", l.kept, errs.ErrNoSpace)
	}
	var access addr.Access
	if r.Flags&wire.MapRead != 0 {
		access |= addr.Read
	}
	if r.Flags&wire.MapWrite != 0 {
		access |= addr.Write
	}
	if len(m.fds) != 0 {
		if err := checkFile(m.fds[0], r.Flags&wire.MapFileIO != 0); err != nil {
			return err
		}
	}
	made := mapping{size: r.Size}
	var mem translate.Memory
	switch {
	case len(m.fds) == 0:
		mem = translate.Remote(&clientMemory{l, r.Address})
	case r.Flags&wire.MapFileIO != 0:
		made.file = os.NewFile(uintptr(m.fds[0]), "mapping")
		m.fds = m.fds[:0] // it is made's now
		mem = translate.Remote(&fileMemory{made.file, int64(r.Offset)})
	default:
		mem = translate.File(m.fds[0], int64(r.Offset))
	}
	if err := l.s.Map(addr.IOVA(r.Address), addr.Len(r.Size), mem, access); err != nil {
		made.close()
		return err
	}
	l.maps[r.Address] = made
	if made.file != nil {
		l.kept++
	}
	return nil
}

func (e mapping) close() {
	if e.file != nil {
		e.file.Close()
	}
}

// dmaUnmap executes DMA_UNMAP. The reply goes out when nobody uses the memory
// any more.
//
// Spec: vfio-user.rst, "VFIO_USER_DMA_UNMAP"; the bitmap is libvfio-user's.
func (l *link) dmaUnmap(m *message) error {
	if len(m.body) < wire.DMAUnmapLen {
		return refuse("payload of %d bytes", len(m.body))
	}
	r := wire.DecodeDMAUnmap((*[wire.DMAUnmapLen]byte)(m.body))
	want := uint64(wire.DMAUnmapLen)
	switch r.Flags {
	case 0, wire.UnmapAll:
	case wire.UnmapDirtyBitmap:
		want += wire.BitmapLen
	default:
		return refuse("flags %v", r.Flags)
	}
	if err := exactly(m, int(want)); err != nil {
		return err
	}
	if uint64(r.Argsz) < want {
		return refuse("argsz %d", r.Argsz)
	}
	var err error
	switch r.Flags {
	case wire.UnmapAll:
		err = l.unmapAll(&r)
	case wire.UnmapDirtyBitmap:
		err = l.unmapDirty(&r, wire.DecodeBitmap((*[wire.BitmapLen]byte)(m.body[wire.DMAUnmapLen:])))
	default:
		if err = l.findMaps(&r); err == nil {
			_, err = l.s.Unmap(l.ctx, addr.IOVA(r.Address), addr.Len(r.Size))
		}
	}
	if err != nil {
		return err
	}
	l.forget(&r)
	l.out = append(l.out, m.body...)
	l.out = append(l.out, l.bits...)
	l.bits = l.bits[:0]
	return nil
}

func (l *link) unmapAll(r *wire.DMAUnmap) error {
	if r.Address != 0 || r.Size != 0 {
		return refuse("address %#x and size %#x of everything", r.Address, r.Size)
	}
	_, err := l.s.UnmapAll(l.ctx)
	return err
}

// findMaps refuses an unmap that is not of whole mappings, one or more, as type1
// (version 2) has it. The specification's text has it of one, as it was made;
// but QEMU with an IOMMU of its own unmaps the address space in large tiles
// when the guest moves the device to another domain, and goes on as if nothing
// in them were left.
func (l *link) findMaps(r *wire.DMAUnmap) error {
	if e, ok := l.maps[r.Address]; ok && e.size == r.Size {
		return nil
	}
	if r.Size != 0 && r.Address <= -r.Size {
		whole, cut := 0, false
		for a, e := range l.maps {
			switch {
			case a >= r.Address && e.size <= r.Size && a-r.Address <= r.Size-e.size:
				whole++
			case a <= r.Address+(r.Size-1) && r.Address <= a+(e.size-1):
				cut = true
			}
		}
		if whole > 0 && !cut {
			return nil
		}
	}
	return fmt.Errorf("address %#x size %#x: %w", r.Address, r.Size, errs.ErrNotFound)
}

// unmapDirty unmaps and leaves in l.bits what was written to.
func (l *link) unmapDirty(r *wire.DMAUnmap, b wire.Bitmap) error {
	if err := l.findMaps(r); err != nil {
		return err
	}
	words, err := l.bitmap(r.Size, b.PageSize)
	if err != nil {
		return err
	}
	if b.Size < uint64(len(words))*8 || b.Size > uint64(l.srv.cfg.MaxData) ||
		uint64(r.Argsz) < wire.DMAUnmapLen+wire.BitmapLen+b.Size {
		return refuse("bitmap of %d bytes, argsz %d", b.Size, r.Argsz)
	}
	if _, err = l.s.UnmapDirty(l.ctx, addr.IOVA(r.Address), addr.Len(r.Size), addr.Len(b.PageSize), words); err != nil {
		return err
	}
	l.bits = wire.AppendBits(l.bits[:0], words)
	l.bits = append(l.bits, make([]byte, int(b.Size)-len(l.bits))...)
	return nil
}

// bitmap is room for a bit per page of n bytes, if that is not too much.
func (l *link) bitmap(n, pageSize uint64) ([]uint64, error) {
	if pageSize == 0 || pageSize&(pageSize-1) != 0 {
		return nil, refuse("page size %#x", pageSize)
	}
	pages := n / pageSize
	if n%pageSize != 0 {
		pages++
	}
	if pages > uint64(l.srv.cfg.MaxData)*8 {
		return nil, refuse("bitmap of %d bits", pages)
	}
	return make([]uint64, (pages+63)/64), nil
}

// forget drops the mappings that an unmap has removed.
func (l *link) forget(r *wire.DMAUnmap) {
	if e, ok := l.maps[r.Address]; ok && e.size == r.Size && r.Flags&wire.UnmapAll == 0 {
		l.drop(r.Address, e)
		return
	}
	for a, e := range l.maps {
		if r.Flags&wire.UnmapAll != 0 || a >= r.Address && a-r.Address < r.Size {
			l.drop(a, e)
		}
	}
}

func (l *link) drop(a uint64, e mapping) {
	if e.file != nil {
		l.kept--
	}
	e.close()
	delete(l.maps, a)
}

// clientMemory is memory of the client of which it shared no file: it is
// reached by messages.
type clientMemory struct {
	l    *link
	base uint64 // IOVA of the first byte
}

// ReadAt reads by DMA_READ.
func (c *clientMemory) ReadAt(p []byte, off int64) (int, error) {
	return c.l.transfer(wire.CmdDMARead, c.base+uint64(off), p)
}

// WriteAt writes by DMA_WRITE.
func (c *clientMemory) WriteAt(p []byte, off int64) (int, error) {
	return c.l.transfer(wire.CmdDMAWrite, c.base+uint64(off), p)
}

// transfer moves p in pieces of the size that the client takes. It may be
// called from any goroutine but the serving one: see [demux].
func (l *link) transfer(command wire.Command, address uint64, p []byte) (int, error) {
	if l.maxDMA == 0 {
		return 0, fmt.Errorf("%v: client takes no data: %w", command, errs.ErrNotSupported)
	}
	done := 0
	for done < len(p) {
		piece := p[done:min(len(p), done+l.maxDMA)]
		into, data := piece, []byte(nil)
		if command == wire.CmdDMAWrite {
			into, data = nil, piece
		}
		err := l.dma.do(command, address+uint64(done), into, data)
		l.srv.count.command(command, err != nil)
		if err != nil {
			return done, fmt.Errorf("%v of %d bytes at %#x: %w", command, len(piece), address+uint64(done), err)
		}
		done += len(piece)
	}
	return done, nil
}

// fileMemory is memory of the client in a file that is to be read and written
// rather than mapped.
type fileMemory struct {
	f    *os.File
	base int64
}

// ReadAt reads from the file. What lies beyond its end is not there.
func (f *fileMemory) ReadAt(p []byte, off int64) (int, error) {
	if off > 1<<63-1-f.base {
		return 0, errs.ErrOverflow
	}
	n, err := f.f.ReadAt(p, f.base+off)
	if err == io.EOF && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// WriteAt writes to the file, of which it changes no length.
func (f *fileMemory) WriteAt(p []byte, off int64) (int, error) {
	if off > 1<<63-1-f.base {
		return 0, errs.ErrOverflow
	}
	st, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	if end := st.Size(); f.base+off > end-int64(len(p)) {
		return 0, io.ErrUnexpectedEOF
	}
	return f.f.WriteAt(p, f.base+off)
}
