package replay

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// program is a record as the channel subsystem sees it: the trace grouped
// into operations, and the guest memory that the record knows about.
type program struct {
	rec *recording.Record
	orb cio.ORB
	f1  bool // format-1 CCWs
	ops []operation
	// known is the memory the record knows: fetched bytes as they were,
	// stored bytes with their final values where nothing was fetched.
	known []recording.Segment
	// stored is the bytes the channel stored.
	stored []recording.Segment
}

// operation is one command to the device with its data chain: steps
// [first, last] of the trace, among them the TICs on the way.
type operation struct {
	first, last int
	cmd         cio.Command
	ended       bool // the last step carries the operation's status
	device      bool // the command reached the device
}

// newProgram groups the trace of rec. Nothing in it can fail: what cannot be
// understood is not there.
func newProgram(rec *recording.Record) *program {
	p := &program{rec: rec, orb: cio.ORB{Raw: rec.ORB}}
	p.f1 = p.orb.Format1()
	if rec.Expect != nil {
		p.stored = sorted(rec.Expect.Memory)
	}
	// Self-modifying programs execute what they stored; everything else
	// that is both fetched and stored was fetched first.
	p.known = slices.Clone(rec.Memory)
	im := newImage(&recording.Record{Memory: p.stored, Expect: &recording.Expect{Memory: rec.Memory}})
	p.known = sorted(append(p.known, im.keep...))

	chained := false
	for i := range rec.Trace {
		s := &rec.Trace[i]
		if p.isTIC(s) && !s.Ended {
			if n := len(p.ops); chained && n > 0 {
				p.ops[n-1].last = i
			}
			continue
		}
		if chained {
			op := &p.ops[len(p.ops)-1]
			op.last = i
			op.ended = s.Ended
		} else {
			p.ops = append(p.ops, operation{first: i, last: i, cmd: cio.Command(s.Cmd), ended: s.Ended})
		}
		chained = cio.Flags(s.Flags)&cio.ChainData != 0
	}
	for i := range p.ops {
		op := &p.ops[i]
		end := &rec.Trace[op.last]
		// A check found before the command was given to the device
		// leaves the device status zero.
		op.device = !op.ended || end.DStat != 0 || op.first != op.last
	}
	if n := len(p.ops); n > 0 && rec.End == recording.Suspended && !p.ops[n-1].ended {
		p.ops[n-1].device = false // the CCW with the S flag was not executed
	}
	return p
}

func sorted(segs []recording.Segment) []recording.Segment {
	return slices.SortedFunc(slices.Values(segs), func(a, b recording.Segment) int { return cmp.Compare(a.GPA, b.GPA) })
}

func (p *program) isTIC(s *recording.Step) bool { return cio.Command(s.Cmd).IsTIC(p.f1) }

// read copies known memory into b and reports whether all of it is known.
func (p *program) read(a addr.GPA, b []byte) bool { return readSegments(p.known, a, b) == len(b) }

// readSegments copies what segs, sorted, hold from a on, without a hole, and
// returns how many bytes that were.
func readSegments(segs []recording.Segment, a addr.GPA, b []byte) int {
	n := 0
	for n < len(b) {
		s := find(segs, a+addr.GPA(n))
		if s == nil {
			break
		}
		n += s.CopyTo(b[n:], addr.Len(a+addr.GPA(n)-s.GPA))
	}
	return n
}

// find is the segment of segs, sorted, that holds a.
func find(segs []recording.Segment, a addr.GPA) *recording.Segment {
	i, found := slices.BinarySearchFunc(segs, a, func(s recording.Segment, a addr.GPA) int { return cmp.Compare(s.GPA, a) })
	if !found {
		i--
	}
	if i < 0 || !segs[i].Range().Contains(a) {
		return nil
	}
	return &segs[i]
}

// area is a run of bytes in the order the device sees them.
type area struct {
	a        addr.GPA // the lowest byte
	n        addr.Len
	skip     bool // moved, but not to or from storage
	backward bool // the device's first byte is the highest
}

// areas is where the data of step i goes, direct or through IDAWs or MIDAWs.
// It stops, and says whole=false, at a word that is not known or that breaks a
// rule of ccw.md section 3.
func (p *program) areas(i int, cmd cio.Command) (list []area, whole bool) {
	s := &p.rec.Trace[i]
	flags, left := cio.Flags(s.Flags), addr.Len(s.Count)
	backward := cmd.Class(p.f1) == cio.ClassReadBackward
	switch {
	case left == 0:
		return nil, true
	case flags&cio.Skip != 0 && cmd.Class(p.f1).Input():
		return []area{{n: left, skip: true}}, true
	case flags&cio.Modified != 0:
		return p.midaws(addr.GPA(s.CDA), left)
	case flags&cio.Indirect != 0:
		return p.idaws(addr.GPA(s.CDA), left, backward)
	}
	a := addr.GPA(s.CDA)
	if backward {
		a -= addr.GPA(left - 1)
	}
	return []area{{a: a, n: left, backward: backward}}, true
}

func (p *program) idaws(at addr.GPA, left addr.Len, backward bool) (list []area, whole bool) {
	size, block, two := addr.Len(cio.IDAW1Size), addr.Len(p.orb.Block()), p.orb.IDAW2()
	if two {
		size = cio.IDAW2Size
	}
	for first := true; left > 0; first = false {
		var b [cio.IDAW2Size]byte
		if !addr.Aligned(at, size) || !p.read(at, b[:size]) {
			return list, false
		}
		at += addr.GPA(size)
		w := addr.GPA(binary.BigEndian.Uint64(b[:]))
		if !two {
			w = addr.GPA(binary.BigEndian.Uint32(b[:4]))
			if w&0x8000_0000 != 0 {
				return list, false
			}
		}
		off := addr.Len(w) & (block - 1)
		if backward {
			if !first && off != block-1 {
				return list, false
			}
			n := min(left, off+1)
			list = append(list, area{a: w - addr.GPA(n-1), n: n, backward: true})
			left -= n
			continue
		}
		if !first && off != 0 {
			return list, false
		}
		n := min(left, block-off)
		list = append(list, area{a: w, n: n})
		left -= n
	}
	return list, true
}

func (p *program) midaws(at addr.GPA, left addr.Len) (list []area, whole bool) {
	if !addr.Aligned(at, cio.MIDAWSize) {
		return nil, false
	}
	page := addr.PageOf(at)
	for left > 0 {
		var b [cio.MIDAWSize]byte
		if addr.PageOf(at) != page || !p.read(at, b[:]) {
			return list, false
		}
		at += cio.MIDAWSize
		w := cio.DecodeMIDAW(&b)
		n := min(left, addr.Len(w.Count))
		skip := w.Flags&cio.MIDAWSkip != 0
		if w.Count == 0 || !skip && addr.PageOffset(addr.GPA(w.Addr))+n > addr.PageSize {
			return list, false
		}
		list = append(list, area{a: addr.GPA(w.Addr), n: n, skip: skip})
		left -= n
		if w.Flags&cio.MIDAWLast != 0 {
			return list, left == 0
		}
	}
	return list, true
}

// opAreas joins the areas of all steps of an operation.
func (p *program) opAreas(op *operation) (list []area, whole bool) {
	for i := op.first; i <= op.last; i++ {
		if p.isTIC(&p.rec.Trace[i]) && i != op.first {
			continue
		}
		part, ok := p.areas(i, op.cmd)
		list = append(list, part...)
		if !ok {
			return list, false
		}
	}
	return list, true
}

// opCount is the number of bytes an operation's CCWs allow.
func (p *program) opCount(op *operation) int {
	n := 0
	for i := op.first; i <= op.last; i++ {
		if s := &p.rec.Trace[i]; !p.isTIC(s) {
			n += int(s.Count)
		}
	}
	return n
}

// end is the first address above all memory that the program names: what it
// fetched, what it stored, and what CCWs name directly. Areas of operations
// that ended in a program check are left out (their addresses may be what was
// wrong), skipped data (nobody looks at its address) and control commands
// that moved nothing.
func (p *program) end() addr.GPA {
	var end addr.GPA
	reach := func(r addr.Range[addr.GPA]) {
		// The last byte of all would wrap to 0; it is out of reach anyway.
		end = max(end, min(r.Last(), ^addr.GPA(0)-1)+1)
	}
	for i := range p.known {
		reach(p.known[i].Range())
	}
	for i := range p.stored {
		reach(p.stored[i].Range())
	}
	for k := range p.ops {
		op := &p.ops[k]
		status := &p.rec.Trace[op.last]
		if op.ended && cio.SubchannelStatus(status.CStat)&cio.ProgramCheck != 0 {
			continue
		}
		class := op.cmd.Class(p.f1)
		if class == cio.ClassControl && (status.Resid == status.Count || op.cmd == cio.NOP) || class == cio.ClassInvalid {
			continue
		}
		for i := op.first; i <= op.last; i++ {
			s := &p.rec.Trace[i]
			f := cio.Flags(s.Flags)
			if p.isTIC(s) || s.Count == 0 || f&(cio.Indirect|cio.Modified|cio.Skip) != 0 {
				continue
			}
			a := addr.GPA(s.CDA)
			if class == cio.ClassReadBackward {
				end = max(end, a+1)
			} else {
				end = max(end, a+addr.GPA(s.Count))
			}
		}
	}
	return end
}

// MemorySize is the least memory in which recs can run, a power of two of at
// least 4 MiB: the machine they were recorded on had more or less of it, and
// whether an address lies beyond its end is part of what they recorded. ok is
// false, and i the index of the record at fault, when that is more than
// [MaxRAM].
func MemorySize(recs []*recording.Record) (size addr.Len, i int, ok bool) {
	size = MinRAM
	for i, rec := range recs {
		end := addr.Len(newProgram(rec).end())
		for end > size {
			if size >= MaxRAM {
				return 0, i, false
			}
			size *= 2
		}
	}
	return size, 0, true
}
