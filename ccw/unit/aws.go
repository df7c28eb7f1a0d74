package unit

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/softmdev/softmdev/mdev/errs"
)

// The AWSTAPE format is a sequence of chunks, each with a header in front:
//
//	byte 0-1 length of this chunk, little-endian
//	     2-3 length of the chunk before, 0 for the first
//	     4   flags: 80 first chunk of a block, 20 last, 40 tape mark
//	     5   zero
//
// A tape mark has length 0. A block longer than 65,535 bytes takes several
// chunks. The tape ends where the file ends.
//
// Specification: P/390 and HercGUI documents; SDL-Hyperion tapedev.h.
const (
	awsHeaderSize = 6
	awsMaxChunk   = math.MaxUint16

	awsFirst = 0x80
	awsMark  = 0x40
	awsLast  = 0x20
)

// MaxTapeBlock is the longest block of a tape: 256 KiB, the limit of the
// largest drive here.
const MaxTapeBlock = 256 << 10

// tapeItem is a block or a tape mark.
type tapeItem struct {
	off  int64  // of its first header in the file
	size uint32 // bytes of data, 0 for a tape mark
	last uint16 // length of its last chunk
}

func (t tapeItem) mark() bool { return t.size == 0 }

// awsChunks is how many chunks a block of n bytes takes.
func awsChunks(n int) int { return (n + awsMaxChunk - 1) / awsMaxChunk }

// awsSize is the number of bytes that a block of n bytes takes in the file.
func awsSize(n int) int64 { return int64(n) + awsHeaderSize*int64(max(awsChunks(n), 1)) }

// awsHeader is the header of a chunk.
func awsHeader(length, previous uint16, flags byte) (h [awsHeaderSize]byte) {
	binary.LittleEndian.PutUint16(h[0:], length)
	binary.LittleEndian.PutUint16(h[2:], previous)
	h[4] = flags
	return h
}

// scanAWS lists what is on the tape of size bytes in r. It reads the headers
// only, and accepts nothing that [Cartridge] would not write, except a second
// flag byte, whose bits other programs use.
func scanAWS(r io.ReaderAt, size int64) ([]tapeItem, error) {
	var (
		items    []tapeItem
		item     tapeItem
		inside   bool // of a block
		previous uint16
	)
	for off := int64(0); off < size; {
		fail := func(format string, a ...any) ([]tapeItem, error) {
			return nil, fmt.Errorf("chunk at %#x: %s: %w", off, fmt.Sprintf(format, a...), errs.ErrInvalid)
		}
		var h [awsHeaderSize]byte
		if size-off < awsHeaderSize {
			return fail("%d bytes are no header", size-off)
		}
		if _, err := r.ReadAt(h[:], off); err != nil {
			return nil, fmt.Errorf("chunk at %#x: %w", off, err)
		}
		length, before, flags := binary.LittleEndian.Uint16(h[0:]), binary.LittleEndian.Uint16(h[2:]), h[4]
		switch {
		case before != previous:
			return fail("says that the chunk before has %d bytes, it has %d", before, previous)
		case int64(length) > size-off-awsHeaderSize:
			return fail("%d bytes of data, the file ends after %d", length, size-off-awsHeaderSize)
		case flags&^(awsFirst|awsMark|awsLast) != 0:
			return fail("unknown flags %#x", flags)
		case flags&awsMark != 0 && (inside || length != 0 || flags != awsMark):
			return fail("tape mark with data or inside a block")
		case flags&awsMark == 0 && (flags&awsFirst == 0) != inside:
			return fail("flags %#x: a block starts inside a block, or never started", flags)
		case flags&awsMark == 0 && length == 0:
			return fail("no data and no tape mark")
		}
		if !inside {
			item = tapeItem{off: off}
		}
		item.size += uint32(length)
		item.last = length
		if item.size > MaxTapeBlock {
			return fail("block of more than %d bytes", MaxTapeBlock)
		}
		if inside = flags&(awsMark|awsLast) == 0; !inside {
			if len(items) >= MaxTapeItems {
				return fail("more than %d blocks and tape marks", MaxTapeItems)
			}
			items = append(items, item)
		}
		off += awsHeaderSize + int64(length)
		previous = length
	}
	if inside {
		return nil, fmt.Errorf("block at %#x has no end: %w", item.off, errs.ErrInvalid)
	}
	return items, nil
}
