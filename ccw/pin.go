package ccw

import (
	"fmt"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// pinAll pins what the program names, with the least access, and puts the
// host address of each piece into hosts. Memory that is not there, or not for
// this access, becomes a hole. Any other failure refuses the request.
func (w *walker) pinAll(hosts []addr.HPA) ([]addr.HPA, error) {
	p := &w.p
	hosts = hosts[:0]
	for range p.pieces {
		hosts = append(hosts, 0)
	}
	for i := range p.elems {
		e := &p.elems[i]
		if e.n == 0 {
			continue
		}
		d, _ := e.direction(p.format1)
		if err := w.pin(i, d, d.access(), hosts); err != nil {
			return hosts, errs.At("ccw", i, uint64(e.at), err)
		}
	}
	return hosts, nil
}

// pin pins the pieces of element i, whose data moves in direction d, for
// access.
func (w *walker) pin(i int, d way, access addr.Access, hosts []addr.HPA) error {
	p := &w.p
	e := &p.elems[i]
	if e.kind == direct && e.n > 1 {
		return w.pinDirect(i, d, access, hosts)
	}
	back := addr.IOVA(0)
	for k := range p.pieces[e.first : e.first+e.n] {
		j := int(e.first) + k
		pc := &p.pieces[j]
		if pc.hole != noHole || e.kind == modified && skips(pc.flags, d) {
			continue
		}
		if d == dataBack {
			back = addr.IOVA(pc.n - 1)
		}
		hpa, err := w.job.Pin(pc.at-back, addr.Len(pc.n), access)
		if err == nil {
			hosts[j] = hpa + addr.HPA(back)
			continue
		}
		h, known := holeOf(err)
		if !known {
			if e.kind != direct {
				err = errs.In(wordName(e.ccw), k, err)
			}
			return err
		}
		if e.kind == direct && h == absent {
			e.kind, e.hole = badDirect, h
			p.fault(i, -1, err)
			return nil
		}
		pc.hole = h
		if e.kind == direct {
			p.fault(i, -1, err)
		} else {
			p.fault(i, k, err)
		}
		// A device that lets bytes pass without moving them may get past this
		// word: the rest counts as well.
	}
	return nil
}

// pinDirect pins the range of direct data that spans several blocks. Storage
// that is not there makes the whole range a hole, as hardware looks at the
// range before the first byte moves.
func (w *walker) pinDirect(i int, d way, access addr.Access, hosts []addr.HPA) error {
	p := &w.p
	e := &p.elems[i]
	low := addr.IOVA(e.ccw.Addr)
	if d == dataBack {
		low -= addr.IOVA(e.ccw.Count - 1)
	}
	if w.held(e, access, hosts) {
		return nil
	}
	pin, err := w.job.PinRange(low, addr.Len(e.ccw.Count), access)
	if err == nil {
		for k := range p.pieces[e.first : e.first+e.n] {
			j := int(e.first) + k
			hosts[j] = pin.At(addr.Len(p.pieces[j].at - low))
		}
		return nil
	}
	h, known := holeOf(err)
	if !known {
		return err
	}
	if h == absent {
		e.kind, e.hole = badDirect, absent
		p.fault(i, -1, err)
		return nil
	}
	w.job.Enter()
	defer w.job.Exit()
	// Storage that is there and refuses is found when data get to it, unless
	// some of the range is not there at all.
	for k := range p.pieces[e.first : e.first+e.n] {
		pc := &p.pieces[int(e.first)+k]
		if err := w.job.Mapped(pc.at, 1); err != nil {
			if h, _ := holeOf(err); h == absent {
				e.kind, e.hole = badDirect, absent
				p.fault(i, -1, err)
				return nil
			}
		}
	}
	e.kind = indirect
	return w.pin(i, d, access, hosts)
}

// held fills in the host addresses of the pieces of e, if the request has
// pinned them all before: a loop pins nothing twice.
func (w *walker) held(e *element, access addr.Access, hosts []addr.HPA) bool {
	for k := e.first; k < e.first+e.n; k++ {
		hpa, ok := w.job.Held(w.p.pieces[k].at, access)
		if !ok {
			return false
		}
		hosts[k] = hpa
	}
	return true
}

func wordName(c cio.CCW) string {
	if c.Flags&cio.Modified != 0 {
		return "MIDAW"
	}
	return "IDAW"
}

// refusal is the error of a request that is not started, which no device
// status could express.
func refusal(orb *cio.ORB, err error) error {
	return fmt.Errorf("program at %#x: %w", orb.Program(), err)
}
