package ccw

import (
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// Translation shows a program as the guest wrote it and as hardware got it,
// side by side. It is a copy; nothing in it can change what runs.
type Translation struct {
	ORB  cio.ORB // the guest's
	Host cio.ORB // hardware's

	// Whole says that the program was fetched and translated before it was
	// started. Otherwise its elements were translated when execution reached
	// them, and show what stood there last.
	Whole    bool
	Elements []Element
}

// Element is one CCW of a Translation.
type Element struct {
	Index  int
	Addr   uint32  // guest address
	CCW    cio.CCW // as the guest wrote it
	Chain  int     // which of the program's chains it belongs to
	Host   uint32  // host address
	HostAs cio.CCW // as hardware got it
	Words  []Word  // its data, in the order it moves
	// Unreached says that no execution can get here, so nothing of it was
	// pinned.
	Unreached bool
	Err       error // what is wrong with it, or nil
}

// Word is memory that a CCW, an IDAW or a MIDAW names.
type Word struct {
	Guest addr.IOVA // first byte to move; of a read backward the last
	Host  addr.HPA  // the same byte for hardware; 0 when it moves nothing
	Len   addr.Len
	Flags cio.MIDAWFlags // of a MIDAW
	Err   bool           // hardware finds a check here
}

// Counts is how much of guest programs the device has examined since it was
// made.
func (d *Device) Counts() Counts {
	d.prog.Lock()
	defer d.prog.Unlock()
	return Counts{
		CCWs:  d.walk.count.CCWs + d.win.step.count.CCWs,
		Words: d.walk.count.Words + d.win.step.count.Words,
	}
}

// Last is the program that was started last.
func (d *Device) Last() *Translation {
	d.prog.Lock()
	defer d.prog.Unlock()
	t := &Translation{ORB: d.t.orb, Host: d.host, Whole: d.t.whole}
	if d.t.whole {
		t.Elements = d.wholeElements()
	} else {
		t.Elements = d.windowElements()
	}
	return t
}

func (d *Device) wholeElements() []Element {
	p := &d.walk.p
	var out []Element
	for si := range p.segs {
		s := &p.segs[si]
		for k := range p.elems[s.first : s.first+s.n] {
			i := int(s.first) + k
			e := &p.elems[i]
			el := Element{
				Index: i, Addr: e.at, CCW: e.ccw, Chain: si,
				Host: s.host + uint32(k)*cio.CCWSize, Err: p.errAt(i),
				Unreached: e.way == 0 && e.kind != stop,
			}
			if s.host != 0 {
				el.HostAs = cio.DecodeCCW1((*[cio.CCWSize]byte)(d.out.slots(s)[k*cio.CCWSize:]))
			}
			for j := range p.pieces[e.first : e.first+e.n] {
				n := int(e.first) + j
				pc := &p.pieces[n]
				w := Word{Guest: pc.at, Len: addr.Len(pc.n), Flags: pc.flags, Err: pc.hole != noHole}
				if n < len(d.hosts) {
					w.Host = d.hosts[n]
				}
				el.Words = append(el.Words, w)
			}
			out = append(out, el)
		}
	}
	return out
}

func (d *Device) windowElements() []Element {
	var out []Element
	w := &d.win
	for i := range w.runs {
		r := &w.runs[i]
		if !r.used {
			continue
		}
		for k := range int(r.reached) {
			slot := i*w.perRun + k
			e := &w.elems[slot]
			var given [cio.CCWSize]byte
			binary.BigEndian.PutUint64(given[:], w.given[slot])
			out = append(out, Element{
				Index: int(r.index) + k, Addr: e.at, CCW: e.ccw, Chain: i,
				Host: w.hostOf(slot), HostAs: cio.DecodeCCW1(&given), Err: w.err[slot],
			})
		}
	}
	return out
}
