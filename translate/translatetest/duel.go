package translatetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/softmdev/softmdev/mdev/errs"
	"github.com/softmdev/softmdev/translate/addr"
)

// Source decides: it returns a number in [0, n). A random test draws it, a
// fuzzer takes it from its input. what names the decision in a log.
type Source func(n int, what string) int

// Bytes is the Source of a fuzzer: it consumes data, two bytes a decision with
// more than 256 outcomes and one otherwise, and answers 0 when none is left.
func Bytes(data []byte) (src Source, more func() bool) {
	take := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	return func(n int, _ string) int {
		v := take()
		if n > 256 {
			v |= take() << 8
		}
		return v % n
	}, func() bool { return len(data) > 0 }
}

// Duel runs the same operations on a store and on the Model and says where
// they part. The addresses it draws are crowded on purpose: a few pages around
// a few anchors (0, 2^21, 2^32, 2^48, 2^63, the end of the space), so that
// neighbours, overlaps, holes and exact repeats are common, and now and then a
// mapping that is huge.
//
// It is for one goroutine.
type Duel struct {
	Model *Model
	Store Store

	anchors []addr.IOVA
	arenas  Arenas
	log     []string
}

// Arenas is the memory that a Duel maps: page-aligned process memory for the
// store with a shadow of equal size for the Model, and a remote memory with
// its shadow. Mappings share them, so that aliases occur.
type Arenas struct {
	Process, ProcessCopy []byte
	Remote, RemoteCopy   []byte
	// File, if not nil, is the file that Process is a shared mapping of; it is
	// mapped as a file too.
	File *os.File
}

// arenaPages is how many pages an arena needs to have.
const arenaPages = 16

// ArenaLen is the size of each arena of a Duel.
const ArenaLen = arenaPages * int(addr.PageSize)

var allAnchors = []addr.IOVA{
	0, 0x1_0000, 0x20_0000 - 8*0x1000, 0x1_0000_0000 - 8*0x1000,
	1<<48 - 8*0x1000, 1<<63 - 8*0x1000, ^addr.IOVA(0) - 16*0x1000 + 1,
}

// NewDuel prepares a duel of a new Model with store, which was opened with the
// same cfg. The source chooses up to three anchors.
func NewDuel(store Store, cfg *Config, arenas Arenas, src Source) *Duel {
	d := &Duel{Model: NewModel(cfg), Store: store, arenas: arenas}
	for range 1 + src(3, "anchors") {
		d.anchors = append(d.anchors, allAnchors[src(len(allAnchors), "anchor")])
	}
	return d
}

// ChooseConfig draws a configuration.
func ChooseConfig(src Source) *Config {
	cfg := &Config{}
	switch src(4, "limit") {
	case 0:
		cfg.MaxMappings = 1 + src(4, "max")
	case 1:
		cfg.MaxMappings = 16
	}
	switch src(4, "sizes") {
	case 0:
		cfg.PageSizes = 1<<12 | 1<<21
	case 1:
		cfg.PageSizes = 1<<13 | 1<<30
	}
	switch src(4, "ranges") {
	case 0:
		cfg.Ranges = []addr.Range[addr.IOVA]{
			addr.MustRange(addr.IOVA(0x2000), 0xc000),
			addr.MustRange(addr.IOVA(0x1_0000), 0xfffe_0000),
			addr.MustRange(addr.IOVA(0x1_0000_0000), 1<<47),
		}
	case 1:
		last, _ := addr.RangeLast(addr.IOVA(1<<48-4*0x1000), ^addr.IOVA(0))
		cfg.Ranges = []addr.Range[addr.IOVA]{addr.MustRange(addr.IOVA(0), 0x1_4000), last}
	}
	cfg.V1 = src(4, "version") == 0
	return cfg
}

// Log is every operation so far, one a line, ready to be read at a failure.
func (d *Duel) Log() string { return strings.Join(d.log, "\n") }

func (d *Duel) note(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

// Ops names the operations that Step knows.
var Ops = []string{
	"map", "map", "map", "unmap", "unmap exact", "unmap dirty", "unmapall", "suspend", "suspendall", "resume", "apply",
	"start", "stop", "get", "mark", "read", "write", "check",
}

// Step draws one operation, does it on both sides and compares the answers and
// everything that can be seen afterwards.
func (d *Duel) Step(src Source) error {
	if err := d.Do(Ops[src(len(Ops), "op")], src); err != nil {
		return err
	}
	return d.Compare(src)
}

// Do does the operation called op, one of Ops, with drawn arguments.
func (d *Duel) Do(op string, src Source) error {
	ctx := context.Background()
	switch op {
	case "map":
		o := d.mapOp(src)
		d.note("map %v", o)
		return d.same(d.Model.Map(o.IOVA, o.Len, o.Mem, o.Access), d.Store.Map(o.IOVA, o.Len, o.Mem, o.Access))
	case "unmap", "unmap exact":
		iova, n := d.extent(src, op == "unmap exact")
		d.note("unmap %v+%v", iova, n)
		want, wantErr := d.Model.Unmap(ctx, iova, n)
		got, err := d.Store.Unmap(ctx, iova, n)
		return d.sameLen(want, got, wantErr, err)
	case "unmap dirty":
		iova, n := d.extent(src, src(4, "exact") != 0)
		page := addr.Len(1) << (11 + src(4, "page"))
		d.note("unmap %v+%v dirty by %v", iova, n, page)
		words := min(uint64(n)/uint64(page)/64+1, 64)
		a, b := make([]uint64, words), make([]uint64, words)
		want, wantErr := d.Model.UnmapDirty(ctx, iova, n, page, a)
		got, err := d.Store.UnmapDirty(ctx, iova, n, page, b)
		if wantErr == nil && err == nil && !slices.Equal(a, b) {
			return fmt.Errorf("last bits of %v+%v by %v: got %x, the model has %x", iova, n, page, b, a)
		}
		return d.sameLen(want, got, wantErr, err)
	case "unmapall":
		if src(4, "really") != 0 {
			return nil // too often, and nothing else would be seen
		}
		d.note("unmapall")
		want, wantErr := d.Model.UnmapAll(ctx)
		got, err := d.Store.UnmapAll(ctx)
		return d.sameLen(want, got, wantErr, err)
	case "suspend":
		iova, n := d.extent(src, src(2, "exact") == 0)
		d.note("suspend %v+%v", iova, n)
		want, wantErr := d.Model.Suspend(ctx, iova, n)
		got, err := d.Store.Suspend(ctx, iova, n)
		return d.sameLen(want, got, wantErr, err)
	case "suspendall":
		d.note("suspendall")
		want, wantErr := d.Model.SuspendAll(ctx)
		got, err := d.Store.SuspendAll(ctx)
		return d.sameLen(want, got, wantErr, err)
	case "resume":
		return d.resume(src)
	case "apply":
		var ops []Op
		for range src(6, "batch") {
			ops = append(ops, d.DrawOp(src))
		}
		d.note("apply %v", ops)
		return d.same(d.Model.Apply(ctx, ops...), d.Store.Apply(ctx, ops...))
	case "start":
		d.note("start")
		return d.same(d.Model.DirtyStart(), d.Store.DirtyStart())
	case "stop":
		if src(3, "really") != 0 {
			return nil
		}
		d.note("stop")
		return d.same(d.Model.DirtyStop(), d.Store.DirtyStop())
	case "get":
		iova, n := d.extent(src, src(2, "exact") == 0)
		page := addr.Len(1) << (11 + src(5, "page"))
		if src(4, "widen") != 0 { // to whole pages of that size, or most are refused
			last := uint64(iova) + uint64(n) - 1
			iova = addr.IOVA(uint64(iova) &^ uint64(page-1))
			n = addr.Len(last|uint64(page-1)-uint64(iova)) + 1
		}
		return d.dirtyGet(iova, n, page, src(2, "clear") == 0)
	case "mark":
		iova, n := d.bytes(src)
		d.note("mark %v+%v", iova, n)
		d.Model.MarkDirty(iova, n)
		d.Store.MarkDirty(iova, n)
		return nil
	case "read", "write", "check":
		return d.access(op, src)
	}
	return fmt.Errorf("no operation %q", op)
}

// DrawOp draws one step of a batch.
func (d *Duel) DrawOp(src Source) Op {
	if src(2, "kind") == 0 {
		iova, n := d.extent(src, src(3, "exact") != 0)
		return Op{Unmap: true, IOVA: iova, Len: n}
	}
	return d.mapOp(src)
}

// String prints an op for the log.
func (o Op) String() string {
	if o.Unmap {
		return fmt.Sprintf("unmap %v+%v", o.IOVA, o.Len)
	}
	return fmt.Sprintf("%v+%v %v kind %v hva %v", o.IOVA, o.Len, o.Access, o.Mem.Kind, o.Mem.HVA)
}

func (d *Duel) anchor(src Source) addr.IOVA { return d.anchors[src(len(d.anchors), "anchor")] }

// pages draws an address near an anchor and a length; one in sixteen is odd in
// a way that the contract must refuse or that reaches far.
func (d *Duel) pages(src Source) (addr.IOVA, addr.Len) {
	iova := d.anchor(src) + addr.IOVA(src(16, "page"))<<addr.PageShift
	n := addr.Len(1+src(6, "pages")) * addr.PageSize
	switch src(32, "oddity") {
	case 0:
		iova += addr.IOVA(src(4096, "misalign"))
	case 1:
		n += addr.Len(src(4096, "misalign"))
	case 2:
		n = 0
	case 3:
		n = ^addr.Len(0) &^ 0xfff // all but a page
	case 4:
		n = addr.Len(1) << (13 + src(51, "huge"))
	case 5:
		n = addr.Len(1)<<(13+src(51, "huge")) - addr.PageSize
	case 6:
		n = -addr.Len(iova) // up to 2^64 exactly
	}
	return iova, n
}

// extent is a range to unmap, suspend or look at: an existing mapping, exactly
// or from one mapping to another, or any pages.
func (d *Duel) extent(src Source, exact bool) (addr.IOVA, addr.Len) {
	maps := d.Model.Mappings()
	if !exact || len(maps) == 0 {
		return d.pages(src)
	}
	i := src(len(maps), "mapping")
	j := min(i+src(3, "more"), len(maps)-1)
	return maps[i].Range.Start(), addr.Len(maps[j].Range.Last()-maps[i].Range.Start()) + 1
}

// bytes is a range at byte granularity, across the edges of pages.
func (d *Duel) bytes(src Source) (addr.IOVA, addr.Len) {
	iova := d.anchor(src) + addr.IOVA(src(16, "page"))<<addr.PageShift
	if maps := d.Model.Mappings(); len(maps) > 0 && src(4, "edge") != 0 {
		iova = maps[src(len(maps), "mapping")].Range.Last() &^ addr.IOVA(addr.PageMask)
	}
	iova += addr.IOVA([]int{0, 1, 7, 2048, 4088, 4095}[src(6, "offset")])
	n := addr.Len([]int{0, 1, 2, 8, 9, 64, 4096, 4097, 12288, 20000}[src(10, "bytes")])
	return iova, n
}

// mapOp draws a map. What fits an arena is memory that can be reached; what
// does not is process memory at an address where there is nothing, which no
// Duel touches.
func (d *Duel) mapOp(src Source) Op {
	iova, n := d.pages(src)
	access := []addr.Access{addr.ReadWrite, addr.ReadWrite, addr.Read, addr.Write}[src(4, "access")]
	if src(64, "oddity") == 0 {
		access = addr.Access(src(256, "access bits"))
	}
	return Op{IOVA: iova, Len: n, Mem: d.memory(src, n), Access: access}
}

func (d *Duel) memory(src Source, n addr.Len) Memory {
	page := src(arenaPages, "arena page")
	off := addr.Len(page) * addr.PageSize
	if n > addr.Len(ArenaLen)-off {
		off = 0
	}
	if n > addr.Len(ArenaLen) {
		hva := addr.HVA(0x10_0000)
		switch src(4, "nowhere") {
		case 0:
			hva = ^addr.HVA(0xfff) // a large one wraps
		case 1:
			hva += addr.HVA(src(4096, "misalign"))
		}
		return ProcessMemory(hva, nil)
	}
	kinds := 3
	if d.arenas.File != nil {
		kinds = 4
	}
	switch src(kinds, "kind") {
	case 3:
		return FileMemory(int(d.arenas.File.Fd()), int64(off), RAM(d.arenas.Process[off:]), RAM(d.arenas.ProcessCopy[off:]))
	case 0:
		return RemoteMemory(RAM(d.arenas.Remote[off:]), RAM(d.arenas.RemoteCopy[off:]))
	case 1:
		end := addr.Len(ArenaLen)
		if n > 0 {
			end = off + n - addr.Len(src(32, "too short")/31)
		}
		return BytesMemory(d.arenas.Process[off:end:end], RAM(d.arenas.ProcessCopy[off:]))
	}
	hva := HVAOf(d.arenas.Process) + addr.HVA(off)
	if src(32, "oddity") == 0 && off > 0 {
		hva -= addr.HVA(src(4096, "misalign")) // refused unless it is 0
	}
	m := ProcessMemory(hva, RAM(d.arenas.ProcessCopy[off:]))
	m.mirror = RAM(d.arenas.Process[off:])
	return m
}

func (d *Duel) resume(src Source) error {
	iova, n := d.extent(src, src(8, "exact") != 0)
	if src(2, "one") == 0 { // a suspended one, if there is any, exactly
		for _, m := range d.Model.Mappings() {
			if m.Suspended {
				iova, n = m.Range.Start(), addr.Len(m.Range.Last()-m.Range.Start())+1
			}
		}
	}
	m := d.memory(src, n)
	d.note("resume %v", Op{IOVA: iova, Len: n, Mem: m})
	return d.same(d.Model.Resume(iova, n, m), d.Store.Resume(iova, n, m))
}

// untouchable reports whether [iova, iova+n) meets memory that is not there.
func (d *Duel) untouchable(iova addr.IOVA, n addr.Len) bool {
	r, ok := addr.RangeOf(iova, n)
	if !ok {
		return false // refused before memory matters
	}
	for _, m := range d.Model.state.maps {
		if m.r.Overlaps(r) && m.mem.Shadow == nil {
			return true
		}
	}
	return false
}

func (d *Duel) access(op string, src Source) error {
	iova, n := d.bytes(src)
	want := []addr.Access{addr.Read, addr.Write, addr.ReadWrite, 0}[src(4, "want")]
	if op != "check" && d.untouchable(iova, n) {
		op = "check"
	}
	d.note("%s %v+%v %v", op, iova, n, want)
	switch op {
	case "read":
		a, b := make([]byte, n), make([]byte, n)
		if err := d.same(d.Model.Read(iova, a), d.Store.Read(iova, b)); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("read %v+%v: got %x, the model has %x", iova, n, b, a)
		}
		return nil
	case "write":
		p := make([]byte, n)
		fill := byte(src(255, "fill") + 1)
		for i := range p {
			p[i] = fill + byte(i)
		}
		return d.same(d.Model.Write(iova, p), d.Store.Write(iova, p))
	}
	return d.same(d.Model.CheckAccess(iova, n, want), d.Store.CheckAccess(iova, n, want))
}

func (d *Duel) dirtyGet(iova addr.IOVA, n, page addr.Len, clearIt bool) error {
	d.note("get %v+%v page %v clear %v", iova, n, page, clearIt)
	words := min(uint64(n)/uint64(page)/64+1, 64)
	a, b := make([]uint64, words), make([]uint64, words)
	if err := d.same(d.Model.DirtyGet(iova, n, page, a, clearIt), d.Store.DirtyGet(iova, n, page, b, clearIt)); err != nil {
		return err
	}
	if !slices.Equal(a, b) {
		return fmt.Errorf("dirty bitmap of %v+%v by %v: got %x, the model has %x", iova, n, page, b, a)
	}
	return nil
}

// Compare compares everything that can be seen of the two: mappings, limits,
// memory, look-ups at every edge and at drawn addresses, the dirty log around
// each anchor; and runs the store's own check.
func (d *Duel) Compare(src Source) error {
	if err := d.Store.Check(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := d.Model.Check(); err != nil {
		return err
	}
	want, got := d.Model.Mappings(), d.Store.Mappings()
	if !slices.Equal(want, got) {
		return fmt.Errorf("mappings: got %v, the model has %v", got, want)
	}
	if want, got := d.Model.Info(), d.Store.Info(); !reflect.DeepEqual(want, got) {
		return fmt.Errorf("info: got %+v, the model has %+v", got, want)
	}
	if !bytes.Equal(d.arenas.Process, d.arenas.ProcessCopy) || !bytes.Equal(d.arenas.Remote, d.arenas.RemoteCopy) {
		return errors.New("memory differs from the model's")
	}
	edges := []addr.IOVA{0, ^addr.IOVA(0), d.anchor(src) + addr.IOVA(src(1<<16, "address"))}
	for _, m := range want {
		edges = append(edges, m.Range.Start(), m.Range.Last(), m.Range.Start()-1, m.Range.Last()+1,
			m.Range.Start()+(m.Range.Last()-m.Range.Start())/2)
	}
	for _, at := range edges {
		w, wok := d.Model.Lookup(at)
		g, gok := d.Store.Lookup(at)
		if w != g || wok != gok {
			return fmt.Errorf("lookup %v: got %+v %v, the model has %+v %v", at, g, gok, w, wok)
		}
	}
	for _, a := range d.anchors {
		if err := d.quietly(func() error { return d.dirtyGet(a, 16*addr.PageSize, d.Model.page, false) }); err != nil {
			return err
		}
	}
	for _, m := range want {
		n, _ := m.Range.Len()
		if n > 256*addr.PageSize {
			continue
		}
		if err := d.quietly(func() error { return d.dirtyGet(m.Range.Start(), n, d.Model.page, false) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *Duel) quietly(fn func() error) error {
	n := len(d.log)
	err := fn()
	if err == nil {
		d.log = d.log[:n]
	}
	return err
}

// sentinels are the errors by which the store and the Model must agree.
var sentinels = []error{
	errs.ErrInvalid, errs.ErrMisaligned, errs.ErrOverflow, errs.ErrExists, errs.ErrNoSpace, errs.ErrOutsideRange,
	errs.ErrBisects, errs.ErrNotMapped, errs.ErrNotFound, errs.ErrPermission, errs.ErrSuspended, errs.ErrBusy,
	errs.ErrFault, errs.ErrNotV2, errs.ErrState, errs.ErrGone, errs.ErrNotSupported, errs.ErrMemlock,
}

// Sentinel is the sentinel inside err, nil for none.
func Sentinel(err error) error {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

// same: both nil, or both the same sentinel at the same position.
func (d *Duel) same(want, got error) error {
	if (want == nil) != (got == nil) || Sentinel(want) != Sentinel(got) || errs.Errno(want) != errs.Errno(got) {
		return fmt.Errorf("got error %v, the model has %v", got, want)
	}
	var w, g *errs.ProgramError
	if errors.As(want, &w) && (!errors.As(got, &g) || w.Elem != g.Elem || w.Index != g.Index || w.HasAt != g.HasAt || w.At != g.At) {
		return fmt.Errorf("got error %v, the model has it at %v", got, want)
	}
	if want != nil {
		d.log[len(d.log)-1] += " -> " + want.Error()
	}
	return nil
}

func (d *Duel) sameLen(want, got addr.Len, wantErr, err error) error {
	if want != got {
		return fmt.Errorf("got %v bytes, %v; the model has %v, %v", got, err, want, wantErr)
	}
	return d.same(wantErr, err)
}
