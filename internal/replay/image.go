package replay

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// image is what a record says about guest memory, cut so that every byte of
// every page it touches is looked at exactly once: bytes the channel should
// have stored (want), bytes of the start image that should be unchanged
// (keep) and the poison between them (gaps).
type image struct {
	load  []recording.Segment // the start image, and what is behind the program
	want  []recording.Segment // expected stores
	keep  []recording.Segment // load without want
	gaps  []span              // the rest of pages
	pages []addr.GPA          // pages that load or want touch, ascending
}

// span is n bytes of guest memory from a.
type span struct {
	a addr.GPA
	n addr.Len
}

// newImage cuts the memory of rec, to which more belongs. It does not copy the
// record's data.
func newImage(rec *recording.Record, more ...recording.Segment) *image {
	im := &image{load: append(rec.Memory[:len(rec.Memory):len(rec.Memory)], more...)}
	if rec.Expect != nil {
		im.want = slices.Clone(rec.Expect.Memory)
	}
	byGPA := func(a, b recording.Segment) int { return cmp.Compare(a.GPA, b.GPA) }
	slices.SortFunc(im.want, byGPA)
	load := slices.SortedFunc(slices.Values(im.load), byGPA)

	// Neither list overlaps itself, so one pass cuts load by want.
	w := 0
	for _, s := range load {
		off := addr.Len(0)
		for w < len(im.want) && im.want[w].Range().Last() < s.GPA {
			w++
		}
		for k := w; k < len(im.want) && im.want[k].GPA <= s.Range().Last(); k++ {
			r := im.want[k].Range()
			if r.Start() > s.GPA+addr.GPA(off) {
				im.keep = append(im.keep, s.Sub(off, addr.Len(r.Start()-s.GPA)-off))
			}
			off = min(addr.Len(r.Last()-s.GPA)+1, s.Len())
		}
		if off < s.Len() {
			im.keep = append(im.keep, s.Sub(off, s.Len()-off))
		}
	}

	all := make([]recording.Segment, 0, len(im.want)+len(im.keep))
	all = append(append(all, im.want...), im.keep...)
	slices.SortFunc(all, byGPA)
	// end is the first byte of the current page run not yet accounted for.
	var end addr.GPA
	open := false
	gap := func(from, to addr.GPA) { // [from, to)
		if to > from {
			im.gaps = append(im.gaps, span{from, addr.Len(to - from)})
		}
	}
	pageEnd := func(a addr.GPA) addr.GPA { // of the last byte before a
		return addr.PageOf(a-1) + addr.GPA(addr.PageSize)
	}
	for _, s := range all {
		r := s.Range()
		if !open || addr.PageOf(r.Start()) >= pageEnd(end) {
			if open {
				gap(end, pageEnd(end))
			}
			end, open = addr.PageOf(r.Start()), true
		}
		gap(end, r.Start())
		end = r.Last() + 1
		for p := addr.PageOf(r.Start()); ; p += addr.GPA(addr.PageSize) {
			if n := len(im.pages); n == 0 || im.pages[n-1] < p {
				im.pages = append(im.pages, p)
			}
			if p == addr.PageOf(r.Last()) { // not p > Last: that may be the last page of all
				break
			}
		}
	}
	if open {
		gap(end, pageEnd(end))
	}
	return im
}

// behind is what stands where the CCW would be that follows the last one
// executed, if that one chains and the record does not know its successor: a
// program that an unusual status ended before the channel fetched on. Poison
// there would go on and on for a mediator that reads ahead; a no-operation that
// chains nothing ends the program, and what is not executed is not looked at.
//
// It lies in a memory of size bytes.
func behind(rec *recording.Record, size addr.Len) []recording.Segment {
	n := len(rec.Trace)
	if n == 0 {
		return nil
	}
	s := &rec.Trace[n-1]
	f1 := (&cio.ORB{Raw: rec.ORB}).Format1()
	if cio.Flags(s.Flags)&(cio.ChainData|cio.ChainCommand) == 0 || cio.Command(s.Cmd).IsTIC(f1) || !addr.Aligned(s.At, cio.CCWSize) ||
		addr.Len(s.At) >= size || size-addr.Len(s.At) < 2*cio.CCWSize {
		return nil
	}
	stop := cio.CCW{Command: cio.NOP, Count: 1}
	b := stop.Encode0()
	if f1 {
		b = stop.Encode1()
	}
	known := slices.Clone(rec.Memory)
	if rec.Expect != nil {
		known = append(known, rec.Expect.Memory...)
	}
	var out []recording.Segment
	for i := range b {
		a := s.At + cio.CCWSize + addr.GPA(i)
		if slices.ContainsFunc(known, func(k recording.Segment) bool { return k.Range().Contains(a) }) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Range().Last()+1 == a {
			out[n-1].Data = append(out[n-1].Data, b[i])
			continue
		}
		out = append(out, recording.Segment{GPA: a, Data: []byte{b[i]}})
	}
	return out
}

// holds reports whether page is one that the image accounts for.
func (im *image) holds(page addr.GPA) bool {
	_, found := slices.BinarySearch(im.pages, page)
	return found
}

// equal reports whether memory is exactly as expected in every page of the
// image and in the further pages, which should be poison.
func (im *image) equal(m *RAM, further []addr.GPA) bool {
	for i := range im.want {
		if s := &im.want[i]; !s.Equal(m.at(s.GPA, s.Len())) {
			return false
		}
	}
	for i := range im.keep {
		if s := &im.keep[i]; !s.Equal(m.at(s.GPA, s.Len())) {
			return false
		}
	}
	for _, g := range im.gaps {
		if !m.isPoison(g.a, g.n) {
			return false
		}
	}
	for _, p := range further {
		if !im.holds(p) && !m.isPoison(p, addr.PageSize) {
			return false
		}
	}
	return true
}

// restore makes every page of the image poison again. Precondition: equal,
// so that the bytes between the segments are poison already.
func (im *image) restore(m *RAM) {
	m.clear(im.want)
	m.clear(im.keep)
}

// A Run is a run of memory that is not as expected.
type Run struct {
	GPA  addr.GPA
	Want []byte // expected afterwards
	Got  []byte
	Was  []byte // before the program
}

// differences lists where memory is not as expected: the slow path, taken
// when equal says no. Runs less than 8 bytes apart are joined, so that a
// difference reads as one.
func (im *image) differences(m *RAM, further []addr.GPA) []Run {
	const pageSize = int(addr.PageSize)
	pages := slices.Clone(im.pages)
	for _, p := range further {
		if !im.holds(p) {
			pages = append(pages, p)
		}
	}
	slices.Sort(pages)
	pages = slices.Compact(pages)
	overlay := func(page []byte, at addr.GPA, segs []recording.Segment) {
		pr := addr.MustRange(at, addr.PageSize)
		for i := range segs {
			s := &segs[i]
			if x, ok := s.Range().Intersect(pr); ok {
				n, _ := x.Len()
				s.CopyTo(page[x.Start()-at:][:n], addr.Len(x.Start()-s.GPA))
			}
		}
	}
	var runs []Run
	for _, p := range pages {
		was := bytes.Clone(m.page)
		overlay(was, p, im.load)
		want := bytes.Clone(was)
		overlay(want, p, im.want)
		got := m.at(p, addr.PageSize)
		for i := 0; i < pageSize; i++ {
			if want[i] == got[i] {
				continue
			}
			end := i + 1
			for j := end; j < min(end+8, pageSize); j++ {
				if want[j] != got[j] {
					end = j + 1
				}
			}
			a := p + addr.GPA(i)
			if n := len(runs); n > 0 && runs[n-1].GPA+addr.GPA(len(runs[n-1].Got)) == a {
				r := &runs[n-1]
				r.Want, r.Got, r.Was = append(r.Want, want[i:end]...), append(r.Got, got[i:end]...), append(r.Was, was[i:end]...)
			} else {
				runs = append(runs, Run{a, bytes.Clone(want[i:end]), bytes.Clone(got[i:end]), bytes.Clone(was[i:end])})
			}
			i = end - 1
		}
	}
	return runs
}
