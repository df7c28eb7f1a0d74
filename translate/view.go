package translate

import (
	"sync/atomic"

	"github.com/softmdev/softmdev/translate/addr"
)

// The index is a radix tree over the IOVA with 9 bits a level, as in a page
// table, but a slot may name a mapping at any level: when one mapping alone
// lies in the window of a slot, the slot names it, whether it fills the window
// or not, and no table stands below. Every look-up ends by comparing the
// address with the bounds in the record, so a partly filled window costs
// nothing.
//
// There are two trees. The low one serves mappings that end below 2^48 and
// span at most 4 TiB: its root is a flat array of 1 GiB windows as long as the
// highest mapping needs, so that a look-up is three dependent loads at most
// and then the record. The high one serves everything else: 64 bits of depth,
// and a mapping of 2^64 bytes is 128 slots.
//
// Slots are 32 bits wide and hold no pointers: the garbage collector never
// looks at them and no store has a write barrier.
const (
	levelBits = 9
	fanout    = 1 << levelBits

	leafShift = addr.PageShift        // 4 KiB windows
	midShift  = leafShift + levelBits // 2 MiB
	lowShift  = midShift + levelBits  // 1 GiB: the root of the low tree
	highShift = 57                    // the root of the high tree; 128 slots used

	lowBits     = 48 - lowShift // the low root's limit, in bits of index
	lowMinSlots = 64
	lowMaxSpan  = 1 << 12 // windows of the low root that one mapping may cover

	// isTable marks a slot that names a table; otherwise it names a record,
	// or nothing when 0.
	isTable = 1 << 31

	// maxTables is how many tables can be told apart: the index of a slot in
	// the arena has 32 bits. It is 16 GiB of tables, eight for each of
	// maxMappings mappings.
	maxTables   = 1 << (32 - levelBits)
	maxMappings = 1 << 20

	// maxNewTables bounds the tables that one insertion or removal creates:
	// two ends, a chain of at most six levels each, twice for a copy.
	maxNewTables = 32
)

// record is what a look-up needs of one mapping. All but meta is immutable
// while a reader can reach the record.
type record struct {
	start uint64 // first IOVA
	last  uint64 // offset of the last byte; the size may be 2^64-4096
	base  uint64 // host address of the first byte; 0 without one
	meta  uint64 // see metaOf; atomic
}

const (
	metaKindShift = 8
	metaIDShift   = 32
	// metaLive makes a mapping visible. It is set last and cleared first, so
	// that a mapping of many slots appears and vanishes in one store.
	metaLive = 1 << 16
	// metaRemote is set in the kind of remote memory and in no other.
	metaRemote = uint64(KindRemote) << metaKindShift
	// metaSuspended is a mapping that has no memory at present.
	metaSuspended = 1 << 17
)

func metaOf(id uint32, a addr.Access, k Kind) uint64 {
	return uint64(id)<<metaIDShift | uint64(k)<<metaKindShift | uint64(a)
}

func metaAttr(m uint64) Attr {
	return Attr{ID: uint32(m >> metaIDShift), Access: addr.Access(m), Kind: Kind(m >> metaKindShift)}
}

func (r *record) end() uint64 { return r.start + r.last }

// view is one version of the index: roots and arenas. A view is immutable but
// for the slots of its tables and the meta words of its records; when an arena
// or a root must grow, or a batch is published, a new view takes its place. A
// look-up that holds an older view finishes on it: whatever it returns was
// true when it began, and its section keeps the memory alive. Views share
// slots, but never where one of them has an arena that lacks what the slots
// may name.
type view struct {
	low    []uint32 // root of the low tree
	tables []uint32 // arena: table t is slots [t<<9, (t+1)<<9)
	recs   []record // arena: record 0 is noRecord
	high   uint32   // root table of the high tree; 0: empty
}

// noRecord is record 0: it is not live, and its one address is in the high
// tree, where finding it means the same as finding nothing.
var noRecord = record{start: ^uint64(0)}

// find is the record whose bounds contain a, live or not; record 0 when there
// is none.
func (v *view) find(a uint64) *record {
	if i := a >> lowShift; i < uint64(len(v.low)) {
		e := atomic.LoadUint32(&v.low[i])
		if e >= isTable {
			e = atomic.LoadUint32(&v.tables[uint64(e&^isTable)<<levelBits|a>>midShift&(fanout-1)])
			if e >= isTable {
				e = atomic.LoadUint32(&v.tables[uint64(e&^isTable)<<levelBits|a>>leafShift&(fanout-1)])
			}
		}
		if r := &v.recs[e]; a-r.start <= r.last {
			return r
		}
	}
	if v.high != 0 {
		return v.findHigh(a)
	}
	return &v.recs[0]
}

func (v *view) findHigh(a uint64) *record {
	e := v.high | isTable
	for shift := highShift; e >= isTable; shift -= levelBits {
		e = atomic.LoadUint32(&v.tables[uint64(e&^isTable)<<levelBits|a>>shift&(fanout-1)])
	}
	if r := &v.recs[e]; a-r.start <= r.last {
		return r
	}
	return &v.recs[0]
}

// first is the mapping with the lowest address among those that share a byte
// with [a, b]; 0 when there is none. Its cost is the slots it passes: at most
// the low root (2^18) and two tables a level.
func (v *view) first(a, b uint64) uint32 {
	low := v.firstLow(a, b)
	if v.high == 0 {
		return low
	}
	high := v.firstIn(v.high, highShift, a, b)
	if low == 0 || high != 0 && v.recs[high].start < v.recs[low].start {
		return high
	}
	return low
}

func (v *view) firstLow(a, b uint64) uint32 {
	end := min(b>>lowShift+1, uint64(len(v.low)))
	for i := a >> lowShift; i < end; i++ {
		if e := v.low[i]; e != 0 {
			if id := v.firstSlot(e, lowShift, a, b, i<<lowShift); id != 0 {
				return id
			}
		}
	}
	return 0
}

// firstSlot is first within slot e of a level, whose window starts at w.
func (v *view) firstSlot(e uint32, shift int, a, b, w uint64) uint32 {
	if e >= isTable {
		return v.firstIn(e&^isTable, shift-levelBits, max(a, w), min(b, w+(1<<shift-1)))
	}
	if r := &v.recs[e]; r.start <= b && a <= r.end() {
		return e
	}
	return 0
}

// firstIn is first within table t, whose slots are 1<<shift wide and whose
// window contains [a, b].
func (v *view) firstIn(t uint32, shift int, a, b uint64) uint32 {
	slots := v.tables[int(t)<<levelBits:][:fanout]
	base := a &^ (1<<shift - 1)
	from, to := a>>shift&(fanout-1), b>>shift&(fanout-1)
	for i := from; i <= to; i++ {
		if e := slots[i]; e != 0 {
			if id := v.firstSlot(e, shift, a, b, base+(i-from)<<shift); id != 0 {
				return id
			}
		}
	}
	return 0
}

// isLow says which tree holds the mapping [a, b].
func isLow(a, b uint64) bool {
	return b>>(lowShift+lowBits) == 0 && b>>lowShift-a>>lowShift < lowMaxSpan
}
