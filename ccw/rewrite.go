package ccw

import (
	"encoding/binary"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/translate/addr"
)

// rewriter writes host programs. A host program is the guest's program with
// every address translated: format 1, format-2 lists with the guest's block
// size, and an address in a hole wherever the guest's has no translation. All
// else - commands, flags, counts, the order of the chains - stands as the
// guest wrote it, so that hardware decides what it means.
type rewriter struct {
	arena
	holes [gone + 1]uint32 // host address of each hole
	order []int            // of segments
}

// holeSize is the extent of a hole: more than a CCW can count, from any
// offset in a page, in both directions.
const holeSize = 256 << 10

// in is an address in hole h with the page offset of a. It is so far from the
// ends of the hole that no count leads out of it.
func (r *rewriter) in(h hole, a addr.IOVA) uint32 {
	return r.holes[h] + holeSize/2 + uint32(addr.PageOffset(a))
}

// exits leads execution on where a program was not fetched.
type exits interface {
	// exit returns the host address of a place where execution may go on at
	// guest address at, which was not fetched.
	exit(at uint32) uint32
}

// rewrite writes the host program of p, whose pieces have the host addresses
// hosts, and returns the host address of its first CCW.
func (r *rewriter) rewrite(p *program, hosts []addr.HPA, x exits) (uint32, error) {
	// Chains lie in the order in which the guest has them: hardware counts
	// transfers that lead backward.
	r.order = r.order[:0]
	for i := range p.segs {
		k := len(r.order)
		r.order = append(r.order, 0)
		for ; k > 0 && p.segs[r.order[k-1]].guest > p.segs[i].guest; k-- {
			r.order[k] = r.order[k-1]
		}
		r.order[k] = i
	}
	for _, i := range r.order {
		s := &p.segs[i]
		n := int(s.n) + 1 // what execution could skip to
		_, host, err := r.alloc(n*cio.CCWSize, cio.CCWSize, false)
		if err != nil {
			return 0, err
		}
		s.host = host
	}
	for i := range p.segs {
		s := &p.segs[i]
		slots := r.slots(s)
		for k := range p.elems[s.first : s.first+s.n] {
			e := &p.elems[int(s.first)+k]
			b := slots[k*cio.CCWSize:]
			if e.kind == transfer && e.hole != noHole {
				putCCW(b, cio.TIC, 0, 0, r.in(e.hole, 0))
				continue
			}
			if e.kind == transfer {
				t := &p.segs[e.target.seg]
				putCCW(b, cio.TIC, 0, 0, t.host+uint32(e.target.pos)*cio.CCWSize)
				continue
			}
			if err := r.ccw(b, e, p.pieces[e.first:e.first+e.n], hosts[e.first:e.first+e.n]); err != nil {
				return 0, err
			}
		}
		behind := slots[int(s.n)*cio.CCWSize:]
		if s.exit {
			putCCW(behind, cio.TIC, 0, 0, x.exit(s.guest+uint32(s.n)*cio.CCWSize))
		} else {
			putStop(behind) // never reached; what lies behind is data
		}
	}
	return p.segs[0].host, nil
}

// slots is the host memory of segment s.
func (r *rewriter) slots(s *segment) []byte {
	for _, c := range r.chunks {
		if off := uint32(s.host) - uint32(c.HPA); off < chunkSize {
			return c.Mem[off:]
		}
	}
	panic("ccw: segment outside the arena") // rewrite put it there
}

// addressing are the flags of a CCW that say how its address is to be read.
const addressing = cio.Indirect | cio.Modified

// ccw writes the host CCW of e, which is no transfer, into b, and its list.
func (r *rewriter) ccw(b []byte, e *element, pieces []piece, hosts []addr.HPA) error {
	c := e.ccw
	switch e.kind {
	case direct, indirect:
		list, host, err := r.alloc(len(pieces)*cio.IDAW2Size, cio.IDAW2Size, true)
		if err != nil {
			return err
		}
		for k := range pieces {
			h := uint64(hosts[k])
			if pieces[k].hole != noHole {
				h = uint64(r.in(pieces[k].hole, pieces[k].at))
			}
			binary.BigEndian.PutUint64(list[k*cio.IDAW2Size:], h)
		}
		putCCW(b, c.Command, c.Flags|cio.Indirect, c.Count, host)
	case modified:
		host, err := r.midal(pieces, hosts)
		if err != nil {
			return err
		}
		putCCW(b, c.Command, c.Flags, c.Count, host)
	case noData:
		// The address is not used; it still must look like one.
		putCCW(b, c.Command, c.Flags&^addressing, c.Count, r.nowhere())
	case asIs:
		putCCW(b, c.Command, c.Flags, c.Count, r.nowhere()|c.Addr&cio.Limit1)
	case badDirect:
		putCCW(b, c.Command, c.Flags&^addressing, c.Count, r.in(e.hole, addr.IOVA(c.Addr)))
	case badList:
		if e.hole == noHole { // misaligned, and so it stays
			putCCW(b, c.Command, c.Flags, c.Count, r.nowhere()+c.Addr&(cio.MIDAWSize-1))
		} else {
			putCCW(b, c.Command, c.Flags, c.Count, r.in(e.hole, 0))
		}
	case badWord: // as hardware finds a list of doublewords on a word boundary
		putCCW(b, c.Command, c.Flags, c.Count, r.nowhere()+cio.IDAW1Size)
	default: // stop
		putStop(b)
	}
	return nil
}

// nowhere is an aligned host address for a field that is not used: in a hole,
// so that hardware which did use it would find no memory of the host program.
func (r *rewriter) nowhere() uint32 { return r.in(absent, 0) }

// putStop writes a CCW that is a program check however it is reached: its
// command is invalid, and where data chaining hides that, its count is zero.
func putStop(b []byte) { putCCW(b, 0, 0, 0, 0) }

// midal writes the list of MIDAWs for pieces.
func (r *rewriter) midal(pieces []piece, hosts []addr.HPA) (uint32, error) {
	list, host, err := r.alloc(len(pieces)*cio.MIDAWSize, cio.MIDAWSize, true)
	if err != nil {
		return 0, err
	}
	for k := range pieces {
		pc := &pieces[k]
		m := cio.MIDAW{Zero: pc.zero, Flags: pc.flags, Count: pc.count, Addr: uint64(hosts[k])}
		if pc.hole != noHole {
			m.Addr = uint64(r.in(pc.hole, pc.at))
		}
		w := m.Encode()
		copy(list[k*cio.MIDAWSize:], w[:])
	}
	return host, nil
}

// hostORB is the ORB for a host program at address first, for the guest's orb.
//
// Format 0 never reports incorrect length for a command that ends at once;
// format 1 does not if L is on.
func hostORB(orb *cio.ORB, first uint32) cio.ORB {
	h := *orb
	if !orb.Format1() {
		h.SetFormat1(true)
		h.SetSuppressIL(true)
	}
	h.SetBlock2K(orb.Block() == cio.Block2K)
	h.SetIDAW2(true)
	h.SetAddressLimit(false) // of guest addresses, which the walk has seen
	h.SetProgram(first)
	return h
}
