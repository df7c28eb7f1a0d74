package fba

import (
	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// read moves the located blocks into storage until they, or the count and its
// data chain, are used up.
func (v *Volume) read(x *channel.Transfer) cio.DeviceStatus {
	switch v.previous {
	case cmdLocate:
		if !v.locate.op.reads() {
			return v.reject(x)
		}
	case cmdReadIPL:
	default:
		return v.reject(x)
	}
	return v.readBlocks(x)
}

// readIPL defines the whole volume as the extent and reads block 0. A READ
// chained to it goes on with the blocks behind.
func (v *Volume) readIPL(x *channel.Transfer) cio.DeviceStatus {
	if !v.first && v.previous != cmdReadIPL {
		return v.reject(x)
	}
	v.extent = extent{defined: true, last: v.blocks - 1}
	v.locate = locate{op: opRead, count: 1}
	status := v.readBlocks(x)
	v.locate.count = v.blocks - v.locate.next
	return status
}

func (v *Volume) readBlocks(x *channel.Transfer) cio.DeviceStatus {
	for l := &v.locate; l.count > 0; {
		block, ok := v.block(l.next)
		if !ok {
			return v.check(cio.EquipmentCheck, 0)
		}
		if x.Store(block) < BlockSize {
			return cio.Ended
		}
		l.next++
		l.count--
	}
	return cio.Ended
}

// block is the content of block n, where it lies or in the buffer.
func (v *Volume) block(n uint32) (b []byte, ok bool) {
	off := int64(n) * BlockSize
	if v.view != nil {
		if b := v.view.View(off, BlockSize); b != nil {
			return b, true
		}
	}
	got, _ := v.image.ReadAt(v.buf[:], off)
	return v.buf[:], got == BlockSize
}

// write moves storage into the located blocks. If the count and its data
// chain end before the blocks do, zeros fill the rest of them. Linux
// drivers/s390/block/dasd_fba.c discards blocks so, with a count of zero.
func (v *Volume) write(x *channel.Transfer) cio.DeviceStatus {
	l := &v.locate
	if v.previous != cmdLocate || !l.op.writes() {
		return v.reject(x)
	}
	for ; l.count > 0; l.next, l.count = l.next+1, l.count-1 {
		n := x.Fetch(v.buf[:])
		if x.Terminated() {
			return cio.Ended // a block that came in part stays the old one
		}
		if n == 0 {
			return v.fill()
		}
		clear(v.buf[n:])
		if done, err := v.image.WriteAt(v.buf[:], int64(l.next)*BlockSize); err != nil || done < BlockSize {
			return v.check(cio.EquipmentCheck, 0)
		}
	}
	return cio.Ended
}

// fill writes zeros into the located blocks that are left.
func (v *Volume) fill() cio.DeviceStatus {
	l := &v.locate
	if err := zero(v.image, int64(l.next)*BlockSize, int64(l.count)*BlockSize); err != nil {
		return v.check(cio.EquipmentCheck, 0)
	}
	l.next, l.count = l.next+l.count, 0
	return cio.Ended
}
