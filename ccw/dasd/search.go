package dasd

import (
	"bytes"

	"github.com/softmdev/softmdev/ccw/channel"
	"github.com/softmdev/softmdev/ccw/cio"
)

// The bits of a search command that say what satisfies it.
const (
	searchEqual = 0x20
	searchHigh  = 0x40
)

// satisfied is the status of search command cmd whose comparison, of what is on
// the track with what the program wants, came out as order.
func satisfied(cmd cio.Command, order int) cio.DeviceStatus {
	if cmd&searchEqual != 0 && order == 0 || cmd&searchHigh != 0 && order > 0 {
		return cio.Ended | cio.StatusModifier
	}
	return cio.Ended
}

// searchID compares the next count field with CCHHR; a program that gives
// fewer bytes compares only those.
func (v *Volume) searchID(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	const size = 5
	n := params(x, v.buf[:size])
	if x.Terminated() {
		return cio.Ended
	}
	if s := v.nextCount(&commands[cmd]); s != 0 {
		return s
	}
	p := &v.prog
	p.state &^= idEqual
	order := bytes.Compare(v.pos.slot[v.pos.off:][:n], v.buf[:n])
	if order == 0 && n == size && cmd&0x7F == 0x31 {
		p.state |= idEqual
	}
	return satisfied(cmd, order)
}

// searchKey compares the next key. A record without one satisfies nothing.
func (v *Volume) searchKey(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	x.Accept()
	if s := v.atRecord(&commands[cmd], false); s != 0 {
		x.FetchUpTo(v.buf[:255])
		return s
	}
	pos := &v.pos
	pos.orient = atKey
	p := &v.prog
	p.state &^= keyEqual
	key := pos.slot[pos.keyAt():pos.dataAt()]
	if len(key) == 0 {
		return cio.Ended
	}
	n := x.FetchUpTo(v.buf[:len(key)])
	if x.Terminated() {
		return cio.Ended
	}
	order := bytes.Compare(key[:n], v.buf[:n])
	if order == 0 && n == len(key) && cmd&0x7F == 0x29 {
		p.state |= keyEqual
	}
	return satisfied(cmd, order)
}

// searchHome compares the home address. Each time it has to come round the
// track, so that an unsatisfied search ends like one of records.
func (v *Volume) searchHome(cmd cio.Command, x *channel.Transfer) cio.DeviceStatus {
	const size = 4
	n := params(x, v.buf[:size])
	if x.Terminated() {
		return cio.Ended
	}
	if s := v.toIndex(&commands[cmd]); s != 0 {
		return s
	}
	p := &v.prog
	p.state &^= homeEqual
	if !bytes.Equal(v.pos.slot[1:][:n], v.buf[:n]) {
		if cmd&0x80 == 0 {
			if p.has(indexPassed) {
				return v.check(cio.NoRecordFound)
			}
			p.state |= indexPassed
		}
		return cio.Ended
	}
	if n == size {
		p.state |= homeEqual
	}
	return cio.Ended | cio.StatusModifier
}
