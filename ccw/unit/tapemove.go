package unit

import (
	"errors"
	"slices"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// tapeMarkFound is how a command ends that met a tape mark.
const tapeMarkFound = cio.Ended | cio.UnitException

// fetchBlock reads item i, a block, into the buffer.
func (t *Tape) fetchBlock(i int) ([]byte, bool) {
	size := int(t.tape.items[i].size)
	if size > t.traits.maxBlock {
		return nil, false // a larger drive wrote it
	}
	b := t.block()[:size]
	return b, t.tape.read(i, b) == nil
}

// read moves the next block into storage. If the channel finds a check before
// the first byte, the program is told that nothing began, so the tape stays.
func (t *Tape) read(x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	if t.at == t.tape.Len() {
		return t.fail(troubleVoid)
	}
	if t.tape.items[t.at].mark() {
		t.at++
		return tapeMarkFound
	}
	b, ok := t.fetchBlock(t.at)
	if !ok {
		t.at++
		return t.fail(troubleRead)
	}
	if x.Store(b) > 0 || !x.Terminated() {
		t.at++
	}
	return cio.Ended
}

// readBackward moves the block before into storage, last byte first, as it
// passes the head. The channel stores at descending addresses, so that the
// block comes out the right way round.
func (t *Tape) readBackward(x *channel.Transfer) cio.DeviceStatus {
	return t.readBefore(x, true)
}

// readPrevious moves the block before into storage, first byte first.
func (t *Tape) readPrevious(x *channel.Transfer) cio.DeviceStatus {
	return t.readBefore(x, false)
}

func (t *Tape) readBefore(x *channel.Transfer, reverse bool) cio.DeviceStatus {
	x.Accept()
	if t.at == 0 {
		return t.fail(troubleLoadPoint)
	}
	if t.tape.items[t.at-1].mark() {
		t.at--
		return tapeMarkFound
	}
	b, ok := t.fetchBlock(t.at - 1)
	if !ok {
		t.at--
		return t.fail(troubleRead)
	}
	if reverse {
		slices.Reverse(b)
	}
	if x.Store(b) > 0 || !x.Terminated() {
		t.at--
	}
	return cio.Ended
}

// write puts what the program offers behind the head, as one block. A block
// that the channel cut short with a check is not written.
func (t *Tape) write(x *channel.Transfer) cio.DeviceStatus {
	if t.tape.ReadOnly() {
		return t.fail(troubleProtected)
	}
	x.Accept()
	n := x.FetchUpTo(t.block())
	switch {
	case x.Terminated():
		return cio.Ended
	case n == 0:
		return t.fail(troubleWordZero)
	}
	return t.put(t.buf[:n])
}

// writeMark writes a tape mark.
func (t *Tape) writeMark(*channel.Transfer) cio.DeviceStatus {
	if t.tape.ReadOnly() {
		return t.fail(troubleProtected)
	}
	return t.put(nil)
}

// put writes an item behind the head.
func (t *Tape) put(data []byte) cio.DeviceStatus {
	switch err := t.tape.write(t.at, data); {
	case errors.Is(err, errTapeFull):
		return t.fail(troubleEndOfTape)
	case err != nil:
		return t.fail(troubleWrite)
	}
	t.at++
	if t.tape.nearEnd(t.at) {
		return cio.Ended | cio.UnitException
	}
	return cio.Ended
}

// eraseGap leaves a piece of tape empty, which a tape of items cannot show.
func (t *Tape) eraseGap(*channel.Transfer) cio.DeviceStatus {
	if t.tape.ReadOnly() {
		return t.fail(troubleProtected)
	}
	return cio.Ended
}

// eraseRest is data security erase: nothing stays behind the head. It must
// follow an erase gap.
func (t *Tape) eraseRest(x *channel.Transfer) cio.DeviceStatus {
	const eraseGap cio.Command = 0x17
	switch {
	case !t.chained || t.previous != eraseGap:
		return t.reject(x)
	case t.tape.ReadOnly():
		return t.fail(troubleProtected)
	case t.tape.truncate(t.at) != nil:
		return t.fail(troubleWrite)
	}
	return cio.Ended
}

// rewind moves to the beginning.
func (t *Tape) rewind(*channel.Transfer) cio.DeviceStatus {
	t.at = 0
	return cio.Ended
}

// rewindUnload rewinds and opens the drive. The tape is then the host's, who
// keeps what it gave to Load. That the drive is not ready any more is told as
// a unit check; Linux drivers/s390/char/tape_34xx.c expects it.
func (t *Tape) rewindUnload(*channel.Transfer) cio.DeviceStatus {
	t.tape, t.at = nil, 0
	return t.fail(troubleUnloaded)
}

// forwardBlock spaces over one item.
func (t *Tape) forwardBlock(*channel.Transfer) cio.DeviceStatus {
	if t.at == t.tape.Len() {
		return t.fail(troubleVoid)
	}
	t.at++
	if t.tape.items[t.at-1].mark() {
		return tapeMarkFound
	}
	return cio.Ended
}

// backBlock spaces back over one item.
func (t *Tape) backBlock(*channel.Transfer) cio.DeviceStatus {
	if t.at == 0 {
		return t.fail(troubleLoadPoint)
	}
	t.at--
	if t.tape.items[t.at].mark() {
		return tapeMarkFound
	}
	return cio.Ended
}

// forwardFile spaces over the next tape mark.
func (t *Tape) forwardFile(*channel.Transfer) cio.DeviceStatus {
	i, ok := t.tape.nextMark(t.at)
	if !ok {
		t.at = t.tape.Len()
		return t.fail(troubleVoid)
	}
	t.at = i + 1
	return cio.Ended
}

// backFile spaces back over the tape mark before.
func (t *Tape) backFile(*channel.Transfer) cio.DeviceStatus {
	i, ok := t.tape.markBefore(t.at)
	if !ok {
		t.at = 0
		return t.fail(troubleLoadPoint)
	}
	t.at = i
	return cio.Ended
}

// readBuffer returns data that a drive with a buffer could not write. Here
// nothing stays in a buffer.
func (t *Tape) readBuffer(x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	return cio.Ended
}
