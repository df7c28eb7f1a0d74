package translatebench

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"sync"

	"github.com/hashicorp/go-memdb"
	"github.com/tidwall/btree"

	"github.com/softmdev/softmdev/translate/addr"
)

// found is what a look-up of a baseline returns.
type found struct {
	hva    addr.HVA
	len    addr.Len
	access addr.Access
}

// contender is a store that can be measured.
type contender interface {
	add(s span)
	remove(s span)
	find(a addr.IOVA) (found, bool)
}

// sortedSlice is the baseline: a struct of sorted arrays under an RWMutex,
// searched by halving without branches.
type sortedSlice struct {
	mu     sync.RWMutex
	starts []addr.IOVA // guarded by mu, as the rest
	lasts  []addr.IOVA
	hvas   []addr.HVA
	access []addr.Access
}

func (t *sortedSlice) add(s span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, _ := slices.BinarySearch(t.starts, s.iova)
	t.starts = slices.Insert(t.starts, i, s.iova)
	t.lasts = slices.Insert(t.lasts, i, s.iova+addr.IOVA(s.n-1))
	t.hvas = slices.Insert(t.hvas, i, s.hva)
	t.access = slices.Insert(t.access, i, addr.ReadWrite)
}

func (t *sortedSlice) remove(s span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := slices.BinarySearch(t.starts, s.iova); ok {
		t.starts = slices.Delete(t.starts, i, i+1)
		t.lasts = slices.Delete(t.lasts, i, i+1)
		t.hvas = slices.Delete(t.hvas, i, i+1)
		t.access = slices.Delete(t.access, i, i+1)
	}
}

func (t *sortedSlice) find(a addr.IOVA) (found, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	starts := t.starts
	base, n := 0, len(starts)
	for n > 1 {
		half := n / 2
		// base += half if starts[base+half] <= a, without a branch
		_, less := bits.Sub64(uint64(a), uint64(starts[base+half]), 0)
		base += half & int(less-1)
		n -= half
	}
	if n == 0 || a < t.starts[base] || a > t.lasts[base] {
		return found{}, false
	}
	return found{t.hvas[base] + addr.HVA(a-t.starts[base]), addr.Len(t.lasts[base]-a) + 1, t.access[base]}, true
}

// tree is tidwall/btree with its own lock.
type tree struct{ t *btree.BTreeG[span] }

func newTree() *tree {
	return &tree{btree.NewBTreeG(func(a, b span) bool { return a.iova < b.iova })}
}

func (t *tree) add(s span)    { t.t.Set(s) }
func (t *tree) remove(s span) { t.t.Delete(s) }

func (t *tree) find(a addr.IOVA) (f found, ok bool) {
	t.t.Descend(span{iova: a}, func(s span) bool {
		if off := addr.Len(a - s.iova); off < s.n {
			f, ok = found{s.hva + addr.HVA(off), s.n - off, addr.ReadWrite}, true
		}
		return false
	})
	return f, ok
}

// db is go-memdb with one ordered index.
type db struct{ db *memdb.MemDB }

type iovaIndex struct{}

func (iovaIndex) FromObject(o any) (bool, []byte, error) {
	return true, binary.BigEndian.AppendUint64(nil, uint64(o.(*span).iova)), nil
}

func (iovaIndex) FromArgs(args ...any) ([]byte, error) {
	a, ok := args[0].(addr.IOVA)
	if !ok {
		return nil, errors.New("not an IOVA")
	}
	return binary.BigEndian.AppendUint64(nil, uint64(a)), nil
}

func newDB() *db {
	d, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		"mapping": {Name: "mapping", Indexes: map[string]*memdb.IndexSchema{
			"id": {Name: "id", Unique: true, Indexer: iovaIndex{}},
		}},
	}})
	if err != nil {
		panic(err) // the schema is a constant
	}
	return &db{d}
}

func (d *db) add(s span) {
	t := d.db.Txn(true)
	if err := t.Insert("mapping", &s); err != nil {
		panic(err)
	}
	t.Commit()
}

func (d *db) remove(s span) {
	t := d.db.Txn(true)
	if err := t.Delete("mapping", &s); err != nil {
		panic(err)
	}
	t.Commit()
}

func (d *db) find(a addr.IOVA) (found, bool) {
	it, err := d.db.Txn(false).ReverseLowerBound("mapping", "id", a)
	if err != nil {
		return found{}, false
	}
	s, _ := it.Next().(*span)
	if s == nil || addr.Len(a-s.iova) >= s.n {
		return found{}, false
	}
	off := addr.Len(a - s.iova)
	return found{s.hva + addr.HVA(off), s.n - off, addr.ReadWrite}, true
}
