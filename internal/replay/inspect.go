package replay

import (
	"context"
	"fmt"

	"github.com/softmdev/softmdev/ccw"
	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/pinning"
	"github.com/softmdev/softmdev/translate/addr"
)

// Inspection is one replayed record with its program as the guest wrote it and
// as hardware got it.
type Inspection struct {
	Result      *Result
	Record      *recording.Record
	Kind        Kind
	IRB         cio.IRB // as our guest got it
	Translation *ccw.Translation
}

// Inspect replays s as Run does, in this process, and shows each record that the
// options select.
func (s *Scenario) Inspect(ctx context.Context, look func(*Inspection)) error {
	if s.opt.Via != Direct {
		return fmt.Errorf("programs are inspected in this process: %w", errs.ErrNotSupported)
	}
	_, _, err := s.run(ctx, pass{look: look})
	return err
}

// inspect looks at the record that sub has just run.
func (m *machine) inspect(s *Scenario, r *prepared, sub *sub, res *Result, irb *cio.IRB) *Inspection {
	x := &Inspection{Result: res, Record: r.rec, Kind: s.Kind(r.rec), IRB: *irb, Translation: sub.way.device().Last()}
	if !x.Translation.Whole {
		m.addWords(r, x.Translation)
	}
	return x
}

// addWords completes the elements of a program that was translated as it ran:
// their data are gone with their pins. The guest's words are in the record;
// the frame behind a page does not change while the page is mapped, so that
// pinning it once more tells the host address it had.
func (m *machine) addWords(r *prepared, t *ccw.Translation) {
	d := m.host.space.NewDomain("inspect")
	defer d.Close()
	owner := m.host.pinner.NewOwner("inspect", d, nil)
	defer owner.Close()
	for i := range t.Elements {
		e := &t.Elements[i]
		if len(e.Words) != 0 || e.CCW.Count == 0 {
			continue
		}
		for k := range r.p.ops {
			op := &r.p.ops[k]
			step := op.first
			for step <= op.last && uint32(r.rec.Trace[step].At) != e.Addr {
				step++
			}
			if step > op.last {
				continue
			}
			list, _ := r.p.areas(step, op.cmd)
			for _, a := range list {
				e.Words = append(e.Words, m.word(owner.Begin(0), a, op.cmd.Access()))
			}
			break
		}
	}
}

// word is one area of guest memory with the host address of its page.
func (m *machine) word(l pinning.Lease, a area, access addr.Access) ccw.Word {
	defer l.Release()
	w := ccw.Word{Guest: addr.IdentityIOVA(a.a), Len: a.n}
	if a.backward {
		w.Guest += addr.IOVA(a.n - 1)
	}
	if a.skip || access == 0 {
		return w
	}
	p, err := l.Pin(addr.IdentityIOVA(a.a), a.n, access)
	if err != nil {
		w.Err = true
		return w
	}
	if w.Host = p.HPA(); a.backward {
		w.Host = p.At(a.n - 1)
	}
	return w
}
