package replay

import (
	"bytes"
	"slices"
	"strings"

	"github.com/softmdev/softmdev/ccw/cio"
	"github.com/softmdev/softmdev/internal/recording"
	"github.com/softmdev/softmdev/translate/addr"
)

// A Rule knows one way in which the machines that recordings come from
// differ from the architecture (ccw.md sections 9 and 10). It looks at what
// was recorded, and if that is the case it knows, corrects the expectation to
// what the architecture says. Whatever differs from the corrected expectation
// is a failure as before: a rule never makes "different" into "do not care",
// but where the architecture itself leaves a value open.
type Rule struct {
	Name   string
	Reason string
	// apply corrects o, or reports false when o is not the rule's case.
	apply func(o *observed) bool
}

// Rules are all rules, in the order in which they are tried. Of the order
// only this matters: the prefetch bit is in every record of its machine and
// may come together with another.
var rules = []Rule{
	{
		Name:   "prefetch-bit",
		Reason: "QEMU does not copy the ORB's P bit into the SCSW (ccw.md section 9); SCSW bit 9 mirrors the ORB",
		apply:  prefetchBit,
	},
	{
		Name:   "foreign-status",
		Reason: "the recorder of QEMU took the status from the TEST SUBCHANNEL that followed, which was for another subchannel: the CCW address is that of a program there (recording-ccw.md)",
		apply:  foreignStatus,
	},
	{
		Name:   "zero-count",
		Reason: "Hercules accepts a zero count where it is a program check: in format 0, and in format 1 with data chaining (ccw.md sections 1 and 10)",
		apply:  zeroCount,
	},
	{
		Name:   "tic-first",
		Reason: "Hercules accepts a transfer in channel as the first CCW of a program; it is a program check (ccw.md sections 2 and 10)",
		apply:  ticFirst,
	},
	{
		Name:   "midaw-sum",
		Reason: "Hercules accepts MIDAWs whose counts add up to less than the count of the CCW; it is a program check (ccw.md sections 3 and 10)",
		apply:  midawRule(midawShort),
	},
	{
		Name:   "midaw-reserved",
		Reason: "Hercules ignores reserved bits of a MIDAW; they are a program check (ccw.md sections 3 and 10)",
		apply:  midawRule(midawReserved),
	},
	{
		Name:   "midaw-last",
		Reason: "Hercules does not miss the last flag on the final MIDAW; without it there is a program check (ccw.md sections 3 and 10)",
		apply:  midawRule(midawNoLast),
	},
	{
		Name:   "midaw-skip",
		Reason: "Hercules does not let the data that a MIDAW skips pass: what follows gets the bytes that were to be skipped (ccw.md section 3: skipped data count)",
		apply:  midawSkip,
	},
	{
		Name:   "immediate-length",
		Reason: "Hercules ends an immediate control command without its residual count or without incorrect length (ccw.md sections 5, 6 and 10)",
		apply:  immediateLength,
	},
	{
		Name:   "reject-residual",
		Reason: "Hercules forces the residual count to zero when the device rejects a command that moved nothing (ccw.md section 6)",
		apply:  rejectResidual,
	},
	{
		Name:   "sequence-message",
		Reason: "Hercules calls a read or a search without a seek or locate before it message 2 of sense format 2, equipment; an invalid command sequence is message 2 of format 0 (ccw.md section 8, sense byte 7)",
		apply:  sequenceMessage,
	},
	{
		Name:   "stale-count",
		Reason: "Hercules leaves the residual count of the operation before when it finds a program check in fetching a CCW; that check has no count (ccw.md section 5)",
		apply:  staleCount,
	},
	{
		Name:   "late-check",
		Reason: "Hercules moves data first and reports the check after the device has finished, with a residual count that says nothing (ccw.md section 10)",
		apply:  lateCheck,
	},
	{
		Name:   "storage-key",
		Reason: "storage keys are accepted in the ORB and not modelled: there is no protection check by key (ccw.md section 6)",
		apply:  storageKey,
	},
	{
		Name:   "read-backward-list",
		Reason: "Hercules misreads a valid IDAW list of a read backward (ccw.md section 10)",
		apply:  readBackwardList,
	},
	{
		Name:   "tic-loop",
		Reason: "how many transfers backward without data end in a program check is the machine's choice (ccw.md section 2)",
		apply:  ticLoop,
	},
}

// Rules lists the rules by name and reason.
func Rules() []Rule { return append([]Rule(nil), rules...) }

// explain applies rules until nothing differs. It returns those that changed
// the expectation, and whether they explain everything.
func explain(o *observed) (used []Rule, all bool) {
	for _, r := range rules {
		if o.equal() {
			break
		}
		if !o.plausible() {
			break
		}
		c := o.clone()
		if r.apply(c) && closer(o, c) {
			*o = *c
			used = append(used, r)
		}
	}
	return used, o.equal() && len(used) > 0
}

// plausible reports whether the recorded status is that of the trace. Where a
// recording contradicts itself, no rule knows what is wrong with it.
func (o *observed) plausible() bool {
	t := o.p.rec.Trace
	if len(t) == 0 || !t[len(t)-1].Ended || !o.hasSCSW || o.p.rec.Expect.SCSW == nil {
		return true // QEMU: no status in the trace
	}
	s, w := &t[len(t)-1], cio.SCSW(*o.p.rec.Expect.SCSW)
	control := normalEnd
	if cio.DeviceStatus(s.DStat)&^cio.StatusModifier != cio.Ended || s.CStat != 0 {
		control = unusualEnd
	}
	return w.Control() == control && byte(w.Device()) == s.DStat && byte(w.Subchannel()&^cio.PCI) == s.CStat &&
		w.Count() == s.Resid && w.CCWAddr() == uint32(s.At)+cio.CCWSize
}

// closer reports whether c differs in fewer bytes than o: a rule that explains
// nothing is not named.
func closer(o, c *observed) bool { return c.distance() < o.distance() }

// distance is the number of bytes that differ.
func (o *observed) distance() int {
	n := 0
	for _, d := range o.differences() {
		for i := range d.Got {
			if d.Want[i] != d.Got[i] {
				n++
			}
		}
	}
	return n
}

const (
	normalEnd  = cio.StartFunction | cio.PrimaryStatus | cio.SecondaryStatus | cio.StatusPending
	unusualEnd = normalEnd | cio.AlertStatus
	anyCheck   = cio.ProgramCheck | cio.ProtectionCheck | cio.DataCheck | cio.ControlCheck | cio.InterfaceCheck | cio.ChainingCheck
)

// checkedAt corrects the status to a program check at step i. With begun the
// device was at work already: what it says then, and the residual count,
// the architecture leaves open within bounds.
func (o *observed) checkedAt(i int, begun bool) {
	s := &o.p.rec.Trace[i]
	o.correct(func(w *cio.SCSW, e *cio.ESW, c *cio.ECW) {
		w.SetControl(unusualEnd)
		w.SetFlags(w.Flags() &^ cio.SCSWExtended)
		w.SetCCWAddr(uint32(s.At) + cio.CCWSize)
		w.SetSubchannel(w.Subchannel()&cio.PCI | cio.ProgramCheck)
		w.SetDevice(0)
		w.SetCount(0)
		if d := o.got.SCSW.Device(); begun && d&^cio.Ended == 0 {
			w.SetDevice(d)
		}
		if n := o.got.SCSW.Count(); begun && n <= s.Count {
			w.SetCount(n)
		}
		clear(e[4:])
		*c = cio.ECW{}
	})
}

// explainRuns drops the memory differences of which f explains every byte.
func (o *observed) explainRuns(f func(a addr.GPA, want, got, was byte) bool) {
	var left []Run
	for _, r := range o.runs {
		for i := range r.Got {
			if r.Want[i] != r.Got[i] && !f(r.GPA+addr.GPA(i), r.Want[i], r.Got[i], r.Was[i]) {
				left = append(left, r)
				break
			}
		}
	}
	o.runs = left
}

// notStored explains bytes in the data areas of the steps from i on that were
// recorded as stored and are as they were before.
func (o *observed) notStored(i int) {
	var areas []area
	for k := range o.p.ops {
		op := &o.p.ops[k]
		for j := max(i, op.first); j <= op.last; j++ {
			if !o.p.isTIC(&o.p.rec.Trace[j]) {
				part, _ := o.p.areas(j, op.cmd)
				areas = append(areas, part...)
			}
		}
	}
	o.explainRuns(func(a addr.GPA, _, got, was byte) bool { return got == was && inAreas(areas, a) })
}

func inAreas(areas []area, a addr.GPA) bool {
	for _, x := range areas {
		if !x.skip && a >= x.a && a-x.a < addr.GPA(x.n) {
			return true
		}
	}
	return false
}

// recordedCheck reports whether the record ended in one of the checks of mask.
func (o *observed) recordedCheck(mask cio.SubchannelStatus) bool {
	return o.scsw.Subchannel()&mask != 0
}

// isQEMU reports whether a record was made with QEMU.
func isQEMU(rec *recording.Record) bool {
	return rec.PMCW == nil && strings.Contains(strings.ToLower(rec.Source), "qemu")
}

func prefetchBit(o *observed) bool {
	if !isQEMU(o.p.rec) || !o.p.orb.Prefetch() || o.scsw.Flags()&cio.SCSWPrefetch != 0 {
		return false
	}
	o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) { w.SetFlags(w.Flags() | cio.SCSWPrefetch) })
	return true
}

// foreignStatus: the recorded CCW address follows no CCW of this program, and
// does follow the last one of a program started nearby on another subchannel.
// Only the address is corrected; that the other program ended alike is why
// nothing else differs.
func foreignStatus(o *observed) bool {
	t := o.p.rec.Trace
	if !isQEMU(o.p.rec) || o.p.rec.End != recording.Async || len(t) == 0 {
		return false
	}
	behind := func(s *recording.Step) uint32 { return uint32(s.At) + cio.CCWSize }
	for i := range t {
		if behind(&t[i]) == o.scsw.CCWAddr() {
			return false
		}
	}
	for _, r := range o.near {
		if n := len(r.Trace); n > 0 && r.Device.SchID != o.p.rec.Device.SchID && behind(&r.Trace[n-1]) == o.scsw.CCWAddr() {
			o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) { w.SetCCWAddr(behind(&t[len(t)-1])) })
			return true
		}
	}
	return false
}

// zeroCount: the first CCW with a count of zero where none may be ends the
// program.
func zeroCount(o *observed) bool {
	for k := range o.p.ops {
		op := &o.p.ops[k]
		for i := op.first; i <= op.last; i++ {
			s := &o.p.rec.Trace[i]
			// Under data chaining a transfer in channel is none of these.
			if s.Count != 0 || o.p.isTIC(s) {
				continue
			}
			if o.p.f1 && i == op.first && cio.Flags(s.Flags)&cio.ChainData == 0 {
				continue
			}
			if s.Ended && cio.SubchannelStatus(s.CStat)&anyCheck != 0 {
				return false // refused by the recorded machine as well
			}
			o.checkedAt(i, i != op.first)
			o.notStored(i)
			return true
		}
	}
	return false
}

func ticFirst(o *observed) bool {
	t := o.p.rec.Trace
	if len(t) == 0 || o.p.rec.Op != recording.StartSubchannel || !o.p.isTIC(&t[0]) || t[0].Ended {
		return false
	}
	o.checkedAt(0, false)
	o.notStored(0)
	return true
}

// midawFault is what may be wrong with a MIDAW list.
type midawFault uint8

const (
	midawShort    midawFault = iota // last, and the counts are too few
	midawReserved                   // a bit that must be zero is one
	midawNoLast                     // the counts are complete, and not last
)

// midawRule is the rule for a step whose MIDAW list has that fault, found
// first, and which the recorded machine accepted.
func midawRule(fault midawFault) func(*observed) bool {
	return func(o *observed) bool {
		for k := range o.p.ops {
			op := &o.p.ops[k]
			for i := op.first; i <= op.last; i++ {
				s := &o.p.rec.Trace[i]
				if cio.Flags(s.Flags)&(cio.Modified|cio.Indirect) != cio.Modified || !o.p.orb.MIDAW() || o.p.isTIC(s) {
					continue
				}
				if s.Ended && cio.SubchannelStatus(s.CStat)&anyCheck != 0 {
					return false
				}
				found, ok := o.p.midawFault(addr.GPA(s.CDA), int(s.Count))
				if !ok {
					continue
				}
				if found != fault {
					return false
				}
				o.checkedAt(i, true)
				o.notStored(i)
				return true
			}
		}
		return false
	}
}

// midawFault is the first fault of a list that count bytes use.
func (p *program) midawFault(at addr.GPA, count int) (midawFault, bool) {
	for count > 0 {
		var b [cio.MIDAWSize]byte
		if !p.read(at, b[:]) {
			return 0, false
		}
		at += cio.MIDAWSize
		w := cio.DecodeMIDAW(&b)
		count -= int(w.Count)
		switch last := w.Flags&cio.MIDAWLast != 0; {
		case w.Reserved():
			return midawReserved, true
		case w.Count == 0 || count < 0:
			return 0, false // the recorded machine checks these
		case last && count > 0:
			return midawShort, true
		case !last && count == 0:
			return midawNoLast, true
		}
	}
	return 0, false
}

// midawSkip: behind a skipped MIDAW of n bytes the recorded data lag by n: our
// data are the recorded ones n bytes later, as far as those reach.
func midawSkip(o *observed) bool {
	for k := range o.p.ops {
		op := &o.p.ops[k]
		f := cio.Flags(o.p.rec.Trace[op.first].Flags)
		if op.first != op.last || f&cio.Modified == 0 || !op.cmd.Class(o.p.f1).Input() {
			continue
		}
		list, whole := o.p.opAreas(op)
		skipped, behind := 0, []addr.GPA(nil)
		for _, x := range list {
			switch {
			case x.skip:
				skipped += int(x.n)
			case skipped > 0:
				for i := range x.n {
					behind = append(behind, x.a+addr.GPA(i))
				}
			}
		}
		if !whole || skipped == 0 || len(behind) == 0 {
			continue
		}
		pos := make(map[addr.GPA]int, len(behind))
		recorded := make([]byte, len(behind))
		for i, a := range behind {
			pos[a] = i
			if readSegments(o.p.stored, a, recorded[i:i+1]) == 0 {
				return false
			}
		}
		ours := slices.Clone(recorded)
		for _, r := range o.runs {
			for j, v := range r.Got {
				if i, ok := pos[r.GPA+addr.GPA(j)]; ok {
					ours[i] = v
				}
			}
		}
		if n := len(recorded) - skipped; n <= 0 || !bytes.Equal(ours[:n], recorded[skipped:]) {
			return false
		}
		o.explainRuns(func(a addr.GPA, _, _, _ byte) bool { _, ok := pos[a]; return ok })
		return true
	}
	return false
}

// immediateLength: a control command that moved nothing has all of its count
// left, and in format 1 without SLI and without the ORB's L bit that is
// incorrect length, which ends chaining. Recorded is a residual of zero, or no
// incorrect length.
func immediateLength(o *observed) bool {
	for k := range o.p.ops {
		op := &o.p.ops[k]
		s := &o.p.rec.Trace[op.first]
		f := cio.Flags(s.Flags)
		if op.first != op.last || !s.Ended || op.cmd.Class(o.p.f1) != cio.ClassControl || s.Count == 0 ||
			f&cio.ChainData != 0 || cio.DeviceStatus(s.DStat) != cio.Ended || s.CStat != 0 {
			continue
		}
		if s.Resid != s.Count && (s.Resid != 0 || o.p.fetched(op)) {
			continue // it moved data
		}
		length := o.p.f1 && f&cio.SuppressLength == 0 && !o.p.orb.SuppressIL()
		last := k == len(o.p.ops)-1 && op.last == len(o.p.rec.Trace)-1
		if !length && !last {
			continue // chaining goes on and hides the residual
		}
		o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) {
			w.SetCount(s.Count)
			if length {
				w.SetControl(unusualEnd)
				w.SetCCWAddr(uint32(s.At) + cio.CCWSize)
				w.SetDevice(cio.Ended)
				w.SetSubchannel(cio.IncorrectLength)
			}
		})
		if length {
			o.notStored(op.last + 1)
		}
		return true
	}
	return false
}

// fetched reports whether the record holds the first byte that an output
// operation was given.
func (p *program) fetched(op *operation) bool {
	list, _ := p.opAreas(op)
	var b [1]byte
	return len(list) > 0 && readSegments(sorted(p.rec.Memory), list[0].a, b[:]) == 1
}

func rejectResidual(o *observed) bool {
	if len(o.p.ops) == 0 {
		return false
	}
	op := &o.p.ops[len(o.p.ops)-1]
	s := &o.p.rec.Trace[op.last]
	if op.first != op.last || !s.Ended || cio.DeviceStatus(s.DStat)&cio.UnitCheck == 0 || s.Resid != 0 || s.CStat != 0 {
		return false
	}
	sense := o.ecw[0]
	if o.scsw.Flags()&cio.SCSWExtended == 0 {
		if e := o.p.rec.Expect; e == nil || e.SenseAfter == nil {
			return false
		}
		sense = o.p.rec.Expect.SenseAfter[0]
	}
	if cio.Sense0(sense)&cio.CommandReject == 0 {
		return false
	}
	length := o.p.f1 && cio.Flags(s.Flags)&cio.SuppressLength == 0 && !o.p.orb.SuppressIL()
	o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) {
		w.SetCount(s.Count)
		// Whether a rejected command counts as an immediate one is open.
		if length && o.got.SCSW.Subchannel() == cio.IncorrectLength {
			w.SetSubchannel(cio.IncorrectLength)
		}
	})
	return true
}

// sequenceMessage: a rejected command whose sense differs in byte 7 alone, and
// there in the format.
func sequenceMessage(o *observed) bool {
	const at, theirs, right = 7, 0x22, 0x02
	if !o.hasECW || o.scsw.Device()&cio.UnitCheck == 0 || o.scsw.Flags()&cio.SCSWExtended == 0 ||
		cio.Sense0(o.ecw[0]) != cio.CommandReject || o.ecw[at] != theirs || o.got.ECW[at] != right {
		return false
	}
	o.correct(func(_ *cio.SCSW, _ *cio.ESW, c *cio.ECW) { c[at] = right })
	return true
}

// staleCount: the CCW in which the check was found was not begun, and the count
// is that which the CCW before it left.
func staleCount(o *observed) bool {
	t := o.p.rec.Trace
	last := len(t) - 1
	if !o.recordedCheck(cio.ProgramCheck) || o.scsw.Device() != 0 || last < 1 || o.scsw.Count() == 0 || o.got.SCSW.Count() != 0 {
		return false
	}
	for i := last - 1; i >= 0; i-- {
		if !t[i].Ended {
			continue
		}
		if t[i].Resid != o.scsw.Count() {
			return false
		}
		o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) { w.SetCount(0) })
		return true
	}
	return false
}

// lateCheck: the check is the recorded one and at the same CCW; device status
// and residual are those of a channel that stopped the device.
func lateCheck(o *observed) bool {
	if len(o.p.ops) == 0 || !o.recordedCheck(cio.ProgramCheck|cio.ProtectionCheck|cio.DataCheck) || o.scsw.Device()&^cio.StatusModifier != cio.Ended {
		return false
	}
	op := &o.p.ops[len(o.p.ops)-1]
	s := &o.p.rec.Trace[op.last]
	if !s.Ended || uint32(s.At)+cio.CCWSize != o.scsw.CCWAddr() {
		return false
	}
	n := o.got.SCSW.Count()
	if n > s.Count || o.got.SCSW.Device()&^cio.Ended != 0 || o.got.SCSW.Subchannel() != o.scsw.Subchannel() {
		return false
	}
	// What of this CCW's data got through is recorded for input.
	if op.cmd.Class(o.p.f1).Input() && n != 0 && n != s.Count {
		list, _ := o.p.areas(op.last, op.cmd)
		if int(s.Count-n) != o.p.storedPrefix(list) {
			return false
		}
	}
	o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) {
		w.SetDevice(o.got.SCSW.Device())
		w.SetCount(n)
	})
	return true
}

// storedPrefix is how many bytes of the areas, in the device's order, were
// recorded as stored.
func (p *program) storedPrefix(list []area) int {
	n := 0
	for _, x := range list {
		for i := range x.n {
			a := x.a + addr.GPA(i)
			if x.backward {
				a = x.a + addr.GPA(x.n-1-i)
			}
			if !x.skip && find(p.stored, a) == nil {
				return n
			}
			n++
		}
	}
	return n
}

// storageKey: without keys the operation ends as the device and the lengths
// say, and its data are stored.
func storageKey(o *observed) bool {
	if len(o.p.ops) == 0 || o.p.orb.Key() == 0 || !o.recordedCheck(cio.ProtectionCheck) {
		return false
	}
	op := &o.p.ops[len(o.p.ops)-1]
	s := &o.p.rec.Trace[op.last]
	if cio.Flags(s.Flags)&(cio.ChainCommand|cio.ChainData) != 0 || op.first != op.last || !op.device {
		return false
	}
	list, whole := o.p.opAreas(op)
	if !whole {
		return false
	}
	o.endedNormally(s)
	o.explainRuns(func(a addr.GPA, _, _, _ byte) bool { return inAreas(list, a) })
	return true
}

// endedNormally corrects the status to the normal end of the single CCW s,
// whatever residual the device left.
func (o *observed) endedNormally(s *recording.Step) {
	n := min(o.got.SCSW.Count(), s.Count)
	o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) {
		w.SetControl(normalEnd)
		w.SetCCWAddr(uint32(s.At) + cio.CCWSize)
		w.SetDevice(cio.Ended)
		w.SetSubchannel(w.Subchannel() & cio.PCI)
		w.SetCount(n)
		if n > 0 && cio.Flags(s.Flags)&cio.SuppressLength == 0 {
			w.SetControl(unusualEnd)
			w.SetSubchannel(w.Subchannel() | cio.IncorrectLength)
		}
	})
}

func readBackwardList(o *observed) bool {
	if len(o.p.ops) == 0 || !o.recordedCheck(cio.ProgramCheck) {
		return false
	}
	op := &o.p.ops[len(o.p.ops)-1]
	s := &o.p.rec.Trace[op.last]
	if op.first != op.last || op.cmd.Class(o.p.f1) != cio.ClassReadBackward ||
		cio.Flags(s.Flags)&(cio.Indirect|cio.ChainCommand|cio.ChainData) != cio.Indirect {
		return false
	}
	list, whole := o.p.opAreas(op)
	if !whole || len(list) < 2 {
		return false
	}
	o.endedNormally(s)
	o.explainRuns(func(a addr.GPA, _, _, _ byte) bool { return inAreas(list, a) })
	return true
}

// ticLoop: both machines stopped a loop of transfers backward that moves no
// data, at some CCW of it.
func ticLoop(o *observed) bool {
	if !o.recordedCheck(cio.ProgramCheck) || o.scsw.Device() != 0 || len(o.runs) > 0 {
		return false
	}
	back, ours := 0, false
	for i := range o.p.rec.Trace {
		s := &o.p.rec.Trace[i]
		if o.p.isTIC(s) && addr.GPA(s.CDA) <= s.At {
			back++
		}
		ours = ours || back > 0 && uint32(s.At)+cio.CCWSize == o.got.SCSW.CCWAddr()
	}
	if back < maxBackward || !ours {
		return false
	}
	o.correct(func(w *cio.SCSW, _ *cio.ESW, _ *cio.ECW) { w.SetCCWAddr(o.got.SCSW.CCWAddr()) })
	return true
}

// maxBackward is how many transfers backward the recorded machine allowed
// before it stopped a loop (SDL-Hyperion channel.c).
const maxBackward = 255
